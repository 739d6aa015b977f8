"""What tells one fit from another: its options, its rows, and what a warm start continues from.

All of it is what JSON keeps. Arrays are told by a digest, rows by what is known of them without another look
at all of them.
"""

from __future__ import annotations

import hashlib
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from .blocks import SAMPLE_ROWS, ArrayData
from .frame import Frame

# What may differ from one call to the next: it changes how long a fit runs and what it tells, or is compared
# in another way (random_state by its draws, warm_start by the parameters that it starts from).
FREE = {
    "checkpoint", "checkpoint_every", "max_iter", "max_time", "n_jobs", "verbose", "verbose_interval",
    "warm_start",
}  # fmt: skip


def of_options(estimator: Any) -> dict[str, Any]:
    """The constructor's parameters that must be the same, and the estimator's name."""
    options = {"estimator": type(estimator).__name__}
    for name, value in sorted(estimator.get_params(deep=False).items()):
        if name not in FREE:
            options[name] = _described(value)
    return options


def _described(value: Any) -> Any:
    """An option as JSON keeps it; arrays by their digest."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.random.RandomState):
        return "RandomState"
    if is_dataclass(value):  # a prior
        return {field.name: _described(getattr(value, field.name)) for field in fields(value)}
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        return repr(value)
    return f"array of shape {array.shape}, {_digest(array)}"


def _digest(*arrays: Any) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]


def of_rows(data: Any, seeds: ArrayData, frame: Frame) -> dict[str, Any]:
    """What can be known of the rows without another look at all of them."""
    parts = getattr(data, "parts_seen", None)
    if isinstance(data, ArrayData):
        is_single = data.X.dtype == np.float32
    else:
        is_single = bool(getattr(data, "is_single", False))
    return {
        "number of rows of X": int(data.n_rows),
        "number of features of X": int(data.n_features),
        "type of X": "float32" if is_single else "float64",
        "rows of positive weight": int(data.n_positive),
        "sum of sample_weight": float(data.total_weight),
        "blocks of X": None if parts is None else _digest(np.array(parts, dtype=np.int64)),
        "means and scales of X": _digest(frame.shift, frame.scale),
        "some rows of X": _digest(seeds.sample(SAMPLE_ROWS)),
    }


def of_start(started_from: tuple[Any, float] | None) -> str | None:
    """What a warm start continues from, None for any other."""
    if started_from is None:
        return None
    parameters, bound = started_from
    return _digest(*parameters, np.float64(bound))
