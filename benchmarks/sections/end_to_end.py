"""End to end: default arguments, seeding included, several seeds; time and final mean log-likelihood."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

import problems
from harness import OURS, Context, Row, geometric_mean, log, mean_and_error, settle
from markdown import number, ratio, render, with_error

TITLE = "End to end with default arguments"
KEY = ("problem",)
PEER = "sklearn"
SEEDS = 8
MIN_PEER_SEEDS = 2


def run(context: Context) -> Iterator[Row]:
    """Alternate seeds of ours and the peer's; the peer stops early where it would take too long."""
    for name in context.problems:
        problem = problems.load(name, context.scale)
        with context.stored(problem) as stored:
            log(f"end to end: {name}")
            fits: dict[str, list[Row]] = {OURS: [], PEER: []}
            for library in fits:
                stored.hand_to(context.worker(library))
            for seed in range(context.seeds or SEEDS):
                for library in fits:
                    spent = sum(fit["seconds"] for fit in fits[library])
                    if library == PEER and seed >= MIN_PEER_SEEDS and spent > context.default_seconds:
                        continue
                    settle()
                    fit = context.worker(library).call(
                        "fit_default", n_components=problem.n_components, seed=seed, score=True
                    )
                    fits[library].append({key: fit[key] for key in ("seconds", "n_iter", "log_likelihood")})
            yield stored.row(fits=fits)


def speed_up(row: Row) -> float:
    """Median time of the peer over the median of ours."""
    return median(f["seconds"] for f in row["fits"][PEER]) / median(f["seconds"] for f in row["fits"][OURS])


def table(rows: list[Row]) -> str:
    """Median seconds, median iterations, mean final log-likelihood with its standard error."""
    header = [
        "problem", f"{OURS} s", f"{PEER} s", "speed-up", "iterations", f"{PEER}'s",
        f"{OURS} log-likelihood", f"{PEER} log-likelihood", "seeds",
    ]  # fmt: skip
    body = []
    for row in rows:
        ours, peer = row["fits"][OURS], row["fits"][PEER]
        body.append([
            row["problem"],
            number(median(f["seconds"] for f in ours)), number(median(f["seconds"] for f in peer)),
            ratio(speed_up(row)),
            f"{median(f['n_iter'] for f in ours):.0f}", f"{median(f['n_iter'] for f in peer):.0f}",
            with_error(*mean_and_error([f["log_likelihood"] for f in ours])),
            with_error(*mean_and_error([f["log_likelihood"] for f in peer])),
            f"{len(ours)}, {len(peer)}",
        ])  # fmt: skip
    mean = ratio(geometric_mean([speed_up(row) for row in rows]))
    return render(header, [*body, ["geometric mean", "", "", mean, *[""] * (len(header) - 4)]])
