"""Fits from k-means with EM on a sample of the rows before iterations over all, and without it.

    python benchmarks/sample_fit.py                  # the table of docs/performance.md, some minutes
    python benchmarks/sample_fit.py --problems plane-1m --seeds 2

Default arguments, the same seeds for both ways, which take turns. Prints a table in Markdown: iterations over
all rows, rows that the sample's iterations went over in passes over all, milliseconds, and by how much the
final mean log-likelihood is higher with the sample.
"""

from __future__ import annotations

import argparse
import time
import warnings
from typing import Any

import numpy as np

import problems
from fastgmm import GaussianMixture, em, sample_fit
from markdown import number, render

PROBLEMS = ("plane-1m", "pixels-k16", "pixels-k64", "tabular-d8")
improved = sample_fit.improved


class Way:
    """One way to fit, and what came of it."""

    def __init__(self, with_sample: bool) -> None:
        self.with_sample = with_sample
        self.iterations: list[int] = []
        self.passes: list[float] = []
        self.milliseconds: list[float] = []
        self.scores: list[float] = []

    def fit(self, problem: problems.Problem, covariance_type: str, seed: int) -> None:
        """Fit and remember."""
        n_rows = 0

        def counted(data: Any, structure: Any, start: Any, options: Any, frame: Any, state: Any) -> Any:
            nonlocal n_rows
            if not self.with_sample:
                return start
            run = em.run

            def watched(sample: Any, *arguments: Any, **keywords: Any) -> Any:
                nonlocal n_rows
                result = run(sample, *arguments, **keywords)
                n_rows += sample.n_rows * result.n_iter
                return result

            em.run = watched
            try:
                return improved(data, structure, start, options, frame, state)
            finally:
                em.run = run

        sample_fit.improved = counted
        mixture = GaussianMixture(problem.n_components, covariance_type=covariance_type, random_state=seed)
        begin = time.perf_counter()
        mixture.fit(problem.X)
        self.milliseconds.append(1e3 * (time.perf_counter() - begin))
        self.iterations.append(mixture.n_iter_)
        self.passes.append(n_rows / len(problem.X))
        self.scores.append(mixture.score(problem.X))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--problems", nargs="+", choices=problems.NAMES, default=PROBLEMS)
    parser.add_argument(
        "--types", nargs="+", choices=problems.COVARIANCE_TYPES, default=problems.COVARIANCE_TYPES
    )
    parser.add_argument("--seeds", type=int, default=8)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    rows = []
    for name in options.problems:
        problem = problems.load(name)
        for covariance_type in options.types:
            plain, sampled = Way(False), Way(True)
            for seed in range(options.seeds):
                for way in (plain, sampled):
                    way.fit(problem, covariance_type, seed)
            higher = np.array(sampled.scores) - np.array(plain.scores)
            n, D = problem.X.shape
            rows.append([
                f"{name}, {covariance_type}", f"{n:,} x {D}", str(problem.n_components),
                f"{np.mean(plain.iterations):.1f}", f"{np.mean(sampled.iterations):.1f}",
                f"{np.mean(sampled.passes):.1f}",
                number(float(np.median(plain.milliseconds))), number(float(np.median(sampled.milliseconds))),
                f"{higher.mean():+.4f} ± {higher.std(ddof=1) / len(higher) ** 0.5:.4f}",
                f"{np.std(plain.scores, ddof=1):.4f}",
            ])  # fmt: skip
    header = [
        "problem", "rows x features", "K", "iterations without", "with", "sample, passes", "ms without",
        "with", "log-likelihood, difference", "sd",
    ]  # fmt: skip
    print(render(header, rows))


if __name__ == "__main__":
    main()
