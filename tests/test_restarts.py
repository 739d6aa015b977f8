"""Several starts: which runs go on, and what that saves."""

from __future__ import annotations

import warnings

import datasets
import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

from fastgmm import GaussianMixture, em
from fastgmm.em import EMResult
from fastgmm.restarts import FINISHED, RANDOM, SEEDED, race


class Race:
    """Runs whose bounds after each iteration are known."""

    def __init__(self, bounds, converged=()):
        self.bounds, self.converged, self.calls = bounds, dict(converged), []

    def result(self, run, n_iter):
        n_iter = min(n_iter, self.converged.get(run, n_iter))
        self.calls.append((run, n_iter))
        return EMResult(
            run, converged=run in self.converged and n_iter == self.converged[run], n_iter=n_iter,
            lower_bound=self.bounds[run](n_iter),
        )  # fmt: skip

    def __call__(self, n_runs, max_iter, heats=RANDOM):
        return race(n_runs, max_iter, heats, self.result, lambda run, _, most: self.result(run, most))


def climbing(end, rate=0.3):
    return lambda n_iter: end - np.exp(-rate * n_iter)


def test_the_best_go_on_and_the_best_two_are_finished():
    ends = [0.3, 0.9, 0.1, 0.8, 0.5, 0.2, 0.7, 0.6, 0.4, 0.0]
    runs = Race([climbing(end) for end in ends])
    best = runs(10, 50)
    assert best.parameters == 1
    assert best.n_iter == 50
    assert runs.calls[:10] == [(i, RANDOM.first) for i in range(10)]  # draws come in the order of the runs
    assert runs.calls[10:] == [(i, RANDOM.second) for i in (1, 3, 6, 7)] + [(i, 50) for i in (1, 3)]
    runs.calls = []
    assert runs(10, 50, SEEDED).parameters == 1
    assert runs.calls[:10] == [(i, SEEDED.first) for i in range(10)]
    assert runs.calls[10:] == [(i, SEEDED.second) for i in (1, 3)] + [(i, 50) for i in (1, 3)]


def test_a_run_that_overtakes_wins():
    slow = lambda n_iter: 2.0 - 3.0 * np.exp(-0.06 * n_iter)  # noqa: E731
    runs = Race([climbing(0.5), slow, climbing(0.1)] + [climbing(-5.0)] * 7)
    assert runs.bounds[1](RANDOM.first) < runs.bounds[0](RANDOM.first)
    assert runs(10, 200).parameters == 1


def test_converged_runs_need_no_more():
    runs = Race([lambda n_iter: 1.0, climbing(0.5), climbing(0.2)], converged={0: 2})
    best = runs(3, 50)
    assert best.parameters == 0
    assert best.n_iter == 2
    assert [call for call in runs.calls if call[0] == 0] == [(0, 2)]


@pytest.mark.parametrize("n_runs", [1, FINISHED])
def test_few_runs_are_all_finished_at_once(n_runs):
    runs = Race([climbing(i) for i in range(n_runs)])
    assert runs(n_runs, 50).parameters == n_runs - 1
    assert runs.calls == [(i, 50) for i in range(n_runs)]


def test_short_runs_are_not_raced():
    runs = Race([climbing(i) for i in range(5)])
    runs(5, RANDOM.first)
    assert runs.calls == [(i, RANDOM.first) for i in range(5)]


def test_the_first_of_equals():
    runs = Race([climbing(1.0)] * 6)
    assert runs(6, 30).parameters == 0


def test_a_run_in_parts_is_the_run():
    """History, bounds and parameters of the parts are those of a run from the same start."""
    X, start = datasets.problem(3, 2000, 3, 4, "full", spread=1.5)
    arguments = datasets.init_arguments("full", start)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        whole = GaussianMixture(4, tol=0.0, max_iter=20, **arguments).fit(X)
        parts = GaussianMixture(4, tol=0.0, max_iter=20, n_init=5, **arguments).fit(X)
    assert parts.n_iter_ == 20
    assert parts.lower_bounds_ == whole.lower_bounds_
    np.testing.assert_array_equal(parts.means_, whole.means_)
    assert {name: len(values) for name, values in parts.history_.items()} == dict.fromkeys(whole.history_, 20)


def passes(monkeypatch):
    """Counts the passes of EM from now on."""
    counts = [0]
    collect = em.Maximiser.collect

    def counted(self, *arguments):
        counts[0] += 1
        return collect(self, *arguments)

    monkeypatch.setattr(em.Maximiser, "collect", counted)
    return counts


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(("init_params", "spread"), [("random_from_data", 1.5), ("kmeans", 3.0)])
def test_passes_saved_and_little_lost(monkeypatch, init_params, spread):
    X, _ = datasets.problem(11, 3000, 4, 8, "full", spread=spread)
    options = {"tol": 1e-5, "max_iter": 300, "init_params": init_params, "reg_covar": 1e-2}
    counts = passes(monkeypatch)
    raced, all_finished, ends = 0, 0, []
    losses = []
    for seed in range(4):
        counts[0] = 0
        best = GaussianMixture(8, n_init=10, random_state=seed, **options).fit(X).lower_bound_
        raced += counts[0]
        shared = np.random.RandomState(seed)
        counts[0] = 0
        each = [GaussianMixture(8, random_state=shared, **options).fit(X).lower_bound_ for _ in range(10)]
        all_finished += counts[0]
        ends.append(np.std(each))
        losses.append(max(each) - best)
    assert raced <= 0.4 * all_finished
    assert np.mean(losses) <= 0.5 * np.mean(ends)
    assert min(losses) >= -1e-9  # the same starts: none can be better
