"""Rows of Parquet and Arrow files, tables and data sets, through pyarrow."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from .._row_messages import GAPS, time_remedy
from .._validation import row_in_words
from .base import Block, Source, rows_per_part
from .files import (
    FileState,
    Path,
    Together,
    check_unchanged,
    is_path,
    is_paths,
    paths_of,
    state_of,
    suffix_of,
)
from .parts import PartMaker

# Formats of data sets by the endings of their files.
FORMATS = {".parquet": "parquet", ".pq": "parquet", ".arrow": "ipc", ".feather": "ipc", ".ipc": "ipc"}
# Compressed bytes of each column that are in memory at a time, where pyarrow is left no read-ahead.
STREAM_BYTES = 1 << 20
# Columns are copied to rows so many rows at a time, which stay in cache from one column to the next.
COPY_BYTES = 1 << 18


def is_arrow(X: Any) -> bool:
    """Whether X is a table or a data set of pyarrow's, without importing it."""
    arrow = sys.modules.get("pyarrow")
    if arrow is None or not type(X).__module__.startswith("pyarrow"):
        return False
    if isinstance(X, arrow.Table | arrow.RecordBatch):
        return True
    dataset = sys.modules.get("pyarrow.dataset")
    return dataset is not None and isinstance(X, dataset.Dataset)


