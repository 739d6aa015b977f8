"""Variances that are `reg_covar` and little else: what a fit then shows is the option, not the rows.

There are two ways to that. A component may sit on rows that are equal in a feature, or nearly so: the zeros
of a column that has many. Or the unit of a feature may be so large that its variance in all rows is small
beside `reg_covar`: then components cannot tell the rows apart in it.

Variances of features are looked at, not eigenvalues. A covariance that is singular in another direction is
ordinary: columns that sum to one, or fewer rows than features. So are columns that are constant over all
rows: they tell nothing, whatever is added to them. And a component of few rows may have no variance for want
of rows, which no unit mends.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ._typing import FloatArray
from .parameters import Parameters
from .structures import Structure
from .structures.base import SMALLEST_SPREAD

# A component's variance is `reg_covar` and little else up to this many times `reg_covar`.
OF_COMPONENT = 2.0
# So many rows a component has to have for that, by its weight: fewer may be equal by chance, or be one.
FEWEST_ROWS = 10
# The variance of all rows is small beside `reg_covar` below this many times `reg_covar`.
OF_ALL_ROWS = 10.0
# A spread of so many times what rounding makes of equal rows is none.
CONSTANT = 4 * SMALLEST_SPREAD
# Features that a message names.
MOST_NAMED = 5


def variances_message(
    structure: Structure,
    parameters: Parameters,
    reg_covar: float,
    n_rows: int,
    mean: FloatArray,
    spread: FloatArray,
    names: Sequence[Any] | None,
    prior: str,
) -> str:
    """What a RegularizationWarning says; empty where there is nothing to warn of.

    Parameters
    ----------
    structure, parameters
    reg_covar : what was added to variances
    n_rows : of positive weight
    mean, spread : of all rows, (D,)
    names : of the features, where they have any
    prior : how a prior is asked for that keeps variances up
    """
    if not reg_covar > 0:
        return ""
    with np.errstate(over="ignore", under="ignore"):
        whole = spread**2
    constant = spread <= CONSTANT * np.abs(mean)
    if structure.common_scale:  # one variance for all features is the mean of theirs
        whole = np.full(whole.shape, np.where(constant, 0.0, whole).mean())
        constant[:] = constant.all()
    small = ~constant & (whole < OF_ALL_ROWS * reg_covar)
    own = structure.variances(parameters) <= OF_COMPONENT * reg_covar
    own &= ~(constant | small) & (parameters.weights * n_rows >= FEWEST_ROWS)[:, None]
    features = np.flatnonzero(own.any(axis=0))
    reasons = []
    if features.size:
        parts = [
            f"{_name(j, names)} in {_components(own[:, j], parameters.weights)}"
            for j in features[:MOST_NAMED]
        ]
        reasons.append("components have hardly any variance of their own: " + _listed(parts, features.size))
    if small.any():
        parts = [f"{_name(j, names)} ({whole[j]:.2g})" for j in np.flatnonzero(small)[:MOST_NAMED]]
        reasons.append(
            f"the variance of all rows is less than {OF_ALL_ROWS:g} times reg_covar: "
            + _listed(parts, int(small.sum()))
        )
    if not reasons:
        return ""
    return (
        f"reg_covar={reg_covar:g} is not small beside some variances, and shapes densities and labels there. "
        f"{_sentences(reasons)} If these rows differ there, use a smaller reg_covar or another unit; if "
        f"they are equal, {prior}."
    )


def _sentences(reasons: list[str]) -> str:
    return " ".join(f"{reason[0].upper()}{reason[1:]}." for reason in reasons)


def _name(feature: int, names: Sequence[Any] | None) -> str:
    return f"feature {feature}" if names is None else f"feature {names[feature]!r}"


def _components(which: Any, weights: FloatArray) -> str:
    """Components in words, and the share of the rows that they have."""
    numbers = np.flatnonzero(which)
    share = f"{100 * weights[numbers].sum() / weights.sum():.3g} % of the rows"
    if numbers.size == weights.size:
        return "all components"
    if numbers.size > 3:
        return f"{numbers.size} components ({share})"
    return f"component{'s' if numbers.size > 1 else ''} {', '.join(map(str, numbers))} ({share})"


def _listed(parts: list[str], n: int) -> str:
    more = f", and {n - len(parts)} more features" if n > len(parts) else ""
    return ", ".join(parts) + more
