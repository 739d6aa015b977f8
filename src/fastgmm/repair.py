"""What happens to components that cannot be used: they are given something to do, or a floor to stand on.

A component is touched only when its covariance has no Cholesky factor even after its moments were taken about
its own mean, or when it has lost its rows (structures/base.py). Everything that scikit-learn survives is left
alone.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ._typing import BoolArray, LabelArray
from .exceptions import DegenerateComponentError
from .frame import Frame
from .parameters import Parameters
from .structures import Estimate, Structure

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


class Repairs:
    """Repairs of one run: of which components, how often each was reseeded, which stand on a floor."""

    def __init__(self, n_components: int) -> None:
        self.n_reseeds = np.zeros(n_components, dtype=np.int64)
        self.floored = np.zeros(n_components, dtype=bool)
        self.repaired: set[int] = set()
        self.n_repairs = 0

    def apply(
        self,
        estimate: Estimate,
        structure: Structure,
        frame: Frame,
        how: str,
        previous: Parameters | None,
    ) -> tuple[Parameters, int]:
        """Parameters that can be used, and how many components were repaired that had not been before."""
        bad = estimate.degenerate
        if not bad.any():
            self.floored[:] = False
            return estimate.parameters, 0
        parameters, reseeded = repair(estimate, structure, frame, how, self.n_reseeds, previous)
        # a component that stands on its floor already is not repaired again and again
        new = bad & (reseeded | ~self.floored)
        self.floored = bad & ~reseeded
        self.repaired.update(np.flatnonzero(new).tolist())
        n_new = int(np.count_nonzero(new))
        self.n_repairs += n_new
        return parameters, n_new


def repair_message(n_repairs: int, repaired: Iterable[int], how: str) -> str:
    """What a RepairWarning says."""
    names = ", ".join(map(str, repaired))
    return (
        f"{n_repairs} repair(s) of collapsed components (repair={how!r}); components: {names}. Their "
        "covariance was singular or too few rows were left to them. Try fewer components, a larger "
        "reg_covar (or covariance of the prior, where there is one), or drop constant and duplicate columns."
    )


def repair(
    estimate: Estimate,
    structure: Structure,
    frame: Frame,
    how: str,
    n_reseeds: LabelArray,
    previous: Parameters | None,
) -> tuple[Parameters, BoolArray]:
    """Parameters with degenerate components replaced ("reseed") or floored ("floor"); which were reseeded.

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
    weights, means, covariances, roots = (a.copy() for a in estimate.parameters)
    starved = np.flatnonzero(estimate.starved)
    # what has no rows has no moments either: the last ones stand in, or the data's
    means[starved] = frame.shift if previous is None else previous.means[starved]
    if structure.pooled:
        if estimate.singular.any():
            covariances = structure.floored(covariances, frame)
            roots = structure.from_covariances(weights, means, covariances).precisions_cholesky
    else:
        if previous is None:
            variances = np.tile(1.0 / frame.scale**2, (starved.size, 1))
            covariances[starved] = structure.from_variances(variances)
        else:
            covariances[starved] = previous.covariances[starved]
        covariances[bad] = structure.floored(covariances[bad], frame)
        mended = structure.from_covariances(weights[bad], means[bad], covariances[bad])
        roots[bad] = mended.precisions_cholesky
    new = Parameters(weights, means, covariances, roots)
    reseeded = np.zeros(bad.size, dtype=bool)
    if how == "reseed":
        for k in np.flatnonzero(estimate.starved if structure.pooled else bad):
            donors = (reseeded | ~bad) & (new.weights > 0)
            if n_reseeds[k] >= LARGEST_RESEEDS or not donors.any():
                continue
            n_reseeds[k] += 1
            new = split(new, structure, int(np.argmax(np.where(donors, new.weights, -1.0))), int(k))
            reseeded[k] = True
    return new, reseeded


def split(parameters: Parameters, structure: Structure, donor: int, target: int) -> Parameters:
    """Give `target` half of `donor`: same covariance, means half a standard deviation to either side."""
    weights, means, covariances, roots = (a.copy() for a in parameters)
    share = weights[donor] / 2
    weights[target] = weights[donor] = share
    step = 0.5 * structure.longest_axis(parameters, donor)
    centre = means[donor].copy()
    means[donor] = centre - step
    means[target] = centre + step
    if not structure.pooled:
        covariances[target] = covariances[donor]
        roots[target] = roots[donor]
    total = weights.sum()
    return Parameters(weights / total, means, covariances, roots)
