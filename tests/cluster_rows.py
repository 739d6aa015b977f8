"""Rows in clusters, for tests of k-means."""

from __future__ import annotations

import numpy as np

CORNERS = np.array([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0], [10.0, 10.0]])


def corner_rows(seed, n_rows=400):
    """Rows about four corners, 20 standard deviations apart, and the corner of each."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n_rows) % 4
    return CORNERS[labels] + 0.5 * rng.standard_normal((n_rows, 2)), labels


def grouped_rows(seed, n_rows, n_features, spread):
    rng = np.random.default_rng(seed)
    means = spread * rng.standard_normal((max(2, n_rows // 40), n_features))
    return means[rng.integers(0, len(means), n_rows)] + rng.standard_normal((n_rows, n_features))
