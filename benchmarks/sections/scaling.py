"""Scaling: time of an iteration against rows, features, components and threads, one of them at a time.

Full covariances, synthetic rows of as many components as are fitted, and the start and the definition of
"equal iterations". "dense" scores every component for every row; "default" is what users get, pruned where
that pays. Rates are of the dense fit, validation included, beside the FMA peak measured in the same process
just before and just after it.
"""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median
from typing import NamedTuple

import problems
from harness import OURS, Context, Row, Stored, Worker, log, settle
from markdown import number, percent, ratio, render
from sections.rate import n_features_of_row

TITLE = "Time against rows, features, components and threads"
KEY = ("panel", "n_rows", "n_features", "n_components", "threads")
PEER = "sklearn"
# Seconds that a fit should take at most, and the fewest iterations of one; the peer is left out where its
# iterations would take longer than context.peer_seconds.
SECONDS, FEWEST = 2.0, 8
PEER_ITERATIONS = 4
# Short fits are repeated until they have taken so long together, but at most so many times.
REPEAT_SECONDS, MOST_REPEATS = 0.4, 25


class Point(NamedTuple):
    """One place in one panel."""

    panel: str
    n_rows: int
    n_features: int
    n_components: int
    n_threads: int
    separation: float = 1.0  # rows overlap; at 3 they hardly do (problems.synth)

    @property
    def work(self) -> float:
        """Operations of a dense iteration."""
        return 4.0 * self.n_rows * self.n_components * n_features_of_row(self.n_features)


def points(scale: float, n_threads: int) -> list[Point]:
    """All points; at a reduced scale those that keep ten rows for each component and feature."""
    found = [Point("N", 1000 * n, 8, 16, n_threads) for n in (1, 3, 10, 30, 100, 300, 1000, 3000)]
    for n_features in (2, 4, 8, 16, 32, 64, 128, 256, 512):
        # a dense iteration of 1e9 operations, if that is between these numbers of rows
        n_rows = int(1e9 / Point("D", 1, n_features, 16, 1).work)
        found.append(Point("D", min(1_000_000, max(20_000, n_rows)), n_features, 16, n_threads))
    for n_features, n_rows, separation in ((8, 200_000, 1.0), (16, 100_000, 3.0)):
        for n_components in (2, 4, 8, 16, 64, 256, 1024, 4096):
            found.append(Point("K", n_rows, n_features, n_components, n_threads, separation))
    for n_rows, n_features, n_components in ((300_000, 8, 16), (50_000, 32, 32)):
        counts = sorted({n for n in (1, 2, 4, 8, 16, 32, 64, 128) if n < n_threads} | {n_threads})
        found += [Point("threads", n_rows, n_features, n_components, n) for n in counts]
    scaled = [point._replace(n_rows=int(point.n_rows * scale)) for point in found]
    return [point for point in scaled if point.n_rows >= 10 * max(point.n_features, point.n_components)]


def run(context: Context) -> Iterator[Row]:
    """A row for each point; the peer is asked as long as the point before says that it will be quick."""
    rate = 0.0  # of the peer, at the point before
    for point in points(context.scale, context.n_threads):
        log(f"scaling: {point.panel}, {point.n_rows:,} x {point.n_features}, K = {point.n_components}, "
            f"{point.n_threads} threads")  # fmt: skip
        X = problems.synth(point.n_rows, point.n_features, point.n_components, point.separation, 109)
        problem = problems.Problem("scaling", X, point.n_components)
        ours = _worker(context, OURS, point.n_threads)
        with context.stored(problem, ("full",)) as stored:
            stored.hand_to(ours)
            row = _ours(context, ours, point)
            milliseconds = _peer(context, stored, point, rate)
        if milliseconds is not None:
            rate = _peer_work(point) / milliseconds * 1e3
            row["milliseconds"][PEER] = milliseconds
        yield stored.row(panel=point.panel, threads=point.n_threads, separation=point.separation, **row)


def _worker(context: Context, library: str, n_threads: int) -> Worker:
    name = library if n_threads == context.n_threads else f"{library}, {n_threads} threads"
    if name not in context.workers:
        context.workers[name] = Worker(library, n_threads)
    return context.workers[name]


