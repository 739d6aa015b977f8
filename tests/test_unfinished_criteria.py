"""BIC, AIC and ICL of fits that ended too early: sums over rows, where `tol` is of their mean."""

from __future__ import annotations

import pickle
import re
import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning

from fastgmm import CriterionWarning, GaussianMixture, MiniBatchGaussianMixture

CRITERIA = ("bic", "aic", "icl")


def overlapping(n, seed=0):
    """Rows of five components that overlap, in three features."""
    rng = np.random.default_rng(seed)
    means = 1.7 * rng.normal(size=(5, 3))
    factors = np.linalg.cholesky([np.cov(rng.normal(size=(3, 12))) for _ in range(5)])
    labels = rng.integers(0, 5, n)
    return means[labels] + np.einsum("nij,nj->ni", factors[labels], rng.normal(size=(n, 3)))


@pytest.fixture(scope="module")
def many():
    return overlapping(100_000)


@pytest.fixture
def unfinished(many):
    """A fit that has converged by its tol, and has much to gain."""
    return GaussianMixture(6, tol=5e-3, random_state=0).fit(many)


def warnings_of(calls):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for call in calls:
            call()
    assert all(warning.category is CriterionWarning for warning in caught)
    return [str(warning.message) for warning in caught]


def set_gain(mixture, gain, n_bounds=3):
    """A mixture whose last iteration gained so much per row."""
    bounds = (-2.0 - gain * np.arange(n_bounds)[::-1]).tolist()
    mixture.lower_bounds_, mixture.lower_bound_, mixture.history_ = bounds, bounds[-1], {}
    return mixture


@pytest.mark.parametrize("criterion", CRITERIA)
def test_each_criterion_tells_once_for_each_fit(unfinished, many, criterion):
    first = getattr(unfinished, criterion)
    with pytest.warns(CriterionWarning, match=rf"{criterion}: in its last iteration.*still gained") as caught:
        first(many)
    assert caught[0].filename == __file__
    others = [lambda name=name: getattr(unfinished, name)(many) for name in CRITERIA]
    assert not warnings_of(others)
    unfinished.fit(many)
    assert len(warnings_of(others)) == 1
    assert len(warnings_of([lambda: clone(unfinished).fit(many).bic(many)])) == 1


def test_the_tol_that_is_named_would_do(unfinished, many):
    (message,) = warnings_of([lambda: unfinished.bic(many)])
    tol = float(re.search(r"tol=([0-9.e-]+),", message).group(1))
    assert tol <= 1 / len(many)
    better = clone(unfinished).set_params(tol=tol, max_iter=2000).fit(many)
    assert better.converged_
    assert not warnings_of([lambda: better.bic(many)])
    assert better.bic(many) < unfinished.bic(many) - 100


def test_the_limit_is_one_nat_for_each_parameter(many):
    rows = many[:1000]
    mixture = GaussianMixture(2, random_state=0).fit(rows)
    limit = mixture.n_parameters_ / len(rows)
    assert not warnings_of([lambda: set_gain(mixture, 0.99 * limit).bic(rows)])
    (message,) = warnings_of([lambda: set_gain(mixture, 1.01 * limit).bic(rows)])
    assert f"{mixture.n_parameters_} parameters" in message
    assert "tol=1e-03" in message
    # rows count by their weights, and the rows that the criterion is of, not those of the fit
    assert not warnings_of([lambda: set_gain(mixture, 1.01 * limit).bic(rows[:900])])
    weights = np.full(900, 2.0)
    assert (
        len(warnings_of([lambda: set_gain(mixture, 1.01 * limit).bic(rows[:900], sample_weight=weights)]))
        == 1
    )
    (message,) = warnings_of([lambda: set_gain(mixture, -1.01 * limit).aic(rows)])
    assert "still lost" in message  # as reg_covar makes it


def test_fits_that_did_not_converge_are_told_of_too(many):
    with pytest.warns(ConvergenceWarning):
        mixture = GaussianMixture(6, tol=0, max_iter=3, random_state=0).fit(many)
    assert len(warnings_of([lambda: mixture.bic(many)])) == 1


