"""What k-means needs of the pass: scores that say which centre is nearest, and centres to begin with.

Distances are measured in given units per feature: |t (x - c)|^2 with t (D,).
"""

from __future__ import annotations

import numpy as np

from ._typing import BoolArray, FloatArray, IndexArray, LabelArray, OrderArray
from .blocks import ArrayData
from .frame import Frame
from .kernels._kmeans import plus_plus as spread_out
from .kernels._pass import LINEAR, NO_TERMS, SCALAR, VECTOR, Pass
from .score_map import ScoreMap

# To fill empty clusters so many of the farthest rows are looked at for each, found so many rows at a time.
FAR_ROWS, ROWS_AT_ONCE = 64, 1 << 16


def nearest_centre_map(
    centres: FloatArray, units: FloatArray, frame: Frame, terms: int, n_terms: int
) -> ScoreMap:
    """Score map whose best component is the centre nearest in the given units.

    -|t (x - c)|^2 / 2 on the features of a structure, of which it uses the linear ones, and |t z|^2, common
    to all centres; with terms = NO_TERMS as projected scores.
    """
    ratio = units / frame.scale
    if terms == NO_TERMS:
        return ScoreMap(
            terms=NO_TERMS, coef=None, offset=None, bound=None, bound_offset=None, root_shape=VECTOR,
            root=np.ascontiguousarray(ratio), centre=np.ascontiguousarray(centres),
            constant=np.zeros(centres.shape[0]), root_is_shared=True, always_project=True,
        )  # fmt: skip
    mean = frame.to_frame(centres) * ratio
    coef = np.zeros((centres.shape[0], n_terms))
    coef[:, : mean.shape[1]] = mean * ratio
    return ScoreMap(
        terms=terms, coef=coef, offset=-0.5 * (mean * mean).sum(axis=1), bound=None, bound_offset=None,
        root_shape=SCALAR, root=None, centre=None, constant=np.zeros(centres.shape[0]),
        common_root=ratio[None], common_shape=VECTOR,
        common_reach=float(np.sqrt((mean * mean).sum(axis=1).max())),
    )  # fmt: skip


def draw_rows(cumulative: FloatArray, n: int, random_state: np.random.RandomState) -> IndexArray:
    """n row numbers with probabilities that add up to `cumulative`; none of probability 0."""
    drawn = np.searchsorted(cumulative, random_state.uniform(size=n) * cumulative[-1], side="right")
    # a draw that rounded up to 1 is the last row that has any
    return np.minimum(drawn, np.searchsorted(cumulative, cumulative[-1], side="left"))


def plus_plus(
    rows: FloatArray, weight: FloatArray | None, n_clusters: int, random_state: np.random.RandomState
) -> IndexArray:
    """Greedy k-means++ (Arthur and Vassilvitskii 2007): the best of 2 + log K draws at each step.

    rows (m, D) are in the units distances are measured in; weight (m,) or None. The draws are scikit-learn's.
    Returns indices of the centres (K,); kernels/_kmeans.pyx says how few rows it looks at.
    """
    cumulative = np.arange(1.0, rows.shape[0] + 1.0) if weight is None else np.cumsum(weight)
    first = int(draw_rows(cumulative, 1, random_state)[0])
    uniforms = random_state.uniform(size=(n_clusters - 1, 2 + int(np.log(n_clusters))))
    chosen = spread_out(rows, weight, first, uniforms)
    # fewer distinct rows than clusters: any row will do
    return np.concatenate([chosen, draw_rows(cumulative, n_clusters - chosen.size, random_state)])


