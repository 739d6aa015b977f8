"""Where an iteration's time goes: the pass over the data, natural parameters and estimates, and all else."""

from __future__ import annotations

from collections.abc import Iterator

import problems
from harness import OURS, Context, Row, log, settle
from markdown import number, percent, render

TITLE = "Share of natural parameters and estimates"
KEY = ("problem", "type")


def run(context: Context) -> Iterator[Row]:
    """Read the times that ``history_`` records; a row for each problem and covariance type."""
    ours = context.worker(OURS)
    for name in context.problems:
        with context.stored(problems.load(name, context.scale), context.types) as stored:
            stored.hand_to(ours)
            for covariance_type in context.types:
                log(f"share: {name}, {covariance_type}")
                ours.call("fit", covariance_type=covariance_type, max_iter=2)
                fits = []
                for _ in range(context.repeats):
                    settle()
                    fit = ours.call("fit", covariance_type=covariance_type, max_iter=context.iterations)
                    fits.append(fit)
                # All numbers of one fit, that of median time, so that they add up. "seconds_pass" is the
                # pass; every other "seconds_" entry is work on parameters.
                fit = sorted(fits, key=lambda each: each["seconds"])[len(fits) // 2]
                parts = {
                    key: sum(values) / fit["n_iter"]
                    for key, values in fit["history"].items()
                    if key.startswith("seconds_")
                }
                whole = fit["seconds"] / fit["n_iter"]
                yield stored.row(type=covariance_type, seconds=parts, iteration_seconds=whole)


def table(rows: list[Row]) -> str:
    """Milliseconds per iteration and the share that is not the pass."""
    header = ["problem", "type", "iteration ms", "pass ms", "natural + estimate ms", "share", "all else"]
    body = []
    for row in rows:
        whole = row["iteration_seconds"]
        of_pass = row["seconds"]["seconds_pass"]
        of_parameters = sum(row["seconds"].values()) - of_pass
        inside = of_pass + of_parameters
        body.append([
            row["problem"], row["type"],
            number(1e3 * whole), number(1e3 * of_pass), number(1e3 * of_parameters),
            percent(of_parameters / inside), percent(1.0 - inside / whole),
        ])  # fmt: skip
    return render(header, body)
