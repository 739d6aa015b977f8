"""What kernels give per row and in sum, straight from structure and parameters."""

from __future__ import annotations

import numpy as np

from fastgmm import rows
from fastgmm.scorer import Scorer


def log_prob_components(X, structure, parameters, n_threads):
    """log N(x_n | mean_k, covariance_k), (N, K), without the weights."""
    unweighted = parameters._replace(weights=np.ones(parameters.weights.shape))
    return Scorer(structure, unweighted, n_threads).scores(X)


def summary(data, structure, parameters, n_threads):
    """Weighted sums over rows."""
    return rows.summary(data, Scorer(structure, parameters, n_threads))
