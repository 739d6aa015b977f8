"""A cluster of two processes of one thread beside one process of two threads: time of an iteration.

    python benchmarks/dask_cluster.py [--rows 4000000] [--partitions 8 32 ...] [--separations 1 2]

Both fit the same rows from the same start for the same number of iterations, taking turns; times are those of
history_ (passes and M-steps), so that neither survey nor start counts. Results go to results/dask.json, and a
table in Markdown to standard output.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
import warnings
from itertools import pairwise
from pathlib import Path
from typing import Any

import dask
import numpy as np
from distributed import Client, LocalCluster
from sklearn.exceptions import ConvergenceWarning

import markdown
import problems
from fastgmm import GaussianMixture
from fastgmm.pruning import set_pruning_choice

N_FEATURES, N_COMPONENTS = 16, 16
RESULTS = Path(__file__).parent / "results" / "dask.json"
# Rows that the common start is made from: all of them would take longer than the fits.
START_ROWS = 200_000


def partitions(path: Path, n_rows: int, n_partitions: int) -> list[Any]:
    """Tasks that read the rows from a file, so that they do not travel from here."""

    def read(first: int, last: int) -> np.ndarray:
        return np.array(np.load(path, mmap_mode="r")[first:last])

    edges = np.linspace(0, n_rows, n_partitions + 1).astype(int)
    make = dask.delayed(read)
    return [make(int(first), int(last)) for first, last in pairwise(edges)]


def seconds_per_iteration(model: GaussianMixture) -> float:
    """Mean over all iterations of a fit."""
    history = model.history_
    return (sum(history["seconds_pass"]) + sum(history["seconds_estimate"])) / model.n_iter_


def measure(arguments: argparse.Namespace, separation: float, client: Client, folder: Path) -> list[Any]:
    """One row of results for each number of partitions."""
    X = problems.synth(arguments.rows, N_FEATURES, N_COMPONENTS, separation, 201)
    path = folder / f"rows-{separation:g}.npy"
    np.save(path, X)
    start = problems.start(X[:START_ROWS], N_COMPONENTS, "full")

    def mixture() -> GaussianMixture:
        return GaussianMixture(
            N_COMPONENTS, tol=0.0, max_iter=arguments.iterations, reg_covar=start.reg_covar,
            weights_init=start.weights, means_init=start.means, precisions_init=start.precisions, n_jobs=2,
        )  # fmt: skip

    rows = []
    for n_partitions in arguments.partitions:
        delayed = partitions(path, arguments.rows, n_partitions)
        alone, cluster, bounds, walls = [], [], [], []
        for _ in range(arguments.repeats):
            model = mixture().fit(X)
            alone.append(seconds_per_iteration(model))
            began = time.perf_counter()
            other = mixture().fit(delayed)
            walls.append(time.perf_counter() - began)
            cluster.append(seconds_per_iteration(other))
            bounds.append(abs(other.lower_bound_ / model.lower_bound_ - 1))
        alone_median, cluster_median = statistics.median(alone), statistics.median(cluster)
        rows.append(
            {
                "rows": arguments.rows, "features": N_FEATURES, "components": N_COMPONENTS,
                "separation": separation, "pruning": arguments.pruning, "partitions": n_partitions,
                "partition_mb": X.nbytes / n_partitions / 1e6, "iterations": arguments.iterations,
                "one_process_ms": [1e3 * t for t in alone], "cluster_ms": [1e3 * t for t in cluster],
                "ratio": cluster_median / alone_median,
                "ratios_of_turns": [c / a for a, c in zip(alone, cluster)],
                "fit_seconds": statistics.median(walls), "relative_difference": max(bounds),
            }
        )  # fmt: skip
        print(json.dumps(rows[-1]), flush=True)
    path.unlink()
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=4_000_000)
    parser.add_argument("--partitions", type=int, nargs="+", default=[8, 32])
    parser.add_argument("--separations", type=float, nargs="+", default=[1.0, 2.0])
    parser.add_argument("--iterations", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--pruning", choices=("auto", "never"), default="auto")
    parser.add_argument("--no-file", action="store_true", help="print, and leave results/dask.json alone")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    set_pruning_choice(arguments.pruning)
    rows: list[Any] = []
    with (
        tempfile.TemporaryDirectory() as folder,
        LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        client.run(set_pruning_choice, arguments.pruning)
        for separation in arguments.separations:
            rows += measure(arguments, separation, client, Path(folder))
    header = ["separation", "partitions", "MB each", "one process, ms", "cluster, ms", "ratio"]
    body = [
        [
            f"{row['separation']:g}",
            str(row["partitions"]),
            markdown.number(row["partition_mb"]),
            markdown.number(statistics.median(row["one_process_ms"])),
            markdown.number(statistics.median(row["cluster_ms"])),
            f"{row['ratio']:.2f}",
        ]
        for row in rows
    ]
    print(markdown.render(header, body))
    if not arguments.no_file:
        RESULTS.write_text(json.dumps({"format": 1, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
