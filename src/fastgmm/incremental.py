"""EM in two halves that need not run in one place: `accumulate` where rows are, `update` anywhere."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import closing
from copy import deepcopy
from hashlib import blake2b
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np

from ._attributes import attribute_parameters, attributes_of_parameters
from ._estimator import MixtureEstimator
from ._memory import explained_memory_error
from ._typing import BoolArray, FloatArray, Repair
from ._validation import check_largest_weight, check_rows, check_sample_weight
from .blocks import ArrayData
from .em import lost_digits, to_centre
from .exceptions import RepairWarning
from .frame import Frame, frame_of_parameters, make_frame, moments_of_parameters
from .loop_state import HISTORY
from .objective import Likelihood, Objective
from .parameters import Parameters
from .passes import accumulate
from .repair import Repairs, repair_message
from .score_map import EPSILON
from .sources import BlockRows, StreamedData
from .statistics import Statistics
from .structures import Estimate, Structure
from .structures.base import SMALLEST_SPREAD, WORTH_CENTRING
from .threads import effective_n_threads, single_threaded_blas

# A mean square is taken to be wrong by so many roundings of its size. Of a part it is off by one or two, and
# adding 1e4 parts, one after the other, adds some 40 where the parts differ. Too much costs nothing but that
# a hidden component is a little wider for one iteration.
ROUNDINGS = 256.0


class _Kept(NamedTuple):
    """Repairs so far, and of which parameters that is the history."""

    fingerprint: bytes
    repairs: Repairs


class IncrementalMixin(MixtureEstimator):
    """One EM iteration by hand: statistics of rows, and parameters of statistics."""

    tol: float
    reg_covar: float
    repair: Repair

    def accumulate(self, X: Any, sample_weight: Any = None) -> Statistics:
        """Compute what rows contribute to the next EM iteration: the E-step.

        One pass over the rows under the parameters that the attributes hold now. Statistics of parts of the
        rows, made anywhere, add up to those of all rows: ``sum(statistics)``. :meth:`update` makes the next
        parameters of them (docs/engines.md).

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or a source of rows
            The rows, as in :meth:`fit`; an iterator of blocks, too, as they are read once. There may be none.

        sample_weight : array-like of shape (n_samples,), default=None
            How many times each row counts; all may be 0. None: each row counts once.

        Returns
        -------
        statistics : Statistics
            Of these rows, under these parameters.

        Raises
        ------
        NotFittedError
            If the mixture has no parameters yet; ``max_iter=0`` makes `fit` find a start only.
        ValueError
            For rows or weights that are not valid, and rows so far away that their moments overflow.
        TypeError
            For sparse matrices and arrays on another device, and for weights beside a source of rows.

        Examples
        --------
        >>> import numpy as np
        >>> from fastgmm import GaussianMixture
        >>> X = np.random.default_rng(0).normal(size=(1000, 2))
        >>> mixture = GaussianMixture(2, max_iter=0, random_state=0).fit(X[:100])
        >>> while not mixture.update(mixture.accumulate(X[:500]) + mixture.accumulate(X[500:])):
        ...     pass
        >>> mixture.converged_
        True
        """
        n_threads = effective_n_threads(self.n_jobs)
        structure, parameters, fingerprint = self._fingerprinted()
        n_components, n_features = parameters.means.shape
        if isinstance(X, Iterator):
            blocks = X
            X = BlockRows(lambda: blocks)
        streamed = self._streamed(X, sample_weight)
        if streamed is None:
            X = check_rows(self, X, reset=False, min_rows=0)
            self._check_n_features(X, n_features)
            data = ArrayData(X, check_sample_weight(sample_weight, len(X), may_be_zero=True))
        request = f"statistics of {n_components} components of {n_features} features"
        remedy = "Use fewer threads (n_jobs)."
        with single_threaded_blas(), explained_memory_error(request, remedy):
            pass_over = _Pass(structure, parameters, fingerprint, n_threads)
            if streamed is None:
                return pass_over(data)
            if not isinstance(streamed, StreamedData):  # partitions of a cluster
                elsewhere: Statistics = streamed.accumulate(pass_over)
                return elsewhere
            statistics = pass_over.nothing()
            with closing(streamed.parts()) as parts:
                for part in parts:
                    if part.n_positive and part.sample_weight is not None:
                        check_largest_weight(part.total_weight, float(part.sample_weight.max()))
                    statistics = statistics + pass_over(part)
            return statistics

    def update(self, statistics: Statistics) -> bool:
        """Compute the next parameters from statistics of all rows: the M-step.

        ``while not mixture.update(mixture.accumulate(X)): pass`` does what :meth:`fit` does from the same
        start, without its acceleration and float32 arithmetic, and however many iterations it takes. A start
        is given by :meth:`from_parameters`, or found in a sample by ``GaussianMixture(n_components,
        max_iter=0).fit(sample)``. With ``warm_start=True`` a later `fit` goes on from here.

        With a `prior`, what it leaves open is as `prior_` has it, from the rows that were fitted.

        All attributes change together, at the very end. What `fit` records of its iterations is appended to
        `lower_bounds_` and `history_`, whose times of passes are 0 here; `n_iter_` and `n_repairs_` count on.

        Parameters
        ----------
        statistics : Statistics
            Made by :meth:`accumulate` under the parameters that the attributes hold now.

        Returns
        -------
        converged : bool
            Whether `lower_bound_`, of the parameters before this step, changed by less than `tol` since the
            last one, and no component was repaired, or is still to be found anew because it was too small to
            be seen from where its moments were taken.

        Raises
        ------
        NotFittedError
            If the mixture has no parameters yet.
        TypeError
            If `statistics` are none.
        ValueError
            If they were made under other parameters or for another `covariance_type`, or of no weight; for a
            `prior` that leaves open what no `fit` has found; with `repair='raise'`, for a component that
            collapses (:class:`fastgmm.DegenerateComponentError`).

        Warns
        -----
        RepairWarning
            If components had to be repaired.
        RegularizationWarning
            Where `reg_covar` outweighs the rows, as in :meth:`fit`, once the mixture has converged.
        """
        began = perf_counter()
        if not isinstance(statistics, Statistics):
            raise TypeError(f"statistics must be Statistics, got {type(statistics).__name__}.")
        self._validate_params()
        n_threads = effective_n_threads(self.n_jobs)
        structure, previous, fingerprint = self._fingerprinted()
        _check_made_under(statistics, structure, fingerprint)
        objective = self._objective_of_update(previous, n_threads)
        kept: _Kept | None = getattr(self, "_repairs", None)
        repairs = Repairs(len(previous.weights))
        if kept is not None and kept.fingerprint == fingerprint:
            repairs = deepcopy(kept.repairs)
        repairs.repaired = set()
        with single_threaded_blas():
            with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
                estimate = objective.estimate(statistics, previous)
                frame = frame_of_rows(estimate, statistics, structure)
                estimate, broadened = broaden(estimate, statistics, structure)
            parameters, n_repaired = repairs.apply(estimate, structure, frame, self.repair, previous)
            attributes = attributes_of_parameters(structure, parameters)
        found = objective.found(statistics, previous)
        change = found - getattr(self, "lower_bound_", -np.inf)
        converged = bool(abs(change) < self.tol and not n_repaired and not broadened.any())
        history = {key: list(values) for key, values in getattr(self, "history_", {}).items()}
        values = (
            found,
            0.0,
            perf_counter() - began,
            statistics.pairs,
            statistics.pairs_centred,
            statistics.pairs_single,
            0,
            n_repaired,
            0,
        )
        for key, value in zip(HISTORY, values, strict=True):
            history.setdefault(key, []).append(value)
        attributes.update(
            converged_=converged,
            n_iter_=getattr(self, "n_iter_", 0) + 1,
            lower_bound_=found,
            lower_bounds_=[*getattr(self, "lower_bounds_", []), found],
            history_=history,
            n_repairs_=getattr(self, "n_repairs_", 0) + n_repaired,
        )
        if repairs.n_repairs:
            attributes["_repairs"] = _Kept(_fingerprint(structure, parameters), repairs)
        self.__dict__.update(attributes)
        if n_repaired:
            message = repair_message(n_repaired, sorted(repairs.repaired), self.repair)
            warnings.warn(message, RepairWarning, stacklevel=2)
        if converged:
            moments = moments_of_rows(estimate, statistics)
            self._warn_about_variances(parameters, statistics.n_rows, *moments, 3)
        return converged

    def _objective_of_update(self, parameters: Parameters, n_threads: int) -> Objective:
        """What updates of these parameters maximise."""
        return Likelihood(self._structure(), float(self.reg_covar), n_threads)

    def _fingerprinted(self) -> tuple[Structure, Parameters, bytes]:
        structure: Structure = self._structure()
        parameters = attribute_parameters(self, structure, needs_covariances=True)
        return structure, parameters, _fingerprint(structure, parameters)


def _fingerprint(structure: Structure, parameters: Parameters) -> bytes:
    """A number of the parameters that rows are scored by, the same on all machines."""
    digest = blake2b(structure.name.encode(), digest_size=16)
    for array in (parameters.weights, parameters.means, parameters.precisions_cholesky):
        digest.update(f"{array.shape}".encode())
        digest.update(np.ascontiguousarray(array, dtype="<f8").tobytes())
    return digest.digest()


def _check_made_under(statistics: Statistics, structure: Structure, fingerprint: bytes) -> None:
    if statistics.structure != structure.name:
        raise ValueError(
            f"these statistics are of covariance_type={statistics.structure!r}, and the mixture has "
            f"{structure.name!r}."
        )
    if statistics.fingerprint != fingerprint:
        raise ValueError(
            "these statistics were made under other parameters than the mixture has now. Each update needs "
            "statistics that were accumulated after the last one."
        )
    if not statistics.total_weight > 0:
        raise ValueError(
            "these statistics are of no rows of positive weight: there is nothing to learn from."
        )


class _Pass:
    """Dense passes under the same parameters, in a frame that follows from the parameters alone.

    So do the points that moments are taken about, or statistics of different machines would not combine
    without loss.
    """

    def __init__(
        self, structure: Structure, parameters: Parameters, fingerprint: bytes, n_threads: int
    ) -> None:
        self.structure, self.parameters, self.fingerprint = structure, parameters, fingerprint
        self.n_threads = n_threads
        weights, means = parameters.weights, parameters.means
        with np.errstate(over="ignore", invalid="ignore"):
            variances = structure.variances(parameters)
        self.frame = frame_of_parameters(weights, means, variances, structure.common_scale)
        self.score_map = structure.score_map(parameters, self.frame, n_threads)
        self.centred = to_centre(structure, parameters, self.frame)

    def __call__(self, data: ArrayData) -> Statistics:
        """Statistics of some rows."""
        if data.n_positive == 0:
            return self.nothing(data.n_rows)
        statistics = accumulate(
            data,
            self.structure,
            self.frame,
            len(self.centred),
            self.n_threads,
            score_map=self.score_map,
            centres=self.parameters.means,
            centred=self.centred,
            made_under=self.fingerprint,
        )
        if not (np.isfinite(statistics.log_likelihood) and np.isfinite(statistics.second).all()):
            raise ValueError(
                "Input X has rows so far from the mixture that float64 has no number for their squares. Drop "
                "or rescale them."
            )
        return statistics

    def nothing(self, n_rows: int = 0) -> Statistics:
        """Statistics of so many rows of weight 0, about the points that those of other rows are about."""
        means = self.parameters.means
        return Statistics(
            structure=self.structure.name,
            frame=self.frame,
            reference=np.where(self.centred[:, None], means, self.frame.shift),
            weight=np.zeros(len(means)),
            first=np.zeros(means.shape),
            second=np.zeros(self.structure.covariance_shape(*means.shape)),
            log_likelihood=0.0,
            log_max_responsibility=0.0,
            total_weight=0.0,
            n_rows=n_rows,
            pairs=0.0,
            pairs_centred=0.0,
            fingerprint=self.fingerprint,
        )


def frame_of_rows(estimate: Estimate, statistics: Statistics, structure: Structure) -> Frame:
    """Frame of the data, which floors of variances are a share of, from the moments of all components.

    That of the statistics would not do: it has seen the floor under a constant column, and the next floor
    would be a share of that.
    """
    frame = make_frame(*moments_of_rows(estimate, statistics), structure.common_scale)
    # 1 for constant columns, as where the data are measured; their components' means differ by rounding
    constant = frame.scale * SMALLEST_SPREAD * np.abs(frame.shift) >= 0.5
    if structure.common_scale:
        constant[:] = constant.all()
    return Frame(frame.shift, np.where(constant, 1.0, frame.scale))


def moments_of_rows(estimate: Estimate, statistics: Statistics) -> tuple[FloatArray, FloatArray]:
    """Mean and standard deviation per feature of all rows, (D,), from the moments of all components."""
    weights, means = estimate.parameters.weights, estimate.parameters.means
    squares, offsets = statistics.mean_squares()
    left = squares - offsets
    left[left <= ROUNDINGS * EPSILON * squares] = 0.0
    return moments_of_parameters(weights, means, left / statistics.frame.scale**2)


def broaden(estimate: Estimate, statistics: Statistics, structure: Structure) -> tuple[Estimate, BoolArray]:
    """Widen components that are smaller than the rounding errors of their moments; which ones, (K,).

    A broad component that finds a tight cluster far from where its moments were taken has no covariance left:
    it is a difference of squares of the distance. `fit` then takes the moments again about the new mean. Here
    the rows are elsewhere, but the mean is good, and so the component is given the smallest covariance that
    the moments can tell from nothing. That is wide enough to keep all its rows, and so narrow beside the
    distance that the next pass takes its moments about its own mean (`to_centre`), where the covariance is
    found as it is. Components whose covariance is rough but not gone are widened as well: it may be too small
    to hold their rows.

    A covariance that is singular for another reason stays so, to be repaired: where the offset from the
    reference is no larger than the spread, or what rounding leaves of it no more than rounding leaves of
    equal rows. Each step shrinks the offset to what the last one could not see, so a component of equal rows
    ends there after a step or two.
    """
    rough, lost = lost_digits(structure, estimate, statistics)
    scale, means = statistics.frame.scale, estimate.parameters.means
    squares, offsets = statistics.mean_squares()
    D = means.shape[1]
    # An entry of the matrix may be off by a share of two features' mean squares, the smallest eigenvalue in
    # units of their roots by D times as much.
    hidden: FloatArray = ROUNDINGS * EPSILON * D * squares / scale**2
    far = offsets * WORTH_CENTRING > (WORTH_CENTRING - 1.0) * squares
    visible = np.sqrt(hidden) > SMALLEST_SPREAD * np.abs(means)
    doubtful = (rough | (lost & (far & visible).any(axis=1))) & ~estimate.starved
    if structure.pooled:
        doubtful = np.full(doubtful.shape, doubtful.any())
    if not doubtful.any():
        return estimate, doubtful
    weights, means, covariances, roots = (array.copy() for array in estimate.parameters)
    # tied: one covariance for all, which `from_variances` makes of the mean of theirs
    which: Any = ... if structure.pooled else doubtful
    noise = structure.from_variances(hidden[doubtful])
    left = np.maximum(squares - offsets, 0.0) / scale**2
    plain = structure.from_variances(left[doubtful] + hidden[doubtful])
    for candidate in (covariances[which] + noise, plain):
        try:
            new = structure.from_covariances(weights[doubtful], means[doubtful], candidate)
        except ValueError:  # more was lost than was thought: correlations, too
            continue
        covariances[which], roots[which] = new.covariances, new.precisions_cholesky
        singular = estimate.singular & ~doubtful
        return Estimate(Parameters(weights, means, covariances, roots), estimate.starved, singular), doubtful
    return estimate, np.zeros(doubtful.shape, dtype=bool)
