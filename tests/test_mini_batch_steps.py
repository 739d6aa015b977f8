"""Stepwise EM against the slow reference, and what must not change it."""

from __future__ import annotations

import pickle

import datasets
import numpy as np
import oracle
import pytest
import stepwise_oracle
import tolerances
from hypothesis import given, settings
from hypothesis import strategies as st
from running import parameters_of

from fastgmm import BlockRows, GaussianMixture, MiniBatchGaussianMixture, em, stepwise
from fastgmm.batches import Batches
from fastgmm.blocks import ArrayData
from fastgmm.frame import Frame
from fastgmm.passes import accumulate
from fastgmm.structures import STRUCTURES, maximum_likelihood

MODEL = ("weights_", "means_", "covariances_", "precisions_cholesky_")
K, D = 3, 4
REG_COVAR = 1e-3
# Steps from one start part by rounding, as iterations of EM do (tolerances.SAME_FIT); the reference's raw
# moments lose two digits of nineteen.
STEPS = tolerances.SAME_FIT
EQUAL = 1e-12


def problem(covariance_type, n_rows=1200, seed=0):
    return datasets.problem(seed, n_rows, D, K, covariance_type, 2.0)


def mixture(covariance_type, start, **options):
    options = {"reg_covar": REG_COVAR, "averaging": None, "n_jobs": 1, "random_state": 0, **options}
    return MiniBatchGaussianMixture(
        len(start[0]),
        covariance_type=covariance_type,
        **datasets.init_arguments(covariance_type, start),
        **options,
    )


def reference_of(covariance_type, start):
    return oracle.make_model(covariance_type, *start[:3])


def parameters(estimator):
    return [getattr(estimator, name) for name in MODEL]


def assert_same_bits(first, second):
    for name, a, b in zip(MODEL, parameters(first), parameters(second)):
        assert a.tobytes() == b.tobytes(), f"{name} differs by up to {np.max(np.abs(a - b))}"


def cut(X, sizes):
    return np.split(X, np.cumsum(sizes)[:-1])


# -- the reference ---------------------------------------------------------------------------------

SIZES = (200, 37, 400, 1, 262, 300)


@pytest.mark.parametrize("averaging", [None, "steps"])
@pytest.mark.parametrize(("weighted", "dtype"), [(False, np.float64), (True, np.float64), (True, np.float32)])
def test_steps_follow_the_reference(covariance_type, weighted, dtype, averaging):
    X, start = problem(covariance_type)
    X = X.astype(dtype)
    weight = np.random.default_rng(1).uniform(0, 3, len(X)) if weighted else None
    weights = [None] * len(SIZES) if weight is None else cut(weight, SIZES)
    batches = list(zip(cut(X, SIZES), weights))
    ours = mixture(covariance_type, start, kappa=0.7, t0=1.5, averaging=averaging)
    bounds = []
    for rows, row_weights in batches:
        ours.partial_fit(rows, sample_weight=row_weights)
        bounds.append(ours.lower_bound_)
    longest = np.array([len(rows) for rows, _ in batches]) / (8 * K * max(10, D + 1))
    steps = np.minimum((np.arange(1, len(SIZES) + 1) + 1.5) ** -0.7, longest)
    assert 1 < np.count_nonzero(steps == longest) < len(SIZES)
    reference, expected = stepwise_oracle.stepwise_em(
        batches, reference_of(covariance_type, start), REG_COVAR, steps, averaging
    )
    assert oracle.difference(reference, parameters(ours)) < STEPS
    np.testing.assert_allclose(bounds, expected, rtol=STEPS)
    assert ours.n_steps_ == len(SIZES)
    np.testing.assert_allclose(
        oracle.log_density(X[:9], oracle.fitted_model(ours)).astype(float),
        ours.score_samples(X[:9]),
        rtol=1e-9,
    )


