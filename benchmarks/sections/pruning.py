"""Pruning: fits with and without it from the same start, and how time grows with the number of components."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

import problems
from harness import OURS, Context, Row, Worker, log, settle
from markdown import number, percent, render

TITLE = "Pruning"
KEY = ("problem", "type", "n_components", "start")
GROWTH = (32, 64, 128, 256)


def run(context: Context) -> Iterator[Row]:
    """All problems and types from random rows; patches with more and more components from k-means."""
    ours = context.worker(OURS)
    for name in context.problems:
        problem = problems.load(name, context.scale)
        with context.stored(problem, context.types) as stored:
            stored.hand_to(ours)
            for covariance_type in context.types:
                log(f"pruning: {name}, {covariance_type}")
                arguments = {"covariance_type": covariance_type, "max_iter": context.iterations}
                row = _measure(context, ours, "fit", arguments)
                yield stored.row(type=covariance_type, n_components=problem.n_components, start="rows", **row)
    if "patches-k128" in context.problems:
        problem = problems.load("patches-k128", context.scale)
        with context.stored(problem, ()) as stored:
            stored.hand_to(ours)
            for n_components in GROWTH:
                log(f"pruning: patches, k-means, {n_components} components")
                arguments = {"n_components": n_components, "seed": 0, "max_iter": context.iterations}
                row = _measure(context, ours, "fit_default", arguments)
                yield stored.row(type="full", n_components=n_components, start="k-means", **row)


def _measure(context: Context, worker: Worker, command: str, arguments: Row) -> Row:
    seconds: dict[bool, list[float]] = {False: [], True: []}
    share = 1.0
    for _ in range(context.repeats):
        for dense in (False, True):
            worker.call("dense", dense=dense)
            settle()
            history = worker.call(command, **arguments)["history"]
            each = [a + b for a, b in zip(history["seconds_pass"], history["seconds_estimate"], strict=True)]
            seconds[dense].append(sum(each) / len(each))
            if not dense:
                share = sum(history["pairs"]) / len(each) / max(history["pairs"])
    worker.call("dense", dense=False)
    return {
        "seconds": median(seconds[False]),
        "dense_seconds": median(seconds[True]),
        "ratio": median(a / b for a, b in zip(seconds[True], seconds[False], strict=True)),
        "share": share,
    }


def table(rows: list[Row]) -> str:
    """Milliseconds per iteration with and without pruning, and the share of pairs that were scored."""
    header = ["problem", "type", "K", "start", "pruned ms", "dense ms", "times faster", "pairs scored"]
    body = [
        [
            row["problem"], row["type"], str(row["n_components"]), row["start"], number(1e3 * row["seconds"]),
            number(1e3 * row["dense_seconds"]), f"{row['ratio']:.2f}", percent(row["share"]),
        ]
        for row in rows
    ]  # fmt: skip
    return render(header, body)
