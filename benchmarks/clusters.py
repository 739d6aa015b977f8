"""Mixtures of clusters a given number of standard deviations apart, and what can be known of them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

# Standard deviations between means.
APART = 4.0
# Covariances are A A' with A the identity and this much of a random matrix.
SKEW = 0.5


class Clusters(NamedTuple):
    """Rows, the cluster each was drawn from, and the most probable one by the true parameters."""

    X: FloatArray
    labels: NDArray[np.int64]
    bayes: NDArray[np.int64]


def clusters(placing: str, n_clusters: int, n_features: int, seed: int, n_rows: int = 20_000) -> Clusters:
    """Draw rows of equally probable clusters with a random full covariance each.

    How far two means are apart is told by the standard deviations of the two clusters along the line between
    them: their distance over the mean of the two.

    placing
        'closest': normal means, scaled so that the closest pair is APART; 'each': one mean after the other,
        APART from one of those before, in a random direction, and no nearer to any other, so that the nearest
        neighbour of every mean is APART.
    """
    rng = np.random.default_rng([seed, n_clusters, n_features])
    noise = rng.standard_normal((n_clusters, n_features, n_features)) / np.sqrt(n_features)
    roots = np.eye(n_features) + SKEW * noise
    covariances = roots @ np.swapaxes(roots, 1, 2)
    if placing == "closest":
        means = rng.standard_normal((n_clusters, n_features))
        nearest = [distances(means, covariances, k)[:k].min() for k in range(1, n_clusters)]
        means *= APART / min(nearest)
    else:
        means = np.zeros((1, n_features))
        while len(means) < n_clusters:
            means = _with_one_more(means, covariances, rng)
    labels = rng.integers(n_clusters, size=n_rows)
    X = means[labels] + np.einsum("nij,nj->ni", roots[labels], rng.standard_normal((n_rows, n_features)))
    scores = np.empty((n_rows, n_clusters))
    for k, (mean, root) in enumerate(zip(means, roots)):
        whitened = np.linalg.solve(root, (X - mean).T)
        scores[:, k] = -0.5 * (whitened**2).sum(axis=0) - np.linalg.slogdet(root)[1]
    return Clusters(X, labels, scores.argmax(axis=1))


def distances(means: FloatArray, covariances: FloatArray, k: int) -> FloatArray:
    """Standard deviations from mean k to all others, (K,); NaN to itself."""
    away = means - means[k]
    length = np.linalg.norm(away, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        line = away / length[:, None]
    own = np.sqrt(np.einsum("ji,ik,jk->j", line, covariances[k], line))
    theirs = np.sqrt(np.einsum("ji,jik,jk->j", line, covariances[: len(means)], line))
    return length / (0.5 * (own + theirs))


def _with_one_more(means: FloatArray, covariances: FloatArray, rng: np.random.Generator) -> FloatArray:
    new = len(means)
    anchor = rng.integers(new)
    line = rng.standard_normal(means.shape[1])
    line /= np.linalg.norm(line)
    spread = 0.5 * (np.sqrt(line @ covariances[anchor] @ line) + np.sqrt(line @ covariances[new] @ line))
    more = np.vstack([means, means[anchor] + APART * spread * line])
    nearest = distances(more, covariances, new)[:new].min()
    return more if nearest >= APART * (1.0 - 1e-9) else means
