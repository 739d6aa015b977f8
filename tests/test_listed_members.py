"""The header of a file lists its members, and a hostile file ends in a ValueError, whatever it is made of."""

from __future__ import annotations

import hashlib
import io
import json
import struct
import zipfile

import checkpoint_fits as fits
import numpy as np
import pytest
from saved_files import assert_equal, changed_parameters, members_of, relist, rewritten

from fastgmm import GaussianMixture, NpyRows, Statistics, archive, em

X = np.random.default_rng(0).normal(size=(60, 2))
KINDS = ["mixture", "statistics", "checkpoint"]


@pytest.fixture(autouse=True)
def _as_before():
    with fits.put_back():
        yield


class Stopped(BaseException):
    """Stands for the end of the process."""


def stopped(path, name, after, monkeypatch):
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
def saved(tmp_path, monkeypatch):
    """Writes a file of a kind."""

    def write(kind):
        path = tmp_path / f"{kind}.npz"
        if kind == "checkpoint":
            stopped(path, "accelerated", 13, monkeypatch)
            return path
        mixture = GaussianMixture(2, max_iter=5, tol=1.0, random_state=0).fit(X)
        (mixture if kind == "mixture" else mixture.accumulate(X)).save(path)
        return path

    return write


def seal(path):
    """The digest at the end of a checkpoint."""
    body = path.read_bytes()[:-2] + (64).to_bytes(2, "little")
    path.write_bytes(body + hashlib.sha256(body).hexdigest().encode())


def read(kind, path):
    if kind == "mixture":
        return GaussianMixture.load(path)
    if kind == "statistics":
        return Statistics.load(path)
    seal(path)
    return fits.fit("accelerated", checkpoint=path)


# ---- the list --------------------------------------------------------------------------------------------

# Of what a file can do without, or may have besides.
OPTIONAL = {"mixture": "lower_bounds_", "statistics": "weight", "checkpoint": "loop.anderson.residuals"}
MORE = {"mixture": "n_steps_", "statistics": "first", "checkpoint": "loop.maximiser.shared_second"}


@pytest.mark.parametrize("kind", KINDS)
def test_a_member_that_is_missing_is_named(saved, kind):
    path, name = saved(kind), OPTIONAL[kind]
    changed = rewritten(path, lambda members: members.pop(name), listed=False)
    with pytest.raises(ValueError, match=rf"{name} is missing, which its header lists"):
        read(kind, changed)


@pytest.mark.parametrize("kind", KINDS)
def test_a_member_that_is_not_listed_is_refused(saved, kind):
    name = MORE[kind]

    def add(members):
        if name in members:  # all that there may be is there: then one is not in the list
            value = members.pop(name)
            relist(members)
            members[name] = value
        else:
            members[name] = np.eye(4) if kind == "checkpoint" else np.int64(3)

    with pytest.raises(ValueError, match=rf"it has the members \['{name}'\], which its header does not list"):
        read(kind, rewritten(saved(kind), add, listed=False))


@pytest.mark.parametrize("listed", [None, 3, {}, [1], [["means_"]], "means_"])
def test_a_list_that_is_none_is_refused(saved, listed):
    def change(members):
        header = json.loads(members["header"].tobytes())
        header["members"] = listed
        members["header"] = np.frombuffer(json.dumps(header).encode(), dtype=np.uint8)

    with pytest.raises(ValueError, match="not a valid fastgmm file"):
        read("mixture", rewritten(saved("mixture"), change, listed=False))


def test_no_changed_byte_hides_a_member(saved):
    """In the directory of the archive, which has no checksum."""
    path = saved("mixture")
    mixture, content = GaussianMixture.load(path), path.read_bytes()
    n_loaded = 0
    for at in range(content.index(b"PK\x01\x02"), len(content)):
        for value in (1, 255):
            damaged = bytearray(content)
            damaged[at] = value
            path.write_bytes(damaged)
            try:
                loaded = GaussianMixture.load(path)
            except ValueError:
                continue
            n_loaded += 1
            assert_equal(mixture, loaded)
    assert n_loaded > 100  # most of the directory says what means nothing here


# ---- files of version 1 ----------------------------------------------------------------------------------


def as_version_1(members):
    """Which lists no members, and in checkpoints the runs that have not begun among those that wait."""
    header = json.loads(members["header"].tobytes())
    header["version"] = 1
    del header["members"]
    if "waiting" in header:
        header["waiting"] += range(*header.pop("not_begun"))
    members["header"] = np.frombuffer(json.dumps(header).encode(), dtype=np.uint8)


@pytest.mark.parametrize("kind", KINDS[:2])
def test_files_of_version_1_are_read(saved, kind):
    path = saved(kind)
    new, old = read(kind, path), read(kind, rewritten(path, as_version_1, listed=False))
    if kind == "mixture":
        assert_equal(new, old)
    else:
        assert new.to_bytes() == old.to_bytes()


