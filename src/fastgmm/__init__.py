"""Gaussian mixture models, fast.

`GaussianMixture` is scikit-learn's estimator of that name with the same map from start to result, computed in
one fused pass over the rows. Data flows one way::

    rows -> blocks -> pass: score, normalise, accumulate -> statistics -> estimate -> parameters -> pass ...

A block of rows is scored against every component, normalised to responsibilities and accumulated into
moments while it is in cache; nothing with rows x components numbers is stored unless a caller asks for it.
Kernels (`fastgmm.kernels`) know no Python objects, the loop (`fastgmm.em`) knows no covariance type, the
estimators hold no mathematics, and statistics are all that passes between blocks and threads.

Pages that docstrings name, such as docs/big_data.md, are at https://github.com/fastgmm/fastgmm/tree/main/docs.
"""

from __future__ import annotations

from importlib.metadata import version as _version

from ._config import show_config
from .bayesian_mixture import BayesianGaussianMixture
from .conjugate_prior import ConjugatePrior
from .exceptions import (
    CriterionWarning,
    DegenerateComponentError,
    RegularizationWarning,
    RepairWarning,
    UnfinishedSearchWarning,
)
from .gaussian_mixture import GaussianMixture
from .mini_batch import MiniBatchGaussianMixture
from .scorer import Scorer
from .sources import BlockRows, NpyRows, ParquetRows
from .statistics import Statistics

__version__ = _version("fastgmm")

__all__ = [
    "BayesianGaussianMixture",
    "GaussianMixture",
    "MiniBatchGaussianMixture",
    "ConjugatePrior",
    "Scorer",
    "BlockRows",
    "NpyRows",
    "ParquetRows",
    "Statistics",
    "show_config",
    "RepairWarning",
    "UnfinishedSearchWarning",
    "RegularizationWarning",
    "CriterionWarning",
    "DegenerateComponentError",
    "__version__",
]
