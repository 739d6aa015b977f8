"""Pruned passes against dense ones, and the bounds they rest on (docs/pruning.md)."""

from __future__ import annotations

import warnings

import datasets
import numpy as np
import oracle
import pytest
import tolerances
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from running import assert_same_bits, forced_pruning, parameters_of, run_em

from fastgmm import GaussianMixture, RepairWarning, pruning
from fastgmm.blocks import ArrayData
from fastgmm.em import EMOptions, Maximiser, run
from fastgmm.frame import Frame
from fastgmm.kernels import _pass
from fastgmm.passes import accumulate
from fastgmm.pruning import Bounds, Pruning
from fastgmm.structures import STRUCTURES

KINDS = oracle.COVARIANCE_TYPES


class Passes:
    """Pruned and dense passes over the same rows."""

    def __init__(self, X, kind, n_components, *, weight=None, n_threads=1):
        self.data, self.structure = ArrayData(X, weight), STRUCTURES[kind]
        self.frame = self.data.frame(1, self.structure.common_scale)
        self.n_components, self.n_threads = n_components, n_threads
        with forced_pruning("always"):
            self.pruning = Pruning(self.data, self.structure, self.frame, n_components, n_threads)

    def accumulate(self, parameters, bounds):
        score_map = self.structure.score_map(parameters, self.frame, 1)
        centred = np.ones(self.n_components, dtype=bool)
        return accumulate(
            self.data, self.structure, self.frame, self.n_components, self.n_threads,
            score_map=score_map, centres=parameters.means, centred=centred, bounds=bounds,
        )  # fmt: skip

    def dense(self, parameters):
        """The same blocks, of which nothing is known: every component is scored."""
        pruning = self.pruning
        K = self.n_components
        return self.accumulate(
            parameters,
            Bounds(
                order=pruning.order,
                distance=np.zeros((pruning.n_blocks, K), dtype=np.float32),
                least=np.full(pruning.n_blocks, -np.inf),
                drift_shift=np.zeros(K),
                drift_factor=np.ones(K),
                margin=np.zeros(K),
                block_rows=pruning.block_rows,
                keys=None,
            ),
        )

    def pruned(self, parameters):
        statistics = self.accumulate(parameters, self.pruning.bounds(parameters))
        self.pruning.learn(statistics.pairs)
        return statistics


def whitened_difference(found, expected, parameters, structure) -> float:
    """Largest difference of weights, first and second moments, in units of each component and its weight.

    That is its weight under the parameters: what is skipped is small beside that (docs/pruning.md). Moments
    that are large themselves, those of outliers, are compared in units of their size: they are rounded to it.
    """
    K, D = parameters.means.shape
    weight = np.maximum(expected.weight, parameters.weights * expected.total_weight)
    weight = np.maximum(weight, np.finfo(float).tiny)
    scale = expected.frame.scale
    root = np.stack([oracle_root(parameters, structure.name, k, D) / scale[:, None] for k in range(K)])
    difference = np.abs(found.weight - expected.weight) / weight
    size = 1.0 + largest_moments(expected, root, weight, structure.name)
    first = np.einsum("ki,kij->kj", found.first - expected.first, root) / weight[:, None]
    second = found.second - expected.second
    if structure.name == "full":
        second = np.swapaxes(root, 1, 2) @ second @ root / weight[:, None, None]
    elif structure.name == "tied":
        second = root[0].T @ second @ root[0] / expected.total_weight
    elif structure.name == "diag":
        second = second * np.einsum("kii->ki", root) ** 2 / weight[:, None]
    else:
        second = second * root[:, 0, 0] ** 2 / weight
    by_component = [np.abs(a).reshape(a.shape[0], -1).max(axis=1) for a in (first, np.atleast_1d(second))]
    by_component[1] = by_component[1].max() if structure.name == "tied" else by_component[1]
    return float(max(difference.max(), *((a / size).max() for a in by_component)))


