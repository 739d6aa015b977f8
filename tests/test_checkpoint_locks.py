"""Two fits never use one checkpoint at the same time, and nobody is kept out by a fit that is over."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time

import checkpoint_fits as fits
import pytest
from sklearn.exceptions import ConvergenceWarning

from fastgmm import em, file_lock
from fastgmm.file_lock import FileLock, Held

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes cannot be forked here")
posix = pytest.mark.skipif(sys.platform == "win32", reason="files that are open cannot be removed there")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "fit.npz"


def lock_file(path):
    return path.with_name(f"{path.name}.fastgmm.lock")


def fit(path, name="plain"):
    return fits.ended(fits.mixture_of(name, checkpoint=path).fit(fits.overlapping()))


@pytest.fixture(scope="module")
def whole():
    """What the fit of all these tests ends with."""
    with pytest.warns(ConvergenceWarning):
        return fits.ended(fits.mixture_of("plain").fit(fits.overlapping()))


@pytest.fixture
def waiting_fit(path, monkeypatch):
    """A fit in a thread of its own, which waits in its fifth pass for `go`; `ends` has what it ends with."""
    n_passes, collect = [0], em.Maximiser.collect
    at_the_pass, go, ends = threading.Event(), threading.Event(), []

    def waits(*arguments):
        if threading.current_thread() is thread:
            n_passes[0] += 1
            if n_passes[0] == 5:
                at_the_pass.set()
                assert go.wait(60)
        return collect(*arguments)

    monkeypatch.setattr(em.Maximiser, "collect", waits)
    thread = threading.Thread(target=lambda: ends.append(fit(path)))
    thread.start()
    assert at_the_pass.wait(60)
    yield thread, go, ends
    go.set()
    thread.join()


def process_with_the_lock(path, then="time.sleep(60)"):
    """A process that holds the lock of a checkpoint and says so."""
    # of its file alone, as the package takes seconds to import
    script = f"""