def _ours(context: Context, ours: Worker, point: Point) -> Row:
    isa = ours.call("info")["isa"]
    times: dict[str, list[float]] = {"dense": [], "default": []}
    peaks: list[float] = []
    passes: list[float] = []
    share = 1.0

    def fit(n_iterations: int) -> Row:
        settle()
        return ours.call("fit", covariance_type="full", max_iter=n_iterations)

    def peak() -> None:
        settle()
        peaks.append(ours.call("peak", instruction_set=isa)["flop_per_second"])

    ours.call("dense", dense=True)
    first = fit(2)["seconds"] / 2  # loads code and pages, too
    n_iterations = max(min(FEWEST, context.iterations), min(context.iterations, int(SECONDS / first)))
    peak()
    at_least = context.repeats if n_iterations * first < SECONDS else 1
    at_most = MOST_REPEATS if context.repeats > 1 else 1
    spent = 0.0
    while len(passes) < at_least or (len(passes) < at_most and spent < REPEAT_SECONDS):
        for name in times:
            ours.call("dense", dense=name == "dense")
            done = fit(n_iterations)
            times[name].append(1e3 * done["seconds"] / n_iterations)
            spent += done["seconds"]
            history = done["history"]
            if name == "dense":
                passes.append(sum(history["seconds_pass"]) / done["seconds"])
            else:
                share = sum(history["pairs"]) / n_iterations / max(history["pairs"])
    peak()
    milliseconds = {name: median(values) for name, values in times.items()}
    gflops = 1e-6 * point.work / milliseconds["dense"]
    return {
        "milliseconds": milliseconds,
        "all_milliseconds": times,
        "iterations": n_iterations,
        "gflops": gflops,
        "peak_gflops": max(peaks) / 1e9,
        "share": gflops / (max(peaks) / 1e9),
        "of_passes": median(passes),  # share of the dense fit's time
        "pairs": share,
    }


def _peer_work(point: Point) -> float:
    """What the peer's time is about proportional to."""
    return float(point.n_rows * point.n_components * (point.n_features + 16))


def _peer(context: Context, stored: Stored, point: Point, rate: float) -> float | None:
    """Milliseconds; None where it would take too long if its rate were that of the point before."""
    expected = PEER_ITERATIONS * _peer_work(point) / rate if rate else 0.0
    if PEER not in context.peers or expected > context.peer_seconds:
        return None
    peer = _worker(context, PEER, point.n_threads)
    stored.hand_to(peer)
    if expected < 0.2:  # loads code and pages
        peer.call("fit", covariance_type="full", max_iter=1)
    settle()
    fit = peer.call("fit", covariance_type="full", max_iter=PEER_ITERATIONS)
    return 1e3 * fit["seconds"] / PEER_ITERATIONS


def _curve(row: Row) -> tuple[int, ...]:
    """What is the same all along a curve; rows vary with features so that an iteration stays short."""
    if row["panel"] == "K":
        return row["n_features"], row["threads"]
    if row["panel"] == "threads":
        return row["n_features"], row["n_components"]
    return (row["threads"],)


def curves(rows: list[Row]) -> dict[str, list[list[Row]]]:
    """Rows of each panel, one list for each curve in it, in order."""
    keys = {"N": "n_rows", "D": "n_features", "K": "n_components", "threads": "threads"}
    found: dict[str, list[list[Row]]] = {}
    for panel, key in keys.items():
        by_curve: dict[tuple[int, ...], list[Row]] = {}
        for row in sorted((row for row in rows if row["panel"] == panel), key=lambda row: row[key]):
            by_curve.setdefault(_curve(row), []).append(row)
        if by_curve:
            found[panel] = [by_curve[same] for same in sorted(by_curve)]
    return found


def table(rows: list[Row]) -> str:
    """One table a panel: milliseconds, the rate of the dense fit, and the peer's time over the default's."""
    header = [
        "N x D", "K", "apart", "threads", "default ms", "dense ms", "pairs scored", "GFLOP/s",
        "share of peak", "in passes", f"{PEER} ms", f"/ {PEER}",
    ]  # fmt: skip
    parts = [
        "Rows of K components whose means are so many standard deviations apart; as many iterations as in "
        f"equal iterations, at least {FEWEST}. Pairs: those that the default scores. Rate, share of the FMA "
        f"peak and part of the time spent in passes: of the dense fit. {PEER} has {PEER_ITERATIONS} "
        "iterations, and is left out where they would take too long."
    ]
    for panel, lines in curves(rows).items():
        body = []
        for row in (row for line in lines for row in line):
            milliseconds = row["milliseconds"]
            peer = milliseconds.get(PEER)
            body.append([
                f"{row['n_rows']:,} x {row['n_features']}", str(row["n_components"]),
                f"{row['separation']:g}", str(row["threads"]),
                number(milliseconds["default"]), number(milliseconds["dense"]), percent(row["pairs"]),
                number(row["gflops"]), percent(row["share"]), percent(row["of_passes"]),
                number(peer), ratio(peer and peer / milliseconds["default"]),
            ])  # fmt: skip
        parts.append(f"### Against {panel}\n\n{render(header, body)}")
    return "\n\n".join(parts)
