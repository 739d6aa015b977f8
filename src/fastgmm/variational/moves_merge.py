"""Merges: which components are better taken for one, told from the posterior and a sample's entropy."""

from __future__ import annotations

from copy import copy

import numpy as np

from .._typing import BoolArray, FloatArray, IndexArray
from ..parameters import Parameters
from . import moves_components as parts
from .evidence import Evidence
from .moves_components import Components
from .moves_rows import Belonging

# Each component is tried with so many that are nearest in its own standard deviations and theirs.
NEIGHBOURS = 8
# A component of fewer rows is empty.
ONE_ROW = 1.0


def merges(
    evidence: Evidence, parameters: Parameters, belonging: Belonging, keep: bool
) -> list[tuple[float, int, int]]:
    """Pairs to merge, one after the other: (rise of the bound that is expected, first, second).

    The best pair is merged, and so on while the bound rises. Numbers are those of the parameters: the second
    of a pair is gone, and the first may come again. keep: those that are gone stay, without rows.
    """
    structure = evidence.structure
    components = parts.of_parameters(evidence, parameters)
    alive = _alive(components, keep)
    belonging = copy(belonging)
    belonging.of = list(belonging.of)
    found: list[tuple[float, int, int]] = []
    gains: dict[tuple[int, int], float] = {}
    pairs = _neighbours(evidence, parameters, alive, np.flatnonzero(alive))
    while pairs.size:
        gains |= _gains(evidence, components, alive, pairs, belonging, keep)
        best = max(gains, key=lambda pair: (gains[pair], -pair[0], -pair[1]), default=None)
        if best is None or not gains[best] > 0.0:
            break
        first, second = best
        found.append((gains[best], first, second))
        one = parts.merged(evidence, components, np.array([first]), np.array([second]))
        components = _replaced(components, first, second, one, structure.pooled)
        belonging.merge(first, second)
        alive[second] = False
        gains = {pair: gain for pair, gain in gains.items() if not {*pair} & {*best}}
        if structure.pooled:
            gains = {}
        parameters = parts.to_parameters(evidence, components)
        pairs = _neighbours(
            evidence, parameters, alive, np.flatnonzero(alive) if structure.pooled else np.array([first])
        )
        if alive.sum() < 2:
            break
    return found


def candidates(
    evidence: Evidence, parameters: Parameters, belonging: Belonging, keep: bool
) -> list[tuple[float, int, int]]:
    """Pairs that could be merged and what is expected of each alone, best first; most lower the bound.

    What EM makes of a merge is not in it.
    """
    components = parts.of_parameters(evidence, parameters)
    alive = _alive(components, keep)
    pairs = _neighbours(evidence, parameters, alive, np.flatnonzero(alive))
    if not pairs.size:
        return []
    gains = _gains(evidence, components, alive, pairs, belonging, keep)
    return sorted(((gain, *pair) for pair, gain in gains.items()), key=lambda move: (-move[0], move[1:]))


def _alive(components: Components, keep: bool) -> BoolArray:
    """Components that may be merged: where all are kept, those without rows are as they should be."""
    return components.counts >= (ONE_ROW if keep else 0.0)


def applied(
    evidence: Evidence, components: Components, pairs: list[tuple[float, int, int]], keep: bool
) -> Components:
    """Components after these merges; keep: those that are gone stay, without rows."""
    pooled = evidence.structure.pooled
    gone = []
    for _, first, second in pairs:
        one = parts.merged(evidence, components, np.array([first]), np.array([second]))
        components = _replaced(components, first, second, one, pooled)
        gone.append(second)
    if keep:
        return components
    return parts.taken(components, np.setdiff1d(np.arange(components.counts.size), gone), pooled)


def _replaced(components: Components, first: int, second: int, one: Components, pooled: bool) -> Components:
    counts, means, covariances = (array.copy() for array in components)
    counts[first], counts[second], means[first] = one.counts[0], 0.0, one.means[0]
    if pooled:
        covariances = one.covariances[0]
    else:
        covariances[first] = one.covariances[0]
    return Components(counts, means, covariances)


def _neighbours(
    evidence: Evidence, parameters: Parameters, alive: BoolArray, whose: IndexArray
) -> IndexArray:
    """Pairs (m, 2) of each of these components and the nearest, the smaller number first."""
    chosen: set[tuple[int, int]] = set()
    D = evidence.structure.distances
    others = np.flatnonzero(alive)
    if others.size < 2:
        return np.zeros((0, 2), dtype=np.intp)
    table = np.array([D(parameters, parameters.means[k]) for k in others]) if whose.size > 1 else None
    for k in whose:
        theirs = D(parameters, parameters.means[k])[others]
        if table is not None:
            near = np.minimum(theirs, table[:, k])
        else:
            near = theirs
        order = others[np.argsort(near, kind="stable")]
        order = order[order != k][:NEIGHBOURS]
        chosen |= {(min(int(k), int(j)), max(int(k), int(j))) for j in order}
    return np.array(sorted(chosen), dtype=np.intp).reshape(-1, 2)


def _gains(
    evidence: Evidence, components: Components, alive: BoolArray, pairs: IndexArray, belonging: Belonging,
    keep: bool,
) -> dict[tuple[int, int], float]:  # fmt: skip
    """Rise of the bound by each merge; where it falls already without the entropy, without it."""
    first, second = pairs.T
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):  # of singular covariances
        rise = _rise_of_rows(evidence, components, alive, first, second, keep)
    rise += _rise_of_counts(evidence, components.counts, alive, first, second, keep)
    rise[np.isnan(rise)] = -np.inf
    return {
        (i, j): float(gain - belonging.lost_entropy(i, j)) if gain > 0.0 else float(gain)
        for i, j, gain in zip(first.tolist(), second.tolist(), rise, strict=True)
    }


def _rise_of_rows(
    evidence: Evidence, components: Components, alive: BoolArray, first: IndexArray, second: IndexArray,
    keep: bool,
) -> FloatArray:  # fmt: skip
    if not evidence.structure.pooled:
        both = parts.merged(evidence, components, first, second)
        apart = parts.log_evidence_of_rows(evidence, components)
        return np.asarray(parts.log_evidence_of_rows(evidence, both) - apart[first] - apart[second])
    if not keep:  # those that are gone count for nothing
        place = np.cumsum(alive) - 1
        components, first, second = parts.taken(components, alive, True), place[first], place[second]
    return parts.pooled_rises(evidence, components, first, second, keep)


def _rise_of_counts(
    evidence: Evidence, counts: FloatArray, alive: BoolArray, first: IndexArray, second: IndexArray,
    keep: bool,
) -> FloatArray:  # fmt: skip
    after = np.repeat(counts[None], first.size, axis=0)
    lines = np.arange(first.size)
    after[lines, first] += after[lines, second]
    after[lines, second] = 0.0
    prior, K = evidence.prior, counts.size if keep else int(alive.sum())
    before = parts.log_evidence_of_counts(prior, counts, K)
    return parts.log_evidence_of_counts(prior, after, K if keep else K - 1) - before
