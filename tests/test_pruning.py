"""Pruned passes against dense ones and the reference, and fits of them (docs/pruning.md)."""

from __future__ import annotations

import warnings

import datasets
import numpy as np
import oracle
import pytest
import tolerances
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pruned_passes import Passes, clusters, whitened_difference
from running import assert_same_bits, forced_pruning, parameters_of, run_em

from fastgmm import GaussianMixture, RepairWarning, pruning
from fastgmm.blocks import ArrayData
from fastgmm.em import EMOptions, Maximiser, run
from fastgmm.passes import accumulate
from fastgmm.structures import STRUCTURES

KINDS = oracle.COVARIANCE_TYPES


# -- one pass ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n_features", [1, 2, 7, 17, 33])
@pytest.mark.parametrize("weighted", [False, True])
def test_statistics_of_one_pass(kind, n_features, weighted, isa):
    spread = 60.0 if n_features == 1 else 12.0
    X, moved = clusters(kind, n_features=n_features, spread=spread)
    weight = None
    if weighted:
        weight = np.random.default_rng(5).uniform(0.1, 2.0, X.shape[0])
        weight[::7] = 0.0
        X = X.copy()
        X[::7] = 1e300  # rows of weight zero are nowhere
    passes = Passes(X, kind, 12, weight=weight, n_threads=2)
    shares = []
    for step in range(8):
        parameters = moved(0.2 / (1 + step))
        found, expected = passes.pruned(parameters), passes.dense(parameters)
        shares.append(found.pairs / passes.pruning.n_pairs)
        difference = whitened_difference(found, expected, parameters, passes.structure)
        assert difference <= tolerances.PRUNED, f"step {step}, share {shares[-1]:.2f}"
        assert found.total_weight == pytest.approx(expected.total_weight, rel=1e-13)
        assert found.log_likelihood == pytest.approx(expected.log_likelihood, rel=1e-13)
    if kind == "full" and n_features == 33:
        assert shares[0] < 0.5, "some coordinates tell that much without any bound"
    else:
        assert shares[0] == 1.0
    assert min(shares) < 0.7, "the case is to be prunable"


def test_single_precision_and_strides(isa):
    X, moved = clusters("full", n_features=3)
    wide = np.asfortranarray(np.repeat(X, 2, axis=1)[:, ::2])
    for rows in (X.astype(np.float32), wide, X[::-1]):
        passes = Passes(rows, "full", 12)
        for step in range(4):
            parameters = moved(0.2 / (1 + step))
            found, expected = passes.pruned(parameters), passes.dense(parameters)
            assert whitened_difference(found, expected, parameters, passes.structure) <= tolerances.PRUNED


@pytest.mark.parametrize("kind", KINDS)
def test_each_term_of_the_bound_is_needed(kind, monkeypatch):
    """Without it what is skipped is no longer negligible: the comparisons here would notice."""
    X, moved = clusters(kind, n_features=2, spread=30.0)
    structure_drift = type(STRUCTURES[kind]).drift
    here = moved(0.01)
    # a component joins another one, far from where it was
    means = here.means.copy()
    means[0] = means[1] + 0.1
    far = [here] * 4 + [here._replace(means=means)]
    # one component, or all where they share a covariance, widens
    covariances = here.covariances.copy()
    covariances[... if kind == "tied" else 0] *= 400.0
    wide = [here] * 4 + [parameters_of(kind, (here.weights, here.means, covariances))]
    near, moved_near = clusters(kind, n_features=2, spread=4.0)

    def worst(parameters, X=X):
        passes = Passes(X, kind, 12)
        worst = 0.0
        for p in parameters:
            worst = max(worst, whitened_difference(passes.pruned(p), passes.dense(p), p, passes.structure))
        return worst

    def without_shift(self, old, new, n_threads):
        shift, stretch = structure_drift(self, old, new, n_threads)
        return np.zeros_like(shift), stretch

    def without_stretch(self, old, new, n_threads):
        shift, stretch = structure_drift(self, old, new, n_threads)
        return shift, np.ones_like(stretch)

    assert worst(far) <= tolerances.PRUNED
    assert worst(wide) <= tolerances.PRUNED
    assert worst([moved_near(0.01)] * 3, near) <= tolerances.PRUNED
    with monkeypatch.context() as patch:
        patch.setattr(type(STRUCTURES[kind]), "drift", without_shift)
        assert worst(far) > tolerances.PRUNED
    with monkeypatch.context() as patch:
        patch.setattr(type(STRUCTURES[kind]), "drift", without_stretch)
        assert worst(wide) > tolerances.PRUNED
    with monkeypatch.context() as patch:
        patch.setattr(pruning, "NEGLIGIBLE", 5.0)
        assert worst([moved_near(0.01)] * 3, near) > tolerances.PRUNED


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    seed=st.integers(0, 10_000),
    n_features=st.integers(1, 5),
    spread=st.sampled_from([3.0, 8.0, 30.0]),
    share=st.sampled_from([0.02, 0.3, 1.0]),
    odd=st.sampled_from(["", "outliers", "starved", "duplicates", "zero"]),
)
def test_no_counter_example(kind, seed, n_features, spread, share, odd):
    """Outliers at 1e6 standard deviations, components almost or quite without weight, components twice."""
    rng = np.random.default_rng(seed)
    K = 8
    weights, means, covariances = datasets.random_model(seed, kind, K, n_features, spread)
    X = datasets.draw(seed + 1, 700, weights, means, kind, covariances)
    if odd == "outliers":
        X[rng.integers(0, 700, 3)] = 1e6 * rng.standard_normal((3, n_features))
    passes = Passes(X, kind, K)
    for _ in range(4):
        w = weights * rng.uniform(1 - share / 2, 1 + share / 2, K)
        m = means + share * rng.standard_normal(means.shape)
        c = covariances * rng.uniform(0.7, 1.5)
        if odd == "starved":
            w[0], w[1] = 1e-14, 1e-30
        if odd == "zero":
            w[0] = 0.0
        if odd == "duplicates":
            m[1], w[1] = m[0], w[0]
            if kind != "tied":
                c[1] = c[0]
        p = parameters_of(kind, (w / w.sum(), m, c))
        found, expected = passes.pruned(p), passes.dense(p)
        assert whitened_difference(found, expected, p, passes.structure) <= tolerances.PRUNED


