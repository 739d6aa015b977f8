"""What is asked of rows besides what a scorer gives: weighted sums."""

from __future__ import annotations

from typing import Any, NamedTuple

from .blocks import ArrayData
from .kernels._pass import LOG_LIKELIHOOD, LOG_MAX
from .scorer import Scorer


class RowSummary(NamedTuple):
    """Sums over rows: of w log p, of w log max_k r_k, of w."""

    log_likelihood: float
    log_max_responsibility: float
    total_weight: float


def summary(data: ArrayData, scorer: Scorer) -> RowSummary:
    """Weighted sums over rows that score, bic, aic and icl are made of."""
    head = scorer.summary(data)
    return RowSummary(float(head[LOG_LIKELIHOOD]), float(head[LOG_MAX]), data.total_weight)


def summary_of_parts(data: Any, scorer: Scorer) -> RowSummary:
    """The same over rows of a source, which its data (StreamedData, DaskData) go over."""
    sums = RowSummary(*data.summary(scorer))
    if sums.total_weight == 0.0:
        raise ValueError("X has no rows of positive weight.")
    return sums
