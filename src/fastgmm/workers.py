"""What runs on the workers of a Dask cluster: one partition at a time, with all threads of the worker.

A worker keeps, for each fit, what makes the next pass over its partitions faster (collector.ArrayCollector:
the order of rows and bounds of blocks). None of that is needed for the result: what is missing, after a
partition has moved or a worker has been replaced, is made anew.
"""

from __future__ import annotations

import copy
import os
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import reduce
from operator import add
from typing import Any, NamedTuple, TypeVar
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from ._typing import FloatArray
from ._validation import check_block, check_block_weight, check_largest_weight
from .blocks import ArrayData, Sizes, readable
from .collector import ArrayCollector, Request, Setting
from .frame import Frame
from .kernels._pass import LOG_LIKELIHOOD, LOG_MAX, Workspace
from .parameters import Parameters
from .score_map import ScoreMap
from .scorer import Scorer
from .single import SingleMap, single_map
from .sources.reservoir import Reservoir
from .sources.survey import Survey
from .statistics import Statistics
from .structures import STRUCTURES
from .threads import effective_n_threads, single_threaded_blas

T = TypeVar("T")

# A fit frees what it keeps on workers. Should its client end before it can, this many newer fits push it out.
MOST_FITS = 8
# Names of so many fits that have ended are remembered: tasks that were cancelled may still come.
MOST_ENDED = 1000


# ---- threads -----------------------------------------------------------------------------------------------

_turns: ThreadPoolExecutor | None = None
_turns_lock = threading.Lock()


def _the_thread() -> ThreadPoolExecutor:
    """Made by the first task of this process; several may be the first at a time."""
    global _turns
    with _turns_lock:
        if _turns is None:
            _turns = ThreadPoolExecutor(1, thread_name_prefix="fastgmm")
        return _turns


def _after_fork() -> None:
    """A thread does not survive fork(), and a lock may have been held by another one."""
    global _turns, _turns_lock
    _turns, _turns_lock = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def in_turn(work: Callable[..., T], *arguments: Any) -> T:
    """Call work(n_threads, *arguments) in the one thread of this process that computes on rows.

    Dask's threads would each start as many OpenMP threads as the worker has. Here they take turns, and the
    same team of OpenMP threads serves all of them. Outside a worker the number of threads is what
    `n_jobs=None` means.
    """
    worker = this_worker()
    n_threads = effective_n_threads(None if worker is None else worker.state.nthreads)
    return _the_thread().submit(_limited, work, n_threads, *arguments).result()


def _limited(work: Callable[..., T], *arguments: Any) -> T:
    with single_threaded_blas():
        return work(*arguments)


def this_worker() -> Any:
    """The Dask worker that runs this task; None outside of one."""
    distributed = sys.modules.get("distributed")
    if distributed is None:
        return None
    try:
        return distributed.get_worker()
    except ValueError:
        return None


# ---- partitions --------------------------------------------------------------------------------------------


class PartSurvey(NamedTuple):
    """Of some partitions: what the fit needs to know, sizes by number, and which are no arrays of floats."""

    survey: Survey
    sizes: dict[int, Sizes]
    foreign: tuple[int, ...]


def survey_part(X: Any, weight: Any, number: int, place: str) -> PartSurvey:
    """Look at all numbers of a partition."""
    part = _checked(X, weight, place, look=True)
    survey = Survey()
    in_turn(lambda n_threads: survey.add(part, n_threads, place))
    return PartSurvey(survey, {number: part.sizes}, () if part.X is X else (number,))


def add_surveys(surveys: list[PartSurvey]) -> PartSurvey:
    """Of all partitions of several surveys, in order."""
    whole = Survey()
    sizes: dict[int, Sizes] = {}
    foreign: list[int] = []
    for survey, some, others in surveys:
        whole.merge(survey)
        sizes.update(some)
        foreign.extend(others)
    return PartSurvey(whole, sizes, tuple(foreign))