def test_steps_of_few_rows(covariance_type):
    """`min_step` is a least length also there; rows without weight tell nothing."""
    X, start = problem(covariance_type)
    weight = np.repeat([1.0, 0.0], 20)
    for options, step in (({"min_step": 0.5}, 0.5), ({}, 20 / (8 * K * max(10, D + 1)))):
        ours = mixture(covariance_type, start, t0=0.0, **options)
        ours.partial_fit(X[:40], sample_weight=weight)
        reference, _ = stepwise_oracle.stepwise_em(
            [(X[:20], None)], reference_of(covariance_type, start), REG_COVAR, [step], None
        )
        assert oracle.difference(reference, parameters(ours)) < STEPS


@pytest.mark.parametrize("averaging", [None, "epoch"])
def test_fit_follows_the_reference(covariance_type, averaging):
    """Batches weigh in proportion to their weight; after the last epoch each row counts once."""
    X, start = problem(covariance_type)
    weight = np.random.default_rng(1).uniform(0, 3, len(X))
    ours = mixture(
        covariance_type,
        start,
        batch_size=200,
        shuffle=False,
        max_iter=1,
        tol=0.0,
        t0=3.0,
        averaging=averaging,
    )
    with pytest.warns(match="did not converge"):
        ours.fit(X, sample_weight=weight)
    batches = list(zip(np.split(X, 6), np.split(weight, 6)))
    relative = [w.sum() / (weight.sum() / 6) for _, w in batches]
    steps = [(t + 3.0) ** -ours.kappa * r for t, r in enumerate(relative, 1)]
    reference, bounds = stepwise_oracle.stepwise_em(
        batches, reference_of(covariance_type, start), REG_COVAR, steps, averaging
    )
    assert oracle.difference(reference, parameters(ours)) < STEPS
    assert ours.lower_bound_ == pytest.approx(np.average(bounds, weights=relative), rel=STEPS)


def test_one_long_step_is_an_iteration_of_em(covariance_type):
    X, start = problem(covariance_type)
    full = GaussianMixture(
        K,
        covariance_type=covariance_type,
        **datasets.init_arguments(covariance_type, start),
        reg_covar=REG_COVAR,
        max_iter=1,
        tol=1e300,
    )
    with pytest.warns(match="did not converge"):  # its first change is infinite
        full.fit(X)
    ours = mixture(covariance_type, start, t0=0.0).partial_fit(X)
    assert oracle.difference(oracle.fitted_model(full), parameters(ours)) < EQUAL
    assert ours.lower_bound_ == pytest.approx(full.lower_bound_, rel=EQUAL)


def test_one_batch_of_all_rows_is_em(covariance_type):
    """All steps are 1 then, whatever kappa and t0 say."""
    X, start = problem(covariance_type)
    given = datasets.init_arguments(covariance_type, start)
    full = GaussianMixture(
        K, covariance_type=covariance_type, **given, reg_covar=REG_COVAR, tol=0.0, max_iter=6
    )
    ours = mixture(covariance_type, start, tol=0.0, max_iter=6, averaging="epoch", batch_size=len(X))
    for estimator in (full, ours):
        with pytest.warns(match="did not converge"):
            estimator.fit(X)
    assert oracle.difference(oracle.fitted_model(full), parameters(ours)) < tolerances.SAME_FIT
    np.testing.assert_allclose(ours.lower_bounds_, full.lower_bounds_, rtol=EQUAL)


def test_mixed_statistics(covariance_type):
    """Against moments of both sets of rows about the origin, summed in longdouble."""
    X, _ = problem(covariance_type)
    structure, rng = STRUCTURES[covariance_type], np.random.default_rng(3)
    resp = rng.dirichlet(np.ones(K), size=len(X))
    scale = np.full(D, 0.5) if structure.common_scale else 0.5 ** np.arange(D)
    halves = []
    for rows, about in ((slice(0, 500), 1.0), (slice(500, None), -7.0)):
        frame = Frame(np.full(D, about), scale)
        data, centres = ArrayData(X[rows]), rng.normal(size=(K, D))
        halves.append(
            accumulate(
                data, structure, frame, K, 1, responsibilities=np.ascontiguousarray(resp[rows]),
                centres=centres, centred=np.ones(K, dtype=bool),
            )
        )  # fmt: skip
    first, second = (part.scaled(1 / part.total_weight) for part in halves)
    mixed = first.mixed(second, 0.3)
    np.testing.assert_array_equal(mixed.reference, first.reference)
    assert mixed.total_weight == pytest.approx(1.0)
    assert mixed.n_rows == len(X)
    moments = stepwise_oracle.Moments.of_rows(X[:500], resp[:500]).mixed(
        stepwise_oracle.Moments.of_rows(X[500:], resp[500:]), 0.3
    )
    estimate = maximum_likelihood(structure, mixed, REG_COVAR, 1).parameters
    assert oracle.difference(moments.model(covariance_type, REG_COVAR), estimate) < EQUAL


