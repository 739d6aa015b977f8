"""Rows that are read block by block: checked, surveyed once, and computed on part by part."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from .._typing import FloatArray
from .._validation import check_block, check_block_weight, check_largest_weight, column_names
from ..blocks import ArrayData, Sizes
from ..collector import ArrayCollector, Request, Setting
from ..frame import Frame, make_frame
from ..kernels._pass import LOG_LIKELIHOOD, LOG_MAX, Workspace
from ..scorer import Scorer
from ..statistics import Statistics
from .base import SMALLEST_PART, Block, Source, check_feature_names, rows_per_part
from .parts import SmallBlocks
from .prefetch import prefetched
from .reservoir import Reservoir
from .survey import Survey
from .watched import WatchedBlocks

# What all parts together may keep between passes, so that the next ones can skip what does not matter: some
# 5 bytes a row. Parts beyond that are computed in full each time.
BOUNDS_BYTES = 256 << 20


class StreamedData:
    """Rows of a source, for a fit and for whatever else goes over all of them in order."""

    def __init__(self, source: Source, n_threads: int) -> None:
        self.source, self.n_threads = source, n_threads
        self.feature_names = source.feature_names  # else those of the first frame among the blocks
        self.parts_seen: list[Sizes] | None = None  # once all have been checked
        self.n_features: int = 0
        self.n_rows = self.n_positive = 0
        self.total_weight = 0.0
        self.is_single = True  # float32 throughout
        self.mean: FloatArray | None = None
        self.spread: FloatArray | None = None
        self.seeds: ArrayData
        # told (number, number of all where known, rows) of each part that is done with
        self.on_part: Callable[[int, int | None, int], None] | None = None

    def expect(self, n_features: int, names: NDArray[np.object_] | None = None) -> None:
        """Refuse rows of other features than these."""
        self.n_features = n_features
        check_feature_names(self.feature_names, names)
        if names is not None:
            self.feature_names = names

    # ---- parts ---------------------------------------------------------------------------------------------

    def parts(self) -> Generator[ArrayData, None, None]:
        """All rows in order, a part at a time; the next one is read meanwhile.

        Raises
        ------
        ValueError
            For rows that are not valid, and where they are not those of the last time.
        """
        sizes: list[Sizes] = []
        with closing(prefetched(self._checked_parts())) as parts:
            for part in parts:
                sizes.append(part.sizes)
                if self.parts_seen is not None and (
                    len(sizes) > len(self.parts_seen) or sizes[-1] != self.parts_seen[len(sizes) - 1]
                ):
                    raise _changed(f"part {len(sizes) - 1} now has {part.n_rows} rows")
                yield part
                if self.on_part is not None:
                    n_parts = None if self.parts_seen is None else len(self.parts_seen)
                    self.on_part(len(sizes) - 1, n_parts, part.n_rows)
        if self.parts_seen is not None and len(sizes) != len(self.parts_seen):
            raise _changed(f"it now has {sum(size.n_rows for size in sizes)} rows")
        self.parts_seen = sizes

    def _checked_parts(self) -> Iterator[ArrayData]:
        """Blocks, checked, small ones put together and large ones cut."""
        small, watched = SmallBlocks(), WatchedBlocks()
        for block in self.source.blocks():
            watched.compare()
            X, weight = self._checked(block)
            if not len(X):
                continue
            if X.nbytes < SMALLEST_PART:
                small.add(X, weight)
                if small.n_bytes >= SMALLEST_PART:
                    yield ArrayData(*small.take())
                continue
            if small.n_rows:
                yield ArrayData(*small.take())
            watched.add(X, weight, block.place or "X")
            n = rows_per_part(X.shape[1] * X.itemsize)
            for first in range(0, len(X), n):
                rows = slice(first, first + n)
                yield ArrayData(X[rows], None if weight is None else weight[rows])
        watched.compare()
        if small.n_rows:
            yield ArrayData(*small.take())

    def _checked(self, block: Block) -> tuple[FloatArray, FloatArray | None]:
        """Rows and weights of a block; numbers are looked at the first time only."""
        names = None if self.feature_names is None else list(self.feature_names)
        X = check_block(block.X, block.place, block.first, look=self.parts_seen is None, names=names)
        if not self.n_features:
            self.n_features = X.shape[1]
        if X.shape[1] != self.n_features:
            where = f" in {block.place}" if block.place else ""
            raise ValueError(f"X has {X.shape[1]} features{where}, but {self.n_features} are expected.")
        self._check_names(block)
        weight = block.sample_weight
        if weight is not None:
            weight = check_block_weight(weight, len(X), block.place, block.first)
        return X, weight

    def _check_names(self, block: Block) -> None:
        """Columns of frames have the same names in all blocks; other blocks have none."""
        names = column_names(block.X)
        if self.feature_names is None:
            self.feature_names = names
        elif names is not None and list(names) != list(self.feature_names):
            raise ValueError(
                f"The columns of {block.place} are {list(names)[:5]}, but {list(self.feature_names)[:5]} are "
                "expected (up to five are shown). Give all blocks the same columns in the same order."
            )

    # ---- what a fit needs to know beforehand ---------------------------------------------------------------

    def survey(self, n_seeds: Callable[[int], int], random_state: np.random.RandomState) -> None:
        """Read all rows once: check and count them, measure where they lie, and draw some of them.

        n_seeds says how many, of the number of features.
        """
        reservoir: Reservoir | None = None
        survey = Survey()
        with closing(self.parts()) as parts:
            for part in parts:
                survey.add(part, self.n_threads)
                if part.n_positive == 0:
                    continue
                if reservoir is None:
                    reservoir = Reservoir(n_seeds(self.n_features), random_state)
                reservoir.add(part)
        survey.check()
        self.n_rows, self.n_positive = survey.n_rows, survey.n_positive
        self.is_single = survey.is_single
        self.total_weight = survey.weight
        self.mean, self.spread = survey.mean, survey.spread
        assert reservoir is not None
        self.seeds = reservoir.rows()
        self.seeds.stands_for = self.n_positive

    def frame(self, n_threads: int, common_scale: bool = False) -> Frame:
        """Frame of the data, as surveyed."""
        return make_frame(*self.moments(n_threads), common_scale)

    def moments(self, n_threads: int) -> tuple[FloatArray, FloatArray]:
        """Weighted mean and standard deviation per feature, as surveyed."""
        assert self.mean is not None
        assert self.spread is not None
        return self.mean, self.spread

    def collector(self, setting: Setting) -> PartsCollector:
        """Who makes passes over all parts."""
        return PartsCollector(self, setting)

    def summary(self, scorer: Scorer) -> tuple[float, float, float]:
        """Sums over rows: of w log p, of w log max_k r_k, of w."""
        sums, weight = np.zeros(2), 0.0
        with closing(self.parts()) as parts:
            for part in parts:
                if part.n_positive:
                    if part.sample_weight is not None:
                        check_largest_weight(part.total_weight, float(part.sample_weight.max()))
                    sums += scorer.summary(part)[[LOG_LIKELIHOOD, LOG_MAX]]
                    weight += part.total_weight
        return float(sums[0]), float(sums[1]), weight

    def close(self) -> None:
        """Nothing is kept that outlives this."""


def _changed(what: str) -> ValueError:
    return ValueError(
        f"X gives other rows than when it was read first: {what}. A source must give the same rows in the "
        "same order each time it is read."
    )


class PartsCollector:
    """Passes over all parts, one after the other; their statistics are added in order."""

    def __init__(self, data: StreamedData, setting: Setting) -> None:
        self.data, self.setting = data, setting
        self.single = setting.arithmetic == "float32" and data.is_single
        self.rebuild()

    def rebuild(self) -> None:
        """Forget all that is known of parts."""
        self.parts: dict[int, ArrayCollector] = {}
        self.workspace = Workspace()
        self.bytes_kept = 0

    def collect(self, request: Request) -> Statistics:
        """One pass over all parts."""
        total: Statistics | None = None
        n_rows = 0
        with closing(self.data.parts()) as parts:
            for number, part in enumerate(parts):
                n_rows += part.n_rows
                if part.n_positive:
                    statistics = self._collect_part(number, part, request)
                    total = statistics if total is None else total + statistics
        if total is None:
            raise ValueError("X has no rows of positive weight.")
        return replace(total, n_rows=n_rows)

    def _collect_part(self, number: int, part: ArrayData, request: Request) -> Statistics:
        collector = self.parts.get(number)
        if collector is None:
            collector = self.parts[number] = ArrayCollector(part, self.setting, self.workspace)
            pruning = collector.pruning
            if pruning.possible and self.bytes_kept + pruning.bytes_kept > BOUNDS_BYTES:
                pruning.possible = False
            if pruning.possible:
                self.bytes_kept += pruning.bytes_kept
        collector.data = part
        try:
            statistics = collector.collect(request)
        finally:
            collector.data = None  # the next pass reads it again
        collector.pruning.settle()
        if not np.isfinite(statistics.log_likelihood):
            check_block(part.X, f"part {number}", 0, look=True)
        return statistics
