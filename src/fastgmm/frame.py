"""The frame: coordinates z = (x - shift) * scale in which scores are expanded in features.

The scale is a power of two, so that scaling is exact: values in the frame differ from the user's by the
rounding of one subtraction and by nothing else. (k-means, whose rounding does not matter, also uses frames of
other scales.)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ._typing import FloatArray

# Powers of two beyond this could overflow once they are squared and summed.
LARGEST_EXPONENT = 500
# Units of k-means, which may be any number, are no larger than this: the reciprocal of a subnormal spread is
# infinite.
LARGEST_UNIT = 2.0**1000


@dataclass(frozen=True)
class Frame:
    """shift (D,) in the user's units and scale (D,)."""

    shift: FloatArray
    scale: FloatArray

    def to_frame(self, points: FloatArray) -> FloatArray:
        """Points (..., D) of the user's units in the frame."""
        return (points - self.shift) * self.scale


def power_of_two_near_inverse(spread: ArrayLike) -> FloatArray:
    """For each spread the power of two nearest below its reciprocal; 1 for 0 and for what is not finite."""
    spread = np.asarray(spread, dtype=np.float64)
    usable = np.isfinite(spread) & (spread > 0)
    exponent = np.frexp(np.where(usable, spread, 0.5))[1]
    return np.ldexp(1.0, np.clip(-exponent, -LARGEST_EXPONENT, LARGEST_EXPONENT))


def inverse_units(spread: ArrayLike) -> FloatArray:
    """Reciprocals of spreads, which are positive; of the smallest numbers, LARGEST_UNIT."""
    return np.asarray(1.0 / np.maximum(spread, 1.0 / LARGEST_UNIT))


def make_frame(mean: ArrayLike, spread: ArrayLike, common_scale: bool) -> Frame:
    """Frame of a centre and a spread per feature.

    With `common_scale` (spherical covariances) all features share one scale: a scale per feature would fit
    another model.
    """
    mean = np.ascontiguousarray(mean, dtype=np.float64)
    spread = np.asarray(spread, dtype=np.float64)
    if common_scale:
        finite = spread[np.isfinite(spread)]
        spread = np.full(mean.shape, finite.max() if finite.size else 0.0)
    return Frame(mean, np.ascontiguousarray(power_of_two_near_inverse(spread)))


def frame_of_parameters(
    weights: FloatArray, means: FloatArray, variances: FloatArray, common_scale: bool
) -> Frame:
    """Frame of a mixture: its mean and its standard deviation per feature, without data."""
    return make_frame(*moments_of_parameters(weights, means, variances), common_scale)


def moments_of_parameters(
    weights: FloatArray, means: FloatArray, variances: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Mean and standard deviation per feature of a mixture, (D,).

    Parameters
    ----------
    weights : (K,)
    means : (K, D)
    variances : (K, D), diagonal of the covariances
    """
    total = weights.sum()
    usable = total > 0 and np.isfinite(total)
    share = weights / total if usable else np.full(weights.shape, 1.0 / weights.size)
    # about the heaviest component's mean, so that a far origin costs no digits and overflow is postponed
    origin = means[np.argmax(share)]
    with np.errstate(over="ignore", invalid="ignore"):
        mean = origin + 2.0 * (share @ (means / 2 - origin / 2))
        deviation = np.abs(means - mean)
        largest = deviation.max(axis=0)
        safe = np.where(largest > 0, largest, 1.0)
        between = safe * np.sqrt(share @ (deviation / safe) ** 2)
        return mean, np.hypot(between, np.sqrt(share @ variances))