def as_array(X: Any, place: str) -> NDArray[Any]:
    """A partition as an array of floats at aligned addresses, which those that came by network are not."""
    return readable(check_block(X, place, 0, look=False))


def draw_rows(
    X: Any, weight: Any, number: int, place: str, size: int, seed: int, limit: float
) -> Reservoir | None:
    """Rows of a partition that may belong to a sample of all."""
    part = _checked(X, weight, place, look=False)
    if part.n_positive == 0:
        return None
    reservoir = Reservoir(size, np.random.RandomState(seed + number), limit)
    reservoir.add(part)
    return reservoir


def merge_reservoirs(reservoirs: list[Reservoir | None]) -> Reservoir | None:
    """The rows of the smallest keys."""
    whole: Reservoir | None = None
    for reservoir in reservoirs:
        if whole is None:
            whole = copy.copy(reservoir)
        elif reservoir is not None:
            whole.merge(reservoir)
    return whole


def summarise_part(X: Any, weight: Any, place: str, scorer: Scorer) -> FloatArray:
    """Sums over the rows of a partition: of w log p, of w log max_k r_k, of w."""
    part = _checked(X, weight, place, look=True)
    _check_features(part, scorer.n_features, place)
    if part.n_positive == 0:
        return np.zeros(3)
    head = in_turn(lambda n_threads: _with_threads(scorer, n_threads).summary(part))
    return np.array([head[LOG_LIKELIHOOD], head[LOG_MAX], part.total_weight])


def accumulate_part(X: Any, weight: Any, place: str, pass_over: Any) -> Statistics:
    """Statistics of a partition, from a dense pass under given parameters."""
    part = _checked(X, weight, place, look=True)
    _check_features(part, len(pass_over.frame.shift), place)
    if part.n_positive and part.sample_weight is not None:
        check_largest_weight(part.total_weight, float(part.sample_weight.max()))

    def work(n_threads: int) -> Statistics:
        here = copy.copy(pass_over)
        here.n_threads = n_threads
        statistics: Statistics = here(part)
        return statistics

    return in_turn(work)


def add_in_order(values: list[T]) -> T:
    """The sum of arrays or Statistics, from the first on."""
    return reduce(add, values)


def outputs(X: Any, scorer: Scorer, place: str, what: str) -> NDArray[Any]:
    """What a method of the mixture says of the rows of a partition."""
    method = "scores" if what == "log_prob_components" else what
    part = _checked(X, None, place, look=True)
    _check_features(part, scorer.n_features, place)
    return in_turn(lambda n_threads: getattr(_with_threads(scorer, n_threads), method)(part.X))


def _checked(X: Any, weight: Any, place: str, *, look: bool) -> ArrayData:
    X = check_block(X, place, 0, look=look)
    if weight is not None:
        weight = check_block_weight(weight, len(X), place, 0)
    return ArrayData(X, weight)


def _check_features(part: ArrayData, n_features: int, place: str) -> None:
    if part.n_features != n_features:
        raise ValueError(
            f"X has {part.n_features} features in {place}, but the mixture is expecting {n_features} "
            "features as input."
        )


def _with_threads(scorer: Scorer, n_threads: int) -> Scorer:
    scorer = copy.copy(scorer)
    scorer._n_threads = n_threads
    return scorer


# ---- passes ------------------------------------------------------------------------------------------------


class Order(NamedTuple):
    """What all partitions are to do in one pass.

    Attributes
    ----------
    fit : name of the fit, under which workers keep what they know of its partitions
    number : of the pass
    structure, frame, n_components, arithmetic : as in Setting
    request : without score maps, which each worker makes once
    in_single : whether the pass is in float32
    n_positive : rows of positive weight of all partitions
    """

    fit: str
    number: int
    structure: str
    frame: Frame
    n_components: int
    arithmetic: str
    request: Request
    in_single: bool
    n_positive: int