class ParquetRows(Source):
    """Rows of columns of Parquet or Arrow files.

    Each pass reads the files in order, the next part while one is computed on. Memory is that of four parts
    of 64 MB, of another 64 MB that are decoded at a time, and of some 3 MB per column for pages; of Arrow's
    files of one record batch. Data sets made elsewhere are read through pyarrow's scanner: a row
    group at a time, of Arrow's files as far ahead as it does. Needs pyarrow
    (``pip install pyarrow``).

    Parameters
    ----------
    source : str, path-like, list of them, pyarrow.dataset.Dataset, or pyarrow.Table
        A file or several of one format, .parquet or .pq, or .arrow, .feather or .ipc (Arrow's IPC file
        format); or a folder, of which all such files are taken in the order of their paths, those in folders
        below it included, those whose names begin with "." or "_" left out. Folders named as in "year=2024"
        do not become columns: pass a data set for that. Rows come in the order of files, and in files in
        theirs.
    columns : list of str, default=None
        Columns that are features, in this order. None: all but `weights`.
    weights : str, default=None
        Name of the column of weights. None: each row counts once.

    Attributes
    ----------
    feature_names : ndarray of str
        The columns. A mixture fitted to these rows has them as ``feature_names_in_``.

    Raises
    ------
    ImportError
        If pyarrow is missing.
    ValueError
        For files that are missing, damaged or cut off, columns that do not exist or are not numbers, and,
        when rows are read, for nulls.
    TypeError
        For a source of another kind.

    Notes
    -----
    Integers, booleans and decimals are converted to float64; rows are float32 where all columns are.

    Examples
    --------
    >>> import numpy as np, pyarrow
    >>> from fastgmm import GaussianMixture, ParquetRows
    >>> rng = np.random.default_rng(0)
    >>> table = pyarrow.table({"height": rng.normal(170, 7, 2000), "weight": rng.normal(65, 9, 2000)})
    >>> mixture = GaussianMixture(random_state=0).fit(ParquetRows(table, columns=["weight", "height"]))
    >>> mixture.feature_names_in_
    array(['weight', 'height'], dtype=object)
    """

    def __init__(
        self,
        source: Path | Sequence[Path] | Any,
        columns: Sequence[str] | None = None,
        weights: str | None = None,
    ) -> None:
        self._arrow, self._dataset, self._fs, self._parquet = _import_pyarrow()
        if is_path(columns):
            raise TypeError(f"columns must be a list of names, got the text {columns!r}.")
        self.states: dict[str, FileState] = {}
        if is_paths(source) or (isinstance(source, list | tuple) and not source):
            paths = _files(paths_of(source, "source"))
            self.states = {path: state_of(path) for path in paths}
            formats = {_format(path) for path in paths}
            if len(formats) > 1:
                raise ValueError(f"Files must be of one format, got {' and '.join(sorted(formats))}.")
            self.format = formats.pop()
            self.place = paths[0]
        elif isinstance(source, self._dataset.Dataset):
            self.data, self.place = source, "the data set"
            _check_names(source.schema, self.place)
        elif isinstance(source, self._arrow.Table | self._arrow.RecordBatch):
            _check_names(source.schema, "the table")
            self.data, self.place = self._dataset.dataset(source), "the table"
            self.n_rows = source.num_rows
        else:
            raise TypeError(
                "source must be a path, a list of paths, a pyarrow.dataset.Dataset or a pyarrow.Table, got "
                f"{type(source).__name__}."
            )
        counts = dict.fromkeys(self.states, 0)
        schemas = {path: self._schema(path, counts) for path in self.states} or {"": self.data.schema}
        if len(counts) > 1:
            self.place = Together(list(counts), list(counts.values()))
        if columns is None:
            columns = self._all_columns(schemas, weights)
        self.columns, self.weights = list(columns), weights
        self.wanted = self.columns if weights is None else [*self.columns, weights]
        for path, schema in schemas.items():
            self._check(schema, path)
        float32 = self._arrow.float32()
        single = all(
            schema.field(name).type == float32 for schema in schemas.values() for name in self.columns
        )
        self.dtype = np.dtype(np.float32 if single else np.float64)
        self.feature_names = np.array(self.columns, dtype=object)

    @property
    def paths(self) -> list[str]:
        """The files, where there are any."""
        return list(self.states)

    def _all_columns(self, schemas: dict[str, Any], weights: str | None) -> list[str]:
        """All columns but weights and the index that pandas writes along; the same in all files."""
        found: dict[str, list[str]] = {}
        for path, schema in schemas.items():
            index = _index_columns(schema)
            found[path] = [name for name in schema.names if name != weights and name not in index]
        first, columns = next(iter(found.items()))
        for path, names in found.items():
            if set(names) != set(columns):
                odd = sorted(set(names) ^ set(columns))[:5]
                raise ValueError(
                    f"{first} and {path} have not the same columns: {odd} are in one of them only. Choose "
                    "those to be read by ParquetRows(paths, columns=[...])."
                )
        return columns

    def _schema(self, path: str, counts: dict[str, int]) -> Any:
        """The columns of a file by its footer; its rows are counted, and added to n_rows."""
        files = self._dataset.IpcFileFormat() if self.format == "ipc" else self._dataset.ParquetFileFormat()
        try:
            fragment = files.make_fragment(path, self._fs.LocalFileSystem())
            schema = fragment.physical_schema
            _check_names(schema, path)
            counts[path] = int(fragment.count_rows())
            self.n_rows = (self.n_rows or 0) + counts[path]
        except (OSError, self._arrow.ArrowException) as error:
            raise _damaged(path, error) from error
        return schema

    def _check(self, schema: Any, path: str) -> None:
        """Refuse columns that do not exist, are wanted twice, or are not numbers."""
        of = f" of {path}" if path else ""
        if not self.columns:
            raise ValueError("No columns: columns must name one feature at least.")
        for name in self.wanted:
            if not isinstance(name, str):
                raise TypeError(f"columns and weights must be names of columns, got {name!r}.")
            if name not in schema.names:
                there = f"{schema.names[:10]}" + (" and more" if len(schema.names) > 10 else "")
                raise ValueError(f"There must be one column {name!r}{of}, but the columns are {there}.")
            if not self._is_number(schema.field(name).type):
                kind = schema.field(name).type
                raise ValueError(
                    f"Column {name!r}{of} holds {kind}, not numbers. Choose others by columns=[...], or "
                    f"encode it. {time_remedy(kind)}".rstrip()
                )
        if len(set(self.wanted)) != len(self.wanted):
            raise ValueError(f"A column is named twice: columns={self.columns}, weights={self.weights!r}.")

    def _is_number(self, kind: Any) -> bool:
        types = self._arrow.types
        return any(
            test(kind) for test in (types.is_floating, types.is_integer, types.is_boolean, types.is_decimal)
        )

    def blocks(self) -> Iterator[Block]:
        """Parts of all rows, in order."""
        for path, state in self.states.items():
            check_unchanged(path, state)
        place = self.place if len(self.states) != 1 else ""
        parts = PartMaker(
            len(self.columns),
            self.dtype,
            weighted=self.weights is not None,
            n_rows=self.n_rows,
            place=place,
        )
        for batch in self._batches():
            done = 0
            while done < batch.num_rows:
                X, weight = parts.room()
                piece = batch.slice(done, min(len(X), batch.num_rows - done))
                n = piece.num_rows
                self._copy(piece, X[:n], None if weight is None else weight[:n], parts.first + parts.filled)
                done += n
                block = parts.add(n)
                if block is not None:
                    yield block
            del batch
        block = parts.rest()
        if block is not None:
            yield block

    def _batches(self) -> Iterator[Any]:
        """Batches of all rows in order; errors say which file."""
        if not self.states:
            scanner = self.data.scanner(
                columns=self.wanted,
                batch_size=self._batch_rows,
                batch_readahead=0,
                fragment_readahead=0,
                use_threads=False,
                fragment_scan_options=self._frugal(),
            )
            yield from self._named(scanner.to_batches(), self.place)
            return
        for path in self.states:
            yield from self._named(self._batches_of(path), path)

    @property
    def _batch_rows(self) -> int:
        return rows_per_part(len(self.wanted) * self.dtype.itemsize)

    def _batches_of(self, path: str) -> Iterator[Any]:
        """Batches of a file, one decoded at a time.

        Not through a data set, which decodes a row group at once, and reads further and further ahead in
        files of Arrow's.
        """
        if self.format == "parquet":
            with self._parquet.ParquetFile(path, buffer_size=STREAM_BYTES, pre_buffer=False) as file:
                yield from file.iter_batches(self._batch_rows, columns=self.wanted, use_threads=False)
            return
        ipc = self._arrow.ipc
        with self._arrow.OSFile(path) as raw:
            schema = ipc.open_file(raw).schema
            fields = [schema.get_field_index(name) for name in self.wanted]
            options = ipc.IpcReadOptions(included_fields=fields, use_threads=False)
            with ipc.open_file(raw, options=options) as file:
                for i in range(file.num_record_batches):
                    yield file.get_batch(i)

    def _frugal(self) -> Any:
        """Parquet is to be read a column's next bytes at a time, unless a data set says how to read it."""
        form = getattr(self.data, "format", None)
        options = self._dataset.ParquetFragmentScanOptions
        if (
            not isinstance(form, self._dataset.ParquetFileFormat)
            or form.default_fragment_scan_options != options()
        ):
            return None
        return options(pre_buffer=False, use_buffered_stream=True, buffer_size=STREAM_BYTES)

    def _named(self, batches: Iterator[Any], place: str) -> Iterator[Any]:
        try:
            yield from batches
        except (OSError, self._arrow.ArrowException) as error:
            raise _damaged(place, error) from error

    def _copy(self, batch: Any, X: Any, weight: Any, first: int) -> None:
        """Columns of a batch into rows; `first` is the number of its first row."""
        columns = [self._numbers(batch.column(name), name, first) for name in self.wanted]
        step = max(1, COPY_BYTES // X[:1].nbytes) if len(X) else 1
        for begin in range(0, len(X), step):
            rows = slice(begin, begin + step)
            for j in range(len(self.columns)):
                X[rows, j] = columns[j][rows]
        if weight is not None:
            weight[:] = columns[-1]

    def _numbers(self, column: Any, name: str, first: int) -> Any:
        """A column as a NumPy array, without a copy where it has an ordinary type."""
        if column.null_count:
            row = first + int(np.argmax(column.is_null().to_numpy(zero_copy_only=False)))
            raise ValueError(f"Column {name!r} has a null in {row_in_words(row, self.place)}. {GAPS}")
        if self._arrow.types.is_decimal(column.type):
            column = column.cast(self._arrow.float64())
        return column.to_numpy(zero_copy_only=False)


def _check_names(schema: Any, place: str) -> None:
    """Refuse two columns of one name, of which pyarrow reads neither."""
    for name, n in Counter(schema.names).most_common(1):
        if n > 1:
            raise ValueError(
                f"{place} has {n} columns of the name {name!r}. Columns are told by their names: rename "
                "them, as by table.rename_columns([...])."
            )


def _import_pyarrow() -> tuple[Any, Any, Any, Any]:
    try:
        import pyarrow
        import pyarrow.dataset
        import pyarrow.fs
        import pyarrow.ipc
        import pyarrow.parquet
    except ImportError as error:
        raise ImportError("ParquetRows needs pyarrow: pip install pyarrow.") from error
    return pyarrow, pyarrow.dataset, pyarrow.fs, pyarrow.parquet


def _index_columns(schema: Any) -> list[Any]:
    """Columns that pandas wrote its index to, as it says in the file; none where it does not say so."""
    try:
        return list(schema.pandas_metadata["index_columns"])
    except Exception:  # text from anywhere, and a parser
        return []


def _files(paths: Iterable[str]) -> list[str]:
    """Files, those of folders in the order of their paths."""
    found: list[str] = []
    for path in paths:
        if not os.path.isdir(path):
            found.append(path)
            continue
        inside = sorted(
            os.path.join(folder, name)
            for folder, _, names in os.walk(path)
            for name in names
            if suffix_of(name) in FORMATS and not _hidden(os.path.relpath(os.path.join(folder, name), path))
        )
        if not inside:
            raise ValueError(f"The folder {path} has no files that end in {', '.join(FORMATS)}.")
        found += inside
    return found


def _hidden(path: str) -> bool:
    return any(part.startswith((".", "_")) for part in path.split(os.sep))


def _format(path: str) -> str:
    suffix = suffix_of(path)
    if suffix not in FORMATS:
        raise ValueError(f"{path} should end in one of {', '.join(FORMATS)}.")
    return FORMATS[suffix]


def _damaged(path: str, error: Exception) -> ValueError:
    return ValueError(f"{path} cannot be read; it may be damaged, cut off, or of another format: {error}")
