"""Posteriors of weights and precisions, and what is expected under them.

All follow from how many rows each component has. Formulas: Bishop 2006, Pattern Recognition and Machine
Learning, 10.57 to 10.66, B.21 and B.81; for sticks Blei and Jordan 2006, Bayesian Analysis 1, 121-143.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.special import digamma

from .._typing import FloatArray
from .prior import DISTRIBUTION, Prior

LOG_2 = float(np.log(2.0))


class Posterior(NamedTuple):
    """What counts of rows make of a prior, beside means and covariances.

    Attributes
    ----------
    concentration : ndarray of shape (K,), Dirichlet; of shape (2, K), the Beta variables of sticks
    mean_precision : ndarray of shape (K,)
    degrees_of_freedom : ndarray of shape (K,); all equal where covariances are tied
    """

    concentration: FloatArray
    mean_precision: FloatArray
    degrees_of_freedom: FloatArray


def posterior_of(prior: Prior, counts: FloatArray, pooled: bool) -> Posterior:
    """Posteriors after so many rows in each component, (K,); pooled: as many degrees of freedom for all."""
    if prior.kind == DISTRIBUTION:
        concentration = prior.weight_concentration + counts
    else:
        later = np.append(np.cumsum(counts[::-1])[-2::-1], 0.0)
        concentration = np.array([1.0 + counts, prior.weight_concentration + later])
    per_precision = np.full(counts.shape, counts.sum() / counts.size) if pooled else counts
    return Posterior(concentration, prior.mean_precision + counts, prior.degrees_of_freedom + per_precision)


def mean_weights(concentration: FloatArray) -> FloatArray:
    """Expected weights, (K,), normalised: sticks leave a rest to components beyond the last."""
    if concentration.ndim == 1:
        return concentration / concentration.sum()
    broken, left = concentration
    weights = broken / (broken + left)
    weights[1:] *= np.cumprod(left / (broken + left))[:-1]
    return weights / weights.sum()


def mean_log_weights(concentration: FloatArray) -> FloatArray:
    """E[log weight_k], (K,)."""
    if concentration.ndim == 1:
        return np.asarray(digamma(concentration) - digamma(concentration.sum()))
    broken, left = concentration
    both = digamma(broken + left)
    logs = digamma(broken) - both
    logs[1:] += np.cumsum(digamma(left) - both)[:-1]
    return np.asarray(logs)


def mean_log_det(degrees_of_freedom: FloatArray, n_features: int) -> FloatArray:
    """E[log |precision|] less log |scale matrix|, of Wishart variables."""
    halves = 0.5 * (degrees_of_freedom[:, None] - np.arange(n_features))
    return np.asarray(n_features * LOG_2 + digamma(halves).sum(axis=1))


def log_blur(posterior: Posterior, n_features: int) -> FloatArray:
    """E[log N(x | mean, inverse(precision))] less log N(x | means, covariances), (K,): the same for all x.

    `covariances` are inverse(E[precision]). What is left is less than 0 and vanishes with many rows.
    """
    dof = posterior.degrees_of_freedom
    log_det = mean_log_det(dof, n_features) - n_features * np.log(dof)
    return np.asarray(0.5 * (log_det - n_features / posterior.mean_precision))
