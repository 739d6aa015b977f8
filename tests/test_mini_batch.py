"""The estimator of stepwise EM: streams, epochs, what it refuses and what it survives."""

from __future__ import annotations

import ast
import doctest
import importlib
import inspect
import pickle
import re
import warnings

import numpy as np
import oracle
import pytest
import saved_files
from numpy.testing import assert_allclose
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.utils.estimator_checks import check_param_validation, parametrize_with_checks

from fastgmm import (
    BlockRows,
    DegenerateComponentError,
    GaussianMixture,
    MiniBatchGaussianMixture,
    RepairWarning,
    em,
    mini_batch,
    stepwise,
)

# Mean log-likelihoods of mixtures that found the same clusters; wrong ones are whole units away.
SAME_CLUSTERS = 0.02

MIXTURES = [
    MiniBatchGaussianMixture(n_components=n_components, covariance_type=covariance_type)
    for n_components in (1, 3)
    for covariance_type in oracle.COVARIANCE_TYPES
]
CHECKS = parametrize_with_checks(MIXTURES)


@pytest.mark.parametrize(CHECKS.args[0], list(CHECKS.args[1]), **CHECKS.kwargs)
def test_estimator_check(estimator, check):
    check(estimator)


@pytest.mark.filterwarnings("ignore")  # options are tried one by one on rows of noise
def test_options_are_validated():
    check_param_validation("MiniBatchGaussianMixture", MiniBatchGaussianMixture())


def clusters(n_rows=3000, seed=0, centres=(0.0, 7.0, 15.0), n_features=2):
    rng = np.random.default_rng(seed)
    places = np.asarray(centres)[rng.integers(len(centres), size=n_rows), None]
    return places + rng.normal(size=(n_rows, n_features)) * np.linspace(0.5, 1.5, n_features)


@pytest.fixture(scope="module")
def rows():
    return clusters()


def attributes(estimator):
    """All there is, so that a later comparison shows any change."""
    return pickle.dumps(vars(estimator))


# ---- fit -------------------------------------------------------------------------------------------------


def test_epochs_find_what_em_finds(covariance_type, rows):
    full = GaussianMixture(3, covariance_type=covariance_type, random_state=0).fit(rows)
    ours = MiniBatchGaussianMixture(3, covariance_type=covariance_type, batch_size=250, random_state=0).fit(
        rows
    )
    assert ours.score(rows) == pytest.approx(full.score(rows), abs=1e-3)
    assert ours.converged_
    assert ours.n_steps_ == 12 * ours.n_iter_
    assert len(ours.lower_bounds_) == ours.n_iter_ == len(ours.history_["step"])
    assert ours.history_["lower_bound"] == ours.lower_bounds_
    assert ours.lower_bound_ == ours.lower_bounds_[-1]
    assert ours.history_["steps"] == [12] * ours.n_iter_
    last = (ours.n_steps_ + ours.t0) ** -ours.kappa
    assert ours.history_["step"][-1] == pytest.approx(last)
    assert ours.n_repairs_ == 0


def overlapping(n_features, n_rows=20_000, n_components=16):
    rng = np.random.default_rng(1)
    means = rng.normal(size=(n_components, n_features))
    return means[rng.integers(n_components, size=n_rows)] + rng.normal(size=(n_rows, n_features))


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("init_params", ["k-means++", "random_from_data"])
def test_starts_from_single_rows(covariance_type, init_params):
    """They begin with an iteration of EM: steps from covariances of `reg_covar` lose most components."""
    X = overlapping(16, 8000)
    options = {"covariance_type": covariance_type, "init_params": init_params, "random_state": 0}
    once = GaussianMixture(16, **options, max_iter=1, tol=0).fit(X)
    start = MiniBatchGaussianMixture(16, **options, max_iter=0).fit(X)
    for name in ("weights_", "means_", "covariances_"):
        assert_allclose(getattr(start, name), getattr(once, name), rtol=1e-12, atol=1e-12)
    mixture = MiniBatchGaussianMixture(16, **options, max_iter=5, tol=0).fit(X)
    assert np.count_nonzero(mixture.weights_ > 0.01) >= 12
    assert mixture.score(X) > GaussianMixture(16, **options).fit(X).score(X) - 0.3


