"""Checks of what users hand in: rows, sample weights, starting parameters.

Errors are of scikit-learn's kinds (ValueError, TypeError) and say which argument, where in it, and what to
do. scikit-learn's own checks decide; what is added here is the place of the first offender, and what
helps (_row_messages.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import isfinite
from numbers import Number
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse
from sklearn.utils import check_array
from sklearn.utils.validation import _get_feature_names, validate_data

from ._row_messages import (
    cell_in_words,
    names_of,
    refuse_queries_and_times,
    remedy_of,
    remedy_of_object,
)
from ._typing import BoolArray, FloatArray

# What keeps its precision, in either byte order; anything else becomes the first of them. scikit-learn looks
# dtypes up in this list, and there a foreign byte order is another dtype.
FLOATS = [np.float64, np.float32, *(np.dtype(kind).newbyteorder() for kind in (np.float64, np.float32))]

# Devices of the DLPack protocol with memory the processor can read: its own, and what CUDA or ROCm pinned.
_HOST_DEVICES = (1, 3, 11, 13)


# ---- rows ------------------------------------------------------------------------------------------------


def check_rows(estimator: Any, X: Any, *, reset: bool, min_rows: int = 1) -> NDArray[Any]:
    """Validate X as the rows an estimator is given.

    Parameters
    ----------
    estimator : estimator
        Receives `n_features_in_` and `feature_names_in_` if `reset`; else X is checked against them.
    X : array-like of shape (n_samples, n_features)
        float64 and float32 arrays of any memory layout are not copied unless their byte order is foreign; all
        else becomes float64.
    reset : bool
        Whether X defines the number and names of features.
    min_rows : int, default=1
        Fewest rows that are accepted.

    Returns
    -------
    X : ndarray of shape (n_samples, n_features), float64 or float32 in native byte order

    Raises
    ------
    TypeError
        For sparse matrices, arrays on another device, queries that have not been run, dates, durations and
        other objects that are not numbers.
    ValueError
        For NaN, infinity, text, complex numbers, a wrong shape, too few rows, other columns than in fit.
    """
    X = on_host(X, "X")
    if type(X) is not np.ndarray or X.dtype.kind not in "fiub":
        refuse_queries_and_times(X)
    try:
        return _validated(estimator, X, reset, min_rows, not _surely_finite(X))
    except (TypeError, ValueError) as error:
        message = _with_place(X, str(error))
        if message is None:
            raise
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(message) from error


@np.errstate(invalid="ignore", over="ignore")
def _surely_finite(X: Any) -> bool:
    """Whether X is an array of floats, all of them finite: then scikit-learn need not look.

    Its first look is the same, a sum, which no NaN and no infinity leaves finite; but at one row it takes
    longer than scoring it. A sum of finite numbers may overflow: scikit-learn then looks at each.
    """
    return type(X) is np.ndarray and X.dtype.char in "df" and isfinite(X.sum())


@np.errstate(invalid="ignore")  # the sum may come to inf - inf
def _validated(estimator: Any, X: Any, reset: bool, min_rows: int, look: bool) -> NDArray[Any]:
    rows: NDArray[Any] = validate_data(
        estimator, X, reset=reset, dtype=FLOATS, ensure_min_samples=min_rows, ensure_all_finite=look
    )
    return in_native_order(rows)


def in_native_order(values: NDArray[Any]) -> NDArray[Any]:
    """The array itself; a copy where its byte order is foreign."""
    return values if values.dtype.isnative else values.astype(values.dtype.newbyteorder("="))


def is_float32(values: Any) -> bool:
    """Whether it is an array of float32, in either byte order."""
    dtype = getattr(values, "dtype", None)
    return isinstance(dtype, np.dtype) and dtype.newbyteorder("=") == np.float32


def check_block(
    X: Any, place: str, first: int, *, look: bool, names: Sequence[Any] | None = None
) -> NDArray[Any]:
    """Validate a block of rows that a source gives.

    Parameters
    ----------
    X : array-like of shape (n, n_features)
        May have no rows.
    place, first : str, int
        What messages call the block, and its first row.
    look : bool
        Whether to look at the numbers; if not, only shape and type are checked.
    names : sequence of str, default=None
        Of the columns, for messages. None: those of X, where it is a frame.

    Returns
    -------
    X : ndarray of shape (n, n_features), float64 or float32 in native byte order
    """
    of = f" of {place}" if place else ""
    X = on_host(X, "X")
    refuse_queries_and_times(X, place)
    if names is None:
        names = names_of(X)
    try:
        with np.errstate(invalid="ignore"):
            X = check_array(X, dtype=FLOATS, ensure_min_samples=0, ensure_all_finite=False)
    except (TypeError, ValueError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{_with_place(X, str(error)) or error} (in X{of})") from error
    if look and X.size:
        with np.errstate(invalid="ignore", over="ignore"):
            finite = np.isfinite(X.sum())
        bad = None if finite else _first_not_finite(X)
        if bad is not None:
            row, column = bad
            value = X[row, column]
            cell = cell_in_words(row_in_words(first + row, place), column, names)
            raise ValueError(
                f"Input X contains {'NaN' if np.isnan(value) else 'infinity'}: the first is {value} in "
                f"{cell}. {remedy_of(value)}"
            )
    return in_native_order(X)


def row_in_words(row: int, place: str) -> str:
    """A row of a block in words; places that know better are asked (sources.files.Together)."""
    find = getattr(place, "row", None)
    if find is not None:
        return str(find(row))
    return f"row {row} of {place}" if place else f"row {row}"


def column_names(X: Any) -> NDArray[np.object_] | None:
    """Names of the columns of a frame where all are strings, None for all else."""
    if type(X) is np.ndarray:
        return None
    names: NDArray[np.object_] | None = _get_feature_names(X)
    return names


def check_enough_rows(n_rows: int, n_positive: int, n_components: int) -> None:
    """Refuse to fit more components than there are rows (rows of weight zero do not count)."""
    if n_positive >= n_components:
        return
    weighted = "" if n_positive == n_rows else " with positive sample_weight"
    raise ValueError(
        f"Expected n_samples >= n_components but got n_components = {n_components}, "
        f"n_samples = {n_positive}{weighted}. Use fewer components or more rows."
    )


def on_host(values: Any, name: str) -> Any:
    """Refuse arrays on another device; take other libraries' arrays on this one as NumPy's, uncopied."""
    if isinstance(values, np.ndarray) or not hasattr(values, "__dlpack_device__"):
        return values
    if int(values.__dlpack_device__()[0]) not in _HOST_DEVICES:
        raise TypeError(
            f"{name} is a {type(values).__module__}.{type(values).__name__} in the memory of another device; "
            f"fastgmm computes on the CPU. Copy it there first ({name}.cpu() in torch, {name}.get() in cupy)."
        )
    return np.asarray(values)


def _with_place(X: Any, message: str) -> str | None:
    """scikit-learn's message on X with the place of the first offender, None where it has nothing to gain."""
    if "contains NaN" in message or "contains infinity" in message:
        values = check_array(X, dtype=FLOATS, ensure_all_finite=False)
        place = _first_not_finite(values, np.isnan if "contains NaN" in message else np.isinf)
        if place is None:
            return None
        row, column = place
        what = message.split("\n")[0].rstrip(".")
        cell = cell_in_words(f"row {row}", column, names_of(X))
        return f"{what}: the first is {values[row, column]} in {cell}. {remedy_of(values[row, column])}"
    if message.startswith("Complex data not supported"):
        return (
            f"Complex data not supported: X holds {np.asarray(X).dtype}. Pass real and imaginary parts as "
            "columns of their own."
        )
    if issparse(X) or "dimensional" in message or "array with dim" in message or "features" in message:
        return None
    found = _first_not_number(X)
    if found is None:
        return None
    row, column, value = found
    cell = cell_in_words(f"row {row}", column, names_of(X))
    return (
        f"{message.rstrip('.')}: X has {value!r} in {cell}, which is not a number. {remedy_of_object(value)}"
    )


