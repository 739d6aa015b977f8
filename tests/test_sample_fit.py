"""EM on a sample of the rows before iterations over all: where, what it gains, and what it must keep."""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from dataclasses import replace
from time import perf_counter

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

from fastgmm import (
    BayesianGaussianMixture,
    BlockRows,
    GaussianMixture,
    MiniBatchGaussianMixture,
    em,
    sample_fit,
    seeding,
)
from fastgmm.blocks import ArrayData
from fastgmm.em import EMOptions
from fastgmm.exceptions import DegenerateComponentError
from fastgmm.sample_fit import MOST_ITERATIONS, improved
from fastgmm.seeding import initial_parameters, rows_to_seed_from
from fastgmm.structures import STRUCTURES

# Enough rows for a sample of 4,096 of them; each stands for 14.
N_ROWS = 60_000
# What iterations over all rows are left to gain after the sample, and may find in another order.
SAME_BOUND = 5e-3


def rows(seed=0, n_rows=N_ROWS, n_features=2, n_clusters=6, spread=2.0):
    """Overlapping clusters, on which EM takes a while."""
    rng = np.random.default_rng(seed)
    means = spread * rng.standard_normal((n_clusters, n_features))
    maps = np.eye(n_features) + rng.standard_normal((n_clusters, n_features, n_features)) / 2
    labels = rng.integers(n_clusters, size=n_rows)
    return means[labels] + np.einsum("nij,nj->ni", maps[labels], rng.standard_normal((n_rows, n_features)))


def with_far_rows(X, n_far, weight=None, seed=1):
    """These rows and some far out, in random order; weights of 1 but for those far out."""
    rng = np.random.default_rng(seed)
    far = 300.0 + rng.standard_normal((n_far, X.shape[1]))
    order = rng.permutation(len(X) + n_far)
    weights = None if weight is None else np.repeat([1.0, weight], [len(X), n_far])[order]
    return np.concatenate([X, far])[order], weights


class Improved:
    """What became of a start that k-means made, and the rows that it was improved on."""

    def __init__(self, X, kind="full", n_components=6, weight=None, seed=0, stands_for=None, **options):
        self.data = ArrayData(X, weight)
        if stands_for is not None:
            self.data.stands_for = stands_for
        self.structure = STRUCTURES[kind]
        self.options = EMOptions(**options)
        self.frame = self.data.frame(1, self.structure.common_scale)
        with without():
            self.start = initial_parameters(
                self.data, self.structure, n_components, init_params="kmeans", options=self.options,
                random_state=np.random.RandomState(seed), frame=self.frame,
            ).parameters  # fmt: skip
        self.runs, self.collapsed = [], False
        run = em.run

        def recorded(data, structure, start, options, **rest):
            try:
                result = run(data, structure, start, options, **rest)
            except DegenerateComponentError:
                self.collapsed = True
                raise
            self.runs.append((data, options, result))
            return result

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(em, "run", recorded)
            self.found = improved(
                self.data, self.structure, self.start, self.options, self.frame,
                np.random.RandomState(seed),
            )  # fmt: skip

    @property
    def sample(self):
        ((data, _, _),) = self.runs
        return data

    def bound(self, parameters):
        """Mean log-likelihood of all rows."""
        options = replace(self.options, max_iter=1)
        return em.run(self.data, self.structure, parameters, options, frame=self.frame).lower_bound