def largest_moments(statistics, root, weight, kind):
    """trace of the whitened second moments of each component per unit of weight, (K,)."""
    second = statistics.second
    if kind == "full":
        return np.einsum("kij,kil,klj->k", root, second, root) / weight
    if kind == "tied":
        return np.full(weight.shape, (root[0] * (second @ root[0])).sum() / statistics.total_weight)
    if kind == "diag":
        return (second * np.einsum("kii->ki", root) ** 2).sum(axis=1) / weight
    return second * root[:, 0, 0] ** 2 / weight


def oracle_root(parameters, kind, k, D):
    root = parameters.precisions_cholesky
    if kind == "full":
        return root[k]
    if kind == "tied":
        return root
    return np.diag(root[k]) if kind == "diag" else root[k] * np.eye(D)


def clusters(kind, seed=0, n_rows=3000, n_features=3, n_components=12, spread=12.0):
    """Rows of separated clusters in random order, and parameters that move a little from pass to pass."""
    weights, means, covariances = datasets.random_model(seed, kind, n_components, n_features, spread)
    X = datasets.draw(seed + 1, n_rows, weights, means, kind, covariances)
    rng = np.random.default_rng(seed + 2)

    def moved(share):
        new_weights = weights * rng.uniform(1 - share, 1 + share, n_components)
        new_means = means + share * rng.standard_normal(means.shape)
        grown = covariances * rng.uniform(1 - share, 1 + 2 * share)
        return parameters_of(kind, (new_weights / new_weights.sum(), new_means, grown))

    return X, moved


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


# -- the bound itself --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 10_000), n_features=st.integers(1, 20), size=st.sampled_from([1e-6, 0.1, 2.0]))
def test_drift_bounds_distances(kind, seed, n_features, size):
    """No row comes nearer than the bound says; and it is not far from what rows there are."""
    rng = np.random.default_rng(seed)
    K = 3
    old_start = datasets.random_model(seed, kind, K, n_features, 1.0)
    other = datasets.random_covariances(rng, kind, K, n_features)
    old = parameters_of(kind, old_start)
    new = parameters_of(
        kind,
        (
            old_start[0],
            old_start[1] + size * rng.standard_normal((K, n_features)),
            old_start[2] + size * other,
        ),
    )
    shift, stretch = STRUCTURES[kind].drift(old, new, 1)
    reach = rng.choice([1.0, 10.0, 1e6], (200, 1))
    x = reach * rng.standard_normal((200, n_features))
    for k in range(K):
        old_root, new_root = (oracle_root(p, kind, k, n_features) for p in (old, new))
        before = np.linalg.norm((x - old.means[k]) @ old_root, axis=1)
        after = np.linalg.norm((x - new.means[k]) @ new_root, axis=1)
        assert (after >= (before - shift[k]) / stretch[k] * (1 - 1e-12)).all()
        ratio = (
            oracle_root(old, kind, k, n_features).T @ np.linalg.inv(oracle_root(new, kind, k, n_features)).T
        )
        exact = np.linalg.norm(ratio, 2)
        # |E^4|_F^(1/4) is at most D^(1/8) |E|_2, E the squares of singular values about their mean
        squares = np.linalg.svd(ratio, compute_uv=False) ** 2
        spread = np.abs(squares - squares.mean()).max()
        largest = np.sqrt(squares.mean() + n_features ** (1 / 8) * spread)
        assert exact <= stretch[k] <= 1.0001 * max(largest, 1e-3)
        move = np.linalg.norm((new.means[k] - old.means[k]) @ old_root)
        assert move <= shift[k] <= 1.0001 * move + 1e-12