def sorted_by_nearest(
    data: ArrayData, centres: FloatArray, units: FloatArray, frame: Frame, n_threads: int
) -> tuple[LabelArray, OrderArray]:
    """The nearest centre of each row, (N,), and rows of positive weight by centre, so many at a time."""
    n_components = centres.shape[0]
    labels = np.empty(data.n_rows, dtype=np.int64)
    sweep = Pass(data.X, None, frame, n_components)
    sweep.score(nearest_centre_map(centres, units, frame, LINEAR, data.n_features), hard=True)
    sweep.write(labels=labels)
    sweep.run(n_threads)
    order = np.empty(data.n_positive, dtype=np.uint32)
    n_ordered = 0
    short = np.uint16 if n_components <= 1 << 16 else np.uint32  # NumPy sorts 16 bits by counting
    for first in range(0, data.n_rows, ROWS_AT_ONCE):  # which bounds the memory that sorting takes
        part = labels[first : first + ROWS_AT_ONCE]
        rows = first + np.argsort(part.astype(short), kind="stable")
        if data.sample_weight is not None:
            rows = rows[data.sample_weight[rows] > 0]
        order[n_ordered : n_ordered + rows.size] = rows
        n_ordered += rows.size
    return labels, order


def fill_empty(
    data: ArrayData, centres: FloatArray, empty: BoolArray, frame: Frame, n_threads: int
) -> FloatArray:
    """Centres without rows go to the rows farthest from all centres, as long as there are such rows.

    A sub-sample may have missed what lies there, or had too few distinct rows for all centres.
    """
    centres = centres.copy()
    filled = ~empty
    n_rows = FAR_ROWS * int(np.count_nonzero(empty))
    far = _farthest_rows(data, centres[filled], frame, n_rows, n_threads)
    if far.shape[0] == 0:
        return centres
    rows = frame.to_frame(far)
    # the farthest first, then the farthest from all that were chosen, too (Gonzalez 1985)
    closest = _squared_distances(rows, frame.to_frame(centres[filled])).min(axis=1)
    for k in np.flatnonzero(empty):
        best = int(np.argmax(closest))
        if not closest[best] > 0:
            break
        centres[k] = far[best]
        closest = np.minimum(closest, ((rows - rows[best]) ** 2).sum(axis=1))
    return centres


def _squared_distances(rows: FloatArray, centres: FloatArray) -> FloatArray:
    """(m, K), from differences: equal rows are at distance 0."""
    distances = np.empty((rows.shape[0], centres.shape[0]))
    for k, centre in enumerate(centres):
        distances[:, k] = ((rows - centre) ** 2).sum(axis=1)
    return distances


def first_of_equal(rows: FloatArray) -> tuple[IndexArray, IndexArray]:
    """One index of each distinct row (C-contiguous, without -0) by its bytes; each row's place there."""
    as_bytes = rows.view(np.dtype((np.void, rows.itemsize * rows.shape[1])))[:, 0]
    _, first, place = np.unique(as_bytes, return_index=True, return_inverse=True)
    return first, place


def _farthest_rows(
    data: ArrayData, centres: FloatArray, frame: Frame, n_rows: int, n_threads: int
) -> FloatArray:
    """The distinct rows of positive weight farthest from their nearest centre, about n_rows of them."""
    kept = np.empty((0, data.n_features))
    distance = np.empty(0)
    score_map = nearest_centre_map(centres, frame.scale, frame, LINEAR, data.n_features)
    for first in range(0, data.n_rows, ROWS_AT_ONCE):
        part = slice(first, first + ROWS_AT_ONCE)
        X = data.X[part]
        labels = np.empty(X.shape[0], dtype=np.int64)
        sweep = Pass(X, None, frame, centres.shape[0])
        sweep.score(score_map, hard=True)
        sweep.write(labels=labels)
        sweep.run(n_threads)
        squared = ((frame.to_frame(X) - frame.to_frame(centres)[labels]) ** 2).sum(axis=1)
        if data.sample_weight is not None:
            squared[data.sample_weight[part] <= 0] = 0.0
        away = squared > 0
        kept = np.concatenate([kept, np.ascontiguousarray(X[away], dtype=np.float64) + 0.0])
        distance = np.concatenate([distance, squared[away]])
        if kept.shape[0] == 0:
            continue
        distinct = first_of_equal(kept)[0]
        best = distinct[np.argsort(-distance[distinct], kind="stable")[:n_rows]]
        kept, distance = kept[best], distance[best]
    return kept
