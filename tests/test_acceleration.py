"""Anderson acceleration: the same optimum, fewer passes, and no step that stays worse."""

from __future__ import annotations

import warnings

import datasets
import numpy as np
import oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from running import assert_same_bits, forced_pruning, parameters_of
from sklearn.exceptions import ConvergenceWarning

from fastgmm import GaussianMixture
from fastgmm.acceleration import Anderson
from fastgmm.blocks import ArrayData
from fastgmm.em import EMOptions, run
from fastgmm.frame import Frame
from fastgmm.structures import STRUCTURES

KINDS = oracle.COVARIANCE_TYPES
# Coordinates of parameters to a vector and back: logarithms and a Cholesky factor of condition at most 16.
ROUND_TRIP = 1e-12


# Problems on which EM takes hundreds of iterations to a tolerance of 1e-8.
SLOW = {"full": 2, "tied": 10, "diag": 3, "spherical": 2}


def slow(kind):
    """Rows and start of a slow problem."""
    return datasets.problem(SLOW[kind], 2000, 3, 3, kind, spread=1.2)


def overlapping(kind, seed=3, n_rows=3000):
    """Components so close that EM crawls."""
    X, start = datasets.problem(seed, n_rows, 2, 4, kind, spread=1.0)
    return X, (start[0], start[1], start[2])


def fit(X, kind, start, *, weight=None, **options):
    data = ArrayData(X, weight)
    options = {"tol": 1e-8, "max_iter": 3000, "reg_covar": 0.0, **options}
    return run(data, STRUCTURES[kind], parameters_of(kind, start), EMOptions(**options))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("weighted", [False, True])
def test_fewer_passes_to_a_likelihood_as_high(kind, weighted):
    X, start = slow(kind)
    weight = np.random.default_rng(0).uniform(0.98, 1.02, len(X)) if weighted else None
    plain = fit(X, kind, start, weight=weight)
    found = fit(X, kind, start, weight=weight, acceleration="anderson")
    assert found.converged
    assert found.lower_bound >= plain.lower_bound - 1e-5
    assert plain.n_iter > 200, "the case is to be slow"
    assert found.n_iter < plain.n_iter / 2
    assert sum(found.history["taken_back"]) < found.n_iter / 3


@pytest.mark.parametrize("kind", KINDS)
def test_steps_that_stay_never_lower_the_likelihood(kind):
    X, start = overlapping(kind, seed=7)
    result = fit(X, kind, start, acceleration="anderson", max_iter=200, tol=0.0)
    bounds, taken_back = np.array(result.lower_bounds), np.array(result.history["taken_back"], dtype=bool)
    assert taken_back.any(), "the case is to have such steps"
    kept = bounds[~taken_back]
    assert (np.diff(kept) >= -1e-13 * np.abs(kept[1:])).all()
    # what was taken back was worse than the last step that stayed
    for i in np.flatnonzero(taken_back):
        assert not bounds[i] >= bounds[:i][~taken_back[:i]][-1]
    assert result.lower_bound == kept[-1]


def test_the_result_is_an_em_step_away_from_the_last_bound():
    """Parameters are those after the last M-step, as without acceleration, whatever was on trial."""
    X, start = overlapping("full", seed=7)
    full = fit(X, "full", start, acceleration="anderson", max_iter=60, tol=0.0)
    trial = np.flatnonzero(full.history["taken_back"])
    assert trial.size
    for n_iter in (int(trial[0]), int(trial[0]) + 1, int(trial[0]) + 2, 3, 1):
        result = fit(X, "full", start, acceleration="anderson", max_iter=n_iter, tol=0.0)
        after = run(
            ArrayData(X), STRUCTURES["full"], result.parameters,
            EMOptions(tol=0.0, max_iter=1, reg_covar=0.0),
        )  # fmt: skip
        assert after.lower_bound >= result.lower_bound - 1e-13