def _not_finite(values: NDArray[Any]) -> BoolArray:
    return ~np.isfinite(values)


def _first_not_finite(
    values: NDArray[Any], is_bad: Callable[[NDArray[Any]], BoolArray] = _not_finite
) -> tuple[int, int] | None:
    block = max(1, 2**20 // max(1, values.shape[1]))  # so that the search needs no copy of X
    for start in range(0, len(values), block):
        bad = np.argwhere(is_bad(values[start : start + block]))
        if len(bad):
            return start + int(bad[0, 0]), int(bad[0, 1])
    return None


def _first_not_number(X: Any) -> tuple[int, int, Any] | None:
    try:
        cells = np.asarray(X, dtype=object)
    except (TypeError, ValueError):  # rows of different lengths
        return None
    if cells.ndim != 2:
        return None
    for row, values in enumerate(cells):
        for column, value in enumerate(values):
            try:
                float(value)
            except (TypeError, ValueError):
                return row, column, value
    return None


# Largest weights outside this range could overflow or vanish in products with second moments.
SMALLEST_WEIGHT, LARGEST_WEIGHT = 1e-100, 1e100


def check_sample_weight(sample_weight: Any, n_rows: int, *, may_be_zero: bool = False) -> FloatArray | None:
    """Validate weights of rows.

    Parameters
    ----------
    sample_weight : array-like of shape (n_rows,), float or None
        Finite, not negative, not all zero. None: every row counts once.
    n_rows : int
    may_be_zero : bool, default=False
        Whether all weights may be zero, and there may be none: of a part of the rows.

    Returns
    -------
    sample_weight : ndarray of shape (n_rows,), float64, C-contiguous, or None

    Raises
    ------
    ValueError
        For NaN, infinity, negative numbers, another length or shape, all zeros, or a largest weight outside
        1e-100 to 1e100.
    """
    if sample_weight is None:
        return None
    sample_weight = on_host(sample_weight, "sample_weight")
    if isinstance(sample_weight, Number):
        sample_weight = np.full(n_rows, sample_weight)
    weights: FloatArray = check_array(
        sample_weight,
        dtype=np.float64,
        order="C",
        ensure_2d=False,
        ensure_all_finite=False,
        allow_nd=True,
        ensure_min_samples=0 if may_be_zero else 1,
        input_name="sample_weight",
    )
    if weights.ndim != 1:
        raise ValueError(
            f"Sample weights must be 1D array or scalar, got {weights.ndim}D array: sample_weight has the "
            f"shape {weights.shape}, expected ({n_rows},)."
        )
    if len(weights) != n_rows:
        raise ValueError(
            f"sample_weight.shape == {weights.shape}, expected ({n_rows},): give one weight per row of X."
        )
    for bad, what in ((~np.isfinite(weights), "finite"), (weights < 0, "non-negative")):
        if bad.any():
            place = int(np.argmax(bad))
            raise ValueError(
                f"sample_weight must be {what}, but it is {weights[place]} for row {place}. Rows that are "
                "not to count have weight 0."
            )
    with np.errstate(over="ignore"):
        total = weights.sum()
    if total == 0 and may_be_zero:
        return weights
    if total == 0:
        raise ValueError(
            "Sample weights must contain at least one non-zero number: sample_weight is all zero."
        )
    largest = weights.max()
    if not np.isfinite(total) or not SMALLEST_WEIGHT <= largest <= LARGEST_WEIGHT:
        raise ValueError(
            f"The largest sample_weight is {largest}: weighted sums would leave the range of float64. Divide "
            "sample_weight by its largest entry."
        )
    # Compiled code must not read numbers from odd addresses.
    return weights if weights.flags.aligned else weights.copy()


def check_block_weight(weights: Any, n_rows: int, place: str, first: int) -> FloatArray:
    """Validate the weights of a block of rows, all of which may be 0."""
    of = f" of {place}" if place else ""
    weights = np.ascontiguousarray(weights, dtype=np.float64)
    if weights.shape != (n_rows,):
        raise ValueError(f"The weights{of} have the shape {weights.shape}, expected ({n_rows},).")
    bad = ~((weights >= 0) & (weights < np.inf))
    if bad.any():
        row = int(np.argmax(bad))
        raise ValueError(
            f"Weights must be finite and non-negative, but it is {weights[row]} for "
            f"{row_in_words(first + row, place)}."
        )
    return weights if weights.flags.aligned else weights.copy()


def check_largest_weight(total: float, largest: float) -> None:
    """Refuse weights of all blocks that are all zero, or leave the range of weighted sums; 0: no weights."""
    if total == 0:
        raise ValueError("Sample weights must contain at least one non-zero number: all are zero.")
    if largest and (not np.isfinite(total) or not SMALLEST_WEIGHT <= largest <= LARGEST_WEIGHT):
        raise ValueError(
            f"The largest weight is {largest}: weighted sums would leave the range of float64. Divide the "
            "weights by their largest."
        )
