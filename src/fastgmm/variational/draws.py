"""Draws from the posterior, and intervals that hold its parameters."""

from __future__ import annotations

import numpy as np
from scipy import stats

from .._typing import FloatArray
from .posterior import Posterior

# Draws that quantiles of weights are read off where sticks leave no formula for them.
DRAWS_OF_WEIGHTS = 20_000
# Draws of a chi-squared variable of few degrees of freedom may be 0, and variances divide by them.
SMALLEST_SQUARE = 1e-200


def draw_weights(concentration: FloatArray, n: int, rng: np.random.RandomState) -> FloatArray:
    """(n, K), each normalised: sticks leave a rest to components beyond the last."""
    if concentration.ndim == 1:
        # gamma variables: of concentrations near 0 a Dirichlet draw may be 0 in all components
        logs = np.log(rng.gamma(concentration + 1.0, size=(n, concentration.size)))
        logs += np.log(rng.uniform(size=logs.shape)) / concentration
        weights = np.exp(logs - logs.max(axis=1, keepdims=True))
    else:
        ours, rest = concentration
        broken = rng.beta(ours, rest, size=(n, ours.size))
        weights = broken.copy()
        weights[:, 1:] *= np.cumprod(1.0 - broken, axis=1)[:, :-1]
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def draw_gaussians(
    means: FloatArray, covariances: FloatArray, posterior: Posterior, n: int, rng: np.random.RandomState
) -> tuple[FloatArray, FloatArray]:
    """Means (n, K, D) and covariances (n, K, D, D) of normal-Wishart posteriors.

    covariances : (K, D, D), inverse(E[precision]), also where the mixture keeps less than a matrix
    """
    K, D = means.shape
    drawn_means, drawn = np.empty((n, K, D)), np.empty((n, K, D, D))
    below = np.tril_indices(D, -1)
    for k in range(K):
        dof = posterior.degrees_of_freedom[k]
        # a precision is inverse(R') A A' inverse(R): R R' the inverse scale matrix, A of Bartlett (1933).
        # SciPy's takes no degrees of freedom between D - 1 and D
        factors = np.zeros((n, D, D))
        squares = rng.chisquare(dof - np.arange(D), size=(n, D))
        factors[:, np.arange(D), np.arange(D)] = np.sqrt(np.maximum(squares, SMALLEST_SQUARE))
        factors[:, below[0], below[1]] = rng.standard_normal((n, below[0].size))
        roots = np.linalg.solve(factors, np.linalg.cholesky(dof * covariances[k]).T[None])
        products = np.matmul(np.swapaxes(roots, 1, 2), roots)
        drawn[:, k] = 0.5 * (products + np.swapaxes(products, 1, 2))
        steps = np.matmul(rng.standard_normal((n, 1, D)), roots)[:, 0]
        drawn_means[:, k] = means[k] + steps / np.sqrt(posterior.mean_precision[k])
    return drawn_means, drawn


def weight_intervals(concentration: FloatArray, level: float, rng: np.random.RandomState) -> FloatArray:
    """Quantiles (1 -+ level) / 2 of each weight, (K, 2)."""
    tails = np.array([(1.0 - level) / 2.0, (1.0 + level) / 2.0])
    if concentration.ndim == 1:
        if concentration.size == 1:
            return np.ones((1, 2))
        others = concentration.sum() - concentration
        return np.asarray(stats.beta.ppf(tails, concentration[:, None], others[:, None]))
    draws = draw_weights(concentration, DRAWS_OF_WEIGHTS, rng)
    return np.asarray(np.quantile(draws, tails, axis=0).T)


def gaussian_intervals(
    means: FloatArray, variances: FloatArray, posterior: Posterior, level: float
) -> tuple[FloatArray, FloatArray]:
    """Quantiles of each mean and each variance, (K, D, 2) both, from their marginal posteriors.

    A mean is Student's t, a variance inverse gamma, both of nu - D + 1 degrees of freedom.
    """
    D = means.shape[1]
    tails = np.array([(1.0 - level) / 2.0, (1.0 + level) / 2.0])
    dof = posterior.degrees_of_freedom[:, None, None]
    left = dof - D + 1.0
    spread = dof * variances[:, :, None] / left
    scale = np.sqrt(spread / posterior.mean_precision[:, None, None])
    # of few degrees of freedom quantiles may be beyond the range of numbers: infinite
    with np.errstate(over="ignore", divide="ignore"):
        of_means = means[:, :, None] + scale * stats.t.ppf(tails, left)
        of_variances = spread * left * stats.invgamma.ppf(tails, 0.5 * left, scale=0.5)
    return np.asarray(of_means), np.asarray(of_variances)
