"""Files that are replaced as a whole: what is there already, whose it is, and what killed processes leave."""

from __future__ import annotations

import os
import secrets
import stat
import sys
import time

import numpy as np
import pytest

from fastgmm import GaussianMixture, Statistics, whole_files

posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions, links and special files")
needs_root = pytest.mark.skipif(getattr(os, "geteuid", lambda: 1)() != 0, reason="only root gives files away")
X = np.random.default_rng(0).normal(size=(100, 2))


@pytest.fixture(scope="module")
def mixture():
    return GaussianMixture(2, max_iter=0, random_state=0).fit(X)


def write_mixture(mixture, path):
    mixture.save(path)


def write_statistics(mixture, path):
    mixture.accumulate(X).save(path)


def write_outputs(mixture, path):
    mixture.predict(X, out=path)


def write_checkpoint(mixture, path):
    GaussianMixture(1, checkpoint=path).fit(X)


WRITERS = [write_mixture, write_statistics, write_outputs, write_checkpoint]


def is_read(writer, path):
    """Whether what a writer wrote can be read."""
    if writer is write_mixture:
        return GaussianMixture.load(path).n_components == 2
    if writer is write_statistics:
        return Statistics.load(path).n_rows == 100
    if writer is write_outputs:
        return len(np.load(path)) == 100
    return GaussianMixture(1, checkpoint=path).fit(X).converged_


# ---- what is no regular file -----------------------------------------------------------------------------


@posix
@pytest.mark.parametrize("write", WRITERS)
def test_a_fifo_is_never_replaced(mixture, tmp_path, write):
    path = tmp_path / "fifo.npy"
    os.mkfifo(path)
    (tmp_path / "link.npy").symlink_to(path)
    for name in (path, tmp_path / "link.npy"):
        with pytest.raises((OSError, ValueError), match="FIFO"):
            write(mixture, name)
    assert stat.S_ISFIFO(path.stat().st_mode)
    assert len(list(tmp_path.iterdir())) == 2


@posix
@needs_root
@pytest.mark.parametrize("write", WRITERS)
def test_a_device_is_never_replaced(mixture, tmp_path, write):
    path = tmp_path / "null.npy"
    try:
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 3))
    except OSError:
        pytest.skip("no devices can be made here")
    with pytest.raises((OSError, ValueError), match="device"):
        write(mixture, path)
    assert stat.S_ISCHR(path.stat().st_mode)


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="no /proc here")
def test_a_pipe_without_a_name_is_refused(mixture):
    """/dev/stdout is a link to what may have no name that could be replaced."""
    read_end, write_end = os.pipe()
    try:
        with pytest.raises(OSError, match="it is a FIFO"):
            mixture.save(f"/proc/self/fd/{write_end}")
    finally:
        os.close(read_end)
        os.close(write_end)


@pytest.mark.parametrize("write", WRITERS)
def test_folders_and_missing_folders_are_named(mixture, tmp_path, write):
    folder = tmp_path / "folder.npy"
    folder.mkdir()
    with pytest.raises((IsADirectoryError, ValueError), match=r"folder\.npy.* is a folder"):
        write(mixture, folder)
    with pytest.raises((FileNotFoundError, ValueError), match=r"missing.?.?file\.npy'") as caught:
        write(mixture, tmp_path / "missing" / "file.npy")
    assert ".tmp" not in str(caught.value)


def test_a_path_of_no_characters_is_a_folder(mixture):
    with pytest.raises(IsADirectoryError, match="'' cannot be written: it is a folder"):
        mixture.save("")


# ---- whose it is, and who may read it --------------------------------------------------------------------


