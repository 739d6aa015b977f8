"""Statistics: the only thing that passes between blocks, threads, files and machines."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ._typing import FloatArray
from .frame import Frame


@dataclass(frozen=True)
class Statistics:
    """Weighted moments of the rows under responsibilities, about one reference point per component.

    Moments are kept about a reference near the rows that they sum up: about a far origin they would lose the
    covariance to cancellation. Below, z = (x - reference_k) * frame.scale.

    Attributes
    ----------
    structure : str
        Name of the covariance structure, which decides what `second` holds.
    frame : Frame
        Coordinates that the moments are kept in.
    reference : ndarray of shape (K, D)
        The reference points, in the user's units.
    weight : ndarray of shape (K,)
        n_k = sum_n w_n r_nk.
    first : ndarray of shape (K, D)
        d_k = sum_n w_n r_nk z.
    second : ndarray
        sum_n w_n r_nk z z': (K, D, D) for full; its diagonal (K, D) for diag; its trace (K,) for spherical;
        summed over k (D, D) for tied.
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

    def __add__(self, other: Statistics) -> Statistics:
        """Statistics of both sets of rows; refuses sets made under different parameters."""
        if not isinstance(other, Statistics):
            return NotImplemented
        if (self.structure, self.fingerprint) != (other.structure, other.fingerprint):
            raise ValueError("these statistics were made under different parameters and cannot be added")
        if not np.array_equal(self.frame.scale, other.frame.scale):
            raise ValueError("these statistics were made in frames of different scale and cannot be added")
        other = other.about(self.reference)
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

    def scaled(self, factor: float) -> Statistics:
        """Statistics as if every row's weight were multiplied by `factor`."""
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

    def about(self, reference: FloatArray) -> Statistics:
        """The same moments about other reference points (K, D): exact algebra, in floating point.

        With t = (old - new reference) * scale:  d' = d + n t,  S' = S + d t' + t d' + n t t'.
        """
        if np.array_equal(reference, self.reference):
            return self
        shift = (self.reference - reference) * self.frame.scale
        first = self.first + self.weight[:, None] * shift
        if self.structure in ("full", "tied"):
            # S + d t' + t (d + n t)' = S + d t' + t d' + n t t'
            cross = self.first[:, :, None] * shift[:, None, :] + shift[:, :, None] * first[:, None, :]
            second = self.second + (cross.sum(axis=0) if self.structure == "tied" else cross)
        else:
            cross = shift * (self.first + first)
            second = self.second + (cross.sum(axis=1) if self.structure == "spherical" else cross)
        return replace(self, reference=reference, first=first, second=second)
