"""What a prior takes from the rows where nothing is given: their mean and covariance."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from . import em
from ._typing import FloatArray
from .frame import Frame
from .sources import Data
from .structures import STRUCTURES, Structure

# An unbiased covariance is divided by the sum of the weights less one: of hardly more than one row, by noise.
FEWEST_ROWS = 2.0


def mean_and_covariance(
    data: Data, structure: Structure, frame: Frame, options: em.EMOptions, default_of: str | None
) -> tuple[FloatArray, FloatArray]:
    """Weighted mean (D,) and covariance of all rows, as one component of the structure would have it.

    One pass. The covariance is the unbiased one of `sum of weights` rows (numpy.cov, ddof = 1), as
    scikit-learn's prior is; the mean of the variances where there is one number for all features.

    Parameters
    ----------
    data, structure, frame, options
    default_of : the parameter that the covariance is the default of, as messages are to call it. None: only
        the mean is wanted, and the covariance is NaN where there is none

    Raises
    ------
    ValueError
        If the weights sum to less than 2, of which there is no such covariance to speak of.
    """
    total = data.total_weight
    if default_of is not None and not total >= FEWEST_ROWS:
        raise ValueError(
            f"the default {default_of} is the covariance of sum(sample_weight) = {total:.6g} rows, of "
            f"which there must be two or more. Give {default_of}, or weights that count rows."
        )
    one = STRUCTURES["diag" if structure.name in ("diag", "spherical") else "full"]
    options = replace(options, repair="floor", arithmetic="float64", acceleration=None)
    maximiser = em.Maximiser(data, one, frame, options, 1)
    weights, means = np.ones(1), frame.shift[None]
    covariances = one.from_variances(1.0 / frame.scale[None] ** 2)
    broad = one.from_covariances(weights, means, covariances)
    centred = np.ones(1, dtype=bool)
    statistics = maximiser.collect(broad, maximiser.score_map(broad), means, centred)
    _, means, covariances = one.moments(statistics, 0.0)
    covariance = covariances[0] * (total / (total - 1.0) if total > 1.0 else np.nan)
    return means[0], covariance.mean() if structure.name == "spherical" else covariance
