"""How many components? Bayesian mixtures, the BIC and held-out likelihood, on four sets of real rows.

Each method gets the rows and says how many components there are and what the density of a new row is:

* one Bayesian mixture of many components (20), with a Dirichlet process or a Dirichlet distribution;
* the lower bound: of Bayesian mixtures of 1, 2, ... components the one with the largest;
* the BIC: of plain mixtures of 1, 2, ... components the one with the least;
* held-out likelihood: of plain mixtures the number with the largest in cross-validation, fitted to all rows.

All are asked of all rows, for the number and how labels agree with known classes (medians over seeds), and
of four fifths of the rows, for the log-likelihood of the others; the choice is then made from those four
fifths alone. Prints tables in Markdown:

    python benchmarks/bayesian_choice.py            # kept as benchmarks/results/bayesian_choice.md
    python benchmarks/bayesian_choice.py --quick    # one repeat, few components: only shows that it runs
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from joblib import Parallel, delayed
from sklearn.datasets import load_digits, load_iris, load_wine
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import adjusted_rand_score

from fastgmm import BayesianGaussianMixture, GaussianMixture
from fastgmm.exceptions import RepairWarning
from markdown import render

FAITHFUL = Path(__file__).parent.parent / "tests" / "data" / "faithful.csv"
N_FOLDS, N_REPEATS, N_SEEDS = 5, 2, 3
N_COMPONENTS = 20
COMMON: dict[str, Any] = {"max_iter": 2000, "n_jobs": 1}


class Rows(NamedTuple):
    """Rows, and the class of each where it is known."""

    X: np.ndarray
    classes: np.ndarray | None
    most: int  # components that are tried one by one


class Answer(NamedTuple):
    """What a method says: how many components, labels, and log-densities of new rows."""

    n_components: int
    mixture: Any
    predictive: bool

    def log_density(self, X: np.ndarray) -> float:
        """Mean over the rows."""
        if self.predictive:
            return float(self.mixture.score_samples(X, predictive=True).mean())
        return float(self.mixture.score(X))


def load() -> dict[str, Rows]:
    """Iris and Old Faithful in their own units; wine, whose units differ widely, standardised."""
    iris, wine, digits = load_iris(), load_wine(), load_digits()
    standardised = (wine.data - wine.data.mean(axis=0)) / wine.data.std(axis=0)
    return {
        "faithful": Rows(np.loadtxt(FAITHFUL, delimiter=",", skiprows=1), None, 20),
        "iris": Rows(iris.data, iris.target, 20),
        "wine": Rows(standardised, wine.target, 20),
        "digits-pca16": Rows(PCA(16, random_state=0).fit_transform(digits.data), digits.target, 24),
    }


def folds(n_rows: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows to fit and rows to score, of cross-validation in a random order."""
    order = np.random.default_rng(seed).permutation(n_rows)
    for fold in range(N_FOLDS):
        held = order[fold::N_FOLDS]
        yield np.setdiff1d(order, held), held


# ---- methods: from rows, the most components to be tried and a seed to an answer ---------------------------


def bayesian(X: np.ndarray, n_components: int, seed: int, **prior: Any) -> BayesianGaussianMixture:
    mixture = BayesianGaussianMixture(n_components=n_components, random_state=seed, **COMMON, **prior)
    return mixture.fit(X)


def plain(X: np.ndarray, n_components: int, seed: int) -> GaussianMixture:
    return GaussianMixture(n_components, tol=1e-5, random_state=seed, **COMMON).fit(X)


def process(X: np.ndarray, most: int, seed: int) -> Answer:
    mixture = bayesian(X, N_COMPONENTS, seed)
    return Answer(mixture.n_effective_components_, mixture, True)


def distribution(X: np.ndarray, most: int, seed: int) -> Answer:
    mixture = bayesian(X, N_COMPONENTS, seed, weight_concentration_prior_type="dirichlet_distribution")
    return Answer(mixture.n_effective_components_, mixture, True)


