"""Types of arrays and of options, for annotations."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
LabelArray = NDArray[np.int64]
IndexArray = NDArray[np.intp]
OrderArray = NDArray[np.uint32]  # row numbers
RowArray = NDArray[Any]  # rows as the user keeps them: float64 or float32

# Options of the constructors: a misspelt one is an error to type checkers. `_parameter_constraints` have the
# same strings, for the running program.
CovarianceType = Literal["full", "tied", "diag", "spherical"]
InitParams = Literal["kmeans", "k-means++", "random", "random_from_data"]
Repair = Literal["reseed", "floor", "raise"]
Acceleration = Literal["anderson"]
WeightPrior = Literal["dirichlet_process", "dirichlet_distribution"]
Arithmetic = Literal["float64", "float32"]
