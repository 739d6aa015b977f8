"""Rows of arrays, in memory or memory-mapped, read where they lie; sources/ has all others."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ._typing import FloatArray, RowArray
from .frame import Frame, make_frame, power_of_two_near_inverse
from .kernels._pass import DIAGONAL, SCALAR, Pass
from .score_map import ScoreMap

# Rows looked at for a first idea of where the data lie.
SAMPLE_ROWS = 256
# A first idea further off than this, in its own units or in standard deviations, costs digits of the mean and
# the spread; then another pass measures them again. The mean is then off by a rounding error of the distance:
# where the spread is that of rows of hardly any weight, it takes more than one.
FAR_OFF, MOST_GUESSES = 1e3, 3
# Of rows that span no more than this no component has a variance beyond 1e306, whichever it takes. float64
# ends at 1.8e308, but axes of a covariance matrix can be longer than any feature's.
LARGEST_RANGE = 2e153
# Nor has it where the data's standard deviation is within this: a component with 10 eps of the weight, the
# least it may have (structures/base.py), is 2e7 times as wide as the data at most.
SAFE_SPREAD = 1e145
# Weights whose largest is beyond this, or below its reciprocal, are multiplied by a power of two where only
# their ratios count: the sum of a log-likelihood may leave the range of float64 where the mean does not.
LARGEST_UNSCALED_WEIGHT = 2.0**64


def readable(X: RowArray) -> RowArray:
    """The array itself; a copy where it is in foreign byte order or at unaligned addresses."""
    if X.dtype.isnative and X.flags.aligned:
        return X
    return np.require(X.astype(X.dtype.newbyteorder("=")), requirements="A")


class Sizes(NamedTuple):
    """How many rows there are, how many of positive weight, of how many features, of how many bytes."""

    n_rows: int
    n_positive: int
    n_features: int
    row_bytes: int


class ArrayData:
    """Rows of a 2-D array with optional weights; never copied.

    Parameters
    ----------
    X : ndarray of shape (N, D), float64 or float32, any strides
        Only an array in foreign byte order or at unaligned addresses is copied.
    sample_weight : ndarray of shape (N,) or None
        Non-negative; None means 1 for each row.

    Attributes
    ----------
    stands_for : how many rows these are a sample of; as many as they are where they are all
    """

    def __init__(self, X: RowArray, sample_weight: FloatArray | None = None) -> None:
        self.X = readable(X)
        if sample_weight is not None:
            sample_weight = np.ascontiguousarray(sample_weight, dtype=np.float64)
        self.sample_weight = sample_weight
        self.n_rows, self.n_features = X.shape
        self.row_bytes = self.n_features * X.itemsize
        self.total_weight = float(self.n_rows if sample_weight is None else sample_weight.sum())
        self.n_positive = int(self.n_rows if sample_weight is None else np.count_nonzero(sample_weight > 0))
        self.stands_for = self.n_rows
        self._measured: tuple[FloatArray, FloatArray] | None = None

    @property
    def sizes(self) -> Sizes:
        """What is known of the rows without looking at them."""
        return Sizes(self.n_rows, self.n_positive, self.n_features, self.row_bytes)

    def positive_rows(self) -> NDArray[np.uint32] | None:
        """Numbers of the rows of positive weight, None where all are."""
        if self.n_positive == self.n_rows:
            return None
        assert self.sample_weight is not None
        return np.flatnonzero(self.sample_weight > 0).astype(np.uint32)

    def sample(self, n: int) -> FloatArray:
        """About n rows of positive weight, evenly spaced; float64 (m, D), m >= 1."""
        few = self.n_rows <= n
        rows = np.arange(self.n_rows) if few else np.arange(n, dtype=np.int64) * self.n_rows // n
        if self.sample_weight is not None:
            rows = rows[self.sample_weight[rows] > 0]
            if rows.size == 0:
                rows = np.flatnonzero(self.sample_weight > 0)[:1]
        return np.asarray(self.X[rows], dtype=np.float64)

    def one_row_of_each(self, step: int, random_state: np.random.RandomState) -> ArrayData:
        """One row of each `step`, at random places: rows may alternate, or come in the order of clusters."""
        index = np.arange(0, self.n_rows - step + 1, step)
        index += random_state.randint(0, step, size=index.size)
        weight = self.sample_weight
        return ArrayData(self.X[index], None if weight is None else weight[index])

    def with_weights_in_range(self) -> ArrayData:
        """The same rows; weights that are far from 1 in the same ratios, exactly, with a sum near 1."""
        weight = self.sample_weight
        if weight is None or 1 / LARGEST_UNSCALED_WEIGHT <= weight.max() <= LARGEST_UNSCALED_WEIGHT:
            return self
        # of positive weights none becomes 0, which would be another set of rows
        scaled = np.maximum(weight * power_of_two_near_inverse(self.total_weight), np.nextafter(0.0, 1.0))
        data = ArrayData(self.X, np.where(weight > 0, scaled, 0.0))
        data.stands_for = self.stands_for
        return data

    def frame(self, n_threads: int, common_scale: bool = False) -> Frame:
        """Frame of the data; see `moments`."""
        return make_frame(*self.moments(n_threads), common_scale)

    def moments(self, n_threads: int) -> tuple[FloatArray, FloatArray]:
        """Weighted mean and standard deviation per feature, in the user's units; measured once.

        Read off a sample first, then measured exactly in the frame that the sample gives, so that neither a
        far origin nor an extreme unit costs digits.

        Raises
        ------
        ValueError
            Where rows of positive weight lie so far apart that float64 has no number for their variance.
        """
        if self._measured is None:
            self._measured = self._measure(n_threads)
        return self._measured

    def _measure(self, n_threads: int) -> tuple[FloatArray, FloatArray]:
        rows = self.sample(SAMPLE_ROWS)
        origin = rows[0]
        with np.errstate(over="ignore", invalid="ignore"):
            largest = np.abs(rows - origin).max(axis=0)
        guess = Frame(np.ascontiguousarray(origin), power_of_two_near_inverse(largest))
        mean, spread = self._moments(guess, n_threads)
        if not (np.isfinite(mean).all() and np.isfinite(spread).all()):
            low, high = self._range()
            guess = Frame(low / 2 + high / 2, power_of_two_near_inverse(high / 2 - low / 2))
            mean, spread = self._moments(guess, n_threads)
        for _ in range(MOST_GUESSES):
            if not ((np.hypot(mean, spread) > FAR_OFF) | (np.abs(mean) > FAR_OFF * spread)).any():
                break
            shift = guess.shift + mean / guess.scale
            guess = Frame(shift, power_of_two_near_inverse(np.hypot(mean, spread) / guess.scale))
            mean, spread = self._moments(guess, n_threads)
        with np.errstate(over="ignore", invalid="ignore"):
            spread = spread / guess.scale
        if not (spread <= SAFE_SPREAD).all():
            self._check_range()
        return guess.shift + mean / guess.scale, spread

    def _range(self) -> tuple[FloatArray, FloatArray]:
        """Smallest and largest value of each feature among the rows of positive weight."""
        counts = True if self.sample_weight is None else (self.sample_weight > 0)[:, None]
        low = self.X.min(axis=0, where=counts, initial=np.inf)
        high = self.X.max(axis=0, where=counts, initial=-np.inf)
        return low.astype(np.float64), high.astype(np.float64)

    def _check_range(self) -> None:
        """Refuse rows so far apart in a feature that variances and covariances would overflow."""
        low, high = self._range()
        half = high / 2 - low / 2
        i = int(np.argmax(half))
        if half[i] > LARGEST_RANGE / 2:
            raise ValueError(
                f"Input X has values from {low[i]:.3g} to {high[i]:.3g} in column {i}: variances would be "
                "too large for dtype('float64'). Rescale X so that no feature spans more than "
                f"{LARGEST_RANGE:.0e}, for instance by sklearn.preprocessing.MaxAbsScaler."
            )

    def _moments(self, frame: Frame, n_threads: int) -> tuple[FloatArray, FloatArray]:
        """Weighted mean and standard deviation per feature, in the frame."""
        D = self.n_features
        one_component = ScoreMap(
            terms=DIAGONAL, coef=np.zeros((1, 2 * D)), offset=np.zeros(1), bound=None, bound_offset=None,
            root_shape=SCALAR, root=None, centre=None, constant=None,
        )  # fmt: skip
        sweep = Pass(self.X, self.sample_weight, frame, 1)
        sweep.score(one_component)
        sweep.accumulate(DIAGONAL, 2 * D, True, None, None, SCALAR, False, False)
        terms = sweep.run(n_threads)["terms"][0] / self.total_weight
        with np.errstate(invalid="ignore", over="ignore"):
            return terms[:D], np.sqrt(np.maximum(terms[D:] - terms[:D] ** 2, 0.0))
