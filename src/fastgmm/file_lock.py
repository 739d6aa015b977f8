"""Locks of the operating system, which end with their process, however that ends.

A lock is on a file of its own, ``<name>.fastgmm.lock``: the file it is for is replaced again and again, and a
lock would go with the old one. That the file exists means nothing. It is removed with the lock, and a process
that was killed leaves it for the next one to take.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
import weakref
from contextlib import suppress

if sys.platform == "win32":
    import msvcrt

    def _take(file: int) -> None:
        msvcrt.locking(file, msvcrt.LK_NBLCK, 1)

    def _give_up(file: int) -> None:
        os.lseek(file, 0, os.SEEK_SET)
        msvcrt.locking(file, msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    # Not lockf: its locks belong to the process, so that two threads would not keep each other out.
    def _take(file: int) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _give_up(file: int) -> None:
        fcntl.flock(file, fcntl.LOCK_UN)


# What the system says of a lock that somebody else holds.
_HELD = {errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES, errno.EDEADLK}
# Somebody may remove the file that was just opened; more often than this in a row is no chance.
_TRIES = 100


class Held(Exception):
    """Another thread or process holds the lock."""


class FileLock:
    """An exclusive lock for what is done with a file.

    Parameters
    ----------
    path : str
        The real path of the file, which need not exist.

    Raises
    ------
    Held
        If another thread or process has it.
    OSError
        If there can be no lock, as on a file system that has none.
    """

    def __init__(self, path: str) -> None:
        self.path = f"{path}.fastgmm.lock"
        self._file: int | None = None
        for _ in range(_TRIES):
            file = _opened(self.path)
            try:
                try:
                    _take(file)
                except OSError as error:
                    if error.errno in _HELD:
                        raise Held from error
                    raise
                if sys.platform == "win32" or _is_at(file, self.path):  # there nobody removes an open file
                    self._file = file
                    _locks.add(self)
                    return
            finally:
                if self._file is None:
                    os.close(file)
        raise OSError(errno.ENOLCK, "the file is removed again and again", self.path)

    def release(self) -> None:
        """Give the lock up, if it is held; its file goes away."""
        file, self._file = self._file, None
        if file is None:
            return
        _locks.discard(self)
        if sys.platform == "win32":
            with suppress(OSError):
                _give_up(file)
            os.close(file)
            with suppress(OSError):
                os.unlink(self.path)
            return
        # Removed while it is held: who opens it later makes another, who has opened it before finds it gone.
        with suppress(OSError):
            os.unlink(self.path)
        with suppress(OSError):
            _give_up(file)  # also for children that were forked meanwhile, which share it
        os.close(file)

    def __del__(self) -> None:
        """An interrupt may come before anybody is there to release the lock."""
        self.release()

    def forget(self) -> None:
        """In a forked child: the lock is the parent's, and ends with the parent although the child lives."""
        file, self._file = self._file, None
        if file is not None:
            os.close(file)


_locks: weakref.WeakSet[FileLock] = weakref.WeakSet()


def _opened(path: str) -> int:
    """The file of a lock, made where there is none. Links are not followed, and nothing is written to it."""
    flags = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        file = os.open(path, flags | os.O_RDWR | os.O_CREAT, 0o666)
    except PermissionError:
        file = os.open(path, flags | os.O_RDONLY)  # it is another user's, and may be locked all the same
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise OSError(errno.EINVAL, "it is not a regular file", path)
    return file


def _is_at(file: int, path: str) -> bool:
    """Whether an open file is still the one of that name."""
    try:
        return os.path.samestat(os.fstat(file), os.lstat(path))
    except FileNotFoundError:
        return False


def _after_fork_in_child() -> None:
    for lock in list(_locks):
        lock.forget()
    _locks.clear()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_after_fork_in_child)
