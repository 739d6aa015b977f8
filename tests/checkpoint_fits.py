"""Fits for the tests of checkpoints, and what they end with; as a script: fits that are killed.

``python checkpoint_fits.py FOLDER SEED N_KILLS NAME ...`` makes each of these fits in processes that are
killed, N_KILLS of them, each going on where the last one was, until one reaches the end. All are forked from
a process that has loaded everything and computed nothing. It prints what it did as JSON, a line for each.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import datasets
import numpy as np

from fastgmm import BayesianGaussianMixture, BlockRows, GaussianMixture, _estimator, em, pruning, whole_files
from fastgmm.persistence import POSTERIOR
from fastgmm.sources import base, streamed


def collapsing() -> np.ndarray:
    """Rows with clusters of equal ones: components collapse again and again, and end on their floor."""
    rng = np.random.default_rng(0)
    points = np.repeat(rng.normal(size=(8, 2)), 25, axis=0)
    far = 1e3 + np.repeat(rng.normal(size=(3, 2)), 40, axis=0)
    return np.concatenate([rng.normal(scale=5.0, size=(60, 2)), points, far])


def overlapping(dtype: type = np.float64, n_rows: int = 2000) -> np.ndarray:
    return datasets.problem(3, n_rows, 4, 5, "full", spread=1.5)[0].astype(dtype)


def correlated() -> np.ndarray:
    """Rows of which float32 has too few digits once covariances are known: some passes are in float64."""
    X = overlapping()
    X[:, 3] = X[:, 0] + 1e-3 * X[:, 1]
    return X.astype(np.float32)


def separated() -> np.ndarray:
    """Rows of which most have nothing to do with most components."""
    return datasets.problem(8, 2000, 4, 8, "full", spread=6.0)[0]


def separated_blocks() -> BlockRows:
    return BlockRows(np.array_split(separated(), 3))


def blocks() -> BlockRows:
    """A stream of several parts."""
    return BlockRows(np.array_split(overlapping(), 7))


OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "drawn from the global state": {"random_state": None, "init_params": "random_from_data"},
    "tied": {"covariance_type": "tied"},
    "spherical": {"covariance_type": "spherical"},
    "pruned": {"n_components": 8, "tol": 0.0, "max_iter": 20, "init_params": "random_from_data"},
    "accelerated": {"acceleration": "anderson", "tol": 1e-7},
    "race": {"n_init": 5, "init_params": "random_from_data", "random_state": np.random.RandomState},
    "race of two": {"n_init": 2, "init_params": "k-means++"},
    "float32": {"arithmetic": "float32", "tol": 1e-9, "max_iter": 40, "n_components": 3},
    "tied float32": {"arithmetic": "float32", "covariance_type": "tied"},
    "float32 that rests": {"arithmetic": "float32", "n_components": 2},
    "stream": {"random_state": None, "n_init": 3},
    "pruned stream": {
        "n_components": 8, "covariance_type": "diag", "tol": 0.0, "max_iter": 15,
        "init_params": "random_from_data",
    },
    "repairs": {
        "n_components": 12, "reg_covar": 0.0, "init_params": "random_from_data", "max_iter": 30, "tol": 0.0,
        "random_state": 1,
    },
    "floors": {
        "n_components": 12, "reg_covar": 0.0, "init_params": "random_from_data", "max_iter": 30, "tol": 0.0,
        "repair": "floor", "random_state": 1,
    },
    "accelerated repairs": {
        "n_components": 9, "reg_covar": 0.0, "init_params": "random_from_data", "acceleration": "anderson",
        "n_init": 3, "max_iter": 30,
    },
    "bayesian": {"weight_concentration_prior_type": "dirichlet_distribution", "tol": 1e-3},
    "bayesian accelerated": {"covariance_type": "tied", "acceleration": "anderson", "tol": 1e-6},
    "bayesian stream": {"random_state": None, "max_iter": 12, "init_params": "random_from_data"},
}  # fmt: skip
ROWS = {
    "repairs": collapsing,
    "floors": collapsing,
    "accelerated repairs": collapsing,
    "float32 that rests": correlated,
    "stream": blocks,
    "bayesian stream": blocks,
    "pruned": separated,
    "pruned stream": separated_blocks,
}


def rows_of(name: str) -> Any:
    if name in ROWS:
        return ROWS[name]()
    return overlapping(np.float32 if "float32" in name else np.float64)


def mixture_of(name: str, **more: Any) -> Any:
    options = {"n_components": 5, "tol": 1e-5, "max_iter": 30, "random_state": 7, "checkpoint_every": 3}
    options |= OPTIONS[name] | more
    if options["random_state"] is np.random.RandomState:
        options["random_state"] = np.random.RandomState(7)
    return (BayesianGaussianMixture if "bayesian" in name else GaussianMixture)(**options)


def prepare(name: str) -> None:
    """Small parts of streams, of which few rows are kept for starts; pruning where the name says so."""
    base.SMALLEST_PART = streamed.SMALLEST_PART = 1 << 12
    _estimator.rows_to_seed_from = lambda n_components, n_features: 600  # type: ignore[assignment]
    pruning.set_pruning_choice("always" if "pruned" in name else "never")


@contextmanager
def put_back() -> Iterator[None]:
    """What `prepare` changes is as it was, afterwards."""
    before = base.SMALLEST_PART, streamed.SMALLEST_PART, _estimator.rows_to_seed_from
    try:
        yield
    finally:
        base.SMALLEST_PART, streamed.SMALLEST_PART, _estimator.rows_to_seed_from = before
        pruning.set_pruning_choice("auto")


def ended(mixture: Any) -> dict[str, str]:
    """All that a fit ends with but its seconds, bit for bit."""
    history = {name: values for name, values in mixture.history_.items() if "seconds" not in name}
    result = {
        name: hashlib.sha256(getattr(mixture, name).tobytes()).hexdigest()
        for name in ("weights_", "means_", "covariances_", "precisions_cholesky_")
    }
    for name in POSTERIOR:
        if hasattr(mixture, name):
            result[name] = repr(np.array(getattr(mixture, name)).tolist())
    for name in ("lower_bounds_", "lower_bound_", "n_iter_", "converged_", "n_repairs_"):
        result[name] = repr(getattr(mixture, name))
    result["history_"] = repr(history)
    if isinstance(mixture.random_state, np.random.RandomState):
        result["random_state"] = repr(mixture.random_state.get_state()[1:])
    return result


def fit(name: str, **more: Any) -> dict[str, str]:
    prepare(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ended(mixture_of(name, **more).fit(rows_of(name)))


# ---- killed fits -----------------------------------------------------------------------------------------


class Events:
    """Counts what happens in a fit, and kills the process at one of them."""

    def __init__(self, kill_at: int) -> None:
        self.n, self.kill_at = 0, kill_at
        write, collect = whole_files.write_atomically, em.Maximiser.collect

        def watched_write(path: str, fill: Any) -> None:
            def in_two(file: Any) -> None:
                content = BytesIO()
                fill(content)
                half = len(content.getvalue()) // 2
                file.write(content.getvalue()[:half])
                file.flush()
                self.happened()
                file.write(content.getvalue()[half:])

            self.happened()
            write(path, in_two)
            self.happened()

        def watched_collect(*arguments: Any) -> Any:
            self.happened()
            statistics = collect(*arguments)
            self.happened()
            return statistics

        def watched(function: Any) -> Any:
            def call(*arguments: Any) -> Any:
                self.happened()
                return function(*arguments)

            return call

        whole_files.write_atomically = watched_write
        em.Maximiser.collect = watched_collect
        os.replace, os.fsync = watched(os.replace), watched(os.fsync)

    def happened(self) -> None:
        self.n += 1
        if self.n == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)


def child(name: str, folder: Path, kill_at: int, n_jobs: int, seconds: float | None) -> bool:
    """Whether the fit, in a process of its own, came to its end; killed there, or after so many seconds."""
    process = os.fork()
    if process == 0:
        code = 1
        try:
            # a fit that draws from the global state must go on with the draws of the one that began
            np.random.seed(11 if not (folder / "fit.npz").exists() else os.getpid())
            events = Events(kill_at)
            result = fit(name, checkpoint=folder / "fit.npz", n_jobs=n_jobs)
            (folder / "end.json").write_text(json.dumps({"end": result, "n_events": events.n}))
            code = 0
        finally:
            os._exit(code)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(process, signal.SIGKILL)
    _, status = os.waitpid(process, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return False
    assert os.WEXITSTATUS(status) == 0
    return True


def killed(folder: Path, name: str, rng: np.random.Generator, most: int) -> dict[str, Any]:
    """What came of a fit that was killed so often, beside one that was not."""
    folder.mkdir()
    began = time.perf_counter()
    assert child(name, folder, 0, 1, None)
    duration = time.perf_counter() - began
    whole = json.loads((folder / "end.json").read_text())
    differ, left_over = [], []
    n_kills = n_ends = 0
    while n_kills < most:
        (folder / "fit.npz").unlink()
        over = False
        while not over:
            by_time = rng.random() < 0.3
            over = child(
                name,
                folder,
                0 if by_time else int(rng.integers(1, whole["n_events"] // 2)),
                int(rng.integers(1, 3)),
                float(rng.uniform(0, duration)) if by_time else None,
            )
            n_kills += not over
        n_ends += 1
        end = json.loads((folder / "end.json").read_text())["end"]
        differ += [key for key in end if end[key] != whole["end"][key]]
        left_over += [path.name for path in folder.iterdir() if path.suffix == ".tmp"]
    return {"name": name, "kills": n_kills, "ends": n_ends, "differ": differ, "left_over": left_over}


def main() -> None:
    for number, name in enumerate(sys.argv[4:]):
        rng = np.random.default_rng([int(sys.argv[2]), number])
        print(json.dumps(killed(Path(sys.argv[1]) / str(number), name, rng, int(sys.argv[3]))))


if __name__ == "__main__":
    main()
