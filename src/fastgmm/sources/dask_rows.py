"""Dask collections as sources of rows: recognised without importing Dask, read partition by partition.

With a distributed client the rows stay on its workers (fastgmm/distributed.py). Without one Dask's local
scheduler makes the partitions one after the other, and they are computed on here; so are they with one where
all steps are made here, as those of stepwise EM are.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import CancelledError
from contextlib import closing
from copy import copy
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._row_messages import refuse_queries_and_times
from ..scorer import Scorer
from .base import Block, Source

# Partitions that a cluster is asked for before they are wanted here.
MADE_AHEAD = 4
# Why partitions are lost for good, and what helps.
NOT_MADE_AGAIN = (
    "the worker that held it ended, and there is no task to make it again. Scatter it again, or pass a "
    "collection that Dask can recompute (one read from files, or made by dask.delayed), and call again."
)
# What is asked of rows: the name of a method of the mixture, and the type of what it returns.
OUTPUTS = {
    "score_samples": np.float64,
    "predict": np.int64,
    "predict_proba": np.float64,
    "log_prob_components": np.float64,
}


def dask_rows(X: Any, sample_weight: Any = None) -> DaskRows | None:
    """Rows of a Dask array, a Dask DataFrame, a Delayed, a Future or a list of these; None for all else."""
    return DaskRows(X, sample_weight) if _is_dask(X) else None


def _is_dask(X: Any) -> bool:
    """Whether X is made by Dask; what is not loaded made nothing."""
    if sys.modules.get("dask") is None:
        return False
    if isinstance(X, list | tuple):
        return bool(X) and all(_is_dask_object(item) for item in X)
    return _is_dask_object(X)


def _is_dask_object(X: Any) -> bool:
    from dask.base import is_dask_collection

    return is_dask_collection(X) or _is_future(X)


def _is_future(X: Any) -> bool:
    return sys.modules.get("distributed") is not None and isinstance(X, sys.modules["distributed"].Future)


def _is_array(X: Any) -> bool:
    return sys.modules.get("dask.array") is not None and isinstance(X, sys.modules["dask.array"].Array)


def _is_frame(X: Any) -> bool:
    return hasattr(X, "npartitions") and hasattr(X, "columns") and hasattr(X, "to_delayed")


class DaskRows(Source):
    """Partitions of a Dask collection.

    Attributes
    ----------
    X : the collection; an array has all columns in one chunk
    parts, weights : list of Delayed or Future
        One per partition; `weights` is None where each row counts once.
    """

    def __init__(self, X: Any, sample_weight: Any = None) -> None:
        names: NDArray[np.object_] | None = None
        if _is_frame(X) or _is_array(X):
            refuse_queries_and_times(X)
        if _is_frame(X) and isinstance(sample_weight, str):
            X, sample_weight = _without_column(X, sample_weight)
        if isinstance(X, list | tuple):
            self.parts = [part for item in X for part in _parts(item, "X", 2)]
        else:
            if _is_array(X) and X.ndim == 2 and X.numblocks[1] > 1:
                X = X.rechunk({1: -1})
            self.parts = _parts(X, "X", 2)
        if _is_frame(X) and all(isinstance(name, str) for name in X.columns):
            names = np.asarray(X.columns, dtype=object)
        self.X, self.feature_names = X, names
        self.n_features: int | None = None
        if _is_frame(X) or _is_array(X):
            n = len(X.columns) if _is_frame(X) else X.shape[1]
            self.n_features = None if np.isnan(n) else int(n)
        self.weights = None if sample_weight is None else self._weights(sample_weight)
        self.client: Any = None  # that makes partitions that come here

    def _weights(self, weights: Any) -> list[Any]:
        """One partition of weights for each of the rows."""
        if isinstance(weights, list | tuple) and weights and all(_is_dask_object(item) for item in weights):
            parts = [part for item in weights for part in _parts(item, "sample_weight", 1)]
        elif _is_dask(weights):
            if _is_array(weights) and weights.ndim == 1 and _is_array(self.X):
                rows = self.X.chunks[0]
                known = not np.isnan([*rows, *weights.chunks[0]]).any()
                if known and weights.chunks[0] != rows and weights.shape[0] == self.X.shape[0]:
                    weights = weights.rechunk((rows,))
            parts = _parts(weights, "sample_weight", 1)
        else:
            raise TypeError(
                f"sample_weight is a {type(weights).__name__}, but X is made by Dask. Pass weights in the "
                "same partitions: a Dask array or Series, a list of futures, or the name of a column of X."
            )
        if len(parts) != len(self.parts):
            raise ValueError(
                f"sample_weight has {len(parts)} partitions and X has {len(self.parts)}: they must be "
                "divided alike."
            )
        return parts

    def blocks(self) -> Iterator[Block]:
        """Partition after partition, made by the client, or by Dask's local scheduler as configured."""
        pairs = list(zip(self.parts, self.weights or [None] * len(self.parts)))
        made = _computed_here(pairs) if self.client is None else _fetched(pairs, self.client)
        with closing(made) as partitions:
            for number, (X, weight) in enumerate(partitions):
                weight = None if weight is None else np.asarray(weight, dtype=np.float64)
                yield Block(X, weight, place_of(number))

    def open(self, n_threads: int) -> Any:
        """Rows on the workers of the client, where there is one."""
        client = self._client()
        if client is None:
            return self.open_here(n_threads)
        from ..distributed import DaskData  # which needs distributed

        return DaskData(self, client)

    def open_here(self, n_threads: int) -> Any:
        """Rows that come here partition by partition, those on the workers of a client, too."""
        rows = copy(self)
        rows.client = self._client()  # of this thread; rows are read in another
        return Source.open_here(rows, n_threads)

    def _client(self) -> Any:
        """The client in use, or the one whose futures these are; None where there is none."""
        for part in self.parts:
            if _is_future(part):
                return _synchronous(part.client)
        if "distributed" not in sys.modules:  # then nobody can have made one
            return None
        try:
            return _synchronous(sys.modules["distributed"].Client.current())
        except ValueError:
            return None

    def outputs(self, scorer: Scorer, what: str, n_features: int) -> Any:
        """A Dask array of what `scorer` says of each row; nothing is computed yet.

        Parameters
        ----------
        scorer : Scorer
        what : name in OUTPUTS
        n_features : int
            What the mixture expects.
        """
        import dask.array as da
        from dask.delayed import delayed

        if self.n_features is not None and self.n_features != n_features:
            raise ValueError(
                f"X has {self.n_features} features, but the mixture is expecting {n_features} features as "
                "input."
            )
        wide = what in ("predict_proba", "log_prob_components")
        dtype = np.dtype(OUTPUTS[what])
        ready = delayed(scorer, pure=False)  # one key that all blocks depend on
        if _is_array(self.X):
            chunks = (self.X.chunks[0], (scorer.n_components,)) if wide else (self.X.chunks[0],)
            return self.X.map_blocks(
                _outputs_of_block,
                scorer=ready,
                what=what,
                chunks=chunks,
                drop_axis=None if wide else 1,
                dtype=dtype,
                meta=np.empty((0, 0) if wide else 0, dtype=dtype),
            )
        shape = (np.nan, scorer.n_components) if wide else (np.nan,)
        each = delayed(partial(_outputs_of_part, what=what), pure=False)
        parts = [
            da.from_delayed(each(part, ready, number), shape, dtype) for number, part in enumerate(self.parts)
        ]
        return da.concatenate(parts, allow_unknown_chunksizes=True)


