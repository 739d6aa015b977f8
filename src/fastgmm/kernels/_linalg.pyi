import numpy as np
from numpy.typing import NDArray

from .._typing import FloatArray

def precision_roots(
    covariances: FloatArray, roots: FloatArray, failed: NDArray[np.intc], n_threads: int
) -> None: ...
def natural_parameters(
    roots: FloatArray,
    means: FloatArray,
    scale: FloatArray,
    constants: FloatArray,
    coef: FloatArray,
    offset: FloatArray,
    bound: FloatArray,
    bound_offset: FloatArray,
    frame_roots: FloatArray,
    n_threads: int,
) -> None: ...
def ratio_norms(old: FloatArray, new: FloatArray, norms: FloatArray, scratch: FloatArray) -> None: ...
def mirror(matrices: FloatArray) -> None: ...
