"""What is asked of rows besides what a scorer gives: scores without weights, weighted sums."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ._typing import FloatArray, RowArray
from .blocks import ArrayData
from .kernels._pass import LOG_LIKELIHOOD, LOG_MAX
from .parameters import Parameters
from .scorer import Scorer
from .structures import Structure


class RowSummary(NamedTuple):
    """Sums over rows: of w log p, of w log max_k r_k, of w."""

    log_likelihood: float
    log_max_responsibility: float
    total_weight: float


def unweighted(structure: Structure, parameters: Parameters, n_threads: int) -> Scorer:
    """What scores rows by log N(x_n | mean_k, covariance_k), without the weights."""
    return Scorer(structure, parameters._replace(weights=np.ones(parameters.weights.shape)), n_threads)


def log_prob_components(
    X: RowArray, structure: Structure, parameters: Parameters, n_threads: int
) -> FloatArray:
    """log N(x_n | mean_k, covariance_k), (N, K), without the weights."""
    return unweighted(structure, parameters, n_threads).scores(X)


def summary(data: ArrayData, structure: Structure, parameters: Parameters, n_threads: int) -> RowSummary:
    """Weighted sums over rows that score, bic, aic and icl are made of."""
    head = Scorer(structure, parameters, n_threads).summary(data)
    return RowSummary(float(head[LOG_LIKELIHOOD]), float(head[LOG_MAX]), data.total_weight)


def summary_of_parts(data: Any, scorer: Scorer) -> RowSummary:
    """The same over rows of a source, which its data (StreamedData, DaskData) go over."""
    sums = RowSummary(*data.summary(scorer))
    if sums.total_weight == 0.0:
        raise ValueError("X has no rows of positive weight.")
    return sums
