"""Checkpoints that are damaged or cannot be written; fits that end by the clock."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import time
import warnings
import zipfile

import checkpoint_fits as fits
import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

from fastgmm import BlockRows, GaussianMixture, archive, em, whole_files
from fastgmm.em import EMResult
from fastgmm.restarts import RANDOM, race
from fastgmm.sources import base, streamed


@pytest.fixture
def path(tmp_path):
    return tmp_path / "fit.npz"


@pytest.fixture(autouse=True)
def _as_before():
    with fits.put_back():
        yield


class Stopped(BaseException):
    """Stands for the end of the process."""


def stopped(monkeypatch, path, name="accelerated", after=13):
    """Leave a fit after so many iterations."""
    n_passes, collect = [0], em.Maximiser.collect

    def counted(*arguments):
        n_passes[0] += 1
        if n_passes[0] > after:
            raise Stopped
        return collect(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(em.Maximiser, "collect", counted)
        with pytest.raises(Stopped):
            fits.fit(name, checkpoint=path)


@pytest.fixture
def begun(monkeypatch, path):
    stopped(monkeypatch, path)
    return path


def assert_refused(path, content, message=r"not a valid checkpoint of fastgmm: .*left as it is"):
    path.write_bytes(content)
    mixture = fits.mixture_of("accelerated", checkpoint=path)
    before = dict(vars(mixture))
    with pytest.raises(ValueError, match=message):
        mixture.fit(fits.overlapping())
    assert path.read_bytes() == content
    assert vars(mixture) == before
    assert [other.name for other in path.parent.iterdir()] == [path.name]


# ---- damage ----------------------------------------------------------------------------------------------


def test_truncated(begun):
    content = begun.read_bytes()
    rng = np.random.default_rng(0)
    for length in [*range(4), *rng.integers(0, len(content), 60), len(content) - 64, len(content) - 1]:
        assert_refused(begun, content[:length])


def test_changed_bytes(begun):
    content = begun.read_bytes()
    rng = np.random.default_rng(1)
    for place in [0, len(content) - 1, *rng.integers(0, len(content), 100)]:
        changed = bytearray(content)
        changed[place] ^= 1 << rng.integers(8)
        assert_refused(begun, bytes(changed))
    assert_refused(begun, content + b"\0")


@pytest.mark.parametrize("content", [b"", b"PK", b"not a checkpoint", bytes(1000)])
def test_other_files(path, content):
    assert_refused(path, content)


def test_a_saved_mixture_is_no_checkpoint(path):
    with pytest.warns(ConvergenceWarning):
        fits.mixture_of("plain").fit(fits.overlapping()).save(path)
    assert_refused(path, path.read_bytes())


def sealed(members):
    """An archive of these members, with its digest."""
    stream = io.BytesIO()
    archive.write(stream, members)
    body = stream.getvalue()[:-2] + (64).to_bytes(2, "little")
    return body + hashlib.sha256(body).hexdigest().encode()


def changed_header(**changes):
    def change(members):
        header = json.loads(members["header"].tobytes())
        header.update(changes)
        members["header"] = np.frombuffer(json.dumps(header).encode(), dtype=np.uint8)

    return change


def with_values(name, values):
    return lambda members: members.update({name: values})


FORGED = {
    "no header": lambda members: members.pop("header"),
    "format": changed_header(format="fastgmm"),
    "version": changed_header(version=3),
    "version as truth": changed_header(version=True),
    "identity": changed_header(identity=[]),
    "heat": changed_header(heat="0"),
    "waiting": changed_header(waiting=3),
    "running": changed_header(running=5),
    "results": changed_header(results=[1]),
    "loop": changed_header(loop={}),
    "random state": changed_header(random_state={"first": None, "now": [1]}),
    "unknown member": with_values("colour", np.zeros(2)),
    "no means": lambda members: members.pop("loop.result.means"),
    "shape of means": with_values("loop.result.means", np.zeros((4, 4))),
    "means not finite": with_values("loop.result.means", np.full((5, 4), np.inf)),
    "weights below 0": with_values("loop.result.weights", np.full(5, -0.2)),
    "type of floored": with_values("loop.maximiser.floored", np.zeros(5)),
    "length of floored": with_values("loop.maximiser.floored", np.zeros(3, dtype=bool)),
    "counts": with_values("loop.maximiser.counts", np.zeros(9, dtype=np.int64)),
    "scatter": with_values("loop.maximiser.shared_second", np.zeros((5, 4))),
    "residuals": with_values("loop.anderson.residuals", np.zeros(4)),
    "images": with_values("loop.anderson.images", np.zeros((1, 2))),
    "fallback": with_values("loop.anderson.fallback.means", np.zeros((4, 5))),
    "bounds": with_values("loop.result.lower_bounds", np.zeros(3)),
}


@pytest.mark.parametrize("name", FORGED)
def test_nothing_in_a_file_is_trusted(begun, name):
    members = archive.read(io.BytesIO(begun.read_bytes()), None)
    FORGED[name](members)
    assert_refused(begun, sealed(members))


def test_a_file_made_anew_is_read(begun):
    """What the tests of forged files change is all that is wrong with them."""
    members = archive.read(io.BytesIO(begun.read_bytes()), None)
    assert sealed(members) == begun.read_bytes()
    with zipfile.ZipFile(begun) as file:
        assert file.testzip() is None
    with np.load(begun, allow_pickle=False) as file:
        assert file["loop.result.means"].shape == (5, 4)
    assert fits.fit("accelerated", checkpoint=begun)["converged_"]


# ---- files that cannot be written ------------------------------------------------------------------------


def test_a_path_that_cannot_be_written(tmp_path, monkeypatch):
    def no_work(*arguments):
        raise AssertionError("work was done")

    monkeypatch.setattr(GaussianMixture, "_rows_of", no_work)
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(FileNotFoundError, match=r"cannot be written.*Choose a path in a folder that exists"):
        GaussianMixture(2, checkpoint=tmp_path / "none" / "fit.npz").fit(fits.overlapping())
    for path in (folder, ""):
        with pytest.raises(IsADirectoryError, match=r"cannot be written: it is a folder. Choose a path"):
            GaussianMixture(2, checkpoint=path).fit(fits.overlapping())
    if hasattr(os, "mkfifo"):
        os.mkfifo(folder / "pipe")  # opening it would wait for ever
        with pytest.raises(OSError, match=r"cannot be written: it is a FIFO. Choose a path"):
            GaussianMixture(2, checkpoint=folder / "pipe").fit(fits.overlapping())
    assert list(tmp_path.iterdir()) == [folder]


class Disk:
    """Is full from one write on."""

    def __init__(self, monkeypatch, full_from, full_until=1000):
        self.n, write = 0, whole_files.write_atomically

        def limited(path, fill):
            self.n += 1
            if full_from <= self.n < full_until:
                with pytest.raises(OSError, match="full"):
                    write(path, self.fails)
                raise OSError(errno.ENOSPC, "No space left on device")
            write(path, fill)

        monkeypatch.setattr(whole_files, "write_atomically", limited)

    def fails(self, file):
        file.write(b"some")
        raise OSError(errno.ENOSPC, "full")


def test_a_disk_that_is_full(path, monkeypatch):
    """The fit goes on, says so once, and keeps the last file that could be written."""
    without = fits.fit("plain")
    with monkeypatch.context() as patch:
        disk = Disk(patch, 4)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            mixture = fits.mixture_of("plain", checkpoint=path).fit(fits.overlapping())
    assert disk.n > 6
    messages = [str(w.message) for w in caught if w.category is RuntimeWarning]
    assert len(messages) == 1
    assert "could not be written" in messages[0]
    assert "No space left" in messages[0]
    assert fits.ended(mixture) == without
    assert [other.name for other in path.parent.iterdir()] == [path.name]
    header = json.loads(archive.read(io.BytesIO(path.read_bytes()), None)["header"].tobytes())
    assert header["loop"]["result"]["n_iter"] == 6
    assert fits.fit("plain", checkpoint=path) == without


def test_a_disk_with_room_again(path, monkeypatch):
    with monkeypatch.context() as patch:
        Disk(patch, 2, 3)
        mixture = fits.mixture_of("plain", checkpoint=path, tol=1e-2)
        with pytest.warns(RuntimeWarning, match="could not be written"):
            mixture.fit(fits.overlapping())
    assert not json.loads(archive.read(io.BytesIO(path.read_bytes()), None)["header"].tobytes())["waiting"]


def test_a_disk_that_is_full_at_once(path, monkeypatch):
    Disk(monkeypatch, 1)
    with pytest.raises(OSError, match="No space left"):
        fits.mixture_of("plain", checkpoint=path).fit(fits.overlapping())


def test_files_left_by_killed_fits_go_away(path):
    ours = [path.with_name(f"fit.npz.{pid}.0123abcd.tmp") for pid in (1, 99999)]
    others = [path.with_name(name) for name in ("fit.npz.tmp", "fit.npz.1.tmp", "other.npz.1.0123abcd.tmp")]
    for file in (*ours, *others):
        file.write_bytes(b"half")
    fits.fit("plain", checkpoint=path)
    assert not any(file.exists() for file in ours)
    assert all(file.exists() for file in others)


@pytest.mark.skipif(not hasattr(os, "symlink"), reason="no links here")
def test_a_link_to_a_file_that_is_not_there_yet(path, tmp_path):
    path.symlink_to(tmp_path / "target.npz")
    whole = fits.fit("plain", checkpoint=path)
    assert (tmp_path / "target.npz").exists()
    assert fits.fit("plain", checkpoint=path) == whole


@pytest.mark.skipif(not hasattr(os, "symlink"), reason="no links here")
def test_links_are_followed(path, tmp_path):
    target = tmp_path / "elsewhere.npz"
    whole = fits.fit("plain", checkpoint=target)
    path.symlink_to(target)
    assert fits.fit("plain", checkpoint=path) == whole
    assert path.is_symlink()


# ---- time ------------------------------------------------------------------------------------------------


def slow(monkeypatch, seconds):
    collect = em.Maximiser.collect

    def delayed(*arguments):
        time.sleep(seconds)
        return collect(*arguments)

    monkeypatch.setattr(em.Maximiser, "collect", delayed)


def test_time_that_is_over_at_once():
    """One iteration is done."""
    with pytest.warns(ConvergenceWarning, match="ended after max_time=1e-09 seconds") as caught:
        mixture = fits.mixture_of("accelerated", max_time=1e-9, n_init=5).fit(fits.overlapping())
    assert len(caught) == 1
    assert mixture.n_iter_ == 1
    assert not mixture.converged_


def test_enough_time():
    assert fits.fit("plain", max_time=1e9) == fits.fit("plain")
    assert fits.fit("race", max_time=1e9) == fits.fit("race")


def test_a_fit_ends_soon_after_its_time(monkeypatch):
    slow(monkeypatch, 0.02)
    began = time.perf_counter()
    with pytest.warns(ConvergenceWarning, match="max_time"):
        mixture = fits.mixture_of("plain", tol=0.0, max_iter=10_000, max_time=0.3).fit(fits.overlapping())
    assert 0.3 <= time.perf_counter() - began < 5.0
    assert 1 <= mixture.n_iter_ <= 15


@pytest.mark.parametrize("name", ["plain", "accelerated", "race", "repairs", "floors", "pruned"])
def test_a_fit_in_small_slices_of_time(path, name):
    """Each does one iteration and keeps it, so that the fit comes to its end."""
    steps = 0
    fits.prepare(name)
    options = {"checkpoint": path, "max_time": 1e-9, "checkpoint_every": 1}
    while True:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            mixture = fits.mixture_of(name, **options).fit(fits.rows_of(name))
        if not any("max_time" in str(w.message) for w in caught):
            break
        steps += 1
        assert steps < 300
    assert steps >= mixture.n_iter_ - 1
    path.unlink()
    assert fits.ended(mixture) == fits.fit(name, checkpoint=path, checkpoint_every=1)


def test_time_over_between_two_runs():
    """The best so far is the result, and the others are not begun."""
    begun = []

    def begin(run, most):
        begun.append(run)
        return EMResult(run, n_iter=most, lower_bound=[0.0, 2.0, 1.0, 5.0][run], converged=True)

    best = race(4, 50, RANDOM, begin, None, is_over=lambda: len(begun) == 3)
    assert begun == [0, 1, 2]
    assert best.parameters == 1
    assert best.out_of_time
    begun.clear()
    best = race(2, 50, RANDOM, begin, None, is_over=lambda: len(begun) == 2)  # after the last it is not asked
    assert not best.out_of_time


def test_time_over_within_a_run():
    """The run may be the best, or not."""
    for bound, kept in ((3.0, 1), (-1.0, 0)):
        results = [
            EMResult(0, lower_bound=0.0, converged=True),
            EMResult(1, lower_bound=bound, out_of_time=True),
        ]
        best = race(2, 50, RANDOM, lambda run, _, results=results: results[run], None)
        assert best.parameters == kept
        assert best.out_of_time


# ---- progress --------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_progress_says_how_fast_and_how_long(path, monkeypatch, capfd):
    fits.prepare("plain")
    fits.mixture_of("plain", verbose=2, verbose_interval=10).fit(fits.overlapping())
    out, err = capfd.readouterr()
    assert "rows/s" in err
    assert "30/30" in err
    assert "at most" in err
    assert "left" in err
    lines = out.splitlines()
    assert len(lines) == 3
    assert all(line.endswith(" rows/s") for line in lines)
    fits.mixture_of("plain").fit(fits.overlapping())
    assert capfd.readouterr() == ("", "")


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_progress_goes_on_where_the_fit_does(path, monkeypatch, capfd):
    stopped(monkeypatch, path, "plain", after=13)
    capfd.readouterr()
    fits.mixture_of("plain", checkpoint=path, verbose=1).fit(fits.overlapping())
    err = capfd.readouterr().err
    assert "12/30" in err
    assert "0/30" not in err.replace("30/30", "").replace("20/30", "")


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_progress_of_parts(monkeypatch, capfd):
    for module in (base, streamed):
        monkeypatch.setattr(module, "SMALLEST_PART", 1 << 12)
    X = fits.overlapping()

    def blocks():
        for rows in np.array_split(X, 7):
            time.sleep(0.03)
            yield rows

    mixture = fits.mixture_of("plain", verbose=1, max_iter=3)
    mixture.fit(BlockRows(blocks))
    err = capfd.readouterr().err
    assert "first look at the rows: 2.00k rows" in err
    assert "of 7 parts of the pass" in err
    mixture.set_params(verbose=0).fit(BlockRows(blocks))
    assert capfd.readouterr().err == ""
