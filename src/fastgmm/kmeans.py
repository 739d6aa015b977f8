"""k-means on the same pass: scores linear in the features, responsibilities all to the best component.

Distances are measured in given units per feature: |t (x - c)|^2 with t (D,).
"""

from __future__ import annotations

import numpy as np

from ._typing import BoolArray, FloatArray, IndexArray, LabelArray, OrderArray
from .blocks import ArrayData
from .frame import Frame
from .kernels._kmeans import plus_plus as spread_out
from .kernels._pass import LINEAR, LOG_LIKELIHOOD, NO_TERMS, SCALAR, VECTOR, Pass
from .score_map import ScoreMap

# Steps on a sub-sample: EM goes on from there, and the last few digits of k-means are not worth its time.
SAMPLE_STEPS = 12
# A step that lowers the sum of squares by less than this share is the last.
LLOYD_TOLERANCE = 1e-3
# Centres go this many times as far as to the mean of their rows: near convergence steps shrink by a constant
# factor, and going further than each asks for saves half of them. Beyond 2 the sum of squares could grow.
RELAXATION = 1.8
# To fill empty clusters so many of the farthest rows are looked at for each, found so many rows at a time.
FAR_ROWS, ROWS_AT_ONCE = 64, 1 << 16


def nearest_centre_map(
    centres: FloatArray, units: FloatArray, frame: Frame, terms: int, n_terms: int
) -> ScoreMap:
    """Score map whose best component is the centre nearest in the given units.

    -|t (x - c)|^2 / 2 without its part common to all centres, on the features of a structure, of which it
    uses the linear ones; with terms = NO_TERMS as projected scores.
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
        root_shape=SCALAR, root=None, centre=None, constant=None,
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


def assign(data: ArrayData, centres: FloatArray, frame: Frame, n_threads: int) -> tuple[FloatArray, float]:
    """One of Lloyd's steps: means of the rows nearest to each centre, and the sum of the best scores.

    Distances are in units of the frame. Empty clusters keep their centre. The sum of squares is that of |z|^2
    over the rows minus twice the sum of the best scores.
    """
    sweep = Pass(data.X, data.sample_weight, frame, centres.shape[0])
    sweep.score(nearest_centre_map(centres, frame.scale, frame, LINEAR, data.n_features), hard=True)
    sweep.accumulate(LINEAR, data.n_features, True, None, None, SCALAR, False, False)
    sums = sweep.run(n_threads)
    filled = sums["weight"] > 0
    centres = centres.copy()
    centres[filled] = frame.shift + sums["terms"][filled] / sums["weight"][filled, None] / frame.scale
    return centres, float(sums["head"][LOG_LIKELIHOOD])


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


def lloyd(
    data: ArrayData,
    centres: FloatArray,
    frame: Frame,
    n_steps: int,
    n_threads: int,
    sum_of_squares: float | None = None,
) -> FloatArray:
    """Lloyd's iterations, over-relaxed, from given centres (user units), distances in the units of the frame.

    With sum_of_squares, that of w |z|^2 over the rows (z in the frame), it ends when steps no longer pay. The
    last step goes to the means themselves. Returns the centres.
    """
    previous = np.inf
    for step in range(n_steps):
        means, score = assign(data, centres, frame, n_threads)
        done = step == n_steps - 1
        if sum_of_squares is not None:
            inertia = sum_of_squares - 2.0 * score
            done = done or not previous - inertia > LLOYD_TOLERANCE * abs(inertia)
            previous = inertia
        if done:
            return means
        centres = centres + RELAXATION * (means - centres)
    return centres


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
