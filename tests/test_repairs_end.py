"""Repairs end: a floored component neither blocks convergence nor is counted again; starts are counted."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from sklearn.cluster import kmeans_plusplus

from fastgmm import DegenerateComponentError, GaussianMixture, RepairWarning


def two_groups(n=200):
    rng = np.random.default_rng(0)
    return np.concatenate([rng.normal(-3, 1, (n, 2)), rng.normal(3, 1, (n, 2))])


@pytest.mark.parametrize("kind", ["full", "diag"])
def test_a_floored_component_does_not_block_convergence(kind):
    X = np.column_stack(
        [two_groups(), np.full(400, 7.0)]
    )  # a constant column, and nothing added to variances
    mixture = GaussianMixture(2, covariance_type=kind, reg_covar=0.0, random_state=0)
    with pytest.warns(RepairWarning):
        mixture.fit(X)
    assert mixture.converged_
    assert mixture.n_iter_ < 50
    assert mixture.n_repairs_ <= 8  # each component: some reseeds, one floor, at the start and in the fit
    # one pass an iteration from then on: nobody looks twice at what is hopeless
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mixture.set_params(tol=0.0, max_iter=20).fit(X)
    assert mixture.history_["second_looks"][0] > 0
    assert sum(mixture.history_["second_looks"][1:]) == 0


@pytest.mark.filterwarnings("ignore::fastgmm.RegularizationWarning")  # as it should be: rows repeat
def test_repairs_of_the_start_are_reported():
    X = np.repeat([[0.0], [1.0]], 10, axis=0)  # two distinct rows, three components
    with pytest.raises(DegenerateComponentError):
        GaussianMixture(3, repair="raise", random_state=0).fit(X)
    with pytest.warns(RepairWarning):
        mixture = GaussianMixture(3, repair="floor", random_state=0).fit(X)
    assert mixture.n_repairs_ >= 1
    assert np.isfinite(mixture.means_).all()


@pytest.mark.parametrize("factor", [1e306, 1e-310])
def test_weights_beyond_the_range_of_sums_are_refused(factor):
    with pytest.raises(ValueError, match="would leave the range of float64"):
        GaussianMixture(2, random_state=0).fit(two_groups(20), sample_weight=np.full(40, factor))


@pytest.mark.parametrize("seed", range(5))
def test_a_row_of_weight_zero_is_no_start(seed):
    """scikit-learn's k-means++ takes the first row of all once no row is left that is not a centre."""
    X = np.array([[1e6], [0.0], [0.0], [1.0], [1.0]])
    weight = np.array([0.0, 1, 1, 1, 1])
    assert 0 in kmeans_plusplus(X, 3, sample_weight=weight, random_state=seed)[1]
    mixture = GaussianMixture(3, init_params="k-means++", random_state=seed, max_iter=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mixture.fit(X, sample_weight=weight)
    assert mixture.means_.max() < 2
