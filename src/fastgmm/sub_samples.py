"""Sub-samples that k-means seeds from: small, weighted, and with the rows far out that clusters may be of."""

from __future__ import annotations

import numpy as np

from ._typing import FloatArray, IndexArray
from .blocks import ArrayData
from .frame import Frame
from .kernels._pass import SCALAR, SPHERICAL
from .kmeans import draw_rows, first_of_equal
from .passes import score_rows
from .score_map import ScoreMap

# Rows of the sub-sample that k-means seeds from: so many per component, within these limits.
ROWS_PER_COMPONENT = 128
FEWEST_ROWS, MOST_ROWS = 2048, 16384
# Of many more rows than this, only so many or up to twice that are looked at when a sub-sample is drawn:
# where that leaves out all but one in FEWEST_LEFT_OUT or more.
ROWS_LOOKED_AT, FEWEST_LEFT_OUT = 1 << 15, 4


def sub_samples(
    data: ArrayData,
    n_components: int,
    frame: Frame,
    n_threads: int,
    random_state: np.random.RandomState,
) -> tuple[ArrayData, ArrayData]:
    """Rows to find clusters in and rows to judge them by, with the weights they stand for.

    Where there are few rows, both are all distinct ones of positive weight in the order of their bytes, with
    the sums of their weights: then neither copies nor the order of rows matter.
    """
    wanted = max(min(ROWS_PER_COMPONENT * n_components, MOST_ROWS), FEWEST_ROWS, 4 * n_components)
    if data.n_positive <= wanted:
        weight = np.ones(data.n_rows) if data.sample_weight is None else data.sample_weight
        positive = weight > 0
        rows = np.ascontiguousarray(data.X[positive], dtype=np.float64) + 0.0  # no -0
        first, place = first_of_equal(rows)
        copies = np.bincount(place, weights=weight[positive], minlength=first.size)
        everything = ArrayData(rows[first], copies.astype(np.float64))
        return everything, everything
    if data.n_rows // max(ROWS_LOOKED_AT, 4 * wanted) >= FEWEST_LEFT_OUT:
        data = _thinned(data, wanted, random_state)
    # Half of the draws in proportion to weight, half to weight times squared distance from the mean (the
    # lightweight coresets of Bachem, Lucic and Krause 2018): small clusters far out would else be missed.
    far = _squared_distances_from_mean(data, frame, n_threads)
    if data.sample_weight is not None:
        far *= data.sample_weight
    np.cumsum(far, out=far)
    sample = _sub_sample(data, far, wanted, random_state)
    return sample, _sub_sample(data, far, wanted, random_state)


def _sub_sample(
    data: ArrayData, far: FloatArray, wanted: int, random_state: np.random.RandomState
) -> ArrayData:
    """Rows drawn with replacement, with the weights they stand for; far: cumulative sum of w |z|^2."""
    if data.sample_weight is None:
        drawn = random_state.randint(0, data.n_rows, size=wanted - wanted // 2)
    else:
        drawn = draw_rows(np.cumsum(data.sample_weight), wanted - wanted // 2, random_state)
    if far[-1] > 0:
        drawn = np.concatenate([drawn, draw_rows(far, wanted // 2, random_state)])
    index, count = np.unique(drawn, return_counts=True)
    share = np.full(index.shape, 1.0 / data.n_rows)
    if data.sample_weight is not None:
        share = data.sample_weight[index] / data.total_weight
    density = share if not far[-1] > 0 else 0.5 * (share + _shares(far, index))
    rows = np.ascontiguousarray(data.X[index], dtype=np.float64)
    return ArrayData(rows, data.total_weight / wanted * count * share / density)


def _thinned(data: ArrayData, wanted: int, random_state: np.random.RandomState) -> ArrayData:
    """One row of each so many; all, if too few would have weight."""
    thinned = data.one_row_of_each(data.n_rows // max(ROWS_LOOKED_AT, 4 * wanted), random_state)
    return thinned if thinned.n_positive >= 2 * wanted else data


def _shares(cumulative: FloatArray, index: IndexArray) -> FloatArray:
    """The probabilities of these rows."""
    before = np.where(index > 0, cumulative[index - 1], 0.0)
    share: FloatArray = (cumulative[index] - before) / cumulative[-1]
    return share


def _squared_distances_from_mean(data: ArrayData, frame: Frame, n_threads: int) -> FloatArray:
    """|z|^2 of each row in the frame, (N,); 0 for rows of weight 0."""
    D = data.n_features
    coef = np.zeros((1, D + 1))
    coef[0, D] = -1.0
    score_map = ScoreMap(
        terms=SPHERICAL, coef=coef, offset=np.zeros(1), bound=None, bound_offset=None,
        root_shape=SCALAR, root=None, centre=None, constant=None,
    )  # fmt: skip
    out = np.empty(data.n_rows)
    score_rows(data, frame, score_map, 1, n_threads, log_density=out)
    return np.negative(out, out=out)
