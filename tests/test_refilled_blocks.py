"""Blocks that are written to while they are in use: refused where it matters, and only there."""

from __future__ import annotations

import numpy as np
import pytest
from streams import PART_ROWS, make_parts_small

from fastgmm import BlockRows, GaussianMixture, MiniBatchGaussianMixture
from fastgmm.sources.watched import WatchedBlocks

D = 3
LARGE, SMALL = 2 * PART_ROWS + 100, 100  # beside SMALLEST_PART of these tests
OTHER = r"Block \d has other values now than when it was given.*Yield copies: yield block\.copy\(\)"
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch):
    make_parts_small(monkeypatch)


def rows(number, n_rows):
    return np.random.default_rng(number).normal(number, 1.0, (n_rows, D))


def refilled(n_rows, n_buffers=1, dtype=np.float64, n_blocks=6, order="C", copies=False):
    """A generator function of blocks in the same memory, taking turns."""

    def blocks():
        buffers = [np.empty((n_rows, D), dtype, order) for _ in range(n_buffers)]
        for number in range(n_blocks):
            block = buffers[number % n_buffers]
            block[...] = rows(number, n_rows)
            yield block.copy() if copies else block

    return blocks


def mixture():
    return GaussianMixture(1, max_iter=2)


@pytest.mark.parametrize("n_buffers", [1, 2])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("order", ["C", "F"])
def test_large_blocks_in_the_same_memory_are_refused(n_buffers, dtype, order):
    blocks = refilled(LARGE, n_buffers, dtype, order=order)
    with pytest.raises(ValueError, match=OTHER):
        mixture().fit(blocks)
    assert mixture().fit(refilled(LARGE, n_buffers, dtype, copies=True)).means_[0, 0] == pytest.approx(
        2.5, abs=0.02
    )


@pytest.mark.parametrize(
    "call",
    [
        lambda X: mixture().fit_predict(X),
        lambda X: MiniBatchGaussianMixture(1).fit(X),
        lambda X: GaussianMixture.from_parameters([1.0], np.zeros((1, D)), np.eye(D)[None]).score_samples(X),
        lambda X: GaussianMixture.from_parameters([1.0], np.zeros((1, D)), np.eye(D)[None]).score(X),
        lambda X: GaussianMixture.from_parameters([1.0], np.zeros((1, D)), np.eye(D)[None]).accumulate(X),
    ],
)
def test_whatever_reads_blocks_refuses_them(call):
    with pytest.raises(ValueError, match=OTHER):
        call(BlockRows(refilled(LARGE)))


def test_a_block_that_the_last_one_overwrites_is_refused():
    """Also by a few rows only, and when there is no block after it."""
    buffer = np.empty((LARGE, D))

    def blocks():
        buffer[...] = rows(0, LARGE)
        yield buffer
        buffer[:SMALL] = rows(1, SMALL)
        yield buffer[:SMALL]

    def overwritten_at_the_end():
        buffer[...] = rows(0, LARGE)
        yield buffer
        buffer[...] = 0.0

    for source in (blocks, overwritten_at_the_end):
        with pytest.raises(ValueError, match="Block 0 has other values"):
            mixture().fit(source)


def test_weights_in_the_same_memory_are_refused():
    def blocks():
        weights = np.empty(LARGE)
        for number in range(4):
            weights[...] = 1.0 + number
            yield rows(number, LARGE), weights

    with pytest.raises(ValueError, match=OTHER):
        mixture().fit(BlockRows(blocks, weighted=True))


def test_blocks_that_are_copied_anyway_may_be_written_to_again():
    """Small ones, those of other types, and those given up by the time."""
    for source in (
        refilled(SMALL, n_blocks=60),
        refilled(LARGE, dtype=np.int64),
        refilled(LARGE, n_buffers=3),
    ):
        expected = np.concatenate([block.astype(float) for block in source()]).mean(axis=0)
        np.testing.assert_allclose(mixture().fit(source).means_[0], expected, rtol=1e-12)


def test_the_same_block_may_be_given_again():
    X = rows(0, LARGE)
    assert mixture().fit([X, X, X]).means_[0] == pytest.approx(X.mean(axis=0))


def test_what_is_not_a_number_is_equal_to_itself():
    watched = WatchedBlocks()
    X = np.full((5, 2), np.nan)
    watched.add(X, None, "block 0")
    watched.compare()
    X[-1, -1] = 0.0
    with pytest.raises(ValueError, match="Block 0"):
        watched.compare()
