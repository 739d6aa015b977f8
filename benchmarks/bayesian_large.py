"""A Dirichlet process mixture of 100,000 x 128 rows with 79 true components, started at 120.

    python benchmarks/bayesian_large.py            # ten minutes or so for ours, a few for scikit-learn's

Overlapping clusters (problems.synth). Ours is fitted to all rows, scikit-learn's BayesianGaussianMixture to
10,000 of them, from as many components with the same arguments. Normalised mutual information is of labels
with the component each row was drawn from. Writes results/bayesian_large.md.
"""

from __future__ import annotations

import argparse
import time
import warnings
from typing import Any

import numpy as np
from sklearn.metrics import normalized_mutual_info_score
from sklearn.mixture import BayesianGaussianMixture as TheirMixture

import harness
import machine
import problems
from fastgmm import BayesianGaussianMixture
from markdown import render

N_ROWS, N_FEATURES, N_TRUE, N_STARTED = 100_000, 128, 79, 120
SEPARATION, SEED = 0.3, 0
SAMPLE_ROWS = 10_000
MAX_ITER = 60


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--max-iter", type=int, default=MAX_ITER)
    parser.add_argument("--scale", type=float, default=1.0, help="share of the rows, for a try")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    n = int(N_ROWS * options.scale)
    X, labels = problems.labelled_synth(n, N_FEATURES, N_TRUE, SEPARATION, SEED)
    few = np.random.default_rng(SEED).permutation(n)[: int(SAMPLE_ROWS * options.scale)]
    arguments: dict[str, Any] = {
        "n_components": N_STARTED, "max_iter": options.max_iter, "random_state": SEED
    }  # fmt: skip
    ours = fitted(BayesianGaussianMixture(**arguments), X, X, labels)
    theirs = fitted(TheirMixture(**arguments), X[few], X, labels)
    of_sample = normalized_mutual_info_score(labels[few], theirs["model"].predict(X[few]))
    rows = []
    for name, row, fitted_to, nmi in (
        ("fastgmm", ours, n, ours["nmi"]),
        ("scikit-learn", theirs, len(few), of_sample),
    ):
        rows.append([
            name, f"{fitted_to:,}", f"{row['seconds']:.0f}", str(row["n_iter"]), str(row["used"]),
            f"{nmi:.4f}", f"{row['nmi']:.4f}",
        ])  # fmt: skip
    header = [
        "library",
        "rows of the fit",
        "s",
        "iterations",
        "components used",
        "NMI there",
        "NMI, all rows",
    ]
    text = (
        f"# Bayesian mixture of {n:,} x {N_FEATURES}, {N_TRUE} true components, started at {N_STARTED}\n\n"
        f"{machine.processor()}, {machine.usable_cores()} threads. At most {options.max_iter} iterations. "
        f"Used: components with 1 / {5 * N_TRUE} of the rows or more.\n\n{render(header, rows)}\n"
    )
    print(text)
    if options.scale == 1.0:
        (harness.HERE / "results" / "bayesian_large.md").write_text(text)


def fitted(model: Any, rows: np.ndarray, X: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """The model, fitted; its time, and how well its labels of all rows agree with the true ones."""
    begin = time.perf_counter()
    model.fit(rows)
    seconds = time.perf_counter() - begin
    found = model.predict(X)
    used = np.bincount(found, minlength=N_STARTED) >= len(X) / (5 * N_TRUE)
    nmi = normalized_mutual_info_score(labels, found)
    return {"model": model, "seconds": seconds, "n_iter": model.n_iter_, "nmi": nmi, "used": int(used.sum())}


if __name__ == "__main__":
    main()
