"""Where rows come from, other than arrays: base.py has the contract, streamed.py computes on them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from os.path import isdir
from typing import Any, Protocol

import numpy as np
from scipy.sparse import issparse

from .._typing import FloatArray
from .._validation import check_sample_weight
from ..blocks import ArrayData
from ..collector import ArrayCollector, Collector, Setting
from ..frame import Frame
from .base import Source, check_feature_names
from .dask_rows import DaskRows, dask_rows
from .files import Path, is_paths, paths_of, suffix_of
from .iterables import BlockRows
from .mapped import LARGEST_AT_ONCE, MappedRows
from .npy import NpyRows
from .parquet import FORMATS, ParquetRows, is_arrow
from .streamed import StreamedData

__all__ = [
    "BlockRows",
    "DaskRows",
    "Data",
    "NpyRows",
    "ParquetRows",
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

    def moments(self, n_threads: int) -> tuple[FloatArray, FloatArray]:
        """Weighted mean and standard deviation per feature, (D,), in the user's units; measured once."""


def collector_of(data: Any, setting: Setting) -> Collector:
    """Who makes the passes of a fit over the data."""
    if isinstance(data, ArrayData):
        return ArrayCollector(data, setting)
    collector: Collector = data.collector(setting)
    return collector


def data_of(source: Source, n_threads: int) -> Any:
    """The rows of a source, for a fit or another look at all of them: StreamedData or DaskData."""
    return source.open(n_threads)


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
    ValueError
        For paths of an unknown ending, and files that are not what they should be.
    """
    if type(X) is np.ndarray:  # first, as one row is scored in less time than the rest would take
        return None
    if isinstance(X, np.memmap):
        return _mapped(X, sample_weight)
    partitions = dask_rows(X, sample_weight)
    if partitions is not None:
        return partitions
    if is_paths(X):
        return _of_paths(X, sample_weight)
    if isinstance(X, Source):
        source: Source | None = X
    elif is_arrow(X):
        source = ParquetRows(X)
    elif isinstance(X, Iterator) or _is_iterable_of_blocks(X):
        source = BlockRows(X)
    else:
        return None
    if sample_weight is not None:
        raise TypeError(
            f"sample_weight cannot be given beside X = {type(X).__name__}: weights come with the rows there. "
            "See BlockRows(weighted=True), NpyRows(weights=...) and ParquetRows(weights=...)."
        )
    return source


def _mapped(X: Any, sample_weight: Any) -> Source | None:
    if X.ndim != 2 or X.nbytes <= LARGEST_AT_ONCE or X.dtype.kind != "f":
        return None
    return MappedRows(X, check_sample_weight(sample_weight, len(X)))


def _of_paths(paths: Path | Sequence[Path], sample_weight: Any) -> Source:
    """A source of files, by their endings; a folder is one of Parquet or Arrow files."""
    names = paths_of(paths, "X")
    suffixes = {suffix_of(name) for name in names}
    if suffixes == {".npy"}:
        return NpyRows(names, sample_weight)
    if all(suffix in FORMATS or isdir(name) for name, suffix in zip(names, map(suffix_of, names))):
        if sample_weight is not None:
            raise TypeError(
                "sample_weight cannot be given beside such files, in which weights are a column: pass "
                "X = ParquetRows(files, weights='name of the column')."
            )
        return ParquetRows(names)
    if len(suffixes) > 1:
        raise ValueError(
            f"X names files with the endings {', '.join(map(repr, sorted(suffixes)))}; they must be of one "
            "format."
        )
    raise ValueError(
        f"X = {names[0]!r} is text, which is taken for the name of a file, and ends neither in .npy nor in "
        f"{', '.join(FORMATS)}, nor is it a folder of such files. Read other files yourself, and pass an "
        "array or a BlockRows."
    )


def _is_iterable_of_blocks(X: Any) -> bool:
    """Whether X is neither an array nor a sequence of numbers but gives blocks."""
    if isinstance(X, list | tuple):
        # not all frames have ndim
        shapes = [getattr(block, "shape", None) for block in X]
        return bool(X) and all(isinstance(shape, tuple) and len(shape) == 2 for shape in shapes)
    if isinstance(X, str | bytes | Mapping | Set) or issparse(X):
        return False
    if any(hasattr(X, name) for name in ("__array__", "__array_interface__", "__dlpack__", "__dataframe__")):
        return False
    if isinstance(X, type):
        return False
    return callable(X) or (hasattr(X, "__iter__") and not hasattr(X, "__getitem__"))
