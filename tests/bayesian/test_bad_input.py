"""What is wrong is said before any work, with the argument, the place and a remedy; and nothing changes."""

from __future__ import annotations

import bayesian_fits as fits
import numpy as np
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.utils._param_validation import InvalidParameterError
from variational_oracle import DISTRIBUTION, PROCESS

from fastgmm import (
    BayesianGaussianMixture,
    BlockRows,
    DegenerateComponentError,
    bayesian_mixture,
    em,
    seeding,
)
from fastgmm.blocks import ArrayData

METHODS = ("score_samples", "score", "predict", "predict_proba", "log_prob_components")
K, D = 2, 2


@pytest.fixture
def rows():
    return fits.rows_of(60, D)


@pytest.fixture
def ready(rows):
    return fits.fitted(rows, n_components=K)


@pytest.fixture
def no_work(monkeypatch):
    """Fits that begin to work fail."""

    def worked(*arguments, **options):
        raise AssertionError("work was begun")

    monkeypatch.setattr(seeding, "initial_parameters", worked)
    monkeypatch.setattr(bayesian_mixture, "mean_and_covariance", worked)
    monkeypatch.setattr(em, "run", worked)
    monkeypatch.setattr(ArrayData, "frame", worked)


OPTIONS = [
    {"weight_concentration_prior_type": "dirichlet"},
    {"weight_concentration_prior": 0.0},
    {"weight_concentration_prior": -1},
    {"weight_concentration_prior": np.nan},
    {"weight_concentration_prior": np.inf},
    {"weight_concentration_prior": "1"},
    {"mean_precision_prior": 0},
    {"mean_precision_prior": np.inf},
    {"mean_prior": 3},
    {"degrees_of_freedom_prior": 0.0},
    {"degrees_of_freedom_prior": np.inf},
    {"degrees_of_freedom_prior": [1.0]},
    {"covariance_prior": -1.0},
    {"covariance_prior": "identity"},
    {"responsibilities_init": 3},
    {"n_components": 0},
    {"covariance_type": "round"},
    {"tol": -1},
    {"reg_covar": -1},
    {"max_iter": -1},
    {"init_params": "best"},
    {"repair": "pray"},
    {"acceleration": "squarem"},
    {"arithmetic": "float16"},
    {"max_time": 0},
    {"checkpoint_every": 0},
]


@pytest.mark.parametrize("option", OPTIONS, ids=str)
def test_options(rows, ready, no_work, option):
    (name,) = option
    ready.set_params(**option)
    before = dict(vars(ready))
    for method in (ready.fit, ready.fit_predict):
        with pytest.raises(InvalidParameterError, match=f"The '{name}' parameter of BayesianGaussianMixture"):
            method(rows)
    assert vars(ready) == before


def test_arguments_are_keywords():
    with pytest.raises(TypeError, match="positional"):
        BayesianGaussianMixture(3)


GOOD = np.array([[2.0, 0.5], [0.5, 1.0]])
HALVES = np.full((60, K), 0.5)


def changed(place, value, array=HALVES):
    array = array.copy()
    array[place] = value
    return array


