"""Variances that are reg_covar and little else are told of; ordinary data and constant columns are not."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from sklearn import datasets
from sklearn.exceptions import ConvergenceWarning

from fastgmm import (
    BayesianGaussianMixture,
    BlockRows,
    GaussianMixture,
    MiniBatchGaussianMixture,
    RegularizationWarning,
)


def with_many_zeros(n=4000, seed=0):
    """Months since something, 0 for a tenth of the rows, and a feature that depends on it a little."""
    rng = np.random.default_rng(seed)
    months = np.maximum(rng.normal(20.0, 15.0, n), 0.0)
    return np.c_[months, rng.normal(size=n) + 0.02 * months]


def small_units(n=500, seed=0, unit=1e-5):
    """Two clusters ten standard deviations apart, in one feature of a large unit."""
    rng = np.random.default_rng(seed)
    return unit * (rng.normal(size=(n, 1)) + 10.0 * (np.arange(n)[:, None] % 2))


def messages_of(call):
    """Texts of the warnings of this kind; there is no other, but of fits that did not converge."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    assert {warning.category for warning in caught} <= {RegularizationWarning, ConvergenceWarning}
    assert {warning.filename for warning in caught} <= {__file__}
    return [str(warning.message) for warning in caught if warning.category is RegularizationWarning]


def message_of(call):
    """The one such text."""
    (message,) = messages_of(call)
    return message


# ---- components that sit on one value ----------------------------------------------------------------------


@pytest.mark.parametrize("covariance_type", ["full", "diag"])
def test_rows_that_share_a_value(covariance_type):
    X = with_many_zeros()
    mixture = GaussianMixture(6, covariance_type=covariance_type, random_state=0)
    message = message_of(lambda: mixture.fit(X))
    variances = mixture.covariances_[:, 0] if covariance_type == "diag" else mixture.covariances_[:, 0, 0]
    k = int(np.argmin(variances))
    assert variances[k] == pytest.approx(mixture.reg_covar, rel=1e-6)
    assert f"feature 0 in component {k} ({100 * mixture.weights_[k]:.3g} % of the rows)" in message
    assert "feature 1" not in message
    for remedy in ("smaller reg_covar", "another unit", "prior='conjugate'"):
        assert remedy in message


def test_the_name_of_the_feature():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(with_many_zeros(), columns=["months", "other"])
    for X in (frame, BlockRows([frame[:1000], frame[1000:]])):
        assert "feature 'months' in component" in message_of(
            lambda X=X: GaussianMixture(6, random_state=0).fit(X)
        )


def test_remedies_end_the_warning():
    X = with_many_zeros()
    mixture = GaussianMixture(6, random_state=0, prior="conjugate")
    assert not messages_of(lambda: mixture.fit(X))
    assert mixture.covariances_[:, 0, 0].min() > 10 * mixture.reg_covar
    for reg_covar in (1e-14, 0.0):
        tight = GaussianMixture(2, random_state=0, reg_covar=reg_covar)
        assert not messages_of(lambda tight=tight: tight.fit(small_units()))
        np.testing.assert_allclose(np.sort(tight.means_.ravel()), [0.0, 1e-4], atol=3e-6)


@pytest.mark.parametrize(("share", "told"), [(0.9, True), (1.1, False)])
def test_half_of_the_variance(share, told):
    """A component is told of where no more than half of its variance is its rows'."""
    rng = np.random.default_rng(0)
    z = rng.normal(size=2000)
    z = (z - z.mean()) / z.std()
    X = np.r_[np.sqrt(share * 1e-6) * z, 5.0 + z][:, None]
    assert bool(messages_of(lambda: GaussianMixture(2, random_state=0).fit(X))) is told


def test_weights_of_rows_count():
    X = np.unique(with_many_zeros(), axis=0)
    weights = np.ones(len(X))
    weights[X[:, 0] == 0] = 0.0
    mixture = GaussianMixture(6, random_state=0)
    assert not messages_of(lambda: mixture.fit(X, sample_weight=weights))
    assert message_of(lambda: mixture.fit(X, sample_weight=np.ones(len(X))))


