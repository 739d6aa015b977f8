"""What is asked of rows under given parameters: densities, responsibilities, labels.

Frames come from the parameters, so mixtures that were loaded or made by hand need no data.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ._typing import FloatArray, LabelArray, RowArray
from .blocks import ArrayData
from .frame import Frame, frame_of_parameters
from .kernels._pass import LOG_LIKELIHOOD, LOG_MAX
from .parameters import Parameters
from .passes import score_rows
from .score_map import ScoreMap
from .structures import Structure
from .threads import single_threaded_blas


class RowSummary(NamedTuple):
    """Sums over rows: of w log p, of w log max_k r_k, of w."""

    log_likelihood: float
    log_max_responsibility: float
    total_weight: float


def _prepare(structure: Structure, parameters: Parameters, n_threads: int) -> tuple[Frame, ScoreMap]:
    with single_threaded_blas():  # a threaded factorisation gives other bits
        with np.errstate(over="ignore", invalid="ignore"):
            variances = structure.variances(parameters)
        weights, means = parameters.weights, parameters.means
        frame = frame_of_parameters(weights, means, variances, structure.common_scale)
        return frame, structure.score_map(parameters, frame, n_threads)


def _write(X: RowArray, structure: Structure, parameters: Parameters, n_threads: int, **outputs: Any) -> None:
    frame, score_map = _prepare(structure, parameters, n_threads)
    score_rows(ArrayData(X), frame, score_map, parameters.weights.size, n_threads, **outputs)


def log_density(X: RowArray, structure: Structure, parameters: Parameters, n_threads: int) -> FloatArray:
    """log p(x_n), (N,)."""
    out = np.empty(X.shape[0])
    _write(X, structure, parameters, n_threads, log_density=out)
    return out


def responsibilities(X: RowArray, structure: Structure, parameters: Parameters, n_threads: int) -> FloatArray:
    """p(component k | x_n), (N, K)."""
    out = np.empty((X.shape[0], parameters.weights.size))
    _write(X, structure, parameters, n_threads, responsibilities=out)
    return out


def labels(X: RowArray, structure: Structure, parameters: Parameters, n_threads: int) -> LabelArray:
    """The most likely component of each row, (N,) int64; the first of equals."""
    out = np.empty(X.shape[0], dtype=np.int64)
    _write(X, structure, parameters, n_threads, labels=out, hard=True)
    return out


def log_prob_components(
    X: RowArray, structure: Structure, parameters: Parameters, n_threads: int
) -> FloatArray:
    """log N(x_n | mean_k, covariance_k), (N, K), without the weights."""
    out = np.empty((X.shape[0], parameters.weights.size))
    unweighted = parameters._replace(weights=np.ones(parameters.weights.shape))
    _write(X, structure, unweighted, n_threads, scores=out)
    return out


def summary(data: ArrayData, structure: Structure, parameters: Parameters, n_threads: int) -> RowSummary:
    """Weighted sums over rows that score, bic, aic and icl are made of."""
    frame, score_map = _prepare(structure, parameters, n_threads)
    head = score_rows(data, frame, score_map, parameters.weights.size, n_threads)
    return RowSummary(float(head[LOG_LIKELIHOOD]), float(head[LOG_MAX]), data.total_weight)