PRIORS_AND_STARTS = [
    ({"mean_prior": [1.0]}, r"mean_prior should have the shape \(n_features,\) = \(2,\), but got \(1,\)"),
    ({"mean_prior": [[0.0, 1.0]]}, r"mean_prior should have the shape"),
    ({"mean_prior": [0.0, np.nan]}, r"mean_prior contains nan, first at mean_prior\[1\]"),
    ({"mean_prior": [0.0, "x"]}, "could not convert string"),
    ({"mean_prior": np.array([0.0, 1j])}, "Complex data not supported"),
    ({"degrees_of_freedom_prior": 1.0},
     r"degrees_of_freedom_prior should be greater than n_features - 1 = 1, but got 1\.0"),
    ({"degrees_of_freedom_prior": 0.5}, "should be greater than n_features - 1 = 1, but got 0.5"),
    ({"covariance_prior": np.eye(3)},
     r"covariance_prior should have the shape \(n_features, n_features\) = \(2, 2\), but got \(3, 3\)"),
    ({"covariance_prior": [1.0, 1.0]}, r"covariance_prior should have the shape"),
    ({"covariance_prior": 2.0}, r"covariance_prior should have the shape .* but got \(\)"),
    ({"covariance_prior": [[1.0, 0.5], [0.4, 1.0]]}, "covariance_prior should be symmetric"),
    ({"covariance_prior": [[1.0, 2.0], [2.0, 1.0]]}, "positive-definite, .*smallest eigenvalue -1"),
    ({"covariance_prior": np.zeros((2, 2))}, "covariance_prior should be symmetric, positive-definite"),
    ({"covariance_prior": [[np.inf, 0], [0, 1]]}, r"covariance_prior contains inf, first at"),
    ({"covariance_type": "tied", "covariance_prior": -GOOD}, "covariance_prior should be symmetric, pos"),
    ({"covariance_type": "diag", "covariance_prior": GOOD}, r"covariance_prior should have the shape"),
    ({"covariance_type": "diag", "covariance_prior": [1.0, 0.0]}, "covariance_prior should be positive"),
    ({"covariance_type": "spherical", "covariance_prior": [1.0, 1.0]},
     r"covariance_prior should have the shape of a number, = \(\), but got \(2,\)"),
    ({"responsibilities_init": HALVES[:5]},
     r"responsibilities_init should have the shape .*\(n_samples, n_components\).*but got \(5, 2\)"),
    ({"responsibilities_init": np.ones((60, 3)) / 3}, r"= \(60, 2\), but got \(60, 3\)"),
    ({"responsibilities_init": changed((3, 1), 0.6)},
     r"responsibilities_init should hold probabilities, but row 3 is .*sum 1\.1"),
    ({"responsibilities_init": changed((7, slice(None)), [1.5, -0.5])}, "probabilities, but row 7"),
    ({"responsibilities_init": changed((9, 0), np.nan)}, r"nan, first at responsibilities_init\[9, 0\]"),
    ({"responsibilities_init": [0, 1] * 10}, "responsibilities_init has 20 labels, but X has 60 rows"),
    ({"responsibilities_init": [0, 1] * 29 + [1, 2]},
     r"responsibilities_init\[59\] = 2 is no component: labels go from 0 to n_components - 1 = 1"),
    ({"responsibilities_init": [-1, 1] * 30}, r"responsibilities_init\[0\] = -1 is no component"),
    ({"responsibilities_init": [0.0, 1.0] * 30}, r"that of integer labels, \(n_samples,\)"),
    ({"responsibilities_init": [0, 1] * 30, "means_init": np.zeros((2, 2))},
     "responsibilities_init and means_init are both given: a fit has one start"),
    ({"responsibilities_init": HALVES, "weights_init": [0.5, 0.5]}, "and weights_init are both given"),
    ({"weights_init": [0.5, 0.6]}, "weights_init should be normalized"),
    ({"means_init": np.zeros((3, 2))}, "means_init should have the shape"),
    ({"precisions_init": [np.eye(2), -np.eye(2)]}, "precisions_init should be symmetric, .*component 1"),
]  # fmt: skip


@pytest.mark.parametrize("i", range(len(PRIORS_AND_STARTS)))
def test_priors_and_starts(rows, ready, no_work, i):
    options, message = PRIORS_AND_STARTS[i]
    ready.set_params(**options)
    before = dict(vars(ready))
    with pytest.raises(ValueError, match=message):
        ready.fit(rows)
    assert vars(ready) == before


def test_what_is_given_is_not_written_to(rows):
    given = {"mean_prior": np.zeros(2), "covariance_prior": GOOD, "responsibilities_init": HALVES}
    for array in given.values():
        array.flags.writeable = False
    mixture = fits.fitted(rows, n_components=K, **given)
    mixture.mean_prior_[0] = 5.0
    assert not given["mean_prior"].any()


def test_responsibilities_of_streams(rows, ready, no_work):
    ready.set_params(responsibilities_init=HALVES)
    with pytest.raises(ValueError, match="responsibilities_init needs all rows of X in memory"):
        ready.fit(BlockRows([rows]))


