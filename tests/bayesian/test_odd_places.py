"""Posteriors in odd places: singular priors in files, samples of streams, other priors on the way."""

from __future__ import annotations

import copy
import pickle

import bayesian_fits as fits
import numpy as np
import pytest
from sklearn.base import clone
from variational_oracle import DISTRIBUTION, PROCESS

from fastgmm import BayesianGaussianMixture, BlockRows, ConjugatePrior, GaussianMixture

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.mark.parametrize("rows", ["a constant column", "few"])
@pytest.mark.filterwarnings("ignore::fastgmm.RepairWarning")
def test_fits_with_singular_priors_can_be_saved(covariance_type, rows, tmp_path):
    X = fits.rows_of(5, 7) if rows == "few" else fits.rows_of(80, 3)
    X[:, 1] = 5.0
    mixture = BayesianGaussianMixture(
        n_components=2, covariance_type=covariance_type, init_params="random", random_state=0, reg_covar=1e-3
    ).fit(X)
    mixture.save(tmp_path / "mixture")
    loaded = BayesianGaussianMixture.load(tmp_path / "mixture")
    np.testing.assert_array_equal(loaded.covariance_prior_, mixture.covariance_prior_)
    np.testing.assert_array_equal(loaded.score_samples(X), mixture.score_samples(X))


def test_a_covariance_prior_that_is_none_is_not_loaded(tmp_path):
    mixture = BayesianGaussianMixture(n_components=2, random_state=0).fit(fits.rows_of(80, 2))
    mixture.covariance_prior_ = -np.eye(2)
    with pytest.raises(ValueError, match="covariance_prior_ should be symmetric and positive semi-definite"):
        mixture.save(tmp_path / "mixture")


@pytest.mark.parametrize("total", [1.0, np.nextafter(1.0, 2.0), 1.9])
@pytest.mark.parametrize(
    "mixture", [BayesianGaussianMixture(n_components=2), GaussianMixture(2, prior="conjugate")]
)
def test_weights_that_do_not_count_rows(mixture, total):
    """Their covariance is divided by next to nothing."""
    X = fits.rows_of(40, 2)
    weight = np.zeros(40)
    weight[:4] = [total - 0.75, 0.25, 0.25, 0.25]
    assert weight.sum() == total
    with pytest.raises(ValueError, match="there must be two or more"):
        mixture.fit(X, sample_weight=weight)


def test_the_predictive_score(covariance_type):
    X = fits.rows_of(3000, 2)
    weight = np.random.default_rng(0).uniform(size=3000)
    mixture = BayesianGaussianMixture(
        n_components=3, covariance_type=covariance_type, random_state=0, max_iter=5
    ).fit(X)
    for predictive in (False, True):
        scores = mixture.score_samples(X, predictive=predictive)
        expected = np.average(scores, weights=weight)
        assert mixture.score(X, sample_weight=weight, predictive=predictive) == pytest.approx(
            expected, rel=1e-12
        )
        blocks = BlockRows([X[:1000], X[1000:]])
        assert mixture.score(blocks, predictive=predictive) == pytest.approx(scores.mean(), rel=1e-12)
    assert mixture.score(X, predictive=True) > mixture.score(X)


def test_predictive_scores_are_what_other_scores_are(tmp_path):
    """Lazy over Dask's rows, memory-mapped in files, in the very array that was given."""
    da = pytest.importorskip("dask.array")
    X = fits.rows_of(600, 2)
    mixture = BayesianGaussianMixture(n_components=2, random_state=0).fit(X)
    expected = mixture.score_samples(X, predictive=True)
    lazy = mixture.score_samples(da.from_array(X, chunks=(200, 2)), predictive=True)
    assert isinstance(lazy, da.Array)
    np.testing.assert_allclose(lazy.compute(), expected, rtol=1e-12)
    mapped = mixture.score_samples(X, tmp_path / "scores.npy", predictive=True)
    assert isinstance(mapped, np.memmap)
    out = np.empty(600)
    assert mixture.score_samples(X, out, predictive=True) is out
    score = mixture.score(da.from_array(X, chunks=(200, 2)), predictive=True)
    assert score == pytest.approx(expected.mean(), rel=1e-12)


def test_a_sample_of_a_stream_counts_as_all_of_its_rows():
    """Starts are posteriors of as many rows as there are, as the prior will be beside."""
    n = 70_000  # more than are kept to seed from
    X = fits.rows_of(n, 1)
    options = {"n_components": 2, "random_state": 0, "max_iter": 0}
    mixture = BayesianGaussianMixture(**options).fit(BlockRows([X[: n // 2], X[n // 2 :]]))
    assert mixture.mean_precision_.sum() - 2 == pytest.approx(n, rel=1e-12)
    assert BayesianGaussianMixture(**options).fit(X).mean_precision_.sum() - 2 == pytest.approx(n, rel=1e-12)


@pytest.mark.parametrize("kinds", [(PROCESS, DISTRIBUTION), (DISTRIBUTION, PROCESS)])
def test_a_warm_start_under_the_other_prior(kinds):
    X = fits.rows_of(300, 2)
    mixture = BayesianGaussianMixture(
        n_components=3, weight_concentration_prior_type=kinds[0], random_state=0, warm_start=True, max_iter=3
    ).fit(X)
    counts = mixture.mean_precision_ - 1.0
    mixture.set_params(weight_concentration_prior_type=kinds[1], max_iter=0).fit(X)
    np.testing.assert_allclose(mixture.mean_precision_ - 1.0, counts, rtol=1e-12)
    assert isinstance(mixture.weight_concentration_, tuple) == (kinds[1] == PROCESS)


def test_the_plain_mixture_has_a_tolerance_of_its_own():
    """Of a mean over rows, not of a sum."""
    mixture = BayesianGaussianMixture(n_components=2, tol=50.0, random_state=0).fit(fits.rows_of(300, 2))
    assert mixture.compact().tol == GaussianMixture().tol


def test_components_without_rows_do_not_cost_pruning():
    """They may weigh more in scores than they have rows; nothing has been lost for that."""
    rng = np.random.default_rng(0)
    X = 40.0 * rng.standard_normal((20, 8))[rng.integers(20, size=30_000)] + rng.standard_normal((30_000, 8))
    mixture = BayesianGaussianMixture(
        n_components=60, weight_concentration_prior=1.0, random_state=0, max_iter=20, tol=0.0
    ).fit(X)
    pairs = np.array(mixture.history_["pairs"])
    assert (mixture.mean_precision_ < 2.0).any()
    assert pairs[-10:].max() < 0.5 * pairs[0]


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda p: pickle.loads(pickle.dumps(p))])
def test_copies_of_priors_are_values_too(copied):
    prior = ConjugatePrior(mean=[1.0, 2.0], scale=np.eye(2))
    other = copied(prior)
    assert other == prior
    assert hash(other) == hash(prior)
    for array in (other.mean, other.scale, clone(GaussianMixture(prior=prior)).prior.scale):
        assert not array.flags.writeable
