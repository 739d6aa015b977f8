"""Rows of .npy files, and which source a path is: headers, damage, changes meanwhile."""

from __future__ import annotations

import doctest
import io
import os
import pathlib

import numpy as np
import pytest
from streams import PART_ROWS, make_parts_small

from fastgmm import GaussianMixture, NpyRows
from fastgmm.sources import StreamedData, as_source, iterables
from fastgmm.sources import npy as npy_module
from fastgmm.sources.parts import N_BUFFERS


def rows(n=300, D=3, seed=0):
    return np.random.default_rng(seed).normal(size=(n, D))


def saved(folder, X, name="rows.npy"):
    path = folder / name
    np.save(path, X, allow_pickle=True)
    return path


def read(source):
    """All rows and weights, as a pass gets them."""
    parts = [
        (part.X.copy(), None if part.sample_weight is None else part.sample_weight.copy())
        for part in StreamedData(source, 1).parts()
    ]
    weights = [weight for _, weight in parts if weight is not None]
    return np.concatenate([X for X, _ in parts]), np.concatenate(weights) if weights else None


# ---- what is read ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize(
    "dtype", ["<f8", "<f4", ">f8", ">f4", "<f2", "<i8", "<i4", "|i1", "|u1", ">u2", "|b1", np.longdouble]
)
@pytest.mark.parametrize("piece", [1, 1000, 2 << 20])
def test_types_and_layouts(tmp_path, monkeypatch, dtype, order, piece):
    make_parts_small(monkeypatch)
    monkeypatch.setattr(npy_module, "PIECE_BYTES", piece)
    X = np.random.default_rng(0).integers(0, 2, (PART_ROWS + 50 if piece > 1 else 60, 3)).astype(dtype)
    source = NpyRows(saved(tmp_path, np.asarray(X, order=order)))
    found, _ = read(source)
    single = np.dtype(dtype).newbyteorder("=") == np.float32
    assert found.dtype == (np.float32 if single else np.float64)
    assert np.array_equal(found, X)
    assert (source.n_rows, source.n_features) == X.shape


def test_files_of_several_types_and_layouts_make_float64(tmp_path):
    X = np.arange(60.0).reshape(20, 3)
    paths = [
        saved(tmp_path, X[:5].astype(np.float32), "a.npy"),
        saved(tmp_path, np.asfortranarray(X[5:11]), "b.npy"),
        saved(tmp_path, X[11:11], "c.npy"),
        saved(tmp_path, X[11:].astype(int), "d.npy"),
    ]
    found, _ = read(NpyRows(paths))
    assert found.dtype == np.float64
    assert np.array_equal(found, X)


def test_one_column_and_no_rows(tmp_path):
    X = rows(20, 1)
    assert np.array_equal(read(NpyRows(saved(tmp_path, np.asfortranarray(X))))[0], X)
    with pytest.raises(ValueError, match=r"X has no rows"):
        GaussianMixture().fit(NpyRows(saved(tmp_path, X[:0])))


def test_second_format_version(tmp_path):
    X, content = rows(10), io.BytesIO()
    np.lib.format.write_array(content, X, version=(2, 0))
    (tmp_path / "rows.npy").write_bytes(content.getvalue())
    assert np.array_equal(read(NpyRows(tmp_path / "rows.npy"))[0], X)


def test_parts_are_whole_and_buffers_few(tmp_path, monkeypatch):
    make_parts_small(monkeypatch)
    X = rows(7 * PART_ROWS + 9)
    paths = [saved(tmp_path, X[first : first + 3000], f"{first}.npy") for first in range(0, len(X), 3000)]
    blocks = list(NpyRows(paths).blocks())
    assert [len(block.X) for block in blocks] == [PART_ROWS] * 7 + [9]
    assert [block.first for block in blocks] == list(range(0, len(X), PART_ROWS))
    assert len({block.X.__array_interface__["data"][0] for block in blocks}) == N_BUFFERS


