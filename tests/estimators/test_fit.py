"""The order of a fit: runs, warnings, warm starts, interruptions, and what it tells."""

from __future__ import annotations

import re
import warnings

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture as SklearnGaussianMixture

from fastgmm import GaussianMixture, RepairWarning, em
from fastgmm.em import EMResult

# Two ways to one number that differ by rounding alone.
ROUNDING = 1e-10


# ---- the fit ---------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_weights_are_copies(rows, start_means, covariance_type):
    weight = np.arange(len(rows)) % 3
    options = {"covariance_type": covariance_type, "means_init": start_means, "tol": 0, "max_iter": 10}
    weighted = GaussianMixture(3, **options).fit(rows, sample_weight=weight)
    copied = GaussianMixture(3, **options).fit(np.repeat(rows, weight, axis=0))
    for name in ("weights_", "means_", "covariances_", "lower_bound_"):
        np.testing.assert_allclose(getattr(weighted, name), getattr(copied, name), rtol=1e-8, atol=1e-8)


def test_a_number_as_sample_weight_is_each_rows(rows, start_means):
    options = {"means_init": start_means, "random_state": 0}
    plain = GaussianMixture(3, **options).fit(rows)
    doubled = GaussianMixture(3, **options).fit(rows, sample_weight=2.0)
    np.testing.assert_allclose(doubled.means_, plain.means_, rtol=ROUNDING)


def test_fit_predict_is_fit_then_predict(rows, covariance_type):
    for max_iter in (0, 1, 100):
        options = {"covariance_type": covariance_type, "random_state": 0, "max_iter": max_iter}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            labels = GaussianMixture(3, **options).fit_predict(rows)
            again = GaussianMixture(3, **options).fit(rows).predict(rows)
        assert labels.dtype == np.int64
        np.testing.assert_array_equal(labels, again)


