"""Rate: what share of the machine's peak arithmetic the dense pass reaches.

Both halves of a pass spend N K P multiply-adds on the P features of a row: 4 N K P operations in all.
Everything else a pass does (packing, features, exponentials, reduction) counts as time but not as work. The
peak is measured in the same process just before and just after each fit; the better of the two is the
divisor.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from statistics import median

import problems
from harness import OURS, Context, Row, Stored, Worker, log, settle
from markdown import number, percent, render

TITLE = "Rate of the dense pass"
KEY = ("problem", "isa")
OTHER_ISA = "x86-64-v3"


def n_features_of_row(n_features: int) -> int:
    """P for full covariance: 1, x_i, x_i x_j with i <= j."""
    return 1 + n_features + n_features * (n_features + 1) // 2


def run(context: Context) -> Iterator[Row]:
    """Full covariance, with the best instruction set and again with x86-64-v3."""
    default = context.worker(OURS)
    workers = {default.call("info")["isa"]: default}
    if OTHER_ISA not in workers and "FASTGMM_ISA" not in os.environ:
        other = Worker(OURS, context.n_threads, {"FASTGMM_ISA": OTHER_ISA})
        if other.call("info")["isa"] == OTHER_ISA:
            workers[OTHER_ISA] = other
            context.workers[f"{OURS} {OTHER_ISA}"] = other  # closed with the rest
    for name in context.problems:
        with context.stored(problems.load(name, context.scale), ("full",)) as stored:
            for isa, worker in workers.items():
                log(f"rate: {name}, {isa}")
                stored.hand_to(worker)
                worker.call("dense", dense=True)
                row = _measure(context, stored, isa, worker)
                worker.call("dense", dense=False)
                yield row


def _measure(context: Context, stored: Stored, isa: str, worker: Worker) -> Row:
    n_rows, n_features = stored.problem.X.shape
    work = 4.0 * n_rows * stored.problem.n_components * n_features_of_row(n_features)
    worker.call("fit", covariance_type="full", max_iter=2)
    rates, whole_rates, peaks, centred = [], [], [], []
    for _ in range(context.repeats):
        before = worker.call("peak", instruction_set=isa)["flop_per_second"]
        fit = worker.call("fit", covariance_type="full", max_iter=context.iterations)
        settle()
        after = worker.call("peak", instruction_set=isa)["flop_per_second"]
        peaks.append(max(before, after))
        rates.append(work / median(fit["history"]["seconds_pass"]))
        whole_rates.append(work * fit["n_iter"] / fit["seconds"])
        centred.append(sum(fit["history"]["pairs_centred"]) / sum(fit["history"]["pairs"]))
    return stored.row(
        isa=isa,
        gflops=median(rates) / 1e9,
        fit_gflops=median(whole_rates) / 1e9,
        peak_gflops=median(peaks) / 1e9,
        share=median(rate / peak for rate, peak in zip(rates, peaks, strict=True)),
        fit_share=median(rate / peak for rate, peak in zip(whole_rates, peaks, strict=True)),
        centred=max(centred),  # share of (block, component) pairs that the centred kernel took
    )


def table(rows: list[Row]) -> str:
    """Rates in GFLOP/s and shares of the peak, for each instruction set."""
    header = ["problem", "isa", "D", "K", "GFLOP/s", "peak GFLOP/s", "share", "whole fit, share", "centred"]
    body = [
        [
            row["problem"], row["isa"], str(row["n_features"]), str(row["n_components"]),
            number(row["gflops"]), number(row["peak_gflops"]),
            percent(row["share"]), percent(row["fit_share"]), percent(row["centred"]),
        ]
        for row in sorted(rows, key=lambda row: row["isa"], reverse=True)
    ]  # fmt: skip
    return render(header, body)
