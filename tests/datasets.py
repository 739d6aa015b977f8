"""Small problems for the tests: rows, a model they may come from, and a start that EM can move from."""

from __future__ import annotations

import csv
import functools
from pathlib import Path

import numpy as np
import oracle

DATA = Path(__file__).parent / "data"


def random_rotation(rng, n_features: int) -> np.ndarray:
    q, r = np.linalg.qr(rng.standard_normal((n_features, n_features)))
    return q * np.sign(np.diag(r))


def random_covariances(rng, covariance_type: str, n_components: int, n_features: int) -> np.ndarray:
    """Covariances with standard deviations between 0.5 and 2 (condition at most 16)."""

    def matrix():
        rotation = random_rotation(rng, n_features)
        symmetric = (rotation * rng.uniform(0.25, 4.0, n_features)) @ rotation.T
        return (symmetric + symmetric.T) / 2

    if covariance_type == "full":
        return np.stack([matrix() for _ in range(n_components)])
    if covariance_type == "tied":
        return matrix()
    shape = (n_components, n_features) if covariance_type == "diag" else (n_components,)
    return rng.uniform(0.25, 4.0, shape)


def random_model(seed: int, covariance_type: str, n_components: int, n_features: int, spread: float):
    """float64 parameters (weights, means, covariances); `spread` is the standard deviation of the means."""
    rng = np.random.default_rng(seed)
    weights = rng.uniform(0.5, 1.5, n_components)
    weights /= weights.sum()
    means = spread * rng.standard_normal((n_components, n_features))
    return weights, means, random_covariances(rng, covariance_type, n_components, n_features)


def draw(seed: int, n_rows: int, weights, means, covariance_type: str, covariances) -> np.ndarray:
    """Rows of the mixture, in random order."""
    rng = np.random.default_rng(seed)
    n_features = means.shape[1]
    labels = rng.choice(len(weights), n_rows, p=weights)
    rows = rng.standard_normal((n_rows, n_features))
    for k in range(len(weights)):
        matrix = oracle.covariance_matrix(covariance_type, covariances, k, n_features).astype(np.float64)
        rows[labels == k] = rows[labels == k] @ np.linalg.cholesky(matrix).T + means[k]
    return rows


@functools.lru_cache(maxsize=64)
def problem(
    seed: int, n_rows: int, n_features: int, n_components: int, covariance_type: str, spread: float = 3.0
):
    """(X, start): rows of a random mixture, and parameters beside those they were drawn from."""
    weights, means, covariances = random_model(seed, covariance_type, n_components, n_features, spread)
    X = draw(seed + 1, n_rows, weights, means, covariance_type, covariances)
    rng = np.random.default_rng(seed + 2)
    start = (
        np.full(n_components, 1.0 / n_components),
        means + 0.3 * rng.standard_normal(means.shape),
        covariances * 1.5,
    )
    X.flags.writeable = False
    return X, start


def init_arguments(covariance_type: str, start) -> dict:
    """The start as constructor arguments ``weights_init``, ``means_init`` and ``precisions_init``."""
    weights, means, covariances = (np.asarray(a, dtype=np.float64) for a in start[:3])
    factor = oracle.precisions_cholesky(covariances, covariance_type)
    if covariance_type in ("full", "tied"):
        precisions = np.asarray(factor @ np.swapaxes(factor, -1, -2), dtype=np.float64)
    else:
        precisions = np.asarray(factor**2, dtype=np.float64)
    return {"weights_init": weights, "means_init": means, "precisions_init": precisions}


# -- the sets with reference values of mclust ------------------------------------------------------


@functools.cache
def mclust_rows(name: str) -> np.ndarray:
    X = np.loadtxt(DATA / f"{name}.csv", delimiter=",", skiprows=1, ndmin=2)
    X.flags.writeable = False
    return X


@functools.cache
def mclust_partitions(name: str) -> np.ndarray:
    """Classes from 0, one column for each of G = 1 .. 6."""
    return np.loadtxt(DATA / f"{name}_partitions.csv", delimiter=",", skiprows=1, dtype=np.int64) - 1


@functools.cache
def mclust_reference(name: str) -> dict:
    """(model, G) -> (log-likelihood, number of parameters, mclust's BIC); None where mclust gave up."""
    out = {}
    with open(DATA / f"{name}_mclust.csv", newline="", encoding="utf-8") as lines:
        for row in csv.DictReader(lines):
            values = (row["loglik"], row["n_parameters"], row["bic_mclust"])
            known = "NA" not in values
            key = row["model"], int(row["n_components"])
            out[key] = (float(values[0]), int(values[1]), float(values[2])) if known else None
    return out
