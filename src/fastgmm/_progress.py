"""What a fit tells while it runs: a bar at verbose=1, lines as well at verbose=2."""

from __future__ import annotations

from time import perf_counter
from types import TracebackType
from typing import Any

# A run may converge sooner: what tqdm estimates is the time until the limit of iterations.
RUN_FORMAT = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}, at most {remaining} left, {rate_fmt}{postfix}]"
# Seconds from one time that parts of a pass are shown to the next: drawing the bar takes some 0.1 ms.
INTERVAL = 0.1


def bar(verbose: int, **options: Any) -> Any:
    """A bar of tqdm, which is imported where one is to be seen; None where nothing is."""
    if not verbose:
        return None
    from tqdm import tqdm

    return tqdm(**options)


class Progress:
    """Progress of one run of the fit; call it after each iteration, and `on_part` within one.

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
    n_rows : int
        Rows of a pass.
    begun : int
        Iterations that were done before.
    """

    def __init__(
        self,
        name: str,
        run: int,
        n_runs: int,
        max_iter: int,
        verbose: int,
        interval: int,
        n_rows: int,
        begun: int = 0,
    ) -> None:
        self._run, self._n_rows, self._begun = run, n_rows, begun
        self._interval = interval
        self._lines = verbose >= 2
        self._converged = False
        self._text, self._shown = "", perf_counter()
        label = name if n_runs == 1 else f"{name}, run {run + 1} of {n_runs}"
        self._bar = bar(verbose, total=max_iter, initial=begun, desc=label, unit="it", bar_format=RUN_FORMAT)

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bar is None:
            return
        self._bar.set_postfix_str(self._text, refresh=False)
        if self._converged:  # the bar ends full where the fit is finished
            self._bar.total = self._bar.n
        self._bar.refresh()
        self._bar.close()

    def __call__(self, iteration: int, bound: float, change: float, converged: bool) -> None:
        """Report that an iteration has ended."""
        self._converged = converged
        if self._bar is None:
            return
        seconds = self._bar.format_dict["elapsed"]
        rate = self._n_rows * (iteration - self._begun) / max(seconds, 1e-9)
        speed = f"{self._bar.format_sizeof(rate)} rows/s"
        self._text = f"lower bound {bound:.6g}, change {change:.2g}, {speed}"
        self._bar.set_postfix_str(self._text, refresh=False)
        self._bar.update(iteration - self._bar.n)
        if self._lines and iteration % self._interval == 0:
            self._bar.write(
                f"run {self._run}, iteration {iteration}: lower bound {bound:.10g}, change {change:.3g}, "
                f"{seconds:.2f} s, {speed}"
            )

    def on_part(self, number: int, n_parts: int | None, n_rows: int) -> None:
        """Report that a part of the rows has been computed on (StreamedData.on_part)."""
        now = perf_counter()
        if self._bar is None or now - self._shown < INTERVAL:
            return
        self._shown = now
        parts = f"{number + 1}" if n_parts is None else f"{number + 1} of {n_parts}"
        text = f"{parts} parts of the pass"
        self._bar.set_postfix_str(f"{self._text}; {text}" if self._text else text)


class SurveyProgress:
    """Progress of the first look at rows that are read block by block: how many have been seen.

    Parameters
    ----------
    name : str
        Name of the estimator, shown before the bar.
    n_rows : int or None
        Number of rows where it is known.
    verbose : int or bool
        0: silent.
    """

    def __init__(self, name: str, n_rows: int | None, verbose: int) -> None:
        label = f"{name}, first look at the rows"
        self._bar = bar(verbose, total=n_rows, desc=label, unit=" rows", unit_scale=True)

    def __enter__(self) -> SurveyProgress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def on_part(self, number: int, n_parts: int | None, n_rows: int) -> None:
        """Report that a part of the rows has been seen (StreamedData.on_part)."""
        if self._bar is not None:
            self._bar.update(n_rows)
