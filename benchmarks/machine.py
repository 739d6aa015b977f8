"""What the numbers were measured on."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

import harness
import peak


def usable_cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def describe(context: harness.Context) -> dict[str, Any]:
    """Processor, peak rates, libraries with their thread pools and BLAS core types."""
    harness.log("machine: peak rates")
    return {
        "processor": processor(),
        "cores": usable_cores(),
        "threads": context.n_threads,
        "system": f"{platform.system()} {platform.machine()}, CPython {platform.python_version()}",
        "peak_gflops": {isa: peak.flop_rate(isa, context.n_threads) / 1e9 for isa in peak.instruction_sets()},
        "dgemm_gflops": peak.dgemm_rate() / 1e9,
        "read_gigabytes_per_second": peak.read_bandwidth(context.n_threads) / 1e9,
        # Some systems set these for all programs; they decide how fast the peers' BLAS is.
        "environment": {name: value for name, value in os.environ.items() if name.startswith("OPENBLAS_")},
        "libraries": context.libraries,
    }


def processor() -> str:
    """Name of the processor."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
