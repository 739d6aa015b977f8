"""Scores of random mixtures whose features nearly repeat each other, against 50 digits.

The promise is 1e-8 + 8 eps |log p| of what the stored parameters say, whatever the condition of the
correlation matrices: here up to 1e14, with rows that lie on the sheet that the features share, beside it and
far away, and with features of any unit and offset. The seed of a mixture is its number.
"""

from __future__ import annotations

from typing import NamedTuple

import datasets
import mpmath
import numpy as np
import pytest
import tolerances
from conftest import available_isas
from running import forced_isa
from scipy.linalg import solve_triangular

from fastgmm import GaussianMixture

ROWS = 20
DIGITS = 50


class Exact(NamedTuple):
    """log N (N, K), log p (N,), p(k | x) (N, K) of some rows, as arrays of mpf."""

    components: np.ndarray
    joint: np.ndarray
    density: np.ndarray
    shares: np.ndarray


def triangular_factor(rng, n_features, condition):
    """Lower triangular L, L L' of about unit variances and of about this condition."""
    kind = rng.integers(3)
    if kind == 0:  # long and short axes, turned
        rotation = datasets.random_rotation(rng, n_features)
        factor = rotation * condition ** -rng.permutation(np.linspace(0.0, 0.5, n_features))
    elif kind == 1:  # some features repeat another, and are a little noisy
        factor = datasets.random_rotation(rng, n_features)
        first = rng.integers(1, n_features)
        for i in range(first, n_features):
            factor[i] = factor[rng.integers(first)] + condition**-0.5 * factor[i]
        factor = factor[rng.permutation(n_features)]
    else:  # mixtures of fewer features, and a little noise
        factor = rng.standard_normal((n_features, n_features))
        factor[:, rng.integers(1, n_features) :] *= condition**-0.5
    factor /= np.linalg.norm(factor, axis=1)[:, None]
    upper = np.linalg.qr(factor.T, mode="r")
    return (upper * np.sign(np.diag(upper))[:, None]).T


def random_mixture(rng, covariance_type):
    """A mixture, the factors (K, D, D) of its covariances, and the units of its features."""
    D, K = int(rng.integers(2, 41)), int(rng.integers(1, 5))
    condition = 10.0 ** rng.uniform(0.0, 14.0)
    unit = 10.0 ** rng.uniform(-100.0, 100.0, D) if rng.integers(4) == 0 else np.ones(D)
    offset = 10.0 ** rng.uniform(0.0, 8.0, D) if rng.integers(3) == 0 else np.zeros(D)
    n_factors = K if covariance_type == "full" else 1
    factors = np.stack([unit[:, None] * triangular_factor(rng, D, condition) for _ in range(n_factors)])
    roots = np.stack([solve_triangular(factor, np.eye(D), lower=True).T for factor in factors])
    covariances = factors @ np.swapaxes(factors, 1, 2)
    # components on the same sheet, or anywhere
    between = rng.standard_normal((K, D))
    between = between @ factors[0].T if rng.integers(2) else between * unit
    mixture = GaussianMixture(K, covariance_type=covariance_type)
    mixture.weights_ = rng.dirichlet(np.ones(K))
    mixture.means_ = unit * offset + rng.choice([0.0, 0.1, 1.0, 10.0, 1e5]) * between
    mixture.precisions_cholesky_ = roots if covariance_type == "full" else roots[0]
    mixture.covariances_ = covariances if covariance_type == "full" else covariances[0]
    return mixture, np.broadcast_to(factors, (K, D, D)), unit


