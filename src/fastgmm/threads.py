"""How many threads a call may use, and BLAS held to one thread while a fit runs."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from joblib import cpu_count
from threadpoolctl import ThreadpoolController

from .kernels import _pass

__all__ = ["effective_n_threads", "single_threaded_blas"]

# More than machines have; where a system refuses to start a thread, OpenMP ends the program.
MOST_THREADS = 1024

# Whether this process was made by fork() from one that had imported fastgmm. libgomp's threads do not survive
# a fork and its next parallel region waits for them for ever, so such a process computes with one thread.
_is_forked_child = False


@cache
def _usable_cores() -> int:
    """Cores that affinity, container quotas and LOKY_MAX_CPU_COUNT leave to this process."""
    return int(cpu_count())


def _max_threads() -> int:
    """Threads used where nothing is said: OpenMP's own number, and not more than there are usable cores."""
    n_threads, n_cores = int(_pass.max_threads()), _usable_cores()
    # Whoever sets OMP_NUM_THREADS (joblib does so in its process workers) means it, also above the cores.
    # Looking it up takes a while, and each call that scores rows comes here: only where it decides.
    if n_threads <= n_cores or os.environ.get("OMP_NUM_THREADS"):
        return n_threads
    return n_cores


def effective_n_threads(n_jobs: int | None) -> int:
    """Number of threads that `n_jobs` asks for.

    Parameters
    ----------
    n_jobs : int or None
        None: all cores the process may use (CPU affinity and container quotas count), or what OMP_NUM_THREADS
        or a `threadpoolctl` limit says. A positive number: as many threads as that, whatever the machine has
        (at most 1024). A negative number: as joblib counts, all that None would use but ``-n_jobs - 1`` (so
        -1 is all of them, -2 all but one), and at least one.

    Returns
    -------
    n_threads : int
        1 where fastgmm was built without OpenMP, and in a process made by ``fork()``.

    Raises
    ------
    ValueError
        If `n_jobs` is 0.
    """
    if n_jobs == 0:
        raise ValueError("n_jobs = 0 has no meaning: give the number of threads, -1 for all cores, or None.")
    if _is_forked_child or not _pass.openmp_enabled():
        return 1
    if n_jobs is None:
        return max(1, _max_threads())
    if n_jobs < 0:
        return max(1, _max_threads() + 1 + int(n_jobs))
    return min(int(n_jobs), MOST_THREADS)


def _set_num_threads(libraries: list[Any], counts: list[int]) -> None:
    """Set the number of threads of each library, from whichever thread this is.

    threadpoolctl >= 3.8 lets one thread at a time limit OpenBLAS and silently ignores the others. Our limit
    is shared by all fits and guarded by a lock of its own, so ownership is taken and given back each time.
    """
    for library, count in zip(libraries, counts):
        give_up = getattr(type(library), "clear_controlling_thread", lambda **_: None)
        give_up(force=True)
        library.set_num_threads(count)
        give_up(force=True)


class _BlasLimit:
    """One limit of BLAS to one thread, shared by all fits that run at the same time.

    Mostly BLAS's number of threads belongs to the process: were every fit to save and restore it on its own,
    fits that overlap would restore it in the wrong order. So the first to enter sets it and the last to leave
    restores it. Where the number belongs to the calling thread (MKL, and OpenBLAS on OpenMP) every thread
    does so for itself.
    """

    def __init__(self) -> None:
        self._shared: list[Any] | None = None  # finding the loaded libraries takes milliseconds: done once
        self._own: list[Any] = []
        self.forget()

    def forget(self) -> None:
        """Start afresh in a forked child, where the thread that held the lock or the limit does not exist.

        A limit that was held at the time stays: the child is serial anyway, and starting BLAS threads in it
        is what must not happen.
        """
        self._lock = threading.Lock()
        self._depth = 0
        self._before: list[int] = []
        self._thread = threading.local()  # depth and before, for this thread's own limits

    def _find_libraries(self) -> list[Any]:
        libraries = ThreadpoolController().select(user_api="blas").lib_controllers
        libraries = [library for library in libraries if library.get_num_threads() is not None]
        self._own = [
            library
            for library in libraries
            if library.internal_api == "mkl" or getattr(library, "threading_layer", None) == "openmp"
        ]
        return [library for library in libraries if library not in self._own]

    def enter(self) -> None:
        with self._lock:
            if self._shared is None:
                self._shared = self._find_libraries()
            if self._depth == 0:
                self._before = [library.get_num_threads() for library in self._shared]
                _set_num_threads(self._shared, [1] * len(self._shared))
            self._depth += 1
            if getattr(self._thread, "depth", 0) == 0:
                self._thread.depth = 0
                self._thread.before = [library.get_num_threads() for library in self._own]
                _set_num_threads(self._own, [1] * len(self._own))
            self._thread.depth += 1

    def leave(self) -> None:
        with self._lock:
            self._depth -= 1
            if self._depth == 0:
                _set_num_threads(self._shared or [], self._before)
            self._thread.depth -= 1
            if self._thread.depth == 0:
                _set_num_threads(self._own, self._thread.before)


_blas_limit = _BlasLimit()


@contextmanager
def single_threaded_blas() -> Iterator[None]:
    """Hold BLAS at one thread; nests, and may be entered from several threads at once.

    Idle BLAS threads spin and take cores from the pass over the rows, and a threaded factorisation gives
    other bits than a serial one. Only pools of the BLAS kind are touched. An OpenBLAS that is itself built on
    OpenMP shares its setting with ``omp_get_max_threads``: ask :func:`effective_n_threads` before entering.
    """
    _blas_limit.enter()
    try:
        yield
    finally:
        _blas_limit.leave()


def _after_fork_in_child() -> None:
    global _is_forked_child
    _is_forked_child = True
    _blas_limit.forget()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_after_fork_in_child)