def test_statistics_that_cannot_be_mixed():
    _, start = problem("diag")
    running = stepwise.begin(parameters_of("diag", start), STRUCTURES["diag"], 0.0).statistics
    other = stepwise.begin(
        parameters_of("diag", [start[0], start[1], 64.0 * start[2]]), STRUCTURES["diag"], 0.0
    )
    with pytest.raises(ValueError, match="frames of different scale"):
        running.mixed(other.statistics, 0.5)
    tied = stepwise.begin(
        parameters_of("tied", [start[0], start[1], np.eye(D)]), STRUCTURES["tied"], 0.0
    ).statistics
    with pytest.raises(ValueError, match="different covariance structures"):
        running.mixed(tied, 0.5)


def test_statistics_of_a_start_give_it_back(covariance_type):
    _, start = problem(covariance_type)
    structure = STRUCTURES[covariance_type]
    given = parameters_of(covariance_type, start)
    statistics = stepwise.begin(given, structure, REG_COVAR).statistics
    back = maximum_likelihood(structure, statistics, REG_COVAR, 1).parameters
    assert oracle.difference(oracle.stored_model(covariance_type, given), back) < EQUAL


# -- invariances -----------------------------------------------------------------------------------


def test_calls_are_the_batches_of_an_epoch(covariance_type):
    X, start = problem(covariance_type)
    whole = mixture(covariance_type, start, batch_size=200, shuffle=False, max_iter=1)
    with pytest.warns(match="did not converge"):
        whole.fit(X)
    calls = mixture(covariance_type, start)
    for rows in np.split(X, 6):
        calls.partial_fit(rows)
    assert_same_bits(whole, calls)
    assert whole.n_steps_ == calls.n_steps_ == 6


def test_threads(covariance_type):
    X, start = datasets.problem(0, 60_000, D, 6, covariance_type, 2.0)

    def results(n_jobs):
        fitted = mixture(covariance_type, start, n_jobs=n_jobs, batch_size=25_000, max_iter=2, tol=0.0)
        with pytest.warns(match="did not converge"):
            fitted.fit(X)
        return fitted, mixture(covariance_type, start, n_jobs=n_jobs).partial_fit(X[:30_000])

    expected = results(1)
    for n_jobs in (2, 3):
        for first, second in zip(expected, results(n_jobs)):
            assert_same_bits(first, second)


def test_pickling_in_the_middle(covariance_type):
    X, start = problem(covariance_type)
    for options in ({}, {"averaging": "steps"}):
        whole = mixture(covariance_type, start, **options)
        parts = mixture(covariance_type, start, **options)
        for rows in np.split(X, 6):
            whole.partial_fit(rows)
            parts = pickle.loads(pickle.dumps(parts.partial_fit(rows)))
        assert_same_bits(whole, parts)


@pytest.mark.parametrize("averaging", ["epoch", "steps"])
def test_pickled_streams_have_the_same_bits(covariance_type, averaging):
    """Nothing that is kept loses a bit, such as half of a matrix that is not quite symmetric."""
    rng = np.random.default_rng(0)
    mixture = MiniBatchGaussianMixture(
        3, covariance_type=covariance_type, averaging=averaging, random_state=0
    )
    for _ in range(12):
        batch = rng.choice([-4.0, 0.0, 4.0], 50)[:, None] + rng.normal(size=(50, 5))
        pickled = pickle.loads(pickle.dumps(mixture))
        assert_same_bits(mixture.partial_fit(batch), pickled.partial_fit(batch))


