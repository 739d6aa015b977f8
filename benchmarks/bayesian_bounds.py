"""Bayesian mixtures: what is a density, which bounds compare, what reg_covar does, what an iteration costs.

Prints tables in Markdown, for docs/bayesian.md:

    python benchmarks/bayesian_bounds.py            # kept as benchmarks/results/bayesian_bounds.md
    python benchmarks/bayesian_bounds.py --quick    # small data for the times: only shows that it runs
"""

from __future__ import annotations

import argparse
import time
import warnings
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from sklearn.datasets import load_iris
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import BayesianGaussianMixture as TheirMixture

import machine
from fastgmm import BayesianGaussianMixture, GaussianMixture
from markdown import number, render

FAITHFUL = Path(__file__).parent.parent / "tests" / "data" / "faithful.csv"
TYPES = ("full", "tied", "diag", "spherical")
KINDS = ("dirichlet_process", "dirichlet_distribution")


def load() -> dict[str, np.ndarray]:
    return {"faithful": np.loadtxt(FAITHFUL, delimiter=",", skiprows=1), "iris": load_iris().data}


def bayesian(X: np.ndarray, n_components: int, **options: Any) -> BayesianGaussianMixture:
    options = {"max_iter": 5000, "random_state": 0, "n_jobs": 1, **options}
    return BayesianGaussianMixture(n_components=n_components, **options).fit(X)


# ---- densities -----------------------------------------------------------------------------------------


