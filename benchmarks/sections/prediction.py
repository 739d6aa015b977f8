"""Prediction: a million rows beside scikit-learn, and what a call for one row costs.

Of one row: what `predict` takes beyond scikit-learn's own `validate_data`, which it calls, and the time of
`mixture.scorer().predict`, which does not, against scikit-learn's `predict`; in one process, taking turns.
"""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

import problems
from harness import OURS, Context, Row, log, settle
from markdown import number, ratio, render

TITLE = "Prediction"
KEY = ("what",)
PEER = "sklearn"
N_ROWS, N_FEATURES, N_COMPONENTS = 1_000_000, 8, 16
FITTED_ROWS = 20_000
METHODS = ("predict_proba", "predict", "score_samples")
ROUNDS, CALLS = 300, 20
LEAST = {"predict_proba": 15.0, "one row": 8.0}  # times faster than scikit-learn


def run(context: Context) -> Iterator[Row]:
    """A row for each method on all rows, taking turns, and one for a single row."""
    X = problems.synth(max(2_000, int(N_ROWS * context.scale)), N_FEATURES, N_COMPONENTS, 1.0, 108)
    with context.stored(problems.Problem("prediction", X, N_COMPONENTS)) as stored:
        libraries = [OURS, *(peer for peer in context.peers if peer == PEER)]
        for library in libraries:
            stored.hand_to(context.worker(library))
            context.worker(library).call("mixture", n_components=N_COMPONENTS, n_rows=FITTED_ROWS)
        for method in METHODS:
            log(f"prediction: {method}")
            times: dict[str, list[float]] = {library: [] for library in libraries}
            for turn in range(context.repeats + 1):  # the first loads code and pages
                for library in libraries:
                    settle()
                    seconds = context.worker(library).call("predict", method=method)["seconds"]
                    if turn:
                        times[library].append(1e3 * seconds)
            milliseconds = {library: median(values) for library, values in times.items()}
            yield stored.row(what=method, milliseconds=milliseconds, all_milliseconds=times)
        log("prediction: one row")
        rounds = max(20, int(ROUNDS * context.scale))
        seconds = context.worker(OURS).call("one_row", rounds=rounds, calls=CALLS)["seconds"]
        microseconds = {name: 1e6 * median(values) for name, values in seconds.items()}
        beyond = [1e6 * (a - b) for a, b in zip(seconds["predict"], seconds["validate_data"], strict=True)]
        yield stored.row(
            what="one row", microseconds=microseconds, beyond_validation=median(beyond), rounds=rounds
        )


def table(rows: list[Row]) -> str:
    """Milliseconds for all rows, microseconds for one, and how many times as long scikit-learn takes."""
    parts = []
    many = [row for row in rows if row["what"] in METHODS]
    if many:
        header = ["method", f"{OURS} ms", f"{PEER} ms", f"/ {PEER}"]
        body = []
        for row in sorted(many, key=lambda row: METHODS.index(row["what"])):
            ours, peer = row["milliseconds"][OURS], row["milliseconds"].get(PEER)
            times = peer and peer / ours
            body.append([row["what"], number(ours), number(peer), _checked(row["what"], times)])
        shape = f"{many[0]['n_rows']:,} x {N_FEATURES}, K = {N_COMPONENTS}, full."
        parts.append(f"{shape}\n\n{render(header, body)}")
    for row in (row for row in rows if row["what"] == "one row"):
        each = row["microseconds"]
        body = [
            [f"{PEER}'s `predict`", number(each["sklearn"]), ""],
            [f"{PEER}'s `validate_data` alone", number(each["validate_data"]), ""],
            ["`predict`", number(each["predict"]), ratio(each["sklearn"] / each["predict"])],
            ["`predict` beyond `validate_data`", number(row["beyond_validation"]), ""],
            [
                "`mixture.scorer().predict`",
                number(each["scorer"]),
                _checked("one row", each["sklearn"] / each["scorer"]),
            ],
        ]
        parts.append(
            f"One row of {N_FEATURES} features, K = {N_COMPONENTS}, medians of {row['rounds']} rounds of "
            f"{CALLS} calls each.\n\n{render(['call', 'microseconds', f'/ {PEER}'], body)}"
        )
    return "\n\n".join(parts)


def _checked(what: str, times: float | None) -> str:
    missed = times is not None and times < LEAST.get(what, 0.0)
    return ratio(times) + (f" ! (at least {LEAST[what]:g}x)" if missed else "")
