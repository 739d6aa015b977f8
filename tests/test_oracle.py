"""The reference is judged too: by mpmath, by SciPy and by scikit-learn, on data where these are good."""

from __future__ import annotations

import datasets
import mpmath
import numpy as np
import oracle
import pytest
from running import bounds_beside
from scipy.special import logsumexp
from scipy.stats import multivariate_normal
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture as Peer


def model_and_rows(covariance_type, n_rows=200, n_features=3, n_components=4, seed=0):
    X, start = datasets.problem(seed, n_rows, n_features, n_components, covariance_type)
    return oracle.make_model(covariance_type, *start), X


def test_log_density_against_scipy(covariance_type):
    model, X = model_and_rows(covariance_type)
    joint = np.stack(
        [
            multivariate_normal(
                model.means[k].astype(float),
                oracle.covariance_matrix(covariance_type, model.covariances, k, 3).astype(float),
            ).logpdf(X)
            + np.log(float(model.weights[k]))
            for k in range(4)
        ],
        axis=1,
    )
    np.testing.assert_allclose(oracle.log_joint(X, model).astype(float), joint, atol=1e-12)
    np.testing.assert_allclose(
        oracle.log_density(X, model).astype(float), logsumexp(joint, axis=1), atol=1e-12
    )
    shares = oracle.responsibilities(X, model)
    np.testing.assert_allclose(shares.sum(axis=1).astype(float), 1.0, atol=1e-15)


@pytest.mark.extended
def test_digits_against_mpmath():
    """18 digits, also where double precision has lost all of them (means at 1e8, unit spread)."""
    rng = np.random.default_rng(3)
    X = 1e8 + rng.standard_normal((5, 2))
    root = rng.standard_normal((2, 2, 2)) + 2 * np.eye(2)
    model = oracle.make_model(
        "full", [0.25, 0.75], 1e8 + rng.standard_normal((2, 2)), root @ root.swapaxes(1, 2)
    )
    with mpmath.workdps(40):

        def exact(value):
            high = float(value)
            return mpmath.mpf(high) + mpmath.mpf(float(value - oracle.REAL(high)))

        for row, ours in zip(X, oracle.log_density(X, model), strict=True):
            total = mpmath.mpf(0)
            for k in range(2):
                difference = [mpmath.mpf(float(row[i])) - exact(model.means[k, i]) for i in range(2)]
                upper = model.precisions_cholesky[k]
                y = [sum(difference[i] * exact(upper[i, j]) for i in range(2)) for j in range(2)]
                density = exact(upper[0, 0]) * exact(upper[1, 1]) / (2 * mpmath.pi)
                total += exact(model.weights[k]) * density * mpmath.exp(-(y[0] ** 2 + y[1] ** 2) / 2)
            assert abs(exact(ours) - mpmath.log(total)) < 1e-17 * max(1, abs(mpmath.log(total)))


@pytest.mark.extended
def test_factor_inverts_its_covariance():
    rng = np.random.default_rng(5)
    root = oracle.real(rng.standard_normal((9, 9)))
    covariance = root @ root.T
    upper = oracle.precisions_cholesky(covariance[None], "full")[0]
    assert np.all(np.tril(upper, -1) == 0)
    np.testing.assert_allclose((upper.T @ covariance @ upper).astype(float), np.eye(9), atol=1e-14)


def test_cholesky_refuses_what_is_not_positive_definite():
    with pytest.raises(ValueError, match="positive definite"):
        oracle.cholesky([[1.0, 2.0], [2.0, 1.0]])


@pytest.mark.parametrize("reg_covar", [0.0, 1e-2])
def test_em_against_scikit_learn(covariance_type, reg_covar):
    model, X = model_and_rows(covariance_type)
    peer = Peer(4, covariance_type=covariance_type, tol=0, max_iter=7, reg_covar=reg_covar)
    peer.set_params(**datasets.init_arguments(covariance_type, model[1:]))
    with pytest.warns(ConvergenceWarning):
        peer.fit(X)
    ours, bounds = oracle.em(X, model, 7, reg_covar)
    np.testing.assert_allclose(*bounds_beside(np.array(bounds, dtype=float), peer), atol=1e-12)
    peer_parameters = peer.weights_, peer.means_, peer.covariances_
    assert oracle.difference(ours, peer_parameters) < 1e-10
    np.testing.assert_allclose(float(oracle.bic(X, ours)), peer.bic(X), rtol=1e-12)
    np.testing.assert_allclose(float(oracle.aic(X, ours)), peer.aic(X), rtol=1e-12)
    assert oracle.n_parameters(covariance_type, 4, 3) == peer._n_parameters()


def test_weights_are_repeats(covariance_type):
    model, X = model_and_rows(covariance_type, n_rows=60)
    counts = np.random.default_rng(1).integers(0, 4, len(X))
    repeated = np.repeat(X, counts, axis=0)
    weighted, bounds = oracle.em(X, model, 3, 1e-3, counts)
    plain, plain_bounds = oracle.em(repeated, model, 3, 1e-3)
    assert oracle.difference(plain, weighted[1:]) < 1e-15
    np.testing.assert_allclose(np.array(bounds, float), np.array(plain_bounds, float), rtol=1e-15)
    np.testing.assert_allclose(
        float(oracle.icl(X, plain, counts)), float(oracle.icl(repeated, plain)), rtol=1e-15
    )


def test_statistics_of_a_partition():
    X = np.array([[0.0, 0.0], [2.0, 0.0], [5.0, 5.0], [5.0, 9.0]])
    moments = oracle.statistics(X, oracle.one_hot([0, 0, 1, 1], 2))
    np.testing.assert_array_equal(moments.weights.astype(float), [2, 2])
    np.testing.assert_array_equal(moments.means.astype(float), [[1, 0], [5, 7]])
    np.testing.assert_array_equal(moments.scatters.astype(float), [[[2, 0], [0, 0]], [[0, 0], [0, 8]]])


def test_icl_counts_certain_rows_as_bic():
    """Rows that belong to one component for certain cost nothing beyond the BIC."""
    X = np.array([[-50.0], [-51.0], [50.0], [52.0]])
    model = oracle.make_model("full", [0.5, 0.5], [[-50.5], [51.0]], [[[1.0]], [[1.0]]])
    assert oracle.icl(X, model) == oracle.bic(X, model)
    overlap = oracle.make_model("full", [0.5, 0.5], [[-1.0], [1.0]], [[[900.0]], [[900.0]]])
    assert oracle.icl(X, overlap) > oracle.bic(X, overlap) + 1


def test_differences_see_each_parameter(covariance_type):
    model, _ = model_and_rows(covariance_type)
    assert oracle.difference(model, model[1:]) < 1e-14
    for position in range(3):
        changed = [np.array(a, dtype=float) for a in model[1:]]
        changed[position] = changed[position] * (1 + 1e-3)
        assert oracle.difference(model, changed) > 1e-5
    changed[0][0] = np.nan
    assert np.isnan(oracle.difference(model, changed))
