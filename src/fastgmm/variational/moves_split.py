"""Splits and births: components that the rows of one, or the rows explained worst, had better be."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from .. import em, seeding
from .._typing import FloatArray, IndexArray
from ..blocks import ArrayData
from ..frame import Frame
from . import moves_components as parts
from .evidence import Evidence
from .moves_components import Components
from .moves_rows import Belonging

# Iterations of a fit to the rows of one component, and the rise per iteration, in nats, that ends it.
ITERATIONS, LITTLE = 20, 0.1
# A move that makes components must raise the bound by a nat: what is worth less is barely worth mentioning.
WORTH = 1.0
# A split cuts a component into two; a birth fits so many to the rows that are explained worst.
HALVES, NEWBORN = 2, 4
# Births are sought among this share of the rows ...
WORST_SHARE = 0.02
# ... but not among more than so many for each number that a component's mean and covariance have.
ROWS_PER_NUMBER = 8
# Rows that a part must have beyond as many as features: the fewest that could tell its covariance.
SPARE_ROWS = 2


class Division(NamedTuple):
    """What a component, or some rows, become: the rise of the bound that is expected, and the new ones."""

    gain: float
    component: int
    parts: Components


def splits(
    evidence: Evidence,
    belonging: Belonging,
    frame: Frame,
    options: em.EMOptions,
    which: IndexArray,
) -> list[Division]:
    """What each of these components becomes as two, best first: those that gain WORTH or more are better so.

    A component's rows are fitted by one and by two, each row counting by its responsibility: all others stay
    as they are. So the rise is the whole bound's, but for the other counts (moves_components.py).
    """
    found = []
    for k in which:
        rows, shares = belonging.of[k]
        weights = belonging.weights(rows) * shares
        division = divided(evidence, belonging, rows, weights, frame, options, HALVES)
        if division is not None:
            found.append(division._replace(component=int(k)))
    return sorted(found, key=lambda division: (-division.gain, division.component))


def birth(
    evidence: Evidence, belonging: Belonging, n_features: int, frame: Frame, options: em.EMOptions
) -> Components | None:
    """Components of the rows that are explained worst, None where nothing can be made of them."""
    fit = belonging.fit
    numbers = n_features * (n_features + 3) // 2
    n = min(max(int(WORST_SHARE * fit.size), n_features + SPARE_ROWS), ROWS_PER_NUMBER * numbers * NEWBORN)
    if n >= fit.size:
        return None
    rows = np.sort(np.argsort(fit, kind="stable")[:n])
    division = divided(evidence, belonging, rows, belonging.weights(rows), frame, options, NEWBORN)
    if division is None:
        return None
    large = np.flatnonzero(division.parts.counts >= belonging.scale * (n_features + SPARE_ROWS))
    return parts.taken(division.parts, large, evidence.structure.pooled) if large.size else None


def divided(
    evidence: Evidence,
    belonging: Belonging,
    rows: IndexArray,
    weights: FloatArray,
    frame: Frame,
    options: em.EMOptions,
    n_parts: int,
) -> Division | None:
    """These rows, weighted, as one component and as n_parts; None where they are too few."""
    D = belonging.rows.n_features
    if weights.sum() < n_parts * (D + SPARE_ROWS) or rows.size < n_parts * (D + SPARE_ROWS):
        return None
    data = ArrayData(np.asarray(belonging.rows.X[rows], dtype=np.float64), weights)
    structure = evidence.structure
    alone = Evidence(structure, evidence.prior, data.total_weight, evidence.reg_covar, evidence.n_threads)
    options = replace(
        options, tol=LITTLE, max_iter=ITERATIONS, acceleration=None, arithmetic="float64", repair="floor"
    )
    results = []
    for n in (1, n_parts):
        start = seeding.initial_parameters(
            data, structure, n, init_params="kmeans", options=options,
            random_state=np.random.RandomState(0), frame=frame, objective=alone,
        )  # fmt: skip
        limited = options if n > 1 else replace(options, max_iter=1)
        results.append(em.run(data, structure, start.parameters, limited, frame=frame, objective=alone))
    one, several = results
    gain = several.lower_bound - one.lower_bound
    return Division(gain, -1, parts.of_parameters(alone, several.parameters))
