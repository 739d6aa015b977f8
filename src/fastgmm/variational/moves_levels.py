"""Searches on samples of the rows, each larger than the one before, and then on all rows.

The more rows there are, the less EM gains in an iteration beside what stands between two mixtures: on a few
hundred thousand rows whose clusters overlap, each of too many components costs hundreds of nats, and EM needs
hundreds of iterations to win them. A sample of the rows tells nearly as much of their shape, at a fraction of
the cost, and cannot tell apart what takes more rows to be told apart. So a search begins with few rows, where
its moves are cheap, and goes on with more of them from what was found; the last search is of all rows, and
has only to find what the sample was too small for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from .. import em
from .._typing import FloatArray
from ..blocks import ArrayData
from ..frame import Frame
from ..parameters import Parameters
from . import moves_components as parts
from .evidence import Evidence
from .moves import SETTLED, Search
from .moves_rows import sample_of

# Each sample has this share of the rows of the next ...
GROWTH = 4
# ... and its rows count this many times: what the next one will tell apart should not be merged before. More
# would be noise: by chance a component of p numbers gains p/2 nats and more, times this.
COUNT = 2.0
# Rows of the smallest sample: so many, and so many for each number of the mixture that is started with.
FEWEST_ROWS, ROWS_PER_NUMBER = 1 << 12, 4
# No sample is larger: it is a copy, and tells enough.
MOST_ROWS = 1 << 20
# So many rows are searched as a sample is, all of them: they cost little, and a share of them tells less.
ALL_ROWS = 1 << 16
# How the search on a sample is started: from what the last one has found, from that with each component split
# in two, and from where the first one was started.
FOUND, DOUBLED, AFRESH = "found", "doubled", "afresh"


class Level(NamedTuple):
    """How many rows a sample has, and how many times each counts."""

    n_rows: int
    times: float


class SearchStart(NamedTuple):
    """What the search on all rows starts from, and the components it need not try to split: see Search."""

    parameters: Parameters
    in_vain: FloatArray | None


def levels(n_rows: int, n_in_memory: int, n_numbers: int) -> list[Level]:
    """The samples, smallest first; none where a share of all rows is too few.

    n_numbers : of the mixture that the search starts from
    """
    fewest = max(FEWEST_ROWS, ROWS_PER_NUMBER * n_numbers)
    size = min(n_rows // GROWTH, n_in_memory, MOST_ROWS)
    found = []
    if size >= fewest and n_rows <= min(ALL_ROWS, n_in_memory):
        found.append(Level(n_rows, 1.0))
    while size >= fewest:
        found.append(Level(size, COUNT))
        size //= GROWTH
    return found[::-1]


def found_on_samples(
    rows: ArrayData,
    n_rows: int,
    evidence: Evidence,
    options: em.EMOptions,
    frame: Frame,
    start: Parameters,
    allowed: tuple[str, ...],
    n_most: Callable[[int], int],
) -> SearchStart:
    """Where the search on all rows is to start from.

    On each sample the search is made twice: from what the last one has found, and from that with each
    component split in two. Merging finds what splitting one component at a time does not. Iterations on
    samples count in no max_iter but their own.

    Parameters
    ----------
    rows : in memory, all or a sample
    n_rows : of positive weight, in all
    evidence, options, frame : of all rows
    start : where the first search starts from
    allowed : the moves
    n_most : most components that so many rows may have
    """
    structure, first, of = evidence.structure, start, evidence
    in_vain = None
    for size, times in levels(n_rows, rows.n_positive, structure.n_parameters(*start.means.shape)):
        sample = _counting(sample_of(rows, size), times)
        to = Evidence(structure, evidence.prior, sample.total_weight, evidence.reg_covar, evidence.n_threads)
        # the rest of what EM would gain on a sample is nothing to the other rows
        loose = replace(options, tol=max(options.tol, SETTLED * sample.total_weight))
        most = n_most(sample.n_positive)
        start, of, bound, in_vain = _moved(start, of, to), to, -np.inf, None
        for way in (FOUND, DOUBLED) if size < n_rows else (FOUND, AFRESH):
            search = Search(
                sample, to, loose, frame, allowed=allowed, n_most=most, free=True, in_vain=in_vain
            )
            if way == AFRESH:
                begin = _moved(first, evidence, to)
            else:
                begin = search.doubled(start) if way == DOUBLED else start
            result, in_vain = search.run(begin, -np.inf), search.in_vain
            if result.lower_bound > bound:
                start, bound = result.parameters, result.lower_bound
            if result.out_of_time:
                break
        if result.out_of_time:
            break
    # what was not to be split is known of these rows only
    return SearchStart(
        _moved(start, of, evidence), in_vain if of.total_weight == evidence.total_weight else None
    )


def _counting(rows: ArrayData, times: float) -> ArrayData:
    """The same rows, each counting so many times."""
    weight = np.ones(rows.n_rows) if rows.sample_weight is None else rows.sample_weight
    return ArrayData(rows.X, weight * times)


def _moved(parameters: Parameters, of: Evidence, to: Evidence) -> Parameters:
    """The posterior of as many rows as there are, where each component has its share of them."""
    if of is to:
        return parameters
    components = parts.of_parameters(of, parameters)
    counts = components.counts * (to.total_weight / of.total_weight)
    return parts.to_parameters(to, components._replace(counts=counts))
