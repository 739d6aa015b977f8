"""Seeding apart: what the default seeding costs, in dense full-covariance iterations of the same problem."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

import problems
from harness import OURS, Context, Row, log, settle
from markdown import number, render

TITLE = "Seeding apart"
KEY = ("problem",)
PEER = "sklearn"
SEEDS = 5
LIMIT = 5.0  # iterations


def run(context: Context) -> Iterator[Row]:
    """Time ``max_iter=0``, which seeds and does nothing else, between fits from given parameters."""
    for name in context.problems:
        problem = problems.load(name, context.scale)
        with context.stored(problem, ("full",)) as stored:
            log(f"seeding: {name}")
            ours = context.worker(OURS)
            stored.hand_to(ours)
            stored.hand_to(context.worker(PEER))
            ours.call("fit", covariance_type="full", max_iter=2)
            ours.call("fit_default", n_components=problem.n_components, seed=0, max_iter=0)
            iteration, seeds = [], []
            for seed in range(context.seeds or SEEDS):
                settle()
                ours.call("dense", dense=True)
                fit = ours.call("fit", covariance_type="full", max_iter=context.iterations)
                ours.call("dense", dense=False)
                iteration.append(fit["seconds"] / fit["n_iter"])
                settle()
                seeds.append(_seed(context, OURS, problem.n_components, seed))
            peer = [_seed(context, PEER, problem.n_components, seed) for seed in range(2)]
            yield stored.row(
                iteration_seconds=median(iteration),
                seconds=median(fit["seconds"] for fit in seeds),
                log_likelihood=median(fit["log_likelihood"] for fit in seeds),
                peer_seconds=median(fit["seconds"] for fit in peer),
                peer_log_likelihood=median(fit["log_likelihood"] for fit in peer),
            )


def _seed(context: Context, library: str, n_components: int, seed: int) -> Row:
    return context.worker(library).call(
        "fit_default", n_components=n_components, seed=seed, max_iter=0, score=True
    )


def in_iterations(row: Row) -> float:
    """Cost of seeding in iterations."""
    return row["seconds"] / row["iteration_seconds"]


def table(rows: list[Row]) -> str:
    """Seconds and iterations, with the log-likelihood of what the seeding hands to the first iteration."""
    header = ["problem", "seeding ms", "iteration ms", f"iterations (< {LIMIT:g})", f"{PEER}'s seeding ms",
              "log-likelihood", f"{PEER}'s"]  # fmt: skip
    body = [
        [
            row["problem"], number(1e3 * row["seconds"]), number(1e3 * row["iteration_seconds"]),
            f"{in_iterations(row):.1f}" + ("" if in_iterations(row) < LIMIT else " !"),
            number(1e3 * row["peer_seconds"]),
            f"{row['log_likelihood']:.4f}", f"{row['peer_log_likelihood']:.4f}",
        ]
        for row in rows
    ]  # fmt: skip
    return render(header, body)
