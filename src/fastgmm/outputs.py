"""Outputs per row: for rows in memory or of a source, to new arrays, the caller's, or files."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from contextlib import closing
from io import BytesIO
from math import prod
from os import PathLike
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from ._memory import array_request, explained_memory_error, not_enough_memory
from ._typing import RowArray
from .scorer import Scorer
from .sources import StreamedData
from .sources.base import rows_per_part
from .sources.files import files_of, suffix_of
from .whole_files import Replacement, remove_left_overs, there

REMEDY = "Ask for fewer rows at a time, X[:100_000], X[100_000:200_000], ..., or pass a file's name as out."


class Output(NamedTuple):
    """One kind of output: the method it is of, what the pass calls it, its type, whether it has K columns."""

    method: str
    name: str
    dtype: np.dtype[Any] = np.dtype(np.float64)
    per_component: bool = False
    hard: bool = False

    def shape(self, n_rows: int, scorer: Scorer) -> tuple[int, ...]:
        """Of the outputs of so many rows."""
        return (n_rows, scorer.n_components) if self.per_component else (n_rows,)

    def write(self, scorer: Scorer, X: RowArray, out: NDArray[Any]) -> None:
        """Outputs of rows into a contiguous array."""
        scorer._write(X, self.name, out, self.hard)


LOG_DENSITY = Output("score_samples", "log_density")
LABELS = Output("predict", "labels", np.dtype(np.int64), hard=True)
RESPONSIBILITIES = Output("predict_proba", "responsibilities", per_component=True)
SCORES = Output("log_prob_components", "scores", per_component=True)


def of_array(output: Output, scorer: Scorer, X: RowArray, out: Any = None) -> NDArray[Any]:
    """Outputs of rows in memory: a new array, or part by part in `out`."""
    if out is None:
        shape = output.shape(len(X), scorer)
        try:
            result = np.empty(shape, output.dtype)
            output.write(scorer, X, result)
        except MemoryError as error:
            raise not_enough_memory(error, array_request(shape, output.method), REMEDY) from error
        return result
    _check_apart(out, X)
    _check_other_file(out, files_of(X))
    with _sink(output, scorer, out, len(X)) as sink:
        _write(output, scorer, X, sink)
    return sink.result()


def of_source(output: Output, scorer: Scorer, data: StreamedData, out: Any = None) -> NDArray[Any]:
    """Outputs of rows that are read part by part, also those of weight 0."""
    _check_other_file(out, data.source.paths)
    n_rows = data.source.n_rows
    request = array_request(output.shape(n_rows or 0, scorer), output.method)
    with explained_memory_error(request, REMEDY):
        with _sink(output, scorer, out, n_rows) as sink:
            with closing(data.parts()) as parts:
                for part in parts:
                    _check_apart(out, part.X)
                    _write(output, scorer, part.X, sink)
            if not sink.n_rows:
                raise ValueError("X has no rows: 1 or more are needed.")
        return sink.result()


def _write(output: Output, scorer: Scorer, X: RowArray, sink: Sink) -> None:
    """Outputs of some rows, at a time as many as take PART_BYTES."""
    n = rows_per_part(sink.row_bytes)
    for first in range(0, len(X), n):
        rows = X[first : first + n]
        room = sink.room(len(rows))
        output.write(scorer, rows, room)
        sink.take(room)


# ---- where outputs go ------------------------------------------------------------------------------------


def _sink(output: Output, scorer: Scorer, out: Any, n_rows: int | None) -> Sink:
    """What takes outputs to `out`, which is checked: None, an array, or the name of a file."""
    of_row = output.shape(0, scorer)[1:]
    if out is None and n_rows is None:
        return Growing(of_row, output.dtype)
    if out is None:
        assert n_rows is not None
        return Given(np.empty((n_rows, *of_row), output.dtype))
    if isinstance(out, str | PathLike):
        return NpyFile(out, of_row, output.dtype)
    _check_out(output, out, n_rows, of_row)
    return Given(out)


def _check_out(output: Output, out: Any, n_rows: int | None, of_row: tuple[int, ...]) -> None:
    """Refuse arrays that outputs of so many rows do not fit in."""
    if not isinstance(out, np.ndarray):
        raise TypeError(
            f"out must be an ndarray or the name of a file that ends in .npy, got {type(out).__name__}."
        )
    if out.dtype != output.dtype:
        raise ValueError(f"out has the dtype {out.dtype}, but {output.method} gives {output.dtype}.")
    expected = (len(out) if n_rows is None and out.ndim else n_rows, *of_row)
    if out.shape != expected:
        raise ValueError(f"out has the shape {out.shape}, expected {expected} for {output.method} of X.")
    if not out.flags.writeable:
        raise ValueError("out is read-only: outputs are to be written to it.")


def _check_apart(out: Any, X: RowArray) -> None:
    if isinstance(out, np.ndarray) and np.may_share_memory(out, X):
        raise ValueError("out shares memory with X: rows would be overwritten before they are read.")


def _check_other_file(out: Any, paths: list[str]) -> None:
    if isinstance(out, str | PathLike) and os.path.realpath(out) in map(os.path.realpath, paths):
        raise ValueError(f"out = {os.fspath(out)!r} is a file that X is read from: its rows would be lost.")


class Sink(ABC):
    """Takes outputs of rows in order. Its result is there once its context has been left."""

    def __init__(self, of_row: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.of_row, self.dtype = of_row, dtype
        self.row_bytes = prod(of_row) * dtype.itemsize
        self.n_rows = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.end(error is None)

    def room(self, n_rows: int) -> NDArray[Any]:
        """A contiguous array for the outputs of the next rows."""
        return np.empty((n_rows, *self.of_row), self.dtype)

    @abstractmethod
    def take(self, outputs: NDArray[Any]) -> None:
        """The array that was asked for last, filled."""

    def end(self, succeeded: bool) -> None:  # noqa: B027 -- most have nothing to do
        """All rows have been taken, or an error ended it."""

    @abstractmethod
    def result(self) -> NDArray[Any]:
        """All outputs."""


class Given(Sink):
    """Outputs go to an array, of any strides."""

    def __init__(self, out: NDArray[Any]) -> None:
        super().__init__(out.shape[1:], out.dtype)
        self.out = out

    def room(self, n_rows: int) -> NDArray[Any]:
        """A piece of the array itself where that is in one piece."""
        rows = self.out[self.n_rows : self.n_rows + n_rows]
        if len(rows) < n_rows:
            raise ValueError(f"out has room for {len(self.out)} rows, but X has more.")
        direct = rows.flags.c_contiguous and rows.flags.aligned and rows.dtype.isnative
        return rows if direct else super().room(n_rows)

    def take(self, outputs: NDArray[Any]) -> None:
        """Copied, unless they are where they belong."""
        rows = self.out[self.n_rows : self.n_rows + len(outputs)]
        if not np.may_share_memory(rows, outputs):
            rows[...] = outputs
        self.n_rows += len(outputs)

    def end(self, succeeded: bool) -> None:
        """Refuse to leave a part of the array as it was."""
        if succeeded and self.n_rows < len(self.out):
            raise ValueError(
                f"out has room for {len(self.out)} rows, but X has {self.n_rows}: the rest was not written."
            )

    def result(self) -> NDArray[Any]:
        """The array."""
        return self.out


class Growing(Sink):
    """Outputs of nobody knows how many rows, in memory."""

    def __init__(self, of_row: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        super().__init__(of_row, dtype)
        self.pieces: list[NDArray[Any]] = []

    def take(self, outputs: NDArray[Any]) -> None:
        """Kept as they are."""
        self.pieces.append(outputs)
        self.n_rows += len(outputs)

    def result(self) -> NDArray[Any]:
        """Put together; each piece is given back once it has been copied."""
        out = np.empty((self.n_rows, *self.of_row), self.dtype)
        end = self.n_rows
        while self.pieces:
            piece = self.pieces.pop()
            out[end - len(piece) : end] = piece
            end -= len(piece)
        return out


class NpyFile(Sink):
    """Outputs go to a .npy file, which is put in its place when it is whole.

    Its header is written twice: the number of rows is known at the end. numpy leaves room in headers for the
    first axis to grow.
    """

    def __init__(self, path: str | PathLike[str], of_row: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        super().__init__(of_row, dtype)
        if suffix_of(path) != ".npy":
            raise ValueError(f"out = {os.fspath(path)!r} must end in .npy, the format that is written.")
        self.asked_for = os.fspath(path)
        try:
            kind = there(path)[1]
            if kind:
                raise ValueError(
                    f"out = {self.asked_for!r} is {kind}: outputs are written to a regular file only."
                )
            remove_left_overs(path)
            self.replacement = Replacement(path, buffering=0)
        except OSError as error:
            raise ValueError(f"out = {self.asked_for!r} cannot be written: {error.strerror}.") from error
        self.file = self.replacement.file
        self.buffer: NDArray[Any] | None = None

    def _header(self) -> bytes:
        header = {
            "descr": npy_format.dtype_to_descr(self.dtype),
            "fortran_order": False,
            "shape": (self.n_rows, *self.of_row),
        }
        content = BytesIO()
        npy_format.write_array_header_1_0(content, header)
        return content.getvalue()

    def __enter__(self) -> Self:
        try:
            self._append(self._header())
        except BaseException:
            self.end(False)
            raise
        return self

    def room(self, n_rows: int) -> NDArray[Any]:
        """The same memory each time."""
        if self.buffer is None or len(self.buffer) < n_rows:
            self.buffer = super().room(n_rows)
        return self.buffer[:n_rows]

    def take(self, outputs: NDArray[Any]) -> None:
        """Appended to the file."""
        self._append(memoryview(outputs.reshape(-1).view(np.uint8)))  # type: ignore[arg-type]
        self.n_rows += len(outputs)

    def _append(self, content: bytes | memoryview) -> None:
        left = memoryview(content)
        while left:  # a write may take less than it is given
            left = left[self.file.write(left) :]

    def end(self, succeeded: bool) -> None:
        """Put the file in its place, or away with it."""
        try:
            if succeeded:
                self.file.seek(0)
                self._append(self._header())
                self.replacement.put_in_place()
        finally:
            self.replacement.discard()

    def result(self) -> NDArray[Any]:
        """The file, memory-mapped, to be read only."""
        mapped: NDArray[Any] = np.load(self.replacement.path, mmap_mode="r")
        return mapped
