"""What happens to components that cannot be used: they are given something to do, or a floor to stand on.

A component is touched only when its covariance has no Cholesky factor even after its moments were taken about
its own mean, or when it has lost its rows (structures/base.py). Everything that scikit-learn survives is left
alone.
"""

from __future__ import annotations

import numpy as np

from ._typing import FloatArray, LabelArray
from .exceptions import DegenerateComponentError
from .frame import Frame
from .parameters import Parameters
from .structures import Estimate, Structure

# Variance of a floored direction, as a share of the data's variance per feature (frame units).
FLOOR = 1e-12
# A component that collapses this often is floored instead of being seeded again, so that every fit ends.
LARGEST_RESEEDS = 3


def keep_weightless(estimate: Estimate, previous: Parameters, structure: Structure) -> Estimate:
    """Components whose weight was 0 already are legal: they stay as they are and count as healthy."""
    idle = estimate.starved & (previous.weights == 0.0)
    if not idle.any():
        return estimate
    new = estimate.parameters
    new.means[idle] = previous.means[idle]
    if not structure.pooled:
        new.covariances[idle] = previous.covariances[idle]
        new.precisions_cholesky[idle] = previous.precisions_cholesky[idle]
    singular = estimate.singular if structure.pooled else estimate.singular & ~idle
    return Estimate(new, estimate.starved & ~idle, singular)


def repair(
    estimate: Estimate,
    structure: Structure,
    frame: Frame,
    how: str,
    n_reseeds: LabelArray,
    previous: Parameters | None,
) -> Parameters:
    """Parameters with every degenerate component replaced ("reseed") or floored ("floor").

    Reseeding splits the heaviest healthy component along its longest axis, half a standard deviation either
    way; n_reseeds (K,) counts how often each component was reseeded, and is updated.
    """
    bad = estimate.degenerate
    if how == "raise":
        what = ", ".join(
            f"{k} ({'no rows left' if estimate.starved[k] else 'singular covariance'})"
            for k in np.flatnonzero(bad)
        )
        raise DegenerateComponentError(
            f"component(s) {what} degenerated; increase reg_covar, lower n_components, or choose "
            'repair="reseed" or repair="floor"'
        )
    new = estimate.parameters
    weights, means = new.weights.copy(), new.means.copy()
    covariances = new.covariances.copy()
    if structure.pooled:
        if estimate.singular.any():
            covariances = floored(covariances[None], structure, frame)[0]
    else:
        floor = estimate.singular & ~estimate.starved
        if floor.any():
            covariances[floor] = floored(covariances[floor], structure, frame)
    starved = np.flatnonzero(estimate.starved)
    if previous is not None:  # what has no rows has no moments either: the last ones stand in
        means[starved] = previous.means[starved]
        if not structure.pooled:
            covariances[starved] = previous.covariances[starved]
    else:
        means[starved] = frame.shift
        if not structure.pooled:
            covariances[starved] = _of_variances(np.tile(1.0 / frame.scale**2, (starved.size, 1)), structure)
    new = structure.from_covariances(weights, means, covariances)
    if how == "floor":
        return new
    for k in np.flatnonzero(estimate.starved if structure.pooled else bad):
        donors = ~bad & (new.weights > 0)
        if n_reseeds[k] >= LARGEST_RESEEDS or not donors.any():
            continue
        n_reseeds[k] += 1
        new = split(new, structure, int(np.argmax(np.where(donors, new.weights, -1.0))), int(k))
    return new


def split(parameters: Parameters, structure: Structure, donor: int, target: int) -> Parameters:
    """Give `target` half of `donor`: same covariance, means half a standard deviation to either side."""
    weights, means, covariances, roots = (a.copy() for a in parameters)
    share = weights[donor] / 2
    weights[target] = weights[donor] = share
    step = 0.5 * longest_axis(parameters, structure, donor)
    centre = means[donor].copy()
    means[donor] = centre - step
    means[target] = centre + step
    if not structure.pooled:
        covariances[target] = covariances[donor]
        roots[target] = roots[donor]
    total = weights.sum()
    return Parameters(weights / total, means, covariances, roots)


def longest_axis(parameters: Parameters, structure: Structure, k: int) -> FloatArray:
    """Standard deviation times direction of the longest axis of a component, (D,)."""
    D = parameters.means.shape[1]
    covariance = parameters.covariances if structure.pooled else parameters.covariances[k]
    if covariance.ndim == 2:
        spread = np.sqrt(np.diagonal(covariance))
        values, vectors = np.linalg.eigh(covariance / spread[:, None] / spread)
        axis = vectors[:, -1] * np.sqrt(values[-1]) * spread
        return axis if axis[np.argmax(np.abs(axis))] > 0 else -axis
    variances = np.broadcast_to(covariance, (D,))
    axis = np.zeros(D)
    i = int(np.argmax(variances))
    axis[i] = np.sqrt(variances[i])
    return axis


def floored(covariances: FloatArray, structure: Structure, frame: Frame) -> FloatArray:
    """Covariances raised to FLOOR of the data's variances and to correlations of condition 1 / FLOOR."""
    scale2 = frame.scale**2
    if structure.name == "spherical":
        value = covariances * scale2[0]
        return np.maximum(np.where(np.isfinite(value), value, 0.0), FLOOR) / scale2[0]
    if structure.name == "diag":
        value = covariances * scale2
        return np.maximum(np.where(np.isfinite(value), value, 0.0), FLOOR) / scale2
    # In units of its own standard deviations, none below the floor, a covariance cannot overflow.
    out = np.empty(covariances.shape)
    for k, covariance in enumerate(covariances):
        variance = np.diagonal(covariance)
        usable = np.isfinite(variance) & (variance > 0)
        spread = np.maximum(np.sqrt(np.where(usable, variance, 0.0)), np.sqrt(FLOOR) / frame.scale)
        correlation = covariance / spread[:, None] / spread
        correlation = np.where(np.isfinite(correlation), correlation, 0.0)
        np.fill_diagonal(correlation, 1.0)
        values, vectors = np.linalg.eigh((correlation + correlation.T) / 2)
        raised = (vectors * np.maximum(values, FLOOR * values[-1])) @ vectors.T
        out[k] = (raised + raised.T) / 2 * spread[:, None] * spread
    return out


def _of_variances(variances: FloatArray, structure: Structure) -> FloatArray:
    """Covariances in the structure's shape with these variances (m, D)."""
    if structure.name == "spherical":
        return variances.mean(axis=1)
    if structure.name == "diag":
        return variances
    return variances[:, :, None] * np.eye(variances.shape[1])
