"""A sample of a stream: each row as likely as any other, whatever the parts."""

from __future__ import annotations

import numpy as np
import pytest

from fastgmm.blocks import ArrayData
from fastgmm.sources.reservoir import Reservoir


def sampled(sizes, size, seed, weight=None):
    """Numbers of the rows kept of a stream of parts of these sizes."""
    reservoir, first = Reservoir(size, np.random.RandomState(seed)), 0
    for n in sizes:
        X = np.arange(first, first + n, dtype=np.float64)[:, np.newaxis]
        w = None if weight is None else weight[first : first + n]
        if n and (w is None or w.any()):
            reservoir.add(ArrayData(X, w))
        first += n
    return reservoir


@pytest.mark.parametrize(
    "sizes", [[60], [1] * 60, [50, 10], [5, 55], [3, 7, 20, 30]], ids=lambda sizes: f"{len(sizes)} parts"
)
def test_every_row_is_as_likely(sizes):
    """Counts over many seeds are binomial; chi-square of 59 degrees of freedom stays below mean + 5 sigma."""
    n, size, n_seeds = sum(sizes), 12, 600
    counts = np.zeros(n)
    for seed in range(n_seeds):
        rows = sampled(sizes, size, seed).rows().X[:, 0].astype(int)
        assert len(np.unique(rows)) == size
        counts[rows] += 1
    share = size / n
    # rows of one sample are drawn without replacement, which makes the variance of a count n p (1 - p)
    chi_square = ((counts - n_seeds * share) ** 2).sum() / (n_seeds * share * (1 - share))
    assert chi_square < (n - 1) + 5 * np.sqrt(2 * (n - 1))
    halves = counts[: n // 2].sum() / counts.sum()  # early and late rows alike
    assert abs(halves - 0.5) < 5 * 0.5 / np.sqrt(counts.sum())


def test_all_rows_where_they_are_few():
    kept = sampled([3, 4], 10, 0).rows()
    assert kept.X[:, 0].tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert kept.sample_weight is None


def test_rows_of_weight_zero_are_never_kept_and_weights_stay_with_their_rows():
    weight = np.arange(40) % 4 * 1.5
    for seed in range(20):
        kept = sampled([7, 13, 20], 10, seed, weight).rows()
        assert np.array_equal(kept.sample_weight, weight[kept.X[:, 0].astype(int)])
        assert (kept.sample_weight > 0).all()


def test_merged_reservoirs_sample_both():
    n_seeds, counts = 600, np.zeros(30)
    for seed in range(n_seeds):
        first = sampled([20], 6, 2 * seed)
        second = Reservoir(6, np.random.RandomState(2 * seed + 1))
        second.add(ArrayData(np.arange(20.0, 30.0)[:, np.newaxis]))
        first.merge(second)
        first.merge(Reservoir(6, np.random.RandomState(0)))  # of no rows
        counts[first.rows().X[:, 0].astype(int)] += 1
    share = 6 / 30
    chi_square = ((counts - n_seeds * share) ** 2).sum() / (n_seeds * share * (1 - share))
    assert chi_square < 29 + 5 * np.sqrt(2 * 29)


def test_the_same_seed_keeps_the_same_rows():
    first, second = (sampled([100, 5000, 3], 50, 7).rows().X for _ in range(2))
    assert np.array_equal(first, second)


def test_many_rows_cost_few_draws():
    """A row of a long stream is looked at only where it may be kept."""
    reservoir = sampled([1000] * 50, 10, 0)
    state = reservoir.random_state.get_state()[2]
    assert len(reservoir.rows().X) == 10
    assert state < 624  # one block of the generator's numbers would not do for 50,000 keys
