"""EM on a sample of the rows before any iteration over all of them.

Most iterations of a fit move parameters by far more than what a sample of a sixteenth of the rows leaves
open. So they are done on such a sample, and those over all rows only remove what it left.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from . import em
from .blocks import ArrayData
from .exceptions import DegenerateComponentError
from .frame import Frame
from .parameters import Parameters
from .structures import Structure

# One row of so many, but never fewer rows than this, nor fewer than so many per free parameter: what a sample
# leaves to gain is half a nat per parameter and row of it, a fortieth of a nat in all.
ROWS_PER_SAMPLED, FEWEST_ROWS, ROWS_PER_PARAMETER = 16, 4096, 20
# Nor more rows than about these, in number and in memory: a million leave a thousandth of a nat of 2,000
# parameters.
MOST_ROWS, MOST_BYTES = 1 << 20, 128 << 20
# Where fewer than so many rows stand for each of the sample, little would be saved.
SMALLEST_SAVING = 8
# A component with few rows of the sample follows them. So it must have so many per parameter of its own when
# EM on the sample begins, and half of them when it ends.
OWN_ROWS_PER_PARAMETER = 4
# Iterations, which cost no more than four over all rows, or eight of the largest samples.
MOST_ITERATIONS = 64
WEIGHTS_AT_A_TIME = 1 << 16


def improved(
    data: ArrayData,
    structure: Structure,
    start: Parameters,
    options: em.EMOptions,
    frame: Frame,
    random_state: np.random.RandomState,
) -> Parameters:
    """The start after EM on a sample of the rows, at most `options.max_iter` iterations.

    As it was, the same object, where there are too few rows to take a sample of, or one could lose or spoil a
    component: one of few rows, or one that collapses.
    """
    if options.max_iter == 0 or start.weights.size == 1:  # one component has nothing to converge
        return start
    sample = _sample(data, structure, start, random_state)
    if sample is None:
        return start
    options = replace(
        options,
        max_iter=min(options.max_iter, MOST_ITERATIONS),
        repair="raise",
        acceleration=None,
        arithmetic="float64",
    )
    try:
        found = em.run(sample, structure, start, options, frame=frame).parameters
    except DegenerateComponentError:
        return start  # what a sample makes collapse may be well in all rows
    needed = OWN_ROWS_PER_PARAMETER / 2 * _own_parameters(structure, start)
    return found if _rows_of_the_smallest(found, sample) >= needed else start


def _sample(
    data: ArrayData, structure: Structure, start: Parameters, random_state: np.random.RandomState
) -> ArrayData | None:
    """Rows enough for each component, every one of which stands for many; None where there are too few.

    Rows are counted by what they tell, as so many of equal weight. Of a stream `data` are a sample already:
    then that is all there is to take.
    """
    told = _told(data)
    in_all = told * (data.stands_for / data.n_rows)
    most = told * (min(data.n_rows, MOST_ROWS, MOST_BYTES // data.row_bytes) / data.n_rows)
    smallest = _rows_of_the_smallest(start, data) / told
    own = OWN_ROWS_PER_PARAMETER * _own_parameters(structure, start)
    n_parameters = structure.n_parameters(*start.means.shape)
    fewest = max(FEWEST_ROWS, ROWS_PER_PARAMETER * n_parameters)
    if fewest > most or own > smallest * most:
        return None
    wanted = max(fewest, own / smallest, min(most, in_all / ROWS_PER_SAMPLED))
    if wanted * SMALLEST_SAVING > in_all:
        return None
    step = int(told / wanted)
    return data.one_row_of_each(step, random_state) if step > 1 else data


def _own_parameters(structure: Structure, parameters: Parameters) -> float:
    """Free parameters per component."""
    K, D = parameters.means.shape
    return structure.n_parameters(K, D) / K


def _rows_of_the_smallest(parameters: Parameters, data: ArrayData) -> float:
    """Rows that each component has at least: so many as if all had the largest weight that one has."""
    largest = 1.0 if data.sample_weight is None else float(data.sample_weight.max())
    return float(parameters.weights.min()) * (data.total_weight / largest)


def _told(data: ArrayData) -> float:
    """How many rows of equal weight tell as much (Kish 1965)."""
    weight = data.sample_weight
    if weight is None:
        return float(data.n_rows)
    largest, squares = float(weight.max()), 0.0
    for first in range(0, data.n_rows, WEIGHTS_AT_A_TIME):
        share = weight[first : first + WEIGHTS_AT_A_TIME] / largest
        squares += float(share @ share)
    return (data.total_weight / largest) ** 2 / squares