def random_rows(rng, mixture, factors, unit):
    """Rows of the mixture; of most mixtures some are moved off its sheets, and some far away."""
    D = unit.size
    labels = rng.choice(len(factors), ROWS, p=mixture.weights_)
    whitened = rng.standard_normal((ROWS, D))
    if rng.integers(3) == 0:
        whitened[: ROWS // 4] *= 10.0 ** rng.uniform(1.0, 8.0, (ROWS // 4, 1))
    X = mixture.means_[labels] + np.einsum("nij,nj->ni", factors[labels], whitened)
    if rng.integers(3):
        moved = rng.random((ROWS, D)) < rng.choice([0.1, 1.0])
        X += moved * unit * rng.standard_normal((ROWS, D)) * 10.0 ** rng.uniform(-8.0, 2.0, (ROWS, 1))
    return X


def exact_scores(mixture, X):
    """What the stored parameters say."""
    K, D = mixture.means_.shape
    to_mpf = np.frompyfunc(mpmath.mpf, 1, 1)
    with mpmath.workdps(DIGITS):
        rows, means, roots = (to_mpf(a) for a in (X, mixture.means_, mixture.precisions_cholesky_))
        components = np.empty((len(X), K), dtype=object)
        for k in range(K):
            root = roots[k] if mixture.covariance_type == "full" else roots
            constant = mpmath.fsum(map(mpmath.log, root.diagonal())) - D * mpmath.log(2 * mpmath.pi) / 2
            columns = [root[: j + 1, j].tolist() for j in range(D)]
            for n, row in enumerate(rows):
                d = (row - means[k]).tolist()
                y = [mpmath.fdot(column, d[: j + 1]) for j, column in enumerate(columns)]
                components[n, k] = constant - mpmath.fdot(y, y) / 2
        joint = components + [mpmath.log(float(w)) for w in mixture.weights_]
        best = joint.max(axis=1)
        parts = np.frompyfunc(mpmath.exp, 1, 1)(joint - best[:, None])
        density = best + np.frompyfunc(mpmath.log, 1, 1)(parts.sum(axis=1))
        return Exact(components, joint, density, parts / parts.sum(axis=1)[:, None])


def excess(ours, exact):
    """The largest error as a share of what is promised."""
    with mpmath.workdps(DIGITS):
        error = np.abs(ours - exact).astype(np.float64)
    return float((error / tolerance(exact)).max())


def tolerance(exact):
    size = np.abs(exact).astype(np.float64)
    return tolerances.SCORE_ABSOLUTE + tolerances.SCORE_ROUNDINGS * tolerances.EPS * size


def check(mixture, X, exact):
    """Every output for rows of the mixture, in the instruction set in use."""
    scores = mixture.score_samples(X)
    assert excess(scores, exact.density) <= 1.0
    assert excess(mixture.log_prob_components(X), exact.components) <= 1.0
    scorer = mixture.scorer()
    for n in (0, ROWS - 1):
        assert excess(scorer.score_samples(X[n : n + 1]), exact.density[n : n + 1]) <= 1.0
    allowed = tolerance(exact.joint)
    # dr_k = r_k (ds_k - sum_j r_j ds_j): at most the largest error of a score of components that have a share
    with_share = np.where(exact.shares > 1e-30, allowed, 0.0).max(axis=1)
    wrong = np.abs(mixture.predict_proba(X) - exact.shares).astype(np.float64)
    assert np.all(wrong <= with_share[:, None])
    labels = mixture.predict(X)
    rows = np.arange(ROWS)
    missed = (exact.joint.max(axis=1) - exact.joint[rows, labels]).astype(np.float64)
    assert np.all(missed <= 2.0 * allowed[rows, labels])


def check_mixtures(numbers):
    for number in numbers:
        rng = np.random.default_rng(number)
        mixture, factors, unit = random_mixture(rng, ("full", "tied")[number % 2])
        X = random_rows(rng, mixture, factors, unit)
        exact = exact_scores(mixture, X)
        for isa in available_isas():
            with forced_isa(isa):
                try:
                    check(mixture, X, exact)
                except AssertionError as error:
                    raise AssertionError(f"mixture {number} on {isa}") from error


@pytest.mark.parametrize("first", range(0, 40, 10))
def test_scores_keep_the_promise_whatever_the_condition(first):
    check_mixtures(range(first, first + 10))


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, 1000, 100))
def test_twenty_thousand_scores_keep_the_promise(first):
    check_mixtures(range(first, first + 100))


@pytest.mark.parametrize("covariance_type", ["full", "tied"])
def test_variances_that_underflow_hide_no_condition(covariance_type):
    """Standard deviations of 1e-170 have variances of 0: no bound on an error can be made of these."""
    rng = np.random.default_rng(0)
    unit = np.full(3, 1e-170)
    factor = unit[:, None] * np.array([[1.0, 0.0, 0.0], [1.0, 1e-8, 0.0], [0.3, 0.0, 1.0]])
    root = np.triu(solve_triangular(factor, np.eye(3), lower=True).T)
    mixture = GaussianMixture(1, covariance_type=covariance_type)
    mixture.weights_, mixture.means_ = np.ones(1), unit * rng.standard_normal((1, 3))
    mixture.precisions_cholesky_ = root[None] if covariance_type == "full" else root
    mixture.covariances_ = np.zeros(mixture.precisions_cholesky_.shape)
    X = mixture.means_ + rng.normal(scale=[1.0, 300.0, 1.0], size=(ROWS, 3)) @ factor.T
    assert excess(mixture.score_samples(X), exact_scores(mixture, X).density) <= 1.0


@pytest.mark.parametrize("covariance_type", ["full", "tied"])
def test_compensated_scores_have_the_same_bits_on_any_number_of_threads(covariance_type):
    rng = np.random.default_rng(5)
    mixture, factors, unit = random_mixture(rng, covariance_type)
    X = np.concatenate([random_rows(rng, mixture, factors, unit) for _ in range(500)])
    scores = [mixture.set_params(n_jobs=n_jobs).score_samples(X) for n_jobs in (1, 2, 3)]
    assert scores[0].tobytes() == scores[1].tobytes() == scores[2].tobytes()