def test_a_fit_that_goes_on_by_one_iteration(many):
    """Its gain is told from the bound that it started from."""
    mixture = GaussianMixture(6, tol=0, max_iter=1, random_state=0, warm_start=True)
    with pytest.warns(ConvergenceWarning):
        mixture.fit(many)
    assert not warnings_of([lambda: mixture.bic(many)])  # of a first iteration the gain is not known
    with pytest.warns(ConvergenceWarning):
        mixture.fit(many)
    assert len(mixture.lower_bounds_) == 1
    assert len(warnings_of([lambda: mixture.bic(many)])) == 1


def test_steps_that_were_taken_back_do_not_count(many):
    rows = many[:1000]
    mixture = GaussianMixture(2, random_state=0).fit(rows)
    mixture.lower_bounds_, mixture.lower_bound_ = [-3.0, -2.0, -2.5], -2.0
    mixture.history_ = {"taken_back": [0, 0, 1]}
    (message,) = warnings_of([lambda: mixture.bic(rows)])
    assert "gained 1e+03" in message


def test_mixtures_that_no_fit_made(many):
    made = GaussianMixture.from_parameters([0.5, 0.5], np.zeros((2, 3)), [np.eye(3), 2 * np.eye(3)])
    started = GaussianMixture(3, max_iter=0, random_state=0).fit(many[:1000])
    by_hand = GaussianMixture(2)
    for name in ("weights_", "means_", "covariances_", "precisions_cholesky_"):
        setattr(by_hand, name, getattr(made, name))
    converted = GaussianMixture.from_sklearn(made.to_sklearn())
    for mixture in (made, started, by_hand, converted):
        assert not warnings_of([lambda mixture=mixture: mixture.bic(many)])


def test_updates_are_iterations(many):
    mixture = GaussianMixture(6, max_iter=0, random_state=0).fit(many)
    mixture.update(mixture.accumulate(many))
    assert not warnings_of([lambda: mixture.bic(many)])
    mixture.update(mixture.accumulate(many))
    assert len(warnings_of([lambda: mixture.bic(many)])) == 1
    mixture.update(mixture.accumulate(many))
    assert len(warnings_of([lambda: mixture.bic(many)])) == 1


def test_files_and_pickles_know_of_it(unfinished, many, tmp_path):
    unfinished.save(tmp_path / "mixture.npz")
    loaded = GaussianMixture.load(tmp_path / "mixture.npz")
    assert len(warnings_of([lambda: loaded.bic(many), lambda: loaded.bic(many)])) == 1
    copy = pickle.loads(pickle.dumps(unfinished))
    assert len(warnings_of([lambda: copy.bic(many)])) == 1
    copy = pickle.loads(pickle.dumps(copy))
    assert not warnings_of([lambda: copy.bic(many)])


def test_sources_are_rows_too(unfinished, many):
    blocks = [many[:60_000], many[60_000:]]
    assert len(warnings_of([lambda: unfinished.icl(blocks)])) == 1


def test_mini_batches(many):
    mixture = MiniBatchGaussianMixture(6, tol=1e-2, max_no_improvement=1, random_state=0).fit(many)
    assert len(warnings_of([lambda: mixture.bic(many), lambda: mixture.aic(many)])) == 1
    mixture = MiniBatchGaussianMixture(6, tol=1e-2, max_no_improvement=1, random_state=0).fit(many)
    mixture.partial_fit(many[:1000])  # the parameters are no longer those of the last epoch
    assert not warnings_of([lambda: mixture.bic(many)])


def test_ordinary_fits_are_left_alone():
    """At the default tol no fit that converged is told of up to 1,000 rows for each parameter."""
    rows = overlapping(20_000)
    for covariance_type in ("full", "tied", "diag", "spherical"):
        mixture = GaussianMixture(4, covariance_type=covariance_type, random_state=0, max_iter=500).fit(rows)
        assert not warnings_of([lambda mixture=mixture: mixture.bic(rows)])


def test_the_recipe_finds_the_number_of_components(many):
    """With the default, BIC takes six here."""
    found = {}
    for k in (4, 5, 6):
        mixture = GaussianMixture(k, tol=1 / len(many), max_iter=1000, random_state=0).fit(many)
        assert mixture.converged_
        found[k] = mixture.bic(many)
    assert min(found, key=found.get) == 5