def test_pickling_while_rows_are_waiting():
    X, _ = problem("full")
    whole, parts = (MiniBatchGaussianMixture(3, random_state=0) for _ in range(2))
    for rows in np.split(X[:60], 12):
        whole.partial_fit(rows)
        parts = pickle.loads(pickle.dumps(parts.partial_fit(rows)))
    assert whole.n_steps_ == parts.n_steps_ > 0
    assert_same_bits(whole, parts)


def test_a_saved_stream_goes_on(covariance_type, tmp_path):
    """Running statistics are made of the parameters again: equal but for rounding."""
    X, start = problem(covariance_type)
    whole, parts = mixture(covariance_type, start), mixture(covariance_type, start)
    for rows in np.split(X, 6):
        whole.partial_fit(rows)
        parts.partial_fit(rows).save(tmp_path / "mixture.npz")
        parts = MiniBatchGaussianMixture.load(tmp_path / "mixture.npz")
    assert parts.n_steps_ == 6
    assert oracle.difference(oracle.fitted_model(whole), parameters(parts)) < tolerances.SAME_FIT


@settings(max_examples=10, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6))
def test_order_of_features_and_units(seed):
    """Permuted features for all types; powers of two as units for those that have a scale per feature."""
    rng = np.random.default_rng(seed)
    for covariance_type in oracle.COVARIANCE_TYPES:
        X, start = problem(covariance_type, 600, seed)
        order = rng.permutation(D)
        units = np.full(D, 8.0) if covariance_type == "spherical" else 2.0 ** rng.integers(-9, 9, D)
        there = mixture(covariance_type, start, reg_covar=0.0)
        mapped = [start[0], (start[1] * units)[:, order], start[2]]
        if covariance_type in ("full", "tied"):
            mapped[2] = (start[2] * units[:, None] * units)[..., order, :][..., order]
        elif covariance_type == "diag":
            mapped[2] = (start[2] * units**2)[:, order]
        else:
            mapped[2] = start[2] * 64.0
        here = mixture(covariance_type, mapped, reg_covar=0.0)
        for rows in np.split(X, 4):
            there.partial_fit(rows)
            here.partial_fit((rows * units)[:, order])
        np.testing.assert_allclose(here.means_, (there.means_ * units)[:, order], rtol=1e-8, atol=1e-8)
        np.testing.assert_allclose(here.weights_, there.weights_, rtol=tolerances.AFFINE)
        shift = np.log(units).sum()
        assert here.lower_bound_ == pytest.approx(there.lower_bound_ - shift, abs=1e-8)


@pytest.mark.parametrize("covariance_type", ["full", "tied"])
def test_affine_maps(covariance_type):
    X, start = problem(covariance_type)
    rng = np.random.default_rng(5)
    matrix, offset = np.eye(D) + 0.3 * rng.normal(size=(D, D)), 100.0 * rng.normal(size=D)
    mapped = [start[0], start[1] @ matrix.T + offset, matrix @ start[2] @ matrix.T]
    mapped[2] = (mapped[2] + np.swapaxes(mapped[2], -1, -2)) / 2
    here = mixture(covariance_type, start, reg_covar=0.0)
    there = mixture(covariance_type, mapped, reg_covar=0.0)
    for rows in np.split(X, 6):
        here.partial_fit(rows)
        there.partial_fit(rows @ matrix.T + offset)
    model = oracle.fitted_model(there)
    covariances = matrix @ here.covariances_ @ matrix.T
    expected = (here.weights_, here.means_ @ matrix.T + offset, covariances)
    assert oracle.difference(model, expected) < tolerances.AFFINE


def test_weights_are_repeats(covariance_type):
    X, start = problem(covariance_type)
    counts = np.random.default_rng(2).integers(0, 4, len(X))
    weighted, repeated = mixture(covariance_type, start), mixture(covariance_type, start)
    for rows, n in zip(np.split(X, 6), np.split(counts, 6)):
        weighted.partial_fit(rows, sample_weight=n)
        repeated.partial_fit(np.repeat(rows, n, axis=0))
    assert oracle.difference(oracle.fitted_model(repeated), parameters(weighted)) < tolerances.SAME_FIT


