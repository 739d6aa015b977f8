"""Iterations over a file that is larger than what one would hold in memory, beside iterations in memory.

    python benchmarks/big_file.py --folder /scratch      # some minutes, 6 GB of disk

Makes a .npy file of 47,000,000 x 16 float64 rows (32 components, separation 2), fits 32 full-covariance
components to its first 4,000,000 rows in memory, to the file by `NpyRows`, and to the file memory-mapped, all
from the same start, in turn, and prints rows per second of an iteration: the mean over all but the first, as
that is measured anew. The file is in the page cache, as it was written just before and is read in between.
Peaks of anonymous memory are those of a process of its own for each.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

import harness
import machine
import markdown
import problems
from fastgmm import GaussianMixture, NpyRows

N_ROWS, N_FEATURES, N_COMPONENTS, SEPARATION, SEED = 47_000_000, 16, 32, 2.0, 110
IN_MEMORY = 4_000_000
STARTED_FROM = 200_000  # rows
BLOCK = 500_000
RESULTS = Path(__file__).parent / "results" / "big_file.json"
WAYS = ("memory", "NpyRows", "memmap")


def make(path: Path, n_rows: int) -> None:
    """Write rows as `problems.synth` draws them, a block at a time."""
    rng = np.random.default_rng(SEED)
    means = rng.normal(scale=SEPARATION, size=(N_COMPONENTS, N_FEATURES))
    noise = rng.normal(size=(N_COMPONENTS, N_FEATURES, N_FEATURES))
    maps = np.eye(N_FEATURES) + noise / np.sqrt(N_FEATURES)
    with path.open("wb") as file:
        header = {"descr": "<f8", "fortran_order": False, "shape": (n_rows, N_FEATURES)}
        np.lib.format.write_array_header_1_0(file, header)
        for first in range(0, n_rows, BLOCK):
            n = min(BLOCK, n_rows - first)
            labels = rng.integers(N_COMPONENTS, size=n)
            X = rng.normal(size=(n, N_FEATURES))
            for k in range(N_COMPONENTS):
                rows = labels == k
                X[rows] = X[rows] @ maps[k].T + means[k]
            X.tofile(file)


def rows_of(way: str, path: Path) -> Any:
    """The rows as a fit is given them."""
    if way == "NpyRows":
        return NpyRows(path)
    mapped = np.load(path, mmap_mode="r")
    return mapped if way == "memmap" else np.array(mapped[:IN_MEMORY])


def fit(X: Any, path: Path, n_iterations: int, n_threads: int) -> dict[str, Any]:
    """Iterations from the common start, which depends on the first rows of the file only."""
    first = np.array(np.load(path, mmap_mode="r")[:STARTED_FROM])
    start = problems.start(first, N_COMPONENTS, "full")
    del first
    mixture = GaussianMixture(
        N_COMPONENTS,
        weights_init=start.weights,
        means_init=start.means,
        precisions_init=start.precisions,
        reg_covar=start.reg_covar,
        tol=0.0,
        max_iter=n_iterations,
        n_jobs=n_threads,
    )
    began = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it does not converge
        mixture.fit(X)
    seconds = time.perf_counter() - began
    history = mixture.history_
    iterations = [sum(each) for each in zip(history["seconds_pass"], history["seconds_estimate"])]
    n_rows = X.n_rows if isinstance(X, NpyRows) else len(X)
    return {
        "rows_per_second": n_rows / statistics.fmean(iterations[1:]),
        "seconds_beside_iterations": seconds - sum(iterations),
        "seconds_of_iterations": iterations,
        "pairs": history["pairs"][-1] / n_rows,
        "lower_bound": mixture.lower_bound_,
    }


# ---- memory ----------------------------------------------------------------------------------------------


def anonymous_bytes() -> int:
    """Memory of this process that is not of files (Linux)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("/proc/self/status has no RssAnon")


@contextmanager
def sampled_peak() -> Iterator[list[int]]:
    """Peak of anonymous memory while the context lasts, looked at every 5 ms."""
    peak, done = [anonymous_bytes()], threading.Event()

    def sample() -> None:
        while not done.wait(0.005):
            peak[0] = max(peak[0], anonymous_bytes())

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield peak
    finally:
        done.set()
        thread.join()


