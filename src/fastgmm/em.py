"""The loop: pass, estimate, converged? It knows no covariance structure and no source of rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from time import perf_counter
from typing import Any

import numpy as np

from . import single
from ._typing import BoolArray, FloatArray
from .acceleration import Anderson
from .collector import Request, Setting
from .frame import Frame
from .kernels import _pass
from .loop_state import HISTORY, Keeper, LoopState, nothing_done
from .loop_state import EMResult as EMResult
from .objective import Likelihood, Objective
from .parameters import Parameters
from .pruning import NEGLIGIBLE, NEGLIGIBLE_IN_SINGLE, lost_too_much, n_active
from .repair import Repairs
from .score_map import ScoreMap
from .sources import Data, collector_of
from .statistics import Statistics
from .structures import Estimate, Structure
from .structures.base import STATISTICS_LIMIT, means_to_centre


@dataclass(frozen=True)
class EMOptions:
    """What governs the loop; names as the estimator's."""

    tol: float = 1e-3
    reg_covar: float = 1e-6
    max_iter: int = 100
    repair: str = "reseed"
    acceleration: str | None = None
    arithmetic: str = "float64"
    n_threads: int = 1
    deadline: float = np.inf  # by perf_counter: a run ends after the first iteration that ends later


class Maximiser:
    """Passes and M-steps with all that can go wrong: moments lost to cancellation, degenerate components.

    One per run. It remembers the scatter that tied covariances share, which components are past help by
    centring, what was repaired, and what its passes cost.
    """

    def __init__(
        self,
        data: Data,
        structure: Structure,
        frame: Frame,
        options: EMOptions,
        n_components: int,
        objective: Objective | None = None,
    ) -> None:
        self.structure, self.frame, self.options = structure, frame, options
        if objective is None:
            objective = Likelihood(structure, options.reg_covar, options.n_threads)
        self.objective = objective
        self.n_components = n_components
        self.collector = collector_of(
            data, Setting(structure, frame, n_components, options.n_threads, options.arithmetic)
        )
        self.shared_second: FloatArray | None = None
        self.hopeless = np.zeros(n_components, dtype=bool)
        self.repairs = Repairs(n_components)
        self.n_positive = data.n_positive
        self.single = self.collector.single
        self.double_passes = 0  # to come, before float32 is tried again
        self.n_active = np.inf  # components scored per block of rows in the last pass
        self.seconds = self.pairs = self.pairs_centred = self.pairs_single = 0.0
        self.statistics: Statistics | None = None  # of which the last estimate was made

    def score_map(self, parameters: Parameters) -> ScoreMap:
        """What the passes under these parameters are to be given."""
        return self.structure.score_map(parameters, self.frame, self.options.n_threads, self.n_active)

    def centred(self, parameters: Parameters) -> BoolArray:
        """Components to accumulate about their means: about the origin they would lose digits."""
        return to_centre(self.structure, parameters, self.frame, self.n_active, self._limit())

    def _limit(self) -> float:
        return single.MOMENTS_LIMIT if self.single else STATISTICS_LIMIT

    def collect(
        self, parameters: Parameters, score_map: ScoreMap, centres: FloatArray, centred: BoolArray
    ) -> Statistics:
        """One pass over the data under parameters, moments about centres for the components marked."""
        began = perf_counter()
        request = Request(parameters, centres, centred, score_map, self.n_active)
        statistics = self._pass(request)
        # of a posterior the prior's share stands beside the little that may be lost
        if statistics.pairs_skipped and self.objective.point_estimate:
            negligible = NEGLIGIBLE_IN_SINGLE if self.single else NEGLIGIBLE
            if lost_too_much(statistics, parameters, negligible):
                statistics = self._pass(request._replace(forget=True))
        self.n_active = n_active(statistics, self.n_components)
        self.seconds += perf_counter() - began
        return statistics

    def _pass(self, request: Request) -> Statistics:
        share = self.structure.pooled and not request.centred.any()
        scatter = self.shared_second if share else None
        # the scatter that all later passes share is worth float64
        in_single = self.single and not (share and scatter is None)
        if in_single and self.double_passes:
            self.double_passes -= 1
            in_single = False
        rounded = None
        if in_single:
            assert request.score_map is not None
            rounded = single.single_map(
                request.score_map, request.parameters, self.structure, self.frame, self.n_positive
            )
        request = request._replace(
            single_map=rounded, to_the_end=not self.single, scatter_is_known=scatter is not None
        )
        statistics = self.collector.collect(request)
        if scatter is not None:
            statistics = replace(statistics, second=scatter)
        elif share:
            self.shared_second = statistics.second
        if rounded is not None and statistics.pairs_single < single.SMALLEST_GAIN * statistics.pairs:
            self.double_passes = single.REST
        self.pairs += statistics.pairs
        self.pairs_centred += statistics.pairs_centred
        self.pairs_single += statistics.pairs_single
        return statistics

    def maximise(
        self,
        statistics: Statistics,
        centred: BoolArray,
        previous: Parameters | None,
        look_again: Callable[[FloatArray, BoolArray], Statistics],
    ) -> tuple[Parameters, int, int]:
        """Parameters from statistics; how many components took a second look, and a new repair.

        look_again(centres, centred) runs the pass once more under the same responsibilities, with the moments
        of some components about new centres.
        """
        looks = 0
        estimate = self._estimate(statistics, previous)
        if (
            statistics.pairs_single
            and previous is not None
            and single.came_out_rough(estimate, previous, self.structure)
        ):
            self.double_passes = single.LOOKS
            statistics = look_again(statistics.reference, centred)
            estimate = self._estimate(statistics, previous)
        doubtful = self._doubtful(estimate, statistics)
        for _ in range(2):
            if not doubtful.any():
                break
            looks = max(looks, int(np.count_nonzero(doubtful)))
            means, lost = means_to_centre(estimate, statistics, self.frame)
            centres = np.where(doubtful[:, None], means, statistics.reference)
            statistics = look_again(centres, doubtful | centred)
            estimate = self._estimate(statistics, previous)
            if not (doubtful & lost).any():
                self.hopeless |= doubtful & estimate.singular
                break
            doubtful = self._doubtful(estimate, statistics)
        self.hopeless &= estimate.singular
        parameters, n_new = self.repairs.apply(
            estimate, self.structure, self.frame, self.options.repair, previous
        )
        return parameters, looks, n_new

    def finish_in_double(self) -> None:
        """No more float32: what is left to gain is less than it rounds away."""
        self.single = False

    def state(self) -> dict[str, Any]:
        """What the next iterations depend on, beside the parameters; the rest can be rebuilt."""
        repairs = self.repairs
        repaired = np.zeros(self.n_components, dtype=bool)
        repaired[list(repairs.repaired)] = True
        arrays = {
            "n_reseeds": repairs.n_reseeds,
            "hopeless": self.hopeless,
            "floored": repairs.floored,
            "repaired": repaired,
            "counts": np.array([repairs.n_repairs, self.single, self.double_passes], dtype=np.int64),
        }
        if self.shared_second is not None:
            arrays["shared_second"] = self.shared_second
        return arrays

    def restore(self, arrays: dict[str, Any]) -> None:
        """Go on from a state. What is not in it is made anew, here as in a fit that is started again."""
        self.hopeless, repairs = arrays["hopeless"], self.repairs
        repairs.n_reseeds, repairs.floored = arrays["n_reseeds"], arrays["floored"]
        repairs.repaired = set(np.flatnonzero(arrays["repaired"]).tolist())
        repairs.n_repairs, is_single, self.double_passes = arrays["counts"].tolist()
        self.single = bool(is_single)
        self.shared_second = arrays.get("shared_second")
        self.n_active = np.inf
        self.collector.rebuild()

    def _estimate(self, statistics: Statistics, previous: Parameters | None) -> Estimate:
        self.statistics = statistics
        with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
            return self.objective.estimate(statistics, previous)

    def _doubtful(self, estimate: Estimate, statistics: Statistics) -> BoolArray:
        """Components whose moments lost too many digits where they were taken: centring them would help."""
        lossy, lost = lost_digits(self.structure, estimate, statistics, self._limit())
        doubtful = (lossy | lost) & ~estimate.starved & ~self.hopeless
        return np.full(doubtful.shape, doubtful.any()) if self.structure.pooled else doubtful


