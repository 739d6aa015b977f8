"""Statistics: the only thing that passes between blocks, threads, files and machines."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from . import archive
from ._typing import FloatArray, IndexArray
from .archive import Members, refuse_unless
from .frame import LARGEST_EXPONENT, Frame

FORMAT = "fastgmm statistics"
VERSION = 2  # the header lists all members; version 1 is still read

_ARRAYS = ("shift", "scale", "reference", "weight", "first", "second")
_SUMS = ("log_likelihood", "log_max_responsibility")  # of either sign
_COUNTS = ("total_weight", "pairs", "pairs_centred", "pairs_single", "pairs_skipped")
_ENTRIES = {"structure", "fingerprint", "n_rows", *_SUMS, *_COUNTS}
_SYMMETRIC = ("full", "tied")


@dataclass(frozen=True, eq=False)
class Statistics:
    """What rows have to say about a mixture: their moments under its responsibilities.

    Made by :meth:`GaussianMixture.accumulate`, added by ``+`` and `sum`, and turned into the next parameters
    by :meth:`GaussianMixture.update`. Their size does not depend on the number of rows, so that EM can run
    wherever something can be computed for parts of the rows and the results be brought together
    (docs/engines.md; Chu et al. 2006, Map-Reduce for Machine Learning on Multicore, Advances in Neural
    Information Processing Systems 19).

    Moments are kept about a reference near the rows that they sum up: about a far origin they would lose the
    covariance to cancellation. Below, z = (x - reference_k) * frame.scale, w_n are the weights of rows and
    r_nk the responsibilities.

    Pickles, bytes and files of them hold symmetric matrices by their upper triangle, and keep every bit.

    Attributes
    ----------
    structure : {'full', 'tied', 'diag', 'spherical'}
        Covariance type of the mixture, which decides what `second` holds.
    frame : Frame
        Coordinates that the moments are kept in: `shift` and `scale`, of shape (n_features,) each; the scales
        are powers of two.
    reference : ndarray of shape (n_components, n_features)
        The reference points, in the user's units.
    weight : ndarray of shape (n_components,)
        n_k = sum_n w_n r_nk.
    first : ndarray of shape (n_components, n_features)
        d_k = sum_n w_n r_nk z.
    second : ndarray
        sum_n w_n r_nk z z': (n_components, n_features, n_features) for full; its diagonal (n_components,
        n_features) for diag; its trace (n_components,) for spherical; summed over k (n_features, n_features)
        for tied. Matrices are exactly symmetric.
    log_likelihood : float
        sum_n w_n log p(x_n).
    log_max_responsibility : float
        sum_n w_n log max_k r_nk.
    total_weight : float
        sum_n w_n.
    n_rows : int
        Number of rows, those of weight 0 included.
    pairs, pairs_centred : float
        (block, component) pairs scored, and how many of them by the projected kernel.
    fingerprint : bytes
        Of the parameters the responsibilities were computed under.
    pairs_single : float
        Pairs scored in single precision.
    pairs_skipped : float
        Pairs that provably did not matter.

    Examples
    --------
    >>> import numpy as np
    >>> from fastgmm import GaussianMixture
    >>> X = np.random.default_rng(0).normal(size=(1000, 2))
    >>> mixture = GaussianMixture(2, max_iter=0, random_state=0).fit(X[:100])
    >>> statistics = mixture.accumulate(X[:600]) + mixture.accumulate(X[600:])
    >>> statistics.n_rows
    1000
    >>> mean = statistics.log_likelihood / statistics.total_weight
    >>> bool(np.isclose(mean, mixture.score(X)))
    True
    """

    structure: str
    frame: Frame
    reference: FloatArray
    weight: FloatArray
    first: FloatArray
    second: FloatArray
    log_likelihood: float
    log_max_responsibility: float
    total_weight: float
    n_rows: int
    pairs: float
    pairs_centred: float
    fingerprint: bytes
    pairs_single: float = 0.0
    pairs_skipped: float = 0.0

    # ---- algebra -------------------------------------------------------------------------------------------

    def __add__(self, other: Statistics) -> Statistics:
        """Statistics of both sets of rows; refuses sets made under different parameters."""
        if not isinstance(other, Statistics):
            return NotImplemented
        if (self.structure, self.fingerprint, self.reference.shape) != (
            other.structure,
            other.fingerprint,
            other.reference.shape,
        ):
            raise ValueError("these statistics were made under different parameters and cannot be added")
        other = other._rescaled(self.frame).about(self.reference)
        return replace(
            self,
            weight=self.weight + other.weight,
            first=self.first + other.first,
            second=self.second + other.second,
            log_likelihood=self.log_likelihood + other.log_likelihood,
            log_max_responsibility=self.log_max_responsibility + other.log_max_responsibility,
            total_weight=self.total_weight + other.total_weight,
            n_rows=self.n_rows + other.n_rows,
            pairs=self.pairs + other.pairs,
            pairs_centred=self.pairs_centred + other.pairs_centred,
            pairs_single=self.pairs_single + other.pairs_single,
            pairs_skipped=self.pairs_skipped + other.pairs_skipped,
        )

    def __radd__(self, other: Any) -> Statistics:
        """0 + statistics, with which `sum` begins."""
        return self if isinstance(other, int) and other == 0 else NotImplemented

    def scaled(self, factor: float) -> Statistics:
        """Statistics as if every row's weight were multiplied by `factor`.

        Parameters
        ----------
        factor : float
            Finite and not negative; less than 1 lets old rows fade as new ones come.

        Returns
        -------
        statistics : Statistics
        """
        if not 0.0 <= factor < math.inf:
            raise ValueError(f"factor must be finite and not negative, got {factor!r}.")
        return replace(
            self,
            weight=self.weight * factor,
            first=self.first * factor,
            second=self.second * factor,
            log_likelihood=self.log_likelihood * factor,
            log_max_responsibility=self.log_max_responsibility * factor,
            total_weight=self.total_weight * factor,
        )

    def mixed(self, other: Statistics, share: float) -> Statistics:
        """(1 - share) of these statistics and `share` of others, about the references of these.

        Responsibilities of the two may come from different parameters, as those of the batches of stepwise EM
        do: what comes out belongs to none. Counts (n_rows, pairs ...) are of both.
        """
        if self.structure != other.structure:
            raise ValueError("these statistics are of different covariance structures and cannot be mixed")
        if not np.array_equal(self.frame.scale, other.frame.scale):
            raise ValueError("these statistics were made in frames of different scale and cannot be mixed")
        other = other.about(self.reference)
        kept = 1.0 - share
        return replace(
            self,
            weight=kept * self.weight + share * other.weight,
            first=kept * self.first + share * other.first,
            second=kept * self.second + share * other.second,
            log_likelihood=kept * self.log_likelihood + share * other.log_likelihood,
            log_max_responsibility=kept * self.log_max_responsibility + share * other.log_max_responsibility,
            total_weight=kept * self.total_weight + share * other.total_weight,
            n_rows=self.n_rows + other.n_rows,
            pairs=self.pairs + other.pairs,
            pairs_centred=self.pairs_centred + other.pairs_centred,
            pairs_single=self.pairs_single + other.pairs_single,
            pairs_skipped=self.pairs_skipped + other.pairs_skipped,
            fingerprint=b"",
        )

    def about(self, reference: ArrayLike) -> Statistics:
        """The same moments about other reference points: exact algebra, in floating point.

        With t = (old - new reference) * scale:  d' = d + n t,  S' = S + d t' + t d' + n t t'.

        Parameters
        ----------
        reference : array-like of shape (n_components, n_features)
            The new points, in the user's units. Far from the rows digits are lost.

        Returns
        -------
        statistics : Statistics
        """
        reference = np.array(reference, dtype=np.float64)
        if np.array_equal(reference, self.reference):
            return self
        if reference.shape != self.reference.shape or not np.isfinite(reference).all():
            raise ValueError(
                f"reference must hold finite numbers in the shape {self.reference.shape}, got the shape "
                f"{reference.shape}."
            )
        shift = (self.reference - reference) * self.frame.scale
        first = self.first + self.weight[:, None] * shift
        if self.structure in _SYMMETRIC:
            # d t' + t d' + n t t', as half a matrix and its transpose: symmetric to the last bit
            half = 0.5 * (self.first + first)[:, :, None] * shift[:, None, :]
            cross = half + np.swapaxes(half, 1, 2)
            second = self.second + (cross.sum(axis=0) if self.structure == "tied" else cross)
        else:
            cross = shift * (self.first + first)
            second = self.second + (cross.sum(axis=1) if self.structure == "spherical" else cross)
        return replace(self, reference=reference, first=first, second=second)

    def _rescaled(self, frame: Frame) -> Statistics:
        """The same moments in units of another frame, exactly: scales are powers of two.

        Machines whose BLAS rounds differently may derive scales on either side of a power of two from the
        same parameters.
        """
        if np.array_equal(frame.scale, self.frame.scale):
            return self
        ratio = frame.scale / self.frame.scale
        if self.structure in _SYMMETRIC:
            second = self.second * (ratio[:, None] * ratio)
        elif self.structure == "diag":
            second = self.second * ratio**2
        else:  # one scale for all features
            second = self.second * ratio[0] ** 2
        return replace(self, frame=frame, first=self.first * ratio, second=second)

    def mean_squares(self) -> tuple[FloatArray, FloatArray]:
        """Mean squares about the references, (n_components, n_features), in the frame's units.

        And what an M-step subtracts of them: squares of the means' offsets from the references. Both are
        averaged over whatever the second moments are pooled over.
        """
        safe = np.where(self.weight > 0, self.weight, 1.0)
        offset = (self.first / safe[:, None]) ** 2
        if self.structure == "tied":
            total = max(float(self.weight.sum()), float(np.finfo(float).tiny))
            squares = np.repeat(np.diagonal(self.second)[None] / total, len(safe), axis=0)
            return squares, np.repeat((self.weight / total @ offset)[None], len(safe), axis=0)
        if self.structure == "full":
            return np.einsum("kii->ki", self.second) / safe[:, None], offset
        if self.structure == "diag":
            return self.second / safe[:, None], offset
        D = offset.shape[1]
        squares = np.repeat((self.second / safe / D)[:, None], D, axis=1)
        return squares, np.repeat(offset.mean(axis=1, keepdims=True), D, axis=1)

    # ---- between processes and machines --------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        """Triangles instead of symmetric matrices."""
        state = {field.name: getattr(self, field.name) for field in fields(self)}
        return {**state, "second": self._packed()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Symmetric matrices of triangles."""
        second = _unpacked(state["second"], state["structure"], state["reference"].shape[1])
        self.__dict__.update(state, second=second)

    def _packed(self) -> FloatArray:
        """`second`, matrices as their upper triangle row by row."""
        if self.structure not in _SYMMETRIC:
            return self.second
        rows, columns = np.triu_indices(self.reference.shape[1])
        return np.ascontiguousarray(self.second[..., rows, columns])

    def to_bytes(self) -> bytes:
        """Write the statistics as bytes, for engines that ship bytes and for files.

        Returns
        -------
        content : bytes
            What :meth:`from_bytes` reads: an .npz archive of plain arrays and text, nothing pickled.

        Raises
        ------
        ValueError
            If a moment is not finite.
        """
        content = BytesIO()
        archive.write(content, self._members())
        return content.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> Statistics:
        """Read what :meth:`to_bytes` wrote.

        Nothing is trusted: no code is run, and all that is read is checked.

        Parameters
        ----------
        content : bytes, bytearray or memoryview

        Returns
        -------
        statistics : Statistics
            With the same bits.

        Raises
        ------
        TypeError
            If `content` is not bytes.
        ValueError
            If it is damaged, of an unknown format version, or anything else than statistics.
        """
        if not isinstance(content, bytes | bytearray | memoryview):
            raise TypeError(f"content must be bytes, got {type(content).__name__}.")
        content = bytes(content)
        with archive.explained("content is not fastgmm statistics"):
            return _from_members(archive.read(BytesIO(content), {"header", *_ARRAYS}))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the statistics to a file.

        It is written beside `path` and then put in its place: `path` holds the old file or the whole new one.

        Parameters
        ----------
        path : str or path-like
            Where to write; taken as it is, no ending is added.

        Raises
        ------
        ValueError
            If a moment is not finite.
        OSError
            If the file cannot be written, or `path` is a folder, FIFO or device.
        """
        archive.save(path, self._members())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Statistics:
        """Read a file written by :meth:`save`.

        Parameters
        ----------
        path : str or path-like
            The file.

        Returns
        -------
        statistics : Statistics
            With the same bits.

        Raises
        ------
        ValueError
            If the file is damaged, of an unknown format version, or holds anything else than statistics.
        OSError
            If it cannot be read.
        """
        what = f"{os.fspath(path)} is not a file of fastgmm statistics"
        with open(path, "rb") as file, archive.explained(what):
            return _from_members(archive.read(file, {"header", *_ARRAYS}))

    def _members(self) -> Members:
        header = {
            "format": FORMAT,
            "version": VERSION,
            "structure": self.structure,
            "fingerprint": self.fingerprint.hex(),
            "n_rows": int(self.n_rows),
            **{name: float(getattr(self, name)) for name in (*_SUMS, *_COUNTS)},
        }
        members = {
            "shift": self.frame.shift,
            "scale": self.frame.scale,
            "reference": self.reference,
            "weight": self.weight,
            "first": self.first,
            "second": self._packed(),
        }
        members = {name: np.asarray(members[name], dtype="<f8") for name in _ARRAYS}
        members = archive.with_header(header, members)
        try:  # what could not be read back is refused now, while the statistics still exist
            _from_members(members)
        except ValueError as error:
            raise ValueError(f"These statistics cannot be written: {error}.") from error
        return members


@lru_cache(maxsize=8)
def _places(n_features: int) -> IndexArray:
    """(D, D) place of each entry of a symmetric matrix in its upper triangle, row by row."""
    places = np.zeros((n_features, n_features), dtype=np.intp)
    rows, columns = np.triu_indices(n_features)
    places[rows, columns] = places[columns, rows] = np.arange(rows.size)
    return places


def _unpacked(second: FloatArray, structure: str, n_features: int) -> FloatArray:
    if structure not in _SYMMETRIC:
        return second
    return np.take(second, _places(n_features), axis=-1)


def _from_members(members: Members) -> Statistics:
    """Make statistics of what was read, checking all of it."""
    header = archive.checked_header(members, FORMAT, VERSION, _ENTRIES)
    values = {name: archive.array(members, name, "<f8").astype(np.float64) for name in _ARRAYS}
    for name, array in values.items():
        refuse_unless(np.isfinite(array).all(), f"{name} contains NaN or infinity")
    structure = header["structure"]
    refuse_unless(values["reference"].ndim == 2 and values["reference"].size, "reference has no rows")
    K, D = values["reference"].shape
    triangle = D * (D + 1) // 2
    second = {"full": (K, triangle), "tied": (triangle,), "diag": (K, D), "spherical": (K,)}
    refuse_unless(isinstance(structure, str) and structure in second, f"its structure is {structure!r}")
    shapes = {"shift": (D,), "scale": (D,), "weight": (K,), "first": (K, D), "second": second[structure]}
    for name, shape in shapes.items():
        refuse_unless(values[name].shape == shape, f"{name} has the shape {values[name].shape}, not {shape}")
    fraction, exponent = np.frexp(values["scale"])
    is_power = (fraction == 0.5) & (np.abs(exponent - 1) <= LARGEST_EXPONENT)
    is_common = structure != "spherical" or (values["scale"] == values["scale"][0]).all()
    refuse_unless(is_power.all() and is_common, "scale is not one of a frame")
    refuse_unless((values["weight"] >= 0).all(), "weight is negative")
    for name in (*_SUMS, *_COUNTS):
        value = header[name]
        refuse_unless(type(value) is float and math.isfinite(value), f"{name} is {value!r}")
        refuse_unless(value >= 0 or name in _SUMS, f"{name} is negative")
    refuse_unless(type(header["n_rows"]) is int and header["n_rows"] >= 0, "n_rows is not a number of rows")
    refuse_unless(isinstance(header["fingerprint"], str), "fingerprint is not text")
    return Statistics(
        structure=structure,
        frame=Frame(values["shift"], values["scale"]),
        reference=values["reference"],
        weight=values["weight"],
        first=values["first"],
        second=_unpacked(values["second"], structure, D),
        n_rows=header["n_rows"],
        fingerprint=bytes.fromhex(header["fingerprint"]),
        **{name: header[name] for name in (*_SUMS, *_COUNTS)},
    )
