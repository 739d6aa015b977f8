"""Rows and mixtures of the tests of Dask collections."""

from __future__ import annotations

import numpy as np
from datasets import init_arguments, problem

from fastgmm import GaussianMixture

N, D, K = 9000, 4, 3
# Sums over other blocks, 20 iterations long: rounding of a mean log-likelihood, not its drift.
SAME = 1e-12
# A pass that skips is within exp(-33) of one that does not; 20 of them from one start stay this near where
# clusters are apart.
NEAR = 1e-9


def rows(covariance_type="full", dtype=np.float64):
    X, start = problem(31, N, D, K, covariance_type)
    return np.array(X, dtype=dtype), start


def rows_apart():
    """Clusters so far apart that passes have something to skip."""
    X, start = problem(32, N, D, K, "full", spread=30.0)
    return np.array(X), start


def mixture(start, covariance_type="full", **parameters):
    parameters = {"max_iter": 20, "tol": 0.0, **init_arguments(covariance_type, start), **parameters}
    return GaussianMixture(K, covariance_type=covariance_type, **parameters)


def weights_of(n):
    return np.random.default_rng(5).uniform(0.0, 2.0, n)


def bits(model):
    parts = model.weights_, model.means_, model.covariances_, np.array(model.lower_bounds_)
    return b"".join(part.tobytes() for part in parts)
