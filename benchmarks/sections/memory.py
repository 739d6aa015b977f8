"""Peak memory: anonymous memory of a process during a fit with default arguments, above what it held before.

Sampled from /proc by the harness, from outside the process that fits, so that no lock of its interpreter can
hide a peak. The kernel's high-water mark of resident memory misses nothing, but also counts code and files
that the fit is the first to touch.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import problems
from harness import OURS, Context, Row, Worker, log
from markdown import number, render

TITLE = "Peak memory"
KEY = ("library",)
N_ROWS, N_FEATURES, N_COMPONENTS = 4_000_000, 8, 16
MAX_ITER = 5
INTERVAL = 0.002  # seconds between samples


def run(context: Context) -> Iterator[Row]:
    """Fit 4,000,000 x 8 with 16 components in a fresh process for each library."""
    if not sys.platform.startswith("linux"):
        log("peak memory: only measured on Linux")
        return
    n_rows = max(20_000, int(N_ROWS * context.scale))
    X = problems.synth(n_rows, N_FEATURES, N_COMPONENTS, 1.0, 107)
    with context.stored(problems.Problem("memory", X, N_COMPONENTS)) as stored:
        for library in (OURS, *(peer for peer in context.peers if peer == "sklearn")):
            log(f"peak memory: {library}")
            worker = Worker(library, context.n_threads)
            try:
                stored.hand_to(worker)
                before = peak = kilobytes(worker.pid, "RssAnon")
                resident = kilobytes(worker.pid, "VmRSS")
                # Sets the high-water mark to what is held now.
                Path(f"/proc/{worker.pid}/clear_refs").write_text("5")
                worker.post("fit_default", n_components=N_COMPONENTS, seed=0, max_iter=MAX_ITER)
                while not worker.ready(timeout=INTERVAL):
                    peak = max(peak, kilobytes(worker.pid, "RssAnon"))
                high = kilobytes(worker.pid, "VmHWM")
                fit = worker.answer()
            finally:
                worker.close()
            yield stored.row(
                library=library,
                data_megabytes=X.nbytes / 1e6,
                anonymous_megabytes=(peak - before) * 1.024e-3,
                resident_megabytes=(high - resident) * 1.024e-3,
                seconds=fit["seconds"],
            )


def kilobytes(pid: int, quantity: str) -> int:
    """Units of 1024 bytes of "RssAnon" (anonymous), "VmRSS" (resident) or "VmHWM" (its high-water mark)."""
    status = Path(f"/proc/{pid}/status").read_text()
    match = re.search(rf"^{quantity}:\s+(\d+) kB", status, re.MULTILINE)
    assert match is not None, f"the kernel does not report {quantity}"
    return int(match[1])


def table(rows: list[Row]) -> str:
    """Megabytes above the data."""
    row = rows[0]
    shape = f"{row['n_rows']:,} x {row['n_features']}, K = {row['n_components']}"
    keys = ("anonymous_megabytes", "resident_megabytes", "seconds")
    body = [[row["library"], *(number(row[key]) for key in keys)] for row in rows]
    header = ["library", "anonymous, MB", "resident, MB", f"seconds ({MAX_ITER} iterations)"]
    return f"{shape}: {row['data_megabytes']:.0f} MB of data; peaks above it.\n\n" + render(header, body)