def test_convergence_is_judged_by_a_step_of_ems_own():
    X, start = overlapping("full")
    for tol in (1e-3, 1e-5, 1e-7):
        result = fit(X, "full", start, acceleration="anderson", tol=tol)
        more = run(
            ArrayData(X), STRUCTURES["full"], result.parameters, EMOptions(tol=0.0, max_iter=2, reg_covar=0.0)
        )
        assert result.converged
        assert more.lower_bounds[0] - result.lower_bound < tol
        assert more.lower_bounds[1] - more.lower_bounds[0] < tol


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), n_features=st.integers(1, 6), n_components=st.integers(1, 5))
def test_vectors_and_back(kind, seed, n_features, n_components):
    start = datasets.random_model(seed, kind, n_components, n_features, 3.0)
    structure = STRUCTURES[kind]
    rng = np.random.default_rng(seed)
    unit = 2.0 ** rng.integers(-30, 30)
    parameters = parameters_of(kind, (start[0], start[1] * unit, start[2] * unit**2))
    frame = Frame(unit * rng.standard_normal(n_features), np.full(n_features, 0.5 / unit))
    vector = structure.to_vector(parameters, frame)
    assert vector.ndim == 1
    assert vector.size == structure.n_parameters(n_components, n_features) + 1  # weights have a sum
    again = structure.from_vector(vector, parameters, frame)
    for a, b, size in zip(again[:3], parameters[:3], (1.0, unit, unit**2), strict=True):
        np.testing.assert_allclose(a, b, rtol=ROUND_TRIP, atol=ROUND_TRIP * size)
    # a vector beside it makes parameters, too
    moved = structure.from_vector(vector + rng.standard_normal(vector.size), parameters, frame)
    assert moved.weights.sum() == pytest.approx(1.0)
    assert all(np.isfinite(a).all() for a in moved)


def test_weights_of_zero_and_repairs_forget_what_was():
    X, start = overlapping("full")
    parameters = parameters_of("full", start)
    anderson = Anderson(STRUCTURES["full"], Frame(np.zeros(2), np.ones(2)))
    anderson.step(parameters, parameters._replace(means=parameters.means + 0.1))
    assert len(anderson.residuals) == 1
    none = parameters._replace(weights=np.array([0.0, 0.5, 0.25, 0.25]))
    assert anderson.step(none, none) is none
    assert not anderson.residuals
    assert not anderson.on_trial
    # rows that are all the same: a component on them collapses
    X = np.concatenate([X, np.full((200, 2), 30.0)])
    means = start[1].copy()
    means[0] = 29.0
    result = fit(X, "full", (start[0], means, start[2]), acceleration="anderson", max_iter=30)
    assert result.n_repairs > 0
    assert np.isfinite(result.lower_bound)


@pytest.mark.parametrize("kind", KINDS)
def test_with_pruning_and_threads(kind):
    X, start = datasets.problem(5, 5000, 3, 8, kind, spread=9.0)
    results = []
    for choice, n_threads in (("never", 1), ("always", 1), ("always", 3)):
        with forced_pruning(choice):
            results.append(fit(X, kind, start, acceleration="anderson", n_threads=n_threads, max_iter=12))
    assert_same_bits(results[1], results[2])
    np.testing.assert_allclose(results[0].lower_bounds, results[1].lower_bounds, rtol=1e-9)
    assert min(results[1].history["pairs"]) < 0.8 * max(results[1].history["pairs"])


def test_as_an_option_of_the_estimator(tmp_path):
    X, start = slow("full")
    arguments = datasets.init_arguments("full", start)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        plain = GaussianMixture(3, tol=1e-7, max_iter=2000, **arguments).fit(X)
        found = GaussianMixture(3, tol=1e-7, max_iter=2000, acceleration="anderson", **arguments).fit(X)
    assert found.n_iter_ < plain.n_iter_
    assert found.n_iter_ == len(found.lower_bounds_) == len(found.history_["taken_back"])
    assert sum(plain.history_["taken_back"]) == 0
    found.save(tmp_path / "mixture.npz")
    assert GaussianMixture.load(tmp_path / "mixture.npz").acceleration == "anderson"
    with pytest.raises(ValueError, match="'acceleration' parameter"):
        GaussianMixture(2, acceleration="squarem").fit(X)