def to_centre(
    structure: Structure,
    parameters: Parameters,
    frame: Frame,
    n_active: float = np.inf,
    limit: float = STATISTICS_LIMIT,
) -> BoolArray:
    """Components to accumulate about their means: about the frame's origin they lose digits, or time."""
    K, D = parameters.means.shape
    if structure.always_project(D, n_active) or _pass.kernel_choice() == "centred":
        return np.ones(K, dtype=bool)
    return structure.needs_centring(parameters, frame.to_frame(parameters.means), frame, limit)


def lost_digits(
    structure: Structure, estimate: Estimate, statistics: Statistics, limit: float = STATISTICS_LIMIT
) -> tuple[BoolArray, BoolArray]:
    """Components whose moments were taken too far off their means: what is left is rough, or nothing is."""
    offset = (estimate.parameters.means - statistics.reference) * statistics.frame.scale
    rough = structure.needs_centring(estimate.parameters, offset, statistics.frame, limit)
    # a covariance without a factor may be nothing but cancellation, unless it was centred already
    lost = estimate.singular & (np.abs(offset) > 0).any(axis=1)
    return rough & ~estimate.singular, lost


class _Loop:
    """A run between two iterations: its result so far, and what the next iteration depends on."""

    def __init__(
        self,
        data: Data,
        structure: Structure,
        start: Parameters,
        options: EMOptions,
        frame: Frame,
        previous_bound: float,
        objective: Objective | None,
    ) -> None:
        self.options = options
        self.result = nothing_done(start, previous_bound)
        self.maximiser = Maximiser(data, structure, frame, options, start.weights.size, objective)
        self.anderson = Anderson(structure, frame) if options.acceleration == "anderson" else None
        self.of_two_kinds = False  # whether the next bound is float64's, and the last float32's

    def state(self) -> LoopState:
        """All that the next iterations depend on."""
        maximiser = self.maximiser
        repairs = maximiser.repairs
        self.result.n_repairs, self.result.repaired = repairs.n_repairs, tuple(sorted(repairs.repaired))
        arrays = {f"maximiser.{name}": values for name, values in maximiser.state().items()}
        if self.anderson is not None:
            arrays |= {f"anderson.{name}": values for name, values in self.anderson.state().items()}
        return LoopState(self.result, self.of_two_kinds, arrays)

    def restore(self, state: LoopState) -> None:
        """Go on from there."""
        self.result, self.of_two_kinds, arrays = state
        self.maximiser.restore(_of("maximiser.", arrays))
        if self.anderson is not None:
            self.anderson.restore(_of("anderson.", arrays))

    def iterate(self) -> tuple[float, float, bool]:
        """One pass and M-step; the bound reached, how much it changed, whether this was the end."""
        maximiser, anderson, options, result = self.maximiser, self.anderson, self.options, self.result
        objective, parameters, bound = maximiser.objective, result.parameters, result.lower_bound
        began = perf_counter()
        maximiser.seconds = maximiser.pairs = maximiser.pairs_centred = maximiser.pairs_single = 0.0
        scored = objective.scored(parameters)
        score_map = maximiser.score_map(scored)
        centred = maximiser.centred(scored)
        statistics = maximiser.collect(scored, score_map, scored.means, centred)
        looks = n_repaired = 0
        converged = False
        found = -np.inf
        if anderson is not None and anderson.on_trial:
            found = objective.found(statistics, parameters)
        worse = anderson is not None and anderson.on_trial and not found >= bound
        if worse:
            assert anderson is not None
            change = found - bound
            parameters = anderson.take_back()
        else:
            before = parameters
            parameters, looks, n_repaired = maximiser.maximise(
                statistics, centred, before, partial(maximiser.collect, scored, score_map)
            )
            assert maximiser.statistics is not None
            found = objective.reached(maximiser.statistics, before, parameters)
            change, bound = found - bound, found
            noise = single.NOISE * max(1.0, abs(found))
            converged = abs(change) < options.tol and not n_repaired and not self.of_two_kinds
            self.of_two_kinds = False
            wants_more = (options.tol > 0 or anderson is not None) and not (
                converged and options.tol >= noise
            )
            if maximiser.single and abs(change) < noise and wants_more:
                maximiser.finish_in_double()
                converged, self.of_two_kinds = False, True
            if anderson is not None and n_repaired:
                anderson.restart()
            elif anderson is not None and converged and anderson.on_trial:
                # a bold step that gained little: only when EM's own gains as little is this the end
                anderson.plain()
                converged = False
            elif anderson is not None and not converged:
                parameters = anderson.step(before, parameters)
        values = (
            found,
            maximiser.seconds,
            perf_counter() - began - maximiser.seconds,
            maximiser.pairs,
            maximiser.pairs_centred,
            maximiser.pairs_single,
            looks,
            n_repaired,
            int(worse),
        )
        for key, value in zip(HISTORY, values, strict=True):
            result.history[key].append(value)
        result.lower_bounds.append(found)
        result.n_iter += 1
        result.parameters, result.lower_bound, result.converged = parameters, bound, converged
        return found, change, converged

    def end(self) -> EMResult:
        """The result, once no iteration follows."""
        result, anderson = self.result, self.anderson
        if anderson is not None and anderson.on_trial:
            result.parameters = anderson.take_back()  # nobody has seen yet whether the last step was better
        result.n_repairs = self.maximiser.repairs.n_repairs
        result.repaired = tuple(sorted(self.maximiser.repairs.repaired))
        return result


