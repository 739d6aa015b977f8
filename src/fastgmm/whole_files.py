"""Files that are replaced as a whole: written beside the old one, and put in its place when they are whole.

A process that is killed meanwhile leaves the file beside, whose name says what it was to replace:
``<name>.<process>.<8 hexadecimal digits>.tmp``. The next one that is written for the same name removes it.
"""

from __future__ import annotations

import os
import re
import secrets
import stat
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import BinaryIO

Path = str | os.PathLike[str]

# Seconds. A file that nothing has been written to for so long belongs to no process that is still writing it.
ABANDONED = 24 * 3600.0
_KINDS = {
    stat.S_ISDIR: "a folder",
    stat.S_ISFIFO: "a FIFO",
    stat.S_ISCHR: "a device",
    stat.S_ISBLK: "a device",
    stat.S_ISSOCK: "a socket",
}


def write_atomically(path: Path, write_to: Callable[[BinaryIO], None]) -> None:
    """Replace a file: `path` holds the old file or the whole new one.

    Raises
    ------
    OSError
        If it cannot be written. IsADirectoryError for a folder.
    """
    replacement = Replacement(path)
    try:
        write_to(replacement.file)
        replacement.put_in_place()
    finally:
        replacement.discard()


def there(path: Path) -> tuple[os.stat_result | None, str]:
    """What is known of what a path leads to, None where nothing is there; and what it is if no regular file.

    Folders, FIFOs and devices are never replaced: that would break whatever else they are for.
    """
    path = os.fspath(path) or os.curdir  # as realpath takes it
    try:
        found = os.stat(path)  # of the path, not of its real path: links in /proc lead to what has no name
    except FileNotFoundError:
        return None, ""
    return found, next((kind for is_kind, kind in _KINDS.items() if is_kind(found.st_mode)), "")


class Replacement:
    """A new file beside an old one, which it takes the place of when it is whole.

    It has the permissions of the old file from the first moment on, and its owner and group where this
    process may give them. Without an old file they are those of any new file.

    Parameters
    ----------
    path : str or path-like
        The file to be replaced. Links are followed: what they lead to is replaced, and they stay.
    buffering : int
        As of `open`.

    Attributes
    ----------
    path, temporary : str
        The real path of the old file, and that of the new one.
    file : binary file
        The new one, to be written to.

    Raises
    ------
    OSError
        If no file can be made there, or `path` is there and is no regular file.
    """

    def __init__(self, path: Path, buffering: int = -1) -> None:
        old, kind = there(path)
        if kind:
            error_class = IsADirectoryError if kind == "a folder" else OSError
            raise error_class(f"{os.fspath(path)!r} cannot be written: it is {kind}. Choose another path.")
        self.path = os.path.realpath(path)
        # In the same folder, as a rename is atomic within one file system only.
        self.temporary = f"{self.path}.{os.getpid()}.{secrets.token_hex(4)}.tmp"
        opener = partial(os.open, mode=0o666 if old is None else 0o600)
        try:
            # "x" neither follows a link nor opens what somebody else has put there.
            self.file: BinaryIO = open(self.temporary, "xb", buffering, opener=opener)  # noqa: SIM115 -- discard() closes
        except OSError as error:
            raise type(error)(error.errno, error.strerror, os.fspath(path)) from error
        if old is not None:
            try:
                _take_over(self.file.fileno(), old)
            except BaseException:
                self.discard()
                raise

    def put_in_place(self) -> None:
        """The file is whole."""
        self.file.flush()
        os.fsync(self.file.fileno())
        self.file.close()
        os.replace(self.temporary, self.path)

    def discard(self) -> None:
        """Remove the new file, unless it has been put in its place."""
        try:
            self.file.close()  # which writes what is buffered, and may fail as any write
        finally:
            with suppress(FileNotFoundError):
                os.unlink(self.temporary)


def _take_over(file: int, old: os.stat_result) -> None:
    """Permissions, owner and group of an old file for a new one, as far as this process may."""
    if not hasattr(os, "fchown"):  # Windows, where files take permissions from their folder
        return
    new, mode = os.fstat(file), stat.S_IMODE(old.st_mode) & 0o777
    if new.st_uid != old.st_uid:
        with suppress(OSError):
            os.fchown(file, old.st_uid, -1)
    if new.st_gid != old.st_gid:
        try:
            os.fchown(file, -1, old.st_gid)
        except OSError:  # another group may do no more than everybody
            mode = mode & 0o707 | (mode & 0o007) << 3
    if stat.S_IMODE(new.st_mode) != mode:
        with suppress(OSError):  # some file systems know no permissions
            os.fchmod(file, mode)


def remove_left_overs(path: Path, age: float = ABANDONED) -> None:
    """Remove what killed processes of this user left when they were writing the file that a path leads to.

    Only regular files go, and only those that have not been written to for `age` seconds. What cannot be
    removed stays.
    """
    folder, name = os.path.split(os.path.realpath(path))
    ending = re.compile(r"\.\d+\.[0-9a-f]{8}\.tmp")
    left: list[str] = []
    with suppress(OSError), os.scandir(folder) as entries:
        left += [entry.name for entry in entries if entry.name.startswith(name)]
    for other in left:
        if not ending.fullmatch(other, len(name)):
            continue
        other = os.path.join(folder, other)
        with suppress(OSError):
            found = os.lstat(other)
            is_ours = not hasattr(os, "geteuid") or found.st_uid == os.geteuid()
            is_old = age <= 0 or time.time() - found.st_mtime > age
            if stat.S_ISREG(found.st_mode) and is_ours and is_old:
                os.unlink(other)