def test_tied_covariances_are_one():
    """A feature that says which component a row is of has no variance within any."""
    X = with_many_zeros()
    X[:, 0] = 100.0 * (X[:, 1] > 0)
    mixture = GaussianMixture(2, covariance_type="tied", random_state=0)
    assert "feature 0 in all components." in message_of(lambda: mixture.fit(X))


def test_correlation_is_no_matter_of_single_features():
    """Columns that depend on each other make covariances singular, but have variances."""
    X = with_many_zeros()[:, [1, 1]]
    X = np.c_[X, X.sum(axis=1)]
    mixture = GaussianMixture(2, random_state=0)
    assert not messages_of(lambda: mixture.fit(X))
    assert np.linalg.eigvalsh(mixture.covariances_).min() < 2 * mixture.reg_covar


def test_few_rows():
    """Ten rows tell, nine do not: they may be equal by chance, or for want of others."""
    rng = np.random.default_rng(0)
    for n, told in ((9, False), (10, True)):
        X = np.r_[np.c_[np.full(n, 50.0), 100.0 + rng.normal(size=n)], rng.normal(size=(200, 2))]
        assert bool(messages_of(lambda X=X: GaussianMixture(2, random_state=0).fit(X))) is told
    X = np.array([[1.0, 2], [1, 4], [1, 0], [10, 2], [10, 4], [10, 0]])  # scikit-learn's example
    assert not messages_of(lambda: GaussianMixture(2, random_state=0).fit(X))


def test_many_features_are_counted():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(500, 8)) * (np.arange(500)[:, None] % 2)
    message = message_of(lambda: GaussianMixture(2, covariance_type="diag", random_state=0).fit(X))
    assert message.count(" in component ") == 5
    assert "and 3 more features" in message


# ---- units -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("unit", [1e-5, 1e-3, 1e-19])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_units_beside_which_reg_covar_is_large(covariance_type, unit, dtype):
    X = small_units(unit=unit if unit != 1e-3 else 5e-4).astype(dtype)
    mixture = GaussianMixture(2, covariance_type=covariance_type, random_state=0)
    message = message_of(lambda: mixture.fit(X))
    assert f"less than 10 times reg_covar: feature 0 ({X.var(dtype=np.float64):.2g})" in message


@pytest.mark.parametrize(("times", "told"), [(9.0, True), (11.0, False)])
def test_ten_times_reg_covar(times, told, covariance_type):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(1000, 2))
    X = np.sqrt(times * 1e-6) * (X - X.mean(axis=0)) / X.std(axis=0)
    mixture = GaussianMixture(covariance_type=covariance_type, random_state=0)
    assert bool(messages_of(lambda: mixture.fit(X))) is told


def test_spherical_variances_are_means_over_features():
    """A feature of small unit counts for nothing in them, whatever reg_covar is."""
    X = np.c_[np.random.default_rng(0).normal(size=500), small_units(500)]
    assert not messages_of(lambda: GaussianMixture(2, covariance_type="spherical", random_state=0).fit(X))
    assert message_of(lambda: GaussianMixture(2, covariance_type="diag", random_state=0).fit(X))


def test_one_warning_for_both_kinds():
    X = np.c_[with_many_zeros(500), small_units(500)]
    message = message_of(lambda: GaussianMixture(6, random_state=0).fit(X))
    assert "feature 0 in" in message
    assert "reg_covar: feature 2 (" in message
    assert "feature 2 in" not in message


