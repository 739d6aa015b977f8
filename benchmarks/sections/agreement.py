"""Agreement: the mean log-likelihood after 20 iterations from the same start, ours and scikit-learn's."""

from __future__ import annotations

from collections.abc import Iterator

import problems
from harness import OURS, Context, Row, log
from markdown import number, render

TITLE = "Agreement with scikit-learn after 20 iterations from the same start"
KEY = ("problem", "type")
PEER = "sklearn"
TOLERANCE = 1e-9  # of max(1, |mean log-likelihood|)


def run(context: Context) -> Iterator[Row]:
    """Fit both once, each scored by its own ``score`` on the data it was fitted to."""
    for name in context.problems:
        with context.stored(problems.load(name, context.scale), context.types) as stored:
            for library in (OURS, PEER):
                stored.hand_to(context.worker(library))
            for covariance_type in context.types:
                log(f"agreement: {name}, {covariance_type}")
                scores = {
                    library: context.worker(library).call(
                        "fit", covariance_type=covariance_type, max_iter=context.iterations, score=True
                    )["log_likelihood"]
                    for library in (OURS, PEER)
                }
                yield stored.row(
                    type=covariance_type,
                    log_likelihood=scores,
                    error=abs(scores[OURS] - scores[PEER]) / max(1.0, abs(scores[PEER])),
                )


def table(rows: list[Row]) -> str:
    """Relative differences by covariance type."""
    types = [name for name in problems.COVARIANCE_TYPES if any(row["type"] == name for row in rows)]
    errors = {(row["problem"], row["type"]): row["error"] for row in rows}
    body = []
    for name in dict.fromkeys(row["problem"] for row in rows):
        found = [errors.get((name, each)) for each in types]
        body.append([name, *("-" if error is None else _flagged(error) for error in found)])
    worst = max(errors.values())
    return (
        f"|difference| / max(1, |mean log-likelihood|); allowed {TOLERANCE:g}, largest {number(worst)}.\n\n"
        + render(["problem", *types], body)
    )


def _flagged(error: float) -> str:
    return f"{error:.1e}" + ("" if error <= TOLERANCE else " !")
