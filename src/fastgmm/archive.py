"""Files that hold arrays and text and run no code: .npz archives of stored members, written atomically.

Members are stored, not compressed: none can then claim to be larger than the file. ``numpy.load`` reads such
an archive too. One member is the header, JSON as bytes, which lists the names of all others: damage to the
archive's own directory can hide a member. A reader trusts nothing: names, types, shapes and checksums are
checked here, what the arrays mean by whoever reads them, with `refuse_unless`; whatever is wrong ends in a
ValueError.
"""

from __future__ import annotations

import json
import math
import os
import re
import zipfile
from collections.abc import Iterator, Set
from contextlib import contextmanager
from io import BytesIO
from typing import Any, BinaryIO

import numpy as np

from . import whole_files

Members = dict[str, np.ndarray]

# Members have the same date in every file, so that equal contents make equal files.
_DATE = (1980, 1, 1, 0, 0, 0)
_LARGEST_HEADER = 2**26  # bytes; a history of a million iterations is below it
# The header of an array as NumPy writes it. Python's own parser would read it, too, but ends in MemoryError
# or worse where somebody nests nine thousand signs.
_ARRAY_HEADER = re.compile(
    r"\{'descr': '([^']{1,20})', 'fortran_order': (True|False), 'shape': \(([0-9, ]{0,80})\), \} *\n?"
)
_SHAPE = re.compile(r"(?:\d{1,19}, ?)*(?:\d{1,19})?")
_PLAIN_TYPE = re.compile(r"<f8|<i8|\|b1|\|u1|<U[1-9]\d{0,8}")


class Refused(ValueError):
    """Something in a file is not as it must be."""


def refuse_unless(condition: Any, message: str) -> None:
    """Raise what `explained` turns into the message that the user gets."""
    if not condition:
        raise Refused(message)


@contextmanager
def explained(what: str) -> Iterator[None]:
    """Turn all that goes wrong while `what` is read into one kind of error."""
    try:
        yield
    except Refused as error:
        raise ValueError(f"{what}: {error}") from error
    except MemoryError:
        raise
    except Exception as error:
        # Parsers of damaged files fail in more ways than can be listed: zipfile alone has a dozen.
        raise ValueError(f"{what}: {type(error).__name__}: {error}") from error


# ---- write -----------------------------------------------------------------------------------------------


def save(path: str | os.PathLike[str], members: Members) -> None:
    """Write an archive to a file as a whole; what killed processes left of it goes away."""
    whole_files.remove_left_overs(path)
    whole_files.write_atomically(path, lambda file: write(file, members))


def write(file: BinaryIO, members: Members) -> None:
    """Write the members, in their order."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, values in members.items():
            content = BytesIO()
            np.lib.format.write_array(
                content, np.ascontiguousarray(values).reshape(values.shape), (1, 0), False
            )
            archive.writestr(zipfile.ZipInfo(f"{name}.npy", _DATE), content.getvalue())


def with_header(header: dict[str, Any], members: Members) -> Members:
    """Members and, as the first of them, a header that lists them."""
    text = json.dumps({**header, "members": list(members)})
    return {"header": np.frombuffer(text.encode(), dtype=np.uint8), **members}


# ---- read ------------------------------------------------------------------------------------------------


def read(file: BinaryIO, expected: Set[str] | None) -> Members:
    """Read the members of an archive, all of which have expected names; None: the caller looks at names."""
    size = file.seek(0, os.SEEK_END)
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        names = [entry.filename for entry in entries]
        unknown = set() if expected is None else set(names) - {f"{name}.npy" for name in expected}
        refuse_unless(len(set(names)) == len(names), "it has two members of the same name")
        refuse_unless(not unknown, f"it has unknown members {sorted(unknown)[:3]}")
        stored = all(entry.compress_type == zipfile.ZIP_STORED for entry in entries)
        refuse_unless(stored, "it has compressed members")
        refuse_unless(
            sum(entry.file_size for entry in entries) <= size, "its members are larger than the file"
        )
        return {
            entry.filename[: -len(".npy")]: _parse(entry.filename, archive.read(entry)) for entry in entries
        }


def _parse(name: str, content: bytes) -> np.ndarray:
    """Read one array: NumPy's format 1.0, whose header is checked against the length of what follows it."""
    refuse_unless(content[:8] == b"\x93NUMPY\x01\x00", f"{name} is not an array")
    start = 10 + int.from_bytes(content[8:10], "little")
    refuse_unless(start <= min(len(content), 10_000), f"the header of {name} is too long")
    header = _ARRAY_HEADER.fullmatch(content[10:start].decode("latin1"))
    if header is None:
        raise Refused(f"the header of {name} is malformed")
    descr, fortran, sizes = header.groups()
    refuse_unless(_PLAIN_TYPE.fullmatch(descr), f"{name} has the type {descr!r}")
    dtype = np.dtype(descr)
    refuse_unless(_SHAPE.fullmatch(sizes) and fortran == "False", f"{name} has the shape ({sizes})")
    shape = tuple(int(size) for size in sizes.split(",") if size.strip())
    refuse_unless(len(shape) <= 3, f"{name} has the shape {shape}")
    # In Python's integers, which do not overflow.
    length = math.prod(shape) * dtype.itemsize
    refuse_unless(length == len(content) - start, f"{name} has {len(content) - start} bytes, not {length}")
    return np.frombuffer(content, dtype=dtype, offset=start).reshape(shape)


def checked_header(
    members: Members, format: str, version: int, keys: Set[str], since_2: Set[str] = frozenset()
) -> dict[str, Any]:
    """The header of an archive, which names its format and version and has these entries besides.

    From version 2 of each format on it lists the other members, which must be all there, and no others; it
    may have more entries. Version 1 is read without them.
    """
    refuse_unless("header" in members, "header is missing")
    values = members["header"]
    is_text = values.dtype == np.uint8 and values.ndim == 1 and values.size <= _LARGEST_HEADER
    refuse_unless(is_text, "the header is not text")
    try:
        header = json.loads(values.tobytes().decode())
    except MemoryError as error:  # of a small text: it was made for that
        raise Refused("the header is too large for memory") from error
    refuse_unless(isinstance(header, dict) and header.get("format") == format, "it is of another program")
    found = header.get("version")
    refuse_unless(
        type(found) is int and 1 <= found <= version,
        f"its format version is {found!r}, and this fastgmm reads versions 1 to {version}",
    )
    expected = {"format", "version"} | keys | ({"members"} | since_2 if found >= 2 else set())
    refuse_unless(set(header) == expected, f"its header has the entries {sorted(header)}")
    if found >= 2:
        _check_listed(header["members"], set(members) - {"header"})
    return header


def _check_listed(listed: Any, names: set[str]) -> None:
    is_list = isinstance(listed, list) and all(isinstance(name, str) for name in listed)
    refuse_unless(is_list, "the list of its members is malformed")
    missing, more = sorted(set(listed) - names), sorted(names - set(listed))
    refuse_unless(not missing, f"{', '.join(missing[:3])} is missing, which its header lists")
    refuse_unless(not more, f"it has the members {more[:3]}, which its header does not list")


def array(members: Members, name: str, dtype: str) -> np.ndarray:
    """A member that must be there, of this type."""
    refuse_unless(name in members, f"{name} is missing")
    refuse_unless(members[name].dtype == np.dtype(dtype), f"{name} has the type {members[name].dtype}")
    return members[name]
