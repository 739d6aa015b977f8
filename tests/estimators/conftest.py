"""Rows and fitted mixtures shared by the tests of estimators."""

from __future__ import annotations

import numpy as np
import pytest

from fastgmm import GaussianMixture


def three_clusters(n_rows: int = 300, n_features: int = 2, seed: int = 0) -> np.ndarray:
    """Rows around (0, ..), (4, ..) and (9, ..) with unequal spreads, in random order."""
    rng = np.random.RandomState(seed)
    centres = np.array([0.0, 4.0, 9.0])[rng.randint(3, size=n_rows), np.newaxis]
    return centres + rng.standard_normal((n_rows, n_features)) * np.linspace(0.5, 1.5, n_features)


def three_starts(X: np.ndarray) -> np.ndarray:
    """Means for three components, from which EM finds the clusters."""
    return np.repeat([[0.0], [4.0], [9.0]], X.shape[1], axis=1)


@pytest.fixture
def rows() -> np.ndarray:
    return three_clusters()


@pytest.fixture
def start_means(rows) -> np.ndarray:
    return three_starts(rows)


@pytest.fixture
def fitted(rows, start_means, covariance_type) -> GaussianMixture:
    """A mixture of three components for each covariance type."""
    mixture = GaussianMixture(
        3, covariance_type=covariance_type, means_init=start_means, max_iter=500, random_state=0
    )
    return mixture.fit(rows)