class OnDevice:
    """An array in the memory of a device, which cannot be read from here."""

    def __dlpack_device__(self):
        return (2, 0)

    def __array__(self, dtype=None, copy=None):
        raise AssertionError("the device's memory was read")

    def __len__(self):
        return 60

    shape = (60, 2)


@pytest.mark.parametrize("name", ["responsibilities_init", "mean_prior", "covariance_prior"])
def test_arrays_on_other_devices(rows, ready, no_work, name):
    with pytest.raises(TypeError, match=rf"{name} is a .*OnDevice in the memory of another device"):
        ready.set_params(**{name: OnDevice()}).fit(rows)


def test_weights_that_sum_to_one(rows, ready):
    """There is no covariance of one row; where it is given there need not be."""
    weight = np.full(len(rows), 1 / len(rows))
    prior = {"mean_prior": np.zeros(2), "covariance_prior": np.eye(2)}
    for name in list(prior):
        assert np.isfinite(fits.fitted(rows, weight, n_components=K, **prior).lower_bound_)
        del prior[name]
    ready.set_params(**prior)
    before = dict(vars(ready))
    with pytest.raises(
        ValueError, match=r"covariance of sum\(sample_weight\) = 1 rows, .*Give covariance_prior"
    ):
        ready.fit(rows, sample_weight=weight)
    assert vars(ready) == before


def test_singular_covariances(rows):
    """It takes a prior that nearly is."""
    prior = {"covariance_prior": 1e-300 * np.eye(2), "mean_precision_prior": 1e-300}
    X = np.repeat(rows[:3], 20, axis=0)
    options = {
        "n_components": 3, "reg_covar": 0.0, "responsibilities_init": np.repeat([0, 1, 2], 20), **prior,
    }  # fmt: skip
    with pytest.raises(DegenerateComponentError, match="singular covariance"):
        fits.fitted(X, repair="raise", **options)
    for repair in ("reseed", "floor"):
        with pytest.warns(UserWarning, match="repair"):
            mixture = fits.fitted(X, when_repaired="always", repair=repair, max_iter=3, **options)
        assert mixture.n_repairs_ > 0
        assert np.isfinite(mixture.score_samples(X)).all()


# ---- attributes ------------------------------------------------------------------------------------------


def test_not_fitted(rows):
    mixture = BayesianGaussianMixture(n_components=2)
    calls = [lambda name=name: getattr(mixture, name)(rows) for name in METHODS]
    calls += [mixture.sample, mixture.sample_parameters, mixture.credible_intervals, mixture.used_components]
    calls += [mixture.compact, mixture.scorer, lambda: mixture.save("never")]
    calls += [lambda: mixture.score_samples(rows, predictive=True), lambda: mixture.n_effective_components_]
    for call in calls:
        with pytest.raises(NotFittedError, match="BayesianGaussianMixture instance is not fitted yet"):
            call()
    assert not hasattr(mixture, "n_effective_components_")


EDITS = [
    ("weight_concentration_", (np.ones(2),), r"two of \(n_components,\)"),
    ("weight_concentration_", np.ones(2), r"weight_concentration_ should have the shape two of"),
    ("weight_concentration_", (np.ones(2), np.array([1.0, 0.0])), "should be greater than 0, but holds"),
    ("weight_concentration_", (np.ones(2), np.array([1.0, np.nan])), "contains nan"),
    ("weight_concentration_", (np.ones(2),) * 3, "weight_concentration_ should have the shape"),
    ("mean_precision_", np.ones(3), r"mean_precision_ should have the shape \(n_components,\)"),
    ("mean_precision_", np.array([1.0, -1.0]), "mean_precision_ should be greater than 0, but holds"),
    ("degrees_of_freedom_", 3.0, "degrees_of_freedom_ should have the shape"),
    ("degrees_of_freedom_", np.array([1.0, 3.0]), "degrees_of_freedom_ should be greater than 1, but holds"),
    ("degrees_of_freedom_", np.array([np.inf, 3.0]), "degrees_of_freedom_ contains inf"),
    ("means_", np.zeros((2, 3)), "should have the shape"),
    ("precisions_cholesky_", np.zeros((2, 2, 2)), "precisions_cholesky_ of component 0 is singular"),
    (
        "weight_concentration_prior_type",
        "dirichlet",
        "weight_concentration_prior_type(' parameter of BayesianGaussianMixture)? must be",
    ),
    ("weight_concentration_prior_type", DISTRIBUTION, "weight_concentration_ should have the shape"),
]


