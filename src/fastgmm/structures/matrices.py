"""What full and tied covariances share: factors, tests and repairs of symmetric matrices."""

from __future__ import annotations

import numpy as np

from .._typing import BoolArray, FloatArray
from ..frame import Frame
from ..kernels import _linalg
from .base import FLOOR, ROUNDED_UP, SMALLEST_SPREAD, STATISTICS_LIMIT, raised_variances

# A covariance whose correlation matrix R has trace(inverse(R)) > 1 / SINGULAR is singular to working
# precision: the smallest eigenvalue of R lies between 1 / trace(inverse(R)) and D times that.
SINGULAR = float(np.finfo(np.float64).eps)


def check_symmetric(matrix: FloatArray, what: str) -> None:
    """Raise ValueError where a pair of entries differs by more than 1e-6 in correlation units."""
    with np.errstate(invalid="ignore"):
        spread = np.sqrt(np.diagonal(matrix))
        if (np.abs(matrix - matrix.T) > 1e-6 * spread[:, None] * spread).any():
            raise ValueError(f"{what} is not symmetric")


def checked_roots(matrices: FloatArray, what: str) -> FloatArray:
    """Upper triangular U with inverse(matrix) = U U', for each; ValueError names a matrix that has none."""
    roots = np.empty(matrices.shape)
    failed = np.zeros(matrices.shape[0], dtype=np.intc)
    _linalg.precision_roots(np.ascontiguousarray(matrices), roots, failed, 1)
    for k in np.flatnonzero(failed).tolist():
        raise ValueError(f"{what} of component {k} is not positive definite")
    for k, matrix in enumerate(matrices):
        check_symmetric(matrix, f"{what} of component {k}")
    return roots


def root_of_precision(precisions: FloatArray, what: str) -> FloatArray:
    """Upper triangular U with precision = U U' (scikit-learn's convention): flip, factorise, flip back."""
    flipped = np.ascontiguousarray(precisions[:, ::-1, ::-1])
    for k, matrix in enumerate(precisions):
        check_symmetric(matrix, f"{what} of component {k}")
        try:
            flipped[k] = np.linalg.cholesky(flipped[k])
        except np.linalg.LinAlgError as error:
            raise ValueError(f"{what} of component {k} is not positive definite") from error
    return np.ascontiguousarray(flipped[:, ::-1, ::-1])


def inverse_gram(roots: FloatArray) -> FloatArray:
    """inverse(U U') for each upper triangular U."""
    inverse = np.linalg.inv(roots)
    return np.swapaxes(inverse, -1, -2) @ inverse


def absolute_quadratic(roots: FloatArray, reach: FloatArray) -> FloatArray:
    """reach_k' |U_k U_k'| reach_k; its upper bound | |U_k|' reach_k |^2 where that is small enough."""
    bound = (np.matmul(reach[:, None, :], np.abs(roots))[:, 0, :] ** 2).sum(axis=1)
    unsure = np.flatnonzero(~(bound <= STATISTICS_LIMIT))
    for k in unsure:
        bound[k] = reach[k] @ np.abs(roots[k] @ roots[k].T) @ reach[k]
    return bound


def singular_matrices(covariances: FloatArray, roots: FloatArray, scale: FloatArray) -> BoolArray:
    """Which covariances (m, D, D) are singular to working precision (SINGULAR, base.SMALLEST_SPREAD)."""
    with np.errstate(invalid="ignore", over="ignore"):
        spread = np.sqrt(np.einsum("kii->ki", covariances))
        inverse_trace = ((spread[:, :, None] * roots) ** 2).sum(axis=(1, 2))
        return ~(inverse_trace * SINGULAR <= 1.0) | ~(spread * scale > SMALLEST_SPREAD).all(axis=1)


def ratio_norms(old: FloatArray, new: FloatArray, n_threads: int) -> FloatArray:
    """Bounds on |old_k' inverse(new_k)'|_2 of precision factors (K, D, D): how far components have grown."""
    K, D, _ = old.shape
    norms = np.empty(K)
    _linalg.ratio_norms(old, new, norms, np.empty((max(1, n_threads), 2, D, D)))
    return ROUNDED_UP * np.where(np.isfinite(norms), norms, np.inf)


def raised_matrix(covariance: FloatArray, frame: Frame) -> FloatArray:
    """One covariance matrix with variances and correlations raised.

    In units of its own standard deviations, none below the floor, a covariance cannot overflow.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        spread = np.sqrt(raised_variances(np.diagonal(covariance), frame.scale))
        correlation = covariance / spread[:, None] / spread
    correlation = np.where(np.isfinite(correlation), correlation, 0.0)
    np.fill_diagonal(correlation, 1.0)
    values, vectors = np.linalg.eigh((correlation + correlation.T) / 2)
    raised = (vectors * np.maximum(values, FLOOR * values[-1])) @ vectors.T
    return (raised + raised.T) / 2 * spread[:, None] * spread


def longest_axis_of_matrix(covariance: FloatArray) -> FloatArray:
    """Longest axis in units of each feature's standard deviation, its largest entry positive."""
    spread = np.sqrt(np.diagonal(covariance))
    values, vectors = np.linalg.eigh(covariance / spread[:, None] / spread)
    axis = vectors[:, -1] * np.sqrt(values[-1]) * spread
    return axis if axis[np.argmax(np.abs(axis))] > 0 else -axis