# -- against the reference -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("choice", ["always", "never"])
@pytest.mark.parametrize("n_shared", [1, 3])
@pytest.mark.parametrize(
    ("n_rows", "n_features", "n_components"),
    [
        (97, 1, 3),
        (385, 2, 7),
        (500, 3, 9),
        (611, 8, 15),
        (400, 16, 8),
        (300, 24, 5),
        (290, 33, 4),
        (700, 2, 33),
    ],
)
def test_steps_of_the_oracle(kind, choice, n_shared, n_rows, n_features, n_components):
    """Bounds and parameters of some EM iterations: those of the slow, obvious reference."""
    X, start = datasets.problem(n_rows, n_rows, n_features, n_components, kind, 6.0)
    weight = np.random.default_rng(n_rows).uniform(0.5, 2.0, n_rows)
    weight[::11] = 0.0
    pruning.set_blocks_per_bound(n_shared)
    try:
        with forced_pruning(choice):
            found = run_em(X, kind, start, 4, sample_weight=weight, reg_covar=1e-3, n_threads=2)
    finally:
        pruning.set_blocks_per_bound(None)
    exact, bounds = oracle.em(X, oracle.make_model(kind, *start), 4, 1e-3, weight)
    np.testing.assert_allclose(found.lower_bounds, np.array(bounds, dtype=float), rtol=1e-11, atol=1e-11)
    assert oracle.difference(exact, found.parameters[:3]) <= 1e-9


# -- fits --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n_features", [2, 20])
def test_fifty_iterations(kind, n_features):
    """Pruned and dense runs part by no more than ten times what a last digit of the start does."""
    X, start = datasets.problem(5, 4000, n_features, 10, kind, spread=12.0 if n_features == 2 else 4.0)
    start = (start[0], start[1], start[2] * 2.0)
    arguments = {"reg_covar": 1e-3, "n_threads": 2}
    with forced_pruning("never"):
        dense = run_em(X, kind, start, 50, **arguments)
        nudged = (start[0], np.nextafter(start[1], np.inf), start[2])
        other = run_em(X, kind, nudged, 50, **arguments)
    with forced_pruning("always"):
        found = run_em(X, kind, start, 50, **arguments)
    assert min(found.history["pairs"]) < 0.8 * max(found.history["pairs"])

    def difference(result):
        return oracle.difference(
            oracle.make_model(kind, *(np.asarray(a) for a in dense.parameters[:3])), result.parameters
        )

    assert difference(found) <= max(10 * difference(other), 1e-12)
    np.testing.assert_allclose(found.lower_bounds, dense.lower_bounds, rtol=1e-11)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n_threads", [2, 3, 8])
def test_same_bits_on_any_number_of_threads(kind, n_threads):
    X, start = datasets.problem(5, 9000, 12, 10, kind, spread=4.0)
    with forced_pruning("always"):
        one, many = (run_em(X, kind, start, 12, n_threads=n) for n in (1, n_threads))
    assert_same_bits(one, many)
    assert one.history["pairs"] == many.history["pairs"]
    assert one.history["pairs"][-1] < one.history["pairs"][0]


