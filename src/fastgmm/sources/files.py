"""Files that rows come from: which there are, and whether they are still the same."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from os import PathLike
from typing import Any, NamedTuple, TypeGuard

import numpy as np

Path = str | PathLike[str]


class Together(str):
    """What messages call several files together; it knows which of them a row is in.

    Parameters
    ----------
    paths, counts : the files, and how many rows each has
    """

    paths: list[str]
    counts: list[int]

    def __new__(cls, paths: Sequence[str], counts: Sequence[int]) -> Together:
        """A text that names the first file."""
        self = super().__new__(cls, f"{paths[0]} and {len(paths) - 1} more, taken together")
        self.paths, self.counts = list(paths), list(counts)
        return self

    def row(self, row: int) -> str:
        """A row in words, counted from the first of all, by its file."""
        for path, n in zip(self.paths, self.counts):
            if row < n:
                return f"row {row} of {path}"
            row -= n
        return f"row {row} after the end of {self.paths[-1]}"


class FileState(NamedTuple):
    """What a file is known by between two looks at it."""

    size: int
    changed: int


def state_of(path: str) -> FileState:
    """Size and time of the last change of a file.

    Raises
    ------
    ValueError
        Where there is no such file, or it is no file of bytes (a pipe cannot be read again).
    """
    try:
        found = os.stat(path)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}.") from error
    if not stat.S_ISREG(found.st_mode):
        kind = "a directory" if stat.S_ISDIR(found.st_mode) else "not a regular file"
        raise ValueError(f"{path} is {kind}: a file is expected, which can be read many times.")
    return FileState(found.st_size, found.st_mtime_ns)


def check_unchanged(path: str, state: FileState) -> None:
    """Refuse a file that is no longer what it was when its source was made."""
    now = state_of(path)
    if now != state:
        what = (
            f"it had {state.size} bytes and has {now.size}" if now.size != state.size else "it was written to"
        )
        raise ValueError(
            f"{path} has changed since it was looked at first: {what}. Rows must stay the same during a fit; "
            "make the source anew."
        )


def files_of(X: Any) -> list[str]:
    """The file that an array, or what it is a view of, is mapped from."""
    while X is not None:
        if isinstance(X, np.memmap) and X.filename is not None:
            return [os.fspath(X.filename)]
        X = getattr(X, "base", None)
    return []


def is_path(value: Any) -> TypeGuard[Path]:
    """Whether a value names a file."""
    return isinstance(value, str | PathLike)


def is_paths(value: Any) -> TypeGuard[Path | Sequence[Path]]:
    """Whether a value names a file, or several in a list or tuple."""
    if isinstance(value, list | tuple):
        return bool(value) and all(is_path(each) for each in value)
    return is_path(value)


def paths_of(paths: Path | Sequence[Path], name: str) -> list[str]:
    """Paths as text, in their order.

    Raises
    ------
    TypeError
        For what names no file.
    ValueError
        For an empty list.
    """
    if is_path(paths):
        return [os.fspath(paths)]
    if not isinstance(paths, list | tuple) or not all(is_path(path) for path in paths):
        raise TypeError(f"{name} must be a path or a list of paths, got {type(paths).__name__}.")
    if not paths:
        raise ValueError(f"{name} is an empty list: it must name one file at least.")
    return [os.fspath(path) for path in paths]


def suffix_of(path: Path) -> str:
    """Ending of a path, such as ".npy", in small letters."""
    return os.path.splitext(os.fspath(path))[1].lower()


def names_of(paths: list[str]) -> str:
    """What messages call files together."""
    return paths[0] if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more, taken together"
