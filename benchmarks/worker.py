"""The process that fits: one library, commands on standard input, answers on standard output.

Both are lines of JSON; arrays travel in files. harness.Worker is the other end. This file and what it imports
run in every library's environment, so they may use nothing but the standard library, NumPy, threadpoolctl and
that library.
"""

from __future__ import annotations

import importlib
import json
import os
import platform
import sys
import time
import traceback
import warnings
from typing import Any

import numpy as np
import threadpoolctl

from problems import Start

_POOL_KEYS = ("internal_api", "num_threads", "architecture", "version")


class Session:
    """What one worker remembers between commands."""

    def __init__(self, adapter_name: str, n_threads: int) -> None:
        self.adapter = importlib.import_module(f"adapters.{adapter_name}_adapter")
        self.adapter.prepare(n_threads)
        self.n_threads = n_threads
        self.X = np.empty((0, 0))
        self.starts: dict[str, Start] = {}
        self.model: Any = None

    def info(self) -> dict[str, Any]:
        return {
            "label": self.adapter.LABEL,
            "covariance_types": self.adapter.COVARIANCE_TYPES,
            "python": platform.python_version(),
            "numpy": np.__version__,
            "pools": [{key: pool.get(key) for key in _POOL_KEYS} for pool in threadpoolctl.threadpool_info()],
            **self.adapter.info(),
        }

    def load(self, path: str, dtype: str = "float64") -> dict[str, Any]:
        """Read a data set into this process's own memory, as a user's data would be."""
        self.X = np.load(path).astype(dtype, copy=False)
        self.starts.clear()
        return {"shape": self.X.shape}

    def load_start(self, path: str, covariance_type: str) -> dict[str, Any]:
        with np.load(path) as arrays:
            parts = {name: arrays[name] for name in Start._fields}
        self.starts[covariance_type] = Start(**{**parts, "reg_covar": float(parts["reg_covar"])})
        return {}

    def fit(
        self, covariance_type: str, max_iter: int, score: bool = False, options: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        start = self.starts[covariance_type]
        fit = self.adapter.fit(self.X, start, covariance_type, max_iter, **(options or {}))
        return self._answer(fit, score)

    def dense(self, dense: bool) -> dict[str, Any]:
        """Ours only: passes that score every component for every row."""
        self.adapter.set_dense(dense)
        return {}

    def fit_default(
        self,
        n_components: int,
        seed: int,
        max_iter: int | None = None,
        score: bool = False,
        options: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        fit = self.adapter.fit_default(self.X, n_components, seed, max_iter, **(options or {}))
        return self._answer(fit, score)

    def fit_clusters(
        self, n_components: int, seed: int, max_iter: int, options: dict[str, Any]
    ) -> dict[str, Any]:
        """Ours only: from the clusters of k-means, without EM on a sample before."""
        return self._answer(self.adapter.fit_clusters(self.X, n_components, seed, max_iter, **options), False)

    def fit_bayesian(self, n_components: int, max_iter: int) -> dict[str, Any]:
        """A Bayesian mixture from random rows, the same of every library; its weights besides."""
        fit = self.adapter.fit_bayesian(self.X, n_components, max_iter)
        return {**self._answer(fit, False), "weights": np.asarray(fit.weights).tolist()}

    def has_option(self, name: str) -> dict[str, Any]:
        """Ours only: whether the estimator has an argument of this name."""
        return {"has": self.adapter.has_option(name)}

    def restarts(self, n_components: int, seed: int, n_init: int) -> dict[str, Any]:
        """Ours only: one fit of many starts, and as many fits of one start each."""
        return self.adapter.restarts(self.X, n_components, seed, n_init)

    def mixture(self, n_components: int, n_rows: int) -> dict[str, Any]:
        """Make the mixture that ``predict`` and ``one_row`` ask: of the first rows, after two iterations."""
        self.model = self.adapter.mixture(self.X[:n_rows], n_components)
        return {}

    def predict(self, method: str) -> dict[str, Any]:
        begin = time.perf_counter()
        getattr(self.model, method)(self.X)
        return {"seconds": time.perf_counter() - begin}

    def one_row(self, rounds: int, calls: int) -> dict[str, Any]:
        """Ours only: seconds of each way to label one row, scikit-learn's too, taking turns."""
        return self.adapter.one_row(self.model, self.X[:1].copy(), rounds, calls)

    def peak(self, instruction_set: str) -> dict[str, Any]:
        import peak

        return {"flop_per_second": peak.flop_rate(instruction_set, self.n_threads)}

    @staticmethod
    def _answer(fit: Any, score: bool) -> dict[str, Any]:
        return {
            "seconds": fit.seconds,
            "n_iter": int(fit.n_iter),
            "finite": bool(np.isfinite(fit.means).all() and np.isfinite(fit.covariances).all()),
            "log_likelihood": fit.score() if score and fit.score is not None else None,
            **fit.extra,
        }


def main() -> None:
    adapter_name, n_threads = sys.argv[1], int(sys.argv[2])
    # Libraries that print must not disturb the answers: give them standard error instead.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    warnings.simplefilter("ignore")
    session = Session(adapter_name, n_threads)
    for line in sys.stdin:
        request = json.loads(line)
        command = request.pop("command")
        try:
            answer = getattr(session, command)(**request)
        except Exception as error:  # the harness decides what a failure means
            answer = {"error": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc()}
        answers.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