def lower_bound(X: np.ndarray, most: int, seed: int) -> Answer:
    # one process for all: its concentration must not follow the number of components, as the default does
    tried = [bayesian(X, K, seed, weight_concentration_prior=1.0) for K in range(1, most + 1)]
    best = max(tried, key=lambda mixture: mixture.lower_bound_)
    return Answer(best.n_effective_components_, best, True)


def bic(X: np.ndarray, most: int, seed: int) -> Answer:
    best = min((plain(X, K, seed) for K in range(1, most + 1)), key=lambda mixture: mixture.bic(X))
    return Answer(best.n_components, best, False)


def held_out(X: np.ndarray, most: int, seed: int) -> Answer:
    parts = list(folds(len(X), 1000 + seed))
    scores = [
        np.mean([plain(X[rows], K, seed).score(X[held]) for rows, held in parts]) for K in range(1, most + 1)
    ]
    K = 1 + int(np.argmax(scores))
    return Answer(K, plain(X, K, seed), False)


Method = Callable[[np.ndarray, int, int], Answer]
METHODS: dict[str, Method] = {
    f"process, {N_COMPONENTS}": process,
    f"distribution, {N_COMPONENTS}": distribution,
    "lower bound": lower_bound,
    "BIC": bic,
    "held-out likelihood": held_out,
}


# ---- outcomes ----------------------------------------------------------------------------------------------


def of_all_rows(method: Method, rows: Rows, seed: int) -> tuple[int, int, float]:
    """Number of components, how many of them have rows, and the adjusted Rand index of the labels."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.simplefilter("ignore", RepairWarning)
        answer = method(rows.X, rows.most, seed)
        labels = answer.mixture.predict(rows.X)
    agreement = np.nan if rows.classes is None else adjusted_rand_score(rows.classes, labels)
    return answer.n_components, len(np.unique(labels)), float(agreement)


def of_new_rows(method: Method, rows: Rows, fitted: np.ndarray, held: np.ndarray, seed: int) -> float:
    """Mean log-density of rows that were held out."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.simplefilter("ignore", RepairWarning)
        return method(rows.X[fitted], rows.most, seed).log_density(rows.X[held])


def span(values: list[int]) -> str:
    """The median, and all there is."""
    least, largest = min(values), max(values)
    middle = f"{np.median(values):g}"
    return middle if least == largest else f"{middle} ({least} .. {largest})"


def outcome(method: Method, rows: Rows, n_repeats: int, n_seeds: int) -> list[str]:
    """Cells of a table: components, labels, adjusted Rand index, held-out log-likelihood."""
    whole = Parallel(n_jobs=-1)(delayed(of_all_rows)(method, rows, seed) for seed in range(n_seeds))
    cases = [(*part, repeat) for repeat in range(n_repeats) for part in folds(len(rows.X), repeat)]
    scores = Parallel(n_jobs=-1)(delayed(of_new_rows)(method, rows, *case) for case in cases)
    numbers, n_labels, agreements = (list(values) for values in zip(*whole, strict=True))
    agreement = float(np.median(agreements))
    worst = min(scores)
    return [
        span(numbers),
        span(n_labels),
        "-" if np.isnan(agreement) else f"{agreement:.2f}",
        f"{np.mean(scores):.2f}",
        f"{worst:.2f}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    for name, rows in load().items():
        if quick:
            rows = rows._replace(most=3)
        body = []
        for title, method in METHODS.items():
            n_repeats, n_seeds = (1, 1) if quick else (N_REPEATS, N_SEEDS)
            body.append([title, *outcome(method, rows, n_repeats, n_seeds)])
        classes = "" if rows.classes is None else f", {len(np.unique(rows.classes))} classes"
        print(
            f"{name}: {rows.X.shape[0]:,} x {rows.X.shape[1]}{classes}; up to {rows.most} tried one by one\n"
        )
        head = ["method", "components", "labels", "Rand index", "held out", "worst fold"]
        print(render(head, body), end="\n\n", flush=True)


if __name__ == "__main__":
    main()
