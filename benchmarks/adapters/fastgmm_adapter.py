"""This package. Line for line the scikit-learn adapter, but for the import and what only fastgmm reports."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

import fastgmm
from adapters import Fit
from fastgmm import GaussianMixture
from fastgmm.pruning import set_pruning_choice
from problems import Start

LABEL = "fastgmm"
COVARIANCE_TYPES = ("full", "tied", "diag", "spherical")


def prepare(n_threads: int) -> None:
    """Thread counts come from the environment the worker was started in."""


def info() -> dict[str, Any]:
    from fastgmm.kernels import _pass

    return {
        "version": fastgmm.__version__,
        "isa": _pass.current_isa(),
        "threads": _pass.max_threads(),
    }


def set_dense(dense: bool) -> None:
    """Without pruning from now on, or with it."""
    set_pruning_choice("never" if dense else "auto")


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


def _timed(model: GaussianMixture, X: np.ndarray) -> Fit:
    begin = time.perf_counter()
    model.fit(X)
    seconds = time.perf_counter() - begin
    history = {name: np.asarray(values).tolist() for name, values in model.history_.items()}

    def score() -> float:
        return float(model.score(X))

    return Fit(
        seconds, model.n_iter_, model.weights_, model.means_, model.covariances_, score, {"history": history}
    )
