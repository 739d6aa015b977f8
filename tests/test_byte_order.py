"""Rows of foreign byte order are the same numbers: they give the same bits, whatever they come in."""

import numpy as np
import pytest

import fastgmm.sources
from fastgmm import BayesianGaussianMixture, BlockRows, GaussianMixture, MiniBatchGaussianMixture, NpyRows

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

KINDS = ("f4", "f8", "f2", "i4")
STARTS = ("kmeans", "k-means++", "random", "random_from_data")
FITTED = ("weights_", "means_", "covariances_", "precisions_cholesky_")


def rows(kind, n=3000):
    X = np.random.default_rng(0).normal(size=(n, 3)) * 20
    X[: n // 3] += 90
    return X.astype(kind)


def foreign(X):
    swapped = X.astype(X.dtype.newbyteorder())
    assert not swapped.dtype.isnative
    return swapped


def fitted(X, estimator=GaussianMixture, **options):
    options = {"random_state": 0, "max_iter": 4, "arithmetic": "float32", **options}
    return estimator(n_components=3, **options).fit(X)


def assert_same(found, expected):
    for name in FITTED:
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    if hasattr(expected, "history_"):
        assert found.lower_bound_ == expected.lower_bound_
        assert found.history_.get("pairs_single") == expected.history_.get("pairs_single")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("init_params", STARTS)
def test_a_fit_has_the_bits_of_native_rows(kind, init_params):
    X = rows(kind)
    expected = fitted(X, init_params=init_params)
    assert_same(fitted(foreign(X), init_params=init_params), expected)
    if init_params == "kmeans":  # from there float32 is good enough, and was used where it should be
        assert bool(sum(expected.history_["pairs_single"])) == (kind == "f4")


def test_other_estimators_too():
    X = rows("f4")
    assert_same(*(fitted(x, BayesianGaussianMixture) for x in (foreign(X), X)))
    for method in ("fit", "partial_fit"):
        found, expected = (
            getattr(MiniBatchGaussianMixture(3, max_iter=1, random_state=0), method)(x)
            for x in (foreign(X), X)
        )
        assert_same(found, expected)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layout", ["C", "F", "strided"])
def test_outputs_have_the_bits_of_native_rows(kind, layout):
    X = rows(kind)
    mixture = fitted(X)
    swapped = foreign(X)
    swapped = (
        np.repeat(swapped, 2, axis=1)[:, ::2] if layout == "strided" else np.array(swapped, order=layout)
    )
    for method in ("score_samples", "predict", "predict_proba"):
        np.testing.assert_array_equal(getattr(mixture, method)(swapped), getattr(mixture, method)(X))
    assert mixture.score(swapped) == mixture.score(X)
    statistics = [mixture.accumulate(x).to_bytes() for x in (swapped, X)]
    assert statistics[0] == statistics[1]


@pytest.mark.parametrize("kind", ["f4", "f8", "f2"])
def test_files_and_memory_maps(kind, tmp_path, monkeypatch):
    X = rows(kind)
    for name, x in (("foreign", foreign(X)), ("native", X)):
        np.save(tmp_path / f"{name}.npy", x)
    assert_same(*(fitted(NpyRows(tmp_path / f"{name}.npy")) for name in ("foreign", "native")))
    for largest in (fastgmm.sources.LARGEST_AT_ONCE, 0):  # as an array in memory, and part by part
        monkeypatch.setattr(fastgmm.sources, "LARGEST_AT_ONCE", largest)
        mapped = [np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in ("foreign", "native")]
        assert_same(*map(fitted, mapped))


@pytest.mark.parametrize("kind", ["f4", "f8", "f2"])
def test_blocks(kind):
    X = rows(kind)
    blocks = np.array_split(X, 3)
    expected = fitted(BlockRows(blocks))
    assert_same(fitted(BlockRows([foreign(block) for block in blocks])), expected)
    # all blocks need not have the same byte order
    assert_same(fitted(BlockRows([foreign(blocks[0]), *blocks[1:]])), expected)


@pytest.mark.parametrize("kind", ["f4", "f8"])
def test_frames(kind):
    pd = pytest.importorskip("pandas")
    X = rows(kind)
    frames = [pd.DataFrame({name: x[:, i] for i, name in enumerate("abc")}) for x in (foreign(X), X)]
    assert_same(*map(fitted, frames))
    np.testing.assert_array_equal(*(fitted(X).predict_proba(x) for x in (foreign(X), X)))


def test_weights_of_rows_and_given_parameters():
    X = rows("f4")
    weights = np.random.default_rng(1).uniform(size=len(X)).astype("f4")
    # of float32, probabilities need to sum to 1 to float32's digits only
    shares = np.array([0.2, 0.3, 0.5], dtype="f4") * np.float32(1 + 3e-7)
    assert 1e-8 < abs(shares.astype(float).sum() - 1) < 1e-6
    made = [
        GaussianMixture(3, weights_init=view(shares), means_init=view(X[:3]), max_iter=3, random_state=0).fit(
            view(X), sample_weight=view(weights)
        )
        for view in (foreign, np.asarray)
    ]
    assert_same(*made)


def test_a_scorer_takes_them():
    X = rows("f4")
    scorer = fitted(X).scorer()
    np.testing.assert_array_equal(scorer.score_samples(foreign(X)), scorer.score_samples(X))


def test_what_is_not_finite_is_found():
    X = rows("f4", 40)
    X[7, 1] = np.nan
    with pytest.raises(ValueError, match="row 7, column 1"):
        fitted(foreign(X))
    with pytest.raises(ValueError, match="column 1"):
        fitted(BlockRows([foreign(X)]))