@pytest.mark.parametrize("init_params", ["kmeans", "k-means++", "random_from_data"])
def test_streams_of_many_features(covariance_type, init_params):
    """The rows that wait are too few for covariances of each component alone."""
    X = overlapping(24)
    options = {"covariance_type": covariance_type, "init_params": init_params, "random_state": 0}
    mixture = MiniBatchGaussianMixture(16, **options)
    for batch in np.array_split(X, 100):
        mixture.partial_fit(batch)
    assert np.count_nonzero(mixture.weights_ > 0.01) >= 12
    assert mixture.score(X) > GaussianMixture(16, **options).fit(X).score(X) - 0.7


def test_streams_of_small_batches(covariance_type):
    """Steps are no longer than a batch has rows to tell: else components are lost, or narrow by chance."""
    X = overlapping(16, 4000, 8)
    mixture = MiniBatchGaussianMixture(8, covariance_type=covariance_type, random_state=0)
    for batch in np.array_split(X, 1000):
        mixture.partial_fit(batch)
    assert mixture.weights_.min() > 0.02
    assert mixture.n_repairs_ == 0
    full = GaussianMixture(8, covariance_type=covariance_type, random_state=0).fit(X)
    assert mixture.score(X) > full.score(X) - 0.18


@pytest.mark.parametrize("init_params", ["kmeans", "k-means++", "random_from_data", "random"])
def test_given_arrays_are_what_is_started_from(rows, init_params):
    weights, means, precisions = [0.7, 0.2, 0.1], rows[:3], np.eye(2) * np.arange(1.0, 4.0)[:, None, None]
    for n_rows, start in ((len(rows), "fit"), (20, "partial_fit")):  # 20: while the stream's rows wait
        for given in ({"weights_init": weights}, {"means_init": means}, {"precisions_init": precisions}):
            mixture = MiniBatchGaussianMixture(
                3, init_params=init_params, max_iter=0, random_state=0, **given
            )
            getattr(mixture, start)(rows[:n_rows])
            ((name, array),) = given.items()
            assert_allclose(getattr(mixture, name.replace("init", "")), array, rtol=1e-14)


def test_repairs_of_starts_are_counted():
    X = np.repeat(np.arange(8.0).reshape(4, 2), 50, axis=0)
    options = {"init_params": "random_from_data", "reg_covar": 0.0, "random_state": 0}
    with pytest.warns(RepairWarning):
        mixture = MiniBatchGaussianMixture(3, max_iter=0, **options).fit(X)
    with pytest.warns((RepairWarning, ConvergenceWarning)):
        full = GaussianMixture(3, max_iter=1, tol=0, **options).fit(X)
    assert mixture.n_repairs_ == full.n_repairs_ > 3


def test_sorted_rows_are_spread_over_batches(rows):
    """Without shuffling each batch would know one cluster only."""
    X = rows[np.argsort(rows[:, 0])]
    full = GaussianMixture(3, random_state=0).fit(X)
    ours = MiniBatchGaussianMixture(3, batch_size=300, random_state=0).fit(X)
    assert ours.score(X) == pytest.approx(full.score(X), abs=1e-3)


def test_when_epochs_end(rows):
    ours = MiniBatchGaussianMixture(3, batch_size=500, random_state=0, max_iter=4, tol=0.0)
    with pytest.warns(ConvergenceWarning):
        ours.fit(rows)
    assert (ours.n_iter_, ours.converged_) == (4, False)
    ours.set_params(tol=1e6, max_no_improvement=3, max_iter=50).fit(rows)
    assert (ours.n_iter_, ours.converged_) == (4, True)  # the first epoch gains on nothing at all
    ours.set_params(max_iter=0).fit(rows)
    assert (ours.n_iter_, ours.n_steps_, ours.converged_) == (0, 0, False)
    start = GaussianMixture(3, random_state=0, max_iter=0).fit(rows)
    np.testing.assert_array_equal(ours.means_, start.means_)


def test_the_order_of_rows_follows_random_state(rows):
    means = [
        MiniBatchGaussianMixture(3, batch_size=100, random_state=seed, means_init=rows[:3]).fit(rows).means_
        for seed in (0, 0, 1)
    ]
    np.testing.assert_array_equal(means[0], means[1])
    assert not np.array_equal(means[0], means[2])