@pytest.mark.parametrize("source", ["blocks", "files", "update", "mini-batch", "stream", "variational"])
def test_wherever_rows_come_from(source, tmp_path, covariance_type):
    X = small_units()
    mixture = GaussianMixture(2, covariance_type=covariance_type, random_state=0)
    if source == "blocks":
        message = message_of(lambda: mixture.fit([X[:200], X[200:]]))
    elif source == "files":
        np.save(tmp_path / "rows.npy", X)
        message = message_of(lambda: mixture.fit(str(tmp_path / "rows.npy")))
    elif source == "update":
        assert not messages_of(lambda: mixture.set_params(max_iter=0).fit(X))
        statistics = [mixture.accumulate(X)]
        assert not messages_of(lambda: mixture.update(statistics[0]))
        message = message_of(lambda: mixture.update(mixture.accumulate(X)))
        assert mixture.converged_
    elif source == "mini-batch":
        batches = MiniBatchGaussianMixture(2, covariance_type=covariance_type, random_state=0)
        message = message_of(lambda: batches.fit(X))
    elif source == "stream":
        batches = MiniBatchGaussianMixture(2, covariance_type=covariance_type, random_state=0)
        assert not messages_of(lambda: batches.partial_fit(X[:10]))  # waits for more
        message = message_of(lambda: batches.partial_fit(X[10:100]))
        assert not messages_of(lambda: batches.partial_fit(X[100:]))  # once in a stream
    else:
        bayesian = BayesianGaussianMixture(n_components=2, covariance_type=covariance_type, max_iter=500)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            bayesian.fit(X)
        (message,) = [str(w.message) for w in caught if w.category is RegularizationWarning]
        assert "larger covariance_prior" in message
    assert "feature 0 (" in message


def test_on_a_dask_collection():
    array = pytest.importorskip("dask.array")
    X = array.from_array(small_units(), chunks=(100, 1))
    assert "feature 0 (" in message_of(lambda: GaussianMixture(2, random_state=0).fit(X))


def test_each_fit_tells_again():
    mixture = GaussianMixture(2, random_state=0, warm_start=True)
    for _ in range(2):
        assert message_of(lambda: mixture.fit(small_units()))


# ---- what is ordinary --------------------------------------------------------------------------------------


def test_constant_columns(covariance_type):
    """They tell nothing, and every model has reg_covar there. Beside them others are still told of."""
    rng = np.random.default_rng(0)
    constant = np.c_[np.zeros(1000), np.ones(1000), np.full(1000, 1e8 + 0.1)]
    X = np.c_[rng.normal(size=(1000, 2)), constant]
    for kind in (GaussianMixture(3, random_state=0), MiniBatchGaussianMixture(3, random_state=0)):
        kind.set_params(covariance_type=covariance_type)
        for rows in (X, X.astype(np.float32), [X[:500], X[500:]]):
            assert not messages_of(lambda kind=kind, rows=rows: kind.fit(rows))
    mixture = GaussianMixture(2, covariance_type=covariance_type, max_iter=0, random_state=0).fit(X)
    assert not messages_of(lambda: [mixture.update(mixture.accumulate(X)) for _ in range(30)])
    assert not messages_of(lambda: GaussianMixture(covariance_type=covariance_type).fit(constant[:, :2]))
    if covariance_type in ("full", "diag"):
        X = np.c_[constant, with_many_zeros(1000)]
        message = message_of(
            lambda: GaussianMixture(6, covariance_type=covariance_type, random_state=0).fit(X)
        )
        assert "feature 3 in component" in message
        assert "more features" not in message


@pytest.mark.parametrize("name", ["iris", "wine"])
def test_data_sets_that_all_know(name, covariance_type):
    X = getattr(datasets, f"load_{name}")().data
    for n_components in (1, 2, 3):
        mixture = GaussianMixture(n_components, covariance_type=covariance_type, random_state=0)
        assert not messages_of(lambda mixture=mixture: mixture.fit(X))


def test_breast_cancer_has_two_small_features():
    pytest.importorskip("pandas")
    X = datasets.load_breast_cancer(as_frame=True).data
    message = message_of(lambda: GaussianMixture(2, random_state=0).fit(X))
    assert "feature 'smoothness error' (9e-06), feature 'fractal dimension error' (7e-06)" in message
    assert " in component" not in message


def test_pixels_that_are_always_black():
    """Three pixels of the digits are constant; components have others at 0 in all of their rows."""
    X = datasets.load_digits().data
    assert not messages_of(lambda: GaussianMixture(1).fit(X))
    message = message_of(lambda: GaussianMixture(10, random_state=0).fit(X))
    for pixel in np.flatnonzero(np.ptp(X, axis=0) == 0):
        assert f"feature {pixel} " not in message
