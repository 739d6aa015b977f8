"""Rows that moves are looked for with, and which components they belong to.

Moves are found with rows in memory, all or a sample, and judged by passes over all (moves.py).
"""

from __future__ import annotations

import numpy as np

from .._typing import FloatArray, IndexArray
from ..blocks import ArrayData
from ..parameters import Parameters
from ..scorer import Scorer
from ..sources.base import rows_per_part
from .evidence import Evidence

# Rows of a sample: so many for each component, and no fewer than this.
ROWS_PER_COMPONENT, FEWEST_ROWS = 1 << 10, 1 << 16
# Responsibilities below this are left out: what they add to the entropy of a pair is a hundredth of a nat in
# some ten rows.
SMALLEST_SHARE = 1e-3


def rows_wanted(n_components: int) -> int:
    """Rows that moves of so many components are looked for with."""
    return max(ROWS_PER_COMPONENT * n_components, FEWEST_ROWS)


def sample_of(rows: ArrayData, wanted: int) -> ArrayData:
    """So many rows of positive weight or more, at random places; all where they are few."""
    if rows.n_positive == rows.n_rows <= wanted:
        return rows
    step = max(rows.n_positive // wanted, 1)
    # the same rows in every fit: what is found with them is judged by all
    if rows.n_positive == rows.n_rows:
        return rows if step == 1 else rows.one_row_of_each(step, np.random.RandomState(0))
    assert rows.sample_weight is not None
    positive = np.flatnonzero(rows.sample_weight)
    place = np.arange(0, positive.size - step + 1, step)
    index = positive[place + np.random.RandomState(0).randint(0, step, size=place.size)]
    return ArrayData(rows.X[index], rows.sample_weight[index])


class Belonging:
    """Responsibilities of the rows of a sample, but for those near 0: rows and shares of each component.

    Shares are multiplied by the rows' weights, and these scaled to those of all rows.
    """

    def __init__(self, rows: ArrayData, evidence: Evidence, parameters: Parameters) -> None:
        self.rows = rows
        self.scale = evidence.total_weight / rows.total_weight
        scorer = Scorer(evidence.structure, evidence.scored(parameters), evidence.n_threads)
        K = parameters.weights.size
        self.fit = np.empty(rows.n_rows)  # log-density of each row
        found: list[tuple[IndexArray, IndexArray, FloatArray]] = []
        part = rows_per_part(16 * K)
        for first in range(0, rows.n_rows, part):
            block = rows.X[first : first + part]
            scores = scorer.scores(block)
            top = scores.max(axis=1)
            shares = np.exp(scores - top[:, None])
            sums = shares.sum(axis=1)
            self.fit[first : first + len(block)] = top + np.log(sums)
            shares /= sums[:, None]
            row, component = np.nonzero(shares > SMALLEST_SHARE)
            found.append((row + first, component, shares[row, component]))
        row, component, share = (np.concatenate(arrays) for arrays in zip(*found, strict=True))
        order = np.argsort(component, kind="stable")
        ends = np.cumsum(np.bincount(component, minlength=K))[:-1]
        self.of = list(zip(np.split(row[order], ends), np.split(share[order], ends), strict=True))
        self._scratch = np.zeros(rows.n_rows)

    def weights(self, index: IndexArray) -> FloatArray:
        """Weights of these rows, scaled to those of all."""
        weight = self.rows.sample_weight
        return np.full(index.shape, self.scale) if weight is None else self.scale * weight[index]

    def lost_entropy(self, first: int, second: int) -> float:
        """What the responsibilities' entropy loses where two components become one."""
        rows, shares = self.of[first]
        others, other_shares = self.of[second]
        self._scratch[rows] = shares
        one = self._scratch[others]
        both = one > 0
        one, other, index = one[both], other_shares[both], others[both]
        self._scratch[rows] = 0.0
        total = one + other
        terms = total * np.log(total) - one * np.log(one) - other * np.log(other)
        return float(self.weights(index) @ terms)

    def merge(self, first: int, second: int) -> None:
        """Give the rows of `second` to `first`."""
        rows, shares = self.of[first]
        others, other_shares = self.of[second]
        self._scratch[rows] = shares
        self._scratch[others] += other_shares
        index = np.union1d(rows, others)
        self.of[first] = (index, self._scratch[index])
        self._scratch[index] = 0.0
        nobody = index[:0]
        self.of[second] = (nobody, np.zeros(0))
