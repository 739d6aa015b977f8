"""Covariances of few rows."""

from __future__ import annotations

import numpy as np

from ._typing import FloatArray


def drawn_to_their_mean(weights: FloatArray, covariances: FloatArray, n_rows: FloatArray) -> FloatArray:
    """Covariances of a mixture as if each were also of some rows that have the mean covariance.

    As many are added as would determine one: D rows of a matrix of D x D numbers, a single one of D variances
    or of one. What is made of few rows is then neither singular nor narrow by chance.

    Parameters
    ----------
    weights : (K,), of the components in their mean
    covariances : (K, ...), one for each component
    n_rows : (K,), rows that each was made of
    """
    own = covariances[0]
    added = own.size / own.shape[0] if own.ndim else 1.0
    mean = np.tensordot(weights, covariances, axes=1)
    n = n_rows.reshape(-1, *(1,) * own.ndim)
    drawn: FloatArray = (n * covariances + added * mean) / (n + added)
    return drawn
