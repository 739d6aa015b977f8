"""Bayesian mixtures for the tests: rows, starts, fits, and scikit-learn's estimator from given starts."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import sklearn.mixture
from sklearn.exceptions import ConvergenceWarning
from variational_oracle import KINDS

from fastgmm import BayesianGaussianMixture, RepairWarning

# rows, features, components: a single component, more of them than clusters, one feature, many, as few rows
# as can be
SIZES = ((2, 1, 1), (2, 2, 2), (3, 2, 2), (57, 1, 3), (40, 17, 3), (60, 2, 33), (120, 3, 5), (90, 33, 2))
PARAMETERS = ("weights_", "means_", "covariances_", "precisions_", "precisions_cholesky_")
POSTERIOR = ("weight_concentration_", "mean_precision_", "degrees_of_freedom_")
PRIOR = (
    "weight_concentration_prior_", "mean_precision_prior_", "mean_prior_", "degrees_of_freedom_prior_",
    "covariance_prior_",
)  # fmt: skip
__all__ = ["KINDS"]


def rows_of(n_rows: int, n_features: int, seed: int = 0, origin: float = 0.0, spread: float = 3.0):
    """Rows of four overlapping clusters with correlated features, in random order."""
    rng = np.random.default_rng(seed)
    mixing = np.eye(n_features) + 0.5 * rng.standard_normal((n_features, n_features)) / np.sqrt(n_features)
    centres = spread * rng.standard_normal((4, n_features))[rng.integers(4, size=n_rows)]
    return origin + centres + rng.standard_normal((n_rows, n_features)) @ mixing


def random_responsibilities(n_rows: int, n_components: int, seed: int = 0):
    """Mostly decided ones, as those of a mixture are."""
    rng = np.random.default_rng(seed)
    return rng.dirichlet(np.full(n_components, 0.5), size=n_rows)


def given_prior(n_features: int, covariance_type: str, seed: int = 0) -> dict[str, Any]:
    """Arguments of a prior that is none of the defaults."""
    rng = np.random.default_rng(seed)
    root = np.eye(n_features) + 0.3 * rng.standard_normal((n_features, n_features))
    matrix = root @ root.T
    covariance = {
        "full": matrix, "tied": matrix, "diag": matrix.diagonal().copy(), "spherical": 0.7,
    }[covariance_type]  # fmt: skip
    return {
        "weight_concentration_prior": 0.3,
        "mean_precision_prior": 0.05,
        "mean_prior": rng.standard_normal(n_features),
        "degrees_of_freedom_prior": n_features + 1.5,
        "covariance_prior": covariance,
    }


def fitted(X, sample_weight=None, *, when_repaired="error", **options) -> BayesianGaussianMixture:
    """Ours, 20 iterations unless said; nobody minds that they do not converge."""
    mixture = BayesianGaussianMixture(**{"max_iter": 20, "tol": 0.0, "random_state": 1, **options})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.simplefilter(when_repaired, RepairWarning)
        return mixture.fit(X, sample_weight=sample_weight)


class Peer(sklearn.mixture.BayesianGaussianMixture):
    """scikit-learn's, from responsibilities where there are any."""

    start = None

    def _initialize_parameters(self, X, random_state, **namespace):
        if self.start is None:
            super()._initialize_parameters(X, random_state, **namespace)
        else:
            self._initialize(X, np.array(self.start, dtype=X.dtype))


def peer(X, start=None, **options) -> Peer:
    """scikit-learn's, 20 iterations unless said."""
    mixture = Peer(**{"max_iter": 20, "tol": 0.0, "random_state": 1, **options})
    mixture.start = start
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return mixture.fit(X)


def bits_of(mixture) -> dict[str, Any]:
    """All that a fit ends with but its seconds, bit for bit."""
    bits: dict[str, Any] = {}
    for name in (*PARAMETERS, *POSTERIOR, *PRIOR):
        value = getattr(mixture, name)
        parts = value if isinstance(value, tuple) else (value,)
        bits[name] = [np.asarray(part).tobytes() for part in parts]
    for name in ("lower_bound_", "lower_bounds_", "n_iter_", "converged_", "n_repairs_"):
        bits[name] = repr(getattr(mixture, name))
    history = {name: values for name, values in mixture.history_.items() if "seconds" not in name}
    return {**bits, "history_": repr(history)}