class FitState:
    """What a worker keeps of a fit; used by the computing thread only."""

    def __init__(self) -> None:
        self.workspace = Workspace()
        self.collectors: dict[int, ArrayCollector] = {}
        self.number = -1
        self.parameters: Parameters | None = None
        self.score_map: ScoreMap | None = None
        self.single_map: SingleMap | None = None

    def request(self, order: Order, n_threads: int) -> Request:
        """The request of a pass with its score maps, made once."""
        request = order.request
        if self.number != order.number:
            # equal parameters are the same object again: nothing has drifted then
            same = self.parameters is not None and all(
                np.array_equal(a, b) for a, b in zip(self.parameters, request.parameters)
            )
            if not same:
                self.parameters = request.parameters
            assert self.parameters is not None
            structure = STRUCTURES[order.structure]
            self.score_map = structure.score_map(self.parameters, order.frame, n_threads, request.n_active)
            self.single_map = None
            if order.in_single:
                self.single_map = single_map(
                    self.score_map, self.parameters, structure, order.frame, order.n_positive
                )
            self.number = order.number
        assert self.parameters is not None
        return request._replace(
            parameters=self.parameters, score_map=self.score_map, single_map=self.single_map
        )

    def collect(self, n_threads: int, part: ArrayData, number: int, order: Order) -> Statistics:
        """One pass over a partition."""
        collector = self.collectors.get(number)
        if collector is None or collector.sizes != part.sizes:
            structure = STRUCTURES[order.structure]
            setting = Setting(structure, order.frame, order.n_components, n_threads, order.arithmetic)
            collector = self.collectors[number] = ArrayCollector(part, setting, self.workspace)
        collector.data = part
        try:
            return collector.collect(self.request(order, n_threads))
        finally:
            collector.data = None  # Dask has it, and may move it


class WorkerStates:
    """What a worker keeps of all fits; the one used last at the end."""

    def __init__(self) -> None:
        self.fits: OrderedDict[str, FitState] = OrderedDict()
        self.ended: OrderedDict[str, None] = OrderedDict()
        self.lock = threading.Lock()

    def of(self, fit: str) -> FitState:
        """State of a fit; of one that has ended, whose tasks may still be on their way, nothing is kept."""
        with self.lock:
            if fit in self.ended:
                return FitState()
            if fit not in self.fits:
                self.fits[fit] = FitState()
                if len(self.fits) > MOST_FITS:
                    self.fits.popitem(last=False)
            self.fits.move_to_end(fit)
            return self.fits[fit]

    def forget(self, fit: str) -> None:
        """Free what is kept of a fit."""
        with self.lock:
            self.fits.pop(fit, None)
            self.ended[fit] = None
            while len(self.ended) > MOST_ENDED:
                self.ended.popitem(last=False)


# By worker, as there may be several in a process.
_states: WeakKeyDictionary[Any, WorkerStates] = WeakKeyDictionary()
_states_lock = threading.Lock()


def _states_of(worker: Any) -> WorkerStates:
    with _states_lock:
        return _states.setdefault(worker, WorkerStates())


def collect_part(X: Any, weight: Any, number: int, place: str, sizes: Sizes, order: Order) -> Statistics:
    """Statistics of a partition, under the parameters of the order."""
    part = _checked(X, weight, place, look=False)
    if part.sizes != sizes:
        raise ValueError(
            f"X gives other rows than when it was read first: {place} now has {part.n_rows} rows. Tasks that "
            "make partitions must make the same rows each time."
        )
    worker = this_worker()

    def work(n_threads: int) -> Statistics:
        return _states_of(worker).of(order.fit).collect(n_threads, part, number, order)

    statistics = in_turn(work)
    if not np.isfinite(statistics.log_likelihood):
        check_block(X, place, 0, look=True)
    return statistics


def forget_fit(fit: str, dask_worker: Any = None) -> None:
    """Free what a worker keeps of a fit."""
    _states_of(dask_worker).forget(fit)


def kept(dask_worker: Any = None) -> dict[str, list[int]]:
    """Fits that a worker keeps something of, and the numbers of their partitions; for tests."""
    return {fit: sorted(state.collectors) for fit, state in _states_of(dask_worker).fits.items()}
