"""What a fit tells while it runs: a bar at verbose=1, lines as well at verbose=2."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from tqdm import tqdm


class Progress:
    """Progress of one run of the fit; call it after each iteration.

    Parameters
    ----------
    name : str
        Name of the estimator, shown before the bar.
    run, n_runs : int
        Number of this run, from 0, and number of all.
    max_iter : int
        Most iterations of the run.
    verbose : int or bool
        0: silent, 1: a bar on standard error, 2 or more: also a line on standard output every `interval`
        iterations.
    interval : int
        Iterations from one line to the next.
    """

    def __init__(self, name: str, run: int, n_runs: int, max_iter: int, verbose: int, interval: int) -> None:
        self._run = run
        self._interval = interval
        self._lines = verbose >= 2
        self._converged = False
        label = name if n_runs == 1 else f"{name}, run {run + 1} of {n_runs}"
        self._bar: Any = tqdm(total=max_iter, desc=label, unit="it", disable=not verbose)

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._converged:  # the bar ends full where the fit is finished
            self._bar.total = self._bar.n
        self._bar.refresh()
        self._bar.close()

    def __call__(self, iteration: int, bound: float, change: float, converged: bool) -> None:
        """Report that an iteration has ended."""
        self._converged = converged
        self._bar.set_postfix_str(f"lower bound {bound:.6g}, change {change:.2g}", refresh=False)
        self._bar.update(iteration - self._bar.n)
        if self._lines and iteration % self._interval == 0:
            seconds = self._bar.format_dict["elapsed"]
            tqdm.write(
                f"run {self._run}, iteration {iteration}: lower bound {bound:.10g}, change {change:.3g}, "
                f"{seconds:.2f} s"
            )
