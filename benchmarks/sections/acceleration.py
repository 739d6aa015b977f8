"""Acceleration: passes with and without acceleration="anderson", from the same starts.

From the clusters of k-means, to a tolerance on all problems; and, on pixels with eight components, to within
1e-7 of the mean log-likelihood at which plain EM ends when it is left to run. A step that is taken back has
cost a pass and counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

import problems
from harness import OURS, Context, Row, Worker, geometric_mean, log
from markdown import render

TITLE = "Accelerated EM"
KEY = ("problem", "n_components", "goal", "seed")
SEEDS, DISTANCE_SEEDS = 2, 3
SAMPLE_ROWS = 20_000
TOLERANCES = (1e-3, 1e-5, 1e-7)
DISTANCE, LAST_TOL = 1e-7, 1e-11  # plain EM is left to run until it gains less than the latter
MAX_ITER = 5_000
MANY_FEATURES = 64  # from so many on the default tolerance only
ACCELERATION = {"plain": None, "accelerated": "anderson"}


def digits() -> problems.Problem:
    """Handwritten digits in their 16 first principal components."""
    from sklearn.datasets import load_digits
    from sklearn.decomposition import PCA

    X = PCA(16, svd_solver="full").fit_transform(load_digits().data)
    return problems.Problem("digits-pca16", np.ascontiguousarray(X), 10)


def iris() -> problems.Problem:
    from sklearn.datasets import load_iris

    return problems.Problem("iris", np.ascontiguousarray(load_iris().data, dtype=float), 3)


_SMALL: dict[str, Callable[[], problems.Problem]] = {"digits-pca16": digits, "iris": iris}


def run(context: Context) -> Iterator[Row]:
    """A row for each problem, seed and tolerance; then those of the distance."""
    ours = context.worker(OURS)
    n_rows = max(500, int(SAMPLE_ROWS * context.scale))
    for name in (*context.problems, *_SMALL):
        problem = _SMALL[name]() if name in _SMALL else problems.load(name)
        thinned = problem._replace(X=np.ascontiguousarray(problem.X[:: max(1, len(problem.X) // n_rows)]))
        with context.stored(thinned) as stored:
            stored.hand_to(ours)
            for tol in TOLERANCES if problem.X.shape[1] < MANY_FEATURES else TOLERANCES[:1]:
                log(f"acceleration: {name}, tol={tol:g}")
                for seed in range(min(SEEDS, context.seeds or SEEDS)):
                    fits = {
                        key: _fit(ours, problem.n_components, seed, tol, acceleration)
                        for key, acceleration in ACCELERATION.items()
                    }
                    yield stored.row(goal=f"tol {tol:g}", seed=seed, **_compared(fits))
    if "pixels-k16" in context.problems:
        X = problems.load("pixels-k16", context.scale).X[::4]
        with context.stored(problems.Problem("pixels, every 4th", np.ascontiguousarray(X), 8)) as stored:
            stored.hand_to(ours)
            for seed in range(min(DISTANCE_SEEDS, context.seeds or DISTANCE_SEEDS)):
                log(f"acceleration: pixels, K = 8, seed {seed}")
                fits = {
                    key: _fit(ours, 8, seed, LAST_TOL, acceleration)
                    for key, acceleration in ACCELERATION.items()
                }
                goal = fits["plain"]["bounds"][-1] - DISTANCE
                yield stored.row(
                    goal=f"within {DISTANCE:g}",
                    seed=seed,
                    passes={key: _first(fit["bounds"], goal) for key, fit in fits.items()},
                    difference=max(fits["accelerated"]["bounds"]) - fits["plain"]["bounds"][-1],
                )


def _fit(ours: Worker, n_components: int, seed: int, tol: float, acceleration: str | None) -> Row:
    options = {"tol": tol, "acceleration": acceleration}
    fit = ours.call("fit_clusters", n_components=n_components, seed=seed, max_iter=MAX_ITER, options=options)
    return {"bounds": fit["history"]["lower_bound"], "seconds": fit["seconds"]}


def _compared(fits: dict[str, Row]) -> Row:
    return {
        "passes": {key: len(fit["bounds"]) for key, fit in fits.items()},
        "difference": max(fits["accelerated"]["bounds"]) - fits["plain"]["bounds"][-1],
    }


def _first(bounds: list[float], goal: float) -> int | None:
    """Passes after which the bound first is at the goal, or None if it never is."""
    return next((n for n, bound in enumerate(bounds, start=1) if bound >= goal), None)


def table(rows: list[Row]) -> str:
    """Passes of plain EM and of accelerated EM; the second table is that of the distance."""
    goals = [goal for goal in (f"tol {tol:g}" for tol in TOLERANCES) if any(r["goal"] == goal for r in rows)]
    parts = []
    if goals:
        body = []
        for name in dict.fromkeys(row["problem"] for row in rows if row["goal"] in goals):
            chosen = [row for row in rows if row["problem"] == name]
            shape = f"{chosen[0]['n_rows']:,} x {chosen[0]['n_features']}"
            cells = [
                ", ".join(_passes(row) for row in _in_order(chosen) if row["goal"] == goal) or "-"
                for goal in goals
            ]
            body.append([name, shape, str(chosen[0]["n_components"]), *cells])
        ratios = [
            geometric_mean([
                row["passes"]["plain"] / row["passes"]["accelerated"] for row in rows if row["goal"] == goal
            ])
            for goal in goals
        ]  # fmt: skip
        body.append(["geometric mean, plain / accelerated", "", "", *(f"{each:.2f}" for each in ratios)])
        parts.append(
            "Passes of plain EM → of accelerated EM to the same tolerance, one pair a seed, with the "
            "difference of the final mean log-likelihood where accelerated EM ends lower by over 1e-5.\n\n"
            + render(["problem", "N x D", "K", *goals], body)
        )
    near = _in_order([row for row in rows if row["goal"].startswith("within")])
    if near:
        header = ["data", "K", "seed", "plain", "accelerated", "accelerated ends higher by"]
        body = [
            [
                row["problem"], str(row["n_components"]), str(row["seed"]),
                *(str(row["passes"][key] or "never") for key in ACCELERATION), f"{row['difference']:+.1e}",
            ]
            for row in near
        ]  # fmt: skip
        parts.append(
            f"Passes to within {DISTANCE:g} of where plain EM ends (at tol={LAST_TOL:g}).\n\n"
            + render(header, body)
        )
    return "\n\n".join(parts)


def _passes(row: Row) -> str:
    lower = f" ({row['difference']:.0e})" if row["difference"] < -1e-5 else ""
    return f"{row['passes']['plain']} → {row['passes']['accelerated']}{lower}"


def _in_order(rows: list[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: row["seed"])
