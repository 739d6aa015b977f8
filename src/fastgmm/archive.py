"""Files that hold arrays and text and run no code: .npz archives of stored members, written atomically.

Members are stored, not compressed: none can then claim to be larger than the file. ``numpy.load`` reads such
an archive too. A reader trusts nothing: names, types, shapes and checksums are checked here, what the arrays
mean by whoever reads them, with `refuse_unless`; whatever is wrong ends in a ValueError.
"""

from __future__ import annotations

import ast
import json
import math
import os
import secrets
import zipfile
from collections.abc import Callable, Iterator, Set
from contextlib import contextmanager
from io import BytesIO
from typing import Any, BinaryIO

import numpy as np

Members = dict[str, np.ndarray]

# Members have the same date in every file, so that equal contents make equal files.
_DATE = (1980, 1, 1, 0, 0, 0)
_LARGEST_HEADER = 2**26  # bytes; a history of a million iterations is below it


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
    """Write an archive to a file as a whole."""
    write_atomically(path, lambda file: write(file, members))


def write_atomically(path: str | os.PathLike[str], write_to: Callable[[BinaryIO], None]) -> None:
    """Write a file beside `path` and put it in its place: `path` holds the old file or the whole new one."""
    path, temporary = whole_and_temporary(path)
    try:
        with open(temporary, "xb") as file:
            write_to(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        if os.path.exists(temporary):
            os.unlink(temporary)
        raise


def whole_and_temporary(path: str | os.PathLike[str]) -> tuple[str, str]:
    """The file that a path stands for, and a name for one that is put in its place when it is whole."""
    # Links are followed: replacing the link itself would leave the file it stands for as it was.
    whole = os.path.realpath(path)
    # In the same folder, as a rename is atomic within one file system only.
    return whole, f"{whole}.{os.getpid()}.{secrets.token_hex(4)}.tmp"


def write(file: BinaryIO, members: Members) -> None:
    """Write the members, in their order."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, values in members.items():
            content = BytesIO()
            np.lib.format.write_array(
                content, np.ascontiguousarray(values).reshape(values.shape), (1, 0), False
            )
            archive.writestr(zipfile.ZipInfo(f"{name}.npy", _DATE), content.getvalue())


def header_member(header: dict[str, Any]) -> np.ndarray:
    """Text as an array of bytes."""
    return np.frombuffer(json.dumps(header).encode(), dtype=np.uint8)


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
    header = ast.literal_eval(content[10:start].decode("latin1").strip())
    refuse_unless(
        isinstance(header, dict) and set(header) == {"descr", "fortran_order", "shape"},
        f"the header of {name} is malformed",
    )
    descr, shape = header["descr"], header["shape"]
    is_plain = isinstance(descr, str) and (descr in ("<f8", "<i8", "|b1", "|u1") or descr[:2] == "<U")
    refuse_unless(is_plain, f"{name} has the type {descr!r}")
    dtype = np.dtype(descr)
    is_shape = isinstance(shape, tuple) and all(type(n) is int and n >= 0 for n in shape) and len(shape) <= 3
    refuse_unless(is_shape and header["fortran_order"] is False, f"{name} has the shape {shape!r}")
    # In Python's integers, which do not overflow.
    length = math.prod(shape) * dtype.itemsize
    refuse_unless(length == len(content) - start, f"{name} has {len(content) - start} bytes, not {length}")
    return np.frombuffer(content, dtype=dtype, offset=start).reshape(shape)


def checked_header(members: Members, format: str, version: int, keys: Set[str]) -> dict[str, Any]:
    """The header of an archive, which names its format and version and has these entries besides."""
    refuse_unless("header" in members, "header is missing")
    values = members["header"]
    is_text = values.dtype == np.uint8 and values.ndim == 1 and values.size <= _LARGEST_HEADER
    refuse_unless(is_text, "the header is not text")
    header = json.loads(values.tobytes().decode())
    refuse_unless(isinstance(header, dict) and header.get("format") == format, "it is of another program")
    found = header.get("version")
    refuse_unless(
        type(found) is int and found == version,
        f"its format version is {found!r}, and this fastgmm reads version {version}",
    )
    refuse_unless(set(header) == {"format", "version"} | keys, f"its header has the entries {sorted(header)}")
    return header


def array(members: Members, name: str, dtype: str) -> np.ndarray:
    """A member that must be there, of this type."""
    refuse_unless(name in members, f"{name} is missing")
    refuse_unless(members[name].dtype == np.dtype(dtype), f"{name} has the type {members[name].dtype}")
    return members[name]
