"""What a pass over 10^10 rows costs on how many machines, from what a pass costs here.

    python benchmarks/internet_scale.py                 # measure, and print the plan as a table

Measured for full and diag covariances: rows per second of a dense pass, bytes of statistics, seconds to add
two of them, of an M-step with its score map. From these a model (docs/internet_scale.md) makes the plan:
passes in parallel, statistics added within a machine and then up a tree over a network of a stated rate.
"""

from __future__ import annotations

import argparse
import json
from math import ceil, log
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np

from fastgmm.blocks import ArrayData
from fastgmm.collector import ArrayCollector, Request, Setting
from fastgmm.pruning import set_pruning_choice
from fastgmm.structures import STRUCTURES, maximum_likelihood
from fastgmm.threads import effective_n_threads, single_threaded_blas

RESULTS = Path(__file__).parent / "results" / "internet_scale.json"
# A machine of the plan has so many cores, each as fast as one here, and is linked at this rate.
CORES, NETWORK_BYTES = 64, 1.25e9
# Statistics of so many machines or partitions are added by one.
FAN_IN = 8
N_ROWS = 10**10


class Cost(NamedTuple):
    """Of one pass: seconds per row and core, bytes of statistics, seconds to add two, of the M-step."""

    structure: str
    n_features: int
    n_components: int
    row_seconds: float
    statistics_bytes: int
    add_seconds: float
    step_seconds: float


def measure(name: str, D: int, K: int, n_rows: int, n_threads: int, repeats: int) -> Cost:
    """Seconds and bytes of one dense pass and what follows it."""
    structure = STRUCTURES[name]
    rng = np.random.default_rng(0)
    means = rng.standard_normal((K, D))
    X = means[rng.integers(0, K, n_rows)] + rng.standard_normal((n_rows, D))
    covariances = {
        "full": np.broadcast_to(np.eye(D), (K, D, D)).copy(),
        "tied": np.eye(D),
        "diag": np.ones((K, D)),
        "spherical": np.ones(K),
    }[name]
    parameters = structure.from_covariances(np.full(K, 1.0 / K), means, covariances)
    data = ArrayData(X)
    frame = data.frame(n_threads, structure.common_scale)
    setting = Setting(structure, frame, K, n_threads)
    collector = ArrayCollector(data, setting)
    none = np.zeros(K, dtype=bool)
    passes, adds, steps = [], [], []
    for _ in range(repeats):
        began = perf_counter()
        score_map = structure.score_map(parameters, frame, n_threads)
        mapped = perf_counter()
        statistics = collector.collect(Request(parameters, means, none, score_map))
        passed = perf_counter()
        _ = statistics + statistics
        added = perf_counter()
        maximum_likelihood(structure, statistics, 1e-6, n_threads)
        steps.append(perf_counter() - added + mapped - began)
        passes.append(passed - mapped)
        adds.append(added - passed)
    size = len(statistics.to_bytes())
    return Cost(name, D, K, median(passes) / n_rows * n_threads, size, median(adds), median(steps))


def plan(cost: Cost, n_machines: int, partitions: int) -> dict[str, Any]:
    """Seconds of one iteration over N_ROWS on so many machines, each with so many partitions.

    A machine adds the statistics of its partitions itself; machines then send theirs up a tree.
    """
    rows = N_ROWS * cost.row_seconds / (n_machines * CORES)
    within = (partitions - 1) * cost.add_seconds
    levels = ceil(log(n_machines, FAN_IN)) if n_machines > 1 else 0
    up = levels * (FAN_IN * cost.statistics_bytes / NETWORK_BYTES + (FAN_IN - 1) * cost.add_seconds)
    down = levels * FAN_IN * cost.statistics_bytes / NETWORK_BYTES  # parameters are as large
    return {
        "structure": cost.structure,
        "D": cost.n_features,
        "K": cost.n_components,
        "machines": n_machines,
        "pass_s": rows,
        "adding_s": within,
        "tree_s": up + down,
        "levels": levels,
        "step_s": cost.step_seconds,
        "share_of_rows": rows / (rows + within + up + down + cost.step_seconds),
    }


def table(costs: list[Cost]) -> str:
    """What was measured, and the plan, as two tables in Markdown."""
    lines = [
        "| covariances | D | K | rows/s and core | GFLOP/s and core | statistics MB | add two ms | "
        "M-step and map ms |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for c in costs:
        P = 1 + STRUCTURES[c.structure].n_terms(c.n_features)
        rate = 4 * c.n_components * P / c.row_seconds / 1e9
        lines.append(
            f"| {c.structure} | {c.n_features} | {c.n_components} | {1 / c.row_seconds:,.0f} | {rate:.0f} | "
            f"{c.statistics_bytes / 1e6:.3g} | {1e3 * c.add_seconds:.3g} | {1e3 * c.step_seconds:.3g} |"
        )
    lines += [
        "",
        "| covariances | D | K | machines | rows s | adding s | tree s | levels | M-step s | share of rows |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for c in costs:
        for machines in (1, 10, 100, 1000):
            p = plan(c, machines, CORES)
            lines.append(
                f"| {c.structure} | {c.n_features} | {c.n_components} | {machines} | {p['pass_s']:.3g} | "
                f"{p['adding_s']:.2g} | {p['tree_s']:.2g} | {p['levels']} | {p['step_s']:.2g} | "
                f"{100 * p['share_of_rows']:.1f} % |"
            )
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=None)
    arguments = parser.parse_args()
    n_threads = effective_n_threads(arguments.threads)
    set_pruning_choice("never")
    shapes = [("full", 16, 32, 1 << 20), ("full", 64, 1024, 1 << 15), ("diag", 64, 1024, 1 << 18)]
    with single_threaded_blas():
        costs = [measure(*shape, n_threads, arguments.repeats) for shape in shapes]
    RESULTS.write_text(json.dumps([c._asdict() for c in costs], indent=1) + "\n")
    print(table(costs))


if __name__ == "__main__":
    main()
