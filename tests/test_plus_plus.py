"""k-means++ of the seeding: the rows that a look at all of them would choose."""

from __future__ import annotations

import numpy as np
import pytest
from cluster_rows import corner_rows, grouped_rows
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import kmeans_plusplus

from fastgmm.kmeans import plus_plus


@pytest.mark.parametrize("seed", range(20))
def test_plus_plus_finds_separated_clusters(seed):
    """The rows of a cluster hold 2 (0.5 / 10)^2 = 0.5 % of the squared distances that draws go by."""
    X, labels = corner_rows(seed)
    chosen = plus_plus(X, np.ones(len(X)), 4, np.random.RandomState(seed))
    assert sorted(labels[chosen]) == [0, 1, 2, 3]


@pytest.mark.parametrize("seed", range(20))
def test_plus_plus_leaves_rows_of_no_weight_alone(seed):
    """However far they are: distances count by weight."""
    X, labels = corner_rows(0)
    weight = np.where(labels == 3, 0.0, 1.0)
    chosen = plus_plus(X, weight, 3, np.random.RandomState(seed))
    assert sorted(labels[chosen]) == [0, 1, 2]


def test_plus_plus_begins_by_weight():
    """The first row is drawn in proportion to the weights: 4 standard deviations of 2000 draws."""
    X = np.arange(4.0)[:, None]
    weight = np.array([1.0, 0.0, 2.0, 7.0])
    share = weight / weight.sum()
    random_state = np.random.RandomState(0)
    first = [int(plus_plus(X, weight, 1, random_state)[0]) for _ in range(2000)]
    found = np.bincount(first, minlength=4) / 2000
    np.testing.assert_array_less(np.abs(found - share), 4 * np.sqrt(share * (1 - share) / 2000) + 1e-12)


def test_plus_plus_of_fewer_distinct_rows_than_clusters():
    X = np.repeat([[0.0, 1.0], [2.0, 3.0]], 5, axis=0)
    chosen = plus_plus(X, np.ones(10), 4, np.random.RandomState(0))
    assert chosen.shape == (4,)
    assert chosen.min() >= 0
    assert chosen.max() < 10
    assert len(np.unique(X[chosen], axis=0)) == 2, "both of the distinct rows, before any comes again"


def assert_chosen_as_by_a_full_scan(found, rows, weight, n_clusters, seed):
    """Each centre is the best of the candidates that the same draws make, by a look at every row.

    Steps are checked one by one, from the centres found before: of two candidates that lower the sum of
    squares by the same (the two rows of a cluster, say) rounding chooses.
    """
    random_state = np.random.RandomState(seed)
    rows = rows.astype(np.float64)
    weight = np.ones(len(rows)) if weight is None else weight
    cumulative = np.cumsum(weight)
    draw = random_state.uniform() * cumulative[-1]
    assert found[0] == np.searchsorted(cumulative, draw, side="right")
    closest = ((rows - rows[found[0]]) ** 2).sum(axis=1)
    uniforms = random_state.uniform(size=(n_clusters - 1, 2 + int(np.log(n_clusters))))
    for draws, row in zip(uniforms, found[1:], strict=True):
        cumulative = np.cumsum(weight * closest)
        if not cumulative[-1] > 0:
            break
        candidates = np.searchsorted(cumulative, draws * cumulative[-1], side="right")
        assert row in candidates
        distance = ((rows[:, None] - rows[candidates]) ** 2).sum(axis=2)
        sums = weight @ np.minimum(distance, closest[:, None])
        after = np.minimum(((rows - rows[row]) ** 2).sum(axis=1), closest)
        assert weight @ after <= sums.min() + 1e-13 * cumulative[-1]
        closest = after


@pytest.mark.parametrize("n_features", [1, 2, 3, 8, 17])
@pytest.mark.parametrize("n_clusters", [1, 2, 7, 60, 130])
@pytest.mark.parametrize("spread", [0.0, 4.0, 100.0], ids=["one", "overlapping", "separated"])
def test_plus_plus_chooses_what_a_full_scan_would(n_features, n_clusters, spread, isa):
    """From the same draws; in any layout and precision, and with weights."""
    for seed, n_rows in enumerate((n_clusters, 131, 700)):
        n_rows = max(n_rows, n_clusters)
        X = grouped_rows(seed, n_rows, n_features, spread)
        weight = np.random.default_rng(seed).uniform(0.5, 2.0, n_rows)
        weight[1::5] = 0.0
        if np.count_nonzero(weight) < n_clusters:
            weight[:] = 1.0
        layouts = X.astype(np.float32), np.asfortranarray(X)[::-1], np.repeat(X, 2, axis=1)[:, ::2]
        for rows, w in ((X, None), (X, weight), *((rows, weight) for rows in layouts)):
            found = plus_plus(rows, w, n_clusters, np.random.RandomState(seed))
            assert_chosen_as_by_a_full_scan(found, rows, w, n_clusters, seed)


def test_plus_plus_with_more_candidates_than_one_set():
    """Of 3000 clusters 10 rows are tried each time, of which 8 are measured together."""
    X = grouped_rows(0, 3500, 2, 30.0)
    found = plus_plus(X, None, 3000, np.random.RandomState(0))
    assert_chosen_as_by_a_full_scan(found, X, None, 3000, 0)


@settings(max_examples=200, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    n_rows=st.integers(1, 400),
    n_features=st.integers(1, 4),
    n_clusters=st.integers(1, 40),
    spread=st.sampled_from([0.0, 5.0, 1e3]),
    copies=st.booleans(),
    weighted=st.booleans(),
)
def test_plus_plus_passes_nothing_over(seed, n_rows, n_features, n_clusters, spread, copies, weighted):
    """Also where rows are equal, or weigh nothing."""
    rng = np.random.default_rng(seed)
    X = grouped_rows(seed, n_rows, n_features, spread)
    X = np.round(X) if copies else X
    weight = rng.integers(0, 3, n_rows).astype(float) if weighted else np.ones(n_rows)
    weight[0] = 1.0
    n_clusters = min(n_clusters, n_rows)
    found = plus_plus(X, weight, n_clusters, np.random.RandomState(seed))
    assert_chosen_as_by_a_full_scan(found, X, weight, n_clusters, seed)
    assert (weight[found] > 0).all()


def test_plus_plus_is_the_same_for_any_rows_of_no_weight():
    """They are not read: infinite ones would spoil every sum."""
    X = grouped_rows(3, 300, 3, 5.0)
    weight = np.random.default_rng(3).uniform(size=300)
    weight[::4] = 0.0
    first = plus_plus(X, weight, 20, np.random.RandomState(0))
    X[::4] = np.inf
    np.testing.assert_array_equal(plus_plus(X, weight, 20, np.random.RandomState(0)), first)


def test_plus_plus_is_scikit_learns():
    """The same draws, so the same rows, where no two candidates tie."""
    X = grouped_rows(4, 2000, 3, 6.0)
    weight = np.random.default_rng(4).uniform(0.5, 1.5, 2000)
    for seed in range(5):
        found = plus_plus(X, weight, 25, np.random.RandomState(seed))
        expected = kmeans_plusplus(X, 25, sample_weight=weight, random_state=np.random.RandomState(seed))[1]
        np.testing.assert_array_equal(found, expected)