def test_a_source_is_a_batch(covariance_type):
    X, start = problem(covariance_type)
    whole, parts = mixture(covariance_type, start), mixture(covariance_type, start)
    for rows in np.split(X, 3):
        whole.partial_fit(rows)
        parts.partial_fit(BlockRows([rows[:100], rows[100:]]))
    assert oracle.difference(oracle.fitted_model(whole), parameters(parts)) < tolerances.SAME_FIT


# -- digits ----------------------------------------------------------------------------------------


def test_a_drift_over_a_million_standard_deviations(covariance_type):
    """Four stops, then a stay: of the way nothing is left, neither in the parameters nor in their digits.

    Steps of 1/2: sixty batches of stay leave 2^-60 of what was before. The reference sees the last place as
    its origin.
    """
    rng = np.random.default_rng(0)
    Z = rng.normal(size=(64, 50, D)) * np.array([1.0, 0.3, 2.0, 1.0])
    stops = np.zeros((64, D))
    stops[:4] = -1e6 * np.arange(4, 0, -1)[:, None] * np.array([1.0, -1.0, 1.0, 0.5])
    far = np.array([4e6, -4e6, 4e6, 2e6])
    cov = {"full": np.eye(D)[None], "tied": np.eye(D), "diag": np.ones((1, D)), "spherical": np.ones(1)}
    start = [np.ones(1), stops[:1] + far, cov[covariance_type]]
    ours = mixture(covariance_type, start, min_step=0.5, kappa=1.0, t0=1.0, reg_covar=0.0)
    batches = []
    for rows, place in zip(Z, stops):
        seen = rows + place + far
        ours.partial_fit(seen)
        batches.append((oracle.real(seen) - oracle.real(far), None))
    start[1] = stops[:1]
    reference, _ = stepwise_oracle.stepwise_em(
        batches, reference_of(covariance_type, start), 0.0, [0.5] * len(Z)
    )
    model = (ours.weights_, np.asarray(oracle.real(ours.means_) - oracle.real(far)), ours.covariances_)
    # means themselves are rounded to 4e6 eps
    assert oracle.difference(reference, model) < 1e-8


def test_tight_clusters_that_wander_apart(covariance_type):
    """Two clusters of spread 1e-3 move apart by 1e3: no kernel may lose their spread."""
    rng = np.random.default_rng(0)
    covariance = {"full": np.stack([np.eye(2)] * 2), "tied": np.eye(2)}.get(covariance_type, np.ones((2, 2)))
    covariance = covariance[:, 0] if covariance_type == "spherical" else covariance
    start = [np.full(2, 0.5), np.array([[-1.0, 0.0], [1.0, 0.0]]), covariance * 1e-6]
    ours = mixture(covariance_type, start, min_step=0.5, kappa=1.0, t0=1.0, reg_covar=0.0)
    side = np.repeat([-1.0, 1.0], 100)[:, None]
    for place in np.concatenate([np.linspace(1, 1e3, 100), np.full(40, 1e3)]):
        X = side * [place, 0.0] + 1e-3 * rng.normal(size=(200, 2))
        ours.partial_fit(X)
    spread = np.sqrt(STRUCTURES[covariance_type].variances(_stored(ours)))
    np.testing.assert_allclose(spread, 1e-3, rtol=0.15)
    np.testing.assert_allclose(np.abs(ours.means_[:, 0]), 1e3, rtol=1e-6)


def _stored(estimator):
    from fastgmm.parameters import Parameters

    return Parameters(*parameters(estimator))


