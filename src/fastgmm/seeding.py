"""Where EM starts: k-means, k-means++, random responsibilities, random rows, given parameters.

Every start is an M-step from responsibilities, made by the same pass that EM makes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.cluster import kmeans_plusplus

from . import em
from ._typing import BoolArray, FloatArray, IndexArray
from .blocks import ArrayData
from .frame import Frame
from .kmeans import lloyd, nearest_centre_map, plus_plus
from .parameters import Parameters
from .passes import accumulate
from .score_map import NO_TERMS
from .statistics import Statistics
from .structures import Structure

# Rows of the sub-sample that k-means seeds from: so many per component, within these limits.
ROWS_PER_COMPONENT = 128
FEWEST_ROWS, MOST_ROWS = 2048, 16384
# Random responsibilities are drawn this many numbers at a time.
NUMBERS_PER_BLOCK = 1 << 20


def initial_parameters(
    data: ArrayData,
    structure: Structure,
    n_components: int,
    *,
    init_params: str,
    reg_covar: float,
    random_state: np.random.RandomState,
    weights: FloatArray | None = None,
    means: FloatArray | None = None,
    precisions: FloatArray | None = None,
    n_threads: int = 1,
    frame: Frame | None = None,
) -> Parameters:
    """Start parameters; given arrays are taken as they are, the rest is seeded.

    With means given, rows are assigned to the nearest of them (features in units of their spread; spherical
    covariances: raw) and the weights and covariances that were not given come from that assignment.
    """
    if weights is not None and means is not None and precisions is not None:
        return structure.from_precisions(weights, means, precisions)
    if frame is None:
        frame = data.frame(n_threads, structure.common_scale)
    options = em.EMOptions(reg_covar=reg_covar, n_threads=n_threads)
    start = _Start(data, structure, frame, n_components, options)
    if means is not None:
        parameters = start.from_centres(means, _units(data, structure, frame))
    elif init_params == "kmeans":
        parameters = _kmeans_start(start, random_state)
    elif init_params == "k-means++":
        index = kmeans_plusplus(
            data.X, n_components, sample_weight=data.sample_weight, random_state=random_state
        )[1]
        parameters = start.from_rows(index)
    elif init_params == "random_from_data":
        share = None if data.sample_weight is None else data.sample_weight / data.sample_weight.sum()
        parameters = start.from_rows(
            random_state.choice(data.n_rows, size=n_components, replace=False, p=share)
        )
    else:
        parameters = start.from_random(random_state)
    weights = parameters.weights if weights is None else weights
    means = parameters.means if means is None else means
    if precisions is not None:
        return structure.from_precisions(weights, means, precisions)
    return Parameters(weights, means, parameters.covariances, parameters.precisions_cholesky)


class _Start:
    """M-steps from hard or random responsibilities on one data set."""

    def __init__(
        self,
        data: ArrayData,
        structure: Structure,
        frame: Frame,
        n_components: int,
        options: em.EMOptions,
    ) -> None:
        self.data, self.structure, self.frame = data, structure, frame
        self.n_components, self.options = n_components, options

    def _maximise(
        self, collect: Callable[[FloatArray, BoolArray], Statistics], centres: FloatArray
    ) -> Parameters:
        """M-step; `collect(centres, centred)` makes statistics."""
        maximiser = em.Maximiser(self.data, self.structure, self.frame, self.options)
        centred = np.zeros(self.n_components, dtype=bool)
        if self.structure.always_project(self.data.n_features):
            centred[:] = True
        statistics = collect(centres, centred)
        return maximiser.maximise(statistics, None, collect)[0]

    def _accumulate(
        self, data: ArrayData, centres: FloatArray, centred: BoolArray, **source: Any
    ) -> Statistics:
        return accumulate(
            data, self.structure, self.frame, self.n_components, self.options.n_threads,
            centres=centres, centred=centred, **source,
        )  # fmt: skip

    def from_centres(self, centres: FloatArray, units: FloatArray) -> Parameters:
        """From the rows nearest to each centre."""
        D = self.data.n_features
        projects = self.structure.always_project(D)
        terms = NO_TERMS if projects else self.structure.terms
        score_map = nearest_centre_map(centres, units, self.frame, terms, self.structure.n_terms(D))

        def collect(centres: FloatArray, centred: BoolArray) -> Statistics:
            return self._accumulate(self.data, centres, centred, score_map=score_map, hard=True)

        return self._maximise(collect, centres)

    def from_rows(self, index: IndexArray) -> Parameters:
        """Each component from one row: its mean, covariance reg_covar alone (scikit-learn's choice).

        Tied: likewise; scikit-learn subtracts K rows from the scatter of all N there, which depends on the
        origin.
        """
        rows = ArrayData(np.asarray(self.data.X[index], dtype=np.float64))
        labels = np.arange(self.n_components, dtype=np.int64)
        frame = self.frame

        def collect(centres: FloatArray, centred: BoolArray) -> Statistics:
            return self._accumulate(rows, centres, centred, labels=labels)

        maximiser = em.Maximiser(rows, self.structure, frame, self.options)
        everything = np.ones(self.n_components, dtype=bool)
        return maximiser.maximise(collect(rows.X, everything), None, collect)[0]

    def from_random(self, random_state: np.random.RandomState) -> Parameters:
        """From responsibilities uniform(0, 1), normalised: scikit-learn's draws, block by block."""
        state = random_state.get_state()
        K, data = self.n_components, self.data
        block = max(1, NUMBERS_PER_BLOCK // K)

        def collect(centres: FloatArray, centred: BoolArray) -> Statistics:
            random_state.set_state(state)  # a second look needs the same draws again
            total: Statistics | None = None
            for first in range(0, data.n_rows, block):
                part = slice(first, min(first + block, data.n_rows))
                drawn = random_state.uniform(size=(part.stop - first, K))
                drawn /= drawn.sum(axis=1, keepdims=True)
                weight = None if data.sample_weight is None else data.sample_weight[part]
                statistics = self._accumulate(
                    ArrayData(data.X[part], weight), centres, centred, responsibilities=drawn
                )
                total = statistics if total is None else total + statistics
            assert total is not None
            return total

        return self._maximise(collect, np.repeat(self.frame.shift[None], K, axis=0))


def _kmeans_start(start: _Start, random_state: np.random.RandomState) -> Parameters:
    """k-means on a sub-sample, in raw units and in units of each feature's spread; the better of the two.

    Which units seed better depends on the data, so both are followed by an EM step on the sub-sample and the
    higher likelihood wins. Spherical covariances are raw by nature.
    """
    data, structure, n_components = start.data, start.structure, start.n_components
    n_threads = start.options.n_threads
    sample = _sub_sample(data, n_components, random_state)
    spread = sample.frame(n_threads)
    raw = Frame(spread.shift, np.full(data.n_features, spread.scale.min()))
    frames = [raw] if structure.common_scale or data.n_features == 1 else [raw, _scaled(sample, spread)]
    best: tuple[FloatArray, FloatArray] | None = None
    best_bound = -np.inf
    for frame in frames:
        rows = frame.to_frame(np.asarray(sample.X, dtype=np.float64))
        weight = np.ones(sample.n_rows) if sample.sample_weight is None else sample.sample_weight
        index = plus_plus(rows, weight, n_components, random_state)
        centres = lloyd(sample, np.asarray(sample.X[index], dtype=np.float64), frame, n_threads)
        if len(frames) == 1:
            best = (centres, frame.scale)
            break
        trial = _Start(sample, structure, start.frame, n_components, start.options)
        parameters = trial.from_centres(centres, frame.scale)
        options = em.EMOptions(tol=0.0, reg_covar=start.options.reg_covar, max_iter=2, n_threads=n_threads)
        bound = em.run(sample, structure, parameters, options, frame=start.frame).lower_bound
        if best is None or bound > best_bound:
            best, best_bound = (centres, frame.scale), bound
    assert best is not None
    return start.from_centres(*best)


def _scaled(sample: ArrayData, spread: Frame) -> Frame:
    """Frame whose unit is each feature's standard deviation itself, not the power of two near it."""
    rows = spread.to_frame(np.asarray(sample.X, dtype=np.float64))
    weight = sample.sample_weight
    mean = np.average(rows, axis=0, weights=weight)
    deviation = np.sqrt(np.average((rows - mean) ** 2, axis=0, weights=weight))
    deviation[deviation == 0] = 1.0
    return Frame(spread.shift, np.ascontiguousarray(spread.scale / deviation))


def _units(data: ArrayData, structure: Structure, frame: Frame) -> FloatArray:
    """Units in which rows are nearest to given means."""
    return np.full(data.n_features, frame.scale.min()) if structure.common_scale else frame.scale


def _sub_sample(data: ArrayData, n_components: int, random_state: np.random.RandomState) -> ArrayData:
    """Rows to find clusters in, drawn with probabilities proportional to their weights, with their counts.

    Where there are few rows, all distinct ones of positive weight in lexicographic order, with the sums of
    their weights: then neither copies nor the order of rows matter.
    """
    wanted = max(min(ROWS_PER_COMPONENT * n_components, MOST_ROWS), FEWEST_ROWS, 4 * n_components)
    if data.n_rows <= wanted:
        weight = np.ones(data.n_rows) if data.sample_weight is None else data.sample_weight
        positive = weight > 0
        rows, place = np.unique(np.asarray(data.X[positive], dtype=np.float64), axis=0, return_inverse=True)
        copies = np.bincount(place.ravel(), weights=weight[positive], minlength=rows.shape[0])
        return ArrayData(rows, copies.astype(np.float64))
    if data.sample_weight is None:
        drawn = random_state.randint(0, data.n_rows, size=wanted)
    else:
        cumulative = np.cumsum(data.sample_weight)
        drawn = np.searchsorted(cumulative, random_state.uniform(size=wanted) * cumulative[-1], side="right")
        drawn = np.minimum(drawn, np.max(np.flatnonzero(data.sample_weight)))  # a draw that rounded up to 1
    index, count = np.unique(drawn, return_counts=True)
    return ArrayData(np.ascontiguousarray(data.X[index], dtype=np.float64), count.astype(np.float64))