def test_weights(tmp_path):
    X, w = rows(50), np.arange(50.0)
    path = saved(tmp_path, X)
    files = [saved(tmp_path, w[:20].astype(int), "w0.npy"), saved(tmp_path, w[20:], "w1.npy")]
    for weights in (w, list(w), w.astype(np.float32), files, saved(tmp_path, w, "w.npy")):
        assert np.array_equal(read(NpyRows(path, weights))[1], w)
        expected = GaussianMixture(2, random_state=0).fit(X, sample_weight=w)
        found = GaussianMixture(2, random_state=0).fit(str(path), sample_weight=weights)
        np.testing.assert_allclose(found.lower_bound_, expected.lower_bound_, rtol=1e-6)
        assert found.score(path, sample_weight=weights) == pytest.approx(
            found.score(X, sample_weight=w), rel=1e-12
        )


# ---- what is refused, before any work --------------------------------------------------------------------

BAD = {
    "1-D": (np.zeros(3), r"array of rows, 2-D, but it is 1-D: \(3,\)"),
    "3-D": (np.zeros((3, 2, 2)), r"2-D, but it is 3-D"),
    "objects": (np.array([[1.0, None]], dtype=object), "dtype is object. Objects would have to be unpickled"),
    "complex": (np.zeros((3, 2), dtype=complex), "real numbers, but its dtype is complex128"),
    "text": (np.array([["a"]]), "real numbers, but its dtype is <U1"),
    "dates": (np.zeros((3, 2), dtype="M8[s]"), "dtype is datetime64"),
    "fields": (np.zeros((3, 2), dtype=[("a", "f8")]), "real numbers, but its dtype is"),
    "no columns": (np.zeros((3, 0)), "0 features"),
}


@pytest.mark.parametrize("name", BAD)
def test_arrays_that_are_no_rows(tmp_path, name):
    array, message = BAD[name]
    path = saved(tmp_path, array)
    with pytest.raises(ValueError, match=f"rows.npy .*{message}"):
        NpyRows(path)


@pytest.mark.parametrize("change", [-1, -100, 1, 5000])
def test_files_shorter_or_longer_than_their_headers_say(tmp_path, change):
    path = saved(tmp_path, rows())
    whole = path.stat().st_size
    content = path.read_bytes()
    path.write_bytes(content[:change] if change < 0 else content + bytes(change))
    with pytest.raises(
        ValueError, match=rf"rows.npy should have {whole} bytes .*but it has {whole + change}"
    ):
        NpyRows(path)


@pytest.mark.parametrize(
    "content", [b"", b"\x93NUM", b"no array at all", b"\x93NUMPY\x01\x00\xff\xff{'descr'"]
)
def test_files_that_are_no_npy(tmp_path, content):
    path = tmp_path / "rows.npy"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"rows.npy is not a .npy file of numbers"):
        NpyRows(path)


def test_missing_files_folders_and_pipes(tmp_path):
    with pytest.raises(ValueError, match=r"none.npy cannot be read: No such file"):
        NpyRows([saved(tmp_path, rows()), tmp_path / "none.npy"])
    with pytest.raises(ValueError, match=r"is a directory: a file is expected"):
        NpyRows(tmp_path)
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.npy")
        with pytest.raises(ValueError, match=r"pipe.npy is not a regular file"):
            NpyRows(tmp_path / "pipe.npy")


def test_columns_and_weights_must_fit(tmp_path):
    path, other = saved(tmp_path, rows(5)), saved(tmp_path, rows(5, 2), "other.npy")
    with pytest.raises(ValueError, match=r"other.npy has 2 columns, but .*rows.npy has 3"):
        NpyRows([path, other])
    with pytest.raises(ValueError, match=r"w.npy has 4 weights, but .*rows.npy has 5 rows"):
        NpyRows(path, saved(tmp_path, np.ones(4), "w.npy"))
    with pytest.raises(ValueError, match=r"array of weights, 1-D, but it is 2-D"):
        NpyRows(path, saved(tmp_path, np.ones((5, 1)), "w.npy"))
    with pytest.raises(ValueError, match=r"sample_weight.shape == \(4,\), expected \(5,\)"):
        NpyRows(path, np.ones(4))
    for wrong in (3, None, [path, 3]):
        with pytest.raises(TypeError, match=r"paths must be a path or a list of paths"):
            NpyRows(wrong)
    with pytest.raises(ValueError, match=r"empty list"):
        NpyRows([])


