"""The second half of EM by hand: update, from statistics of all rows."""

from __future__ import annotations

import copy
import pickle
import warnings
from dataclasses import replace

import numpy as np
import pytest
from datasets import init_arguments, problem
from saved_files import assert_equal
from tolerances import SAME_FIT

from fastgmm import DegenerateComponentError, GaussianMixture, RepairWarning, Statistics
from fastgmm.incremental import broaden, frame_of_rows
from fastgmm.structures import STRUCTURES, maximum_likelihood

ATTRIBUTES = ("weights_", "means_", "covariances_", "precisions_", "precisions_cholesky_")
# What is promised of lower bounds of 20 iterations beside fit's: the sums differ by their order alone.
FOLLOWS = 1e-12


def mixture_of(kind, start, **options):
    return GaussianMixture.from_parameters(*start[:3], covariance_type=kind, **options)


@pytest.fixture
def case(covariance_type):
    """Rows, and a mixture beside what they were drawn from."""
    X, start = problem(5, 700, 3, 4, covariance_type)
    return X, mixture_of(covariance_type, start)


def quietly_fitted(X, kind, start, sample_weight=None, **options):
    mixture = GaussianMixture(len(start[0]), covariance_type=kind, **init_arguments(kind, start), **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of not converging
        return mixture.fit(X, sample_weight=sample_weight)


# ---- update ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weighted", [False, True])
def test_the_loop_follows_fit(covariance_type, weighted):
    X, start = problem(3, 3000, 4, 3, covariance_type)
    weight = (np.arange(len(X)) * 7 % 5).astype(float) if weighted else None
    mixture = mixture_of(covariance_type, start, tol=0.0)
    fitted = quietly_fitted(X, covariance_type, start, weight, tol=0.0, max_iter=20)
    repeats = X if weight is None else np.repeat(X, weight.astype(int), axis=0)
    rng = np.random.default_rng(0)
    for _ in range(20):
        rows = rng.permutation(repeats)
        parts = np.split(rows, np.sort(rng.integers(0, len(rows), 4)))
        shipped = [Statistics.from_bytes(mixture.accumulate(part).to_bytes()) for part in parts]
        assert mixture.update(sum(shipped)) is False
    assert mixture.n_iter_ == 20
    np.testing.assert_allclose(mixture.lower_bounds_, fitted.lower_bounds_, rtol=FOLLOWS)
    assert mixture.lower_bound_ == mixture.lower_bounds_[-1]
    assert mixture.n_repairs_ == fitted.n_repairs_ == 0
    for name in ATTRIBUTES:
        np.testing.assert_allclose(getattr(mixture, name), getattr(fitted, name), rtol=0, atol=SAME_FIT)
    assert {len(values) for values in mixture.history_.values()} == {20}
    assert mixture.history_.keys() == fitted.history_.keys()
    assert mixture.history_["lower_bound"] == mixture.lower_bounds_


def test_it_converges_where_fit_does(covariance_type, tmp_path):
    """From a start found in a sample; a later fit goes on, and the mixture can be saved."""
    X = problem(3, 3000, 4, 3, covariance_type)[0]
    mixture = GaussianMixture(3, covariance_type=covariance_type, max_iter=0, random_state=0).fit(X[:500])
    assert (mixture.n_iter_, mixture.converged_, mixture.lower_bound_) == (0, False, -np.inf)
    start = mixture.weights_, mixture.means_, mixture.covariances_
    fitted = quietly_fitted(X, covariance_type, start)
    while not mixture.update(mixture.accumulate(X[:1000]) + mixture.accumulate(X[1000:])):
        assert mixture.converged_ is False
    assert mixture.converged_ is True
    assert mixture.n_iter_ == fitted.n_iter_ == len(mixture.lower_bounds_) > 2
    for name, kind in (("n_iter_", int), ("lower_bound_", float), ("converged_", bool), ("n_repairs_", int)):
        assert type(getattr(mixture, name)) is kind
    mixture.save(tmp_path / "mixture")
    assert_equal(GaussianMixture.load(tmp_path / "mixture"), mixture)
    assert_equal(pickle.loads(pickle.dumps(mixture)), mixture)
    # a warm start measures its first change from where the updates ended: here that is less than tol
    mixture.set_params(warm_start=True, max_iter=100).fit(X)
    assert mixture.n_iter_ == 1
    assert mixture.lower_bound_ >= fitted.lower_bound_


def test_updates_go_on_from_a_fit(case):
    X, mixture = case
    with pytest.warns(UserWarning, match="did not converge"):
        mixture.set_params(max_iter=3, tol=0.0, warm_start=True).fit(X)
    bounds, history = mixture.lower_bounds_, mixture.history_
    mixture.update(mixture.accumulate(X))
    assert mixture.n_iter_ == 4
    assert len(bounds) == len(history["pairs"]) == 3, "lists that were given out stay as they were"
    assert mixture.lower_bounds_[:3] == bounds
    assert {len(values) for values in mixture.history_.values()} == {4}
    assert mixture.history_["seconds_pass"][-1] == 0.0


def test_attributes_set_by_hand_are_enough(case):
    X, mixture = case
    bare = GaussianMixture(4, covariance_type=mixture.covariance_type)
    for name in ("weights_", "means_", "covariances_", "precisions_cholesky_"):
        setattr(bare, name, getattr(mixture, name).copy())
    bare.update(bare.accumulate(X))
    mixture.update(mixture.accumulate(X))
    np.testing.assert_array_equal(bare.precisions_, mixture.precisions_)
    assert bare.lower_bounds_ == mixture.lower_bounds_
    assert bare.n_iter_ == 1


def test_what_update_refuses(case):
    X, mixture = case
    old = mixture.accumulate(X)
    mixture.update(old)
    now = mixture.accumulate(X)
    before = copy.deepcopy(vars(mixture))
    with pytest.raises(ValueError, match="made under other parameters"):
        mixture.update(old)
    with pytest.raises(ValueError, match="no rows of positive weight"):
        mixture.update(mixture.accumulate(X[:0]))
    with pytest.raises(ValueError, match="no rows of positive weight"):
        mixture.update(now.scaled(0))
    with pytest.raises(TypeError, match="statistics must be Statistics, got int"):
        mixture.update(sum([]))
    other = copy.copy(now)
    other.__dict__["structure"] = "other"
    with pytest.raises(ValueError, match="covariance_type='other'"):
        mixture.update(other)
    with pytest.raises(ValueError, match="'tol' parameter"):
        mixture.set_params(tol=-1).update(now)
    mixture.set_params(tol=1e-3)
    for name, value in before.items():
        np.testing.assert_equal(getattr(mixture, name), value)
    with pytest.raises(AttributeError, match="not fitted"):
        GaussianMixture(4, covariance_type=mixture.covariance_type).update(now)


# ---- components that cannot be used, or not be seen ------------------------------------------------------


def run_loop(X, mixture, limit=300):
    """Updates until one converges; how many, and how many warned."""
    n_warned = 0
    for n in range(1, limit):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            converged = mixture.update(mixture.accumulate(X[::2]) + mixture.accumulate(X[1::2]))
        assert all(warning.category is RepairWarning for warning in caught)
        n_warned += len(caught)
        if converged:
            return n, n_warned
    raise AssertionError("the loop does not end")


@pytest.mark.parametrize("constant", [7.3, 1e3 / 3])
@pytest.mark.parametrize("how", ["floor", "reseed"])
def test_a_constant_column_is_floored_once(covariance_type, how, constant):
    """And the floor does not follow the parameters down."""
    X, start = problem(2, 400, 3, 2, covariance_type)
    X = np.hstack([X, np.full((400, 1), constant)])
    weights, means, covariances = start
    means = np.hstack([means, [[constant], [constant]]])
    if covariance_type in ("full", "tied"):
        wider = np.zeros((*covariances.shape[:-2], 4, 4))
        wider[..., :3, :3], wider[..., 3, 3] = covariances, 1.0
    else:
        wider = np.hstack([covariances, np.ones((2, 1))]) if covariance_type == "diag" else covariances
    options = {"reg_covar": 0.0, "tol": 1e-8, "repair": how}
    fitted = quietly_fitted(X, covariance_type, (weights, means, wider), max_iter=300, **options)
    mixture = mixture_of(covariance_type, (weights, means, wider), **options)
    n, n_warned = run_loop(X, mixture)
    assert (n, mixture.n_repairs_) == (fitted.n_iter_, fitted.n_repairs_)
    assert n_warned == (covariance_type != "spherical")
    np.testing.assert_allclose(mixture.lower_bound_, fitted.lower_bound_, rtol=1e-9)
    np.testing.assert_allclose(mixture.covariances_, fitted.covariances_, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("constant", [1e3 / 3, -1e6 / 7])
@pytest.mark.parametrize("covariance_type", ["full", "tied", "diag"])
def test_rounding_of_a_constant_is_no_covariance(covariance_type, constant):
    """Means of equal numbers are off by a rounding, which is no distance that could hide anything."""
    X, (weights, means, _) = problem(2, 400, 3, 2, covariance_type)
    X = np.hstack([X, np.full((400, 1), constant)])
    means = np.hstack([means, [[constant + 1.0], [constant - 1.0]]])
    unit = {"full": np.stack([np.eye(4)] * 2), "tied": np.eye(4), "diag": np.ones((2, 4))}[covariance_type]
    mixture = mixture_of(covariance_type, (weights, means, unit), reg_covar=0.0, repair="raise")
    with pytest.raises(DegenerateComponentError):
        run_loop(X, mixture)
    assert mixture.n_iter_ <= 3
    assert mixture.covariances_.min() > -1e-9


@pytest.mark.parametrize("covariance_type", ["full", "tied"])
def test_a_column_twice_ends_in_a_repair(covariance_type):
    """Nothing is hidden there by any distance, though the means have moved off the references."""
    X, (weights, means, _) = problem(2, 400, 3, 2, covariance_type)
    X, means = X[:, [0, 1, 2, 0]], means[:, [0, 1, 2, 0]]
    unit = {"full": np.stack([np.eye(4)] * 2), "tied": np.eye(4)}[covariance_type]
    mixture = mixture_of(covariance_type, (weights, means, unit), reg_covar=0.0, repair="raise")
    with pytest.raises(DegenerateComponentError):
        run_loop(X, mixture)


def test_components_of_no_weight_stay_as_they_are(covariance_type):
    X, (weights, means, covariances) = problem(2, 400, 3, 2, covariance_type)
    weights, means = np.append(weights, 0.0), np.vstack([means, [[50.0] * 3]])
    if covariance_type != "tied":
        covariances = np.concatenate([covariances, covariances[:1]])
    mixture = mixture_of(covariance_type, (weights, means, covariances))
    mixture.update(mixture.accumulate(X))  # a RepairWarning would be an error
    assert mixture.weights_[2] == 0
    np.testing.assert_array_equal(mixture.means_[2], means[2])


@pytest.mark.parametrize("covariance_type", ["full", "diag", "spherical"])
def test_equal_rows_end_in_a_repair(covariance_type):
    X = np.vstack([problem(2, 400, 3, 2, covariance_type)[0], np.tile([1e3, 1e3, 1e3 / 3], (60, 1))])
    covariances = {"full": np.stack([np.eye(3)] * 2), "diag": np.ones((2, 3)), "spherical": np.ones(2)}
    covariances = (
        covariances[covariance_type]
        * 1e6
        / np.array([1e6, 1]).reshape(-1, *[1] * (covariances[covariance_type].ndim - 1))
    )
    start = np.array([0.5, 0.5]), np.array([[0.0, 0, 0], [900, 900, 300]]), covariances
    options = {"reg_covar": 0.0, "repair": "floor"}
    mixture = mixture_of(covariance_type, start, **options)
    fitted = quietly_fitted(X, covariance_type, start, max_iter=300, **options)
    assert run_loop(X, mixture)[1] == 1
    assert mixture.n_repairs_ == fitted.n_repairs_ == 1
    np.testing.assert_allclose(mixture.lower_bound_, fitted.lower_bound_, rtol=1e-6)
    raising = mixture_of(covariance_type, start, reg_covar=0.0, repair="raise")
    with pytest.raises(DegenerateComponentError, match=r"component\(s\) 1"):  # noqa: PT012
        while True:
            before = copy.deepcopy(vars(raising))
            raising.update(raising.accumulate(X))
    for name, value in before.items():
        np.testing.assert_equal(getattr(raising, name), value)


@pytest.mark.parametrize("spread", [1e-4, 1e-6])
@pytest.mark.parametrize("distance", [1e3, 1e6])
def test_a_tight_cluster_far_away(covariance_type, spread, distance):
    """Broad at first, its covariance is lost in the distance; the next pass has to find it."""
    rng = np.random.default_rng(0)
    where = distance * np.array([1.0, -0.7, 0.9])
    near = [rng.normal(size=(800, 3)), rng.normal(6.0, 1.0, size=(400, 3))]
    X = rng.permutation(np.vstack([*near, where + spread * rng.normal(size=(200, 3))]))
    weights, means = np.full(3, 1 / 3), np.array([[-1.0] * 3, [7.0] * 3, 0.7 * where])
    broad = np.array([1.0, 1.0, distance**2])
    start = {
        "full": broad[:, None, None] * np.eye(3),
        "tied": np.eye(3) * distance**2,
        "diag": broad[:, None] * np.ones(3),
        "spherical": broad,
    }[covariance_type]
    options = {"reg_covar": 0.0, "tol": 1e-8}
    fitted = quietly_fitted(X, covariance_type, (weights, means, start), max_iter=300, **options)
    assert fitted.converged_
    mixture = mixture_of(covariance_type, (weights, means, start), **options)
    assert run_loop(X, mixture)[1] == 0
    assert mixture.lower_bound_ == pytest.approx(fitted.lower_bound_, abs=1e-6)
    for name in ("weights_", "means_"):
        np.testing.assert_allclose(getattr(mixture, name), getattr(fitted, name), rtol=1e-6)
    scale = np.abs(fitted.covariances_).max(axis=tuple(range(1, start.ndim)), keepdims=True)
    np.testing.assert_allclose(mixture.covariances_ / scale, fitted.covariances_ / scale, atol=1e-4)


def test_a_hidden_cluster_is_no_convergence():
    """Nothing has changed, and yet the next pass will find another covariance."""
    rng = np.random.default_rng(0)
    X = np.vstack([rng.normal(size=(500, 2)), 1e5 + 1e-4 * rng.normal(size=(100, 2))])
    start = (
        np.array([5 / 6, 1 / 6]),
        np.array([[0.0, 0.0], [9e4, 9e4]]),
        np.array([np.eye(2), 1e10 * np.eye(2)]),
    )
    mixture = mixture_of("full", start, reg_covar=0.0)
    mixture.lower_bound_ = mixture.score(X)
    assert mixture.update(mixture.accumulate(X)) is False
    assert mixture.history_["lower_bound"][-1] == pytest.approx(mixture.lower_bound_)
    assert mixture.covariances_[1, 0, 0] > 1e-6
    mixture.update(mixture.accumulate(X))
    assert mixture.covariances_[1, 0, 0] == pytest.approx(1e-8, rel=0.5)


@pytest.fixture
def equal_rows():
    """Statistics of equal rows about a point one rounding off them, and what an M-step makes of them."""
    mixture = GaussianMixture.from_parameters([1.0], [[1e3 / 3]], [[1.0]], "diag")
    statistics = mixture.accumulate(np.full((10, 1), 1e3 / 3))
    statistics = statistics.about([[np.nextafter(1e3 / 3, 1e3)]])
    with np.errstate(divide="ignore"):
        return statistics, maximum_likelihood(STRUCTURES["diag"], statistics, 0.0, 1)


def test_a_distance_of_roundings_hides_nothing(equal_rows):
    statistics, estimate = equal_rows
    assert estimate.singular.all()
    assert statistics.first[0, 0] < 0
    broadened, which = broaden(estimate, statistics, STRUCTURES["diag"])
    assert not which.any()
    assert broadened.singular.all()


def test_roundings_are_no_spread_of_the_data(equal_rows):
    statistics, estimate = equal_rows
    parameters = estimate.parameters
    two = parameters._replace(
        weights=np.array([0.5, 0.5]),
        means=np.vstack([parameters.means, np.nextafter(parameters.means, 1e3)]),
    )
    twice = replace(
        statistics, weight=np.ones(2), first=np.zeros((2, 1)), second=np.zeros((2, 1)), reference=two.means
    )
    frame = frame_of_rows(estimate._replace(parameters=two), twice, STRUCTURES["diag"])
    np.testing.assert_array_equal(frame.scale, 1.0)
