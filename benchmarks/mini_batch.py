"""Stepwise EM beside full EM, from the same start: how near do a few epochs come, and in which time?

Full EM runs until the mean log-likelihood changes by less than 1e-6, at most 1000 iterations. Stepwise EM
makes five epochs, with each setting in several random orders of the rows. Both start from the common start
of problems.py, in the last table from those they make themselves with the same random_state. Prints tables
in Markdown:

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
# Starts that the estimators make, with reg_covar of the common start where none is said.
STARTS: dict[str, dict[str, Any]] = {
    "kmeans": {},
    "kmeans, reg_covar=1e-6": {"reg_covar": 1e-6},
    "k-means++": {"init_params": "k-means++"},
    "random_from_data": {"init_params": "random_from_data"},
    "random": {"init_params": "random"},
}
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


def of_rows_drawn_anew(given: dict[str, Any], problem: problems.Problem, seed: int) -> Outcome:
    """Full EM of as many rows drawn with replacement, and from where that ends of all rows.

    What comes of it tells how far the rows decide in which optimum EM ends, and how far chance does.
    """
    N = len(problem.X)
    counts = np.bincount(np.random.default_rng(seed).integers(N, size=N), minlength=N).astype(float)
    mixture = GaussianMixture(**given, tol=TOL, max_iter=MAX_ITER, warm_start=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        mixture.fit(problem.X, sample_weight=counts)
    return fitted(mixture, problem)


def cell(differences: list[float]) -> str:
    """Median difference, the least and the largest, and how many came near."""
    n_near = int(np.count_nonzero(np.array(differences) > -NEAR))
    return (
        f"{np.median(differences):+.4f} ({min(differences):+.3f} .. {max(differences):+.3f}), "
        f"{n_near}/{len(differences)}"
    )


def scores(loaded: list[problems.Problem], n_seeds: int, n_many: int) -> str:
    """How near each setting comes, in several orders of the rows."""
    body: dict[str, list[str]] = {name: [] for name in ("EM, 5 iterations", "EM, rows anew", *SETTINGS)}
    for problem in loaded:
        given = arguments(problem)
        full = fitted(GaussianMixture(**given, tol=TOL, max_iter=MAX_ITER), problem)
        few = fitted(GaussianMixture(**given, tol=0.0, max_iter=EPOCHS), problem)
        body["EM, 5 iterations"].append(f"{few.score - full.score:+.4f}")
        outcomes = Parallel(n_jobs=-1)(
            delayed(of_rows_drawn_anew)(given, problem, seed) for seed in range(n_many)
        )
        body["EM, rows anew"].append(cell([outcome.score - full.score for outcome in outcomes]))
        for name, options in SETTINGS.items():
            seeds = range(n_many if name in DECISIVE else n_seeds)
            outcomes = Parallel(n_jobs=-1)(
                delayed(fitted)(stepwise(given, seed, **options), problem) for seed in seeds
            )
            body[name].append(cell([outcome.score - full.score for outcome in outcomes]))
    return (
        "Mean log-likelihood of all rows above that of full EM, in nats: median, least and largest over "
        f"{n_seeds} orders of the rows ({n_many} of some), and how many came within {NEAR:g} of it or "
        f"above. Rows anew: full EM of as many rows drawn with replacement, {n_many} draws, then of all.\n\n"
        + render(["setting", *PROBLEMS], [[name, *cells] for name, cells in body.items()])
    )


def from_own_start(problem: problems.Problem, options: dict[str, Any], seed: int) -> tuple[float, float]:
    """Stepwise EM, and full EM with its default tol, less full EM, from the starts they make, in nats."""
    reg_covar = problems.start(problem.X, problem.n_components, "full").reg_covar
    given = {"n_components": problem.n_components, "random_state": seed, "n_jobs": 1}
    given |= {"reg_covar": reg_covar, **options}
    full = fitted(GaussianMixture(**given, tol=TOL, max_iter=MAX_ITER), problem)
    steps = fitted(MiniBatchGaussianMixture(**given, tol=0.0, max_iter=EPOCHS), problem)
    short = fitted(GaussianMixture(**given), problem)
    return steps.score - full.score, short.score - full.score


def starts(loaded: list[problems.Problem], n_seeds: int) -> str:
    """How near the default settings come from the starts of the estimators."""
    body = []
    for name, options in STARTS.items():
        found = [
            Parallel(n_jobs=-1)(delayed(from_own_start)(problem, options, seed) for seed in range(n_seeds))
            for problem in loaded
        ]
        body.append([name, *(cell([steps for steps, _ in pairs]) for pairs in found)])
        body.append(["... EM, tol=1e-3", *(cell([short for _, short in pairs]) for pairs in found)])
    return (
        f"The same from the starts that the estimators make, {n_seeds} values of random_state, with each of "
        "which both have the same clusters, rows or responsibilities. Beside five epochs: full EM to its "
        f"default tol. Clusters are followed by EM on a sample, at most {EPOCHS} iterations before "
        "mini-batches; rows, before these, by an iteration of EM.\n\n"
        + render(["init_params", *PROBLEMS], body)
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
    parser.add_argument("--only", choices=("times", "scores", "starts"), help="one of the tables")
    options = parser.parse_args()
    loaded = [load(name, 0.1 if options.quick else 1.0) for name in PROBLEMS]
    print("# Stepwise EM in five epochs")
    few, many = (2, 2) if options.quick else (SEEDS, MANY_SEEDS)
    tables = {
        "times": lambda: times(loaded),
        "scores": lambda: scores(loaded, few, many),
        "starts": lambda: starts(loaded, many),
    }
    for name, table in tables.items():
        if options.only in (None, name):
            print(f"\n{table()}", flush=True)


if __name__ == "__main__":
    main()
