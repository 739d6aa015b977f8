"""Memory-mapped arrays, read part by part where they lie."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .._typing import FloatArray, RowArray
from .base import PART_BYTES, Block, Source, rows_per_part
from .files import files_of

# Mapped arrays up to this size are taken as arrays in memory: rows may then be visited in any order.
LARGEST_AT_ONCE = 4 * PART_BYTES
# A page of memory at least; one number of each is read to have it there.
PAGE = 4096


class MappedRows(Source):
    """Rows of a memory-mapped array.

    The reading thread touches each page of a part, so that the system has read the part from disk when the
    pass comes to it. Nothing is copied.
    """

    def __init__(self, X: RowArray, sample_weight: FloatArray | None = None) -> None:
        self.X, self.sample_weight = X, sample_weight
        self.n_rows = len(X)

    @property
    def paths(self) -> list[str]:
        """The file."""
        return files_of(self.X)

    def blocks(self) -> Iterator[Block]:
        """Parts of the array, in order."""
        n = rows_per_part(self.X.shape[1] * self.X.itemsize)
        for first in range(0, len(self.X), n):
            rows = slice(first, first + n)
            X = self.X[rows]
            touch(X)
            weight = None if self.sample_weight is None else self.sample_weight[rows]
            yield Block(np.asarray(X), weight, "", first)


def touch(X: RowArray) -> None:
    """Read a byte of each page, where the array is in one piece."""
    if X.flags.c_contiguous or X.flags.f_contiguous:
        np.bitwise_or.reduce(X.reshape(-1, order="A").view(np.uint8)[::PAGE])