def clusters(n_rows: int) -> np.ndarray:
    """Two clusters of the plane, 6 standard deviations apart, three rows to two."""
    X = np.random.default_rng(0).normal(size=(n_rows, 2))
    X[: 2 * n_rows // 5] += [6.0, 0.0]
    return X


def integral(mixture: BayesianGaussianMixture, predictive: bool) -> float:
    """Integral over the plane of the exponential of `score_samples`.

    In polar coordinates about the middle of the clusters, radius = 4 t / (1 - t): Student's t of few degrees
    of freedom has tails that a square would cut off. Gauss-Legendre in t, the trapezoidal rule in the angle.
    """
    nodes, weights = np.polynomial.legendre.leggauss(400)
    t, weights = 0.5 * (nodes + 1.0), 0.5 * weights
    radius = 4.0 * t / (1.0 - t)
    angles = 2.0 * np.pi * np.arange(400) / 400
    directions = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    points = [3.0, 0.0] + radius[:, None, None] * directions
    density = np.exp(mixture.score_samples(points.reshape(-1, 2), predictive=predictive))
    rings = density.reshape(points.shape[:2]).mean(axis=1) * 2.0 * np.pi * radius
    return float(rings @ (weights * 4.0 / (1.0 - t) ** 2))


def densities() -> str:
    body = []
    for n_rows in (20, 400):
        X = clusters(n_rows)
        for covariance_type in TYPES:
            mixture = bayesian(X, 2, covariance_type=covariance_type)
            wide = bayesian(X, 10, covariance_type=covariance_type)
            cells = [
                f"{integral(one, predictive):.6f}" for one in (mixture, wide) for predictive in (False, True)
            ]
            body.append([f"{n_rows}, {covariance_type}", *cells])
    header = ["rows, covariances", "K = 2: default", "predictive", "K = 10: default", "predictive"]
    return "Integrals of exp(score_samples), two clusters of the plane.\n\n" + render(header, body)


# ---- bounds --------------------------------------------------------------------------------------------


def empty_components() -> str:
    """The same clustering with more components that stay empty: ours and scikit-learn's bound."""
    X = load()["faithful"]
    labels = (X[:, 0] < 3.0).astype(np.int64)
    body = []
    for n_components in (2, 3, 5, 10, 20):
        cells = []
        for kind in KINDS:
            options = {
                "weight_concentration_prior_type": kind,
                "weight_concentration_prior": 0.1,
                "reg_covar": 0.0,
                "max_iter": 1000,
                "tol": 1e-9,
            }
            ours = bayesian(X, n_components, responsibilities_init=labels, **options)
            # scikit-learn takes no start: it continues from our fit, which one iteration leaves as it is
            theirs = TheirMixture(
                n_components=n_components, warm_start=True, **{**options, "max_iter": 1, "tol": 1.0}
            )
            continue_from(theirs, ours)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                theirs.fit(X)
            cells += [f"{ours.lower_bound_:.2f}", f"{theirs.lower_bound_:.2f}"]
        body.append([str(n_components), *cells])
    header = ["n_components", "process", "scikit-learn's", "distribution", "scikit-learn's"]
    return "Lower bounds of faithful in two clusters, the other components empty.\n\n" + render(header, body)


def continue_from(theirs: TheirMixture, ours: BayesianGaussianMixture) -> None:
    """Give scikit-learn's mixture a state to go on from."""
    fitted = ours.to_sklearn()
    for name, value in vars(fitted).items():
        if name.endswith("_"):
            setattr(theirs, name, value)
    theirs.lower_bound_ = -np.inf


def order() -> str:
    """Sticks are broken in order: the bound of a process before and after the largest come first."""
    body = []
    for name, X in load().items():
        for seed in range(3):
            found = bayesian(X, 10, random_state=seed, weight_concentration_prior=1.0)
            largest_first = np.argsort(-found.weights_, kind="stable")
            ordered = bayesian(
                X,
                10,
                weight_concentration_prior=1.0,
                responsibilities_init=found.predict_proba(X)[:, largest_first],
            )
            cells = [f"{one.n_effective_components_}, {one.lower_bound_:.2f}" for one in (found, ordered)]
            body.append([f"{name}, seed {seed}", *cells])
    header = ["rows, start", "as found: used, bound", "largest first: used, bound"]
    return "A Dirichlet process of concentration 1, 10 components.\n\n" + render(header, body)


def types() -> str:
    """All covariance types under one prior: the bound cannot tell which predicts better."""
    rng = np.random.default_rng(0)
    D = 6
    X = rng.normal(size=(120, D)) * [0.5, 0.5, 1.0, 1.0, 2.0, 2.0]
    X[:60] += 3.0
    new = rng.normal(size=(20_000, D)) * [0.5, 0.5, 1.0, 1.0, 2.0, 2.0]
    new[:10_000] += 3.0
    labels = (np.arange(120) >= 60).astype(np.int64)
    body = []
    for covariance_type in TYPES:
        prior = {"full": np.eye(D), "tied": np.eye(D), "diag": np.ones(D), "spherical": 1.0}[covariance_type]
        mixture = bayesian(
            X,
            2,
            covariance_type=covariance_type,
            covariance_prior=prior,
            responsibilities_init=labels,
            tol=1e-9,
        )
        held_out = mixture.score_samples(new, predictive=True).mean()
        body.append([covariance_type, f"{mixture.lower_bound_:.2f}", f"{held_out:.4f}"])
    header = ["covariances", "lower bound", "new rows: mean log predictive density"]
    return (
        "Two clusters of 60 rows, 6 independent features of unequal spread; covariance_prior is the unit "
        "matrix for all.\n\n" + render(header, body)
    )


def falls() -> str:
    """How often the bound falls from one iteration to the next, and by how much at most."""
    body = []
    for name, X in load().items():
        for reg_covar in (0.0, 1e-6, 1e-4, 1e-2, 1.0):
            n_falls, n_steps, largest = 0, 0, 0.0
            for seed in range(10):
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", ConvergenceWarning)
                    mixture = bayesian(X, 10, reg_covar=reg_covar, random_state=seed, tol=0.0, max_iter=200)
                steps = np.diff(mixture.lower_bounds_)
                # what rounding makes of a bound that stands still is no fall
                real = steps < -1e-10 * abs(mixture.lower_bound_)
                n_falls, n_steps = n_falls + int(real.sum()), n_steps + len(steps)
                largest = max(largest, float(-steps.min()))
            body.append(
                [f"{name}, {reg_covar:g}", f"{n_falls} of {n_steps:,}", number(largest if n_falls else 0.0)]
            )
    header = ["rows, reg_covar", "falls", "largest"]
    return "Steps of ten fits of 10 components in which the lower bound falls.\n\n" + render(header, body)


# ---- costs ---------------------------------------------------------------------------------------------


def iteration(estimator: Any, X: np.ndarray, n_iterations: int) -> float:
    """Seconds of an iteration: of a fit of so many, less one of none."""

    def seconds(max_iter: int) -> float:
        estimator.set_params(max_iter=max_iter, tol=0.0)
        begin = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            estimator.fit(X)
        return time.perf_counter() - begin

    seconds(1)
    return median(seconds(n_iterations + 1) - seconds(1) for _ in range(5)) / n_iterations


def costs(scale: float) -> str:
    """An iteration beside one of `GaussianMixture`, from the same rows drawn by a seed."""
    body = []
    for n_rows, D, K in ((272, 2, 10), (100_000, 8, 16), (100_000, 16, 32), (20_000, 64, 32)):
        rng = np.random.default_rng(0)
        n = n_rows if n_rows < 1000 else int(scale * n_rows)
        X = rng.normal(size=(n, D)) + rng.normal(scale=1.5, size=(K, D))[rng.integers(K, size=n)]
        options = {"init_params": "random_from_data", "random_state": 0, "n_jobs": 1}
        n_iterations = 200 if n < 1000 else 10
        plain = iteration(GaussianMixture(K, **options), X, n_iterations)
        ours = iteration(BayesianGaussianMixture(n_components=K, **options), X, n_iterations)
        body.append([f"{n:,} x {D}", str(K), number(1e3 * plain), number(1e3 * ours), f"{ours / plain:.2f}"])
    header = ["rows x features", "K", "GaussianMixture: ms", "BayesianGaussianMixture: ms", "ratio"]
    return f"{machine.processor()}, one thread. One iteration, full covariances.\n\n" + render(header, body)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", nargs="*", help="sections: " + ", ".join(SECTIONS))
    arguments = parser.parse_args()
    for name in arguments.only or SECTIONS:
        text = costs(0.05 if arguments.quick else 1.0) if name == "costs" else SECTIONS[name]()
        print(f"## {name}\n\n{text}\n", flush=True)


SECTIONS = {
    "densities": densities,
    "empty_components": empty_components,
    "order": order,
    "types": types,
    "falls": falls,
    "costs": costs,
}


if __name__ == "__main__":
    main()
