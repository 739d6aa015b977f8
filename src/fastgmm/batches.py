"""Rows of a fit in batches, each row once per epoch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import numpy as np

from .blocks import ArrayData
from .sources import Data, StreamedData


class Batches:
    """All rows of the data in batches, once per epoch.

    Of rows in memory each batch of a shuffled epoch takes one row of every so many: rows are cut into strata
    of as many rows as there are batches, and the j-th batch takes row (j + chance) mod n of each. Each row is
    in one batch, each batch is spread over all rows, also where these are sorted or come from a picture, and
    nothing is kept that grows with their number, as a permutation would. Rows that are read part by part are
    treated so within each part. Rows of weight 0 are as good as not there.
    """

    def __init__(
        self, data: Data, batch_size: int, shuffle: bool, random_state: np.random.RandomState
    ) -> None:
        self.data, self.batch_size = data, batch_size
        self.shuffle, self.random_state = shuffle, random_state
        if isinstance(data, StreamedData):
            assert data.parts_seen is not None
            sizes = [size.n_positive for size in data.parts_seen]
        else:
            sizes = [data.n_positive]
        self.n_batches = sum(self._n_of(size) for size in sizes)
        self.mean_weight = data.total_weight / self.n_batches

    def _n_of(self, n_rows: int) -> int:
        return -(-n_rows // self.batch_size)

    def epoch(self) -> Iterator[ArrayData]:
        """Batches of positive weight."""
        if isinstance(self.data, ArrayData):
            yield from self._of_part(self.data)
            return
        assert isinstance(self.data, StreamedData)
        with closing(self.data.parts()) as parts:
            for part in parts:
                yield from self._of_part(part)

    def _of_part(self, part: ArrayData) -> Iterator[ArrayData]:
        n_rows, n = part.n_positive, self._n_of(part.n_positive)
        if n <= 1:
            yield from [part] * n
            return
        weight, positive = part.sample_weight, part.positive_rows()
        n_strata = -(-n_rows // n)
        chance = self.random_state.randint(0, n, size=n_strata) if self.shuffle else None
        bounds = np.linspace(0, n_rows, n + 1).astype(np.int64)
        for j in range(n):
            rows: Any = slice(bounds[j], bounds[j + 1])
            if chance is not None:
                rows = np.arange(0, n_strata * n, n) + (j + chance) % n
                rows = rows[: n_strata - 1 + int(rows[-1] < n_rows)]  # the last stratum may be cut short
            if positive is not None:
                rows = positive[rows]
            yield ArrayData(part.X[rows], None if weight is None else weight[rows])
