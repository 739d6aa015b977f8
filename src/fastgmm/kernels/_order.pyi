import numpy as np
from numpy.typing import NDArray

from .._typing import FloatArray

def sorted_positions(
    keys: NDArray[np.int32], density: NDArray[np.float32], n_components: int, n_threads: int
) -> NDArray[np.uint32]: ...
def inherited_bounds(
    distance: NDArray[np.float32], positions: NDArray[np.uint32], rows: int, n_threads: int
) -> NDArray[np.float32]: ...
def inherited_least(least: FloatArray, positions: NDArray[np.uint32], rows: int) -> FloatArray: ...
def mark_near(
    distance: NDArray[np.float32],
    keys: NDArray[np.int32],
    positions: NDArray[np.uint32],
    block_rows: int,
    n_threads: int,
) -> None: ...
def block_balls(
    X: NDArray[np.float64] | NDArray[np.float32],
    order: NDArray[np.uint32],
    shift: FloatArray,
    scale: FloatArray,
    block_rows: int,
    n_threads: int,
) -> tuple[FloatArray, FloatArray]: ...
