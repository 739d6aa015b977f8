"""Restarts: passes that racing ten starts saves, and the likelihood it loses, against ten full runs.

Both have the same starts. The loss is the highest final bound of the ten runs minus that of the race, in
units of the standard deviation of the bound between the runs; where the race finds the best of the ten it
is 0. Passes are counted over all runs, seconds include seeding.
"""

from __future__ import annotations

from collections.abc import Iterator
from statistics import fmean, stdev

import numpy as np

import problems
from harness import OURS, Context, Row, log, mean_and_error
from markdown import number, percent, render, with_error

TITLE = "Racing restarts"
KEY = ("problem",)
NAMES = ("pixels-k16", "tabular-d8", "overlap-d16")
N_INIT, REPETITIONS, SAMPLE_ROWS = 10, 20, 10_000
FOUND = 1e-3  # standard deviations: from there on up it is not the best of the ten that was found


def run(context: Context) -> Iterator[Row]:
    """Repetitions on the same sample of rows, each with its own seed."""
    ours = context.worker(OURS)
    for name in (name for name in NAMES if name in context.problems):
        log(f"restarts: {name}")
        problem = problems.load(name)
        n_rows = max(500, int(SAMPLE_ROWS * context.scale))
        rows = np.random.default_rng(0).choice(len(problem.X), n_rows, replace=False)
        with context.stored(problem._replace(X=problem.X[rows])) as stored:
            stored.hand_to(ours)
            fits = [
                ours.call("restarts", n_components=problem.n_components, seed=seed, n_init=N_INIT)
                for seed in range(context.seeds or REPETITIONS)
            ]
            yield stored.row(fits=fits)


def losses(row: Row) -> list[float]:
    """Loss of each repetition in units of the standard deviation between runs, its mean over repetitions."""
    spread = fmean(stdev(fit["apart"]["bounds"]) for fit in row["fits"])
    return [(max(fit["apart"]["bounds"]) - fit["race"]["bounds"][0]) / spread for fit in row["fits"]]


def table(rows: list[Row]) -> str:
    """Shares of passes and of time, the loss, and how often the race found the best of the ten."""
    header = [
        "problem", "N x D", "K", "passes of a run", "passes, share", "seconds, share", "loss / sd",
        "largest", "best found", "sd",
    ]  # fmt: skip
    body = []
    for row in rows:
        fits, lost = row["fits"], losses(row)

        def share(what: str, fits: list[Row] = fits) -> float:
            return sum(fit["race"][what] for fit in fits) / sum(fit["apart"][what] for fit in fits)

        n_passes = fmean(fit["apart"]["passes"] / len(fit["apart"]["bounds"]) for fit in fits)
        body.append([
            row["problem"], f"{row['n_rows']:,} x {row['n_features']}", str(row["n_components"]),
            f"{n_passes:.1f}", percent(share("passes")), percent(share("seconds")),
            with_error(*mean_and_error(lost), digits=3), number(max(lost)),
            f"{sum(loss < FOUND for loss in lost)} of {len(lost)}",
            number(fmean(stdev(fit["apart"]["bounds"]) for fit in fits)),
        ])  # fmt: skip
    n_init, repetitions = len(rows[0]["fits"][0]["apart"]["bounds"]), len(rows[0]["fits"])
    return (
        f"n_init={n_init} against {n_init} runs from the same starts, {repetitions} repetitions.\n\n"
        + render(header, body)
    )
