from typing import Any, Final, final

import numpy as np
from numpy.typing import NDArray

from .._typing import FloatArray, LabelArray, RowArray
from ..frame import Frame
from ..score_map import ScoreMap
from ..single import SingleArray, SingleMap

NO_TERMS: Final[int]
LINEAR: Final[int]
SPHERICAL: Final[int]
DIAGONAL: Final[int]
FULL: Final[int]
SCALAR: Final[int]
VECTOR: Final[int]
MATRIX: Final[int]
LOG_LIKELIHOOD: Final[int]
LOG_MAX: Final[int]
WEIGHT: Final[int]
PAIRS: Final[int]
PAIRS_CENTRED: Final[int]
PAIRS_SINGLE: Final[int]
BLOCK_STEP: Final[int]

def available_isas() -> tuple[str, ...]: ...
def current_isa() -> str: ...
def set_isa(name: str) -> None: ...
def kernel_choice() -> str: ...
def set_kernel_choice(choice: str) -> None: ...
def openmp_enabled() -> bool: ...
def max_threads() -> int: ...
def vector_exp(x: FloatArray, single: bool = False) -> FloatArray: ...
def vector_log(x: FloatArray, single: bool = False) -> FloatArray: ...
def plan(
    n_rows: int,
    n_components: int,
    n_features: int,
    n_terms: int,
    accumulator_size: int,
    block_rows: int = 0,
    blocks_at_once: int = 1,
    real_bytes: int = 8,
) -> tuple[int, int, int]: ...

@final
class Workspace: ...

@final
class Pass:
    def __init__(
        self, X: RowArray, row_weight: FloatArray | None, frame: Frame, n_components: int
    ) -> None: ...
    def over(self, X: RowArray, hard: bool = False) -> Pass: ...
    def visit(self, begin: int, end: int) -> None: ...
    def in_order(self, order: NDArray[np.uint32]) -> None: ...
    def prune(
        self,
        distance: NDArray[np.float32],
        least: FloatArray,
        drift_shift: FloatArray,
        drift_factor: FloatArray,
        margin: FloatArray,
        block_rows: int,
        blocks_per_bound: int = 1,
    ) -> None: ...
    def score(self, score_map: ScoreMap, hard: bool = False) -> None: ...
    def in_single(
        self, single_map: SingleMap, about: SingleArray | None, about_low: SingleArray | None
    ) -> None: ...
    def give_responsibilities(self, given: FloatArray) -> None: ...
    def give_labels(self, labels: LabelArray) -> None: ...
    def accumulate(
        self,
        terms: int,
        n_terms: int,
        accumulate_terms: bool,
        slot: NDArray[np.intc] | None,
        about: FloatArray | None,
        moment_shape: int,
        pooled: bool,
        scatter: bool,
    ) -> None: ...
    def write(
        self,
        log_density: FloatArray | None = None,
        labels: LabelArray | None = None,
        responsibilities: FloatArray | None = None,
        scores: FloatArray | None = None,
        keys: NDArray[np.int32] | None = None,
        key_densities: NDArray[np.float32] | None = None,
    ) -> None: ...
    def useful_threads(self, n_threads: int) -> int: ...
    def fill(self, n_threads: int) -> None: ...
    def run(
        self, n_threads: int, workspace: Workspace | None = None
    ) -> dict[str, Any]: ...  # of FloatArray, None where not asked for
