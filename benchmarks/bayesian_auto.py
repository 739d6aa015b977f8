"""How many components a Bayesian mixture finds: split, merge and birth moves, and a Dirichlet process of 60.

Prints tables in Markdown: synthetic clusters that are 4 standard deviations apart, and small real data.

    python benchmarks/bayesian_auto.py            # kept as benchmarks/results/bayesian_auto.md
    python benchmarks/bayesian_auto.py --quick    # two seeds, no folds but one: only shows that it runs
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits, load_iris, load_wine
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import adjusted_rand_score
from sklearn.model_selection import KFold

import machine
from clusters import clusters
from fastgmm import BayesianGaussianMixture, GaussianMixture
from fastgmm.exceptions import RepairWarning
from markdown import render

SIZES = ((8, 4), (20, 8), (40, 16))
PLACINGS = {
    "closest": "Means normal, scaled so that the closest pair is 4 standard deviations apart",
    "each": "Each mean exactly 4 standard deviations from its nearest neighbour",
}
WAYS: dict[str, dict[str, Any]] = {
    "auto": {"n_components": "auto", "max_iter": 500},
    "60, Dirichlet process": {"n_components": 60, "max_iter": 500},
    "60, with moves": {"n_components": 60, "moves": "all", "max_iter": 500},
}
SEEDS, NEAR, GOOD = 10, 0.2, 0.95
COUNTS, FOLDS = range(1, 16), 5
FAITHFUL = Path(__file__).parent.parent / "tests" / "data" / "faithful.csv"


class Found(NamedTuple):
    """What one fit has found, the adjusted Rand index to the truth, iterations and seconds."""

    n_components: int
    rand: float
    n_iter: int
    seconds: float


def timed(fit: Callable[[], Any]) -> tuple[Any, float]:
    """What a function returns, and its processor seconds; what fits to few rows warn of is of no interest."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.simplefilter("ignore", RepairWarning)
        begin = time.process_time()
        result = fit()
        return result, time.process_time() - begin


def synthetic(placing: str, seeds: range) -> str:
    """What each way finds in the mixtures of one placing."""
    body = []
    for n_clusters, n_features in SIZES:
        drawn = [clusters(placing, n_clusters, n_features, seed) for seed in seeds]
        best = np.array([adjusted_rand_score(data.labels, data.bayes) for data in drawn])
        for name, options in WAYS.items():
            found = []
            for seed, data in zip(seeds, drawn):
                mixture = BayesianGaussianMixture(**options, random_state=seed, n_jobs=1)
                _, seconds = timed(lambda: mixture.fit(data.X))  # noqa: B023
                rand = adjusted_rand_score(data.labels, mixture.predict(data.X))
                n = mixture.n_components_ if name == "auto" else mixture.n_effective_components_
                found.append(Found(n, rand, mixture.n_iter_, seconds))
            body.append(
                [f"{n_clusters} clusters, {n_features} features", name, *_cells(found, best, n_clusters)]
            )
    header = ["problem", "n_components", "found", "right", "within 20 %", "Rand", "least", f">= {GOOD}"]
    header += ["Bayes: Rand", "least", "iterations", "s"]
    return f"## {PLACINGS[placing]}\n\n{render(header, body)}"


def _cells(found: list[Found], best: NDArray[np.float64], n_clusters: int) -> list[str]:
    numbers = np.array([one.n_components for one in found])
    rands = np.array([one.rand for one in found])
    n = len(found)
    return [
        f"{numbers.min()} .. {numbers.max()}",
        f"{np.count_nonzero(numbers == n_clusters)}/{n}",
        f"{np.count_nonzero(np.abs(numbers - n_clusters) <= NEAR * n_clusters)}/{n}",
        f"{np.median(rands):.3f}",
        f"{rands.min():.3f}",
        f"{np.count_nonzero(rands >= GOOD)}/{n}",
        f"{np.median(best):.3f}",
        f"{best.min():.3f}",
        f"{np.median([one.n_iter for one in found]):.0f}",
        f"{np.median([one.seconds for one in found]):.2f}",
    ]


