"""Split, merge and birth moves: from one optimum of the evidence lower bound to a higher one.

EM comes to an optimum near its start. Moves change the number of components, or which rows they share, and
EM goes on from there; what is reached counts only if the bound is higher than before. So the bound rises with
every move, and its value is that of the whole fit, of all rows, whatever sample a move was found with (Ueda,
Nakano, Ghahramani and Hinton 2000, Neural Computation 12, 2109-2128; Ghahramani and Beal 2000, Advances in
Neural Information Processing Systems 12; Hughes and Sudderth 2013, Advances in Neural Information Processing
Systems 26).

    settle      EM until it gains little
    merge       pairs that the posterior says are better one, greedily (moves_merge.py)
    split       components whose rows are better two (moves_split.py)
    birth       components for the rows that are explained worst
    again, until no move is accepted; then EM to its end
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from time import perf_counter

import numpy as np

from .. import em
from ..blocks import ArrayData
from ..frame import Frame
from ..parameters import Parameters
from ..sources import Data
from . import moves_components as parts
from .evidence import Evidence
from .moves_components import Components
from .moves_merge import applied, merges
from .moves_rows import Belonging, sample_of
from .moves_split import Division, birth, splits

SPLIT, MERGE, BIRTH = "split", "merge", "birth"
ALL = (SPLIT, MERGE, BIRTH)
# What history_["moves"] holds of each move that was tried.
RECORDED = ("iteration", "move", "components before", "after", "bound before", "after", "accepted")
# Iterations that a move gets to raise the bound, and that the fit then has before the next one.
TRIAL, SETTLE = 4, 20
# EM has settled when an iteration gains less than this, in nats per unit of weight: moves gain more.
SETTLED = 1e-5
# A move must raise the bound by more than this share: less is rounding.
ROUNDING = 1e-10
# Rounds of moves; each of them is at most one of each kind.
ROUNDS = 50
# Components that were not to be split are tried again when they have gained or lost this share of their rows.
CHANGED = 0.1


class Search:
    """A fit with moves.

    Parameters
    ----------
    data : all rows, for passes over them
    evidence : what is maximised
    options : of the whole fit
    frame : of the data
    allowed : the moves, of ALL
    n_most : most components
    free : whether the number of components may change; otherwise those that are not needed have no rows
    on_iteration : as that of em.run
    """

    def __init__(
        self,
        data: Data,
        evidence: Evidence,
        options: em.EMOptions,
        frame: Frame,
        *,
        allowed: Collection[str],
        n_most: int,
        free: bool,
        on_iteration: Callable[[int, float, float, bool], None] | None = None,
    ) -> None:
        self.data, self.evidence, self.options, self.frame = data, evidence, options, frame
        self.allowed, self.n_most, self.free = allowed, n_most, free
        self.on_iteration = on_iteration
        rows = data if isinstance(data, ArrayData) else data.seeds
        self.sample = sample_of(rows, n_most)
        self.pooled = evidence.structure.pooled
        self.record: list[list[object]] = []
        self.result: em.EMResult
        self.n_spent = 0  # iterations of moves that were not accepted
        self.in_vain: list[tuple[np.ndarray, float]] = []  # components that are not to be split: mean, count

    def run(self, start: Parameters, previous_bound: float) -> em.EMResult:
        """The best that is found from a start."""
        self.result = em.nothing_done(start, previous_bound)
        self._settle()
        for _ in range(ROUNDS):
            moved = [move(self) for name, move in _MOVES.items() if name in self.allowed and not self._over()]
            if not any(moved):
                if self._over() or self.result.converged:
                    break
                before = self.result.n_iter
                self._go_on(self.options.max_iter, self.options.tol)
                if self.result.n_iter <= before + SETTLE or self._over():
                    break
        if not self.result.converged and not self._over():
            self._go_on(self.options.max_iter, self.options.tol)
        self.result.history["moves"] = self.record
        return self.result

    # ---- EM ----------------------------------------------------------------------------------------------

    def _over(self) -> bool:
        spent = self.result.n_iter + self.n_spent >= self.options.max_iter
        return self.result.out_of_time or spent or perf_counter() >= self.options.deadline

    def _tol(self) -> float:
        return max(self.options.tol, SETTLED * self.evidence.total_weight)

    def _settle(self) -> None:
        self._go_on(self.result.n_iter + SETTLE, self._tol())

    def _go_on(self, n_iter: int, tol: float) -> None:
        self.result = self._continued(self.result, n_iter, tol)
        if tol > self.options.tol:
            self.result.converged = False

    def _continued(self, result: em.EMResult, n_iter: int, tol: float) -> em.EMResult:
        most = min(n_iter, self.options.max_iter - self.n_spent)
        if most <= result.n_iter:
            return result
        return em.go_on(
            self.data,
            self.evidence.structure,
            result,
            replace(self.options, max_iter=most, tol=tol),
            frame=self.frame,
            on_iteration=self.on_iteration,
            objective=self.evidence,
        )

    # ---- moves -------------------------------------------------------------------------------------------

    def merge(self) -> bool:
        """Merge what the bound says is one."""
        before = self.result.parameters
        if before.weights.size < 2:
            return False
        belonging = Belonging(self.sample, self.evidence, before)
        pairs = merges(self.evidence, before, belonging, keep=not self.free)
        components = parts.of_parameters(self.evidence, before)
        return self._best_of(
            MERGE, len(pairs), lambda n: applied(self.evidence, components, pairs[:n], keep=not self.free)
        )

    def split(self) -> bool:
        """Split what the bound says are two."""
        evidence, before = self.evidence, self.result.parameters
        components = parts.of_parameters(evidence, before)
        room = self._room(components)
        if not room:
            return False
        which = np.array([k for k in range(len(components.counts)) if not self._is_in_vain(components, k)])
        belonging = Belonging(self.sample, evidence, before)
        found = splits(evidence, belonging, components, self.frame, self.options, which)
        to_split = {division.component for division in found}
        self.in_vain += [
            (components.means[k], components.counts[k]) for k in which.tolist() if k not in to_split
        ]
        found = found[:room]
        accepted = self._best_of(SPLIT, len(found), lambda n: self._divided(components, found[:n]))
        if not accepted:
            self.in_vain += [(components.means[d.component], components.counts[d.component]) for d in found]
        return accepted

    def birth(self) -> bool:
        """Make components of the rows that are explained worst."""
        evidence, before = self.evidence, self.result.parameters
        components = parts.of_parameters(evidence, before)
        room = self._room(components)
        if not room:
            return False
        belonging = Belonging(self.sample, evidence, before)
        born = birth(evidence, belonging, before.means.shape[1], self.frame, self.options)
        if born is None:
            return False
        share = 1.0 - born.counts.sum() / evidence.total_weight
        rest = components._replace(counts=components.counts * share)
        return self._best_of(BIRTH, min(room, len(born.counts)), lambda n: self._added(rest, born, n))

    def _added(self, rest: Components, born: Components, n: int) -> Components:
        new = parts.taken(born, np.argsort(-born.counts, kind="stable")[:n], self.pooled)
        counts = rest.counts * ((self.evidence.total_weight - new.counts.sum()) / rest.counts.sum())
        return self._in_room(parts.together([rest._replace(counts=counts), new], self.pooled))

    def _divided(self, components: Components, divisions: list[Division]) -> Components:
        gone = [division.component for division in divisions]
        stay = np.setdiff1d(np.arange(components.counts.size), gone)
        new = [parts.taken(components, stay, self.pooled)]
        for division in divisions:
            scale = components.counts[division.component] / division.parts.counts.sum()
            new.append(division.parts._replace(counts=division.parts.counts * scale))
        return self._in_room(parts.together(new, self.pooled))

    def _room(self, components: Components) -> int:
        """How many components may be added."""
        in_use = components.counts.size if self.free else int((components.counts >= 1.0).sum())
        return self.n_most - in_use

    def _in_room(self, components: Components) -> Components:
        """No more components than there may be: the smallest are left out."""
        ordered = parts.largest_first(components, self.pooled)
        if self.free or ordered.counts.size <= self.n_most:
            return ordered
        kept = parts.taken(ordered, np.arange(self.n_most), self.pooled)
        return kept._replace(counts=kept.counts * (ordered.counts.sum() / kept.counts.sum()))

    def _is_in_vain(self, components: Components, k: int) -> bool:
        count, mean = components.counts[k], components.means[k]
        return any(
            abs(count - before) <= CHANGED * before and np.sum((mean - at) ** 2) <= 1e-2 * self._spread(components, k)
            for at, before in self.in_vain
        )

    def _spread(self, components: Components, k: int) -> float:
        covariances = components.covariances if self.pooled else components.covariances[k]
        return float(np.trace(covariances)) if np.ndim(covariances) == 2 else float(np.sum(covariances))

    def _best_of(self, name: str, n: int, changed: Callable[[int], Components]) -> bool:
        """Try n moves of a kind together, then half of them, and so on; whether some were accepted."""
        while n and not self._over():
            if self._try(name, parts.largest_first(changed(n), self.pooled)):
                return True
            n //= 2
        return False

    def _try(self, name: str, components: Components) -> bool:
        """Whether the bound rises from there; then the fit has gone on from there."""
        evidence, result = self.evidence, self.result
        parameters = parts.to_parameters(evidence, components)
        if not all(np.isfinite(array).all() for array in parameters):
            return False
        at = replace(result, parameters=parameters)
        trial = self._continued(at, result.n_iter + TRIAL, 0.0)
        rises = trial.lower_bound > result.lower_bound + ROUNDING * abs(result.lower_bound)
        self.record.append([
            result.n_iter, name, result.parameters.weights.size, parameters.weights.size,
            result.lower_bound, trial.lower_bound, rises,
        ])  # fmt: skip
        if not rises:
            self.n_spent += trial.n_iter - result.n_iter
            return False
        self.result = trial
        self.result.converged = False
        self._settle()
        return True


_MOVES = {MERGE: Search.merge, SPLIT: Search.split, BIRTH: Search.birth}