def test_not_finite_numbers_and_bad_weights_are_found(tmp_path):
    X = rows(50)
    X[31, 1] = np.nan
    paths = [saved(tmp_path, X[:30], "a.npy"), saved(tmp_path, X[30:], "b.npy")]
    with pytest.raises(ValueError, match=r"nan in row 1 of .*b.npy, column 1"):
        GaussianMixture(2).fit(paths)
    with pytest.raises(ValueError, match=r"nan in row 31, column 1"):
        GaussianMixture(2).fit(saved(tmp_path, X))
    weight = np.ones(50)
    weight[12] = -1
    with pytest.raises(ValueError, match=r"non-negative, but it is -1.0 for row 12"):
        GaussianMixture(2).fit(saved(tmp_path, rows(50)), sample_weight=saved(tmp_path, weight, "w.npy"))


# ---- what happens during a fit ---------------------------------------------------------------------------


def truncate(path):
    os.truncate(path, path.stat().st_size // 2)


def replace(path):
    other = path.with_name("other.npy")
    np.save(other, rows(70_000, seed=9))
    os.replace(other, path)


def remove(path):
    path.unlink()


@pytest.mark.parametrize("harm", [truncate, replace, remove])
@pytest.mark.parametrize("when", [1, 9])
def test_files_that_change_during_a_fit(tmp_path, monkeypatch, harm, when):
    """A clear error, no signal; the attributes stay. `when`: in the survey, or between passes."""
    make_parts_small(monkeypatch)
    path = saved(tmp_path, rows(50_000))
    mixture = GaussianMixture(2, random_state=0).fit(rows()).set_params(tol=0.0)
    before = mixture.means_.tobytes(), mixture.n_features_in_
    source, n_read = NpyRows(path), 0
    blocks = NpyRows.blocks

    def harmed(self):
        nonlocal n_read
        for block in blocks(self):
            n_read += 1
            if n_read == (when if when == 1 else 13 * when):
                harm(path)
            yield block

    monkeypatch.setattr(NpyRows, "blocks", harmed)
    with pytest.raises(
        ValueError, match=r"rows\.npy (ends after \d+ bytes, while|has changed|cannot be read)"
    ):
        mixture.fit(source)
    assert (mixture.means_.tobytes(), mixture.n_features_in_) == before


def test_a_later_file_that_changes_while_the_first_is_read(tmp_path, monkeypatch):
    make_parts_small(monkeypatch)
    first, second = (saved(tmp_path, rows(PART_ROWS), f"{i}.npy") for i in range(2))
    blocks = NpyRows([first, second]).blocks()
    next(blocks)
    np.save(second, rows(PART_ROWS + 1))
    with pytest.raises(ValueError, match=r"1\.npy has changed since it was looked at first: it had"):
        next(blocks)


# ---- which source a path is ------------------------------------------------------------------------------


def test_paths_of_any_kind(tmp_path):
    X = rows()
    path = saved(tmp_path, X)
    expected = GaussianMixture(2, random_state=0).fit(NpyRows(path))
    for given in (str(path), path, [path], (str(path),), pathlib.PurePath(path)):
        assert isinstance(as_source(given), NpyRows)
        found = GaussianMixture(2, random_state=0).fit(given)
        assert found.means_.tobytes() == expected.means_.tobytes()
    upper = saved(tmp_path, X, "UPPER.npy").rename(tmp_path / "UPPER.NPY")
    assert isinstance(as_source(upper), NpyRows)


@pytest.mark.parametrize(
    ("X", "message"),
    [
        ("rows.csv", r"'rows.csv' is text, which is taken for the name of a file, and ends neither in .npy"),
        ("rows", "Read other files yourself, and pass an array or a BlockRows"),
        (["a.npy", "b.parquet"], "endings '.npy', '.parquet'; they must be of one format"),
        ("none.npy", "none.npy cannot be read: No such file"),
    ],
)
def test_other_paths_are_refused(X, message):
    mixture = GaussianMixture.from_parameters([1.0], [[0.0]], [[[1.0]]])
    for call in (GaussianMixture().fit, mixture.predict, mixture.bic):
        with pytest.raises(ValueError, match=message):
            call(X)


def test_weights_beside_a_source_are_refused(tmp_path):
    source = NpyRows(saved(tmp_path, rows()))
    with pytest.raises(
        TypeError, match=r"sample_weight cannot be given beside X = NpyRows.*NpyRows\(weights"
    ):
        GaussianMixture().fit(source, sample_weight=np.ones(300))


@pytest.mark.parametrize("module", [npy_module, iterables])
def test_examples(module):
    assert doctest.testmod(module).failed == 0