def test_blocks_are_skipped_where_the_formula_says(isa):
    """A component ever farther from a block of equal rows: skipped once it is negligible, not before."""
    D, n_rows, K = 1, 96, 2
    X = np.zeros((n_rows, D))
    structure, frame = STRUCTURES["diag"], Frame(np.zeros(D), np.ones(D))
    skipped = []
    distances = np.arange(2.0, 14.0, 0.02)
    for distance in distances:
        parameters = parameters_of(
            "diag", (np.array([0.9, 0.1]), np.array([[0.0], [distance]]), np.ones((K, D)))
        )
        score_map = structure.score_map(parameters, frame, 1)
        kept = np.zeros((1, K), dtype=np.float32)
        least = np.array([0.0])  # a guess that nothing survives but what is not known
        margin = 33.0 - np.log(parameters.weights)
        counts = []
        for _ in range(2):
            sweep = _pass.Pass(X, None, frame, K)
            sweep.in_order(np.arange(n_rows, dtype=np.uint32))
            sweep.prune(kept, least, np.zeros(K), np.ones(K), margin, 96)
            sweep.score(score_map)
            sweep.accumulate(_pass.DIAGONAL, 2 * D, True, None, None, _pass.VECTOR, False, False)
            counts.append(sweep.run(1)["head"][_pass.PAIRS])
        assert counts[0] == K  # nothing is known at first
        constant = score_map.constant
        exact = margin[1] + constant[1] - distance**2 / 2 + np.log1p(distance**2) - constant[0]
        if counts[1] == 1:
            assert exact <= 0
        skipped.append((exact, counts[1]))
        # what is kept is the distance, rounded down
        assert distance * (1 - 1e-5) <= abs(kept[0, 1]) <= distance
        # with a minus where the component was not scored
        assert np.signbit(kept[0, 1]) == (counts[1] == 1)
    # the logarithm is bounded by a power of two: less than log 2 too large
    assert all(count == 1 for exact, count in skipped if exact < -np.log(2) - 1e-3)
    assert any(count == 2 for exact, count in skipped)


def test_some_coordinates_tell_where_the_formula_says(isa):
    """Two components, one ever farther away along a last coordinate, or the first, which is not looked at."""
    D, n_rows, K = 32, 96, 2
    rng = np.random.default_rng(0)
    structure, frame = STRUCTURES["full"], Frame(np.zeros(D), np.ones(D))
    weights = np.array([0.9, 0.1])
    for feature in (D - 1, D - 3, 0):
        outcomes = []
        for distance in np.arange(2.0, 14.0, 0.05):
            X = np.zeros((n_rows, D))
            X[:, :4] = 0.1 * rng.standard_normal((n_rows, 4))
            X[70, feature] = 0.5  # the nearest of all
            means = np.zeros((K, D))
            means[1, feature] = distance
            parameters = parameters_of("full", (weights, means, np.stack([np.eye(D)] * K)))
            score_map = structure.score_map(parameters, frame, 1)
            kept = np.array(
                [[0.0, -0.0]], dtype=np.float32
            )  # the first is near, of the other nothing is known
            margin = 33.0 - np.log(weights)
            sweep = _pass.Pass(X, None, frame, K)
            sweep.in_order(np.arange(n_rows, dtype=np.uint32))
            sweep.prune(kept, np.array([-np.inf]), np.zeros(K), np.ones(K), margin, 96)
            sweep.score(score_map)
            sweep.accumulate(
                _pass.FULL, score_map.coef.shape[1], True, None, None, _pass.MATRIX, False, False
            )
            n_scored = sweep.run(1)["head"][_pass.PAIRS]
            square = ((X - means[1]) ** 2).sum(axis=1)
            own = score_map.constant[0] - (X**2).sum(axis=1) / 2
            exact = (margin[1] + score_map.constant[1] - square / 2 + np.log1p(square) - own).max()
            if n_scored == 1:
                assert exact <= 0
                assert np.sqrt(square.min()) * (1 - 0.05) <= -kept[0, 1] <= np.sqrt(square.min())
            outcomes.append((exact, n_scored))
        if feature == 0:
            assert all(n == 2 for _, n in outcomes)
        else:  # the tangent of the logarithm is near it here
            assert all(n == 1 for exact, n in outcomes if exact < -1.0)
            assert any(n == 2 for exact, n in outcomes)


