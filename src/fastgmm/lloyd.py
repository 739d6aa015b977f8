"""k-means on the same pass: responsibilities all to the nearest centre, and only centres that may be it.

docs/pruning.md says why nothing is lost. In short: a centre is skipped for a block of rows where each has
a nearer one for sure.
"""

from __future__ import annotations

import numpy as np

from ._typing import FloatArray
from .blocks import ArrayData
from .frame import Frame
from .kernels._order import block_balls
from .kernels._pass import LINEAR, LOG_LIKELIHOOD, PAIRS, SCALAR, Pass, plan
from .kmeans import nearest_centre_map
from .pruning import SCORE_TERMS, SORT_TERMS, BlockBounds, Bounds, Keys, blocks_per_bound
from .score_map import EPSILON
from .structures.base import whitened_shift

# Steps on a sub-sample: EM goes on from there, and the last few digits of k-means are not worth its time.
SAMPLE_STEPS = 12
# A step that lowers the sum of squares by less than this share is the last.
LLOYD_TOLERANCE = 1e-3
# Centres go this many times as far as to the mean of their rows: near convergence steps shrink by a constant
# factor, and going further than each asks for saves half of them. Beyond 2 the sum of squares could grow.
RELAXATION = 1.8
# Passes in order must have so many times as much to save as sorting takes.
PASSES_PER_SORT = 6
# Bounds of rows of more clusters than this, on average, are near to too many centres.
MOST_CLUSTERS = 2
# Distances are rounded outward by far more than their errors (kernels/tiles_prune.h).
OUTWARD = 2.0**-20
# Bounds whose distances from all centres are taken at a time.
BLOCKS_AT_ONCE = 1024


class NearestPruning(BlockBounds):
    """State of k-means' passes over the same rows, distances in the units of a frame.

    The first pass is dense and puts the rows in order of their nearest centres. From then on a block has
    bounds on its distances from all centres: those of the ball about its rows at first, those it saw
    afterwards.
    """

    def __init__(self, data: ArrayData, frame: Frame, n_centres: int, n_passes: int, n_threads: int) -> None:
        D = data.n_features
        block_rows = plan(data.n_positive, n_centres, D, D, 1)[0]
        shared = blocks_per_bound(data.sizes, n_centres, block_rows)
        super().__init__(data.sizes, frame, n_centres, block_rows, n_threads, shared)
        self.data = data
        self.centres: FloatArray | None = None  # that the bounds belong to
        self.next_sort = 0  # never again: a few passes do not repay it
        # of the passes, the first is not in order
        saved = n_centres * (D + SCORE_TERMS) * (n_passes - 1)
        self.possible = self.possible_if(
            saved >= PASSES_PER_SORT * SORT_TERMS
            and data.n_positive * MOST_CLUSTERS >= n_centres * self.rows_per_bound
        )

    def bounds(self, centres: FloatArray) -> Bounds | None:
        """For a pass with these centres; None for a dense one, rows as they lie."""
        if self.order is None:
            return None
        assert self.distance is not None
        assert self.least is not None
        assert self.centres is not None
        units = np.broadcast_to(self.frame.scale, centres.shape)
        shift = whitened_shift(self.centres, centres, units)
        self.centres = centres
        K = self.n_components
        return Bounds(
            self.order, self.distance, self.least, shift, np.ones(K), np.zeros(K), self.block_rows, None,
            self.blocks_per_bound,
        )  # fmt: skip

    def first_keys(self) -> Keys | None:
        """For a dense pass to write what the order is, if it is wanted."""
        if self.rest:
            self.rest -= 1
            return None
        return self.new_keys() if self.possible and self.order is None else None

    def sort_by(self, keys: Keys, centres: FloatArray) -> None:
        """Put rows in order by keys made with these centres; bounds from the balls about their rows."""
        self.sort(keys, self.data)
        assert self.order is not None
        assert self.distance is not None
        assert self.least is not None
        balls, radii = block_balls(
            self.data.X, self.order, self.frame.shift, self.frame.scale, self.rows_per_bound, self.n_threads
        )
        points = self.frame.to_frame(centres)
        reach = np.sqrt((points * points).sum(axis=1))
        rounding = (self.data.n_features + 8) * EPSILON
        for first in range(0, self.n_bounds, BLOCKS_AT_ONCE):
            part = slice(first, first + BLOCKS_AT_ONCE)
            blocks = slice(first * self.blocks_per_bound, (first + BLOCKS_AT_ONCE) * self.blocks_per_bound)
            far = np.sqrt((balls[part] ** 2).sum(axis=1))[:, None]
            square = far**2 + reach**2 - 2.0 * (balls[part] @ points.T)
            error = rounding * (far + reach) ** 2
            radius = radii[part, None] * (1.0 + OUTWARD)
            nearest = np.sqrt(np.maximum(square - error, 0.0)) * (1.0 - OUTWARD) - radius
            self.distance[part] = np.maximum(nearest, 0.0) * (1.0 - OUTWARD)
            farthest = np.sqrt(np.maximum(square, 0.0) + error).min(axis=1) + radius[:, 0]
            least = np.repeat(-0.5 * farthest**2, self.blocks_per_bound)
            self.least[blocks] = least[: self.least[blocks].size]
        self.centres = centres


def assign(
    data: ArrayData,
    centres: FloatArray,
    frame: Frame,
    n_threads: int,
    pruning: NearestPruning | None = None,
) -> tuple[FloatArray, float]:
    """One of Lloyd's steps: means of the rows nearest to each centre, and the sum of their squared distances.

    Distances are in units of the frame. Empty clusters keep their centre.
    """
    sweep = Pass(data.X, data.sample_weight, frame, centres.shape[0])
    bounds = keys = None
    if pruning is not None:
        bounds = pruning.bounds(centres)
        if bounds is not None:
            bounds.apply_to(sweep)
        else:
            keys = pruning.first_keys()
    if pruning is not None and keys is not None:
        rows = data.positive_rows()
        if rows is not None:
            sweep.in_order(rows)
        sweep.write(keys=keys.components, key_densities=keys.densities)
    sweep.score(nearest_centre_map(centres, frame.scale, frame, LINEAR, data.n_features), hard=True)
    sweep.accumulate(LINEAR, data.n_features, True, None, None, SCALAR, False, False)
    sums = sweep.run(n_threads)
    if pruning is not None and keys is not None:
        pruning.sort_by(keys, centres)
    elif pruning is not None and bounds is not None:
        pruning.learn(float(sums["head"][PAIRS]))
    filled = sums["weight"] > 0
    centres = centres.copy()
    centres[filled] = frame.shift + sums["terms"][filled] / sums["weight"][filled, None] / frame.scale
    return centres, -2.0 * float(sums["head"][LOG_LIKELIHOOD])


def lloyd(
    data: ArrayData,
    centres: FloatArray,
    frame: Frame,
    n_steps: int,
    n_threads: int,
    *,
    while_it_pays: bool = False,
) -> FloatArray:
    """Lloyd's iterations, over-relaxed, from given centres (user units), distances in the units of the frame.

    while_it_pays: it ends when steps no longer pay. The last step goes to the means themselves. Returns the
    centres.
    """
    pruning = NearestPruning(data, frame, centres.shape[0], n_steps, n_threads)
    previous = np.inf
    for step in range(n_steps):
        means, inertia = assign(data, centres, frame, n_threads, pruning)
        done = step == n_steps - 1
        if while_it_pays:
            done = done or not previous - inertia > LLOYD_TOLERANCE * abs(inertia)
            previous = inertia
        if done:
            return means
        centres = centres + RELAXATION * (means - centres)
    return centres