@pytest.mark.parametrize("i", range(len(EDITS)))
def test_attributes_that_are_no_posterior(rows, ready, i):
    name, value, message = EDITS[i]
    for method in METHODS:  # a scorer is kept
        getattr(ready, method)(rows)
    setattr(ready, name, value)
    calls = [lambda name=name: getattr(ready, name)(rows) for name in METHODS]
    calls += [ready.sample_parameters, ready.credible_intervals, ready.used_components, ready.compact]
    calls += [lambda: ready.score_samples(rows, predictive=True), lambda: ready.save("never")]
    for call in calls:
        with pytest.raises(ValueError, match=message):
            call()


def test_edited_attributes_are_seen_at_once(covariance_type):
    """All that scores depend on, set anew or edited in place."""
    X = fits.rows_of(50, 3)
    for kind in (PROCESS, DISTRIBUTION):
        ready = fits.fitted(
            X, n_components=3, covariance_type=covariance_type, weight_concentration_prior_type=kind
        )

        def scores(ready=ready, **kwargs):
            return ready.score_samples(X, **kwargs)

        last = scores(), scores(predictive=True)
        edits = {
            "concentration": lambda r: (
                r.weight_concentration_[0].__imul__(3.0)
                if isinstance(r.weight_concentration_, tuple)
                else r.weight_concentration_.__imul__([3.0, 1.0, 1.0])
            ),
            "precision": lambda r: r.mean_precision_.__imul__(0.5),
            "dof": lambda r: setattr(r, "degrees_of_freedom_", r.degrees_of_freedom_ + 2.0),
            "means": lambda r: r.means_.__iadd__(0.1),
            "factors": lambda r: setattr(r, "precisions_cholesky_", 1.5 * r.precisions_cholesky_),
        }
        for what, edit in edits.items():
            edit(ready)
            now = scores(), scores(predictive=True)
            for a, b in zip(last, now):
                assert (a != b).any(), what
            np.testing.assert_array_equal(now[0], ready.scorer().score_samples(X))
            last = now


def test_the_kind_of_prior_is_seen_at_once():
    """Also where the arrays are the same."""
    X = fits.rows_of(50, 2)
    ready = fits.fitted(X, n_components=3, weight_concentration_prior_type=DISTRIBUTION)
    alpha = ready.weight_concentration_
    before = ready.score_samples(X)
    ready.set_params(weight_concentration_prior_type=PROCESS)
    ready.weight_concentration_ = (alpha, alpha)
    assert (ready.score_samples(X) != before).any()
    ready.weight_concentration_ = alpha
    with pytest.raises(ValueError, match="weight_concentration_ should have the shape two of"):
        ready.predict(X)


def test_attributes_set_by_hand(covariance_type):
    """Without a fit: the attributes are the model."""
    X = fits.rows_of(50, 2)
    fitted = fits.fitted(X, n_components=3, covariance_type=covariance_type)
    by_hand = BayesianGaussianMixture(n_components=3, covariance_type=covariance_type, random_state=1)
    for name in (*fits.PARAMETERS, *fits.POSTERIOR):
        value = getattr(fitted, name)
        setattr(by_hand, name, [v.tolist() for v in value] if isinstance(value, tuple) else value)
    np.testing.assert_array_equal(by_hand.predict_proba(X), fitted.predict_proba(X))
    np.testing.assert_array_equal(by_hand.score_samples(X), fitted.score_samples(X))
    for found, expected in zip(by_hand.sample_parameters(3), fitted.sample_parameters(3)):
        np.testing.assert_array_equal(found, expected)
