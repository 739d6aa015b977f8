"""Stepwise EM beside full EM, from the same start: how near do a few epochs come, and in which time?

Full EM runs until the mean log-likelihood changes by less than 1e-6, at most 1000 iterations. Stepwise EM
makes five epochs, with each setting in several random orders of the rows. Both start from the common start
of problems.py. Prints a table in Markdown:

    python benchmarks/mini_batch.py                 # kept as benchmarks/results/mini_batch.md
    python benchmarks/mini_batch.py --quick         # a tenth of the rows: only shows that it runs
"""

from __future__ import annotations

import argparse
import time
import warnings
from typing import Any, NamedTuple

import numpy as np
from joblib import Parallel, delayed
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning

import machine
import problems
from fastgmm import GaussianMixture, MiniBatchGaussianMixture
from markdown import render

EPOCHS = 5
# Orders of the rows: of most settings few, of those in DECISIVE enough to tell chance from a setting.
SEEDS, MANY_SEEDS = 4, 32
DECISIVE = ("default", "kappa=0.6, t0=40")
TOL, MAX_ITER = 1e-6, 1000
NEAR = 0.01  # nat
PROBLEMS = ("pixels-k16", "tabular-d8", "overlap-d16", "tabular-d16", "digits-pca16")
SETTINGS: dict[str, dict[str, Any]] = {
    "default": {},
    "averaging=None": {"averaging": None},
    "averaging='steps'": {"averaging": "steps"},
    "t0=0": {"t0": 0.0},
    "t0=10": {"t0": 10.0},
    "t0=500": {"t0": 500.0},
    "kappa=0.6, t0=40": {"kappa": 0.6, "t0": 40.0},
    "kappa=0.7": {"kappa": 0.7},
    "batch_size=250": {"batch_size": 250},
    "batch_size=1000": {"batch_size": 1000},
    "batch_size=4000": {"batch_size": 4000},
    "batch_size=10000": {"batch_size": 10000},
    "shuffle=False": {"shuffle": False},
    "10 epochs": {"max_iter": 10},
}


class Outcome(NamedTuple):
    """Mean log-likelihood of the final parameters, and processor seconds of the fit, on one thread."""

    score: float
    seconds: float


def load(name: str, scale: float) -> problems.Problem:
    """A problem of problems.py, or a small real set."""
    if name == "digits-pca16":
        X = PCA(16, random_state=0).fit_transform(load_digits().data)
        return problems.Problem(name, np.ascontiguousarray(X), 10)
    return problems.load(name, scale)


def fitted(estimator: Any, problem: problems.Problem) -> Outcome:
    """Fit from where the estimator starts."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        begin = time.process_time()
        estimator.fit(problem.X)
        seconds = time.process_time() - begin
    return Outcome(estimator.score(problem.X), seconds)


def arguments(problem: problems.Problem) -> dict[str, Any]:
    """The common start, as arguments of both estimators."""
    start = problems.start(problem.X, problem.n_components, "full")
    return {
        "n_components": problem.n_components,
        "weights_init": start.weights,
        "means_init": start.means,
        "precisions_init": start.precisions,
        "reg_covar": start.reg_covar,
        "n_jobs": 1,
    }


def stepwise(given: dict[str, Any], seed: int, **options: Any) -> MiniBatchGaussianMixture:
    """Five epochs with a setting, in one order of the rows."""
    return MiniBatchGaussianMixture(
        **{**given, "tol": 0.0, "max_iter": EPOCHS, "random_state": seed, **options}
    )


def cell(outcomes: list[Outcome], full: Outcome) -> str:
    """Median difference, the least and the largest, and how many came near."""
    differences = np.array([outcome.score - full.score for outcome in outcomes])
    n_near = int(np.count_nonzero(differences > -NEAR))
    return (
        f"{np.median(differences):+.4f} ({differences.min():+.3f} .. {differences.max():+.3f}), "
        f"{n_near}/{len(outcomes)}"
    )


def scores(loaded: list[problems.Problem], n_seeds: int, n_many: int) -> str:
    """How near each setting comes, in several orders of the rows."""
    body: dict[str, list[str]] = {name: [] for name in ("EM, 5 iterations", *SETTINGS)}
    for problem in loaded:
        given = arguments(problem)
        full = fitted(GaussianMixture(**given, tol=TOL, max_iter=MAX_ITER), problem)
        few = fitted(GaussianMixture(**given, tol=0.0, max_iter=EPOCHS), problem)
        body["EM, 5 iterations"].append(f"{few.score - full.score:+.4f}")
        for name, options in SETTINGS.items():
            seeds = range(n_many if name in DECISIVE else n_seeds)
            outcomes = Parallel(n_jobs=-1)(
                delayed(fitted)(stepwise(given, seed, **options), problem) for seed in seeds
            )
            body[name].append(cell(outcomes, full))
    return (
        "Mean log-likelihood of all rows above that of full EM, in nats: median, least and largest over "
        f"{n_seeds} orders of the rows ({n_many} of some), and how many came within {NEAR:g} of it or "
        "above.\n\n" + render(["setting", *PROBLEMS], [[name, *cells] for name, cells in body.items()])
    )


def times(loaded: list[problems.Problem], n_rounds: int = 1) -> str:
    """Processor seconds of fits on one thread, the estimators taking turns; medians."""
    body = []
    for problem in loaded:
        given = arguments(problem)
        full = GaussianMixture(**given, tol=TOL, max_iter=MAX_ITER)
        ways = {
            "full": full,
            "few": GaussianMixture(**given, tol=0.0, max_iter=EPOCHS),
            "default": stepwise(given, 0),
            "large": stepwise(given, 0, batch_size=10_000),
        }
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(n_rounds):
            for name, estimator in ways.items():
                seconds[name].append(fitted(estimator, problem).seconds)
        rows, features = problem.X.shape
        body.append(
            [
                problem.name,
                f"{rows:,} x {features}",
                str(problem.n_components),
                f"{full.score(problem.X):.4f}",
                str(full.n_iter_),
                *(f"{np.median(values):.2f}" for values in seconds.values()),
            ]
        )
    header = ["problem", "rows x features", "K", "full EM: nats", "iterations", "s"]
    header += ["EM, 5 iterations: s", "5 epochs: s", "batch_size=10000: s"]
    return (
        f"{machine.processor()}. Processor seconds on one thread. Full covariances; the same start for all. "
        f"Full EM to a change of {TOL:g}, at most {MAX_ITER} iterations.\n\n{render(header, body)}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the rows, two orders")
    parser.add_argument("--only", choices=("times", "scores"), help="one of the two tables")
    options = parser.parse_args()
    loaded = [load(name, 0.1 if options.quick else 1.0) for name in PROBLEMS]
    print("# Stepwise EM in five epochs")
    if options.only != "scores":
        print(f"\n{times(loaded)}")
    if options.only != "times":
        print(f"\n{scores(loaded, *((2, 2) if options.quick else (SEEDS, MANY_SEEDS)))}")


if __name__ == "__main__":
    main()
