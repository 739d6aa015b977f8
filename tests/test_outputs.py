"""Outputs per row, of arrays and of sources: to new arrays, to the caller's, to files."""

from __future__ import annotations

import numpy as np
import pytest
from streams import PART_ROWS, make_parts_small

from fastgmm import BlockRows, GaussianMixture, NpyRows
from fastgmm.scorer import Scorer

METHODS = ("score_samples", "predict", "predict_proba", "log_prob_components")
N, D, K = 2 * PART_ROWS + 300, 2, 3


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch):
    make_parts_small(monkeypatch)


@pytest.fixture
def X():
    return np.random.default_rng(0).normal(size=(N, D))


@pytest.fixture
def mixture(X):
    means = [[-1.0, 0.0], [0.0, 1.0], [2.0, -1.0]]
    return GaussianMixture.from_parameters([0.2, 0.5, 0.3], means, [np.eye(D)] * K)


def sources(X, folder):
    np.save(folder / "rows.npy", X)
    weight = np.zeros(N)  # rows of weight 0 have outputs, too
    weight[:5] = 1.0
    return {
        "array": X,
        "path": folder / "rows.npy",
        "weighted": NpyRows(folder / "rows.npy", weight),
        "blocks": BlockRows(lambda: iter([X[:7], X[7:4100], X[4100:]])),  # nobody knows how many rows
    }


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("source", ["array", "path", "weighted", "blocks"])
def test_same_outputs_everywhere(method, source, mixture, X, tmp_path):
    expected = getattr(mixture, method)(X)
    given = sources(X, tmp_path)[source]
    call = getattr(mixture, method)
    strided = np.empty((2 * N, *expected.shape[1:]), expected.dtype)
    fortran = np.empty(expected.shape[::-1], expected.dtype).T
    for out in (None, np.empty_like(expected), strided[::2], fortran):
        found = call(given, out=out)
        assert out is None or found is out
        assert found.dtype == expected.dtype
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)
    path = tmp_path / "out.npy"
    found = call(given, out=path)
    assert isinstance(found, np.memmap)
    assert not found.flags.writeable
    whole = np.load(path, allow_pickle=False)
    assert (whole.shape, whole.dtype) == (expected.shape, expected.dtype)
    np.testing.assert_allclose(whole, expected, rtol=1e-12, atol=1e-12)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["out.npy", "rows.npy"]


def test_fit_predict_labels_all_rows(mixture, X, tmp_path):
    given = sources(X, tmp_path)
    options = {"means_init": mixture.means_, "max_iter": 50, "tol": 1e-2}
    for name in ("path", "blocks"):
        other = GaussianMixture(K, **options)
        labels = other.fit_predict(given[name])
        assert np.array_equal(labels, other.predict(X))


@pytest.mark.parametrize("method", ["score", "bic", "aic", "icl"])
def test_sums_over_rows(method, mixture, X, tmp_path):
    w = np.random.default_rng(1).uniform(size=N)
    given = sources(X, tmp_path)
    call = getattr(mixture, method)
    for name in ("path", "blocks"):
        assert call(given[name]) == pytest.approx(call(X), rel=1e-12)
    assert call(given["path"], sample_weight=w) == pytest.approx(call(X, sample_weight=w), rel=1e-12)
    assert call(NpyRows(given["path"], w)) == pytest.approx(call(X, sample_weight=w), rel=1e-12)


@pytest.mark.parametrize("largest", [1e-200, 1e300])
def test_weights_out_of_range_are_refused_as_in_memory(largest, mixture, X):
    w = np.full(N, largest)
    for call in (mixture.score, mixture.bic):
        with pytest.raises(ValueError, match=r"largest sample_weight is"):
            call(X, sample_weight=w)
        with pytest.raises(ValueError, match=r"largest weight is"):
            call(BlockRows([(X, w)], weighted=True))


# ---- what is refused, before any work --------------------------------------------------------------------


class Untouched:
    """No row is scored."""

    def __call__(self, *args, **kwargs):
        raise AssertionError("rows were scored")


