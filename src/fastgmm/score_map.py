"""What the kernels need to score rows under given parameters."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ._typing import FloatArray
from .kernels._pass import MATRIX

EPSILON = float(np.finfo(np.float64).eps)
# A score's error is about EPSILON times the sum of the absolute values of its terms. Beyond this sum the
# expansion in features would err by more than 1e-9, and the projected kernel takes over.
LARGEST_ERROR = 1e-9
LIMIT = LARGEST_ERROR / EPSILON

# Terms of a score that is expanded may be no larger than this, all together, or their sum could overflow.
LARGEST_TERMS = 1e307

HALF_LOG_2PI = 0.5 * float(np.log(2.0 * np.pi))


@dataclass
class ScoreMap:
    """Scores s_k(x) = log weight_k + log N(x | mean_k, covariance_k), in two forms.

    Expanded, in the frame: offset_k + sum_p coef_kp phi_p(z) [- |y|^2 / 2, y = common_root z]. With r_i the
    largest |z_i|, bound_offset_k + sum_p bound_kp phi_p(r) [+ max |y| (| |common_root| r | + common_reach)]
    times EPSILON is about the largest error. Projected: constant_k - |root_k ((x - centre_k) * scale)|^2 / 2.
    """

    terms: int
    coef: FloatArray | None
    offset: FloatArray | None
    bound: FloatArray | None
    bound_offset: FloatArray | None
    root_shape: int
    root: FloatArray | None
    centre: FloatArray | None
    constant: FloatArray | None
    root_is_shared: bool = False
    always_project: bool = False
    project_whole_block: bool = False
    common_root: FloatArray | None = None  # (D, D), or (1, D): a diagonal
    common_shape: int = MATRIX
    common_reach: float = 0.0
    limit: float = LIMIT

    def raised(self, by: FloatArray | float) -> ScoreMap:
        """The same with all scores higher by a number, or those of each component by its own, (K,)."""
        if not np.any(by):
            return self
        offset = None if self.offset is None else self.offset + by
        constant = None if self.constant is None else self.constant + by
        return replace(self, offset=offset, constant=constant)

    def of_shares(self, reach: FloatArray) -> ScoreMap:
        """Scores that labels and responsibilities are made of: without what all components have in common.

        Parameters
        ----------
        reach : (D,) of all means and ordinary rows, |z_i| in the frame

        Notes
        -----
        What is left is linear in z. Its error grows with the distance of a row; that of a projected score
        with the square, which hides all differences at 1e16 standard deviations. So where the expansion is
        good enough for rows among the components, it is better than projections for all rows beyond.
        """
        if self.common_root is None or self.bound is None or self.bound_offset is None:
            return self
        with np.errstate(over="ignore", invalid="ignore"):
            is_good = (self.bound @ reach + self.bound_offset <= self.limit).all()
        return replace(
            self, common_root=None, common_reach=0.0, limit=LARGEST_TERMS if is_good else self.limit
        )
