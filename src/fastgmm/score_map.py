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
# A projected score that may err by more is summed with compensation: below the 1e-8 that is promised by what
# the other steps to log p(x) need.
LARGEST_PROJECTED_ERROR = 8e-9
# Beyond this share of the squared distance the bound on the error is no bound: such scores are always summed
# with compensation.
LARGEST_SHARE = 0.125

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
    error_share: FloatArray | None = None  # (K,); where given, projected scores err by largest_error at most
    largest_error: float = LARGEST_PROJECTED_ERROR

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

    def compensated(self, spread: FloatArray) -> ScoreMap:
        """The same for rows whose scores are wanted: those that plain sums lose too much of are compensated.

        Parameters
        ----------
        spread : (K, D) standard deviations of the components in the frame

        Notes
        -----
        In y = U'd, d = x - mean, D + 1 roundings of half of EPSILON each make an error of at most
        h = (D + 1) EPSILON / 2 times |U|'|d|. A row at Mahalanobis distance |y| has |d_i| <= spread_i |y|, so
        that | |U|'|d| | <= kappa |y| with kappa = | |U|' spread |, and |y|^2 / 2 errs by h kappa |y|^2, or
        1.2 times that of the |y|^2 that comes out where h kappa <= 1/16. The sum of squares adds
        (D + 2) EPSILON / 4 of |y|^2. As kappa >= 1, (D + 2) EPSILON kappa |y|^2 covers all.
        """
        if self.root_shape != MATRIX or self.root is None:
            return self  # y is one product: nothing cancels
        D = spread.shape[1]
        with np.errstate(over="ignore", invalid="ignore"):
            kappa = np.linalg.norm(np.matmul(np.abs(self.root), spread[:, :, None])[:, :, 0], axis=1)
            share = (D + 2) * EPSILON * kappa
        is_bound = (share <= LARGEST_SHARE) & (spread > 0).all(axis=1)  # a variance of 0 has underflowed
        return replace(self, error_share=np.where(is_bound, share, np.inf))
