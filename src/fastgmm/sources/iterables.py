"""Rows in blocks that the user makes: a list of arrays or frames, or an object that can be iterated again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from .base import Block, Source


class BlockRows(Source):
    """Rows that come in blocks: arrays or frames of the same columns.

    Parameters
    ----------
    blocks : iterable, or callable that returns one
        Gives the blocks, each time it is iterated (called) the same ones in the same order: a list, an object
        whose ``__iter__`` starts anew, or a generator function. A block is array-like of shape
        (n_rows, n_features), or, with `weighted`, a pair of such a block and the weights of its rows. Blocks
        are asked for in a thread of their own, ahead of their use: a block must not be written to after it
        was given, as by a reader that fills the same array again and again. Yield copies there; a large block
        that has changed is refused.
    weighted : bool, default=False
        Whether blocks are pairs (X, sample_weight).

    Raises
    ------
    TypeError
        For an iterator, which can be read only once.

    Examples
    --------
    >>> import numpy as np
    >>> from fastgmm import BlockRows, GaussianMixture
    >>> def blocks():
    ...     for seed in range(3):
    ...         yield np.random.default_rng(seed).normal(size=(1000, 2))
    >>> mixture = GaussianMixture(random_state=0).fit(BlockRows(blocks))
    >>> bool(np.allclose(mixture.means_, 0, atol=0.1))
    True
    """

    def __init__(
        self, blocks: Iterable[Any] | Callable[[], Iterable[Any]], *, weighted: bool = False
    ) -> None:
        if isinstance(blocks, Iterator):
            raise TypeError(
                f"X is a {type(blocks).__name__}, which can be read only once, and a fit reads its rows many "
                "times. Pass what makes it: the generator function itself, a list of blocks, or an object "
                "whose __iter__ starts anew."
            )
        self._blocks, self._weighted = blocks, weighted

    def blocks(self) -> Iterator[Block]:
        """The blocks, as they come."""
        blocks = self._blocks() if callable(self._blocks) else self._blocks
        for number, block in enumerate(blocks):
            weight = None
            if self._weighted:
                if not (isinstance(block, tuple) and len(block) == 2):
                    raise TypeError(
                        f"Block {number} should be a pair (X, sample_weight), got {type(block).__name__}."
                    )
                block, weight = block
                weight = np.ascontiguousarray(weight, dtype=np.float64)
            yield Block(block, weight, f"block {number}")
