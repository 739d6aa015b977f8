"""Rows in the order of their components, and bounds that follow them."""

from __future__ import annotations

import numpy as np
import pytest

from fastgmm.blocks import ArrayData
from fastgmm.frame import Frame
from fastgmm.kernels._order import inherited_bounds, inherited_least, mark_near, sorted_positions
from fastgmm.passes import accumulate
from fastgmm.structures import STRUCTURES


@pytest.mark.parametrize(("n_rows", "n_components"), [(1, 1), (2, 3), (1000, 1), (5003, 7), (20_011, 300)])
@pytest.mark.parametrize("n_threads", [1, 2, 5])
def test_sorted_by_best_second_and_density(n_rows, n_components, n_threads):
    rng = np.random.default_rng(n_rows)
    keys = rng.integers(0, n_components**2, n_rows).astype(np.int32)
    density = (100 * rng.standard_normal(n_rows)).astype(np.float32)
    density[rng.random(n_rows) < 0.2] = 0.0
    density[:3] = (-0.0, np.finfo(np.float32).min, np.finfo(np.float32).max)[:n_rows]
    order = sorted_positions(keys, density, n_components, n_threads)
    # -0 sorts before 0 there; a stable sort by value alone keeps the order of equal ones
    assert np.array_equal(order, np.lexsort((~np.signbit(density), density, keys)))


@pytest.mark.parametrize("n_threads", [1, 3])
def test_inherited_bounds_are_those_of_all_blocks_that_rows_come_from(n_threads):
    rng = np.random.default_rng(3)
    n_rows, block_rows, K = 1001, 96, 5
    n_blocks = -(-n_rows // block_rows)
    distance = rng.random((n_blocks, K)).astype(np.float32) * rng.choice([-1, 1], (n_blocks, K)).astype("f4")
    least = rng.standard_normal(n_blocks)
    positions = rng.permutation(n_rows).astype(np.uint32)
    positions[300:500] = np.sort(positions[300:500])  # runs from one block, too
    found = inherited_bounds(distance, positions, block_rows, n_threads)
    found_least = inherited_least(least, positions, block_rows)
    for b in range(n_blocks):
        blocks = np.unique(positions[b * block_rows : (b + 1) * block_rows] // block_rows)
        np.testing.assert_array_equal(found[b], -np.abs(distance[blocks]).min(axis=0))
        assert found_least[b] == least[blocks].min()


@pytest.mark.parametrize("n_threads", [1, 3])
def test_what_is_near_is_marked(n_threads):
    rng = np.random.default_rng(4)
    n_rows, block_rows, K = 1001, 96, 7
    keys = rng.integers(0, 30, n_rows).astype(np.int32)  # K * best + second best
    positions = np.argsort(keys, kind="stable").astype(np.uint32)
    before = -rng.random((-(-n_rows // block_rows), K)).astype(np.float32)
    before[0] = -0.0
    found = before.copy()
    mark_near(found, keys, positions, block_rows, n_threads)
    np.testing.assert_array_equal(np.abs(found), np.abs(before))
    for b in range(found.shape[0]):
        of_block = keys[positions[b * block_rows : (b + 1) * block_rows]]
        near = np.isin(np.arange(K), [*(of_block // K), *(of_block % K)])
        np.testing.assert_array_equal(np.signbit(found[b]), ~near)


@pytest.mark.parametrize("source", ["labels", "responsibilities"])
def test_rows_in_an_order_keep_what_is_given_for_them(isa, source):
    """Labels and responsibilities are by row, whatever the order of the visit; rows left out take no part."""
    rng = np.random.default_rng(0)
    X, K = rng.standard_normal((1000, 3)), 4
    labels = rng.integers(0, K, 1000)
    given = (
        {"labels": labels} if source == "labels" else {"responsibilities": rng.dirichlet(np.ones(K), 1000)}
    )
    structure, frame = STRUCTURES["full"], Frame(np.zeros(3), np.ones(3))
    about, centred = rng.standard_normal((K, 3)), np.ones(K, dtype=bool)
    order = rng.permutation(1000)[:777].astype(np.uint32)
    found = accumulate(
        ArrayData(X), structure, frame, K, 2, centres=about, centred=centred, order=order, **given
    )
    few = {name: np.ascontiguousarray(values[order]) for name, values in given.items()}
    expected = accumulate(ArrayData(X[order]), structure, frame, K, 2, centres=about, centred=centred, **few)
    for name in ("weight", "first", "second"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-12, atol=1e-12)
