"""Rows on the workers of a Dask cluster, as the loop knows data: a survey, a frame, passes (docs/cluster.md).

The rows stay where they are. A pass is one task per partition, in the worker that holds it, and a tree of
additions; parameters go out once and the sum of all Statistics comes back. What tasks do is in workers.py.
"""

from __future__ import annotations

import threading
from asyncio import CancelledError as AsyncCancelledError
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from time import sleep
from typing import Any
from uuid import uuid4

import dask
import numpy as np
from dask.delayed import delayed
from distributed import Client, Future, KilledWorker, wait
from numpy.typing import NDArray

from . import workers
from ._typing import FloatArray
from .blocks import ArrayData, Sizes
from .collector import Request, Setting
from .frame import Frame, make_frame
from .scorer import Scorer
from .sources.base import check_feature_names
from .sources.dask_rows import NOT_MADE_AGAIN, DaskRows, place_of
from .statistics import Statistics

# Results are added this many at a time, by number of partition. A larger tree would have more of them wait
# for the slowest, a smaller one more tasks.
FAN_IN = 8
# How often a waiting pass looks whether the workers are still there, in seconds.
LOOK_EVERY = 1.0
# A pass that workers leave is begun anew so many times. One that ends them itself, for want of memory, would
# be begun for ever: Dask's own count of a task's victims starts afresh with the tasks.
MOST_TRIES = 10
# Rows drawn by all partitions are so many standard deviations more than are wanted: fewer than wanted come
# out once in 1e9 times.
SAFETY = 6.0
# Parameters travel in a task of their own, so that they can be made again; Dask warns above 10 MB.
LARGEST_PARAMETERS = "1 GiB"
# Dask's configuration is the process's: of two fits at a time one would put back what the other had set.
_config_lock = threading.Lock()

_LOST = (CancelledError, AsyncCancelledError, KilledWorker)


class _WorkerLeft(Exception):
    """A worker that has partitions is gone, and tasks wait for it."""


