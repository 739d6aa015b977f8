"""scikit-learn's GaussianMixture."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import sklearn
from sklearn.mixture import BayesianGaussianMixture, GaussianMixture

from adapters import Fit
from problems import Start

LABEL = "scikit-learn"
COVARIANCE_TYPES = ("full", "tied", "diag", "spherical")


def prepare(n_threads: int) -> None:
    """Thread counts come from the environment the worker was started in."""


def info() -> dict[str, Any]:
    return {"version": sklearn.__version__}


def fit(X: np.ndarray, start: Start, covariance_type: str, max_iter: int) -> Fit:
    model = GaussianMixture(
        len(start.weights),
        covariance_type=covariance_type,
        tol=0.0,
        max_iter=max_iter,
        reg_covar=start.reg_covar,
        weights_init=start.weights,
        means_init=start.means,
        precisions_init=start.precisions,
    )
    return _timed(model, X)


def fit_default(X: np.ndarray, n_components: int, seed: int, max_iter: int | None = None) -> Fit:
    options: dict[str, Any] = {} if max_iter is None else {"max_iter": max_iter}
    return _timed(GaussianMixture(n_components, random_state=seed, **options), X)


def fit_bayesian(X: np.ndarray, n_components: int, max_iter: int) -> Fit:
    model = BayesianGaussianMixture(
        n_components=n_components, init_params="random_from_data", random_state=0, tol=0.0, max_iter=max_iter
    )
    return _timed(model, X)


def mixture(X: np.ndarray, n_components: int) -> GaussianMixture:
    return GaussianMixture(n_components, max_iter=2, random_state=0).fit(X)


def _timed(model: Any, X: np.ndarray) -> Fit:
    begin = time.perf_counter()
    model.fit(X)
    seconds = time.perf_counter() - begin
    covariances = getattr(model, "covariances_", np.empty(0))  # scikit-learn sets none at max_iter=0

    def score() -> float:
        return float(model.score(X))

    return Fit(seconds, model.n_iter_, model.weights_, model.means_, covariances, score, {})
