"""A uniform sample of rows that come one after the other."""

from __future__ import annotations

import numpy as np

from .._typing import FloatArray
from ..blocks import ArrayData


class Reservoir:
    """So many rows, each set of them as likely as any other, of all rows of positive weight that were added.

    Each row has a key drawn from uniform(0, 1), and those of the smallest keys are kept (Vitter 1985 and Fan,
    Muller and Rezucha 1962 have the idea). Keys are drawn of rows only that may be kept: how many of n have a
    key below the largest one kept is binomial, and which ones is a matter of chance.

    Reservoirs that are to be merged need no row whose key is above `limit`, where that leaves enough of them
    all together.
    """

    def __init__(self, size: int, random_state: np.random.RandomState, limit: float = 1.0) -> None:
        self.size, self.random_state, self.limit = size, random_state, limit
        self.keys: FloatArray = np.empty(0)
        self.X: FloatArray | None = None
        self.weight: FloatArray = np.empty(0)

    def add(self, part: ArrayData) -> None:
        """More rows."""
        full = self.keys.size == self.size
        limit = float(self.keys.max()) if full else self.limit
        n = part.n_positive
        n_drawn = int(self.random_state.binomial(n, limit)) if limit < 1.0 else n
        if n_drawn == 0:
            return
        places = np.sort(_distinct(n, n_drawn, self.random_state))
        keys = limit * self.random_state.random_sample(n_drawn)
        positive = part.positive_rows()
        rows = places if positive is None else positive[places]
        weight = np.ones(n_drawn) if part.sample_weight is None else part.sample_weight[rows]
        self._keep(keys, np.asarray(part.X[rows], dtype=np.float64), weight)

    def merge(self, other: Reservoir) -> None:
        """Rows that another reservoir of the same size was given."""
        if other.X is not None:
            self._keep(other.keys, other.X, other.weight)

    def _keep(self, keys: FloatArray, X: FloatArray, weight: FloatArray) -> None:
        if self.X is not None:
            keys = np.concatenate([self.keys, keys])
            X, weight = np.concatenate([self.X, X]), np.concatenate([self.weight, weight])
        if keys.size > self.size:
            kept = np.sort(np.argpartition(keys, self.size - 1)[: self.size])
            keys, X, weight = keys[kept], X[kept], weight[kept]
        self.keys, self.X, self.weight = keys, X, weight

    def rows(self) -> ArrayData:
        """The sample; weights only where they are not all 1."""
        assert self.X is not None
        return ArrayData(self.X, None if (self.weight == 1.0).all() else self.weight)


def _distinct(n: int, size: int, random_state: np.random.RandomState) -> np.ndarray:
    """Different numbers below n, each set of them as likely as any other."""
    if 3 * size >= n:
        return random_state.permutation(n)[:size]
    drawn = np.unique(random_state.randint(0, n, size=size + size // 8 + 8))
    while drawn.size < size:  # only where chance has it: too many of them were equal
        drawn = np.unique(np.concatenate([drawn, random_state.randint(0, n, size=size)]))
    return random_state.permutation(drawn)[:size]
