"""One small module per library.

Every module offers the same names:

    LABEL                           the library's name in tables
    COVARIANCE_TYPES                those it can fit
    prepare(n_threads) -> None      called once, before any fit
    info() -> dict                  version, and what else is worth reporting
    fit(X, start, covariance_type, max_iter) -> Fit
                                    from given parameters; exactly max_iter iterations
    fit_default(X, n_components, seed, max_iter) -> Fit
                                    default arguments, max_iter=None included; only where a library seeds by
                                    itself as scikit-learn does
    fit_bayesian(X, n_components, max_iter) -> Fit
                                    a Bayesian mixture from random rows; likewise
    mixture(X, n_components) -> model
                                    after two iterations, with scikit-learn's methods; likewise

``Fit.seconds`` is the wall time of the library's own fit call, its validation of the input included.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np


class Fit(NamedTuple):
    """What a library made of the data."""

    seconds: float
    n_iter: int
    weights: np.ndarray
    means: np.ndarray
    covariances: np.ndarray
    score: Callable[[], float] | None  # mean log-likelihood of the data, on demand
    extra: dict[str, Any]  # what only this library reports