# -- batches ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("shuffle", [True, False])
@settings(max_examples=40, deadline=None, derandomize=True)
@given(n_rows=st.integers(2, 400), batch_size=st.integers(1, 90), seed=st.integers(0, 99))
def test_every_row_is_in_one_batch(shuffle, n_rows, batch_size, seed):
    data = ArrayData(np.arange(float(n_rows))[:, None])
    batches = Batches(data, batch_size, shuffle, np.random.RandomState(seed))
    seen = [batch.X[:, 0] for batch in batches.epoch()]
    assert len(seen) == batches.n_batches == -(-n_rows // batch_size)
    np.testing.assert_array_equal(np.sort(np.concatenate(seen)), np.arange(n_rows))
    sizes = [len(rows) for rows in seen]
    assert max(sizes) - min(sizes) <= 1
    assert max(sizes) <= batch_size
    if shuffle and len(seen) > 1:  # one row of every len(seen)
        for rows in seen:
            np.testing.assert_array_equal(rows // len(seen), np.arange(len(rows)))


def test_batches_of_an_epoch_differ_from_the_last():
    data = ArrayData(np.arange(1000.0)[:, None])
    batches = Batches(data, 100, True, np.random.RandomState(0))
    first, second = (next(iter(batches.epoch())).X for _ in range(2))
    assert not np.array_equal(first, second)


def test_batches_of_a_source_cover_its_rows():
    X = np.arange(3000.0).reshape(-1, 1)
    weight = np.arange(3000) % 3.0
    source = BlockRows([(X[i : i + 700], weight[i : i + 700]) for i in range(0, 3000, 700)], weighted=True)
    from fastgmm.sources import data_of

    data = data_of(source, 1)
    data.survey(lambda _: 10, np.random.RandomState(0))
    batches = Batches(data, 256, True, np.random.RandomState(0))
    for _ in range(2):
        seen = list(batches.epoch())
        assert len(seen) == batches.n_batches
        rows = np.concatenate([batch.X[:, 0] for batch in seen])
        np.testing.assert_array_equal(np.sort(rows), X[weight > 0, 0])
        np.testing.assert_array_equal(np.concatenate([b.sample_weight for b in seen]), rows % 3)
    assert batches.mean_weight == pytest.approx(weight.sum() / batches.n_batches)


# -- components without rows -----------------------------------------------------------------------


def test_reseeding_is_forgiven():
    """A component may be seeded anew again after a while: a stream would run out of its tries."""
    X, start = problem("full")
    structure, options = STRUCTURES["full"], em.EMOptions(reg_covar=REG_COVAR)
    means = start[1].copy()
    means[0] = 1e4  # nothing is ever there
    running = stepwise.begin(
        parameters_of("full", [start[0], means, start[2]]), structure, REG_COVAR, n_steps=500
    )
    rule = stepwise.Rule(1.0, 0.0, min_step=1.0)
    spent = running.n_reseeds + 3
    for reseeded_at, expected in ((450, False), (300, True)):
        then = stepwise.replace(running, n_reseeds=spent, reseeded_at=np.full(K, reseeded_at))
        after, report = stepwise.take_step(then, ArrayData(X), structure, options, rule)
        assert report.n_repairs == 1
        assert report.repaired == (0,)
        assert bool(after.reseeded_at[0] == 501) is expected
        assert bool(after.floored[0]) is not expected
        if expected:  # it stays so: the next step begins from statistics that give what was repaired
            estimate = maximum_likelihood(structure, after.statistics, REG_COVAR, 1).parameters
            assert oracle.difference(oracle.stored_model("full", after.parameters), estimate) < EQUAL


def test_moments_are_taken_where_the_mixture_is(monkeypatch):
    """The frame follows: about a place left behind, each component would need the slower kernel."""
    X, start = problem("full")
    centred, centred_of = [], em.Maximiser.centred

    def seen(self, parameters):
        centred.append(centred_of(self, parameters).any())
        return centred_of(self, parameters)

    monkeypatch.setattr(em.Maximiser, "centred", seen)
    ours = mixture("full", [np.ones(1), start[1][:1], start[2][:1]], min_step=1.0)
    ours.partial_fit(X)
    for _ in range(5):
        ours.partial_fit(X + 1e7)
    assert not centred[0]
    assert not centred[-1]
