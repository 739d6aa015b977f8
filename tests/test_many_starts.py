"""As many starts as anybody may ask for: what has not begun costs nothing, and all are drawn as before."""

from __future__ import annotations

import itertools
import json
import tracemalloc
import warnings
from functools import partial

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

from fastgmm import GaussianMixture, _estimator, archive, em
from fastgmm.em import EMResult
from fastgmm.restarts import RANDOM, Standing, plan, race

X = np.random.default_rng(0).normal(size=(300, 3))
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture
def clock(monkeypatch):
    """Each look at the clock takes a second."""
    seconds = itertools.count()
    for module in (_estimator, em):
        monkeypatch.setattr(module, "perf_counter", lambda: float(next(seconds)))


def means_of(**options):
    return GaussianMixture(3, random_state=0, init_params="random_from_data", **options).fit(X).means_


@pytest.mark.parametrize("max_iter", [0, 100])
def test_millions_of_starts_cost_nothing_before_they_begin(clock, max_iter):
    """Of as many as no memory could list, those are made that there is time for."""
    tracemalloc.start()
    try:
        with pytest.warns(ConvergenceWarning, match="ended after max_time"):
            many = means_of(n_init=10**12, max_time=99.0, max_iter=max_iter)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4e6
    assert many.shape == (3, 3)


def test_starts_without_iterations_end_in_time_too(clock):
    """One is made at least; the last one that was made is kept."""
    warned = partial(pytest.warns, ConvergenceWarning, match="max_time")
    with warned():
        first = means_of(n_init=10**9, max_time=1.0, max_iter=0)
    np.testing.assert_array_equal(first, means_of(max_iter=0))
    with warned():
        third = means_of(n_init=10**9, max_time=3.0, max_iter=0)
    np.testing.assert_array_equal(third, means_of(n_init=3, max_iter=0))


def test_starts_are_drawn_as_from_one_random_state():
    """Run by run, in the order of the runs: so the first starts of many are those of few."""
    random_state = np.random.RandomState(0)
    options = {"init_params": "random_from_data", "max_iter": 0, "random_state": random_state}
    one_by_one = [GaussianMixture(3, **options).fit(X).means_ for _ in range(5)]
    for n_init in range(1, 6):
        np.testing.assert_array_equal(means_of(n_init=n_init, max_iter=0), one_by_one[n_init - 1])


def test_a_race_of_many_is_that_of_few_while_nobody_is_given_up():
    begun = []

    def begin(run, most):
        begun.append(run)
        return EMResult(run, n_iter=most, lower_bound=-abs(run - 4), converged=True)

    best = race(10**15, 50, RANDOM, begin, None, is_over=lambda: len(begun) == 7)
    assert begun == list(range(7))
    assert best.parameters == 4
    assert best.out_of_time


def test_a_race_goes_on_where_its_standing_is():
    """From any point on, whether the next run is one to begin or one to improve."""
    bounds = np.random.default_rng(0).normal(size=12)

    def result(run, n_iter):
        return EMResult(run, n_iter=n_iter, lower_bound=bounds[run] * (1 + n_iter / 100))

    def go_on(run, so_far, most):
        assert so_far.parameters == run
        return result(run, most)

    def copied(standing):
        return Standing(
            standing.heat, standing.not_begun, dict(standing.waiting), dict(standing.done), standing.running
        )

    standings = []
    whole = race(12, 50, RANDOM, result, go_on, on_result=lambda standing: standings.append(copied(standing)))
    assert len(standings) == sum([12, *(left for _, left in plan(12, 50, RANDOM)[:-1])])
    for standing in standings:
        again = race(12, 50, RANDOM, result, go_on, standing=standing)
        assert (again.parameters, again.n_iter) == (whole.parameters, whole.n_iter)


def test_a_checkpoint_of_many_starts_is_small(tmp_path, clock):
    path = tmp_path / "fit.npz"
    options = {"n_init": 10**9, "init_params": "random_from_data", "random_state": 0, "checkpoint": path}
    with pytest.warns(ConvergenceWarning, match="max_time"):
        GaussianMixture(2, max_time=99.0, **options).fit(X)
    with open(path, "rb") as file:
        header = json.loads(archive.read(file, None)["header"].tobytes())
    assert path.stat().st_size < 40_000
    first, stop = header["not_begun"]
    assert 0 < first < 99
    assert stop == 10**9
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        GaussianMixture(2, max_time=99.0, **options).fit(X)
    with open(path, "rb") as file:
        header = json.loads(archive.read(file, None)["header"].tobytes())
    assert header["not_begun"][0] > first
