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
from typing import Any

import numpy as np

from .. import em
from .._typing import FloatArray, IndexArray
from ..blocks import ArrayData
from ..exceptions import DegenerateComponentError
from ..frame import Frame
from ..loop_state import nothing_done
from ..parameters import Parameters
from ..sources import Data
from . import moves_components as parts
from .evidence import Evidence
from .moves_components import Components
from .moves_merge import ONE_ROW, applied, candidates, merges
from .moves_rows import Belonging, rows_wanted, sample_of
from .moves_split import WORTH, Division, birth, splits

SPLIT, MERGE, BIRTH = "split", "merge", "birth"
ALL = (SPLIT, MERGE, BIRTH)
# Components without rows are left out at the end, which is no move: recorded as one.
EMPTY = "empty"
# Components that are started with where their number is to be found, and the most there may be. Merging many
# at once is quicker than splitting one by one, and sees more of the rows' shape.
START, MOST = 64, 256
# Rows that each of these must have for each feature, and for its weight.
ROWS_PER_FEATURE = 2
# Iterations that a move gets to raise the bound, at first and at most, and that the fit then has before the
# next one. A move gets more than the first few while its gains say that it will come to more than there was.
TRIAL, LONGEST, SETTLE = 4, 40, 20
# Gains of EM shrink by a ratio that is taken to be no nearer to 1 than this: an iteration promises nine times
# its own gain at most.
SLOWEST = 0.9
# This part of all iterations is kept back from moves, for merges where these are cut off, and for EM's end.
KEPT_BACK = 10
# EM has settled when an iteration gains less than this, in nats per unit of weight: moves gain more.
SETTLED = 1e-5
# A move must raise the bound by more than this share: less is rounding.
ROUNDING = 1e-10
# Merges that are tried though the bound falls before EM has gone on from them; and splits for
# which there is no room.
EXPLORED = 3
# Components that were not to be split are tried again when they have gained or lost this share of their rows,
# or moved by this share of their spread.
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
    in_vain : counts and means of components that need not be split, (n, 1 + D), as a search of the same rows
        has noted them
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
        in_vain: FloatArray | None = None,
        on_iteration: Callable[[int, float, float, bool], None] | None = None,
    ) -> None:
        # bounds are compared to a nat, of which single precision knows nothing
        options = replace(options, arithmetic="float64")
        self.data, self.evidence, self.options, self.frame = data, evidence, options, frame
        self.allowed, self.n_most, self.free = frozenset(allowed), n_most, free
        self.on_iteration = on_iteration
        streamed: Any = data
        rows = data if isinstance(data, ArrayData) else streamed.seeds
        self.sample = sample_of(rows, rows_wanted(n_most))
        self.pooled = evidence.structure.pooled
        self.limit = options.max_iter  # of iterations, those in vain included
        self.record: list[list[object]] = []  # of moves: iteration, name, sizes, bounds, whether it was kept
        self.result: em.EMResult
        self.n_spent = 0  # iterations of moves that were not accepted
        self.explored_at = -np.inf  # bound at which merges were last tried that cost at first
        self.born_after = -1  # moves that had been kept when births were last tried
        D = data.n_features
        self.in_vain = np.empty((0, D + 1)) if in_vain is None else in_vain
        self.unlikely: list[Division] = []  # what is best of the splits that are not worth it as they are
        self._belonging: tuple[Parameters, Belonging] | None = None

    def run(self, start: Parameters, previous_bound: float) -> em.EMResult:
        """The best that is found from a start. `cut_off` of the result: moves were left that it might be."""
        self.result = nothing_done(start, previous_bound)
        self.limit = self.options.max_iter - self.options.max_iter // KEPT_BACK
        done = self._search()
        self.limit = self.options.max_iter
        if not done:
            while not self._over() and MERGE in self.allowed and self.merge():
                pass
        if self.free:
            self._leave_out_empty()
        if not self.result.converged and not self._over():
            self._go_on(self.options.max_iter, self.options.tol)
        self.result.history["moves"] = self.record
        self.result.cut_off = not done
        self.result.converged &= done
        return self.result

    def _search(self) -> bool:
        """Moves, until none is accepted of a mixture that EM has settled; whether it came to that."""
        self._settle()
        while not self._over():
            if self._moved():
                continue
            if self._over():  # before all moves were tried
                return False
            before, self.limit = self.result.lower_bound, self.options.max_iter
            self._go_on(self.options.max_iter, self.options.tol)
            if self.result.lower_bound - before <= self._tol() or self._over():
                return not self.result.out_of_time
        return False

    def doubled(self, parameters: Parameters) -> Parameters:
        """A start with each component split in two, as far as there is room."""
        components = parts.of_parameters(self.evidence, parameters)
        belonging = Belonging(self.sample, self.evidence, parameters)
        which = np.arange(components.counts.size)
        found = splits(self.evidence, belonging, self.frame, self.options, which)
        divided = self._divided(components, found[: self._room(components)])
        return parts.to_parameters(self.evidence, divided)

    def _moved(self) -> bool:
        """Whether a move was accepted, the first of all kinds that is."""
        return any(move(self) for names, move in _MOVES if self.allowed & {*names} and not self._over())

    # ---- EM ----------------------------------------------------------------------------------------------

    def _over(self) -> bool:
        late = self.result.out_of_time or perf_counter() >= self.options.deadline
        return late or self._spent(self.result)

    def _spent(self, result: em.EMResult) -> bool:
        return result.n_iter + self.n_spent >= self.limit

    def _tol(self) -> float:
        return max(self.options.tol, SETTLED * self.evidence.total_weight)

    def _settle(self) -> None:
        self._go_on(self.result.n_iter + SETTLE, self._tol())

    def _go_on(self, n_iter: int, tol: float) -> None:
        self.result = self._continued(self.result, n_iter, tol)
        if tol > self.options.tol:
            self.result.converged = False

    def _continued(self, result: em.EMResult, n_iter: int, tol: float) -> em.EMResult:
        most = min(n_iter, self.limit - self.n_spent)
        if most <= result.n_iter:
            return result

        def report(iteration: int, bound: float, change: float, converged: bool) -> None:
            if self.on_iteration is not None:
                at_the_end = converged and tol <= self.options.tol
                self.on_iteration(self.n_spent + iteration, bound, change, at_the_end)

        return em.go_on(
            self.data,
            self.evidence.structure,
            result,
            replace(self.options, max_iter=most, tol=tol),
            frame=self.frame,
            on_iteration=report,
            objective=self.evidence,
        )

    def _leave_out_empty(self) -> None:
        """Leave out components without rows: the bound may fall, but by no more than a nat.

        To a Dirichlet process there are always more components, of which one that is written down can take
        shares of a few rows, and the bound is higher by a hundredth of a nat.
        """
        components = parts.of_parameters(self.evidence, self.result.parameters)
        some = components.counts >= ONE_ROW
        if not some.any() or some.all():
            return
        rest = parts.taken(components, some, self.pooled)
        if self._over():  # no pass is left to try it in
            self.result = replace(self.result, parameters=parts.to_parameters(self.evidence, rest))
        else:
            self._try(EMPTY, rest)

    def _last_gain(self) -> float:
        """By how much the last iteration has raised the bound."""
        bounds = self.result.lower_bounds
        return max(bounds[-1] - bounds[-2], 0.0) if len(bounds) > 1 else 0.0

    def _belongs(self) -> Belonging:
        """Which rows of the sample belong to which component now."""
        parameters = self.result.parameters
        if self._belonging is None or self._belonging[0] is not parameters:
            self._belonging = parameters, Belonging(self.sample, self.evidence, parameters)
        return self._belonging[1]

    # ---- moves -------------------------------------------------------------------------------------------

    def merge(self) -> bool:
        """Merge what the bound says is one."""
        before = self.result.parameters
        if before.weights.size < 2:
            return False
        belonging = self._belongs()
        pairs = merges(self.evidence, before, belonging, keep=not self.free)
        components = parts.of_parameters(self.evidence, before)
        return self._best_of(
            MERGE, len(pairs), lambda n: applied(self.evidence, components, pairs[:n], keep=not self.free)
        )

    def explore(self) -> bool:
        """Merge what is not quite one, and split what is not quite two: EM may find that it is better so."""
        unlikely, self.unlikely = self.unlikely, []
        if self.result.lower_bound - self.explored_at <= self._tol():
            return False
        self.explored_at = self.result.lower_bound
        return self._explore_merges() or self._explore_splits(unlikely)

    def _explore_splits(self, unlikely: list[Division]) -> bool:
        components = parts.of_parameters(self.evidence, self.result.parameters)
        if SPLIT not in self.allowed or not self._room(components):
            return False
        return any(
            self._try(SPLIT, self._ordered(self._divided(components, [division])))
            for division in unlikely
            if not self._over()
        )

    def _explore_merges(self) -> bool:
        before = self.result.parameters
        if MERGE not in self.allowed or before.weights.size < 2:
            return False
        belonging = self._belongs()
        found = candidates(self.evidence, before, belonging, keep=not self.free)
        components = parts.of_parameters(self.evidence, before)
        return any(
            self._try(MERGE, self._ordered(applied(self.evidence, components, [pair], keep=not self.free)))
            for pair in found[:EXPLORED]
            if not self._over()
        )

    def split(self) -> bool:
        """Split what the bound says are two; where there is no room, and merge others for it."""
        evidence, before = self.evidence, self.result.parameters
        components = parts.of_parameters(evidence, before)
        which = np.flatnonzero([not self._is_in_vain(components, k) for k in range(components.counts.size)])
        if not which.size:
            return False
        belonging = self._belongs()
        found = splits(evidence, belonging, self.frame, self.options, which)
        n_worth = sum(division.gain > WORTH for division in found)
        found, self.unlikely = found[:n_worth], found[n_worth:][:EXPLORED]
        self._note(components, np.setdiff1d(which, [division.component for division in found]))
        room = self._room(components)
        if room:
            accepted = self._best_of(
                SPLIT, min(room, len(found)), lambda n: self._divided(components, found[:n])
            )
        else:
            accepted = any(
                self._exchange(components, division, belonging)
                for division in found[:EXPLORED]
                if not self._over()
            )
        if not accepted:
            self._note(components, np.array([division.component for division in found], dtype=np.intp))
        return accepted

    def _exchange(self, components: Components, division: Division, belonging: Belonging) -> bool:
        """Split one and merge two others (Ueda et al. 2000)."""
        pairs = candidates(self.evidence, self.result.parameters, belonging, keep=True)
        pairs = [pair for pair in pairs if division.component not in pair[1:]]
        if MERGE not in self.allowed or not pairs or not pairs[0][0] + division.gain > 0.0:
            return False
        fewer = applied(self.evidence, components, pairs[:1], keep=True)
        return self._try(SPLIT, self._ordered(self._divided(fewer, [division])))

    def birth(self) -> bool:
        """Make components of the rows that are explained worst."""
        evidence, before = self.evidence, self.result.parameters
        components = parts.of_parameters(evidence, before)
        room = self._room(components)
        n_kept = sum(kept is True for *_, kept in self.record)
        if not room or self.born_after == n_kept:
            return False
        self.born_after = n_kept
        belonging = self._belongs()
        born = birth(evidence, belonging, before.means.shape[1], self.frame, self.options)
        if born is None:
            return False
        return self._best_of(BIRTH, min(room, len(born.counts)), lambda n: self._added(components, born, n))

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
        in_use = components.counts.size if self.free else int((components.counts >= ONE_ROW).sum())
        return max(self.n_most - in_use, 0)

    def _in_room(self, components: Components) -> Components:
        """No more components than there may be: the smallest are left out."""
        ordered = self._ordered(components)
        if ordered.counts.size <= self.n_most:
            return ordered
        kept = parts.taken(ordered, np.arange(self.n_most), self.pooled)
        return kept._replace(counts=kept.counts * (ordered.counts.sum() / kept.counts.sum()))

    def _note(self, components: Components, which: IndexArray) -> None:
        """These components are not to be split."""
        new = np.column_stack([components.counts[which], components.means[which]])
        self.in_vain = np.vstack([self.in_vain, new])

    def _is_in_vain(self, components: Components, k: int) -> bool:
        """Whether a component like this one was not to be split."""
        counts, means = self.in_vain[:, 0], self.in_vain[:, 1:]
        near = ((components.means[k] - means) ** 2).sum(axis=1) <= CHANGED**2 * self._spread(components, k)
        return bool((near & (np.abs(components.counts[k] - counts) <= CHANGED * counts)).any())

    def _ordered(self, components: Components) -> Components:
        return parts.largest_first(components, self.pooled)

    def _spread(self, components: Components, k: int) -> float:
        covariances = components.covariances if self.pooled else components.covariances[k]
        return float(np.trace(covariances)) if np.ndim(covariances) == 2 else float(np.sum(covariances))

    def _best_of(self, name: str, n: int, changed: Callable[[int], Components]) -> bool:
        """Try n moves of a kind together, then half of them, and so on; whether some were accepted."""
        while n and not self._over():
            if self._try(name, self._ordered(changed(n))):
                return True
            n //= 2
        return False

    def _try(self, name: str, components: Components) -> bool:
        """Whether the bound rises from there; then the fit has gone on from there."""
        before, parameters = self.result, parts.to_parameters(self.evidence, components)
        if not all(np.isfinite(array).all() for array in parameters):
            return False
        least = ROUNDING * abs(before.lower_bound) + {MERGE: 0.0, EMPTY: -WORTH}.get(name, WORTH)
        if name != EMPTY:  # nor does it count what EM would have gained without it
            least += TRIAL * self._last_gain()
        trial = replace(before, parameters=parameters)
        try:
            while True:
                trial = self._continued(trial, trial.n_iter + TRIAL, 0.0)
                rises = bool(trial.lower_bound > before.lower_bound + least)
                if rises or not self._promises(trial, before, before.lower_bound + least):
                    break
        except DegenerateComponentError:
            return False
        sizes = (before.parameters.weights.size, parameters.weights.size)
        bounds = (float(before.lower_bound), float(trial.lower_bound))
        self.record.append([before.n_iter, name, *sizes, *bounds, rises])
        if not rises:
            self.n_spent += trial.n_iter - before.n_iter
            self.result.out_of_time = trial.out_of_time
            return False
        # until it is accepted, the bound of the fit is that of the mixture that stood before
        tried = trial.lower_bounds[before.n_iter :]
        trial.lower_bounds[before.n_iter :] = [max(bound, before.lower_bound) for bound in tried]
        self.result = trial
        self.result.converged = False
        self._settle()
        return True

    def _promises(self, trial: em.EMResult, before: em.EMResult, target: float) -> bool:
        """Whether more iterations are worth it: whether the gains of the last two lead to the target.

        Gains that shrink by a constant ratio add up to a geometric series (Aitken; Boehning et al. 1994).
        """
        bounds = trial.lower_bounds[before.n_iter :]
        if len(bounds) < 3 or not TRIAL <= len(bounds) < LONGEST or trial.out_of_time or self._spent(trial):
            return False
        gain, gain_before = bounds[-1] - bounds[-2], bounds[-2] - bounds[-3]
        if not (gain > 0.0 and gain_before > 0.0):
            return False
        ratio = min(gain / gain_before, SLOWEST)
        return bool(trial.lower_bound + gain * ratio / (1.0 - ratio) > target)


_MOVES = (
    ((MERGE,), Search.merge),
    ((SPLIT,), Search.split),
    ((MERGE, SPLIT), Search.explore),
    ((BIRTH,), Search.birth),
)
