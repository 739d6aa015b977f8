"""Posterior and evidence lower bound against a slow reference that writes all of it out."""

from __future__ import annotations

import warnings

import bayesian_fits as fits
import numpy as np
import pytest
import tolerances
import variational_oracle as oracle
from variational_oracle import DISTRIBUTION, KINDS

from fastgmm import BayesianGaussianMixture
from fastgmm.blocks import ArrayData

# Attributes after so many iterations: rounding of the sums, amplified by the map as in EM.
POSTERIOR = 1e-8
# The bound, relative: promised.
BOUND = 1e-9
N_ITER = 4


def assert_bounds(found, expected, tolerance=BOUND):
    expected = np.array(expected, dtype=float)
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


def assert_as_oracle(
    X, K, kind, covariance_type, *, weight=None, reg_covar=0.0, n_iter=N_ITER, rounding=0.0, **options
):
    start = fits.random_responsibilities(len(X), K)
    options = {"weight_concentration_prior_type": kind, "covariance_type": covariance_type, **options}
    mixture = fits.fitted(
        X,
        weight,
        n_components=K,
        responsibilities_init=start,
        max_iter=n_iter,
        reg_covar=reg_covar,
        **options,
    )
    prior = oracle.prior_of(mixture)
    q, bounds = oracle.iterate(
        X, start, prior, covariance_type, n_iter, reg_covar=reg_covar, sample_weight=weight
    )
    assert oracle.difference(q, oracle.posterior_of(mixture)) <= POSTERIOR + rounding
    assert_bounds(mixture.lower_bounds_, bounds)
    assert mixture.lower_bound_ == mixture.lower_bounds_[-1]
    assert mixture.n_repairs_ == 0
    return mixture, q


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", fits.SIZES, ids=lambda size: "x".join(map(str, size)))
def test_sizes(covariance_type, kind, size):
    n_rows, D, K = size
    X = fits.rows_of(n_rows, D)
    options = {} if n_rows > D else fits.given_prior(D, covariance_type)
    mixture, q = assert_as_oracle(X, K, kind, covariance_type, n_iter=2, **options)
    np.testing.assert_allclose(mixture.weights_, oracle.mean_weights(q).astype(float), rtol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reg_covar", [0.0, 1e-3])
def test_given_prior_and_reg_covar(covariance_type, kind, reg_covar):
    """The bound is exact for the posterior as it is, also where reg_covar moves that."""
    X = fits.rows_of(80, 3, seed=1)
    prior = fits.given_prior(3, covariance_type)
    mixture, _ = assert_as_oracle(X, 4, kind, covariance_type, reg_covar=reg_covar, **prior)
    for name, value in prior.items():
        np.testing.assert_array_equal(getattr(mixture, f"{name}_"), value)


@pytest.mark.parametrize("kind", KINDS)
def test_weights_of_rows(covariance_type, kind):
    X = fits.rows_of(90, 2, seed=2)
    weight = np.random.default_rng(0).uniform(0, 3, len(X))
    weight[::7] = 0
    mixture, _ = assert_as_oracle(X, 3, kind, covariance_type, weight=weight)
    default = oracle.default_prior(X, kind, covariance_type, 3, weight)
    found = oracle.prior_of(mixture)
    np.testing.assert_allclose(found.mean.astype(float), default.mean.astype(float), rtol=1e-12)
    np.testing.assert_allclose(
        found.inverse_scale.astype(float), default.inverse_scale.astype(float), rtol=1e-12, atol=1e-13
    )
    assert found.mean_precision == default.mean_precision
    assert found.dof == default.dof
    assert float(found.concentration) == pytest.approx(1 / 3)


@pytest.mark.parametrize("origin", [1e4, -1e7])
def test_far_origin(covariance_type, origin):
    X = fits.rows_of(70, 3, seed=3, origin=origin)
    prior = fits.given_prior(3, covariance_type)
    prior["mean_prior"] = prior["mean_prior"] + origin
    rounding = 20 * tolerances.EPS * abs(origin)  # of means that far from 0, in standard deviations
    assert_as_oracle(X, 3, KINDS[0], covariance_type, rounding=rounding, **prior)
    assert_as_oracle(X, 3, KINDS[1], covariance_type, rounding=rounding)


@pytest.mark.parametrize("strength", [1e-6, 1e6])
def test_priors_of_all_strengths(covariance_type, strength):
    X = fits.rows_of(60, 2, seed=4)
    prior = {
        "weight_concentration_prior": strength,
        "mean_precision_prior": strength,
        "degrees_of_freedom_prior": 2 + strength,
    }
    for kind in KINDS:
        assert_as_oracle(X, 3, kind, covariance_type, **prior)


def test_scores_are_terms_of_the_bound(covariance_type):
    X = fits.rows_of(100, 3, seed=5)
    far = X[:5] * 40
    for kind in KINDS:
        mixture = fits.fitted(
            X, n_components=6, covariance_type=covariance_type, weight_concentration_prior_type=kind,
            init_params="random",
        )  # fmt: skip
        q = oracle.posterior_of(mixture)
        for rows in (X, far):
            expected = oracle.score_samples(rows, q).astype(float)
            np.testing.assert_allclose(mixture.score_samples(rows), expected, rtol=1e-9)
            expected = oracle.responsibilities(rows, q).astype(float)
            np.testing.assert_allclose(mixture.predict_proba(rows), expected, rtol=1e-7, atol=1e-300)
            expected = oracle.log_normal(rows, q).astype(float)
            np.testing.assert_allclose(mixture.log_prob_components(rows), expected, rtol=1e-9)
        assert mixture.score(X) == pytest.approx(mixture.score_samples(X).mean(), rel=1e-12)
        # of the new responsibilities, and the posterior they were made of
        resp, prior = oracle.responsibilities(X, q), oracle.prior_of(mixture)
        bound = oracle.evidence(X, resp, q, prior)
        assert bound >= mixture.lower_bound_ - 1e-9 * abs(bound)
        divergence = mixture.score_samples(X).sum() - float(bound)
        evidence = oracle.evidence(X[:1], np.ones((1, 1)) @ resp[:1], q, prior)
        assert float(evidence) == pytest.approx(mixture.score_samples(X[:1]).sum() - divergence, rel=1e-9)


@pytest.mark.parametrize("weighted", [False, True])
def test_the_evidence_of_one_component(covariance_type, weighted):
    """There the posterior is exact, and so is the bound: of all types but those that restrict it."""
    X = fits.rows_of(7, 2, seed=6)
    weight = np.array([1.0, 2, 0, 1, 3, 1, 0.5]) if weighted else None
    prior = fits.given_prior(2, covariance_type)
    mixture = fits.fitted(
        X, weight, covariance_type=covariance_type, reg_covar=0.0, max_iter=2,
        weight_concentration_prior_type=DISTRIBUTION, **prior,
    )  # fmt: skip
    exact = oracle.log_evidence_of_one(X, oracle.prior_of(mixture), weight)
    if covariance_type in ("full", "tied"):
        assert mixture.lower_bound_ == pytest.approx(float(exact), rel=BOUND)
    else:
        assert mixture.lower_bound_ < float(exact)
    # a single stick, of which the process leaves a rest to components that there are not
    process = fits.fitted(X, weight, covariance_type=covariance_type, reg_covar=0.0, max_iter=2, **prior)
    n = float(len(X) if weight is None else weight.sum())
    gamma = prior["weight_concentration_prior"]
    stick = oracle.log_beta(1 + n, gamma) - oracle.log_beta(1, gamma)  # log E[v^n]
    assert process.lower_bound_ - mixture.lower_bound_ == pytest.approx(float(stick), rel=1e-9)


def test_the_reference_integrates_to_one():
    """The reference itself: p(x) of one row, by quadrature over the evidence of one normal."""
    prior = oracle.Prior(DISTRIBUTION, *np.longdouble([1, 0.5]), np.zeros(1), np.longdouble(3), np.eye(1))
    t, step = np.linspace(-1, 1, 20001, retstep=True)
    x = t[1:-1] / (1 - t[1:-1] ** 2)
    jacobian = (1 + t[1:-1] ** 2) / (1 - t[1:-1] ** 2) ** 2
    values = [np.exp(oracle.log_evidence_of_one(np.array([[v]]), prior)) for v in x[::40]]
    assert float((np.array(values) * jacobian[::40]).sum() * step * 40) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.filterwarnings("ignore::fastgmm.RepairWarning")
@pytest.mark.parametrize("column", ["constant", "sum of others"])
def test_components_without_rows_beside_a_singular_prior(covariance_type, column):
    """They are no smaller than scikit-learn's, and so nothing is repaired that it survives."""
    X = fits.rows_of(200, 3, seed=7)
    X[:, 1] = 5.0 if column == "constant" else X[:, 0] + X[:, 2]
    options = {
        "n_components": 12, "covariance_type": covariance_type, "random_state": 0, "max_iter": 60,
        "weight_concentration_prior_type": "dirichlet_distribution", "weight_concentration_prior": 1e-3,
    }  # fmt: skip
    mixture = BayesianGaussianMixture(**options, repair="raise" if column == "constant" else "reseed").fit(X)
    assert (mixture.mean_precision_ == 1.0).any()  # no rows at all
    assert np.isfinite(mixture.lower_bounds_).all()


def test_a_singular_prior_adds_nothing_per_component():
    """Not the noise that is left of its determinant, which would decide between numbers of components."""
    X = fits.rows_of(6, 8, seed=3)
    options = {"max_iter": 0, "random_state": 0, "weight_concentration_prior": 1.0}
    small, large = (BayesianGaussianMixture(n_components=K, **options) for K in (1, 4))
    for mixture in (small, large):
        mixture.set_params(max_iter=5)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            mixture.fit(X)
    assert np.linalg.matrix_rank(large.covariance_prior_) < 8
    frame = ArrayData(X).frame(1)
    evidence = large._objective(ArrayData(X), frame, large._options(1, np.inf))
    assert evidence.log_det_prior == 0.0


def test_constant_columns(covariance_type):
    """The default prior is singular then: the bound lacks what is minus infinity, and fits converge."""
    X = fits.rows_of(100, 3, seed=7)
    X[:, 1] = 5.0
    options = {"n_components": 2, "covariance_type": covariance_type, "random_state": 0, "max_iter": 500}
    mixture = BayesianGaussianMixture(**options, init_params="random").fit(X)
    theirs = fits.Peer(**options, init_params="random").fit(X)
    assert np.isfinite(mixture.lower_bounds_).all()
    assert mixture.converged_
    assert mixture.n_iter_ == theirs.n_iter_
    np.testing.assert_allclose(
        np.diff(mixture.lower_bounds_), np.diff(np.ravel(theirs.lower_bounds_)), atol=1e-4
    )
