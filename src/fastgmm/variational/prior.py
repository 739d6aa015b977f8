"""Priors of a Bayesian mixture."""

from __future__ import annotations

from typing import Final, NamedTuple

from .._typing import FloatArray

PROCESS: Final = "dirichlet_process"
DISTRIBUTION: Final = "dirichlet_distribution"


class Prior(NamedTuple):
    """Priors of weights, means and precisions; the same for all components.

    Weights are Dirichlet, or sticks broken by Beta(1, weight_concentration) variables one after the other. A
    precision is Wishart of `degrees_of_freedom` and the scale matrix inverse(covariance); a mean, given the
    precision, is normal about `mean` with `mean_precision` times that precision (Bishop 2006, 10.39 to
    10.41; Blei and Jordan 2006 for the process).

    Attributes
    ----------
    kind : PROCESS or DISTRIBUTION
    weight_concentration, mean_precision : float
        Both count rows: as many as the prior weighs.
    mean : ndarray of shape (D,)
    degrees_of_freedom : float, more than D - 1
    covariance : ndarray of shape (D, D) for full and tied, (D,) for diag, () for spherical
        In squared user units; the diagonal, or the one number on it, where that is all that is kept.
    """

    kind: str
    weight_concentration: float
    mean_precision: float
    mean: FloatArray
    degrees_of_freedom: float
    covariance: FloatArray
