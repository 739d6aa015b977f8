"""Rows that are read block by block: checked, surveyed once, and computed on part by part."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from .._typing import FloatArray
from .._validation import check_block, check_block_weight, check_largest_weight
from ..blocks import SAFE_SPREAD, ArrayData, Sizes
from ..collector import ArrayCollector, Request, Setting
from ..frame import Frame, make_frame
from ..kernels._pass import Workspace
from ..statistics import Statistics
from .base import SMALLEST_PART, Block, Source, rows_per_part
from .prefetch import prefetched
from .reservoir import Reservoir

# What all parts together may keep between passes, so that the next ones can skip what does not matter: some
# 5 bytes a row. Parts beyond that are computed in full each time.
BOUNDS_BYTES = 256 << 20


class StreamedData:
    """Rows of a source, for a fit and for whatever else goes over all of them in order."""

    def __init__(self, source: Source, n_threads: int) -> None:
        self.source, self.n_threads = source, n_threads
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
        found = self.source.feature_names
        if names is not None and found is not None and list(found) != list(names):
            raise ValueError(
                "The feature names should match those that were passed during fit, in the same order: "
                f"{list(names)[:5]} then, {list(found)[:5]} now (up to five are shown)."
            )

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
        pending: list[tuple[FloatArray, FloatArray | None]] = []
        pending_bytes = 0
        for block in self.source.blocks():
            X, weight = self._checked(block)
            if not len(X):
                continue
            n = rows_per_part(X.shape[1] * X.itemsize)
            if X.nbytes < SMALLEST_PART:
                pending.append((X, weight))
                pending_bytes += X.nbytes
                if pending_bytes < SMALLEST_PART:
                    continue
                yield _together(pending)
                pending, pending_bytes = [], 0
                continue
            if pending:
                yield _together(pending)
                pending, pending_bytes = [], 0
            for first in range(0, len(X), n):
                rows = slice(first, first + n)
                yield ArrayData(X[rows], None if weight is None else weight[rows])
        if pending:
            yield _together(pending)

    def _checked(self, block: Block) -> tuple[FloatArray, FloatArray | None]:
        """Rows and weights of a block; numbers are looked at the first time only."""
        X = check_block(block.X, block.place, block.first, look=self.parts_seen is None)
        if not self.n_features:
            self.n_features = X.shape[1]
        if X.shape[1] != self.n_features:
            where = f" in {block.place}" if block.place else ""
            raise ValueError(f"X has {X.shape[1]} features{where}, but {self.n_features} are expected.")
        weight = block.sample_weight
        if weight is not None:
            weight = check_block_weight(weight, len(X), block.place, block.first)
        return X, weight

    # ---- what a fit needs to know beforehand ---------------------------------------------------------------

    def survey(self, n_seeds: Callable[[int], int], random_state: np.random.RandomState) -> None:
        """Read all rows once: check and count them, measure where they lie, and draw some of them.

        n_seeds says how many, of the number of features.

        Moments of parts, each about its own mean, are put together as Chan, Golub and LeVeque (1983) do.
        """
        reservoir: Reservoir | None = None
        weight, largest = 0.0, 0.0
        mean = spread = np.empty(0)
        with closing(self.parts()) as parts, np.errstate(over="ignore", invalid="ignore"):
            for part in parts:
                self.n_rows += part.n_rows
                self.n_positive += part.n_positive
                self.is_single &= part.X.dtype == np.float32
                if part.n_positive == 0:
                    continue
                if part.sample_weight is not None:
                    largest = max(largest, float(part.sample_weight.max()))
                if reservoir is None:
                    reservoir = Reservoir(n_seeds(self.n_features), random_state)
                reservoir.add(part)
                part_mean, part_spread = part.moments(self.n_threads)
                if weight == 0.0:
                    mean, spread = part_mean, part_spread
                else:
                    share = part.total_weight / (weight + part.total_weight)
                    move = part_mean - mean
                    mean = mean + share * move
                    between = np.sqrt(share * (1.0 - share)) * np.abs(move)
                    spread = np.hypot(
                        np.hypot(np.sqrt(1.0 - share) * spread, np.sqrt(share) * part_spread), between
                    )
                weight += part.total_weight
        if self.n_rows == 0:
            raise ValueError("X has no rows: 2 or more are needed for a fit.")
        check_largest_weight(weight, largest)
        if not (spread <= SAFE_SPREAD).all():
            i = int(np.argmax(~(spread <= SAFE_SPREAD)))
            raise ValueError(
                f"Input X has values so far apart in column {i} that variances would be too large for "
                "dtype('float64'). Rescale X."
            )
        self.total_weight = weight
        self.mean, self.spread = mean, spread
        assert reservoir is not None
        self.seeds = reservoir.rows()

    def frame(self, n_threads: int, common_scale: bool = False) -> Frame:
        """Frame of the data, as surveyed."""
        assert self.mean is not None
        assert self.spread is not None
        return make_frame(self.mean, self.spread, common_scale)

    def collector(self, setting: Setting) -> PartsCollector:
        """Who makes passes over all parts."""
        return PartsCollector(self, setting)


def _changed(what: str) -> ValueError:
    return ValueError(
        f"X gives other rows than when it was read first: {what}. A source must give the same rows in the "
        "same order each time it is read."
    )


def _together(blocks: list[tuple[FloatArray, FloatArray | None]]) -> ArrayData:
    """One part of several blocks."""
    if len(blocks) == 1:
        return ArrayData(*blocks[0])
    X = np.concatenate([rows for rows, _ in blocks])
    if all(weight is None for _, weight in blocks):
        return ArrayData(X)
    weights = [np.ones(len(rows)) if weight is None else weight for rows, weight in blocks]
    return ArrayData(X, np.concatenate(weights))


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
        structure, frame, _, n_threads, _ = self.setting
        if request.score_map is None:
            score_map = structure.score_map(request.parameters, frame, n_threads, request.n_active)
            request = request._replace(score_map=score_map)
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
