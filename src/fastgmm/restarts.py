"""Several starts for the passes of a few: all run a little, the best of them on, and the best two to the end.

How high a run ends shows early: EM gains most in its first iterations. So runs are compared by their bounds
after a few and again after some more, and those left behind are not finished.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import ceil
from typing import NamedTuple

from .loop_state import EMResult

# How many runs are finished.
FINISHED = 2


class Heats(NamedTuple):
    """Iterations after which runs are compared, and the share that goes on from the first."""

    first: int
    second: int
    share: float


# Starts from k-means are near where they end; how good a random one is takes longer to show.
SEEDED, RANDOM = Heats(2, 8, 0.2), Heats(3, 8, 0.4)


@dataclass
class Standing:
    """How far several starts have come: all that is needed to go on with them.

    Attributes
    ----------
    heat : number of the heat that is being run
    not_begun : runs that are to be begun; a range, as there may be millions of them and time for a few
    waiting : runs that the heat is yet to improve, and their results so far
    done : the best of those it has improved; others cannot come back
    running : the run that is being made, None between two runs
    """

    heat: int
    not_begun: range
    waiting: dict[int, EMResult]
    done: dict[int, EMResult]
    running: int | None = None

    @property
    def is_heat_over(self) -> bool:
        """Whether no run is left for this heat."""
        return not self.waiting and not self.not_begun

    def next_run(self) -> int:
        """The run that has begun, else the first of those that are left."""
        if self.running is not None:
            return self.running
        return min(min(run, default=sys.maxsize) for run in (self.waiting, self.not_begun[:1]))

    def known(self) -> dict[int, EMResult]:
        """All results so far that may yet be the best."""
        return self.done | self.waiting


def plan(n_runs: int, max_iter: int, heats: Heats) -> list[tuple[int, int]]:
    """For each heat its iterations in all, and how many runs are left after it."""
    if n_runs <= FINISHED or max_iter <= heats.first:
        return [(max_iter, 1)]
    second = (min(heats.second, max_iter), FINISHED)
    return [(heats.first, max(FINISHED, ceil(heats.share * n_runs))), second, (max_iter, 1)]


def race(
    n_runs: int,
    max_iter: int,
    heats: Heats,
    begin: Callable[[int, int], EMResult],
    go_on: Callable[[int, EMResult, int], EMResult],
    *,
    standing: Standing | None = None,
    on_result: Callable[[Standing], None] | None = None,
    is_over: Callable[[], bool] | None = None,
) -> EMResult:
    """The run that ends highest, the first of equals.

    Parameters
    ----------
    n_runs : how many starts
    max_iter : iterations of a run that is finished
    heats : when runs are compared
    begin : of (number of the run, most iterations), makes a start and runs from it
    go_on : of (number of the run, its result so far, most iterations in all)
    standing : of a race that was cut short, to go on with; it is changed
    on_result : called with the standing after each run
    is_over : whether time is over, asked after each run; then the best so far is the result
    """
    heats_to_run = plan(n_runs, max_iter, heats)
    if standing is None:
        standing = Standing(0, range(n_runs), {}, {})
    elif standing.heat + 1 == len(heats_to_run):  # finished runs have more to do where max_iter was raised
        more = {i: r for i, r in standing.done.items() if not r.converged and r.n_iter < max_iter}
        standing.waiting |= more
        standing.done = {i: r for i, r in standing.done.items() if i not in more}
    while not standing.is_heat_over:
        most, n_left = heats_to_run[standing.heat]
        run = standing.running = standing.next_run()
        so_far = standing.waiting.get(run)
        if so_far is None:
            result = begin(run, most)
        else:
            result = so_far if so_far.converged else go_on(run, so_far, most)
        if result.out_of_time:
            return replace(_best(standing.known() | {run: result}), out_of_time=True)
        if standing.waiting.pop(run, None) is None:
            standing.not_begun = standing.not_begun[1:]
        standing.running, standing.done[run] = None, result
        if len(standing.done) > n_left:
            standing.done = highest(standing.done, n_left)
        if standing.is_heat_over and standing.heat + 1 < len(heats_to_run):
            standing.heat, standing.waiting, standing.done = standing.heat + 1, dict(standing.done), {}
        if on_result is not None:
            on_result(standing)
        if not standing.is_heat_over and is_over is not None and is_over():
            return replace(_best(standing.known()), out_of_time=True)
    return _best(standing.done)


def _best(runs: dict[int, EMResult]) -> EMResult:
    return next(iter(highest(runs, 1).values()))


def highest(runs: dict[int, EMResult], n: int) -> dict[int, EMResult]:
    """The n runs of the highest bounds; of equal ones the first."""
    order = sorted(runs, key=lambda i: (-runs[i].lower_bound, i))
    return {i: runs[i] for i in sorted(order[:n])}