@pytest.mark.parametrize("source", ["array", "path"])
def test_bad_arrays(source, mixture, X, tmp_path, monkeypatch):
    given = sources(X, tmp_path)[source]
    monkeypatch.setattr(Scorer, "_write", Untouched())
    read_only = np.empty(N)
    read_only.flags.writeable = False
    for out, kind, message in [
        (np.empty(N - 1), ValueError, r"out has the shape \(8491,\), expected \(8492,\)"),
        (np.empty((N, 1)), ValueError, r"out has the shape"),
        (np.empty(N, np.float32), ValueError, r"out has the dtype float32, but score_samples gives float64"),
        (read_only, ValueError, r"out is read-only"),
        ([0.0] * N, TypeError, r"out must be an ndarray or the name of a file"),
        (tmp_path / "out.txt", ValueError, r"out\.txt' must end in \.npy"),
        (tmp_path / "none" / "out.npy", ValueError, r"out\.npy' cannot be written: No such file"),
    ]:
        with pytest.raises(kind, match=message):
            mixture.score_samples(given, out=out)
    with pytest.raises(ValueError, match=r"out has the dtype float64, but predict gives int64"):
        mixture.predict(given, out=np.empty(N))
    with pytest.raises(ValueError, match=r"expected \(8492, 3\) for predict_proba"):
        mixture.predict_proba(given, out=np.empty((N, 2)))


def test_out_must_not_be_the_rows(X):
    mixture = GaussianMixture.from_parameters([0.5, 0.5], [[0.0, 0.0], [1.0, 1.0]], [np.eye(2)] * 2)
    with pytest.raises(ValueError, match=r"out shares memory with X"):
        mixture.predict_proba(X, out=X)


def test_out_must_not_be_a_block(X):
    """Outputs of the first rows take the place of rows that are yet to be read."""
    mixture = GaussianMixture.from_parameters([0.5, 0.5], [[0.0, 0.0], [1.0, 1.0]], [np.eye(2)] * 2)
    with pytest.raises(ValueError, match=r"out shares memory with X"):
        mixture.score_samples(BlockRows([X]), out=X.reshape(-1)[N:])


@pytest.mark.parametrize(
    ("n", "message"), [(N - 1, "room for 8491 rows, but X has more"), (N + 1, "8493 rows, but X has 8492")]
)
def test_arrays_for_nobody_knows_how_many_rows(n, message, mixture, X, tmp_path):
    with pytest.raises(ValueError, match=message):
        mixture.predict(sources(X, tmp_path)["blocks"], out=np.empty(n, np.int64))


# ---- files -----------------------------------------------------------------------------------------------


def test_a_file_is_whole_or_as_it_was(mixture, X, tmp_path, monkeypatch):
    path = tmp_path / "out.npy"
    np.save(path, np.arange(3))
    write, n_calls = Scorer._write, 0

    def interrupted(self, *args, **kwargs):
        nonlocal n_calls
        n_calls += 1
        if n_calls == 2:
            raise KeyboardInterrupt
        write(self, *args, **kwargs)

    monkeypatch.setattr(Scorer, "_write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        mixture.predict(X, out=path)
    assert np.array_equal(np.load(path), np.arange(3))
    assert [each.name for each in tmp_path.iterdir()] == ["out.npy"]


def test_bad_rows_leave_no_file(mixture, X, tmp_path):
    blocks = [X[:5000], X[5000:].copy()]
    blocks[1][-1, 0] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        mixture.predict_proba(blocks, out=tmp_path / "out.npy")
    with pytest.raises(ValueError, match="no rows"):
        mixture.predict(lambda: iter([]), out=tmp_path / "out.npy")
    assert not list(tmp_path.iterdir())


def test_memory_does_not_grow_with_components(mixture, X, tmp_path, monkeypatch):
    """Rows are scored so many at a time that their outputs fill a part, not the rows."""
    most = 0
    write = Scorer._write

    def watched(self, rows, *arguments):
        nonlocal most
        most = max(most, len(rows))
        write(self, rows, *arguments)

    monkeypatch.setattr(Scorer, "_write", watched)
    mixture.predict_proba(X, out=tmp_path / "out.npy")
    assert most == PART_ROWS