def place_of(number: int) -> str:
    """What messages call a partition."""
    return f"partition {number}"


def _without_column(X: Any, name: str) -> tuple[Any, Any]:
    """Rows without the column of their weights, and that column."""
    if name not in X.columns:
        raise ValueError(f"sample_weight = {name!r} is no column of X, which has {list(X.columns)[:8]}.")
    return X.drop(columns=[name]), X[name]


def _parts(X: Any, name: str, ndim: int) -> list[Any]:
    """Partitions in order, as Delayed or Future."""
    from dask.delayed import Delayed

    if isinstance(X, Delayed) or _is_future(X):
        return [X]
    if _is_array(X):
        if X.ndim != ndim:
            remedy = "X.reshape(-1, 1) has one feature." if ndim == 2 else "It has one number per row."
            raise ValueError(f"Expected {ndim}D array, got {X.ndim}D Dask array instead as {name}. {remedy}")
        return X.to_delayed().ravel().tolist()
    is_series = hasattr(X, "npartitions") and hasattr(X, "to_delayed") and hasattr(X, "dtype")
    if _is_frame(X) if ndim == 2 else is_series:
        return list(X.to_delayed())
    wanted = "Dask array, Dask DataFrame" if ndim == 2 else "1-D Dask array, Dask Series"
    raise TypeError(f"{name} is a {type(X).__name__}; pass a {wanted}, or a list of Delayed or Future.")


