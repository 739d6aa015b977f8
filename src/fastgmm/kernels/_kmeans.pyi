import numpy as np
from numpy.typing import NDArray

from .._typing import FloatArray

def plus_plus(
    rows: NDArray[np.float64] | NDArray[np.float32],
    weight: FloatArray | None,
    first: int,
    uniforms: FloatArray,
) -> NDArray[np.int64]: ...