@pytest.mark.parametrize("after", [5, 20])  # in the first heat, and later
def test_checkpoints_of_version_1_are_read(tmp_path, monkeypatch, after):
    whole = fits.fit("race", checkpoint=tmp_path / "whole.npz")
    stopped(tmp_path / "fit.npz", "race", after, monkeypatch)
    old = rewritten(tmp_path / "fit.npz", as_version_1, listed=False)
    seal(old)
    assert fits.fit("race", checkpoint=old) == whole


@pytest.mark.parametrize("not_begun", [[0], [1, 0], [-1, 5], [0, 6], [0, True], "05", [0.0, 5]])
def test_runs_that_have_not_begun_are_checked(tmp_path, monkeypatch, not_begun):
    def change(members):
        header = json.loads(members["header"].tobytes())
        header["not_begun"] = not_begun
        members["header"] = np.frombuffer(json.dumps(header).encode(), dtype=np.uint8)

    stopped(tmp_path / "fit.npz", "race", 5, monkeypatch)
    forged = rewritten(tmp_path / "fit.npz", change)
    seal(forged)
    with pytest.raises(ValueError, match="not a valid checkpoint"):
        fits.fit("race", checkpoint=forged)


# ---- hostile headers -------------------------------------------------------------------------------------


def array_with(shape):
    """An array whose header has this in the place of its shape; what NumPy writes, but for that."""
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': ({shape}), }}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(16)


NESTED = {
    "minus": "-" * 9000 + "1,",
    "not": "not " * 2000 + "1,",
    "brackets": "(" * 5000 + ")" * 4000,
    "unclosed": "[" * 9000,
    "dictionaries": "{1:" * 3000,
    "digits": "9" * 9000 + ",",
    "sums": "1+" * 4000 + "1j,",
    "zeros": "0, " * 3000,
}


@pytest.mark.parametrize("name", NESTED)
def test_array_headers_that_no_parser_survives(saved, name):
    path = saved("mixture")
    changed = rewritten(path, lambda members: members.update(means_=array_with(NESTED[name])))
    with pytest.raises(ValueError, match=r"not a valid fastgmm file: the header of means_\.npy is malformed"):
        GaussianMixture.load(changed)
    with pytest.raises(ValueError, match="not fastgmm statistics"):
        Statistics.from_bytes(changed.read_bytes())


@pytest.mark.parametrize("name", NESTED)
def test_npy_files_whose_headers_no_parser_survives(tmp_path, name):
    path = tmp_path / "rows.npy"
    path.write_bytes(array_with(NESTED[name]))
    for source in (path, [path, path]):
        with pytest.raises(ValueError, match=r"rows\.npy"):
            NpyRows(source)


@pytest.mark.parametrize("text", [b"[" * 10**6, b'{"a":' * 10**6, b"-" * 10**6, b"[" * 10**6 + b"]" * 10**6])
def test_headers_that_no_parser_survives(saved, text):
    for kind in KINDS:
        changed = rewritten(
            saved(kind), lambda members: members.update(header=np.frombuffer(text, np.uint8)), listed=False
        )
        with pytest.raises(ValueError, match="not a"):
            read(kind, changed)


def test_a_header_too_large_for_memory_is_refused(saved, monkeypatch):
    """A few bytes of it become many objects."""

    def no_memory(text):
        raise MemoryError

    path = saved("mixture")
    monkeypatch.setattr(archive.json, "loads", no_memory)
    with pytest.raises(ValueError, match="the header is too large for memory"):
        GaussianMixture.load(path)


# ---- what a file may say of this machine -----------------------------------------------------------------


def test_a_file_does_not_choose_where_fits_write(tmp_path):
    chosen = tmp_path / "chosen"
    mixture = GaussianMixture(2, max_iter=3, tol=1.0, random_state=0).fit(X).set_params(checkpoint=chosen)
    mixture.save(tmp_path / "mixture.npz")
    assert b"chosen" not in (tmp_path / "mixture.npz").read_bytes()
    forged = rewritten(tmp_path / "mixture.npz", changed_parameters(checkpoint=str(chosen)))
    assert "chosen" in members_of(forged)["header"].tobytes().decode()
    for path in (tmp_path / "mixture.npz", forged):
        loaded = GaussianMixture.load(path)
        assert loaded.checkpoint is None
        assert loaded.checkpoint_every == mixture.checkpoint_every
        loaded.fit(X)
        assert not chosen.exists()


def test_archives_are_those_of_numpy(saved):
    """What this file forges is read by others, too: the list is one more entry of the header."""
    path = saved("mixture")
    with zipfile.ZipFile(path) as file:
        assert file.namelist()[0] == "header.npy"
    members = archive.read(io.BytesIO(path.read_bytes()), None)
    listed = json.loads(members["header"].tobytes())["members"]
    assert listed == [name for name in members if name != "header"]