def test_projected_scores_where_few_components_are_near():
    X, start = datasets.problem(5, 6000, 24, 10, "full", spread=8.0)
    with forced_pruning("always"):
        found = run_em(X, "full", start, 10)
    with forced_pruning("never"):
        dense = run_em(X, "full", start, 10)
    assert found.history["pairs_centred"][0] == 0
    assert found.history["pairs_centred"][-1] == found.history["pairs"][-1] > 0
    assert (
        oracle.difference(
            oracle.make_model("full", *(np.asarray(a) for a in dense.parameters[:3])), found.parameters
        )
        <= 1e-10
    )


def test_a_component_that_loses_its_rows_is_seen_in_full():
    """Of its weight now, not before, what was skipped must be negligible: the pass is done again."""
    X, moved = clusters("full", n_features=2)
    parameters = moved(0.01)
    data, structure = ArrayData(X), STRUCTURES["full"]
    frame = data.frame(1)
    options = EMOptions(n_threads=1)
    with forced_pruning("always"):
        maximiser = Maximiser(data, structure, frame, options, 12)
    centred = np.ones(12, dtype=bool)

    def collect(p):
        return maximiser.collect(p, structure.score_map(p, frame, 1), p.means, centred)

    collect(parameters)
    before = collect(parameters)
    assert before.pairs_skipped > 0
    gone = parameters._replace(means=parameters.means.copy(), weights=parameters.weights)
    gone.means[3] += 9.0 * np.sqrt(parameters.covariances[3].trace())  # away from all rows, weight as before
    gone.covariances[3] *= 2.0
    gone = structure.from_covariances(*gone[:3])
    found = collect(gone)
    expected = accumulate(
        data, structure, frame, 12, 1, score_map=structure.score_map(gone, frame, 1),
        centres=gone.means, centred=centred,
    )  # fmt: skip
    assert 0 < expected.weight[3] < 1e-3 * parameters.weights[3] * len(X)
    assert found.weight[3] == pytest.approx(expected.weight[3], rel=1e-12)


@pytest.mark.parametrize("how", ["reseed", "floor"])
def test_repairs_as_without_pruning(how):
    X, moved = clusters("full", n_features=2)
    X = np.concatenate([X, np.zeros((400, 2)) + [300.0, 0.0]])  # rows that are all the same
    p = moved(0.01)
    means, covariances = p.means.copy(), p.covariances.copy()
    means[0] = [300.0, 0.5]
    start = (p.weights, means, covariances)
    results = []
    for choice in ("always", "never"):
        with forced_pruning(choice), warnings.catch_warnings():
            warnings.simplefilter("ignore", RepairWarning)
            results.append(run_em(X, "full", start, 8, reg_covar=0.0, repair=how))
    assert results[0].n_repairs == results[1].n_repairs > 0
    assert results[0].repaired == results[1].repaired
    np.testing.assert_allclose(results[0].lower_bounds, results[1].lower_bounds, rtol=1e-9)


# -- when it pays ------------------------------------------------------------------------------------


def test_what_cannot_be_pruned_is_left_dense():
    X, start = datasets.problem(5, 40_000, 8, 24, "full", spread=0.5)
    result = run(
        ArrayData(X), STRUCTURES["full"], parameters_of("full", start), EMOptions(tol=0.0, max_iter=30)
    )
    pairs = np.array(result.history["pairs"])
    assert (pairs == pairs[0]).mean() > 0.5  # after some attempts


def test_history_tells_what_was_scored():
    X, start = datasets.problem(5, 40_000, 8, 24, "full", spread=5.0)
    gm = GaussianMixture(24, tol=0.0, max_iter=8, **datasets.init_arguments("full", start))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gm.fit(X)
    assert gm.history_["pairs"][-1] < 0.5 * gm.history_["pairs"][0]
    assert len(gm.history_["pairs_centred"]) == gm.n_iter_


def test_choices():
    with pytest.raises(ValueError, match="choice must be"):
        pruning.set_pruning_choice("sometimes")


def test_a_mean_covariance_without_a_factor(monkeypatch):
    """It only orders the rows: its variances serve as well, and the fit goes on."""
    X, start = datasets.problem(5, 3000, 3, 8, "full", spread=9.0)
    structure = type(STRUCTURES["full"])
    pooled = structure.pooled_covariance
    monkeypatch.setattr(
        structure, "pooled_covariance", lambda self, p: np.ones((3, 3)) * pooled(self, p)[0, 0]
    )
    with forced_pruning("always"):
        found = run_em(X, "full", start, 5)
    with forced_pruning("never"):
        dense = run_em(X, "full", start, 5)
    np.testing.assert_allclose(found.lower_bounds, dense.lower_bounds, rtol=1e-11)
    assert found.history["pairs"][-1] < found.history["pairs"][0]
