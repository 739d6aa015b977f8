"""Where rows come from, other than arrays: base.py has the contract, streamed.py computes on them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from os import PathLike
from typing import Any, Protocol

import numpy as np
from scipy.sparse import issparse

from .._validation import check_sample_weight
from ..blocks import ArrayData
from ..collector import ArrayCollector, Collector, Setting
from ..frame import Frame
from .base import Source, check_feature_names
from .dask_rows import DaskRows, dask_rows
from .iterables import BlockRows
from .mapped import LARGEST_AT_ONCE, MappedRows
from .streamed import StreamedData

__all__ = [
    "BlockRows",
    "DaskRows",
    "Data",
    "Source",
    "StreamedData",
    "as_source",
    "check_feature_names",
    "close",
    "collector_of",
    "dask_rows",
    "data_of",
]


class Data(Protocol):
    """What the loop knows of the rows: how many there are, where they lie, who makes passes over them."""

    n_rows: int
    n_positive: int
    n_features: int
    total_weight: float

    def frame(self, n_threads: int, common_scale: bool = False) -> Frame:
        """Frame of the data: weighted mean and standard deviation per feature."""


def collector_of(data: Any, setting: Setting) -> Collector:
    """Who makes the passes of a fit over the data."""
    if isinstance(data, ArrayData):
        return ArrayCollector(data, setting)
    collector: Collector = data.collector(setting)
    return collector


def data_of(source: Source, n_threads: int) -> Any:
    """The rows of a source, for a fit or another look at all of them: StreamedData or DaskData."""
    return source.data(n_threads)


def close(data: Any) -> None:
    """Free what data keep elsewhere between the passes of a fit."""
    if not isinstance(data, ArrayData):
        data.close()


def as_source(X: Any, sample_weight: Any = None) -> Source | None:
    """What is to be read block by block; None for what is, or becomes, an array in memory.

    Raises
    ------
    TypeError
        For iterators, which can be read only once, and weights where the source brings its own.
    """
    source = _source_of(X, sample_weight)
    if source is None or isinstance(source, MappedRows | DaskRows):
        return source
    if sample_weight is not None:
        raise TypeError(
            f"sample_weight cannot be given beside X = {type(X).__name__}: weights come with the rows there. "
            "See BlockRows(weighted=True)."
        )
    return source


def _source_of(X: Any, sample_weight: Any) -> Source | None:
    if isinstance(X, Source):
        return X
    partitions = dask_rows(X, sample_weight)
    if partitions is not None:
        return partitions
    if isinstance(X, np.memmap):
        if X.ndim != 2 or X.nbytes <= LARGEST_AT_ONCE or X.dtype.kind != "f":
            return None
        return MappedRows(X, check_sample_weight(sample_weight, len(X)))
    if isinstance(X, Iterator) or _is_iterable_of_blocks(X):
        return BlockRows(X)
    return None


def _is_iterable_of_blocks(X: Any) -> bool:
    """Whether X is neither an array nor a sequence of numbers but gives blocks."""
    if isinstance(X, list | tuple):
        return bool(X) and all(getattr(block, "ndim", None) == 2 for block in X)
    if isinstance(X, str | bytes | PathLike | Mapping | Set) or issparse(X):
        return False
    if any(hasattr(X, name) for name in ("__array__", "__array_interface__", "__dlpack__", "__dataframe__")):
        return False
    if isinstance(X, type):
        return False
    return callable(X) or (hasattr(X, "__iter__") and not hasattr(X, "__getitem__"))
