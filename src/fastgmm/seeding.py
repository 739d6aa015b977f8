"""Where EM starts: k-means, k-means++, random responsibilities, random rows, given parameters.

Every start is an M-step from responsibilities, made by the same pass that EM makes.
"""

from __future__ import annotations

import numpy as np
from sklearn.cluster import kmeans_plusplus

from . import em
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
    weights: np.ndarray | None = None,
    means: np.ndarray | None = None,
    precisions: np.ndarray | None = None,
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
        parameters = start.from_centres(means, _units(data, structure, frame, n_threads))
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

    def __init__(self, data, structure, frame, n_components, options):
        self.data, self.structure, self.frame = data, structure, frame
        self.n_components, self.options = n_components, options

    def _maximise(self, collect, centres):
        """M-step; `collect(centres, centred)` makes statistics."""
        maximiser = em.Maximiser(self.data, self.structure, self.frame, self.options)
        centred = np.zeros(self.n_components, dtype=bool)
        if self.structure.always_project(self.data.n_features):
            centred[:] = True
        statistics = collect(centres, centred)
        return maximiser.maximise(statistics, None, collect)[0]

    def _accumulate(self, data, centres, centred, **source):
        return accumulate(
            data, self.structure, self.frame, self.n_components, self.options.n_threads,
            centres=centres, centred=centred, **source,
        )  # fmt: skip

    def from_centres(self, centres, units) -> Parameters:
        """From the rows nearest to each centre."""
        D = self.data.n_features
        projects = self.structure.always_project(D)
        terms = NO_TERMS if projects else self.structure.terms
        score_map = nearest_centre_map(centres, units, self.frame, terms, self.structure.n_terms(D))

        def collect(centres, centred):
            return self._accumulate(self.data, centres, centred, score_map=score_map, hard=True)

        return self._maximise(collect, centres)

    def from_rows(self, index) -> Parameters:
        """Each component from one row: its mean, covariance reg_covar alone (scikit-learn's choice).

        Tied: likewise; scikit-learn subtracts K rows from the scatter of all N there, which depends on the origin.
        """
        rows = ArrayData(np.asarray(self.data.X[index], dtype=np.float64))
        labels = np.arange(self.n_components, dtype=np.int64)
        frame = self.frame

        def collect(centres, centred):
            return self._accumulate(rows, centres, centred, labels=labels)

        maximiser = em.Maximiser(rows, self.structure, frame, self.options)
        everything = np.ones(self.n_components, dtype=bool)
        return maximiser.maximise(collect(rows.X, everything), None, collect)[0]

    def from_random(self, random_state) -> Parameters:
        """From responsibilities uniform(0, 1), normalised: scikit-learn's draws, block by block."""
        state = random_state.get_state()
        K, data = self.n_components, self.data
        block = max(1, NUMBERS_PER_BLOCK // K)

        def collect(centres, centred):
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
            return total

        return self._maximise(collect, np.repeat(self.frame.shift[None], K, axis=0))


def _kmeans_start(start: _Start, random_state) -> Parameters:
    """k-means on a sub-sample, in raw units and in units of each feature's spread; the better of the two.

    Which units seed better depends on the data, so both are followed by an EM step on the sub-sample and the higher
    likelihood wins. Spherical covariances are raw by nature.
    """
    data, structure, n_components = start.data, start.structure, start.n_components
    n_threads = start.options.n_threads
    sample = _sub_sample(data, n_components, random_state)
    spread = sample.frame(n_threads)
    raw = Frame(spread.shift, np.full(data.n_features, spread.scale.min()))
    frames = [raw] if structure.common_scale or data.n_features == 1 else [raw, _scaled(sample, spread)]
    best, best_bound = None, -np.inf
    for frame in frames:
        rows = sample.X * frame.scale - frame.shift * frame.scale
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
    return start.from_centres(*best)


def _scaled(sample: ArrayData, spread: Frame) -> Frame:
    """Frame whose unit is each feature's standard deviation, exactly (a Frame's usual powers of two are not)."""
    rows = spread.to_frame(np.asarray(sample.X, dtype=np.float64))
    weight = sample.sample_weight
    mean = np.average(rows, axis=0, weights=weight)
    deviation = np.sqrt(np.average((rows - mean) ** 2, axis=0, weights=weight))
    deviation[deviation == 0] = 1.0
    return Frame(spread.shift, np.ascontiguousarray(spread.scale / deviation))


def _units(data, structure, frame, n_threads):
    """Units in which rows are nearest to given means."""
    return np.full(data.n_features, frame.scale.min()) if structure.common_scale else frame.scale


def _sub_sample(data: ArrayData, n_components: int, random_state) -> ArrayData:
    """Rows of positive weight, drawn uniformly, with their weights; all of them where there are few."""
    wanted = min(max(ROWS_PER_COMPONENT * n_components, FEWEST_ROWS), MOST_ROWS)
    wanted = max(wanted, 4 * n_components)
    if data.n_rows <= wanted:
        index = np.arange(data.n_rows) if data.sample_weight is None else np.flatnonzero(data.sample_weight)
    elif data.sample_weight is None:
        index = np.unique(random_state.randint(0, data.n_rows, size=wanted))
    else:
        positive = np.flatnonzero(data.sample_weight)
        index = np.unique(positive[random_state.randint(0, positive.size, size=wanted)])
    weight = None if data.sample_weight is None else data.sample_weight[index]
    return ArrayData(np.ascontiguousarray(data.X[index], dtype=np.float64), weight)