class DaskData:
    """Partitions on a cluster, for a fit and for whatever else goes over all of them.

    Parameters
    ----------
    rows : DaskRows
    client : distributed.Client
    """

    def __init__(self, rows: DaskRows, client: Client) -> None:
        self.rows, self.client = rows, client
        self.n_features = 0
        self.n_rows = self.n_positive = 0
        self.total_weight = 0.0
        self.is_single = False
        self.mean: FloatArray | None = None
        self.spread: FloatArray | None = None
        self.seeds: ArrayData
        self.parts: list[Future] = []
        self.weights: list[Future | None] = []
        self.numbers: list[int] = []  # of partitions with rows of positive weight: those that passes go over
        self.sizes: dict[int, Sizes] = {}
        self.homes: dict[str, list[int]] = {}  # numbers by address of the worker that computes on them
        self._collector: DaskCollector | None = None

    def expect(self, n_features: int, names: NDArray[np.object_] | None = None) -> None:
        """Refuse rows of other features than these."""
        self.n_features = n_features
        check_feature_names(self.rows.feature_names, names)

    # ---- what a fit needs to know beforehand ---------------------------------------------------------------

    def survey(self, n_seeds: Callable[[int], int], random_state: np.random.RandomState) -> None:
        """Have all partitions made, checked, counted and measured on their workers, and draw some rows.

        n_seeds says how many, of the number of features.
        """
        try:
            self._survey(n_seeds, random_state)
        except BaseException:
            self.close()  # errors are kept, and with them all that was at hand
            raise

    def _survey(self, n_seeds: Callable[[int], int], random_state: np.random.RandomState) -> None:
        client, n = self.client, len(self.rows.parts)
        places = [place_of(number) for number in range(n)]
        self.parts, self.weights = self._persisted()
        looked = client.map(
            workers.survey_part, self.parts, self.weights, range(n), places, key="fastgmm-survey", pure=False
        )
        found: workers.PartSurvey = self._finish(looked, workers.add_surveys)
        survey = found.survey
        survey.check()
        self.n_rows, self.n_positive, self.n_features = survey.n_rows, survey.n_positive, survey.n_features
        self.is_single, self.total_weight = survey.is_single, survey.weight
        self.mean, self.spread = survey.mean, survey.spread
        self.sizes = found.sizes
        self.numbers = [number for number in range(n) if found.sizes[number].n_positive]
        if found.foreign:  # frames and the like: once, not in each pass
            originals = [self.parts[number] for number in found.foreign]
            names = [places[number] for number in found.foreign]
            arrays = client.map(workers.as_array, originals, names, key="fastgmm-rows", pure=False)
            for number, array in zip(found.foreign, arrays):
                self.parts[number] = array
        self.seeds = self._drawn(n_seeds(self.n_features), int(random_state.randint(2**31 - 1 - n)), places)
        self.seeds.stands_for = self.n_positive
        self._find_homes()

    def _persisted(self) -> tuple[list[Future], list[Future | None]]:
        """Partitions of rows and weights on the cluster, one future each."""
        rows = self.rows
        wanted = [*rows.parts, *(rows.weights or [])]
        lazy = [item for item in wanted if not isinstance(item, Future)]
        made = iter(self.client.compute(lazy) if lazy else [])
        futures = [item if isinstance(item, Future) else next(made) for item in wanted]
        n = len(rows.parts)
        return futures[:n], list(futures[n:]) if rows.weights is not None else [None] * n

    def _drawn(self, size: int, seed: int, places: list[str]) -> ArrayData:
        """A sample of all rows: each partition draws what may belong to it."""
        limit = min(1.0, (size + SAFETY * np.sqrt(size) + SAFETY**2) / self.n_positive)
        each = [
            [values[number] for number in self.numbers]
            for values in (self.parts, self.weights, range(len(places)))
        ]
        drawn = self.client.map(
            workers.draw_rows, *each, [places[number] for number in self.numbers],
            size=size, seed=seed, limit=limit, key="fastgmm-draw", pure=False,
        )  # fmt: skip
        rows: ArrayData = self._finish(drawn, workers.merge_reservoirs).rows()
        return rows

    def frame(self, n_threads: int, common_scale: bool = False) -> Frame:
        """Frame of the data, as surveyed."""
        return make_frame(*self.moments(n_threads), common_scale)

    def moments(self, n_threads: int) -> tuple[FloatArray, FloatArray]:
        """Weighted mean and standard deviation per feature, as surveyed."""
        assert self.mean is not None
        assert self.spread is not None
        return self.mean, self.spread

    # ---- passes --------------------------------------------------------------------------------------------

    def collector(self, setting: Setting) -> DaskCollector:
        """Who makes passes over all partitions; the one before is done with."""
        self._free()
        self._collector = DaskCollector(self, setting)
        return self._collector

    def close(self) -> None:
        """Let go of the partitions, and of what workers keep between passes."""
        self._free()
        self.parts, self.weights = [], []

    def _free(self) -> None:
        if self._collector is not None:
            self._collector.free()
            self._collector = None

    def collect(self, order: workers.Order) -> Statistics:
        """One pass over all partitions, each in the worker that has it.

        Should one of these leave, the pass is made again: on workers that have its partitions then.
        """
        for _ in range(MOST_TRIES):
            try:
                with _large_parameters():
                    ready = self.client.submit(_itself, order, key=f"fastgmm-order-{uuid4().hex}", pure=False)
                done: dict[int, Future] = {}
                for home, numbers in self.homes.items():
                    futures = self.client.map(
                        workers.collect_part,
                        [self.parts[number] for number in numbers],
                        [self.weights[number] for number in numbers],
                        numbers,
                        [place_of(number) for number in numbers],
                        [self.sizes[number] for number in numbers],
                        [ready] * len(numbers),
                        workers=[home],
                        key="fastgmm-pass",
                        pure=False,
                    )
                    done.update(zip(numbers, futures))
                in_order = [done[number] for number in self.numbers]
                statistics: Statistics = self._finish(in_order, workers.add_in_order, self._check_homes)
                return statistics
            except _WorkerLeft:
                self._find_homes()
        raise RuntimeError(
            f"Workers left {MOST_TRIES} times during one pass over X. If that ended them, their memory may "
            "be too small: use smaller partitions, fewer components or more memory."
        )

    def _find_homes(self) -> None:
        """Which worker computes on which partitions: one that has them, or as few as any other."""
        futures = [self.parts[number] for number in self.numbers]
        self._explained(partial(wait, futures))
        holders = self.client.who_has(futures)
        while not (there := list(self.client.nthreads())):  # all have left since then; others may come
            sleep(LOOK_EVERY)
        homes: dict[str, list[int]] = {}
        for number in self.numbers:
            addresses = holders.get(self.parts[number].key) or there
            home = min(addresses, key=lambda address: (len(homes.get(address, ())), address))
            homes.setdefault(home, []).append(number)
        self.homes = homes

    def _check_homes(self) -> None:
        if not set(self.homes) <= set(self.client.nthreads()):
            raise _WorkerLeft

    def _finish(
        self, futures: list[Future], add: Callable[[list[Any]], Any], while_waiting: Callable[[], Any] = int
    ) -> Any:
        """The sum of all results, added along a fixed tree on the workers; nothing goes on after an error."""
        submitted = list(futures)
        try:
            level = futures
            while len(level) > 1:
                groups = [level[first : first + FAN_IN] for first in range(0, len(level), FAN_IN)]
                level = self.client.map(add, groups, key="fastgmm-add", pure=False)
                submitted += level
            return self._explained(partial(_result, level[0], while_waiting))
        except BaseException:  # Ctrl-C too
            with suppress(Exception):
                self.client.cancel(submitted, force=True)
            raise

    def _explained(self, action: Callable[[], Any]) -> Any:
        """What the action returns; says which partition is lost where that is why it fails."""
        try:
            return action()
        except _LOST as error:
            raise self._loss(error) from error

    def _loss(self, error: BaseException) -> RuntimeError:
        gone = ("cancelled", "lost", "error")
        watched = self.parts or [part for part in self.rows.parts if isinstance(part, Future)]
        lost = [number for number, part in enumerate(watched) if part.status in gone]
        lost += [n for n, weight in enumerate(self.weights) if weight is not None and weight.status in gone]
        if isinstance(error, KilledWorker):
            reason = (
                f"workers ended several times while they computed on it ({error}). Their memory may be too "
                "small: use smaller partitions or more memory."
            )
        else:
            reason = NOT_MADE_AGAIN
        numbers = ", ".join(map(str, sorted(set(lost))[:8]))
        which = f"X has lost partition {numbers}" if lost else "X has lost a partition"
        return RuntimeError(f"{which}: {reason}")

    # ---- sums over rows ------------------------------------------------------------------------------------

    def accumulate(self, pass_over: Callable[[ArrayData], Statistics]) -> Statistics:
        """Statistics of all rows, added along the tree; partitions are let go as they are done."""
        statistics: Statistics = self._sum(workers.accumulate_part, workers.add_in_order, pass_over)
        return statistics

    def summary(self, scorer: Scorer) -> tuple[float, float, float]:
        """Sums over rows: of w log p, of w log max_k r_k, of w. Partitions are let go as they are done."""
        sums = self._sum(workers.summarise_part, workers.add_in_order, scorer)
        return float(sums[0]), float(sums[1]), float(sums[2])

    def _sum(self, look: Callable[..., Any], add: Callable[[list[Any]], Any], how: Any) -> Any:
        """The sum of what look(part, weight, place, how) returns of all partitions."""
        rows = self.rows
        if rows.n_features is not None and rows.n_features != self.n_features:
            raise ValueError(f"X has {rows.n_features} features, but {self.n_features} are expected.")
        ready, look, add = delayed(how, pure=False), delayed(look, pure=False), delayed(add, pure=False)
        weights = rows.weights or [None] * len(rows.parts)
        level = [
            look(part, weight, place_of(number), ready)
            for number, (part, weight) in enumerate(zip(rows.parts, weights))
        ]
        while len(level) > 1:
            level = [add(level[first : first + FAN_IN]) for first in range(0, len(level), FAN_IN)]
        with _large_parameters():
            root = self.client.compute(level[0])
        try:
            return self._explained(root.result)
        except BaseException:
            with suppress(Exception):
                self.client.cancel([root], force=True)
            raise