def _synchronous(client: Any) -> Any:
    if client.asynchronous:
        raise TypeError(
            "The Dask client in use is asynchronous, and a fit waits for its results. Use "
            "Client(..., asynchronous=False) in the thread that fits."
        )
    return client


def _computed_here(pairs: list[tuple[Any, Any]]) -> Generator[tuple[Any, Any], None, None]:
    graphs: dict[int, tuple[Any, dict[Any, Any]]] = {}
    for part, weight in pairs:
        yield _compute_here(part, weight, graphs)


def _fetched(pairs: list[tuple[Any, Any]], client: Any) -> Generator[tuple[Any, Any], None, None]:
    """Partitions and weights from the cluster, which makes some ahead and lets go of those that came."""

    def asked_for(pair: tuple[Any, Any]) -> list[Any]:
        return [item if item is None or _is_future(item) else client.compute(item) for item in pair]

    ahead = deque(map(asked_for, pairs[:MADE_AHEAD]))
    for number in range(len(pairs)):
        ahead.extend(map(asked_for, pairs[number + MADE_AHEAD : number + MADE_AHEAD + 1]))
        try:
            X, weight = client.gather(ahead.popleft())
        except CancelledError as error:
            raise RuntimeError(f"X has lost {place_of(number)}: {NOT_MADE_AGAIN}") from error
        yield X, weight


def _compute_here(part: Any, weight: Any, graphs: dict[int, tuple[Any, dict[Any, Any]]]) -> tuple[Any, Any]:
    """A partition and its weights, from the tasks of the graph that they need."""
    from dask.base import get_scheduler
    from dask.optimization import cull
    from dask.threaded import get as threaded

    wanted = [part] if weight is None else [part, weight]
    tasks: dict[Any, Any] = {}
    for item in wanted:
        whole = item.__dask_graph__()
        if id(whole) not in graphs:  # partitions of a collection share one, which is kept: ids are used again
            graphs[id(whole)] = whole, dict(whole)
        tasks.update(cull(graphs[id(whole)][1], [item.key])[0])
    get = get_scheduler() or threaded
    found = get(tasks, [item.key for item in wanted])
    return found[0], (None if weight is None else found[1])


def _outputs_of_block(
    block: Any, scorer: Scorer, what: str, block_id: tuple[int, ...] | None = None
) -> NDArray[Any]:
    return _outputs_of_part(block, scorer, block_id[0] if block_id else 0, what=what)


def _outputs_of_part(X: Any, scorer: Scorer, number: int, what: str) -> NDArray[Any]:
    from ..workers import outputs  # that this file is imported without

    return outputs(X, scorer, place_of(number), what)
