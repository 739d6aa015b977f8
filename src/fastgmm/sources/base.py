"""What a source of rows is: blocks of rows, read as often as wanted, in the same order each time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .._typing import FloatArray, RowArray

# Rows are computed on in parts of about this many bytes: large beside what a pass costs whatever its rows,
# small beside memory. Smaller blocks are put together until they have SMALLEST_PART.
PART_BYTES, SMALLEST_PART = 64 << 20, 8 << 20
# So many parts are in memory at a time: one is computed on, one waits, one is being read.
PARTS_ALIVE = 3


class Block(NamedTuple):
    """Some rows, their weights (None: 1 each), and where they come from, for messages.

    `place` names rows as in "row 5 of block 2": it is a name of the block, and `first` is what its first row
    is counted as.
    """

    X: RowArray
    sample_weight: FloatArray | None
    place: str
    first: int = 0


class Source(ABC):
    """Rows that need not be in memory together.

    A source says how its rows are read; StreamedData checks what it reads and computes on it. It may be asked
    for its blocks in a thread of their own, once per pass.
    """

    feature_names: NDArray[np.object_] | None = None
    """Names of the features where the source has them, and all are strings."""

    n_rows: int | None = None
    """Number of rows, where it is known without reading them."""

    @property
    def paths(self) -> list[str]:
        """Files that rows are read from."""
        return []

    @abstractmethod
    def blocks(self) -> Iterator[Block]:
        """All rows from the first on.

        The memory of a block of SMALLEST_PART bytes or more may be written to again as soon as PARTS_ALIVE
        more blocks of that size have been asked for; that of a smaller one, which is copied, as soon as the
        next block is. (Small ones do not count, as any number of them may be read while a large one is in
        use.)
        """

    def open(self, n_threads: int) -> Any:
        """The rows for a fit or another look at all of them: StreamedData, or what has its interface."""
        return self.open_here(n_threads)

    def open_here(self, n_threads: int) -> Any:
        """The rows, part by part, in this process: StreamedData."""
        from .streamed import StreamedData  # which needs this file

        return StreamedData(self, n_threads)


def rows_per_part(row_bytes: int) -> int:
    """Rows of a part of PART_BYTES, a multiple of 4096."""
    return max(1, PART_BYTES // (4096 * row_bytes)) * 4096


def check_feature_names(found: NDArray[np.object_] | None, expected: NDArray[np.object_] | None) -> None:
    """Refuse rows whose features have other names than those of the fit; either may have none."""
    if expected is not None and found is not None and list(found) != list(expected):
        raise ValueError(
            "The feature names should match those that were passed during fit, in the same order: "
            f"{list(expected)[:5]} then, {list(found)[:5]} now (up to five are shown)."
        )
