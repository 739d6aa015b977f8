"""Workers (one process per library), problems on disk for them, and what sections of the benchmark share."""

from __future__ import annotations

import json
import os
import select
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

import envs
from problems import Problem
from problems import start as common_start

HERE = Path(__file__).parent
OURS = "fastgmm"
Row = dict[str, Any]


class WorkerError(RuntimeError):
    """A library raised, or its process ended."""


class Worker:
    """A library in a process of its own.

    Parameters
    ----------
    adapter : str
        Name of the adapter: "fastgmm", "sklearn", "onedal", "numpy".
    n_threads : int
        Threads of every pool the library may use.
    environment : dict of str to str, optional
        Variables to set besides those of this process.
    """

    def __init__(self, adapter: str, n_threads: int, environment: dict[str, str] | None = None) -> None:
        self.adapter = adapter
        python = envs.onedal_python() if adapter == "onedal" else Path(sys.executable)
        variables = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
        threads = {name: str(n_threads) for name in variables}
        self._process = subprocess.Popen(
            [str(python), str(HERE / "worker.py"), adapter, str(n_threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **threads, **(environment or {})},
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def post(self, command: str, **arguments: Any) -> None:
        """Send a command without waiting for its answer, which ``answer`` returns."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"command": command, **arguments}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise WorkerError(f"the {self.adapter} process has ended") from error

    def answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise WorkerError(f"the {self.adapter} process ended with status {self._process.wait()}")
        answer = json.loads(line)
        if "error" in answer:
            raise WorkerError(answer["error"])
        return answer

    def ready(self, timeout: float) -> bool:
        """Whether an answer has begun to arrive within ``timeout`` seconds."""
        assert self._process.stdout is not None
        return bool(select.select([self._process.stdout], [], [], timeout)[0])

    def call(self, command: str, **arguments: Any) -> dict[str, Any]:
        self.post(command, **arguments)
        return self.answer()

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


@dataclass
class Context:
    """What the command line asked for, and the processes and files a run shares."""

    problems: tuple[str, ...]
    types: tuple[str, ...]
    peers: tuple[str, ...]
    n_threads: int
    repeats: int
    seeds: int | None  # None: each section's own number
    scale: float
    iterations: int  # of ours, in "equal iterations"
    peer_seconds: float  # for one fit of a peer from given parameters, if that is enough for four iterations
    default_seconds: float  # after which a peer begins no further fit of a problem with default arguments
    folder: Path  # for data handed to workers
    workers: dict[str, Worker] = field(default_factory=dict)

    @cached_property
    def libraries(self) -> dict[str, dict[str, Any]]:
        """Versions and thread pools of the libraries that work here."""
        found = {}
        for name in (OURS, *self.peers):
            try:
                found[name] = self.worker(name).call("info")
            except (WorkerError, envs.EnvironmentUnavailableError) as error:
                if name == OURS:
                    raise
                print(f"{name} left out: {error}", file=sys.stderr)
        return found

    def worker(self, name: str) -> Worker:
        if name not in self.workers:
            self.workers[name] = Worker(name, self.n_threads)
        return self.workers[name]

    def restart(self, name: str) -> None:
        """Forget a worker; the next use starts another."""
        if name in self.workers:
            self.workers.pop(name).close()

    def close(self) -> None:
        for name in list(self.workers):
            self.restart(name)

    @contextmanager
    def stored(self, problem: Problem, types: tuple[str, ...] = ()) -> Iterator[Stored]:
        """Write a problem and its starts to files for as long as the context lasts."""
        stored = Stored(problem, self.folder / f"{problem.name}.npy", {})
        np.save(stored.path, problem.X)
        for covariance_type in types:
            path = self.folder / f"{problem.name}-{covariance_type}.npz"
            start = common_start(problem.X, problem.n_components, covariance_type)
            np.savez(path, **start._asdict())
            stored.starts[covariance_type] = path
        try:
            yield stored
        finally:
            for path in (stored.path, *stored.starts.values()):
                path.unlink()


@dataclass
class Stored:
    """A problem and its starts as files that workers can read."""

    problem: Problem
    path: Path
    starts: dict[str, Path]

    def hand_to(self, worker: Worker, dtype: str = "float64") -> None:
        worker.call("load", path=str(self.path), dtype=dtype)
        for covariance_type, path in self.starts.items():
            worker.call("load_start", path=str(path), covariance_type=covariance_type)

    def row(self, **more: Any) -> Row:
        """The beginning of a row of results."""
        n_rows, n_features = self.problem.X.shape
        return {
            "problem": self.problem.name,
            "n_rows": n_rows,
            "n_features": n_features,
            "n_components": self.problem.n_components,
            **more,
        }


def settle() -> None:
    """Wait until threads that spin after a parallel region have gone to sleep."""
    time.sleep(0.05)


def geometric_mean(values: list[float]) -> float:
    return statistics.geometric_mean(values) if values else float("nan")


def mean_and_error(values: list[float]) -> tuple[float, float]:
    """Mean and its standard error."""
    error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else float("nan")
    return statistics.fmean(values), error


def log(message: str) -> None:
    """Progress, on standard error so that the report can be piped."""
    print(f"[{time.strftime('%H:%M:%S')}] {message}", file=sys.stderr, flush=True)
