"""Equal iterations: time of one iteration from the same start, validation included, seeding excluded."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

import problems
from harness import OURS, Context, Row, Stored, WorkerError, geometric_mean, log, settle
from markdown import number, ratio, render

TITLE = "Equal iterations"
KEY = ("problem", "type")
MIN_PEER_ITERATIONS = 4


def run(context: Context) -> Iterator[Row]:
    """Alternate fits of ours and of each peer; a row for each problem and covariance type."""
    for name in context.problems:
        with context.stored(problems.load(name, context.scale), context.types) as stored:
            for library in context.libraries:
                stored.hand_to(context.worker(library))
            for covariance_type in context.types:
                log(f"equal iterations: {name}, {covariance_type}")
                yield _compare(context, stored, covariance_type)


def _compare(context: Context, stored: Stored, covariance_type: str) -> Row:
    able = [name for name, info in context.libraries.items() if covariance_type in info["covariance_types"]]
    errors: dict[str, str] = {}

    def timed(library: str, max_iter: int) -> float | None:
        """Seconds of an iteration; None, and never asked again, once the library has failed."""
        if library in errors:
            return None
        settle()
        try:
            fit = context.worker(library).call("fit", covariance_type=covariance_type, max_iter=max_iter)
            if not fit["finite"]:
                raise WorkerError("parameters are not finite")
            if fit["n_iter"] != max_iter:
                raise WorkerError(f"stopped after {fit['n_iter']} of {max_iter} iterations")
            return fit["seconds"] / max_iter
        except WorkerError as error:
            errors[library] = str(error)
            context.restart(library)
            stored.hand_to(context.worker(library))
            return None

    # The first fit loads code and pages, and tells how many iterations of a peer can be afforded.
    iterations = {}
    for library in able:
        seconds = timed(library, 2)
        affordable = (
            context.iterations if library == OURS or not seconds else int(context.peer_seconds / seconds)
        )
        iterations[library] = min(context.iterations, max(MIN_PEER_ITERATIONS, affordable))
    times: dict[str, list[float]] = {library: [] for library in able}
    turns = [library for peer in able if peer != OURS for library in (OURS, peer)] or [OURS]
    for library in turns * context.repeats:
        seconds = timed(library, iterations[library])
        if seconds is not None:
            times[library].append(1e3 * seconds)
    return stored.row(
        type=covariance_type,
        milliseconds={library: median(times[library]) for library in able if library not in errors},
        iterations=iterations,
        all_milliseconds=times,
        errors=errors,
    )


def ratios(rows: list[Row], covariance_type: str, peer: str) -> dict[str, float]:
    """Time of the peer over ours, for each problem both could fit."""
    return {
        row["problem"]: row["milliseconds"][peer] / row["milliseconds"][OURS]
        for row in rows
        if row["type"] == covariance_type and peer in row["milliseconds"] and OURS in row["milliseconds"]
    }


def table(rows: list[Row]) -> str:
    """One table for each covariance type, with the geometric mean and the least of the ratios at its foot."""
    parts = []
    for covariance_type in problems.COVARIANCE_TYPES:
        chosen = [row for row in rows if row["type"] == covariance_type]
        if chosen:
            parts.append(f"### {covariance_type}\n\n{_table_of_type(chosen, covariance_type)}")
    return "\n\n".join(parts)


def _table_of_type(rows: list[Row], covariance_type: str) -> str:
    peers = [
        peer for peer in ("sklearn", "onedal", "numpy")
        if any(peer in row["milliseconds"] or peer in row["errors"] for row in rows)
    ]  # fmt: skip
    header = [
        "problem",
        "N x D",
        "K",
        *(f"{name} ms" for name in (OURS, *peers)),
        *(f"/ {peer}" for peer in peers),
    ]
    by_peer = {peer: ratios(rows, covariance_type, peer) for peer in peers}
    body = []
    for row in rows:
        name = row["problem"]
        body.append([
            name, f"{row['n_rows']:,} x {row['n_features']}", str(row["n_components"]),
            number(row["milliseconds"].get(OURS)),
            *("fails" if peer in row["errors"] else number(row["milliseconds"].get(peer)) for peer in peers),
            *(ratio(by_peer[peer].get(name)) for peer in peers),
        ])  # fmt: skip
    gaps = [""] * (3 + len(peers))
    means = [ratio(geometric_mean(list(by_peer[peer].values()))) for peer in peers]
    least = [ratio(min(by_peer[peer].values(), default=None)) for peer in peers]
    text = render(header, [*body, ["geometric mean", *gaps, *means], ["least", *gaps, *least]])
    failures = [
        f"{peer} fails on {row['problem']}: {error.splitlines()[0]}."
        for row in rows
        for peer, error in row["errors"].items()
    ]
    return "\n\n".join([text, *(["  \n".join(failures)] if failures else [])])
