"""Precision: equal iterations of float32 rows in float32 arithmetic, against float64 rows of the same values.

Full covariances, the same start, two processes that take turns. Each mixture is scored on its own rows, which
hold the same numbers; scores are float64 arithmetic in both. Measured where GaussianMixture has the argument
``arithmetic``.
"""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

import numpy as np

import problems
from harness import OURS, Context, Row, Worker, log, settle
from markdown import number, render

TITLE = "float32 arithmetic"
KEY = ("problem",)
NAMES = ("pixels-k64", "tabular-d16")
OPTIONS = {"float64": {}, "float32": {"arithmetic": "float32"}}


def run(context: Context) -> Iterator[Row]:
    """A row for each problem."""
    if not context.worker(OURS).call("has_option", name="arithmetic")["has"]:
        log("precision: left out, as GaussianMixture has no argument arithmetic")
        return
    single = f"{OURS}, float32"
    context.workers.setdefault(single, Worker(OURS, context.n_threads))
    workers = {"float64": context.worker(OURS), "float32": context.workers[single]}
    for name in (name for name in NAMES if name in context.problems):
        log(f"precision: {name}")
        problem = problems.load(name, context.scale)
        problem = problem._replace(X=problem.X.astype(np.float32).astype(np.float64))
        with context.stored(problem, ("full",)) as stored:
            for dtype, worker in workers.items():
                stored.hand_to(worker, dtype)
            times: dict[str, list[float]] = {dtype: [] for dtype in workers}
            scores: dict[str, float] = {}
            for turn in range(context.repeats + 1):  # the first loads code and pages, and is scored
                for dtype, worker in workers.items():
                    settle()
                    fit = worker.call(
                        "fit",
                        covariance_type="full",
                        max_iter=context.iterations,
                        score=turn == 0,
                        options=OPTIONS[dtype],
                    )
                    if turn == 0:
                        scores[dtype] = fit["log_likelihood"]
                    else:
                        times[dtype].append(1e3 * fit["seconds"] / fit["n_iter"])
            pairs = zip(times["float64"], times["float32"], strict=True)
            yield stored.row(
                milliseconds={dtype: median(values) for dtype, values in times.items()},
                all_milliseconds=times,
                ratio=median(a / b for a, b in pairs),
                log_likelihood=scores,
                error=abs(scores["float32"] - scores["float64"]) / max(1.0, abs(scores["float64"])),
                iterations=context.iterations,
            )


def table(rows: list[Row]) -> str:
    """Milliseconds of an iteration in each arithmetic, and what it does to the mean log-likelihood."""
    header = [
        "problem",
        "N x D",
        "K",
        "float64 ms",
        "float32 ms",
        "times faster",
        "log-likelihood differs by",
    ]
    body = [
        [
            row["problem"], f"{row['n_rows']:,} x {row['n_features']}", str(row["n_components"]),
            number(row["milliseconds"]["float64"]), number(row["milliseconds"]["float32"]),
            f"{row['ratio']:.2f}", f"{row['error']:.1e}",
        ]
        for row in rows
    ]  # fmt: skip
    return (
        f"The difference, after {rows[0]['iterations']} iterations from the same start, is relative to "
        "max(1, |mean log-likelihood|).\n\n" + render(header, body)
    )