def _of(prefix: str, arrays: dict[str, Any]) -> dict[str, Any]:
    return {name[len(prefix) :]: values for name, values in arrays.items() if name.startswith(prefix)}


def run(
    data: Data,
    structure: Structure,
    start: Parameters,
    options: EMOptions,
    *,
    frame: Frame | None = None,
    previous_bound: float = -np.inf,
    on_iteration: Callable[[int, float, float, bool], None] | None = None,
    keeper: Keeper | None = None,
    objective: Objective | None = None,
) -> EMResult:
    """EM from given parameters until |change of the value that is watched| < tol or max_iter iterations.

    Parameters
    ----------
    data, structure, start, options
    objective : what is maximised; the likelihood, if it is not given
    frame : of the data; measured if it is not given
    previous_bound : the bound a first change is measured from (a warm start's)
    on_iteration : called with (iteration, bound, change, converged) after each iteration
    keeper : has the state this run was left in, if it was begun before, and keeps it from time to time. The
        run then goes on from what was kept as if it had been found, so that one that is cut short and begun
        again ends with the same bits
    """
    if options.max_iter == 0:
        return nothing_done(start, previous_bound)
    if frame is None:
        frame = data.frame(options.n_threads, structure.common_scale)
    loop = _Loop(data, structure, start, options, frame, previous_bound, objective)
    state = None if keeper is None else keeper.found()
    if state is not None:
        loop.restore(state)
    elif keeper is not None and keeper.is_due(0):
        loop.restore(keeper.keep(loop.state()))
    while loop.result.n_iter < options.max_iter:
        found, change, converged = loop.iterate()
        iteration = loop.result.n_iter
        if on_iteration is not None:
            on_iteration(iteration, found, change, converged)
        if converged:
            break
        if iteration < options.max_iter:
            out_of_time = perf_counter() >= options.deadline
            if keeper is not None and (out_of_time or keeper.is_due(iteration)):
                loop.restore(keeper.keep(loop.state()))
            if out_of_time:
                loop.result.out_of_time = True
                break
    return loop.end()


def go_on(
    data: Data,
    structure: Structure,
    result: EMResult,
    options: EMOptions,
    *,
    frame: Frame,
    on_iteration: Callable[[int, float, float, bool], None] | None = None,
    keeper: Keeper | None = None,
    objective: Objective | None = None,
) -> EMResult:
    """Continue a run until it has options.max_iter iterations in all; one result for both parts."""
    before = result.n_iter

    def report(iteration: int, bound: float, change: float, converged: bool) -> None:
        if on_iteration is not None:
            on_iteration(before + iteration, bound, change, converged)

    more = run(
        data,
        structure,
        result.parameters,
        replace(options, max_iter=options.max_iter - before),
        frame=frame,
        previous_bound=result.lower_bound,
        on_iteration=report,
        keeper=keeper,
        objective=objective,
    )
    return EMResult(
        more.parameters,
        converged=more.converged,
        n_iter=before + more.n_iter,
        lower_bound=more.lower_bound,
        lower_bounds=result.lower_bounds + more.lower_bounds,
        history={key: result.history[key] + more.history[key] for key in result.history},
        n_repairs=result.n_repairs + more.n_repairs,
        repaired=tuple(sorted({*result.repaired, *more.repaired})),
        out_of_time=more.out_of_time,
    )