@contextmanager
def _large_parameters() -> Iterator[None]:
    """No warning of Dask's about the size of parameters."""
    threshold = {"distributed.admin.large-graph-warning-threshold": LARGEST_PARAMETERS}
    with _config_lock, dask.config.set(threshold):
        yield


def _itself(order: workers.Order) -> workers.Order:
    return order


def _result(future: Future, while_waiting: Callable[[], Any]) -> Any:
    """The result of a future; looks around now and then."""
    while not future.done():
        with suppress(TimeoutError):
            wait([future], timeout=LOOK_EVERY)
            break
        while_waiting()
    return future.result()


class DaskCollector:
    """Passes over all partitions; what makes the next one faster is kept by the workers."""

    def __init__(self, data: DaskData, setting: Setting) -> None:
        self.data, self.setting = data, setting
        self.single = setting.arithmetic == "float32" and data.is_single
        self.fit, self.n_passes = uuid4().hex, 0

    def rebuild(self) -> None:
        """Forget all that is known of partitions."""
        self.free()
        self.fit, self.n_passes = uuid4().hex, 0

    def free(self) -> None:
        """Have the workers forget it."""
        if self.n_passes:
            with suppress(Exception):  # workers on their way out have nothing to free
                self.data.client.run(workers.forget_fit, self.fit, on_error="ignore")

    def collect(self, request: Request) -> Statistics:
        """One pass over all partitions."""
        structure, frame, n_components, _, arithmetic = self.setting
        self.n_passes += 1
        order = workers.Order(
            self.fit, self.n_passes, structure.name, frame, n_components, arithmetic,
            request._replace(score_map=None, single_map=None), in_single=request.single_map is not None,
            n_positive=self.data.n_positive,
        )  # fmt: skip
        statistics = self.data.collect(order)
        # partitions without rows of positive weight are not visited
        return replace(statistics, n_rows=self.data.n_rows)
