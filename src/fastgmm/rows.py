"""What is asked of rows under given parameters: densities, responsibilities, labels.

Frames come from the parameters, so mixtures that were loaded or made by hand need no data.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ._typing import FloatArray, LabelArray, RowArray
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


def log_density(X: RowArray, structure: Structure, parameters: Parameters, n_threads: int) -> FloatArray:
    """log p(x_n), (N,)."""
    return Scorer(structure, parameters, n_threads).score_samples(X)


def responsibilities(X: RowArray, structure: Structure, parameters: Parameters, n_threads: int) -> FloatArray:
    """p(component k | x_n), (N, K)."""
    return Scorer(structure, parameters, n_threads).predict_proba(X)


def labels(X: RowArray, structure: Structure, parameters: Parameters, n_threads: int) -> LabelArray:
    """The most likely component of each row, (N,) int64; the first of equals."""
    return Scorer(structure, parameters, n_threads).predict(X)


def log_prob_components(
    X: RowArray, structure: Structure, parameters: Parameters, n_threads: int
) -> FloatArray:
    """log N(x_n | mean_k, covariance_k), (N, K), without the weights."""
    unweighted = parameters._replace(weights=np.ones(parameters.weights.shape))
    return Scorer(structure, unweighted, n_threads).scores(X)


def summary(data: ArrayData, structure: Structure, parameters: Parameters, n_threads: int) -> RowSummary:
    """Weighted sums over rows that score, bic, aic and icl are made of."""
    head = Scorer(structure, parameters, n_threads).summary(data)
    return RowSummary(float(head[LOG_LIKELIHOOD]), float(head[LOG_MAX]), data.total_weight)
