"""Parts made of pieces: files give rows in pieces of any size, passes want them in parts of one size."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._typing import FloatArray, RowArray
from .base import PARTS_ALIVE, SMALLEST_PART, Block, rows_per_part

# One part more than may be in use stays untouched: what is written next was given up a part ago.
N_BUFFERS = PARTS_ALIVE + 1


class PartMaker:
    """Puts pieces of rows together to parts that are full but for the last, whatever the pieces.

    So rows are cut at the same places however they are spread over files. Memory for N_BUFFERS parts is
    taken as it is needed and written to in turn, as Source.blocks allows: all parts but the last are of one
    size. Make one for each pass: a reader that is
    late to notice that its pass was given up then writes to memory of its own.

    Parameters
    ----------
    n_features : int
    dtype : float64 or float32
    weighted : bool
        Whether parts have weights.
    n_rows : int or None
        Number of all rows, where it is known: no more memory is taken than they need.
    place : str
        What messages call all rows together (Block.place).
    """

    def __init__(
        self,
        n_features: int,
        dtype: np.dtype[Any],
        *,
        weighted: bool,
        n_rows: int | None = None,
        place: str = "",
    ) -> None:
        self.n_features, self.dtype, self.weighted, self.place = n_features, dtype, weighted, place
        self.size = rows_per_part(n_features * dtype.itemsize)
        if n_rows is not None:
            self.size = max(1, min(self.size, n_rows))
        self.buffers: list[tuple[RowArray, FloatArray | None]] = []
        self.number = self.first = self.filled = 0

    def room(self) -> tuple[RowArray, FloatArray | None]:
        """Where the next rows, and their weights, are to be written: at most so many."""
        turn = self.number % N_BUFFERS
        if turn == len(self.buffers):
            X = np.empty((self.size, self.n_features), self.dtype)
            self.buffers.append((X, np.empty(self.size) if self.weighted else None))
        X, weight = self.buffers[turn]
        return X[self.filled :], None if weight is None else weight[self.filled :]

    def add(self, n_rows: int) -> Block | None:
        """So many rows have been written; the part, where it is full now."""
        self.filled += n_rows
        return self.rest() if self.filled == self.size else None

    def rest(self) -> Block | None:
        """What has been written, None where nothing has."""
        if not self.filled:
            return None
        X, weight = self.buffers[self.number % N_BUFFERS]
        weight = None if weight is None else weight[: self.filled]
        block = Block(X[: self.filled], weight, self.place, self.first)
        self.first += self.filled
        self.number += 1
        self.filled = 0
        return block


class SmallBlocks:
    """Blocks too small to be worth a pass of their own, copied to one piece of memory as they come.

    Copied, as any number of them is asked for before they are used, and sources have few buffers
    (Source.blocks).
    """

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Begin anew, in other memory."""
        self.n_rows = self.n_bytes = 0
        self.X: RowArray | None = None
        self.weight: FloatArray | None = None

    def add(self, X: RowArray, weight: FloatArray | None) -> None:
        """One more block."""
        n = self.n_rows + len(X)
        if self.X is None or n > len(self.X) or self.X.dtype != np.result_type(self.X, X):
            self._grow(n, X)
        assert self.X is not None
        self.X[self.n_rows : n] = X
        if weight is not None and self.weight is None:
            self.weight = np.ones(len(self.X))
        if self.weight is not None:
            self.weight[self.n_rows : n] = 1.0 if weight is None else weight
        self.n_rows = n
        self.n_bytes = n * X.shape[1] * self.X.itemsize

    def _grow(self, n_rows: int, X: RowArray) -> None:
        """Room for more rows than these: at least twice as many as before, so that few are copied twice."""
        dtype = X.dtype if self.X is None else np.result_type(self.X, X)
        size = max(2 * n_rows, SMALLEST_PART // (X.shape[1] * dtype.itemsize))
        grown = np.empty((size, X.shape[1]), dtype)
        if self.X is not None:
            grown[: self.n_rows] = self.X[: self.n_rows]
        if self.weight is not None:
            weight = np.ones(size)
            weight[: self.n_rows] = self.weight[: self.n_rows]
            self.weight = weight
        self.X = grown

    def take(self) -> tuple[RowArray, FloatArray | None]:
        """All of them as one, and begin anew."""
        assert self.X is not None
        weight = None if self.weight is None else self.weight[: self.n_rows]
        X = self.X[: self.n_rows]
        self.forget()
        return X, weight
