"""Where EM starts: k-means, k-means++, random responsibilities, random rows, given parameters.

Every start is an M-step from responsibilities, made by the same pass that EM makes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from sklearn.cluster import kmeans_plusplus

from . import em
from ._typing import BoolArray, FloatArray, IndexArray
from .blocks import ArrayData
from .frame import Frame
from .kernels._pass import LOG_LIKELIHOOD, NO_TERMS
from .kmeans import SAMPLE_STEPS, lloyd, nearest_centre_map, plus_plus
from .parameters import Parameters
from .passes import accumulate, score_rows
from .statistics import Statistics
from .structures import Structure

# Rows of the sub-sample that k-means seeds from: so many per component, within these limits.
ROWS_PER_COMPONENT = 128
FEWEST_ROWS, MOST_ROWS = 2048, 16384
# Times that clusters are looked for in the sub-sample; the fewer where a sample is a large part of all rows
# and a trial costs as much as an EM iteration.
FEWEST_TRIALS, MOST_TRIALS, SMALL_PART = 2, 3, 16
# Rows of these that k-means++ draws from: it looks at each of them once per component.
DRAWN_PER_COMPONENT, FEWEST_DRAWN = 32, 1024
# Lloyd's steps over all rows after those on the sub-sample, whose centres are a sample's. A step scores D
# terms where an EM iteration takes D^2 / 2 twice: more features afford more steps.
FEWEST_STEPS, MOST_STEPS, FEATURES_PER_STEP = 1, 7, 2
# From this many features on the M-step of a start takes moments about the centres.
CENTRED_FROM = 12
# Random responsibilities are drawn this many numbers at a time.
NUMBERS_PER_BLOCK = 1 << 20


class Start(NamedTuple):
    """Parameters to start from, and the components that had to be repaired on the way."""

    parameters: Parameters
    repaired: tuple[int, ...] = ()


def initial_parameters(
    data: ArrayData,
    structure: Structure,
    n_components: int,
    *,
    init_params: str,
    options: em.EMOptions,
    random_state: np.random.RandomState,
    weights: FloatArray | None = None,
    means: FloatArray | None = None,
    precisions: FloatArray | None = None,
    frame: Frame | None = None,
) -> Start:
    """Start parameters; given arrays are taken as they are, the rest is seeded.

    With means given, rows are assigned to the nearest of them (features in units of their spread; spherical
    covariances: raw) and the weights and covariances that were not given come from that assignment.
    `options` say how degenerate components are repaired and what is added to covariances.
    """
    if weights is not None and means is not None and precisions is not None:
        return Start(structure.from_precisions(weights, means, precisions))
    if frame is None:
        frame = data.frame(options.n_threads, structure.common_scale)
    start = _Start(data, structure, frame, n_components, options)
    if means is not None:
        # all features of a spherical structure's frame have one unit already
        parameters, repaired = start.from_centres(means, frame.scale)
    elif init_params == "kmeans":
        parameters, repaired = _kmeans_start(start, random_state)
    elif init_params == "k-means++":
        parameters, repaired = start.from_rows(_spread_out_rows(data, n_components, random_state))
    elif init_params == "random_from_data":
        share = None if data.sample_weight is None else data.sample_weight / data.sample_weight.sum()
        index = random_state.choice(data.n_rows, size=n_components, replace=False, p=share)
        parameters, repaired = start.from_rows(index)
    else:
        parameters, repaired = start.from_random(random_state)
    weights = parameters.weights if weights is None else weights
    means = parameters.means if means is None else means
    if precisions is not None:
        return Start(structure.from_precisions(weights, means, precisions), repaired)
    return Start(parameters._replace(weights=weights, means=means), repaired)


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
        self, collect: Callable[[FloatArray, BoolArray], Statistics], centres: FloatArray, centred: bool
    ) -> Start:
        """M-step; `collect(centres, centred)` makes statistics."""
        maximiser = em.Maximiser(self.data, self.structure, self.frame, self.options, self.n_components)
        about = np.full(self.n_components, centred)
        parameters = maximiser.maximise(collect(centres, about), about, None, collect)[0]
        return Start(parameters, tuple(sorted(maximiser.repaired)))

    def _accumulate(
        self, data: ArrayData, centres: FloatArray, centred: BoolArray, **source: Any
    ) -> Statistics:
        return accumulate(
            data, self.structure, self.frame, self.n_components, self.options.n_threads,
            centres=centres, centred=centred, **source,
        )  # fmt: skip

    def from_centres(self, centres: FloatArray, units: FloatArray) -> Start:
        """From the rows nearest to each centre.

        With many features moments are taken about the centres: a score then has D terms, and nothing needs a
        second look. With few the shared features are faster.
        """
        D = self.data.n_features
        centred = self.structure.always_project(D) or D >= CENTRED_FROM
        terms = NO_TERMS if centred else self.structure.terms
        score_map = nearest_centre_map(centres, units, self.frame, terms, self.structure.n_terms(D))

        def collect(centres: FloatArray, centred: BoolArray) -> Statistics:
            return self._accumulate(self.data, centres, centred, score_map=score_map, hard=True)

        return self._maximise(collect, centres, centred=centred)

    def from_rows(self, index: IndexArray) -> Start:
        """Each component from one row: its mean, covariance reg_covar alone (scikit-learn's choice).

        Tied: likewise; scikit-learn subtracts K rows from the scatter of all N there, which depends on the
        origin.
        """
        rows = ArrayData(np.asarray(self.data.X[index], dtype=np.float64))
        labels = np.arange(self.n_components, dtype=np.int64)

        def collect(centres: FloatArray, centred: BoolArray) -> Statistics:
            return self._accumulate(rows, centres, centred, labels=labels)

        return self._maximise(collect, rows.X, centred=True)

    def from_random(self, random_state: np.random.RandomState) -> Start:
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

        centres = np.repeat(self.frame.shift[None], K, axis=0)
        return self._maximise(collect, centres, centred=self.structure.always_project(data.n_features))


def _spread_out_rows(data: ArrayData, n_components: int, random_state: np.random.RandomState) -> IndexArray:
    """scikit-learn's k-means++ on the rows of positive weight (it may begin with one of weight zero)."""
    X, weight = data.X, data.sample_weight
    if weight is None or data.n_positive == data.n_rows:
        return kmeans_plusplus(X, n_components, sample_weight=weight, random_state=random_state)[1]
    positive = np.flatnonzero(weight)
    chosen = kmeans_plusplus(
        X[positive], n_components, sample_weight=weight[positive], random_state=random_state
    )[1]
    return positive[chosen]


def _kmeans_start(start: _Start, random_state: np.random.RandomState) -> Start:
    """k-means on a sub-sample, a few times, in raw units and in units of each feature's spread; the best one.

    Which units seed better depends on the data, and which draw on luck, so each set of clusters is followed
    by an EM step on the sub-sample and the highest likelihood wins. Spherical covariances are raw by nature.
    """
    data, structure, n_components = start.data, start.structure, start.n_components
    n_threads = start.options.n_threads
    sample = _sub_sample(data, n_components, random_state)
    weight = sample.sample_weight
    assert weight is not None
    frames = _kmeans_frames(sample)
    if structure.common_scale:
        frames = frames[:1]
    options = replace(start.options, tol=0.0, max_iter=1, repair="reseed")
    trial = _Start(sample, structure, start.frame, n_components, options)
    best: tuple[FloatArray, Frame] | None = None
    best_bound = -np.inf
    n_trials = MOST_TRIALS
    if sample.n_rows < data.n_rows < SMALL_PART * sample.n_rows:
        n_trials = FEWEST_TRIALS
    for frame in (frames * n_trials)[:n_trials]:
        rows = frame.to_frame(sample.X)
        step = max(1, sample.n_rows // max(DRAWN_PER_COMPONENT * n_components, FEWEST_DRAWN))
        index = step * plus_plus(rows[::step], weight[::step], n_components, random_state)
        sum_of_squares = float(weight @ np.einsum("ij,ij->i", rows, rows))
        centres = lloyd(sample, sample.X[index], frame, SAMPLE_STEPS, n_threads, sum_of_squares)
        parameters = trial.from_centres(centres, frame.scale).parameters
        parameters = em.run(sample, structure, parameters, options, frame=start.frame).parameters
        score_map = structure.score_map(parameters, start.frame, n_threads)
        bound = score_rows(sample, start.frame, score_map, n_components, n_threads)[LOG_LIKELIHOOD]
        if best is None or bound > best_bound:
            best, best_bound = (centres, frame), bound
    assert best is not None
    centres, frame = best
    if sample.n_rows < data.n_rows:
        n_steps = data.n_features // FEATURES_PER_STEP - 1
        n_steps = min(max(n_steps, FEWEST_STEPS), MOST_STEPS)
        centres = lloyd(data, centres, frame, n_steps, n_threads)
    return start.from_centres(centres, frame.scale)


def _kmeans_frames(sample: ArrayData) -> list[Frame]:
    """Frames to look for clusters in: one unit for all features, and each feature's own where they differ.

    The units are standard deviations themselves, not the powers of two near them; of constant columns, the
    unit of the others.
    """
    origin = sample.X[0]
    deviation = np.abs(sample.X - origin)
    largest = deviation.max(axis=0)
    largest[largest == 0] = 1.0
    rows = (sample.X - origin) / largest
    mean = np.average(rows, axis=0, weights=sample.sample_weight)
    spread = largest * np.sqrt(np.average((rows - mean) ** 2, axis=0, weights=sample.sample_weight))
    widest = spread.max() if spread.max() > 0 else 1.0
    spread[spread == 0] = widest
    shift = np.ascontiguousarray(origin + mean * largest)
    raw = Frame(shift, np.full(spread.shape, 1.0 / widest))
    return [raw] if (spread == widest).all() else [raw, Frame(shift, 1.0 / spread)]


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
