"""Numbers of threads, and BLAS held to one of them."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from joblib import Parallel, delayed
from threadpoolctl import ThreadpoolController, threadpool_limits

from fastgmm import GaussianMixture, em, threads
from fastgmm.kernels import _pass
from fastgmm.threads import effective_n_threads, single_threaded_blas


@pytest.fixture
def eight_cores(monkeypatch):
    monkeypatch.setattr(_pass, "openmp_enabled", lambda: True)
    monkeypatch.setattr(_pass, "max_threads", lambda: 8)
    monkeypatch.setattr(threads, "_usable_cores", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)


@pytest.mark.parametrize(
    ("n_jobs", "expected"),
    [(None, 8), (1, 1), (3, 3), (100, 100), (10**12, 1024), (-1, 8), (-2, 7), (-8, 1), (-100, 1)],
)
def test_n_jobs(eight_cores, n_jobs, expected):
    assert effective_n_threads(n_jobs) == expected


def test_n_jobs_0(eight_cores):
    with pytest.raises(ValueError, match="n_jobs = 0"):
        effective_n_threads(0)


def test_quota_limits_the_default_unless_the_user_says_otherwise(eight_cores, monkeypatch):
    monkeypatch.setattr(threads, "_usable_cores", lambda: 2)
    assert effective_n_threads(None) == 2
    assert effective_n_threads(5) == 5
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    assert effective_n_threads(None) == 8


def test_without_openmp(eight_cores, monkeypatch):
    monkeypatch.setattr(_pass, "openmp_enabled", lambda: False)
    assert effective_n_threads(None) == effective_n_threads(4) == 1


@pytest.mark.skipif(not _pass.openmp_enabled(), reason="built without OpenMP")
def test_threadpoolctl_limits_are_honoured():
    with threadpool_limits(1, user_api="openmp"):
        assert effective_n_threads(None) == 1
        assert effective_n_threads(-1) == 1


@pytest.mark.skipif(not _pass.openmp_enabled(), reason="built without OpenMP")
def test_omp_num_threads_is_honoured():
    script = "from fastgmm.threads import effective_n_threads as n; print(n(None), n(-1), n(-2), n(2))"
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"OMP_NUM_THREADS": "3"},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert done.stdout.split() == ["3", "3", "2", "2"]


def test_joblib_workers_share_the_cores():
    """joblib tells its process workers by OMP_NUM_THREADS how many threads are theirs."""
    counts = Parallel(n_jobs=2, backend="loky")(delayed(effective_n_threads)(None) for _ in range(4))
    assert max(counts) <= max(1, os.cpu_count() // 2)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_is_serial(eight_cores):
    read, write = os.pipe()
    child = os.fork()
    if child == 0:  # no assertions here: this is another process
        with single_threaded_blas():
            os.write(write, bytes([effective_n_threads(None), effective_n_threads(4)]))
        os._exit(0)
    os.waitpid(child, 0)
    assert list(os.read(read, 2)) == [1, 1]
    assert effective_n_threads(4) == 4
    os.close(read)
    os.close(write)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_fork_while_another_thread_holds_the_limit():
    """The child has a lock of its own: that of the parent may be held by a thread the child does not have."""
    held, done = threading.Event(), threading.Event()

    def hold():
        with threads._blas_limit._lock:
            held.set()
            done.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(60)
    child = os.fork()
    if child == 0:
        with single_threaded_blas():
            os._exit(17)
    try:
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 17
    finally:
        done.set()
        thread.join()


# ---- BLAS ------------------------------------------------------------------------------------------------


def blas_threads() -> list[int]:
    libraries = ThreadpoolController().select(user_api="blas").lib_controllers
    return [library.get_num_threads() for library in libraries]


@pytest.fixture
def two_blas_threads():
    if not blas_threads():
        pytest.skip("no BLAS that threadpoolctl knows")
    with threadpool_limits(2, user_api="blas"):
        if set(blas_threads()) != {2}:
            pytest.skip("BLAS is serial")
        yield


def test_blas_has_one_thread_during_a_fit_and_its_own_after(two_blas_threads, rows, monkeypatch):
    seen = []
    run = em.run

    def watched(*args, **kwargs):
        seen.append(blas_threads())
        return run(*args, **kwargs)

    monkeypatch.setattr(em, "run", watched)
    GaussianMixture(2, random_state=0).fit(rows)
    assert {count for counts in seen for count in counts} == {1}
    assert set(blas_threads()) == {2}


def test_blas_is_restored_after_errors(two_blas_threads, rows, monkeypatch):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(em, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        GaussianMixture(2, random_state=0).fit(rows)
    assert set(blas_threads()) == {2}


def test_openmp_is_left_alone():
    before = _pass.max_threads()
    with single_threaded_blas():
        assert _pass.max_threads() == before


def test_limits_nest(two_blas_threads):
    with single_threaded_blas():
        with single_threaded_blas():
            assert set(blas_threads()) == {1}
        assert set(blas_threads()) == {1}
    assert set(blas_threads()) == {2}


def test_overlapping_limits_of_two_threads(two_blas_threads):
    """The one that entered first leaves first: the limit holds until the other leaves, which restores it."""
    entered, leave = threading.Event(), threading.Event()
    seen = []

    def second():
        with single_threaded_blas():
            seen.append(blas_threads())
            entered.set()
            leave.wait(60)
            seen.append(blas_threads())

    thread = threading.Thread(target=second)
    with single_threaded_blas():
        thread.start()
        entered.wait(60)
    leave.set()
    thread.join()
    assert np.unique(seen).tolist() == [1]
    assert set(blas_threads()) == {2}


def test_limit_in_a_thread_while_another_limits_blas(two_blas_threads):
    """threadpoolctl itself would ignore a limit that is set from a second thread."""
    seen = []

    def work():
        with single_threaded_blas():
            seen.append(blas_threads())
        seen.append(blas_threads())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert set(seen[0]) == {1}
    assert set(seen[1]) == {2}
