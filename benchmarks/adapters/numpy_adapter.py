"""The null model: the expectation-maximisation a careful person writes in NumPy.

The score of a component is linear in the features 1, x_i and x_i x_j of a row, so that both halves of an
iteration are matrix products over blocks of rows. What fastgmm gains over this is what compiled kernels are
good for; what this gains over scikit-learn is algebra. No safeguards: the data are centred, and that is
all.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from adapters import Fit
from problems import Start

LABEL = "NumPy"
COVARIANCE_TYPES = ("full", "tied", "diag", "spherical")
BLOCK_ROWS = 2048


def prepare(n_threads: int) -> None:
    """Thread counts come from the environment the worker was started in."""


def info() -> dict[str, Any]:
    return {"version": np.__version__}


def fit(X: np.ndarray, start: Start, covariance_type: str, max_iter: int) -> Fit:
    begin = time.perf_counter()
    origin = X.mean(axis=0)
    n_features = X.shape[1]
    upper = np.triu_indices(n_features)
    weights, means, covariances = start.weights, start.means - origin, start.covariances
    # Tied covariances are the same total scatter minus that between the components in every iteration.
    scatter = None
    if covariance_type == "tied":
        scatter = np.cov(X, rowvar=False, bias=True).reshape(n_features, n_features)
    for _ in range(max_iter):
        W = _natural_parameters(weights, means, covariances, covariance_type, upper)
        T = np.zeros_like(W)
        for row in range(0, X.shape[0], BLOCK_ROWS):
            phi = _features(X[row : row + BLOCK_ROWS] - origin, covariance_type, upper)
            scores = phi @ W.T
            scores -= scores.max(axis=1, keepdims=True)
            np.exp(scores, out=scores)
            scores /= scores.sum(axis=1, keepdims=True)
            T += scores.T @ phi
        weights, means, covariances = _estimate(T, covariance_type, upper, start.reg_covar, scatter)
    seconds = time.perf_counter() - begin
    return Fit(seconds, max_iter, weights, means + origin, covariances, None, {})


def _features(Z: np.ndarray, covariance_type: str, upper: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    ones = np.ones((len(Z), 1))
    if covariance_type == "full":
        return np.hstack([ones, Z, Z[:, upper[0]] * Z[:, upper[1]]])
    if covariance_type == "diag":
        return np.hstack([ones, Z, Z * Z])
    if covariance_type == "spherical":
        return np.hstack([ones, Z, (Z * Z).sum(axis=1, keepdims=True)])
    return np.hstack([ones, Z])  # tied: the quadratic term is the same for all components and cancels


def _natural_parameters(
    weights: np.ndarray,
    means: np.ndarray,
    covariances: np.ndarray,
    covariance_type: str,
    upper: tuple[np.ndarray, np.ndarray],
) -> np.ndarray:
    """W with scores = features @ W.T, but for what all components share."""
    if covariance_type in ("full", "tied"):
        precisions = np.linalg.inv(covariances)
        linear = (precisions @ means[..., None])[..., 0]
        log_det = np.linalg.slogdet(covariances)[1]
    else:
        precisions = 1.0 / (covariances if covariance_type == "diag" else covariances[:, None])
        linear = means * precisions
        log_det = -np.log(np.broadcast_to(precisions, means.shape)).sum(axis=1)
    constant = np.log(weights) - 0.5 * (log_det + (means * linear).sum(axis=1))
    if covariance_type == "tied":
        return np.hstack([constant[:, None], linear])
    if covariance_type == "full":
        factor = np.where(upper[0] == upper[1], -0.5, -1.0)
        return np.hstack([constant[:, None], linear, precisions[:, upper[0], upper[1]] * factor])
    return np.hstack([constant[:, None], linear, -0.5 * precisions])


def _estimate(
    T: np.ndarray,
    covariance_type: str,
    upper: tuple[np.ndarray, np.ndarray],
    reg_covar: float,
    scatter: np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    counts = T[:, 0]
    n_features = len(scatter) if scatter is not None else upper[0].max() + 1
    weights = counts / counts.sum()
    means = T[:, 1 : 1 + n_features] / counts[:, None]
    if scatter is not None:
        return weights, means, scatter - (means.T * weights) @ means + reg_covar * np.eye(n_features)
    second = T[:, 1 + n_features :] / counts[:, None]
    if covariance_type == "diag":
        return weights, means, second - means**2 + reg_covar
    if covariance_type == "spherical":
        return weights, means, (second[:, 0] - (means**2).sum(axis=1)) / n_features + reg_covar
    covariances = np.empty((len(counts), n_features, n_features))
    covariances[:, upper[0], upper[1]] = second
    covariances[:, upper[1], upper[0]] = second
    covariances -= means[:, :, None] * means[:, None, :]
    return weights, means, covariances + reg_covar * np.eye(n_features)
