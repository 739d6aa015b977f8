"""Several starts for the passes of a few: all run a little, the best of them on, and the best two to the end.

How high a run ends shows early: EM gains most in its first iterations. So runs are compared by their bounds
after a few and again after some more, and those left behind are not finished.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil
from typing import NamedTuple

from .em import EMResult

# How many runs are finished.
FINISHED = 2


class Heats(NamedTuple):
    """Iterations after which runs are compared, and the share that goes on from the first."""

    first: int
    second: int
    share: float


# Starts from k-means are near where they end; how good a random one is takes longer to show.
SEEDED, RANDOM = Heats(2, 8, 0.2), Heats(3, 8, 0.4)


def race(
    n_runs: int,
    max_iter: int,
    heats: Heats,
    begin: Callable[[int, int], EMResult],
    go_on: Callable[[int, EMResult, int], EMResult],
) -> EMResult:
    """The run that ends highest, the first of equals.

    Parameters
    ----------
    n_runs : how many starts
    max_iter : iterations of a run that is finished
    heats : when runs are compared
    begin : of (number of the run, most iterations), makes a start and runs from it
    go_on : of (number of the run, its result so far, most iterations in all)
    """
    if n_runs <= FINISHED or max_iter <= heats.first:
        runs = {i: begin(i, max_iter) for i in range(n_runs)}
    else:
        runs = {i: begin(i, heats.first) for i in range(n_runs)}
        for n_kept, most in ((max(FINISHED, ceil(heats.share * n_runs)), heats.second), (FINISHED, max_iter)):
            runs = {
                i: result if result.converged else go_on(i, result, min(most, max_iter))
                for i, result in highest(runs, n_kept).items()
            }
    return next(iter(highest(runs, 1).values()))


def highest(runs: dict[int, EMResult], n: int) -> dict[int, EMResult]:
    """The n runs of the highest bounds; of equal ones the first."""
    order = sorted(runs, key=lambda i: (-runs[i].lower_bound, i))
    return {i: runs[i] for i in sorted(order[:n])}
