"""Statistics: sums over parts, moments about other points, and what must not be added."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fastgmm.blocks import ArrayData
from fastgmm.frame import Frame
from fastgmm.passes import accumulate
from fastgmm.structures import STRUCTURES

# Algebra on a few hundred numbers of order 1 to 100.
ALGEBRA = 1e-12
KINDS = ("full", "tied", "diag", "spherical")


def statistics(kind, rows, responsibilities, centres, weight=None):
    """Moments of the rows about the given centres."""
    structure = STRUCTURES[kind]
    frame = Frame(np.zeros(rows.shape[1]), np.full(rows.shape[1], 0.5))
    everything = np.ones(centres.shape[0], dtype=bool)
    return accumulate(
        ArrayData(rows, weight),
        structure,
        frame,
        centres.shape[0],
        1,
        responsibilities=responsibilities,
        centres=centres,
        centred=everything,
        made_under=b"the same",
    )


@pytest.fixture
def parts():
    rng = np.random.default_rng(0)
    rows = rng.normal(3.0, 2.0, (300, 3))
    responsibilities = rng.dirichlet(np.ones(4), 300)
    centres = rng.normal(3.0, 1.0, (4, 3))
    return rows, responsibilities, centres


def assert_equal(a, b):
    for name in ("weight", "first", "second"):
        x, y = getattr(a, name), getattr(b, name)
        np.testing.assert_allclose(x, y, rtol=0, atol=ALGEBRA * max(1.0, np.abs(y).max()))


@pytest.mark.parametrize("kind", KINDS)
def test_about_moves_the_reference(kind, parts):
    rows, responsibilities, centres = parts
    elsewhere = centres + np.array([1.0, -2.0, 0.5])
    moved = statistics(kind, rows, responsibilities, centres).about(elsewhere)
    assert_equal(moved, statistics(kind, rows, responsibilities, elsewhere))
    assert np.array_equal(moved.reference, elsewhere)


@pytest.mark.parametrize("kind", KINDS)
def test_sum_of_parts_with_different_references(kind, parts):
    rows, responsibilities, centres = parts
    whole = statistics(kind, rows, responsibilities, centres)
    left = statistics(kind, rows[:130], responsibilities[:130], centres)
    right = statistics(kind, rows[130:], responsibilities[130:], centres + 1.5)
    total = left + right
    assert_equal(total, whole)
    assert total.n_rows == 300
    assert total.total_weight == pytest.approx(300)


@pytest.mark.parametrize("kind", KINDS)
def test_scaled_is_a_factor_on_every_weight(kind, parts):
    rows, responsibilities, centres = parts
    whole = statistics(kind, rows, responsibilities, centres)
    assert_equal(
        whole.scaled(2.5), statistics(kind, rows, responsibilities, centres, weight=np.full(300, 2.5))
    )


def test_statistics_of_different_parameters_are_refused(parts):
    one = statistics("full", *parts)
    with pytest.raises(ValueError, match="different parameters"):
        one + replace(one, fingerprint=b"another")
    with pytest.raises(TypeError):
        one + 1


@pytest.mark.parametrize("kind", KINDS)
def test_sum_of_parts_in_different_frames(kind, parts):
    """A machine may derive the next power of two from the same parameters: the same sums in other units."""
    rows, responsibilities, centres = parts
    one = statistics(kind, rows, responsibilities, centres)
    factor = np.full(3, 2.0) if kind == "spherical" else np.array([2.0, 1.0, 0.25])
    square = {"full": np.outer(factor, factor), "diag": factor**2, "spherical": 4.0}
    square["tied"] = square["full"]
    other = replace(
        one,
        frame=Frame(one.frame.shift, one.frame.scale * factor),
        first=one.first * factor,
        second=one.second * square[kind],
    )
    for name in ("weight", "first", "second"):
        np.testing.assert_array_equal(getattr(one + other, name), getattr(one + one, name))
        np.testing.assert_array_equal(getattr(other + one, name), getattr(other + other, name))
