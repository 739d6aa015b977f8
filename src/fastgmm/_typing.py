"""Array types, for annotations."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
LabelArray = NDArray[np.int64]
IndexArray = NDArray[np.intp]
OrderArray = NDArray[np.uint32]  # row numbers
RowArray = NDArray[Any]  # rows as the user keeps them: float64 or float32
