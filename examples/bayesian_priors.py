"""What each prior of a Bayesian mixture does, over its range, on two small real data sets.

    python examples/bayesian_priors.py            # pictures into examples/output
    python examples/bayesian_priors.py --docs     # into docs/ of a checkout, as docs/bayesian.md shows them

Each prior is varied on its own, the others at their defaults. For each value: how many components are in use
and the lower bound, both of all rows; and the log-likelihood of rows that were held out, under the posterior
predictive density. Prints the values as tables. It takes less than a minute.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from joblib import Parallel, delayed
from sklearn.datasets import load_iris
from sklearn.exceptions import ConvergenceWarning

from fastgmm import BayesianGaussianMixture

OUTPUT = Path(__file__).parent / "output"
DOCS = Path(__file__).parent.parent / "docs"

N_COMPONENTS = 10
N_FOLDS, N_REPEATS = 5, 2
# Components that are not needed empty slowly; what they leave hardly matters to rows that are held out.
TOL, TOL_OF_FOLDS = 1e-3, 1e-2
PROCESS, DISTRIBUTION = "dirichlet_process", "dirichlet_distribution"
# Of degrees of freedom it is what they are above D - 1, of the covariance what cov(X) is multiplied by.
GRIDS: dict[str, np.ndarray] = {
    "weight_concentration_prior": 10.0 ** np.arange(-4, 4),
    "mean_precision_prior": 10.0 ** np.arange(-3, 4),
    "degrees_of_freedom_prior": np.array([0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0]),
    "covariance_prior": np.array([1e-3, 1e-2, 0.1, 0.3, 1.0, 3.0, 10.0]),
}
LABELS = {
    "weight_concentration_prior": "weight_concentration_prior",
    "mean_precision_prior": "mean_precision_prior",
    "degrees_of_freedom_prior": "degrees_of_freedom_prior - (D - 1)",
    "covariance_prior": "covariance_prior / cov(X)",
}

# Eruptions of Old Faithful, the data set `faithful` of R (Härdle 1991, Smoothing Techniques): minutes that
# each took, and minutes to the next.
FAITHFUL = """
    3.6 79, 1.8 54, 3.333 74, 2.283 62, 4.533 85, 2.883 55, 4.7 88, 3.6 85, 1.95 51, 4.35 85, 1.833 54,
    3.917 84, 4.2 78, 1.75 47, 4.7 83, 2.167 52, 1.75 62, 4.8 84, 1.6 52, 4.25 79, 1.8 51, 1.75 47,
    3.45 78, 3.067 69, 4.533 74, 3.6 83, 1.967 55, 4.083 76, 3.85 78, 4.433 79, 4.3 73, 4.467 77, 3.367 66,
    4.033 80, 3.833 74, 2.017 52, 1.867 48, 4.833 80, 1.833 59, 4.783 90, 4.35 80, 1.883 58, 4.567 84,
    1.75 58, 4.533 73, 3.317 83, 3.833 64, 2.1 53, 4.633 82, 2 59, 4.8 75, 4.716 90, 1.833 54, 4.833 80,
    1.733 54, 4.883 83, 3.717 71, 1.667 64, 4.567 77, 4.317 81, 2.233 59, 4.5 84, 1.75 48, 4.8 82,
    1.817 60, 4.4 92, 4.167 78, 4.7 78, 2.067 65, 4.7 73, 4.033 82, 1.967 56, 4.5 79, 4 71, 1.983 62,
    5.067 76, 2.017 60, 4.567 78, 3.883 76, 3.6 83, 4.133 75, 4.333 82, 4.1 70, 2.633 65, 4.067 73,
    4.933 88, 3.95 76, 4.517 80, 2.167 48, 4 86, 2.2 60, 4.333 90, 1.867 50, 4.817 78, 1.833 63, 4.3 72,
    4.667 84, 3.75 75, 1.867 51, 4.9 82, 2.483 62, 4.367 88, 2.1 49, 4.5 83, 4.05 81, 1.867 47, 4.7 84,
    1.783 52, 4.85 86, 3.683 81, 4.733 75, 2.3 59, 4.9 89, 4.417 79, 1.7 59, 4.633 81, 2.317 50, 4.6 85,
    1.817 59, 4.417 87, 2.617 53, 4.067 69, 4.25 77, 1.967 56, 4.6 88, 3.767 81, 1.917 45, 4.5 82,
    2.267 55, 4.65 90, 1.867 45, 4.167 83, 2.8 56, 4.333 89, 1.833 46, 4.383 82, 1.883 51, 4.933 86,
    2.033 53, 3.733 79, 4.233 81, 2.233 60, 4.533 82, 4.817 77, 4.333 76, 1.983 59, 4.633 80, 2.017 49,
    5.1 96, 1.8 53, 5.033 77, 4 77, 2.4 65, 4.6 81, 3.567 71, 4 70, 4.5 81, 4.083 93, 1.8 53, 3.967 89,
    2.2 45, 4.15 86, 2 58, 3.833 78, 3.5 66, 4.583 76, 2.367 63, 5 88, 1.933 52, 4.617 93, 1.917 49,
    2.083 57, 4.583 77, 3.333 68, 4.167 81, 4.333 81, 4.5 73, 2.417 50, 4 85, 4.167 74, 1.883 55, 4.583 77,
    4.25 83, 3.767 83, 2.033 51, 4.433 78, 4.083 84, 1.833 46, 4.417 83, 2.183 55, 4.8 81, 1.833 57,
    4.8 76, 4.1 84, 3.966 77, 4.233 81, 3.5 87, 4.366 77, 2.25 51, 4.667 78, 2.1 60, 4.35 82, 4.133 91,
    1.867 53, 4.6 78, 1.783 46, 4.367 77, 3.85 84, 1.933 49, 4.5 83, 2.383 71, 4.7 80, 1.867 49, 3.833 75,
    3.417 64, 4.233 76, 2.4 53, 4.8 94, 2 55, 4.15 76, 1.867 50, 4.267 82, 1.75 54, 4.483 75, 4 78,
    4.117 79, 4.083 78, 4.267 78, 3.917 70, 4.55 79, 4.083 70, 2.417 54, 4.183 86, 2.217 50, 4.45 90,
    1.883 54, 1.85 54, 4.283 77, 3.95 79, 2.333 64, 4.15 75, 2.35 47, 4.933 86, 2.9 63, 4.583 85, 3.833 82,
    2.083 57, 4.367 82, 2.133 67, 4.35 74, 2.2 54, 4.45 83, 3.567 73, 4.5 73, 4.15 88, 3.817 80, 3.917 71,
    4.45 83, 2 56, 4.283 79, 4.767 78, 4.533 84, 1.85 58, 4.25 83, 1.983 43, 2.25 60, 4.75 75, 4.117 81,
    2.15 46, 4.417 90, 1.817 46, 4.467 74
