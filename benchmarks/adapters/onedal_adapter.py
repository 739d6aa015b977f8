"""oneDAL's em_gmm through daal4py, in an environment of its own (envs.py makes it).

Two differences of definition. oneDAL regularises a covariance only when its factorisation fails, so that
its results differ from scikit-learn's in the order of ``reg_covar``; and it stops on a relative change of
the log-likelihood, which a threshold of zero switches off. Start parameters go to ``compute`` as (1, K)
weights, (K, D) means and a list of K covariances: (D, D) for storage "full", (1, D) for "diagonal". There
is no tied or spherical form.
"""

from __future__ import annotations

import importlib.metadata
import time
from typing import Any

import daal4py
import numpy as np

from adapters import Fit
from problems import Start

LABEL = "oneDAL"
COVARIANCE_TYPES = ("full", "diag")
_STORAGE = {"full": "full", "diag": "diagonal"}


def prepare(n_threads: int) -> None:
    daal4py.daalinit(n_threads)


def info() -> dict[str, Any]:
    return {"version": importlib.metadata.version("daal4py"), "threads": daal4py.num_threads()}


def fit(X: np.ndarray, start: Start, covariance_type: str, max_iter: int) -> Fit:
    algorithm = daal4py.em_gmm(
        len(start.weights),
        maxIterations=max_iter,
        accuracyThreshold=0.0,
        regularizationFactor=start.reg_covar,
        covarianceStorage=_STORAGE[covariance_type],
    )
    covariances = [np.atleast_2d(covariance) for covariance in start.covariances]
    begin = time.perf_counter()
    result = algorithm.compute(X, start.weights[None, :], start.means, covariances)
    seconds = time.perf_counter() - begin
    return Fit(
        seconds,
        int(result.nIterations[0, 0]),
        result.weights[0],
        result.means,
        np.squeeze(np.stack(result.covariances)),
        None,  # its goal function belongs to the parameters before the last update
        {},
    )
