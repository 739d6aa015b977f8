"""The parameters of a mixture, in the user's units."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Parameters(NamedTuple):
    """Weights, means and covariances of K components in D dimensions.

    Arrays are float64 and C-contiguous, in scikit-learn's shapes: covariances (K, D, D) for full, (D, D) for tied,
    (K, D) for diag, (K,) for spherical; `precisions_cholesky` has the same shape and holds the upper triangular U
    with precision = U U' (full, tied) or the reciprocal standard deviations.
    """

    weights: np.ndarray
    means: np.ndarray
    covariances: np.ndarray
    precisions_cholesky: np.ndarray
