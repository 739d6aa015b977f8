"""Several starts for the passes of a few: all run a little, the best of them on, and the best two to the end.

How high a run ends shows early: EM gains most in its first iterations. So runs are compared after FIRST and
after SECOND iterations by their bounds, and those left behind are not finished.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil

from .em import EMResult

# Iterations after which runs are compared, the share that goes on from the first, and how many are finished.
FIRST, SECOND = 3, 8
SHARE, FINISHED = 0.4, 2


def race(
    n_runs: int,
    max_iter: int,
    begin: Callable[[int, int], EMResult],
    go_on: Callable[[int, EMResult, int], EMResult],
) -> EMResult:
    """The run that ends highest, the first of equals.

    Parameters
    ----------
    n_runs : how many starts
    max_iter : iterations of a run that is finished
    begin : of (number of the run, most iterations), makes a start and runs from it
    go_on : of (number of the run, its result so far, most iterations in all)
    """
    if n_runs <= FINISHED or max_iter <= FIRST:
        runs = {i: begin(i, max_iter) for i in range(n_runs)}
    else:
        runs = {i: begin(i, FIRST) for i in range(n_runs)}
        for n_kept, most in ((max(FINISHED, ceil(SHARE * n_runs)), SECOND), (FINISHED, max_iter)):
            runs = {
                i: result if result.converged else go_on(i, result, min(most, max_iter))
                for i, result in highest(runs, n_kept).items()
            }
    return next(iter(highest(runs, 1).values()))


def highest(runs: dict[int, EMResult], n: int) -> dict[int, EMResult]:
    """The n runs of the highest bounds; of equal ones the first."""
    order = sorted(runs, key=lambda i: (-runs[i].lower_bound, i))
    return {i: runs[i] for i in sorted(order[:n])}