def test_a_row_that_nothing_reaches(isa):
    """Its distances overflow: it belongs to all components alike, pruned or not."""
    X, moved = clusters("diag", n_rows=960)
    X = X.copy()
    passes = Passes(X, "diag", 12)
    passes.frame = Frame(np.zeros(3), np.ones(3))
    X[5] = 1e200  # a frame of such rows would be refused
    for _ in range(3):
        parameters = moved(0.01)
        found, expected = passes.pruned(parameters), passes.dense(parameters)
        np.testing.assert_allclose(found.weight, expected.weight, rtol=1e-12)


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
    assert before.pairs < maximiser.pruning.n_pairs
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


@pytest.mark.parametrize(("n_features", "n_components"), [(3, 64), (3, 600), (8, 1024), (64, 4096)])
def test_bounds_take_little_memory(n_features, n_components):
    """At most a twentieth of the rows': several blocks share bounds where there are many components."""
    data = ArrayData(np.zeros((200_000, n_features)))
    frame = Frame(np.zeros(n_features), np.ones(n_features))
    pruning = Pruning(data, STRUCTURES["full"], frame, n_components, 1)
    assert pruning.possible
    assert 4 * n_components * (pruning.n_bounds - 1) <= 0.05 * data.X.nbytes
    assert (pruning.blocks_per_bound > 1) == (n_components > 64)


def test_few_rows_of_many_components_are_visited_as_they_lie():
    data, frame = ArrayData(np.zeros((20_000, 3))), Frame(np.zeros(3), np.ones(3))
    assert not Pruning(data, STRUCTURES["full"], frame, 4096, 1).possible


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n_shared", [2, 3, 7, 100])
def test_blocks_that_share_bounds(kind, n_shared):
    """Statistics of pruned passes are those of dense ones; other blocks than those scored are known, too."""
    X, moved = clusters(kind, n_features=3, n_rows=5000)
    pruning.set_blocks_per_bound(n_shared)
    try:
        passes = Passes(X, kind, 12, n_threads=2)
    finally:
        pruning.set_blocks_per_bound(None)
    assert passes.pruning.n_bounds == -(-53 // n_shared)
    shares = []
    for step in range(8):
        parameters = moved(0.2 / (1 + step))
        found, expected = passes.pruned(parameters), passes.dense(parameters)
        shares.append(found.pairs / passes.pruning.n_pairs)
        assert whitened_difference(found, expected, parameters, passes.structure) <= tolerances.PRUNED
        check_bounds(passes, X, parameters)
    if n_shared < 100:  # a bound of all rows tells nothing
        assert min(shares) < 0.9


def check_bounds(passes, X, parameters):
    """No row of the blocks of a bound is nearer than it says."""
    state = passes.pruning
    kind, (K, D) = passes.structure.name, parameters.means.shape
    for k in range(K):
        y = (X[state.order] - parameters.means[k]) @ oracle_root(parameters, kind, k, D)
        distance = np.linalg.norm(y, axis=1)
        for i in range(state.n_bounds):
            nearest = distance[i * state.rows_per_bound : (i + 1) * state.rows_per_bound].min()
            assert abs(state.distance[i, k]) <= nearest


def test_passes_refuse_bounds_of_other_blocks():
    X = np.zeros((200, 1))
    sweep = _pass.Pass(X, None, Frame(np.zeros(1), np.ones(1)), 2)
    kept = np.zeros((2, 2), dtype=np.float32), np.zeros(2), np.zeros(2), np.ones(2), np.zeros(2)
    with pytest.raises(TypeError, match="rows in order"):
        sweep.prune(*kept, 96)
    sweep.in_order(np.arange(200, dtype=np.uint32))
    with pytest.raises(ValueError, match="other blocks"):
        sweep.prune(*kept, 96)  # three blocks
    with pytest.raises(ValueError, match="other blocks"):
        sweep.prune(*kept, 100)  # no whole panels
    sweep.prune(*kept, 192)


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