def report_peak(way: str, path: Path, n_iterations: int, n_threads: int) -> None:
    """Fit in this process, which was started for that, and print its peak of anonymous memory."""
    with sampled_peak() as peak:
        fit(rows_of(way, path), path, n_iterations, n_threads)
    print(json.dumps(peak[0]))


def peak_of(way: str, path: Path, n_threads: int) -> int:
    """Peak of anonymous memory of a process that fits; the rows are sorted in its third iteration."""
    command = [sys.executable, __file__, "--peak", way, str(path), "--threads", str(n_threads)]
    command += ["--iterations", "4"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return int(json.loads(done.stdout))


# ---- all of it -------------------------------------------------------------------------------------------


def measure(folder: Path, n_rows: int, n_iterations: int, n_threads: int, repeats: int) -> dict[str, Any]:
    """Everything that is reported."""
    path = folder / "fastgmm-big-file.npy"
    try:
        harness.log(f"writing {n_rows:,} rows")
        make(path, n_rows)
        runs: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
        rows = {way: rows_of(way, path) for way in WAYS}
        for repeat in range(repeats):
            for way in WAYS:
                runs[way].append(fit(rows[way], path, n_iterations, n_threads))
                harness.log(f"{repeat}: {way} {runs[way][-1]['rows_per_second'] / 1e6:.2f} M rows/s")
        del rows
        peaks = {}
        for way in WAYS[1:]:
            peaks[way] = peak_of(way, path, n_threads)
            harness.log(f"{way}: peak of anonymous memory {peaks[way] / 2**20:.0f} MiB")
        size = path.stat().st_size
    finally:
        path.unlink(missing_ok=True)
    result: dict[str, Any] = {
        "processor": machine.processor(),
        "threads": n_threads,
        "n_rows": n_rows,
        "n_rows_in_memory": IN_MEMORY,
        "n_features": N_FEATURES,
        "n_components": N_COMPONENTS,
        "bytes": size,
        "iterations": n_iterations,
        "ways": {},
    }
    for way in WAYS:
        result["ways"][way] = {
            "rows_per_second": statistics.median(run["rows_per_second"] for run in runs[way]),
            "seconds_beside_iterations": statistics.median(
                run["seconds_beside_iterations"] for run in runs[way]
            ),
            "peak_anonymous_bytes": peaks.get(way),
            "runs": runs[way],
        }
    return result


def table(result: dict[str, Any]) -> str:
    """Markdown."""
    ways = result["ways"]
    in_memory = ways["memory"]["rows_per_second"]
    body = []
    for way in WAYS:
        n_rows = result["n_rows_in_memory"] if way == "memory" else result["n_rows"]
        peak = ways[way]["peak_anonymous_bytes"]
        body.append(
            [
                {"memory": "array in memory", "memmap": "np.memmap"}.get(way, way),
                f"{n_rows:,}",
                markdown.number(ways[way]["rows_per_second"] / 1e6),
                markdown.percent(ways[way]["rows_per_second"] / in_memory),
                markdown.number(ways[way]["seconds_beside_iterations"]),
                "-" if peak is None else f"{peak / 2**20:,.0f}",
            ]
        )
    header = ["rows from", "rows", "million rows/s", "of memory", "s beside iterations", "peak MiB"]
    return markdown.render(header, body)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, help="where the file is made (default: a temporary folder)")
    parser.add_argument("--rows", type=int, default=N_ROWS)
    parser.add_argument("--iterations", type=int, default=6)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument(
        "--peak", nargs=2, metavar=("WAY", "FILE"), help="only fit, and print the peak of memory"
    )
    arguments = parser.parse_args()
    if arguments.peak:
        way, path = arguments.peak
        report_peak(way, Path(path), arguments.iterations, arguments.threads)
        return
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        result = measure(
            Path(folder), arguments.rows, arguments.iterations, arguments.threads, arguments.repeats
        )
    arguments.output.write_text(json.dumps(result, indent=1) + "\n")
    print(table(result))


if __name__ == "__main__":
    main()
