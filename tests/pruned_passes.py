"""Pruned and dense passes over the same rows, and how far apart their statistics are."""

from __future__ import annotations

import datasets
import numpy as np
from running import forced_pruning, parameters_of

from fastgmm.blocks import ArrayData
from fastgmm.passes import accumulate
from fastgmm.pruning import Bounds, Pruning
from fastgmm.structures import STRUCTURES


class Passes:
    """Pruned and dense passes over the same rows."""

    def __init__(self, X, kind, n_components, *, weight=None, n_threads=1):
        self.data, self.structure = ArrayData(X, weight), STRUCTURES[kind]
        self.frame = self.data.frame(1, self.structure.common_scale)
        self.n_components, self.n_threads = n_components, n_threads
        with forced_pruning("always"):
            self.pruning = Pruning(self.data, self.structure, self.frame, n_components, n_threads)

    def accumulate(self, parameters, bounds):
        score_map = self.structure.score_map(parameters, self.frame, 1)
        centred = np.ones(self.n_components, dtype=bool)
        return accumulate(
            self.data, self.structure, self.frame, self.n_components, self.n_threads,
            score_map=score_map, centres=parameters.means, centred=centred, bounds=bounds,
        )  # fmt: skip

    def dense(self, parameters):
        """The same blocks, of which nothing is known: every component is scored."""
        pruning = self.pruning
        K = self.n_components
        return self.accumulate(
            parameters,
            Bounds(
                order=pruning.order,
                distance=np.zeros((pruning.n_blocks, K), dtype=np.float32),
                least=np.full(pruning.n_blocks, -np.inf),
                drift_shift=np.zeros(K),
                drift_factor=np.ones(K),
                margin=np.zeros(K),
                block_rows=pruning.block_rows,
                keys=None,
            ),
        )

    def pruned(self, parameters):
        statistics = self.accumulate(parameters, self.pruning.bounds(parameters, self.data))
        self.pruning.learn(statistics.pairs)
        return statistics


def whitened_difference(found, expected, parameters, structure) -> float:
    """Largest difference of weights, first and second moments, in units of each component and its weight.

    That is its weight under the parameters: what is skipped is small beside that (docs/pruning.md). Moments
    that are large themselves, those of outliers, are compared in units of their size: they are rounded to it.
    """
    K, D = parameters.means.shape
    weight = np.maximum(expected.weight, parameters.weights * expected.total_weight)
    weight = np.maximum(weight, np.finfo(float).tiny)
    scale = expected.frame.scale
    root = np.stack([oracle_root(parameters, structure.name, k, D) / scale[:, None] for k in range(K)])
    difference = np.abs(found.weight - expected.weight) / weight
    size = 1.0 + largest_moments(expected, root, weight, structure.name)
    first = np.einsum("ki,kij->kj", found.first - expected.first, root) / weight[:, None]
    second = found.second - expected.second
    if structure.name == "full":
        second = np.swapaxes(root, 1, 2) @ second @ root / weight[:, None, None]
    elif structure.name == "tied":
        second = root[0].T @ second @ root[0] / expected.total_weight
    elif structure.name == "diag":
        second = second * np.einsum("kii->ki", root) ** 2 / weight[:, None]
    else:
        second = second * root[:, 0, 0] ** 2 / weight
    by_component = [np.abs(a).reshape(a.shape[0], -1).max(axis=1) for a in (first, np.atleast_1d(second))]
    by_component[1] = by_component[1].max() if structure.name == "tied" else by_component[1]
    return float(max(difference.max(), *((a / size).max() for a in by_component)))


def largest_moments(statistics, root, weight, kind):
    """trace of the whitened second moments of each component per unit of weight, (K,)."""
    second = statistics.second
    if kind == "full":
        return np.einsum("kij,kil,klj->k", root, second, root) / weight
    if kind == "tied":
        return np.full(weight.shape, (root[0] * (second @ root[0])).sum() / statistics.total_weight)
    if kind == "diag":
        return (second * np.einsum("kii->ki", root) ** 2).sum(axis=1) / weight
    return second * root[:, 0, 0] ** 2 / weight


def oracle_root(parameters, kind, k, D):
    root = parameters.precisions_cholesky
    if kind == "full":
        return root[k]
    if kind == "tied":
        return root
    return np.diag(root[k]) if kind == "diag" else root[k] * np.eye(D)


def clusters(kind, seed=0, n_rows=3000, n_features=3, n_components=12, spread=12.0):
    """Rows of separated clusters in random order, and parameters that move a little from pass to pass."""
    weights, means, covariances = datasets.random_model(seed, kind, n_components, n_features, spread)
    X = datasets.draw(seed + 1, n_rows, weights, means, kind, covariances)
    rng = np.random.default_rng(seed + 2)

    def moved(share):
        new_weights = weights * rng.uniform(1 - share, 1 + share, n_components)
        new_means = means + share * rng.standard_normal(means.shape)
        grown = covariances * rng.uniform(1 - share, 1 + 2 * share)
        return parameters_of(kind, (new_weights / new_weights.sum(), new_means, grown))

    return X, moved