"""


class Outcome(NamedTuple):
    """Components in use; lower bound a row; log-likelihood of a row held out, and its standard error."""

    n_used: int
    bound: float
    held_out: float
    error: float


def load() -> dict[str, np.ndarray]:
    """Old Faithful: minutes of eruptions and of waiting. Iris: centimetres of four parts of 150 flowers."""
    faithful = np.array([pair.split() for pair in FAITHFUL.split(",")], dtype=float)
    return {"faithful": faithful, "iris": load_iris().data}


def folds(n_rows: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows to fit and rows to score, of repeated cross-validation."""
    for repeat in range(N_REPEATS):
        order = np.random.default_rng(repeat).permutation(n_rows)
        for fold in range(N_FOLDS):
            held = order[fold::N_FOLDS]
            yield np.setdiff1d(order, held), held


def fit(X: np.ndarray, tol: float, **prior: Any) -> BayesianGaussianMixture:
    mixture = BayesianGaussianMixture(
        n_components=N_COMPONENTS, tol=tol, max_iter=1000, reg_covar=0.0, random_state=0, n_jobs=1, **prior
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return mixture.fit(X)


def priors(X: np.ndarray, name: str) -> list[dict[str, Any]]:
    """Arguments of the constructor, for each value of a prior's range."""
    values: list[Any] = list(GRIDS[name])
    if name == "degrees_of_freedom_prior":
        values = [X.shape[1] - 1 + value for value in values]
    elif name == "covariance_prior":
        values = [value * np.cov(X.T) for value in values]
    return [{name: value} for value in values]


def outcome(X: np.ndarray, prior: dict[str, Any]) -> Outcome:
    mixture = fit(X, TOL, **prior)
    scores = [
        fit(X[rows], TOL_OF_FOLDS, **prior).score_samples(X[held], predictive=True).mean()
        for rows, held in folds(len(X))
    ]
    error = np.std(scores, ddof=1) / np.sqrt(len(scores))
    return Outcome(
        mixture.n_effective_components_, mixture.lower_bound_ / len(X), float(np.mean(scores)), float(error)
    )


def sweep(X: np.ndarray, name: str) -> dict[str, list[Outcome]]:
    """Outcomes of a prior's values; of the weights' under both kinds of prior, else under the process."""
    kinds = (PROCESS, DISTRIBUTION) if name == "weight_concentration_prior" else (PROCESS,)
    cases = [
        {"weight_concentration_prior_type": kind, **prior} for kind in kinds for prior in priors(X, name)
    ]
    outcomes = Parallel(n_jobs=-1)(delayed(outcome)(X, case) for case in cases)
    n = len(GRIDS[name])
    return {kind: outcomes[i * n : (i + 1) * n] for i, kind in enumerate(kinds)}


def table(name: str, sweeps: dict[str, dict[str, list[Outcome]]]) -> str:
    """Components in use, lower bound a row and held-out log-likelihood, of each value and set of rows."""
    columns = [(title, kind) for title, outcomes in sweeps.items() for kind in outcomes]
    several = len(columns) > len(sweeps)
    heads = [f"{title}, {kind}" if several else title for title, kind in columns]
    lines = [
        f"| {LABELS[name]} | {' | '.join(f'{head}: used | bound | held out' for head in heads)} |",
        f"|---{'|---:' * 3 * len(columns)}|",
    ]
    for i, value in enumerate(GRIDS[name]):
        outcomes = [sweeps[title][kind][i] for title, kind in columns]
        cells = [f"{one.n_used} | {one.bound:.2f} | {one.held_out:.2f}" for one in outcomes]
        lines.append(f"| {value:g} | {' | '.join(cells)} |")
    return "\n".join(lines)


def draw(title: str, sweeps: dict[str, dict[str, list[Outcome]]], path: Path) -> None:
    """A column for each prior; components, bound and held-out likelihood below one another."""
    figure, axes = plt.subplots(
        3, len(sweeps), figsize=(13, 6.5), sharex="col", sharey="row", layout="constrained"
    )
    for column, (name, outcomes) in enumerate(sweeps.items()):
        for (kind, ours), marker in zip(outcomes.items(), "os"):
            x = GRIDS[name]
            style = {"marker": marker, "markersize": 4, "linewidth": 1.2, "label": kind}
            axes[0, column].plot(x, [one.n_used for one in ours], **style)
            axes[1, column].plot(x, [one.bound for one in ours], **style)
            axes[2, column].errorbar(
                x, [one.held_out for one in ours], yerr=[one.error for one in ours], capsize=2, **style
            )
        axes[2, column].set_xscale("log")
        axes[2, column].set_xlabel(LABELS[name])
    for row, label in enumerate(("components in use", "lower bound / row", "held-out\nlog-likelihood / row")):
        axes[row, 0].set_ylabel(label)
        # the worst priors would hide all that the others do
        values = [
            (one.n_used, one.bound, one.held_out)[row]
            for outcomes in sweeps.values()
            for ours in outcomes.values()
            for one in ours
        ]
        if row:
            top, low = max(values), float(np.quantile(values, 0.08))
            margin = 0.1 * (top - low)
            axes[row, 0].set_ylim(low - margin, top + margin)
        for axis in axes[row]:
            axis.grid(alpha=0.3)
    axes[0, 0].legend(fontsize=8)
    figure.suptitle(title)
    figure.savefig(path, dpi=80)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--docs", action="store_true", help="write the pictures of the documentation")
    folder = DOCS if parser.parse_args().docs else OUTPUT
    folder.mkdir(exist_ok=True)
    rows = load()
    sweeps = {name: {title: sweep(X, name) for title, X in rows.items()} for name in GRIDS}
    for name, of_sets in sweeps.items():
        print(table(name, of_sets), end="\n\n")
    for title, X in rows.items():
        path = folder / f"bayesian_{title}.png"
        heading = f"{title}: {len(X)} rows of {X.shape[1]} features, n_components={N_COMPONENTS}"
        draw(heading, {name: of_sets[title] for name, of_sets in sweeps.items()}, path)
        print("picture:", path)


if __name__ == "__main__":
    main()