import importlib.util, os, time
spec = importlib.util.spec_from_file_location("file_lock", {file_lock.__file__!r})
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
lock = module.FileLock({os.path.realpath(path)!r})
print("held", flush=True)
{then}
"""
    command = [sys.executable, "-c", script]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_fit_at_the_same_time_is_refused(path, waiting_fit, whole, tmp_path):
    """In another thread. The first one ends as if nothing had been, then the file is free again."""
    thread, go, ends = waiting_fit
    content = path.read_bytes()
    for _ in range(2):
        with pytest.raises(BlockingIOError, match=r"fit\.npz' is in use by another fit.* another path"):
            fit(path)
    assert path.read_bytes() == content
    assert fit(tmp_path / "other.npz") == whole
    go.set()
    thread.join()
    assert ends == [whole]
    assert not lock_file(path).exists()
    assert fit(path) == whole


@posix
def test_a_second_fit_by_another_name_is_refused(path, waiting_fit, tmp_path, monkeypatch):
    (tmp_path / "link.npz").symlink_to(path)
    monkeypatch.chdir(tmp_path)
    for name in ("link.npz", "./fit.npz", tmp_path / "." / "fit.npz"):
        with pytest.raises(BlockingIOError, match="in use by another fit"):
            fit(name)


def test_a_refused_fit_leaves_the_mixture_and_the_random_state(path, waiting_fit):
    mixture = fits.mixture_of("race", checkpoint=path)
    before, state = dict(vars(mixture)), mixture.random_state.get_state()[1].tolist()
    with pytest.raises(BlockingIOError):
        mixture.fit(fits.overlapping())
    assert vars(mixture) == before
    assert mixture.random_state.get_state()[1].tolist() == state


def test_a_fit_in_another_process_keeps_others_out_until_it_is_killed(path, whole):
    process = process_with_the_lock(path)
    try:
        with pytest.raises(BlockingIOError, match="of this or another process"):
            fit(path)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    assert fit(path) == whole  # whatever the process has left
    assert not lock_file(path).exists()


@pytest.mark.parametrize("how", ["interrupted", "refused", "failed"])
def test_a_fit_that_does_not_come_to_its_end_gives_the_lock_up(path, monkeypatch, whole, how):
    if how == "refused":
        path.write_bytes(b"not a checkpoint")
        with pytest.raises(ValueError, match="not a valid checkpoint") as caught:
            fit(path)
        path.unlink()
    else:
        error = KeyboardInterrupt if how == "interrupted" else MemoryError

        def stops(*arguments):
            raise error

        with monkeypatch.context() as patch:
            patch.setattr(em.Maximiser, "collect", stops)
            with pytest.raises(error) as caught:
                fit(path)
    assert not lock_file(path).exists()
    assert fit(path) == whole
    assert caught  # whose traceback keeps all that the fit had alive


def test_the_file_of_a_lock_means_nothing(path, whole):
    lock_file(path).touch()
    assert fit(path) == whole
    assert not lock_file(path).exists()


# ---- fork ------------------------------------------------------------------------------------------------


def exit_code_of_child(do):
    """What a forked child ends with: 0 where `do` is true there."""
    child = os.fork()
    if child == 0:
        code = 2
        try:
            code = 0 if do() else 1
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def is_refused(path):
    try:
        FileLock(path)
    except Held:
        return True
    return False


@needs_fork
def test_forked_children_are_kept_out_and_cannot_give_the_lock_up(path):
    lock = FileLock(str(path))

    def child():
        lock.release()  # as the end of a fit of the parent's would, were it to go on here
        return is_refused(str(path))

    assert exit_code_of_child(child) == 0
    assert lock_file(path).exists()
    assert is_refused(str(path))
    lock.release()
    assert exit_code_of_child(lambda: not is_refused(str(path))) == 0


@needs_fork
def test_a_lock_ends_with_its_process_although_a_forked_child_lives(path):
    then = "child = os.fork()\nif child:\n    print(child, flush=True)\ntime.sleep(60)"
    process = process_with_the_lock(path, then)
    child = int(process.stdout.readline())
    try:
        process.kill()
        process.wait()
        os.kill(child, 0)  # it lives
        FileLock(str(path)).release()
    finally:
        os.kill(child, signal.SIGKILL)
        process.stdout.close()


@needs_fork
def test_a_lock_that_was_given_up_is_free_although_a_child_was_forked_meanwhile(path, monkeypatch):
    """Also by what does not tell Python that it forks, and where the file of the lock cannot be removed."""
    lock = FileLock(str(path))

    def cannot(path):
        raise PermissionError

    monkeypatch.setattr(file_lock.os, "unlink", cannot)
    monkeypatch.setattr(FileLock, "forget", lambda self: None)
    child = os.fork()
    if child == 0:
        time.sleep(60)
        os._exit(0)
    try:
        lock.release()
        FileLock(str(path)).release()
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


# ---- where there are no locks ----------------------------------------------------------------------------


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP])
def test_without_locks_there_is_a_warning_and_the_fit_goes_on(path, monkeypatch, whole, number):
    def has_none(file):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(file_lock, "_take", has_none)
    young = path.with_name("fit.npz.7.0123abcd.tmp")
    young.touch()  # which another fit may be writing now
    with pytest.warns(RuntimeWarning, match=r"fit\.npz' cannot be locked.* no other fit uses this path"):
        assert fit(path) == whole
    assert young.exists()


@posix
def test_a_planted_link_is_not_followed(path, tmp_path, whole):
    victim = tmp_path / "victim"
    lock_file(path).symlink_to(victim)
    with pytest.warns(RuntimeWarning, match="cannot be locked"):
        assert fit(path) == whole
    assert not victim.exists()
    assert lock_file(path).is_symlink()


@posix
def test_a_fifo_in_the_place_of_the_lock_stops_nobody(path, whole):
    os.mkfifo(lock_file(path))
    with pytest.warns(RuntimeWarning, match="not a regular file"):
        assert fit(path) == whole


def test_a_fit_that_is_over_is_read_where_nothing_can_be_written(path, monkeypatch, whole):
    """No lock can be made there, and none is needed."""
    fit(path)

    def cannot(*arguments):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(file_lock, "_opened", cannot)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert fit(path) == whole


# ---- the file of a lock, removed while others open it ----------------------------------------------------


@posix
def test_a_lock_on_a_file_that_was_removed_meanwhile_does_not_count(path, monkeypatch):
    """Who had it gave it up and removed it after it was opened here; a third one may have made another."""
    take, first = file_lock._take, []

    def removed(file):
        if not first:
            first.append(file)
            os.unlink(lock_file(path))
        take(file)

    monkeypatch.setattr(file_lock, "_take", removed)
    lock = FileLock(str(path))
    assert lock_file(path).exists()
    assert is_refused(str(path))
    lock.release()
    assert not lock_file(path).exists()


def test_many_threads_get_it_one_after_the_other(path):
    inside, most, n_taken = 0, 0, [0] * 4

    def takes(number):
        nonlocal inside, most
        end = time.monotonic() + 0.5
        while time.monotonic() < end:
            try:
                lock = FileLock(str(path))
            except Held:
                continue
            inside += 1
            most = max(most, inside)
            n_taken[number] += 1
            inside -= 1
            lock.release()

    threads = [threading.Thread(target=takes, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
    assert sum(n_taken) > 20
    assert not lock_file(path).exists()
