"""Lloyd's steps and k-means++ of the seeding, against a few lines of NumPy."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from cluster_rows import corner_rows, grouped_rows
from hypothesis import given, settings
from hypothesis import strategies as st
from running import forced_pruning

from fastgmm import lloyd as lloyd_module
from fastgmm.blocks import ArrayData
from fastgmm.frame import Frame
from fastgmm.kernels._pass import LINEAR, PAIRS, SCALAR, Pass
from fastgmm.kmeans import fill_empty, nearest_centre_map
from fastgmm.lloyd import NearestPruning, assign, lloyd

# Means of a few hundred rows summed in another order, on data of unit spread: each sum errs by some eps of
# its largest partial sum, and the frame's shift and scale add one rounding each.
MEANS = 1e-12


def rows_of_unit_spread(seed, n_rows=600, n_features=3):
    return np.random.default_rng(seed).standard_normal((n_rows, n_features))


def nearest(X, centres, scale):
    return (((X[:, None] - centres) * scale) ** 2).sum(axis=2).argmin(axis=1)


def sum_of_squares(X, centres, scale, weight=None):
    distance = (((X[:, None] - centres) * scale) ** 2).sum(axis=2).min(axis=1)
    return np.average(distance, weights=weight) * (len(X) if weight is None else np.sum(weight))


def means_of(X, labels, n_clusters, weight=None):
    weight = np.ones(len(X)) if weight is None else weight
    return np.stack(
        [np.average(X[labels == k], axis=0, weights=weight[labels == k]) for k in range(n_clusters)]
    )


# -- Lloyd's steps -----------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [[1.0, 1.0, 1.0], [1.0, 0.01, 3.0]], ids=["one unit", "units"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_one_step_goes_to_the_means_of_the_nearest_rows(scale, weighted, dtype):
    """Nearest in the units of the frame, means by weight."""
    X = rows_of_unit_spread(0).astype(dtype)
    weight = np.random.default_rng(1).uniform(0.1, 3.0, len(X)) if weighted else None
    frame = Frame(np.array([0.3, -0.2, 0.1]), np.array(scale))
    centres = X[:7].astype(np.float64)
    found = lloyd(ArrayData(X, weight), centres, frame, 1, 1)
    rows = X.astype(np.float64)
    expected = means_of(rows, nearest(rows, centres, frame.scale), 7, weight)
    assert np.abs(expected - centres).max() > 0.1, "the step is to be one that moves the centres"
    np.testing.assert_allclose(found, expected, rtol=0, atol=MEANS)


def test_steps_depend_on_the_units():
    """The same rows and centres with one feature in another unit are other clusters."""
    X = rows_of_unit_spread(2)
    found = [
        lloyd(ArrayData(X), X[:5], Frame(np.zeros(3), np.array(scale)), 5, 1)
        for scale in ([1.0, 1.0, 1.0], [1.0, 1.0, 10.0])
    ]
    assert np.abs(found[0] - found[1]).max() > 0.1


@pytest.mark.parametrize("seed", range(3))
def test_centres_end_at_the_means_of_separated_clusters(seed):
    """From any row of each cluster: the last step goes to the means and no further."""
    X, labels = corner_rows(seed)
    start = np.stack([X[labels == k][seed] for k in range(4)])
    for n_steps in (1, 2, 8):
        found = lloyd(ArrayData(X), start, Frame(X.mean(axis=0), np.full(2, 0.25)), n_steps, 1)
        np.testing.assert_allclose(found, means_of(X, labels, 4), rtol=0, atol=MEANS)


@pytest.mark.parametrize("seed", range(5))
def test_steps_lower_the_sum_of_squares_to_a_fixed_point(seed):
    """Each further step lowers it, until the centres are the means of their own rows."""
    X = rows_of_unit_spread(seed, 300, 2)
    scale = np.ones(2)
    frame, data = Frame(np.zeros(2), scale), ArrayData(X)
    sums = [sum_of_squares(X, X[:6], scale)]
    for n_steps in (1, 3, 10, 100):
        centres = lloyd(data, X[:6], frame, n_steps, 1)
        sums.append(sum_of_squares(X, centres, scale))
    assert sums[1] < 0.9 * sums[0]
    # Steps that are longer than Lloyd's may end in another optimum, and a sum may rise by a little between.
    assert all(after <= 1.01 * before for before, after in pairwise(sums))
    np.testing.assert_allclose(
        centres, means_of(X, nearest(X, centres, scale), 6), rtol=0, atol=MEANS, err_msg="no fixed point"
    )


def test_weights_are_repeats():
    X = rows_of_unit_spread(5, 200, 2)
    counts = np.random.default_rng(5).integers(0, 4, len(X))
    frame = Frame(np.zeros(2), np.ones(2))
    weighted = lloyd(ArrayData(X, counts), X[:4], frame, 6, 1)
    repeated = lloyd(ArrayData(np.repeat(X, counts, axis=0)), X[:4], frame, 6, 1)
    np.testing.assert_allclose(weighted, repeated, rtol=0, atol=MEANS)


def test_a_far_origin_costs_its_own_rounding_only():
    """Rows at 1e8 have lost eps * 1e8 of their own; centres lose no more."""
    X = rows_of_unit_spread(6, 300, 2)
    near = lloyd(ArrayData(X), X[:5], Frame(np.zeros(2), np.ones(2)), 1, 1)
    far = lloyd(ArrayData(X + 1e8), X[:5] + 1e8, Frame(np.full(2, 1e8), np.ones(2)), 1, 1)
    np.testing.assert_allclose(far - 1e8, near, rtol=0, atol=4 * np.finfo(float).eps * 1e8)


def test_an_empty_cluster_keeps_its_centre():
    X = rows_of_unit_spread(7, 200, 2)
    centres = np.array([[0.0, 0.0], [1e3, -1e3], [1.0, 1.0]])
    found = lloyd(ArrayData(X), centres, Frame(np.zeros(2), np.ones(2)), 4, 1)
    np.testing.assert_array_equal(found[1], centres[1])
    assert np.abs(found[[0, 2]]).max() < 5


def test_the_given_centres_are_left_alone():
    X = rows_of_unit_spread(8, 200, 2)
    centres = X[:3].copy()
    lloyd(ArrayData(X), centres, Frame(np.zeros(2), np.ones(2)), 3, 1)
    np.testing.assert_array_equal(centres, X[:3])


def test_threads_give_the_same_bits():
    X = rows_of_unit_spread(9, 20_000, 4)
    frame = Frame(np.zeros(4), np.ones(4))
    found = [lloyd(ArrayData(X), X[:8], frame, 3, n_threads) for n_threads in (1, 2, 3)]
    np.testing.assert_array_equal(found[1], found[0])
    np.testing.assert_array_equal(found[2], found[0])


def test_empty_clusters_go_to_distinct_far_rows():
    """Many copies of the farthest row do not crowd out the others."""
    rng = np.random.default_rng(0)
    places = [100.0, 0.0], [0.0, 60.0], [-40.0, 0.0]
    copies = [np.tile(place, (400, 1)) for place in places]
    rows = np.concatenate([rng.standard_normal((500, 2)), *copies])
    centres = np.array([[0.0, 0.0], [900.0, 900.0], [1000.0, 1000.0], [1100.0, 1000.0]])
    empty = np.array([False, True, True, True])
    frame = Frame(np.zeros(2), np.ones(2))
    found = fill_empty(ArrayData(rows), centres, empty, frame, 1)
    assert sorted(map(tuple, found[1:].tolist())) == [(-40.0, 0.0), (0.0, 60.0), (100.0, 0.0)]
    # nothing to move to
    same = np.zeros((50, 2))
    np.testing.assert_array_equal(fill_empty(ArrayData(same), centres, empty, frame, 1), centres)


# -- pruned steps ------------------------------------------------------------------------------------


def labels_and_centres(X, weight, start, frame, n_steps, choice, n_threads=1):
    """What each of Lloyd's steps finds, pruned or not, and the pairs that were scored.

    Labels are told apart by the weights of clusters and the sums over their rows.
    """
    data = ArrayData(X, weight)
    with forced_pruning(choice):
        pruning = NearestPruning(data, frame, len(start), n_steps, n_threads)
    shares = []
    learn = pruning.learn
    pruning.learn = lambda pairs: (shares.append(pairs / pruning.n_pairs), learn(pairs))
    found = [np.asarray(start, dtype=np.float64)]
    inertias = []
    for _ in range(n_steps):
        centres, inertia = assign(data, found[-1], frame, n_threads, pruning)
        found.append(centres)
        inertias.append(inertia)
    return np.stack(found[1:]), np.array(inertias), shares


def assert_pruned_as_dense(X, weight, start, frame, n_steps=6):
    dense, dense_inertia, none = labels_and_centres(X, weight, start, frame, n_steps, "never")
    found, inertia, shares = labels_and_centres(X, weight, start, frame, n_steps, "always")
    assert not none
    assert len(shares) == n_steps - 1
    spread = 1.0 / frame.scale
    # the same rows in another order: were one of them given to another cluster, means would differ by 1 / n
    np.testing.assert_allclose(found / spread, dense / spread, rtol=MEANS, atol=MEANS)
    np.testing.assert_allclose(inertia, dense_inertia, rtol=1e-11, atol=1e-11 * len(X))
    return shares


@pytest.mark.parametrize("n_features", [1, 2, 3, 8, 17])
@pytest.mark.parametrize("n_clusters", [1, 2, 7, 16, 33])
@pytest.mark.parametrize("n_rows", [97, 1000, 3001])
def test_pruned_steps_are_dense_steps(n_features, n_clusters, n_rows, isa):
    for seed, spread in enumerate((0.5, 4.0, 50.0)):
        X = grouped_rows(seed, n_rows, n_features, spread)
        frame = Frame(X.mean(axis=0), 1.0 / (1.0 + np.arange(n_features)))
        assert_pruned_as_dense(X, None, X[:n_clusters], frame)


@pytest.mark.parametrize("layout", ["C", "float32", "F", "strided", "reversed"])
@pytest.mark.parametrize("weighted", [False, True])
def test_pruned_steps_of_any_rows(layout, weighted, isa):
    X = grouped_rows(1, 2000, 3, 20.0)
    weight = None
    if weighted:
        weight = np.random.default_rng(2).uniform(0.1, 3.0, len(X))
        weight[::7] = 0.0
        X[::7] = 1e6  # rows of weight zero are nowhere
    start = X[1:40:2][weight[1:40:2] > 0] if weighted else X[:20]
    frame = Frame(np.zeros(3), np.full(3, 0.05))
    rows = {
        "C": X,
        "float32": X.astype(np.float32),
        "F": np.asfortranarray(X),
        "strided": np.repeat(X, 2, axis=1)[:, ::2],
        "reversed": X[::-1],
    }[layout]
    if layout == "reversed" and weighted:
        weight = weight[::-1]
    shares = assert_pruned_as_dense(rows, weight, start, frame)
    assert shares[-1] < 0.7, "the case is to be prunable"


@settings(max_examples=300, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    n_features=st.integers(1, 4),
    n_clusters=st.integers(1, 30),
    grid=st.sampled_from([0.0, 1.0, 4.0]),
    odd=st.sampled_from(["", "outlier", "twins", "far", "one"]),
)
def test_no_pair_that_matters_is_skipped(seed, n_features, n_clusters, grid, odd):
    """Rows on a grid tie between centres; centres that are equal, or far from all rows; an outlier."""
    rng = np.random.default_rng(seed)
    X = grouped_rows(seed, 700, n_features, 10.0)
    if grid:
        X = grid * np.round(X / grid)
    start = X[rng.choice(700, n_clusters)]  # some of them twice
    if odd == "outlier":
        X[rng.integers(0, 700, 2)] = 1e7 * rng.standard_normal((2, n_features))
    if odd == "twins":
        start[-1] = start[0]
    if odd == "far":
        start[0] = 1e4
    if odd == "one":
        X[:] = X[0]
    frame = Frame(np.zeros(n_features), np.full(n_features, 0.25))
    dense, dense_inertia, _ = labels_and_centres(X, None, start, frame, 4, "never")
    found, inertia, _ = labels_and_centres(X, None, start, frame, 4, "always")
    np.testing.assert_allclose(found, dense, rtol=MEANS, atol=1e-9 if odd == "outlier" else 1e-11)
    np.testing.assert_allclose(inertia, dense_inertia, rtol=1e-9, atol=1e-9)


def test_each_term_of_the_bound_is_needed(monkeypatch):
    """Without the drift, the radius of a ball, or with bounds that are too large, labels change."""
    X = grouped_rows(2, 4000, 2, 6.0)
    frame = Frame(np.zeros(2), np.ones(2))
    start = X[:40] + np.random.default_rng(0).standard_normal((40, 2))  # centres that go far

    def differ():
        dense, _, _ = labels_and_centres(X, None, start, frame, 8, "never")
        found, _, _ = labels_and_centres(X, None, start, frame, 8, "always")
        return np.abs(found - dense).max() > 1e-6

    assert not differ()
    with monkeypatch.context() as patch:
        patch.setattr(lloyd_module, "whitened_shift", lambda old, new, roots: np.zeros(len(old)))
        assert differ()
    balls = lloyd_module.block_balls
    with monkeypatch.context() as patch:
        patch.setattr(lloyd_module, "block_balls", lambda *a: (balls(*a)[0], 0.0 * balls(*a)[1]))
        assert differ()
    with monkeypatch.context() as patch:
        patch.setattr(lloyd_module, "OUTWARD", -0.5)
        assert differ()


@pytest.mark.parametrize("late", [0, 1, 2])
def test_of_equal_scores_the_first_counts(late, isa):
    """Also where a guess at the row's distance had one of the two centres scored after the other."""
    X = np.zeros((96, 1))
    centres = np.array([[1.0], [-1.0], [1.0]])
    frame = Frame(np.zeros(1), np.ones(1))
    distance = np.zeros((1, 3), dtype=np.float32)
    distance[0, late] = 0.5  # a bound that says nothing, but looks too far for a row at its centre
    sweep = Pass(X, None, frame, 3)
    sweep.in_order(np.arange(96, dtype=np.uint32))
    sweep.prune(distance, np.zeros(1), np.zeros(3), np.ones(3), np.zeros(3), 96)
    sweep.score(nearest_centre_map(centres, frame.scale, frame, LINEAR, 1), hard=True)
    sweep.accumulate(LINEAR, 1, True, None, None, SCALAR, False, False)
    sums = sweep.run(1)
    np.testing.assert_array_equal(sums["weight"], [96, 0, 0])
    assert sums["head"][PAIRS] == 3


