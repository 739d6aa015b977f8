"""The sections of the benchmark, in the order they run and are reported.

Every module offers:

    TITLE            its heading
    KEY              the names that identify a row, so that a new run replaces rows of an older one
    run(context)     yields rows (dictionaries that JSON can hold) as they are measured
    table(rows)      the report, in Markdown
"""

from __future__ import annotations

from sections import (
    acceleration,
    agreement,
    bayesian,
    end_to_end,
    equal,
    memory,
    precision,
    prediction,
    pruning,
    quality,
    rate,
    restarts,
    scaling,
    seeding,
    share,
)

SECTIONS = {
    "equal": equal,
    "agreement": agreement,
    "rate": rate,
    "end_to_end": end_to_end,
    "quality": quality,
    "seeding": seeding,
    "pruning": pruning,
    "share": share,
    "memory": memory,
    "scaling": scaling,
    "prediction": prediction,
    "restarts": restarts,
    "acceleration": acceleration,
    "precision": precision,
    "bayesian": bayesian,
}