@posix
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664, 0o444])
@pytest.mark.parametrize("write", WRITERS[:3])
def test_permissions_are_kept(mixture, tmp_path, write, mode):
    path = tmp_path / "file.npy"
    path.touch()
    path.chmod(mode)
    before = os.umask(0o022)
    try:
        write(mixture, path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert is_read(write, path)


@posix
def test_a_checkpoint_keeps_its_permissions(tmp_path):
    path = tmp_path / "fit.npz"
    options = {"n_components": 2, "tol": 0.0, "random_state": 0, "checkpoint": path}
    with pytest.warns(UserWarning, match="did not converge"):
        GaussianMixture(**options, max_iter=3).fit(X)
    path.chmod(0o600)
    with pytest.warns(UserWarning, match="did not converge"):
        GaussianMixture(**options, max_iter=6).fit(X)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@posix
def test_nobody_may_read_the_new_file_who_could_not_read_the_old_one(tmp_path, monkeypatch):
    """Not for a moment: neither when it is made nor while it is being written."""
    path, take_over = tmp_path / "secret", whole_files._take_over
    path.touch()
    path.chmod(0o600)
    seen = []

    def look(file):
        seen.append(stat.S_IMODE(os.fstat(file).st_mode))

    def fill(file):
        look(file.fileno())
        file.write(b"secret")

    monkeypatch.setattr(whole_files, "_take_over", lambda file, old: (look(file), take_over(file, old)))
    before = os.umask(0)
    try:
        whole_files.write_atomically(path, fill)
    finally:
        os.umask(before)
    assert seen == [0o600, 0o600]
    assert path.read_bytes() == b"secret"


@posix
@needs_root
def test_owner_and_group_are_kept(tmp_path):
    path = tmp_path / "file"
    path.touch()
    os.chown(path, 12345, 23456)
    path.chmod(0o640)
    whole_files.write_atomically(path, lambda file: file.write(b"new"))
    found = path.stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (12345, 23456, 0o640)


@posix
def test_another_group_may_do_no_more_than_everybody(tmp_path, monkeypatch):
    """Where the group cannot be kept."""
    path = tmp_path / "file"
    path.touch()
    path.chmod(0o664)
    found = os.stat(path)
    other_group = os.stat_result((*found[:5], found.st_gid + 1, *found[6:]))
    monkeypatch.setattr(whole_files, "there", lambda path: (other_group, ""))

    def refused(*arguments):
        raise PermissionError

    monkeypatch.setattr(os, "fchown", refused)
    whole_files.write_atomically(path, lambda file: file.write(b"new"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


@posix
@pytest.mark.parametrize("write", WRITERS)
def test_links_stay_and_what_they_lead_to_is_replaced(mixture, tmp_path, write):
    target, link = tmp_path / "target.npy", tmp_path / "link.npy"
    link.symlink_to("target.npy")
    write(mixture, link)  # makes the file that the link leads to
    assert link.is_symlink()
    assert is_read(write, target)
    if write is not write_checkpoint:
        target.write_bytes(b"old")
        write(mixture, link)
        assert link.is_symlink()
        assert is_read(write, target)
    link.unlink()
    link.symlink_to("link.npy")
    with pytest.raises((OSError, ValueError)):
        write(mixture, link)
    assert link.is_symlink()


@posix
@pytest.mark.parametrize("write", WRITERS)
def test_planted_links_are_not_followed(mixture, tmp_path, write, monkeypatch):
    """Not even by somebody who foretells the names of temporary files."""
    monkeypatch.setattr(secrets, "token_hex", lambda n_bytes: "00" * n_bytes)
    victim, path = tmp_path / "victim", tmp_path / "file.npy"
    victim.write_text("precious")
    planted = tmp_path / f"file.npy.{os.getpid()}.00000000.tmp"
    planted.symlink_to(victim)
    with pytest.raises((OSError, ValueError), match=r"file\.npy"):
        write(mixture, path)
    assert victim.read_text() == "precious"
    assert planted.is_symlink()
    assert not path.exists()


# ---- what killed processes leave -------------------------------------------------------------------------


def left(path, ending, days=2.0):
    """A file as a killed process may leave it beside a path."""
    file = path.with_name(path.name + ending)
    file.write_bytes(b"half")
    then = time.time() - days * 24 * 3600
    os.utime(file, (then, then))
    return file


@pytest.mark.parametrize("write", WRITERS[:3])
def test_what_killed_processes_left_a_day_ago_goes_away(mixture, tmp_path, write):
    path = tmp_path / "file.npy"
    for _ in range(2):  # nothing is there; the file is there
        old = [left(path, f".{process}.0123abcd.tmp") for process in (1, 99999)]
        others = [
            left(path, ".7.0123abcd.tmp", days=0.9),  # may be written to yet
            left(path, ".7.0123abcd.tmp.tmp"),
            left(path, ".7.0123ABCD.tmp"),
            left(path, ".tmp"),
            left(tmp_path / "other.npy", ".7.0123abcd.tmp"),
        ]
        folder = tmp_path / "file.npy.8.0123abcd.tmp"
        folder.mkdir(exist_ok=True)
        os.utime(folder, (0, 0))
        write(mixture, path)
        assert is_read(write, path)
        assert not any(file.exists() for file in old)
        assert all(file.exists() for file in (*others, folder))


@posix
def test_left_overs_beside_what_a_link_leads_to_go_away(mixture, tmp_path):
    (tmp_path / "folder").mkdir()
    link = tmp_path / "link.npz"
    link.symlink_to(tmp_path / "folder" / "target.npz")
    ours = left(tmp_path / "folder" / "target.npz", ".7.0123abcd.tmp")
    other = left(link, ".7.0123abcd.tmp")
    mixture.save(link)
    assert not ours.exists()
    assert other.exists()


@posix
def test_links_and_files_of_others_are_not_left_overs(mixture, tmp_path, monkeypatch):
    path = tmp_path / "file.npz"
    victim = tmp_path / "victim"
    victim.touch()
    link = tmp_path / "file.npz.7.0123abcd.tmp"
    link.symlink_to(victim)
    os.utime(link, (0, 0), follow_symlinks=False)
    mixture.save(path)
    assert link.is_symlink()
    theirs = left(path, ".8.0123abcd.tmp")
    with monkeypatch.context() as patch:
        patch.setattr(os, "geteuid", lambda: theirs.stat().st_uid + 1)
        mixture.save(path)
    assert theirs.exists()
    mixture.save(path)
    assert not theirs.exists()


def test_a_write_that_fails_leaves_nothing(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fails(file):
        file.write(b"some")
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        whole_files.write_atomically(path, fails)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
