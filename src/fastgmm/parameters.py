"""The parameters of a mixture, in the user's units."""

from __future__ import annotations

from typing import NamedTuple

from ._typing import FloatArray


class Parameters(NamedTuple):
    """Weights, means and covariances of K components in D dimensions.

    All arrays are float64 and C-contiguous, in scikit-learn's shapes.

    Attributes
    ----------
    weights : ndarray of shape (K,)
    means : ndarray of shape (K, D)
    covariances : ndarray
        (K, D, D) for full, (D, D) for tied, (K, D) for diag, (K,) for spherical.
    precisions_cholesky : ndarray of the same shape
        Upper triangular U with precision = U U' (full, tied) or the reciprocal standard deviations.
    """

    weights: FloatArray
    means: FloatArray
    covariances: FloatArray
    precisions_cholesky: FloatArray