def test_warm_start_goes_on(rows):
    options = {"batch_size": 500, "random_state": 0, "tol": 0.0, "shuffle": False, "averaging": None}
    whole = MiniBatchGaussianMixture(3, max_iter=4, **options)
    parts = MiniBatchGaussianMixture(3, max_iter=2, warm_start=True, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        whole.fit(rows)
        parts.fit(rows).fit(rows)
    np.testing.assert_array_equal(whole.means_, parts.means_)
    assert parts.n_steps_ == whole.n_steps_ == 24
    with pytest.raises(ValueError, match="n_components = 3; now n_components = 2"):
        parts.set_params(n_components=2).fit(rows)


def test_epochs_of_a_warm_start_are_compared_with_each_other(rows):
    """The last bound may be of a batch, or of rows that are nearer to the means."""
    options = {"batch_size": 100, "random_state": 0}
    ours = MiniBatchGaussianMixture(3, warm_start=True, **options).partial_fit(rows[:300] * [1.0, 3.0])
    ours.lower_bound_ = 10.0
    fresh = MiniBatchGaussianMixture(3, **options).fit(rows)
    ours.fit(rows)
    assert np.diff(ours.lower_bounds_[-3:]).max() < ours.tol
    assert ours.score(rows) == pytest.approx(fresh.score(rows), abs=1e-3)


def test_sources(covariance_type, rows):
    """A part of a source that is all of it is like an array."""
    options = {
        "covariance_type": covariance_type,
        "batch_size": 300,
        "random_state": 0,
        "means_init": rows[:3],
    }
    array = MiniBatchGaussianMixture(3, **options).fit(rows)
    source = MiniBatchGaussianMixture(3, **options).fit(BlockRows(lambda: iter(np.split(rows, 10))))
    assert source.n_iter_ > 1
    assert source.n_steps_ == 10 * source.n_iter_
    assert source.score(rows) == pytest.approx(array.score(rows), abs=1e-3)


def test_rows_without_weight_do_not_count(rows):
    weight = np.ones(len(rows))
    weight[1000:1600] = 0.0  # whole batches
    X = rows.copy()
    X[1000:1600] = 1e6
    options = {"batch_size": 200, "shuffle": False, "means_init": rows[:3], "random_state": 0}
    ours = MiniBatchGaussianMixture(3, **options).fit(X, sample_weight=weight)
    assert ours.history_["steps"][0] == 12
    assert ours.means_.max() < 20


@pytest.mark.parametrize("shuffle", [True, False])
def test_rows_without_weight_are_as_good_as_not_there(rows, shuffle):
    """Neither batches nor the length of steps know of them, also where a source has parts without weight."""
    weight = np.ones(len(rows))
    weight[np.arange(len(rows)) // 200 % 2 == 1] = 0.0
    options = {"batch_size": 200, "shuffle": shuffle, "means_init": rows[:3], "random_state": 0}
    left = MiniBatchGaussianMixture(3, **options).fit(rows[weight > 0])
    weighted = MiniBatchGaussianMixture(3, **options).fit(rows, sample_weight=weight)
    assert weighted.history_["step"] == left.history_["step"]
    np.testing.assert_allclose(weighted.means_, left.means_, rtol=1e-9)


def test_float32_rows(rows):
    single = rows.astype(np.float32)
    options = {"batch_size": 500, "random_state": 0}
    np.testing.assert_array_equal(
        MiniBatchGaussianMixture(3, **options).fit(single).means_,
        MiniBatchGaussianMixture(3, **options).fit(single.astype(np.float64)).means_,
    )


# ---- partial_fit -----------------------------------------------------------------------------------------


def test_a_stream_finds_what_em_finds(covariance_type, rows):
    full = GaussianMixture(3, covariance_type=covariance_type, random_state=0).fit(rows)
    ours = MiniBatchGaussianMixture(3, covariance_type=covariance_type, random_state=0)
    for batch in np.split(rows, 20):
        assert ours.partial_fit(batch) is ours
    assert ours.n_steps_ == 20
    assert ours.score(rows) == pytest.approx(full.score(rows), abs=SAME_CLUSTERS)


def test_row_by_row(rows):
    """Steps of one row have to be small; the first ones are buffered."""
    ours = MiniBatchGaussianMixture(3, t0=1000.0, random_state=0)
    with pytest.raises(NotFittedError):
        ours.partial_fit(rows[:1]).predict(rows)
    for i in range(1, 29):
        ours.partial_fit(rows[i : i + 1])
    assert ours.n_steps_ == 0
    assert len(ours._waiting.X) == 29
    for i in range(29, 700):
        ours.partial_fit(rows[i : i + 1])
    assert ours._waiting is None
    assert ours.n_steps_ == 671
    full = GaussianMixture(3, random_state=0).fit(rows)
    assert ours.score(rows) == pytest.approx(full.score(rows), abs=10 * SAME_CLUSTERS)


def test_provisional_mixtures(rows, monkeypatch):
    """Seeded whenever twice as many rows have come, so that waiting costs no more than a few seedings."""
    seeded = []
    make = MiniBatchGaussianMixture._make_start

    def counted(self, data, *arguments):
        seeded.append(data.n_positive)
        return make(self, data, *arguments)

    monkeypatch.setattr(MiniBatchGaussianMixture, "_make_start", counted)
    ours = MiniBatchGaussianMixture(3, random_state=0)
    for i in range(30):
        weight = np.ones(2)
        weight[1] = 0.0
        ours.partial_fit(rows[[i, 999]], sample_weight=weight)
        assert hasattr(ours, "means_") == (i >= 2)
    assert seeded == [3, 6, 12, 24, 30]
    assert ours.n_steps_ == 1
    # the rows that waited are the first batch
    again = MiniBatchGaussianMixture(3, random_state=0).partial_fit(rows[:30])
    np.testing.assert_array_equal(ours.means_, again.means_)


def test_what_waits_is_a_copy(rows):
    buffer = np.empty((5, 2))
    ours, expected = (MiniBatchGaussianMixture(3, random_state=0) for _ in range(2))
    for batch in np.split(rows[:40], 8):
        buffer[:] = batch
        ours.partial_fit(buffer)
        expected.partial_fit(batch)
    np.testing.assert_array_equal(ours.means_, expected.means_)


def test_a_start_that_is_given_needs_no_rows(rows):
    given = {
        "weights_init": [0.5, 0.5],
        "means_init": [[0.0, 0.0], [9.0, 9.0]],
        "precisions_init": [np.eye(2)] * 2,
    }
    ours = MiniBatchGaussianMixture(2, **given).partial_fit(rows[:1])
    assert ours.n_steps_ == 1
    assert ours.predict([[0.0, 0.0], [9.0, 9.0]]).tolist() == [0, 1]


def test_after_fit_it_goes_on(rows):
    ours = MiniBatchGaussianMixture(3, batch_size=500, random_state=0).fit(rows)
    n_iter, n_steps, bounds = ours.n_iter_, ours.n_steps_, list(ours.lower_bounds_)
    ours.partial_fit(rows[:50] + 1.0)
    assert (ours.n_iter_, ours.n_steps_, ours.lower_bounds_) == (n_iter, n_steps + 1, bounds)
    assert ours.converged_


def test_steps_may_be_made_longer_again(rows):
    """n_steps_ is the clock of the steps; min_step keeps them from stopping."""
    moved = rows[:500] + 3.0

    def distance(**changes):
        options = {"kappa": 0.6, "t0": 40.0, **changes.pop("options", {})}
        ours = MiniBatchGaussianMixture(1, random_state=0, **options).fit(rows)
        ours.n_steps_ = 10_000
        for name, value in changes.items():
            setattr(ours, name, value)
        before = ours.means_.copy()
        return float(np.abs(ours.partial_fit(moved).means_ - before).max())

    assert distance() < 0.02
    assert distance(n_steps_=1) > 0.25
    assert distance(options={"min_step": 0.9}) > 2.0


def test_a_clock_that_is_set_back_keeps_no_repair_from_being_forgiven(rows):
    ours = MiniBatchGaussianMixture(3, random_state=0).partial_fit(rows)
    ours._running = stepwise.replace(ours._running, reseeded_at=np.full(3, 5000))
    ours.n_steps_ = 10
    assert ours.partial_fit(rows)._running.reseeded_at.max() <= 10


def test_attributes_that_are_edited_are_gone_on_from(rows):
    ours = MiniBatchGaussianMixture(3, random_state=0, batch_size=500).fit(rows)
    ours.means_ += 1000.0  # in place
    ours.partial_fit(rows[:100] + 1000.0)
    assert np.abs(np.sort(ours.means_[:, 0]) - [1000, 1007, 1015]).max() < 1
    ours.n_steps_ = 10**9  # hardly a step
    before = ours.covariances_.copy()
    ours.covariances_ *= 4.0
    ours.precisions_cholesky_ /= 2.0
    ours.partial_fit(rows[:100] + 1000.0)
    np.testing.assert_allclose(ours.covariances_, 4.0 * before, rtol=1e-3, atol=1e-3)
    ours.n_steps_ = 100
    by_hand = MiniBatchGaussianMixture(3, random_state=0)
    for name in ("weights_", "means_", "covariances_", "precisions_cholesky_"):
        setattr(by_hand, name, getattr(ours, name).copy())
    by_hand.partial_fit(rows[:100] + 1000.0)
    assert by_hand.n_steps_ == 1
    assert np.abs(np.sort(by_hand.means_[:, 0]) - [1000, 1007, 1015]).max() < 1


def test_other_features_or_components_are_refused(rows):
    ours = MiniBatchGaussianMixture(3, random_state=0).partial_fit(rows)
    before = attributes(ours)
    with pytest.raises(ValueError, match="X has 3 features, but MiniBatchGaussianMixture is expecting 2"):
        ours.partial_fit(np.ones((5, 3)))
    with pytest.raises(ValueError, match="X has 3 features in block 0, but 2 are expected"):
        ours.partial_fit(BlockRows([np.ones((5, 3))]))
    with pytest.raises(ValueError, match=r"sample_weight.shape == \(4,\), expected \(5,\)"):
        ours.partial_fit(rows[:5], sample_weight=np.ones(4))
    with pytest.raises(ValueError, match="weights have the shape"):
        ours.partial_fit(rows[:5], sample_weight=np.zeros(4))
    with pytest.raises(ValueError, match="row 1, column 0"):
        ours.partial_fit([[0.0, 1.0], [np.nan, 1.0]])
    assert attributes(ours) == before
    with pytest.raises(ValueError, match="n_components = 3; now n_components = 4"):
        ours.set_params(n_components=4).partial_fit(rows)


# ---- what it survives ------------------------------------------------------------------------------------


def test_batches_that_say_little(covariance_type, rows):
    """One row, equal rows, no weight: the mixture stays a mixture and finds back."""
    ours = MiniBatchGaussianMixture(3, covariance_type=covariance_type, random_state=0).partial_fit(rows)
    n_steps = ours.n_steps_
    for _ in range(20):
        ours.partial_fit(rows[:1])
        ours.partial_fit(np.repeat(rows[5:6], 50, axis=0))
        ours.partial_fit(rows[:9], sample_weight=np.zeros(9))
        ours.partial_fit(rows[:2], sample_weight=[0, 1e-9])
    assert ours.n_steps_ == n_steps + 60
    assert np.isfinite(ours.score_samples(rows)).all()
    assert ours.weights_.sum() == pytest.approx(1.0)


@pytest.mark.filterwarnings("ignore::fastgmm.RepairWarning")
def test_equal_rows_without_regularisation(covariance_type, rows):
    ours = MiniBatchGaussianMixture(
        3, covariance_type=covariance_type, random_state=0, reg_covar=0.0, min_step=0.7
    ).partial_fit(rows)
    for _ in range(150):
        ours.partial_fit(np.ones((20, 2)))
    assert np.isfinite(ours.means_).all()
    assert np.isfinite(ours.precisions_cholesky_).all()
    ours.partial_fit(rows)
    assert np.isfinite(ours.score(rows))


def lost_component(rows, **options):
    """A start with a component where there is nothing."""
    return MiniBatchGaussianMixture(
        3,
        weights_init=[0.4, 0.3, 0.3],
        means_init=[[0.0, 0.0], [11.0, 11.0], [1e4, 1e4]],
        precisions_init=np.repeat(0.1 * np.eye(2)[None], 3, axis=0),
        t0=0.0,
        random_state=0,
        **options,
    )


def test_starved_components_are_seeded_anew(rows):
    ours = lost_component(rows)
    with pytest.warns(RepairWarning, match="components: 2") as caught:
        ours.partial_fit(rows)
    assert caught[0].filename == __file__  # the line that called
    assert ours.n_repairs_ == 1
    for batch in np.split(rows, 30) * 2:
        ours.partial_fit(batch)
    assert ours.means_.max() < 20
    assert ours.weights_.min() > 0.1
    with pytest.raises(DegenerateComponentError, match="2"):
        lost_component(rows, repair="raise").partial_fit(rows)
    with pytest.warns(RepairWarning):
        fitted = lost_component(rows, batch_size=300).fit(rows)
    assert fitted.n_repairs_ >= 1
    assert fitted.score(rows) > GaussianMixture(2, random_state=0).fit(rows).score(rows)


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_interrupts_leave_attributes_as_they_were(rows, monkeypatch, error):
    ours = MiniBatchGaussianMixture(3, random_state=0, batch_size=500).fit(rows)
    fresh = MiniBatchGaussianMixture(3, random_state=0, t0=0.0, batch_size=500)
    states = attributes(ours), attributes(fresh)
    maximise, calls = em.Maximiser.maximise, []

    def interrupted(self, *arguments):
        calls.append(1)
        if len(calls) % 4 == 0:
            raise error
        return maximise(self, *arguments)

    monkeypatch.setattr(em.Maximiser, "maximise", interrupted)
    for estimator, before in zip((ours, fresh), states):
        with pytest.raises(error):
            estimator.fit(rows)
        assert attributes(estimator) == before
    calls[:] = [1, 1, 1]
    with pytest.raises(error):
        ours.partial_fit(rows)
    assert attributes(ours) == states[0]


# ---- the rest of the protocol ----------------------------------------------------------------------------


def test_files(covariance_type, rows, tmp_path):
    ours = MiniBatchGaussianMixture(3, covariance_type=covariance_type, random_state=0, batch_size=500).fit(
        rows
    )
    ours.save(tmp_path / "mixture.npz")
    loaded = MiniBatchGaussianMixture.load(tmp_path / "mixture.npz")
    assert loaded.get_params() == ours.get_params()
    for name in ("n_steps_", "n_iter_", "converged_", "lower_bounds_", "history_", "n_repairs_"):
        assert getattr(loaded, name) == getattr(ours, name), name
    np.testing.assert_array_equal(loaded.predict_proba(rows), ours.predict_proba(rows))
    with pytest.raises(ValueError, match="not a GaussianMixture"):
        GaussianMixture.load(tmp_path / "mixture.npz")

    def change(members):
        members["n_steps_"] = np.array(-1)

    with pytest.raises(ValueError, match="n_steps_ is negative"):
        MiniBatchGaussianMixture.load(saved_files.rewritten(tmp_path / "mixture.npz", change))


def test_what_mixtures_can_do(rows):
    ours = MiniBatchGaussianMixture(3, random_state=0).fit(rows)
    drawn, labels = ours.sample(50)
    assert drawn.shape == (50, 2)
    assert (ours.predict(drawn) == labels).mean() > 0.9
    np.testing.assert_allclose(ours.predict_proba(rows).sum(axis=1), 1.0)
    full = GaussianMixture.from_parameters(ours.weights_, ours.means_, ours.covariances_)
    for name in ("bic", "aic", "icl", "score"):
        assert getattr(ours, name)(rows) == pytest.approx(getattr(full, name)(rows), rel=1e-9)
    assert ours.n_parameters_ == full.n_parameters_
    fresh = clone(ours)
    assert not hasattr(fresh, "means_")
    assert fresh.get_params() == ours.get_params()
    labels = ours.fit_predict(rows)
    np.testing.assert_array_equal(labels, ours.predict(rows))


def test_frames_keep_their_names(rows):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(rows, columns=["a", "b"])
    ours = MiniBatchGaussianMixture(3, random_state=0).partial_fit(frame)
    assert ours.feature_names_in_.tolist() == ["a", "b"]
    with pytest.raises(ValueError, match="feature names"):
        ours.partial_fit(frame.rename(columns={"a": "c"}))


def test_progress(rows, capsys):
    MiniBatchGaussianMixture(3, random_state=0, batch_size=500, verbose=2).fit(rows)
    written = capsys.readouterr()
    assert "MiniBatchGaussianMixture" in written.err
    assert "run 0, iteration 2: lower bound" in written.out


def test_documentation():
    for module in ("fastgmm.mini_batch", "fastgmm.stepwise", "fastgmm.batches"):
        assert doctest.testmod(importlib.import_module(module)).failed == 0
    text = inspect.getdoc(MiniBatchGaussianMixture)
    for name, parameter in inspect.signature(MiniBatchGaussianMixture).parameters.items():
        stated = re.search(rf"\n{name} : .*default=(.*)\n", text)[1]
        assert ast.literal_eval(stated) == parameter.default, name
    assert f"{mini_batch.ROWS_PER_COMPONENT} per component, but at least {mini_batch.FEWEST_ROWS}" in text
