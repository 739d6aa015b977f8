"""What the machine can do: peak arithmetic rate per instruction set, memory bandwidth, and the BLAS's dgemm.

    python benchmarks/peak.py              # prints a table

The functions are short (about 0.2 s), so that they can be called between fits: where clock or load change,
a rate is only comparable with a peak taken beside it. ``peak.c`` is compiled on first use with the C
compiler named by CC (cc by default), into a cache directory beside this file.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np

SOURCE = Path(__file__).with_name("peak.c")
CACHE = Path(__file__).with_name(".cache")
# Names as fastgmm.show_config() and FASTGMM_ISA have them, worst first.
_SYMBOLS = {"x86-64-v2": "v2", "x86-64-v3": "v3", "x86-64-v4": "v4", "base": "base"}


@cache
def _library() -> ctypes.CDLL:
    digest = hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:16]
    target = CACHE / f"peak-{digest}-{sys.platform}.so"
    if not target.exists():
        CACHE.mkdir(exist_ok=True)
        temporary = target.with_suffix(f".{os.getpid()}")
        compiler = os.environ.get("CC", "cc").split()
        # -ffp-contract=fast turns a * b + c into one FMA where there is one.
        flags = ["-O3", "-std=gnu11", "-ffp-contract=fast", "-Wno-psabi", "-shared", "-fPIC"]
        subprocess.run([*compiler, *flags, str(SOURCE), "-o", str(temporary)], check=True)
        temporary.replace(target)
    library = ctypes.CDLL(str(target))
    for suffix in _SYMBOLS.values():
        if hasattr(library, f"flop_{suffix}"):
            getattr(library, f"flop_{suffix}").restype = ctypes.c_double
            getattr(library, f"flop_{suffix}").argtypes = [ctypes.c_int64, ctypes.c_void_p]
    library.read_memory.restype = ctypes.c_double
    library.read_memory.argtypes = [ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p]
    return library


@cache
def instruction_sets() -> tuple[str, ...]:
    """Instruction sets this machine runs, worst first."""
    library = _library()
    return tuple(
        name for name, suffix in _SYMBOLS.items()
        if hasattr(library, f"has_{suffix}") and getattr(library, f"has_{suffix}")()
    )  # fmt: skip


def _rate(n_threads: int, work: Callable[[int], float]) -> float:
    """Total of ``work(thread)`` over all threads, by the wall time from the first start to the last end."""

    def timed(thread: int) -> tuple[float, float, float]:
        begin = time.perf_counter()
        amount = work(thread)
        return begin, time.perf_counter(), amount

    with ThreadPoolExecutor(n_threads) as pool:  # ctypes releases the interpreter lock during the call
        spans = list(pool.map(timed, range(n_threads)))
    return sum(span[2] for span in spans) / (max(span[1] for span in spans) - min(span[0] for span in spans))


def flop_rate(instruction_set: str, n_threads: int, seconds: float = 0.2, repeats: int = 8) -> float:
    """Peak multiply-add rate in flop/s (a multiply-add is two), the best of ``repeats`` in ``seconds``.

    x86-64-v2 has no fused multiply-add: there a multiplication and an addition.
    """
    function = getattr(_library(), f"flop_{_SYMBOLS[instruction_set]}")
    sinks = np.empty((n_threads, 8))  # one cache line each

    def run(steps: int) -> float:
        return _rate(n_threads, lambda thread: function(steps, sinks[thread].ctypes.data))

    probe = 20_000
    operations_per_step = function(1, sinks[0].ctypes.data)
    steps = int(max(probe, run(probe) / n_threads / operations_per_step * seconds / repeats))
    return max(run(steps) for _ in range(repeats))


def read_bandwidth(n_threads: int, megabytes: int = 512, repeats: int = 5) -> float:
    """Bytes per second read from an array larger than the caches, the best of ``repeats``."""
    values = np.ones(megabytes * 1_000_000 // 8)
    parts = np.array_split(values, n_threads)
    sinks = np.empty((n_threads, 8))
    function = _library().read_memory

    def work(thread: int) -> float:
        part = parts[thread]
        return function(part.ctypes.data, part.size, sinks[thread].ctypes.data)

    return max(_rate(n_threads, work) for _ in range(repeats))


def dgemm_rate(size: int = 1536, repeats: int = 3) -> float:
    """Rate in flop/s of NumPy's matrix product with the threads its BLAS is set to."""
    a = np.random.default_rng(0).normal(size=(size, size))
    best = 0.0
    for _ in range(repeats + 1):
        begin = time.perf_counter()
        a @ a
        best = max(best, 2.0 * size**3 / (time.perf_counter() - begin))
    return best


if __name__ == "__main__":
    all_threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for threads in sorted({1, all_threads}):
        for isa in instruction_sets():
            print(f"{isa:10s} {threads} threads {flop_rate(isa, threads) / 1e9:8.1f} GFLOP/s")
        print(f"read       {threads} threads {read_bandwidth(threads) / 1e9:8.1f} GB/s")
    print(f"dgemm      {all_threads} threads {dgemm_rate() / 1e9:8.1f} GFLOP/s")
