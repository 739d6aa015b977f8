"""Bayesian mixtures: time of one iteration beside scikit-learn's, from the same random rows.

Dirichlet process, full covariances. Both start from the rows that a seed draws, so that they do the same
iterations: their posterior weights after them are compared.
"""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

import problems
from harness import OURS, Context, Row, geometric_mean, log, settle
from markdown import number, ratio, render

TITLE = "Bayesian mixtures, equal iterations"
KEY = ("problem",)
PEER = "sklearn"
FEWEST_COMPONENTS = 16
MIN_PEER_ITERATIONS = 4


def run(context: Context) -> Iterator[Row]:
    """Alternate fits of ours and the peer's."""
    libraries = [OURS, *(peer for peer in context.peers if peer == PEER)]
    for name in context.problems:
        problem = problems.load(name, context.scale)
        if problem.n_components < FEWEST_COMPONENTS:
            continue
        with context.stored(problem) as stored:
            log(f"bayesian: {name}")
            iterations: dict[str, int] = {}
            times: dict[str, list[float]] = {library: [] for library in libraries}
            for library in libraries:
                stored.hand_to(context.worker(library))

            def fit(library: str, max_iter: int, K: int = problem.n_components) -> Row:
                settle()
                return context.worker(library).call("fit_bayesian", n_components=K, max_iter=max_iter)

            # the first fits load code and pages, and tell how many iterations can be afforded
            weights = {}
            for library in libraries:
                first = fit(library, 2)
                weights[library] = first["weights"]
                affordable = int(context.peer_seconds / (first["seconds"] / 2))
                most = context.iterations if library == OURS else min(context.iterations, affordable)
                iterations[library] = max(MIN_PEER_ITERATIONS, most)
            for _ in range(context.repeats):
                for library in libraries:
                    seconds = fit(library, iterations[library])["seconds"]
                    times[library].append(1e3 * seconds / iterations[library])
            apart = 0.0
            if PEER in weights:
                apart = max(abs(a - b) for a, b in zip(weights[OURS], weights[PEER], strict=True))
            yield stored.row(
                milliseconds={library: median(values) for library, values in times.items()},
                all_milliseconds=times,
                iterations=iterations,
                weights_apart=apart,
            )


def table(rows: list[Row]) -> str:
    """Milliseconds of an iteration, how many times as long the peer takes, how far apart weights are."""
    header = ["problem", "N x D", "K", f"{OURS} ms", f"{PEER} ms", f"/ {PEER}", "weights apart"]
    body, ratios = [], []
    for row in rows:
        ours, peer = row["milliseconds"][OURS], row["milliseconds"].get(PEER)
        if peer:
            ratios.append(peer / ours)
        body.append([
            row["problem"], f"{row['n_rows']:,} x {row['n_features']}", str(row["n_components"]),
            number(ours), number(peer), ratio(peer / ours) if peer else "-", f"{row['weights_apart']:.0e}",
        ])  # fmt: skip
    if ratios:
        body.append(["geometric mean", "", "", "", "", ratio(geometric_mean(ratios)), ""])
    return render(header, body)