@contextmanager
def without():
    """Fits that go over all rows from the start that k-means made."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sample_fit, "improved", lambda data, structure, start, *rest: start)
        yield


# -- where it is done -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("X", "arguments"),
    [
        (rows(n_rows=8 * 4096 - 1), {}),
        (rows(n_features=12), {}),  # 545 parameters: a sample of 20 rows each is more than an eighth
        (rows(), {"n_components": 1}),
        (rows(), {"max_iter": 0}),
    ],
    ids=["few rows", "many parameters", "one component", "no iterations"],
)
def test_a_start_that_is_not_improved_is_the_same_object(X, arguments):
    case = Improved(X, **arguments)
    assert case.runs == []
    assert case.found is case.start


def test_with_one_row_more_there_are_enough():
    case = Improved(rows(n_rows=8 * 4096))
    assert case.found is not case.start
    assert case.sample.n_rows == 4096


def test_no_draws_are_made_where_there_are_too_few_rows():
    """The next start goes on where k-means left off."""
    random_state = np.random.RandomState(3)
    case = Improved(rows(n_rows=5000))
    state = random_state.get_state()[1].copy()
    improved(case.data, case.structure, case.start, case.options, case.frame, random_state)
    np.testing.assert_array_equal(random_state.get_state()[1], state)


@pytest.mark.parametrize("given", ["weights", "precisions"])
def test_starts_that_are_given_in_part_are_left_alone(monkeypatch, given):
    """What would be improved are not the parameters that EM starts from."""
    value = {"weights": np.full(6, 1 / 6), "precisions": np.repeat(np.eye(2)[None], 6, axis=0)}[given]
    monkeypatch.setattr(sample_fit, "improved", None)  # not to be called
    initial_parameters(
        ArrayData(rows()), STRUCTURES["full"], 6, init_params="kmeans", options=EMOptions(),
        random_state=np.random.RandomState(0), **{given: value},
    )  # fmt: skip


@pytest.mark.parametrize(
    "mixture", [BayesianGaussianMixture(n_components=6), GaussianMixture(6, prior="conjugate")]
)
def test_mixtures_with_priors_are_left_alone(monkeypatch, mixture):
    monkeypatch.setattr(sample_fit, "improved", None)  # not to be called
    mixture.set_params(random_state=0, tol=1e9).fit(rows())


def test_repairs_of_the_start_are_still_reported(monkeypatch):
    case = Improved(rows())
    monkeypatch.setattr(seeding, "_kmeans_start", lambda *_: seeding.Start(case.start, (1, 4)))
    start = initial_parameters(
        case.data, case.structure, 6, init_params="kmeans", options=case.options,
        random_state=np.random.RandomState(0),
    )  # fmt: skip
    assert start.repaired == (1, 4)
    assert start.parameters is not case.start


# -- what it gains --------------------------------------------------------------------------------------


def test_most_of_what_em_gains_is_gained_on_the_sample(covariance_type):
    """Bounds of all rows: of the start, after the sample, and where EM over all rows ends."""
    case = Improved(rows(), covariance_type)
    before, after = case.bound(case.start), case.bound(case.found)
    options = replace(case.options, max_iter=300)
    end = em.run(case.data, case.structure, case.start, options, frame=case.frame).lower_bound
    assert end - before > 0.02  # else there is nothing to gain
    assert after > end - SAME_BOUND


@pytest.mark.parametrize("seed", range(3))
def test_fits_take_fewer_iterations_and_end_as_high(covariance_type, seed):
    X = rows(n_features=3)
    mixture = GaussianMixture(6, covariance_type=covariance_type, random_state=seed, n_jobs=1)
    n_iter, bound = mixture.fit(X).n_iter_, mixture.score(X)
    assert len(mixture.lower_bounds_) == n_iter  # iterations over all rows only
    with without():
        mixture.fit(X)
    assert n_iter <= 0.6 * mixture.n_iter_
    assert bound > mixture.score(X) - SAME_BOUND


def test_epochs_start_from_it_too():
    X = rows()
    mixture = MiniBatchGaussianMixture(6, random_state=0, max_iter=20)
    first = mixture.fit(X).lower_bounds_[0]
    with without():
        mixture.fit(X)
    assert first > mixture.lower_bounds_[0] + 1e-2


def test_steps_on_the_sample_are_em_s_own():
    """Accelerated ones end in other optima, and save nothing where iterations cost so little."""
    X = rows()
    plain, accelerated = Improved(X, tol=1e-6), Improved(X, tol=1e-6, acceleration="anderson")
    np.testing.assert_array_equal(accelerated.found.means, plain.found.means)


@pytest.mark.parametrize("max_iter", [1, 3, 200])
def test_no_more_iterations_than_are_asked_for(max_iter):
    case = Improved(rows(), tol=0.0, max_iter=max_iter)
    ((_, _, result),) = case.runs
    assert result.n_iter == min(max_iter, MOST_ITERATIONS)


def test_the_deadline_ends_the_sample_as_well():
    case = Improved(rows(), tol=0.0, deadline=perf_counter())
    ((_, _, result),) = case.runs
    assert result.n_iter == 1
    assert case.found is not case.start
    mixture = GaussianMixture(6, random_state=0, max_time=1e-9)
    with pytest.warns(ConvergenceWarning, match="max_time"):
        mixture.fit(rows())
    assert mixture.n_iter_ == 1


# -- which rows -----------------------------------------------------------------------------------------


def test_one_row_of_each_so_many():
    X, weight = np.arange(37.0)[:, None], np.arange(37.0) + 0.5
    drawn = [ArrayData(X, weight).one_row_of_each(5, np.random.RandomState(seed)) for seed in range(40)]
    for data in drawn:
        np.testing.assert_array_equal(data.X[:, 0] // 5, np.arange(7))
        np.testing.assert_array_equal(data.sample_weight, data.X[:, 0] + 0.5)
    assert {int(x) for data in drawn for x in data.X[:, 0] % 5} == set(range(5))


def test_rows_that_come_in_turn():
    """Every 16th row is from one cluster: a sample of one row in 16 has its share of them."""
    X = rows(n_rows=160_000, n_clusters=5)
    X[::16] = 12.0 + np.random.default_rng(5).standard_normal((10_000, 2))
    case = Improved(X)
    assert case.sample.n_rows == 10_000
    assert case.found is not case.start
    assert case.found.weights.min() == pytest.approx(1 / 16, rel=0.15)  # 4 standard deviations of 625


@pytest.mark.parametrize("seed", range(3))
def test_rows_in_the_order_of_their_clusters(seed):
    X = rows(seed, n_features=1, n_clusters=4)
    X = X[np.argsort(X[:, 0])]
    case = Improved(X, n_components=4, seed=seed)
    assert case.bound(case.found) > case.bound(case.start)
    # an even share of them, in each tenth of the rows
    places = np.searchsorted(X[:, 0], case.sample.X[:, 0])
    assert np.ptp(np.bincount(places * 10 // N_ROWS)) <= 4  # steps of 14 rows


def test_samples_have_a_largest_size(monkeypatch):
    """Whatever the number of rows, or up to an eighth more, as steps are whole numbers.

    Rows of weight 0 are drawn as others are, and take memory.
    """
    X = rows(n_rows=200_000)
    assert Improved(X).sample.n_rows > 12_000
    monkeypatch.setattr(sample_fit, "MOST_ROWS", 6000)
    assert 5000 < Improved(X).sample.n_rows <= 6750
    weight = (np.arange(len(X)) % 10 < 8).astype(float)
    assert 5000 < Improved(X, weight=weight).sample.n_rows <= 6750
    monkeypatch.setattr(sample_fit, "MOST_BYTES", 5000 * X.itemsize * X.shape[1])
    assert 4096 <= Improved(X).sample.n_rows <= 5625
    monkeypatch.setattr(sample_fit, "MOST_BYTES", 4000 * X.itemsize * X.shape[1])
    assert Improved(X).runs == []


def test_a_sample_of_a_stream_is_taken_whole():
    """Where it is no more than is wanted of all rows it stands for."""
    X = rows(n_rows=20_000)
    case = Improved(X, stands_for=10**7)
    assert case.sample is case.data
    assert Improved(X, stands_for=20_000).runs == []
    assert Improved(X, stands_for=100_000).sample.n_rows == 6666  # one in three; 6,250 are wanted


@pytest.mark.parametrize(("n_far", "enough"), [(20, False), (30, True)])
def test_a_component_may_need_more_rows_than_were_kept_of_a_stream(n_far, enough):
    """23 of its own, with 4 components of 23 parameters."""
    X, _ = with_far_rows(rows(n_rows=20_000, n_clusters=3), n_far)
    assert bool(Improved(X, n_components=4, stands_for=10**7).runs) is enough


def test_sources_say_how_many_rows_theirs_stand_for(monkeypatch):
    X = rows(n_rows=150_000)
    seen = []

    def recorded(data, structure, start, *rest):
        seen.append((data.n_rows, data.stands_for))
        return start

    monkeypatch.setattr(sample_fit, "improved", recorded)
    weight = [np.where(np.arange(len(part)) % 10 == 0, 0.0, 1.0) for part in np.array_split(X, 5)]
    source = BlockRows(list(zip(np.array_split(X, 5), weight)), weighted=True)
    GaussianMixture(3, random_state=0, tol=10.0).fit(source)
    assert seen == [(rows_to_seed_from(3, 2), 135_000)]


def test_single_precision_rows_are_summed_in_double():
    X = rows().astype(np.float32)
    single = Improved(X, arithmetic="float32")
    double = Improved(X.astype(np.float64))
    for first, second in zip(single.found, double.found):
        np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("weighted", [False, True])
def test_the_same_bits_on_any_number_of_threads(covariance_type, weighted):
    X = rows(n_rows=200_000)
    weight = np.random.default_rng(0).uniform(0.5, 2.0, len(X)) if weighted else None
    runs = [Improved(X, covariance_type, weight=weight, n_threads=n) for n in (1, 2, 3)]
    assert runs[0].found is not runs[0].start
    for other in runs[1:]:
        for first, second in zip(runs[0].found, other.found):
            np.testing.assert_array_equal(first, second)


# -- weights --------------------------------------------------------------------------------------------


def test_equal_weights_are_nothing_to_it():
    case = Improved(rows())
    weighted = ArrayData(case.data.X, np.full(N_ROWS, 0.25))
    found = improved(weighted, case.structure, case.start, case.options, case.frame, np.random.RandomState(0))
    np.testing.assert_allclose(found.means, case.found.means, rtol=0, atol=1e-9)
    np.testing.assert_allclose(found.covariances, case.found.covariances, rtol=0, atol=1e-9)


@pytest.mark.parametrize("share", [0.4, 0.6])
def test_rows_count_by_what_they_tell(share):
    """Of rows without weight there are as many as you like: 24,000 are too few, 36,000 are enough."""
    weight = np.zeros(N_ROWS)
    weight[: int(share * N_ROWS)] = 2.0
    X = rows()
    case = Improved(X[np.random.default_rng(0).permutation(N_ROWS)], weight=weight)
    assert bool(case.runs) is (share > 0.5)
    if case.runs:
        assert case.sample.n_positive == pytest.approx(4096, rel=0.2)
        assert case.bound(case.found) > case.bound(case.start)


def test_a_few_rows_with_much_of_the_weight_are_a_small_sample():
    """One in a hundred has 29 % of it, and all of them tell no more than 22,700 of equal weight."""
    weight = np.ones(200_000)
    weight[::100] = 40.0
    X = rows(n_rows=200_000, n_clusters=2)
    assert Improved(X, n_components=2).runs != []
    assert Improved(X, n_components=2, weight=weight).runs == []


def test_a_component_of_a_few_heavy_rows_is_a_small_one():
    """It has 1 % of the weight of the rows, but one in 16 of its 40 rows does not tell its covariance."""
    X, weight = with_far_rows(rows(n_rows=200_000, n_clusters=3), 40, weight=50.0)
    case = Improved(X, n_components=4, weight=weight)
    assert case.start.weights.min() == pytest.approx(0.01, rel=0.05)
    assert case.found is case.start


# -- what it may not lose -------------------------------------------------------------------------------


@pytest.mark.parametrize("n_far", [20, 60, 1000])
def test_small_clusters_far_out_are_kept(covariance_type, n_far):
    X, _ = with_far_rows(rows(n_clusters=3), n_far)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mixture = GaussianMixture(4, covariance_type=covariance_type, random_state=0).fit(X)
    far = np.argmax(mixture.means_[:, 0])
    np.testing.assert_allclose(mixture.means_[far], X[X[:, 0] > 200].mean(axis=0), rtol=1e-6)
    assert mixture.weights_[far] == pytest.approx(n_far / len(X), rel=1e-6)


def test_a_component_gets_the_rows_it_needs():
    """A start with a cluster of 300 rows takes a larger sample, one of 60 none at all."""
    sizes = []
    for n_far in (60, 300, 6000):
        case = Improved(with_far_rows(rows(n_rows=100_000, n_clusters=3), n_far)[0], n_components=4)
        sizes.append(case.sample.n_rows if case.runs else 0)
    assert sizes[0] == 0
    far_parameters = STRUCTURES["full"].n_parameters(4, 2) / 4
    assert sizes[1] * 300 / 100_300 >= 4 * far_parameters * 0.99
    assert sizes[1] > sizes[2] > 6000


def test_a_component_that_loses_its_rows_on_the_way(monkeypatch):
    """The start as it was; one that keeps enough of them is taken."""
    case = Improved(rows())
    n_sampled = case.sample.n_rows

    def ended_with(n_own):
        share = n_own / n_sampled
        weights = np.array([share, *[(1 - share) / 5] * 5])
        found = case.found._replace(weights=weights)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(em, "run", lambda *_, **__: em.EMResult(found))
            return found, improved(
                case.data, case.structure, case.start, case.options, case.frame, np.random.RandomState(0)
            )

    assert ended_with(11)[1] is case.start  # 35 parameters for 6 components: 11.7
    found, kept = ended_with(12)
    assert kept is found


def test_a_sample_that_collapses_is_forgotten():
    """A cluster of 400 rows, of equal ones but for 16: without these it has no covariance.

    About 28 of them are in a sample, which has none of the 8 that differ in one feature, or in the other,
    about every other time. All rows keep their three components.
    """
    X = rows(n_clusters=2)
    X[:400] = 50.0
    X[:8, 0] += 1.0
    X[8:16, 1] += 1.0
    X = X[np.random.default_rng(0).permutation(N_ROWS)]
    collapsed = 0
    for seed in range(8):
        case = Improved(X, n_components=3, seed=seed, reg_covar=0.0)
        collapsed += case.collapsed
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            mixture = GaussianMixture(3, random_state=seed, reg_covar=0.0).fit(X)
        assert mixture.n_repairs_ == 0
        assert mixture.weights_.min() == pytest.approx(400 / N_ROWS, rel=1e-3)
    assert 2 <= collapsed < 8


def test_other_errors_are_not_hidden(monkeypatch):
    case = Improved(rows())
    for error, expected in ((DegenerateComponentError("component 1"), case.start), (MemoryError(), None)):

        def failing(*_, error=error, **__):
            raise error

        monkeypatch.setattr(em, "run", failing)
        arguments = (case.data, case.structure, case.start, case.options, case.frame)
        if expected is None:
            with pytest.raises(MemoryError):
                improved(*arguments, np.random.RandomState(0))
        else:
            assert improved(*arguments, np.random.RandomState(0)) is expected


# -- fits in parts --------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_init", [1, 3])
def test_a_fit_that_was_stopped_does_not_begin_anew(monkeypatch, tmp_path, n_init):
    """Each start is made and improved once, and the end has the bits of a fit in one go."""
    X = rows(n_features=3)
    options = {"n_components": 6, "random_state": 0, "tol": 1e-5, "n_init": n_init}
    whole = GaussianMixture(**options).fit(X)
    made = []

    def counted(*arguments):
        made.append(1)
        return improved(*arguments)

    monkeypatch.setattr(sample_fit, "improved", counted)
    path, collect, passes = tmp_path / "fit.npz", em.Maximiser.collect, [0]

    def stopped(self, *arguments):
        if self.n_positive == len(X):
            passes[0] += 1
            if passes[0] == 2 * n_init:
                raise KeyboardInterrupt
        return collect(self, *arguments)

    mixture = GaussianMixture(**options, checkpoint=path, checkpoint_every=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(em.Maximiser, "collect", stopped)
        with pytest.raises(KeyboardInterrupt):
            mixture.fit(X)
    mixture.fit(X)
    assert len(made) == n_init
    assert mixture.lower_bounds_ == whole.lower_bounds_
    np.testing.assert_array_equal(mixture.means_, whole.means_)
