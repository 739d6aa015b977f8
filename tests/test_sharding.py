"""Components spread over machines: the recipe of docs/internet_scale.md gives what one machine finds."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import logsumexp

from fastgmm import GaussianMixture

# Scores and sums are rounded in another order: some eps of the largest terms at each of a few steps of EM.
ROUNDING = 1e-9


@pytest.mark.parametrize("covariance_type", ["full", "diag", "spherical"])
@pytest.mark.parametrize("n_shards", [2, 5])
def test_sharded_components_follow_em(covariance_type, n_shards):
    """Every shard has some of the components, and of a row nothing but its density under the others."""
    rng = np.random.default_rng(0)
    centres = 3.0 * rng.standard_normal((10, 4))
    X = centres[rng.integers(0, 10, 3000)] + rng.standard_normal((3000, 4))
    X[:60] *= 60.0  # far out: most shards have a density of 0 for these rows
    shape = {"full": (4, 4), "diag": (4,), "spherical": ()}[covariance_type]
    unit = np.eye(4) if covariance_type == "full" else np.ones(shape)
    whole = GaussianMixture.from_parameters(
        np.full(10, 0.1), X[55:65], np.broadcast_to(unit, (10, *shape)), covariance_type, tol=0
    )
    parts = np.array_split(np.arange(10), n_shards)
    shards = [
        GaussianMixture.from_parameters(
            np.full(len(part), 1.0 / len(part)), whole.means_[part], whole.covariances_[part], covariance_type
        )
        for part in parts
    ]
    shares = np.array([len(part) / 10 for part in parts])
    for _ in range(5):
        whole.update(whole.accumulate(X))
        densities = np.array([np.log(share) + shard.score_samples(X) for share, shard in zip(shares, shards)])
        total = logsumexp(densities, axis=0)
        statistics = [
            shard.accumulate(X, sample_weight=np.exp(density - total))
            for shard, density in zip(shards, densities)
        ]
        shares = np.array([s.total_weight for s in statistics]) / len(X)
        for shard, sums in zip(shards, statistics):
            shard.update(sums)
        for name in ("means_", "covariances_"):
            found = np.concatenate([getattr(shard, name) for shard in shards])
            np.testing.assert_allclose(found, getattr(whole, name), rtol=ROUNDING, atol=ROUNDING)
        weights = np.concatenate([share * shard.weights_ for share, shard in zip(shares, shards)])
        np.testing.assert_allclose(weights, whole.weights_, rtol=0, atol=ROUNDING)
        assert whole.lower_bound_ == pytest.approx(total.mean(), rel=ROUNDING)
