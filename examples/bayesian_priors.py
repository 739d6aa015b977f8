"""What each prior of a Bayesian mixture does, over its range, on two small real data sets.

    python examples/bayesian_priors.py            # pictures into examples/output
    python examples/bayesian_priors.py --docs     # into docs/, as docs/bayesian.md shows them

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

ROOT = Path(__file__).parent.parent
OUTPUT = Path(__file__).parent / "output"

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


class Outcome(NamedTuple):
    """Components in use; lower bound a row; log-likelihood of a row held out, and its standard error."""

    n_used: int
    bound: float
    held_out: float
    error: float


def load() -> dict[str, np.ndarray]:
    """Old Faithful: minutes of eruptions and of waiting. Iris: centimetres of four parts of 150 flowers."""
    faithful = np.loadtxt(ROOT / "tests" / "data" / "faithful.csv", delimiter=",", skiprows=1)
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
    folder = ROOT / "docs" if parser.parse_args().docs else OUTPUT
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