def real_sets() -> dict[str, tuple[NDArray[np.float64], NDArray[np.int64] | None]]:
    """Rows, and the classes that are known of them."""
    digits = load_digits()
    faithful = np.loadtxt(FAITHFUL, delimiter=",", skiprows=1)
    return {
        "iris": (load_iris().data, load_iris().target),
        "wine": (load_wine().data, load_wine().target),
        "faithful": (faithful, None),
        "digits, 16 components of PCA": (PCA(16, random_state=0).fit_transform(digits.data), digits.target),
    }


def auto() -> BayesianGaussianMixture:
    """The estimator that finds its number of components."""
    return BayesianGaussianMixture(n_components="auto", max_iter=1000, random_state=0, n_jobs=1)


def plain(n_components: int) -> GaussianMixture:
    """A mixture that BIC is to choose among."""
    return GaussianMixture(n_components, n_init=5, max_iter=500, random_state=0, n_jobs=1)


def by_bic(X: NDArray[np.float64]) -> GaussianMixture:
    """The mixture with the least BIC."""
    return min((plain(n).fit(X) for n in COUNTS), key=lambda mixture: mixture.bic(X))


def real(n_folds: int) -> str:
    """Numbers of components that are found in real data, and how well they predict rows left out."""
    body = []
    for name, (X, classes) in real_sets().items():
        chosen, seconds = timed(lambda: auto().fit(X))  # noqa: B023
        bic, bic_seconds = timed(lambda: by_bic(X))  # noqa: B023
        folds = list(KFold(FOLDS, shuffle=True, random_state=0).split(X))[:n_folds]
        of_auto, of_bic, of_counts = [], [], []
        for train, test in folds:
            mixture, _ = timed(lambda: auto().fit(X[train]))  # noqa: B023
            of_auto.append(mixture.score_samples(X[test], predictive=True).mean())
            counts, _ = timed(lambda: [plain(n).fit(X[train]) for n in COUNTS])  # noqa: B023
            of_counts.append([one.score(X[test]) for one in counts])
            of_bic.append(min(counts, key=lambda one: one.bic(X[train])).score(X[test]))
        held_out = np.mean(of_counts, axis=0)
        body.append(
            [
                name,
                "-" if classes is None else str(len(set(classes))),
                str(chosen.n_components_),
                str(chosen.n_effective_components_),
                str(len(bic.weights_)),
                str(COUNTS[int(np.argmax(held_out))]),
                f"{np.mean(of_auto):.3f}",
                f"{np.mean(of_bic):.3f}",
                f"{held_out.max():.3f}",
                *(_rand(mixture, X, classes) for mixture in (chosen, bic)),
                f"{seconds:.2f}",
                f"{bic_seconds:.2f}",
            ]
        )
    header = ["data", "classes", "auto", "effective", "BIC", "held-out", "auto: nats", "BIC: nats"]
    header += ["held-out: nats", "auto: Rand", "BIC: Rand", "auto: s", "BIC: s"]
    return f"## Real data\n\n{render(header, body)}"


def _rand(mixture: Any, X: NDArray[np.float64], classes: NDArray[np.int64] | None) -> str:
    return "-" if classes is None else f"{adjusted_rand_score(classes, mixture.predict(X)):.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two seeds, one fold")
    parser.add_argument("--only", choices=(*PLACINGS, "real"), help="one of the tables")
    options = parser.parse_args()
    seeds = range(2 if options.quick else SEEDS)
    print("# Numbers of components that are found\n")
    print(
        f"{machine.processor()}. Processor seconds of a fit on one thread; medians of {len(seeds)} seeds, "
        "each with its own clusters and rows. Full covariances, 20,000 rows. Found: components of 'auto', "
        "else n_effective_components_. Rand: adjusted Rand index to the cluster that each row was drawn "
        "from; Bayes: of the most probable cluster by the true parameters.\n"
    )
    for placing in PLACINGS:
        if options.only in (None, placing):
            print(f"{synthetic(placing, seeds)}\n", flush=True)
    if options.only not in (None, "real"):
        return
    print(real(1 if options.quick else FOLDS))
    print(
        "\nFull covariances. BIC and held-out: the number of components of GaussianMixture from 1 to 15 with "
        "n_init=5 that has the least BIC, and the highest log-likelihood of rows left out. nats: mean "
        f"log-likelihood of a row left out, {FOLDS} folds; of 'auto' by its posterior predictive density; of "
        "BIC with the number chosen in each fold; of held-out with the best number, which these rows chose. "
        "Rand: to the classes."
    )


if __name__ == "__main__":
    main()