@pytest.mark.parametrize("n_threads", [2, 3, 8])
def test_pruned_steps_have_the_same_bits_on_any_number_of_threads(n_threads):
    X = grouped_rows(5, 9000, 4, 10.0)
    frame = Frame(np.zeros(4), np.full(4, 0.1))
    one, many = (labels_and_centres(X, None, X[:24], frame, 6, "always", n) for n in (1, n_threads))
    np.testing.assert_array_equal(many[0], one[0])
    np.testing.assert_array_equal(many[1], one[1])
    assert many[2] == one[2]
    assert one[2][-1] < one[2][0]


def test_steps_are_pruned_where_that_pays():
    """By shapes; and no longer where counts say that nothing is skipped."""
    frame = Frame(np.zeros(8), np.ones(8))

    def possible(n_rows, n_clusters, n_passes):
        return NearestPruning(ArrayData(np.zeros((n_rows, 8))), frame, n_clusters, n_passes, 1).possible

    assert possible(100_000, 128, 4)
    assert not possible(100_000, 128, 1)  # one pass: nothing is repaid
    assert not possible(100_000, 8, 4)  # few centres
    assert not possible(1_000, 128, 4)  # few blocks
    X = np.random.default_rng(0).standard_normal((30_000, 16))
    data, frame = ArrayData(X), Frame(np.zeros(16), np.ones(16))
    pruning = NearestPruning(data, frame, 64, 12, 1)
    assert pruning.possible
    centres = X[:64]
    for _ in range(4):
        centres, _ = assign(data, centres, frame, 1, pruning)
    assert pruning.order is None
    assert pruning.rest > 0


def test_bounds_take_little_memory():
    for n_rows, n_features, n_clusters, possible in (
        (100_000, 3, 60, True),
        (300_000, 8, 300, True),
        (100_000, 8, 300, False),  # blocks that share bounds would have rows of too many clusters
        (300_000, 64, 100, True),
    ):
        X = np.zeros((n_rows, n_features), dtype=np.float32)
        frame = Frame(np.zeros(n_features), np.ones(n_features))
        pruning = NearestPruning(ArrayData(X), frame, n_clusters, 12, 1)
        assert pruning.possible == possible
        assert pruning.block_rows <= 384
        assert 4 * n_clusters * (pruning.n_bounds - 1) <= 0.05 * X.nbytes