def test_max_iter_0_is_the_start(rows, start_means, covariance_type):
    weights = np.array([0.5, 0.25, 0.25])
    shape = {"full": (3, 2, 2), "tied": (2, 2), "diag": (3, 2), "spherical": (3,)}[covariance_type]
    precisions = np.ones(shape) if covariance_type in ("diag", "spherical") else np.zeros(shape) + np.eye(2)
    mixture = GaussianMixture(
        3,
        covariance_type=covariance_type,
        max_iter=0,
        weights_init=weights,
        means_init=start_means,
        precisions_init=2 * precisions,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mixture.fit(rows)
    assert (mixture.n_iter_, mixture.converged_, mixture.lower_bounds_) == (0, False, [])
    np.testing.assert_array_equal(mixture.weights_, weights)
    np.testing.assert_array_equal(mixture.means_, start_means)
    np.testing.assert_allclose(mixture.precisions_, 2 * precisions, rtol=ROUNDING)
    np.testing.assert_allclose(mixture.covariances_, precisions / 2, rtol=ROUNDING)
    assert len(mixture.predict(rows)) == len(rows)


def test_convergence_warning_exactly_when_not_converged(rows, start_means):
    with pytest.warns(ConvergenceWarning, match="did not converge") as caught:
        mixture = GaussianMixture(3, means_init=start_means, tol=0, max_iter=3).fit(rows)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert not mixture.converged_
    assert mixture.n_iter_ == 3
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert GaussianMixture(3, means_init=start_means, max_iter=500).fit(rows).converged_


def test_tol_is_compared_strictly(rows):
    """One component is at its optimum after one step: the change is 0, which is not below tol=0."""
    with pytest.warns(ConvergenceWarning):
        assert GaussianMixture(1, tol=0, reg_covar=0, max_iter=5, random_state=0).fit(rows).n_iter_ == 5


class Runs:
    """Stands for `em.run`: says that runs ended with given bounds, and records their starts.

    Not with the seeding by k-means, which uses `em.run` as well.
    """

    def __init__(self, bounds, n_repairs=0, repaired=()):
        self.bounds, self.starts, self.previous = list(bounds), [], []
        self.n_repairs, self.repaired = n_repairs, repaired

    def __call__(
        self, data, structure, start, options, *, frame, previous_bound, on_iteration, keeper, objective
    ):
        self.starts.append(start)
        self.previous.append(previous_bound)
        bound = self.bounds[len(self.starts) - 1]
        return EMResult(
            start,
            converged=True,
            n_iter=len(self.starts),
            lower_bound=bound,
            lower_bounds=[bound] * len(self.starts),
            history={},
            n_repairs=self.n_repairs,
            repaired=self.repaired,
        )


@pytest.mark.filterwarnings("ignore::fastgmm.RegularizationWarning")  # what Runs returns has reg_covar only
@pytest.mark.parametrize(
    ("bounds", "kept"), [([1.0, 3.0, 2.0], 1), ([1.0, 1.0, 1.0], 0), ([3.0, 2.0, 1.0], 0)]
)
def test_n_init_keeps_the_first_best_run(rows, monkeypatch, bounds, kept):
    runs = Runs(bounds)
    monkeypatch.setattr(em, "run", runs)
    mixture = GaussianMixture(3, n_init=3, init_params="random_from_data", random_state=0).fit(rows)
    assert len(runs.starts) == 3
    assert mixture.lower_bound_ == bounds[kept]
    assert mixture.n_iter_ == kept + 1
    np.testing.assert_array_equal(mixture.means_, runs.starts[kept].means)
    assert not np.array_equal(runs.starts[0].means, runs.starts[1].means)


def test_without_iterations_the_last_start_is_kept(rows):
    options = {"n_init": 3, "max_iter": 0, "init_params": "random_from_data", "random_state": 0}
    ours, theirs = GaussianMixture(3, **options), SklearnGaussianMixture(3, **options)
    np.testing.assert_allclose(ours.fit(rows).means_, theirs.fit(rows).means_, rtol=ROUNDING)


@pytest.mark.filterwarnings("ignore::fastgmm.RegularizationWarning")  # what Runs returns has reg_covar only
def test_one_random_state_draws_for_all_runs(rows, monkeypatch):
    """Run i starts where the i-th of single runs does that share one RandomState, as in scikit-learn."""
    options = {"init_params": "random_from_data"}
    runs = Runs([1.0, 2.0, 3.0])
    monkeypatch.setattr(em, "run", runs)
    GaussianMixture(3, n_init=3, random_state=5, **options).fit(rows)
    shared = np.random.RandomState(5)
    for start in runs.starts:
        single = Runs([1.0])
        monkeypatch.setattr(em, "run", single)
        GaussianMixture(3, random_state=shared, **options).fit(rows)
        np.testing.assert_array_equal(single.starts[0].means, start.means)


@pytest.mark.filterwarnings("ignore::fastgmm.RegularizationWarning")  # what Runs returns has reg_covar only
def test_one_repair_warning_names_the_components(rows, monkeypatch):
    monkeypatch.setattr(em, "run", Runs([1.0], n_repairs=3, repaired=(0, 2)))
    with pytest.warns(RepairWarning, match=r"3 repair.*components: 0, 2\.") as caught:
        mixture = GaussianMixture(3, init_params="random_from_data", random_state=0).fit(rows)
    caught = [warning for warning in caught if warning.category is RepairWarning]
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert mixture.n_repairs_ == 3


def test_given_arrays_and_rows_are_not_overwritten(rows, start_means):
    given = {
        "weights_init": np.array([0.2, 0.3, 0.5]),
        "means_init": start_means,
        "precisions_init": np.stack([np.eye(2)] * 3),
    }
    weight = np.linspace(0.5, 2.0, len(rows))
    arrays = [*given.values(), rows, weight]
    before = [array.copy() for array in arrays]
    mixture = GaussianMixture(3, **given).fit(rows, sample_weight=weight)
    mixture.means_ += 1  # attributes are the estimator's own
    mixture.weights_[:] = 1 / 3
    for array, copy in zip(arrays, before):
        np.testing.assert_array_equal(array, copy)
    for name, array in given.items():
        assert getattr(mixture, name) is array


def test_precisions_with_the_rounding_of_an_inverse_are_symmetric(rows, start_means):
    """Noise off the diagonal is not symmetric to the last bit, nor even in sign; scikit-learn takes it."""
    precisions = np.stack([np.eye(2)] * 3)
    precisions[0, 0, 1] = 1e-17
    GaussianMixture(3, means_init=start_means, precisions_init=precisions).fit(rows)


# ---- warm start ------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_warm_start_continues(rows, start_means, covariance_type):
    options = {"covariance_type": covariance_type, "means_init": start_means, "tol": 0}
    whole = GaussianMixture(3, max_iter=6, **options).fit(rows)
    parts = GaussianMixture(3, max_iter=2, warm_start=True, **options).fit(rows).fit(rows).fit(rows)
    for name in ("weights_", "means_", "covariances_", "lower_bound_"):
        np.testing.assert_array_equal(getattr(parts, name), getattr(whole, name))
    assert parts.lower_bounds_ == whole.lower_bounds_[4:]  # of the last call
    assert parts.history_["lower_bound"] == parts.lower_bounds_


def test_warm_start_takes_the_last_bound_and_one_run(rows, monkeypatch):
    runs = Runs([1.0, 2.0, 5.0])
    monkeypatch.setattr(em, "run", runs)
    mixture = GaussianMixture(3, n_init=2, warm_start=True, init_params="random", random_state=0).fit(rows)
    mixture.fit(rows)
    assert runs.previous == [-np.inf, -np.inf, 2.0]
    np.testing.assert_array_equal(runs.starts[2].means, runs.starts[1].means)


def test_warm_start_with_other_sizes_is_refused(rows):
    mixture = GaussianMixture(3, warm_start=True, random_state=0).fit(rows)
    means = mixture.means_
    with pytest.raises(ValueError, match=r"n_features = 2; now n_features = 1.*warm_start=False"):
        mixture.fit(rows[:, :1])
    with pytest.raises(ValueError, match="n_components = 3; now n_components = 2"):
        mixture.set_params(n_components=2).fit(rows)
    assert mixture.means_ is means
    assert mixture.n_features_in_ == 2
    mixture.set_params(warm_start=False).fit(rows[:, :1])
    assert mixture.means_.shape == (2, 1)


# ---- an interrupted fit ----------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, ValueError])
def test_a_fit_that_ends_early_changes_nothing(rows, monkeypatch, error):
    mixture = GaussianMixture(3, random_state=0).fit(rows)
    before = dict(vars(mixture))

    def interrupted(*args, **kwargs):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(em, "run", interrupted)
        with pytest.raises(error):
            mixture.fit(rows[:, :1])
    assert vars(mixture).keys() == before.keys()
    assert all(getattr(mixture, name) is value for name, value in before.items())
    assert mixture.predict(rows).shape == (len(rows),)
    assert mixture.fit(rows[:, :1]).n_features_in_ == 1


# ---- what a fit tells ------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_verbose(rows, start_means, capfd):
    options = {"means_init": start_means, "tol": 0, "max_iter": 6}
    GaussianMixture(3, **options).fit(rows)
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""
    GaussianMixture(3, verbose=1, **options).fit(rows)
    captured = capfd.readouterr()
    assert captured.out == ""
    assert "GaussianMixture" in captured.err
    assert "6/6" in captured.err
    assert "lower bound" in captured.err
    GaussianMixture(3, verbose=2, verbose_interval=2, **options).fit(rows)
    lines = [line for line in capfd.readouterr().out.splitlines() if "iteration" in line]
    assert [int(re.search(r"iteration (\d+)", line)[1]) for line in lines] == [2, 4, 6]
