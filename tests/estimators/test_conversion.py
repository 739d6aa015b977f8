"""To and from scikit-learn's GaussianMixture."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn.mixture

from fastgmm import GaussianMixture

ARRAYS = ("weights_", "means_", "covariances_", "precisions_", "precisions_cholesky_")
OTHERS = ("converged_", "n_iter_", "lower_bound_", "lower_bounds_", "n_features_in_")


def test_to_scikit_learn(fitted, rows):
    theirs = fitted.to_sklearn()
    assert type(theirs) is sklearn.mixture.GaussianMixture
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(theirs, name), getattr(fitted, name))
        assert getattr(theirs, name) is not getattr(fitted, name)
    for name in OTHERS:
        assert getattr(theirs, name) == getattr(fitted, name)
    params = fitted.get_params()
    for name, value in theirs.get_params().items():
        assert value is params[name]
    np.testing.assert_allclose(theirs.score_samples(rows), fitted.score_samples(rows), rtol=1e-9)
    theirs.means_ += 1
    assert not np.array_equal(theirs.means_, fitted.means_)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_from_scikit_learn(rows, covariance_type, dtype):
    theirs = sklearn.mixture.GaussianMixture(3, covariance_type=covariance_type, random_state=1, tol=1e-2)
    theirs.fit(rows.astype(dtype))
    ours = GaussianMixture.from_sklearn(theirs, n_jobs=2)
    assert ours.n_jobs == 2
    assert ours.random_state == 1
    assert ours.tol == 1e-2
    for name in ARRAYS:
        assert getattr(ours, name).dtype == np.float64
        rtol = 0 if dtype == np.float64 else 1e-3
        np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name), rtol=rtol)
    for name in OTHERS:
        if name != "lower_bounds_" or hasattr(theirs, name):  # which is younger than scikit-learn 1.6
            assert getattr(ours, name) == getattr(theirs, name)
    assert type(ours.lower_bound_) is float
    np.testing.assert_allclose(ours.score_samples(rows), theirs.score_samples(rows), rtol=1e-4)
    if dtype == np.float64:
        np.testing.assert_array_equal(ours.sample(20)[0], theirs.sample(20)[0])
    assert ours.sample(20)[0].dtype == np.float64
    ours.set_params(warm_start=True).fit(rows)


def test_there_and_back(fitted, rows, tmp_path):
    again = GaussianMixture.from_sklearn(fitted.to_sklearn())
    np.testing.assert_array_equal(again.predict_proba(rows), fitted.predict_proba(rows))
    again.save(tmp_path / "mixture")


def test_feature_names(rows):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(rows, columns=["width", "height"])
    theirs = GaussianMixture(2, random_state=0).fit(frame).to_sklearn()
    assert list(theirs.feature_names_in_) == ["width", "height"]
    assert list(GaussianMixture.from_sklearn(theirs).feature_names_in_) == ["width", "height"]


def test_not_fitted():
    theirs = GaussianMixture(4, tol=1e-5).to_sklearn()
    assert (theirs.n_components, theirs.tol) == (4, 1e-5)
    assert not hasattr(theirs, "means_")
    ours = GaussianMixture.from_sklearn(theirs)
    assert not hasattr(ours, "means_")
    assert not hasattr(ours, "history_")


def test_other_classes_are_refused():
    with pytest.raises(
        TypeError, match=r"must be a sklearn.mixture.GaussianMixture, got .*BayesianGaussianMixture"
    ):
        GaussianMixture.from_sklearn(sklearn.mixture.BayesianGaussianMixture())
