"""What a fit needs to know of rows that are not in memory together: counts, and where they lie."""

from __future__ import annotations

import numpy as np

from .._typing import FloatArray
from .._validation import check_largest_weight
from ..blocks import SAFE_SPREAD, ArrayData


class Survey:
    """Counts, mean and spread of the parts that were added, in the user's units.

    Moments of parts, each about its own mean, are put together as Chan, Golub and LeVeque (1983) do.
    """

    def __init__(self) -> None:
        self.n_rows = self.n_positive = self.n_features = 0
        self.weight, self.largest = 0.0, 0.0  # the total; the largest of a row, 0 where none were given
        self.is_single = True  # float32 throughout
        self.mean: FloatArray = np.empty(0)
        self.spread: FloatArray = np.empty(0)
        self.place = ""  # of the first part, for messages

    def add(self, part: ArrayData, n_threads: int, place: str = "") -> None:
        """One more part."""
        self.merge(Survey._of(part, n_threads, place))

    @staticmethod
    def _of(part: ArrayData, n_threads: int, place: str) -> Survey:
        survey = Survey()
        survey.place, survey.n_features = place, part.n_features
        survey.n_rows, survey.n_positive = part.n_rows, part.n_positive
        survey.is_single = part.n_rows == 0 or part.X.dtype == np.float32
        if part.n_positive:
            if part.sample_weight is not None:
                survey.largest = float(part.sample_weight.max())
            survey.weight = part.total_weight
            survey.mean, survey.spread = part.moments(n_threads)
        return survey

    def merge(self, other: Survey) -> None:
        """The parts of another survey, which come after these."""
        if not self.n_features:
            self.n_features, self.place = other.n_features, other.place
        elif other.n_features and other.n_features != self.n_features:
            raise ValueError(
                f"X has {other.n_features} features in {other.place}, but {self.n_features} in {self.place}."
            )
        self.n_rows += other.n_rows
        self.n_positive += other.n_positive
        self.is_single &= other.is_single
        self.largest = max(self.largest, other.largest)
        if other.n_positive == 0:
            return
        if self.weight == 0.0:
            self.weight, self.mean, self.spread = other.weight, other.mean, other.spread
            return
        with np.errstate(over="ignore", invalid="ignore"):
            share = other.weight / (self.weight + other.weight)
            move = other.mean - self.mean
            self.mean = self.mean + share * move
            between = np.sqrt(share * (1.0 - share)) * np.abs(move)
            within = np.hypot(np.sqrt(1.0 - share) * self.spread, np.sqrt(share) * other.spread)
            self.spread = np.hypot(within, between)
        self.weight += other.weight

    def check(self) -> None:
        """Refuse what cannot be fitted: no rows, weights out of range, rows too far apart."""
        if self.n_rows == 0:
            raise ValueError("X has no rows: 2 or more are needed for a fit.")
        check_largest_weight(self.weight, self.largest)
        if not (self.spread <= SAFE_SPREAD).all():
            i = int(np.argmax(~(self.spread <= SAFE_SPREAD)))
            raise ValueError(
                f"Input X has values so far apart in column {i} that variances would be too large for "
                "dtype('float64'). Rescale X."
            )
