"""The bounds that pruned passes rest on: what they say of distances, and what is skipped by them."""

from __future__ import annotations

import datasets
import numpy as np
import oracle
import pytest
import tolerances
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pruned_passes import Passes, clusters, oracle_root, whitened_difference
from running import parameters_of

from fastgmm import pruning
from fastgmm.blocks import ArrayData
from fastgmm.frame import Frame
from fastgmm.kernels import _pass
from fastgmm.pruning import Pruning
from fastgmm.structures import STRUCTURES

KINDS = oracle.COVARIANCE_TYPES


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


# -- how many ----------------------------------------------------------------------------------------


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
