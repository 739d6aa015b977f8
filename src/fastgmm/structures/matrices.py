"""What full and tied covariances share: factors, tests and repairs of symmetric matrices."""

from __future__ import annotations

import numpy as np

from .._typing import BoolArray, FloatArray
from ..frame import Frame
from ..kernels import _linalg
from .base import FLOOR, ROUNDED_UP, STATISTICS_LIMIT, raised_variances

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
    for k in np.flatnonzero(~precisions_are_finite(roots)).tolist():
        raise ValueError(f"{what} of component {k} is so small that its inverse overflows")
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
    """inverse(U U') for each upper triangular U; ValueError where it overflows."""
    inverse = np.linalg.inv(roots)
    with np.errstate(over="ignore", invalid="ignore"):
        gram = np.swapaxes(inverse, -1, -2) @ inverse
    if not np.isfinite(gram).all():
        raise ValueError("a precision is so small that its inverse overflows")
    return gram


def absolute_quadratic(roots: FloatArray, reach: FloatArray, limit: float = STATISTICS_LIMIT) -> FloatArray:
    """reach_k' |U_k U_k'| reach_k; its upper bound | |U_k|' reach_k |^2 where that is small enough."""
    bound = (np.matmul(reach[:, None, :], np.abs(roots))[:, 0, :] ** 2).sum(axis=1)
    unsure = np.flatnonzero(~(bound <= limit))
    for k in unsure:
        bound[k] = reach[k] @ np.abs(roots[k] @ roots[k].T) @ reach[k]
    return bound


def mirrored(matrix: FloatArray) -> FloatArray:
    """The symmetric matrix of the upper half of one."""
    return np.triu(matrix) + np.triu(matrix, 1).T


def singular_matrices(covariances: FloatArray, roots: FloatArray, rounding: FloatArray) -> BoolArray:
    """Which covariances (m, D, D) are singular to working precision (SINGULAR, base.rounding_of).

    So are those that have an entry, or a precision, that float64 has no number for.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        spread = np.sqrt(np.einsum("kii->ki", covariances))
        inverse_trace = ((spread[:, :, None] * roots) ** 2).sum(axis=(1, 2))
        finite = np.isfinite(covariances).all(axis=(1, 2)) & precisions_are_finite(roots)
        return ~(inverse_trace * SINGULAR <= 1.0) | ~(spread > rounding).all(axis=1) | ~finite


def precisions_are_finite(roots: FloatArray) -> BoolArray:
    """Whether U_k U_k' overflows nowhere; its largest entry is on the diagonal."""
    with np.errstate(over="ignore", invalid="ignore"):
        return np.isfinite(np.einsum("kij,kij->ki", roots, roots)).all(axis=1)


def log_cholesky(covariances: FloatArray, frame: Frame) -> FloatArray:
    """Cholesky factors in the frame, (K, D (D + 1) / 2): logarithms of diagonals, then what is below them."""
    roots = np.linalg.cholesky(covariances * frame.scale[:, None] * frame.scale)
    below = np.tril_indices(frame.scale.size, -1)
    logs = np.log(np.einsum("kii->ki", roots))
    return np.concatenate([logs, roots[:, below[0], below[1]]], axis=1)


def from_log_cholesky(logs: FloatArray, frame: Frame) -> FloatArray:
    """Covariances (K, D, D) of such factors."""
    D = frame.scale.size
    below = np.tril_indices(D, -1)
    roots = np.zeros((logs.shape[0], D, D))
    roots[:, below[0], below[1]] = logs[:, D:]
    roots[:, range(D), range(D)] = np.exp(logs[:, :D])
    return roots @ np.swapaxes(roots, 1, 2) / frame.scale[:, None] / frame.scale


def ratio_norms(old: FloatArray, new: FloatArray, n_threads: int) -> FloatArray:
    """Bounds on |old_k' inverse(new_k)'|_2 of precision factors (K, D, D): how far components have grown."""
    K, D, _ = old.shape
    norms = np.empty(K)
    _linalg.ratio_norms(old, new, norms, np.empty((max(1, n_threads), 2, D, D)))
    return ROUNDED_UP * np.where(np.isfinite(norms), norms, np.inf)


def raised_matrix(covariance: FloatArray, frame: Frame) -> FloatArray:
    """One covariance matrix with variances and correlations raised.

    In units of its own standard deviations, none below the floor, a covariance cannot overflow. What
    cancellation has left of one may have correlations far beyond 1: they would drown all others.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        spread = np.sqrt(raised_variances(np.diagonal(covariance), frame.scale))
        correlation = covariance / spread[:, None] / spread
    correlation = np.clip(np.where(np.isfinite(correlation), correlation, 0.0), -1.0, 1.0)
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
