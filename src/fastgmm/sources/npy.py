"""Rows of .npy files, by ordinary reads: a file that shrinks meanwhile gives an error, not a signal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import ArrayLike, NDArray

from .._row_messages import time_remedy
from .._typing import FloatArray
from .._validation import check_sample_weight
from .base import Block, Source
from .files import FileState, Path, Together, check_unchanged, is_paths, names_of, paths_of, state_of
from .parts import PartMaker

# Rows that must be converted or turned are read in pieces of about so many bytes, which stay in cache
# together with what they become.
PIECE_BYTES = 2 << 20


class NpyFile(NamedTuple):
    """A .npy file of numbers, as its header says it is; 1-D arrays are one column."""

    path: str
    state: FileState
    dtype: np.dtype[Any]
    n_rows: int
    n_features: int
    fortran: bool
    offset: int

    def read(self, first: int, out: NDArray[Any], file: BinaryIO, scratch: NDArray[np.uint8]) -> None:
        """Rows from `first` on, as many as `out` has, into `out`.

        What lies in the file as it does in `out` is read there. All else goes through `scratch`, which has
        PIECE_BYTES or what a row takes, if that is more.
        """
        if out.dtype == self.dtype and out.flags.c_contiguous and (not self.fortran or self.n_features == 1):
            self._read(file, first * self.n_features, out)
            return
        n = max(1, scratch.size // (self.n_features * self.dtype.itemsize))
        for begin in range(0, len(out), n):
            rows = out[begin : begin + n]
            piece = scratch[: rows.size * self.dtype.itemsize].view(self.dtype)
            if self.fortran:
                columns = piece.reshape(self.n_features, len(rows))
                for j, column in enumerate(columns):
                    self._read(file, j * self.n_rows + first + begin, column)
                rows[...] = columns.T
            else:
                self._read(file, (first + begin) * self.n_features, piece)
                rows[...] = piece.reshape(rows.shape)

    def _read(self, file: BinaryIO, number: int, out: NDArray[Any]) -> None:
        """Numbers of the file from one on."""
        at = self.offset + number * self.dtype.itemsize
        file.seek(at)
        left = memoryview(out.reshape(-1).view(np.uint8))  # type: ignore[arg-type]
        while left:
            n = file.readinto(left)  # type: ignore[attr-defined]
            if not n:
                raise ValueError(
                    f"{self.path} ends after {at + out.nbytes - len(left)} bytes, while "
                    f"{self.state.size} are expected: it was cut off while it was being read."
                )
            left = left[n:]

    @property
    def scratch_bytes(self) -> int:
        """Memory that `read` wants."""
        return max(PIECE_BYTES, self.n_features * self.dtype.itemsize)


def npy_file(path: str, ndim: int) -> NpyFile:
    """Look at the header of a .npy file.

    Raises
    ------
    ValueError
        Where the file is missing, is none of .npy, has not `ndim` axes, holds no real numbers, or is shorter
        or longer than its header says.
    """
    state = state_of(path)
    try:
        with open(path, "rb") as file:
            version = npy_format.read_magic(file)
            if version == (1, 0):
                shape, fortran, dtype = npy_format.read_array_header_1_0(file)
            elif version == (2, 0):
                shape, fortran, dtype = npy_format.read_array_header_2_0(file)
            else:  # for names of fields beyond ASCII
                raise ValueError(f"version {version} is for arrays with fields")
            offset = file.tell()
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}.") from error
    except (Exception, MemoryError) as error:  # NumPy's parser ends in any of them where signs are nested
        raise ValueError(f"{path} is not a .npy file of numbers: {error or type(error).__name__}") from error
    if len(shape) != ndim:
        what = "rows, 2-D" if ndim == 2 else "weights, 1-D"
        raise ValueError(f"{path} should hold an array of {what}, but it is {len(shape)}-D: {shape}.")
    if dtype.kind not in "fiub":
        hint = " Objects would have to be unpickled, which can run any code." if dtype.hasobject else ""
        hint = f" {time_remedy(dtype)}" if time_remedy(dtype) else hint
        raise ValueError(f"{path} should hold real numbers, but its dtype is {dtype}.{hint}")
    n_rows, n_features = int(shape[0]), int(shape[1]) if ndim == 2 else 1
    if n_features == 0:
        raise ValueError(f"{path} has 0 features: its shape is {shape}. 1 or more are needed.")
    expected = offset + n_rows * n_features * dtype.itemsize
    if state.size != expected:
        raise ValueError(
            f"{path} should have {expected} bytes by its header ({offset} for the header and {shape} x "
            f"{dtype.itemsize}), but it has {state.size}. It was cut off, or is still being written."
        )
    return NpyFile(path, state, dtype, n_rows, n_features, bool(fortran), offset)


class NpyRows(Source):
    """Rows of .npy files, one after the other.

    Each pass reads the files once from front to back, the next part while one is computed on. Memory is that
    of four parts of 64 MB, however large the files are. A file that has been changed since, or is cut off
    while it is read, ends a fit with an error.

    Parameters
    ----------
    paths : str, path-like, or list of them
        Files of 2-D arrays as ``numpy.save`` writes them, all of the same number of columns, (n_rows,
        n_features). float64 and float32 in C order are read as they are; integers, other floats, Fortran
        order and foreign byte order are converted piece by piece. Rows are float32 where all files are, else
        float64.
    weights : str, path-like, list of them, or array-like of shape (n_rows,), default=None
        Weights of all rows: files of 1-D arrays, which may be cut elsewhere than `paths`, or an array. None:
        each row counts once.

    Raises
    ------
    ValueError
        For a file that is missing, is no .npy file, holds anything but a 2-D array of real numbers (1-D for
        weights), or is shorter or longer than its header says; for different numbers of columns; for another
        number of weights than of rows.
    TypeError
        Where `paths` are no paths.

    Notes
    -----
    Nothing is unpickled. Headers are read when the source is made, numbers when it is used.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> from fastgmm import GaussianMixture, NpyRows
    >>> rng = np.random.default_rng(0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     paths = [os.path.join(folder, f"{i}.npy") for i in range(3)]
    ...     for i, path in enumerate(paths):
    ...         np.save(path, rng.normal(i, 1.0, (1000, 2)))
    ...     mixture = GaussianMixture(random_state=0).fit(NpyRows(paths))
    >>> bool(np.allclose(mixture.means_, 1, atol=0.1))
    True
    """

    n_rows: int

    def __init__(
        self, paths: Path | Sequence[Path], weights: Path | Sequence[Path] | ArrayLike | None = None
    ) -> None:
        self.files = [npy_file(path, 2) for path in paths_of(paths, "paths")]
        first = self.files[0]
        for file in self.files:
            if file.n_features != first.n_features:
                raise ValueError(
                    f"{file.path} has {file.n_features} columns, but {first.path} has {first.n_features}: "
                    "all files must have the same columns."
                )
        self.n_features = first.n_features
        single = all(file.dtype.newbyteorder("=") == np.float32 for file in self.files)
        self.dtype = np.dtype(np.float32 if single else np.float64)
        self.n_rows = sum(file.n_rows for file in self.files)
        self.weights: FloatArray | None = None
        self.weight_files: list[NpyFile] = []
        if is_paths(weights):
            self.weight_files = [npy_file(path, 1) for path in paths_of(weights, "weights")]
            n_weights = sum(file.n_rows for file in self.weight_files)
            if n_weights != self.n_rows:
                raise ValueError(
                    f"{_names(self.weight_files)} has {n_weights} weights, but {_names(self.files)} has "
                    f"{self.n_rows} rows: one weight per row is needed."
                )
        elif weights is not None:
            self.weights = check_sample_weight(weights, self.n_rows)

    def _place(self) -> str:
        return Together(self.paths, [file.n_rows for file in self.files]) if len(self.files) > 1 else ""

    @property
    def paths(self) -> list[str]:
        """The files."""
        return [file.path for file in self.files]

    def blocks(self) -> Iterator[Block]:
        """Parts of the files, in order."""
        for each in (*self.files, *self.weight_files):
            check_unchanged(each.path, each.state)
        parts = PartMaker(
            self.n_features,
            self.dtype,
            weighted=bool(self.weight_files) or self.weights is not None,
            n_rows=self.n_rows,
            place=self._place(),
        )
        with closing(Reader(self.files)) as rows, closing(Reader(self.weight_files)) as weights:
            left = self.n_rows
            while left:
                X, weight = parts.room()
                n = min(len(X), left)
                rows.read(X[:n])
                if self.weights is not None:
                    assert weight is not None
                    done = self.n_rows - left
                    weight[:n] = self.weights[done : done + n]
                elif weight is not None:
                    weights.read(weight[:n, np.newaxis])
                left -= n
                block = parts.add(n)
                if block is not None:
                    yield block
        block = parts.rest()
        if block is not None:
            yield block


class Reader:
    """Where reading stands in a list of files."""

    def __init__(self, files: list[NpyFile]) -> None:
        self.files = files
        self.number = -1
        self.left = 0
        self.file: BinaryIO | None = None
        self.scratch = np.empty(max((file.scratch_bytes for file in files), default=0), np.uint8)

    def read(self, out: NDArray[Any]) -> None:
        """The next rows, as many as `out` has; there must be so many left."""
        done = 0
        while done < len(out):
            while not self.left:
                self._open_next()
            assert self.file is not None
            npy = self.files[self.number]
            n = min(self.left, len(out) - done)
            npy.read(npy.n_rows - self.left, out[done : done + n], self.file, self.scratch)
            self.left -= n
            done += n

    def _open_next(self) -> None:
        self.close()
        self.number += 1
        npy = self.files[self.number]
        check_unchanged(npy.path, npy.state)
        try:
            self.file = open(npy.path, "rb", buffering=0)  # noqa: SIM115 -- close() does
        except OSError as error:
            raise ValueError(f"{npy.path} cannot be read: {error.strerror or error}.") from error
        self.left = npy.n_rows

    def close(self) -> None:
        """Close the file that is open, if one is."""
        if self.file is not None:
            self.file.close()
            self.file = None


def _names(files: list[NpyFile]) -> str:
    return names_of([file.path for file in files])
