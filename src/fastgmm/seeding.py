"""Where EM starts: k-means, k-means++, random responsibilities, random rows, given parameters.

Every start is an M-step from responsibilities, made by the same pass that EM makes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from . import em, sample_fit
from ._typing import BoolArray, FloatArray, IndexArray, LabelArray
from .blocks import ArrayData
from .few_rows import drawn_to_their_mean
from .frame import Frame, inverse_units
from .kernels._pass import LINEAR, LOG_LIKELIHOOD, NO_TERMS, SCALAR, Pass
from .kmeans import (
    fill_empty,
    nearest_centre_map,
    plus_plus,
    sorted_by_nearest,
)
from .lloyd import SAMPLE_STEPS, lloyd
from .objective import Likelihood, Objective
from .parameters import Parameters
from .passes import accumulate, score_rows
from .pruning import SORT_TERMS
from .score_map import EPSILON
from .statistics import Statistics
from .structures import Structure
from .sub_samples import sub_samples

# Times that clusters are looked for: in raw units, in units of each feature's spread, and again.
N_TRIALS = 3
# Log-likelihoods that differ by less than this share are equal.
TIE = 1e-9
# Clusters are judged by all of the other sub-sample where a score has up to so many terms a feature, by as
# many times fewer rows as it has more, down to this share: a full covariance of 64 features has 34 terms a
# feature, and trials differ by far more than what such a quarter tells of them.
TERMS_PER_FEATURE, SMALLEST_JURY = 8, 4
# Rows of these that k-means++ draws from: it looks at each of them once per component.
DRAWN_PER_COMPONENT, FEWEST_DRAWN = 32, 1024
# Lloyd's steps over all rows after those on the sub-sample, whose centres are a sample's. A step scores D
# terms where an EM iteration takes D^2 / 2 twice: more features afford more steps.
FEWEST_STEPS, MOST_STEPS, FEATURES_PER_STEP = 1, 7, 2
# From this many features on the M-step of a start takes moments about the centres.
CENTRED_FROM = 12
# Rows of a stream that starts are made from, where k-means draws its sub-sample and takes its last steps: so
# many per component, within these limits and this memory.
STREAMED_PER_COMPONENT, FEWEST_STREAMED, MOST_STREAMED = 1 << 10, 1 << 16, 1 << 20
STREAMED_BYTES = 128 << 20
# Random responsibilities are drawn this many numbers at a time.
NUMBERS_PER_BLOCK = 1 << 20


class Start(NamedTuple):
    """Parameters to start from, and the components that had to be repaired on the way, once for each time."""

    parameters: Parameters
    repaired: tuple[int, ...] = ()


def rows_to_seed_from(n_components: int, n_features: int) -> int:
    """How many rows of a stream are kept to make starts from."""
    wanted = min(max(STREAMED_PER_COMPONENT * n_components, FEWEST_STREAMED), MOST_STREAMED)
    return max(min(wanted, STREAMED_BYTES // (8 * n_features)), n_components)


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
    objective: Objective | None = None,
    responsibilities: FloatArray | None = None,
    labels: LabelArray | None = None,
) -> Start:
    """Start parameters; given arrays are taken as they are, the rest is seeded.

    With means given, rows are assigned to the nearest of them (features in units of their spread; spherical
    covariances: raw) and the weights and covariances that were not given come from that assignment.
    `options` say how degenerate components are repaired and what is added to covariances. An objective of
    posteriors makes of given arrays what it makes of rows with such moments.
    """
    any_given = not (weights is None and means is None and precisions is None)
    if any_given and objective is not None and not objective.point_estimate:
        given = initial_parameters(
            data, structure, n_components, init_params=init_params, options=options,
            random_state=random_state, weights=weights, means=means, precisions=precisions, frame=frame,
        )  # fmt: skip
        return Start(objective.start(given.parameters), given.repaired)
    if weights is not None and means is not None and precisions is not None:
        return Start(structure.from_precisions(weights, means, precisions))
    if frame is None:
        frame = data.frame(options.n_threads, structure.common_scale)
    start = _Start(data, structure, frame, n_components, options, objective)
    if responsibilities is not None or labels is not None:
        return start.from_responsibilities(responsibilities, labels)
    if means is not None and precisions is not None:
        weights = start.shares(means, frame.scale)
        return Start(structure.from_precisions(weights, means, precisions))
    if means is not None:
        # all features of a spherical structure's frame have one unit already
        parameters, repaired = start.from_centres(means, frame.scale)
    elif init_params == "kmeans":
        parameters, repaired = _kmeans_start(start, random_state)
        # a prior weighs more against a sample's rows than against all
        if weights is None and precisions is None and objective is None:
            parameters = sample_fit.improved(data, structure, parameters, options, frame, random_state)
    elif init_params == "k-means++":
        parameters, repaired = start.from_rows(
            plus_plus(data.X, data.sample_weight, n_components, random_state)
        )
    elif init_params == "random_from_data":
        share = None if data.sample_weight is None else data.sample_weight / data.sample_weight.sum()
        if share is not None and np.count_nonzero(share) < n_components:
            raise ValueError(
                f"init_params='random_from_data' needs n_components={n_components} rows whose sample_weight "
                "is not negligible beside the sum of all; raise the smallest weights or choose another "
                "init_params."
            )
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
        objective: Objective | None = None,
    ) -> None:
        self.data, self.structure, self.frame = data, structure, frame
        self.n_components, self.options, self.objective = n_components, options, objective

    def _maximise(
        self,
        collect: Callable[[FloatArray, BoolArray], Statistics],
        centres: FloatArray,
        centred: bool,
        of_all: bool = True,
    ) -> Start:
        """M-step; `collect(centres, centred)` makes statistics, in float64 whatever the fit's arithmetic.

        of_all : whether they are of all rows of `data`, which may be a sample of many more
        """
        options = replace(self.options, arithmetic="float64")
        maximiser = em.Maximiser(
            self.data, self.structure, self.frame, options, self.n_components, self.objective
        )
        about = np.full(self.n_components, centred)
        stands_for = self.data.stands_for / self.data.n_rows if of_all else 1.0

        def as_of_all(at: FloatArray, which: BoolArray) -> Statistics:
            statistics = collect(at, which)
            # a prior is to weigh as it will beside all rows
            return statistics if self.objective is None else statistics.scaled(stands_for)

        parameters = maximiser.maximise(as_of_all(centres, about), about, None, as_of_all)[0]
        return Start(parameters, tuple(sorted(maximiser.repairs.repaired)))

    def _accumulate(
        self, data: ArrayData, centres: FloatArray, centred: BoolArray, **source: Any
    ) -> Statistics:
        return accumulate(
            data, self.structure, self.frame, self.n_components, self.options.n_threads,
            centres=centres, centred=centred, **source,
        )  # fmt: skip

    def nearest(
        self, data: ArrayData, centres: FloatArray, units: FloatArray, about: FloatArray, centred: BoolArray
    ) -> Statistics:
        """Statistics of the rows nearest to each centre.

        Moments about centres are taken of rows in the order of their clusters: a block has rows of few of
        them and nothing to do with the others, so that all clusters together cost as much as a few.
        """
        D = data.n_features
        if centred.all() and data.n_rows < 2**32:
            labels, order = sorted_by_nearest(data, centres, units, self.frame, self.options.n_threads)
            return self._accumulate(data, about, centred, labels=labels, order=order)
        terms = NO_TERMS if self._is_centred() else self.structure.terms
        score_map = nearest_centre_map(centres, units, self.frame, terms, self.structure.n_terms(D))
        return self._accumulate(data, about, centred, score_map=score_map, hard=True)

    def _is_centred(self) -> bool:
        """Whether an M-step takes moments about the centres, of rows in the order of their clusters.

        With many features nothing needs a second look then. And each row is added to one component, not with
        P terms to all, after a score of D terms: where that saves what sorting takes.
        """
        D = self.data.n_features
        saved = self.n_components * (2 * self.structure.n_terms(D) - D)
        return self.structure.always_project(D) or D >= CENTRED_FROM or saved >= SORT_TERMS

    def from_centres(self, centres: FloatArray, units: FloatArray, move_empty: bool = False) -> Start:
        """From the rows nearest to each centre; those without rows may be moved to where there are some."""
        fixed = not move_empty

        def collect(about: FloatArray, centred: BoolArray) -> Statistics:
            nonlocal centres, fixed
            statistics = self.nearest(self.data, centres, units, about, centred)
            empty = statistics.weight == 0
            if not fixed and empty.any():
                frame = Frame(self.frame.shift, units)
                centres = fill_empty(self.data, centres, empty, frame, self.options.n_threads)
                statistics = self.nearest(self.data, centres, units, centres, centred)
            fixed = True
            return statistics

        return self._maximise(collect, centres, centred=self._is_centred())

    def shares(self, centres: FloatArray, units: FloatArray) -> FloatArray:
        """Weights from the rows nearest to each centre, none quite 0: scikit-learn's 10 eps."""
        sweep = Pass(self.data.X, self.data.sample_weight, self.frame, self.n_components)
        score_map = nearest_centre_map(centres, units, self.frame, LINEAR, self.data.n_features)
        sweep.score(score_map, hard=True)
        sweep.accumulate(LINEAR, self.data.n_features, False, None, None, SCALAR, False, False)
        weight = sweep.run(self.options.n_threads)["weight"] + 10.0 * EPSILON
        return weight / weight.sum()

    def jury(self, rows: ArrayData) -> ArrayData:
        """Those of the rows that trials are judged by."""
        n_terms = self.structure.n_terms(rows.n_features)
        step = min(max(n_terms // (TERMS_PER_FEATURE * rows.n_features), 1), SMALLEST_JURY)
        assert rows.sample_weight is not None
        return ArrayData(rows.X[::step], rows.sample_weight[::step])

    def judged(self, centres: FloatArray, units: FloatArray, rows: ArrayData) -> float:
        """Log-likelihood of other rows under the clusters, each covariance drawn towards their mean.

        Clusters of a sub-sample may have fewer rows than a covariance has parameters: as many rows of the
        mean covariance are added as would determine one, and rows that the clusters were made of would be
        predicted the better the fewer made them.
        """
        structure = self.structure
        centred = np.full(self.n_components, self._is_centred())
        statistics = self.nearest(self.data, centres, units, centres, centred)
        with np.errstate(all="ignore"):
            objective = self.objective
            if objective is None or not objective.point_estimate:
                objective = Likelihood(structure, self.options.reg_covar, self.options.n_threads)
            estimate = objective.estimate(statistics, None)
        weights, means, covariances, _ = estimate.parameters
        n_rows = statistics.weight * (self.data.n_rows / statistics.weight.sum())
        if not structure.pooled:
            covariances = drawn_to_their_mean(weights, covariances, n_rows)
        try:
            parameters = structure.from_covariances(weights, means, covariances)
        except ValueError:  # fewer dimensions than features: trials are not told apart
            return -np.inf
        score_map = structure.score_map(parameters, self.frame, self.options.n_threads)
        head = score_rows(rows, self.frame, score_map, self.n_components, self.options.n_threads)
        return float(head[LOG_LIKELIHOOD])

    def from_rows(self, index: IndexArray) -> Start:
        """Each component from one row: its mean, covariance reg_covar alone (scikit-learn's choice).

        Tied: likewise; scikit-learn's is the scatter of all other rows about the origin of X, divided by K.
        Mixtures of one set of parameters start without it, as it depends on where the origin is. In Bayesian
        ones the prior hides it soon, and they start as scikit-learn's. A prior of a point estimate is
        weighed against that one row.
        """
        rows = ArrayData(np.asarray(self.data.X[index], dtype=np.float64))
        labels = np.arange(self.n_components, dtype=np.int64)
        others = None
        if self.structure.pooled and self.objective is not None and not self.objective.point_estimate:
            others = self._scatter_about_origin(self.data) - self._scatter_about_origin(rows)

        def collect(centres: FloatArray, centred: BoolArray) -> Statistics:
            statistics = self._accumulate(rows, centres, centred, labels=labels)
            return statistics if others is None else replace(statistics, second=statistics.second + others)

        return self._maximise(collect, rows.X, centred=True, of_all=False)

    def _scatter_about_origin(self, data: ArrayData) -> FloatArray:
        """Sum of x x' over all rows, in the frame's units."""
        D = data.n_features
        one = nearest_centre_map(self.frame.shift[None], self.frame.scale, self.frame, LINEAR, D)
        statistics = accumulate(
            data, self.structure, self.frame, 1, self.options.n_threads,
            score_map=one, hard=True, centres=self.frame.shift[None], centred=np.ones(1, dtype=bool),
        )  # fmt: skip
        return statistics.about(np.zeros((1, D))).second

    def from_responsibilities(self, responsibilities: FloatArray | None, labels: LabelArray | None) -> Start:
        """From given responsibilities of all rows, (N, K), or the labels of all, (N,) in 0 ... K - 1."""
        centres = np.repeat(self.frame.shift[None], self.n_components, axis=0)

        def collect(about: FloatArray, centred: BoolArray) -> Statistics:
            return self._accumulate(
                self.data, about, centred, responsibilities=responsibilities, labels=labels
            )

        return self._maximise(collect, centres, centred=self.structure.always_project(self.data.n_features))

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


def _kmeans_start(start: _Start, random_state: np.random.RandomState) -> Start:
    """k-means on a sub-sample, a few times, in raw units and in units of each feature's spread; the best one.

    Which units seed better depends on the data, and which draw on luck, so each set of clusters is judged by
    the likelihood it gives to another sub-sample. Spherical covariances are raw by nature.
    """
    data, structure, n_components = start.data, start.structure, start.n_components
    n_threads = start.options.n_threads
    sample, others = sub_samples(data, n_components, start.frame, n_threads, random_state)
    weight = sample.sample_weight
    assert weight is not None
    frames = _kmeans_frames(sample)
    if structure.common_scale:
        frames = frames[:1]
    trial = _Start(sample, structure, start.frame, n_components, start.options, start.objective)
    jury = others if others is sample else trial.jury(others)
    best: tuple[FloatArray, Frame] | None = None
    best_bound = -np.inf
    for frame in (frames * N_TRIALS)[:N_TRIALS]:
        rows = frame.to_frame(sample.X)
        step = max(1, sample.n_rows // max(DRAWN_PER_COMPONENT * n_components, FEWEST_DRAWN))
        index = step * plus_plus(rows[::step], weight[::step], n_components, random_state)
        centres = lloyd(sample, sample.X[index], frame, SAMPLE_STEPS, n_threads, while_it_pays=True)
        bound = trial.judged(centres, frame.scale, jury)
        # trials that find the same clusters in another order tie but for rounding: the first of them counts
        if best is None or bound - best_bound > TIE * abs(bound):
            best, best_bound = (centres, frame), bound
    assert best is not None
    centres, frame = best
    if others is not sample:
        n_steps = data.n_features // FEATURES_PER_STEP - 2
        n_steps = min(max(n_steps, FEWEST_STEPS), MOST_STEPS)
        centres = lloyd(data, centres, frame, n_steps, n_threads)
    return start.from_centres(centres, frame.scale, move_empty=True)


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
    assert sample.sample_weight is not None
    share = sample.sample_weight / sample.sample_weight.sum()
    mean = share @ rows
    spread = largest * np.sqrt(share @ (rows - mean) ** 2)
    widest = spread.max() if spread.max() > 0 else 1.0
    spread[spread == 0] = widest
    shift = np.ascontiguousarray(origin + mean * largest)
    raw = Frame(shift, np.full(spread.shape, inverse_units(widest)))
    return [raw] if (spread == widest).all() else [raw, Frame(shift, inverse_units(spread))]
