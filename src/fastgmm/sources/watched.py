"""Whether blocks keep their values for as long as they are used."""

from __future__ import annotations

from collections import deque

import numpy as np

from .._typing import FloatArray, RowArray
from .base import PARTS_ALIVE

# Of each block so many rows are looked at, and so many features of each: evenly spread, with both ends.
ROWS, FEATURES = 32, 8


class WatchedBlocks:
    """Some values of the last blocks, to be compared once others have been read.

    Of a generator that fills the same array again and again a fit would see rows of the next block in the
    place of those of the last one. Only blocks that are used where they lie need be watched, not copies.
    """

    def __init__(self) -> None:
        # A block may be written to again as soon as PARTS_ALIVE more are asked for (Source.blocks).
        self.blocks: deque[tuple[RowArray, FloatArray | None, str, bytes]] = deque(maxlen=PARTS_ALIVE - 1)

    def add(self, X: RowArray, weight: FloatArray | None, place: str) -> None:
        """One more block; the oldest may be written to from now on."""
        self.blocks.append((X, weight, place, _some_values(X, weight)))

    def compare(self) -> None:
        """Refuse blocks that have been written to since they were added."""
        for X, weight, place, before in self.blocks:
            if _some_values(X, weight) != before:
                raise ValueError(
                    f"{place[:1].upper()}{place[1:]} has other values now than when it was given: it was "
                    "written to while it was in use, as by a generator that fills one array again and again. "
                    "Yield copies: yield block.copy()."
                )


def _some_values(X: RowArray, weight: FloatArray | None) -> bytes:
    """Copied; as bytes, because NaN is not equal to itself."""
    rows = _spread(len(X), ROWS)
    values = X[np.ix_(rows, _spread(X.shape[1], FEATURES))].tobytes()
    return values if weight is None else values + weight[rows].tobytes()


def _spread(n: int, most: int) -> np.ndarray:
    return np.unique(np.linspace(0, n - 1, min(n, most)).astype(np.int64))
