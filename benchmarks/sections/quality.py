"""Quality: final mean log-likelihood with default arguments, against scikit-learn's, on paired samples.

A seed fixes both the rows drawn and the ``random_state`` of both fits, so that the differences are paired.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

import problems
from harness import OURS, Context, Row, log, mean_and_error
from markdown import render, with_error

TITLE = "Quality with default arguments"
KEY = ("problem",)
PEER = "sklearn"
SEEDS = 20
SAMPLE_ROWS = 20_000


def wine() -> problems.Problem:
    """Thirteen measurements, in their own very different units, of wines from three growers."""
    from sklearn.datasets import load_wine

    return problems.Problem("wine", np.ascontiguousarray(load_wine().data, dtype=float), 3)


def digits() -> problems.Problem:
    """Handwritten digits in their 16 first principal components."""
    from sklearn.datasets import load_digits
    from sklearn.decomposition import PCA

    X = PCA(16, svd_solver="full").fit_transform(load_digits().data)
    return problems.Problem("digits-pca16", np.ascontiguousarray(X), 10)


_SMALL: dict[str, Callable[[], problems.Problem]] = {"wine": wine, "digits-pca16": digits}
_SAMPLED = ("tabular-d8", "overlap-d16", "pixels-k16")


def run(context: Context) -> Iterator[Row]:
    """Yield a row for each of the sampled problems that was chosen, and for wine and digits."""
    for name in [*(name for name in _SAMPLED if name in context.problems), *_SMALL]:
        problem = _SMALL[name]() if name in _SMALL else problems.load(name)
        sample_rows = max(500, int(SAMPLE_ROWS * context.scale))
        fits: dict[str, list[Row]] = {OURS: [], PEER: []}
        for seed in range(context.seeds or SEEDS):
            log(f"quality: {name}, seed {seed}")
            sample = _sample(problem, sample_rows, seed)
            with context.stored(sample) as stored:
                for library in fits:
                    stored.hand_to(context.worker(library))
                    fit = context.worker(library).call(
                        "fit_default", n_components=problem.n_components, seed=seed, score=True
                    )
                    fits[library].append({key: fit[key] for key in ("seconds", "n_iter", "log_likelihood")})
                row = stored.row(fits=fits)
        yield row


def _sample(problem: problems.Problem, n_rows: int, seed: int) -> problems.Problem:
    if problem.X.shape[0] <= n_rows:
        return problem
    rows = np.random.default_rng(seed).choice(problem.X.shape[0], n_rows, replace=False)
    return problem._replace(X=problem.X[rows])


def difference(row: Row) -> tuple[float, float]:
    """Mean of ours minus the peer's over the seeds, and its standard error."""
    pairs = zip(row["fits"][OURS], row["fits"][PEER], strict=True)
    return mean_and_error([ours["log_likelihood"] - peer["log_likelihood"] for ours, peer in pairs])


def table(rows: list[Row]) -> str:
    """Means, the paired difference with its standard error, and the verdict at two standard errors."""
    header = ["data", "N x D", "K", OURS, PEER, "difference", "not below by 2 SE"]
    body = []
    for row in rows:
        mean, error = difference(row)
        fits = [row["fits"][library] for library in (OURS, PEER)]
        means = [mean_and_error([fit["log_likelihood"] for fit in each]) for each in fits]
        body.append([
            row["problem"], f"{row['n_rows']:,} x {row['n_features']}", str(row["n_components"]),
            *(with_error(*pair) for pair in means), with_error(mean, error),
            "yes" if mean >= -2 * error else "NO",
        ])  # fmt: skip
    return f"Mean final log-likelihood over {len(rows[0]['fits'][OURS])} seeds.\n\n" + render(header, body)
