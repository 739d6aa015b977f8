"""Passes that skip what provably does not matter: rows in the order of their components, bounds per block.

docs/pruning.md has the statement and its proof; kernels/tiles_prune.h applies it to a block. Here is what a
fit keeps between its passes: the order of the rows, bounds on the distance between each block and component,
and the parameters these belong to; and the rules that say when it pays.
"""

from __future__ import annotations

from math import ceil
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ._typing import FloatArray
from .blocks import ArrayData, Sizes
from .frame import Frame
from .kernels._order import inherited_bounds, inherited_least, mark_near, sorted_positions
from .kernels._pass import BLOCK_STEP, MATRIX, Pass, plan
from .parameters import Parameters
from .score_map import ScoreMap
from .statistics import Statistics
from .structures import STRUCTURES, Structure
from .structures.base import STARVED_SHARE

# What is skipped changes no weight, mean or covariance of a component by more than exp(-33) = 4.7e-15 of it.
NEGLIGIBLE = 33.0
# In single precision by more than exp(-24) = 3.8e-11 of it, a thousandth of what rounding does to each row.
NEGLIGIBLE_IN_SINGLE = 24.0
# A component that loses this share of its weight in one pass may miss digits: the pass is done again in full.
LARGEST_LOSS = 1e-3
# Bounds take at most this share of the memory of the rows.
LARGEST_SHARE = 0.05
# With fewer blocks there is nothing to sort. Bounds that blocks share are one thread's work each.
FEWEST_BLOCKS, FEWEST_SHARED = 8, 64
# The drift of full covariances takes some 5 D^3 multiplications a component, a pass D^2 a row.
FEWEST_PER_FEATURE = 50
# A pass that needs more than this share of all pairs is not worth its order: the next ones are dense. First,
# while parameters drift far and bounds with them, so many passes may need more, but not all.
DENSE_FROM, PATIENCE, HOPELESS = 0.9, 3, 0.995
# So many dense passes follow then; next time twice as many, and so on.
FIRST_REST = 32
# Rows are put in order anew after so many passes, and then each time so many times as many. Blocks then know
# only what all the blocks their rows come from had in common, so the pass that follows is nearly dense.
FIRST_SORT, NEXT_SORT = 2, 4
# Sorting a row takes about as long as so many multiplications; a score takes as long as SCORE_TERMS more than
# its features.
SORT_TERMS, SCORE_TERMS, SHARED_TERMS = 1000, 8, 4

_choice = "auto"
_blocks_per_bound: int | None = None


def set_pruning_choice(choice: str) -> None:
    """Prune wherever it can be done ("always"), nowhere ("never"), or where it pays ("auto"); for tests."""
    global _choice
    if choice not in ("auto", "always", "never"):
        raise ValueError(f"choice must be 'auto', 'always' or 'never', not {choice!r}")
    _choice = choice


def set_blocks_per_bound(n_blocks: int | None) -> None:
    """So many, or as many as it takes; for tests."""
    global _blocks_per_bound
    _blocks_per_bound = n_blocks


def lost_too_much(statistics: Statistics, parameters: Parameters, negligible: float = NEGLIGIBLE) -> bool:
    """Whether what a pruned pass skipped may matter to a component that has lost almost all of its weight.

    What is skipped of a component is at most exp(-negligible) of its weight under the last parameters. Those
    that have so little left that they count as starved do so whether or not that is added.
    """
    total = statistics.weight.sum()
    before = parameters.weights * total
    alive = statistics.weight + before * np.exp(-negligible) >= STARVED_SHARE * total
    return bool((alive & (statistics.weight < LARGEST_LOSS * before)).any())


def n_active(statistics: Statistics, n_components: int) -> float:
    """Components scored per block of rows in a pass; infinite where it skipped hardly any."""
    share = statistics.pairs / (statistics.pairs + statistics.pairs_skipped)
    return n_components * share if share <= DENSE_FROM else np.inf


def blocks_per_bound(sizes: Sizes, n_components: int, block_rows: int) -> int:
    """Blocks that share bounds on their distances from all components: as few as memory allows."""
    if _blocks_per_bound is not None:
        return _blocks_per_bound
    return ceil(4 * n_components / (LARGEST_SHARE * block_rows * sizes.row_bytes))


class Keys(NamedTuple):
    """What rows are sorted by, at each position: K * best + second best component, log density."""

    components: NDArray[np.int32]
    densities: NDArray[np.float32]


class Bounds(NamedTuple):
    """What a pruned pass is given (kernels/job.h): distance and least are read and written."""

    order: NDArray[np.uint32]
    distance: NDArray[np.float32]
    least: FloatArray
    drift_shift: FloatArray
    drift_factor: FloatArray
    margin: FloatArray
    block_rows: int
    keys: Keys | None
    blocks_per_bound: int = 1

    def apply_to(self, sweep: Pass) -> None:
        """Have a pass visit the rows in this order, skip what it may, and write keys if they are wanted."""
        sweep.in_order(self.order)
        sweep.prune(
            self.distance,
            self.least,
            self.drift_shift,
            self.drift_factor,
            self.margin,
            self.block_rows,
            self.blocks_per_bound,
        )
        if self.keys is not None:
            sweep.write(keys=self.keys.components, key_densities=self.keys.densities)


class BlockBounds:
    """An order of the rows, bounds of its blocks, and when both are given up: what pruned passes share."""

    def __init__(
        self,
        sizes: Sizes,
        frame: Frame,
        n_components: int,
        block_rows: int,
        n_threads: int,
        blocks_per_bound: int = 1,
    ) -> None:
        self.sizes, self.frame = sizes, frame
        self.n_components, self.n_threads = n_components, n_threads
        self.always = _choice == "always"
        # blocks as small as they come: small problems have a few of them
        self.block_rows = BLOCK_STEP if self.always else block_rows
        self.n_blocks = -(-sizes.n_positive // self.block_rows)
        self.blocks_per_bound = blocks_per_bound
        self.rows_per_bound = self.block_rows * blocks_per_bound
        self.n_bounds = -(-self.n_blocks // blocks_per_bound)
        self.n_pairs = self.n_blocks * n_components
        self.order: NDArray[np.uint32] | None = None
        self.distance: NDArray[np.float32] | None = None
        self.least: FloatArray | None = None
        self.rest = 0  # dense passes to come
        self.next_rest = FIRST_REST
        self.n_passes, self.next_sort = 0, FIRST_SORT  # since the rows were first put in order
        self.sorted_again = False  # for this pass
        self.keys: Keys | None = None

    def possible_if(self, pays: bool) -> bool:
        """Whether to prune at all: where it can be done, is not forbidden, and pays or is asked for."""
        share = 4 * self.n_components <= LARGEST_SHARE * self.rows_per_bound * self.sizes.row_bytes
        fewest = FEWEST_BLOCKS if self.blocks_per_bound == 1 else FEWEST_SHARED
        pays = pays and share and self.n_bounds >= fewest
        # rows are numbered, and pairs of components, in 32 bits
        can = self.sizes.n_rows < 2**32 and self.n_components**2 < 2**31
        return can and _choice != "never" and (pays or self.always)

    def learn(self, pairs: float) -> None:
        """How many pairs of block and component a pass with these bounds scored."""
        share = pairs / self.n_pairs
        most = DENSE_FROM if self.n_passes >= PATIENCE else HOPELESS
        judged = self.n_passes > 0 and not self.sorted_again and not self.always
        if judged and share > most:
            self.rest, self.next_rest = self.next_rest, 2 * self.next_rest
            self.order = self.distance = self.least = self.keys = None
            self.n_passes, self.next_sort = 0, FIRST_SORT
            return
        self.n_passes += 1
        self.sorted_again = False

    def forget(self) -> None:
        """Know nothing about any block: the next pass scores every pair."""
        if self.distance is not None:
            self.distance[:] = 0.0

    @property
    def bytes_kept(self) -> int:
        """Memory that is kept between passes, about."""
        return 4 * self.sizes.n_positive + 4 * self.n_bounds * self.n_components + 8 * self.n_blocks

    def settle(self) -> None:
        """Put rows in the order of the next pass now: what it is made from takes more memory than itself."""
        if self.keys is not None:
            self.sort_again()

    def new_keys(self) -> Keys:
        n = self.sizes.n_positive
        return Keys(np.empty(n, dtype=np.int32), np.empty(n, dtype=np.float32))

    def sort(self, keys: Keys, data: ArrayData) -> None:
        """Put rows in order by keys that those of positive weight got as they lie; forget about blocks."""
        rows, positions = data.positive_rows(), self._sorted(keys)
        self.order = positions if rows is None else rows[positions]
        self.distance = np.full((self.n_bounds, self.n_components), -0.0, dtype=np.float32)
        mark_near(self.distance, keys.components, positions, self.rows_per_bound, self.n_threads)
        self.least = np.full(self.n_blocks, -np.inf)

    def sort_again(self) -> None:
        """By keys of the last pass; blocks know what all those had in common that their rows come from."""
        assert self.keys is not None
        assert self.order is not None
        assert self.distance is not None
        assert self.least is not None
        positions, components = self._sorted(self.keys), self.keys.components
        self.keys = None
        self.sorted_again = True
        self.next_sort *= NEXT_SORT
        self.order = self.order[positions]
        self.least = inherited_least(self.least, positions, self.block_rows)
        self.distance = inherited_bounds(self.distance, positions, self.rows_per_bound, self.n_threads)
        mark_near(self.distance, components, positions, self.rows_per_bound, self.n_threads)

    def _sorted(self, keys: Keys) -> NDArray[np.uint32]:
        return sorted_positions(keys.components, keys.densities, self.n_components, self.n_threads)


class Pruning(BlockBounds):
    """State of the pruned passes of one fit."""

    def __init__(
        self,
        sizes: Sizes,
        structure: Structure,
        frame: Frame,
        n_components: int,
        n_threads: int,
        in_single: bool = False,
    ) -> None:
        D = sizes.n_features
        n_terms = structure.n_terms(D)
        real_bytes = 4 if in_single else 8
        block_rows = plan(sizes.n_positive, n_components, D, n_terms, 1, real_bytes=real_bytes)[0]
        shared = blocks_per_bound(sizes, n_components, block_rows)
        super().__init__(sizes, frame, n_components, block_rows, n_threads, shared)
        self.structure = structure
        self.negligible = NEGLIGIBLE_IN_SINGLE if in_single else NEGLIGIBLE
        self.parameters: Parameters | None = None  # that the bounds belong to
        # what a score of tied covariances has in common with the others of its row is computed in any case
        shared_terms = SHARED_TERMS * D**2 if structure.pooled else 0
        rows_per_feature = sizes.n_positive / D
        self.possible = self.possible_if(
            n_components * (n_terms + SCORE_TERMS) - shared_terms >= SORT_TERMS
            and (
                structure.pooled or structure.moment_shape != MATRIX or rows_per_feature >= FEWEST_PER_FEATURE
            )
        )

    def bounds(self, parameters: Parameters, data: ArrayData) -> Bounds | None:
        """For a pass over the data under these parameters; None for a dense one, rows as they lie."""
        if not self.possible:
            return None
        if self.rest:
            self.rest -= 1
            return None
        K = self.n_components
        if self.order is None:
            self._sort_at_first(parameters, data)
        elif self.keys is not None:
            self.sort_again()
        assert self.distance is not None
        assert self.least is not None
        assert self.order is not None
        if self.parameters is None or self.parameters is parameters:
            shift, factor = np.zeros(K), np.ones(K)
        else:
            with np.errstate(all="ignore"):
                shift, stretch = self.structure.drift(self.parameters, parameters, self.n_threads)
                factor = 1.0 / stretch
        self.parameters = parameters
        with np.errstate(divide="ignore"):
            margin = self.negligible - np.log(parameters.weights)
        margin[parameters.weights == 0.0] = 0.0  # whose scores are -inf
        if self.n_passes + 1 == self.next_sort:  # this pass tells what the next one's order is
            self.keys = self.new_keys()
        return Bounds(
            self.order, self.distance, self.least, shift, factor, margin, self.block_rows, self.keys,
            self.blocks_per_bound,
        )  # fmt: skip

    def _sort_at_first(self, parameters: Parameters, data: ArrayData) -> None:
        """By the most likely component if all had their mean covariance, at D terms a score."""
        sweep = Pass(data.X, data.sample_weight, self.frame, self.n_components)
        rows = data.positive_rows()
        if rows is not None:
            sweep.in_order(rows)
        sweep.score(self._linear_map(parameters), hard=True)
        keys = self.new_keys()
        sweep.write(keys=keys.components, key_densities=keys.densities)
        sweep.run(self.n_threads)
        self.sort(keys, data)
        self.parameters = None

    def _linear_map(self, parameters: Parameters) -> ScoreMap:
        weights, means, _, _ = parameters
        tied = STRUCTURES["tied"]
        pooled = self.structure.pooled_covariance(parameters)
        try:
            shared = tied.from_covariances(weights, means, pooled)
        except ValueError:  # singular to working precision, though no component is: its variances will do
            shared = tied.from_covariances(weights, means, np.diag(np.diagonal(pooled)))
        m = tied.score_map(shared, self.frame, self.n_threads)
        m.bound = m.bound_offset = m.common_root = None
        return m
