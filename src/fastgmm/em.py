"""The loop: pass, estimate, converged? It knows no covariance structure and no source of rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import numpy as np

from ._typing import BoolArray, FloatArray, LabelArray
from .blocks import ArrayData
from .frame import Frame
from .parameters import Parameters
from .passes import accumulate
from .repair import keep_weightless, repair
from .statistics import Statistics
from .structures import Estimate, Structure


@dataclass(frozen=True)
class EMOptions:
    """What governs the loop; names as the estimator's."""

    tol: float = 1e-3
    reg_covar: float = 1e-6
    max_iter: int = 100
    repair: str = "reseed"
    n_threads: int = 1


@dataclass
class EMResult:
    """Where the loop ended and how it got there.

    lower_bound and lower_bounds are mean log-likelihoods per unit of weight of the parameters *before* each
    M-step, as scikit-learn counts them; parameters are those after the last one.
    """

    parameters: Parameters
    converged: bool = False
    n_iter: int = 0
    lower_bound: float = -np.inf
    lower_bounds: list[float] = field(default_factory=list)
    history: dict[str, list[Any]] = field(default_factory=dict)
    n_repairs: int = 0
    repaired: tuple[int, ...] = ()


HISTORY = (
    "lower_bound",
    "seconds_pass",
    "seconds_estimate",
    "pairs",
    "pairs_centred",
    "second_looks",
    "repairs",
)


class Maximiser:
    """M-steps with all that can go wrong: moments lost to cancellation, degenerate components.

    One per run: it counts reseeds, remembers the scatter that tied covariances share, and which components
    are to be accumulated about their own means.
    """

    def __init__(self, data: ArrayData, structure: Structure, frame: Frame, options: EMOptions) -> None:
        self.data, self.structure, self.frame, self.options = data, structure, frame, options
        self.shared_second: FloatArray | None = None
        self.n_reseeds: LabelArray | None = None
        self.repaired: set[int] = set()
        self.n_repairs = 0

    def centred(self, parameters: Parameters) -> BoolArray:
        """Components to accumulate about their means: about the origin they would lose digits."""
        K = parameters.weights.size
        if self.structure.always_project(self.data.n_features) or kernel_choice() == "centred":
            return np.ones(K, dtype=bool)
        offset = self.frame.to_frame(parameters.means)
        return self.structure.needs_centring(parameters, offset, self.frame)

    def collect(
        self, n_components: int, centres: FloatArray, centred: BoolArray, **source: Any
    ) -> Statistics:
        """One pass over the data."""
        share = self.structure.pooled and not centred.any()
        statistics = accumulate(
            self.data,
            self.structure,
            self.frame,
            n_components,
            self.options.n_threads,
            centres=centres,
            centred=centred,
            second=self.shared_second if share and "score_map" in source else None,
            **source,
        )
        if share and "score_map" in source:
            self.shared_second = statistics.second
        return statistics

    def maximise(
        self,
        statistics: Statistics,
        previous: Parameters | None,
        look_again: Callable[[FloatArray, BoolArray], Statistics],
    ) -> tuple[Parameters, int, int]:
        """Parameters from statistics; numbers of second looks and repairs it took.

        look_again(centres, centred) runs the pass once more under the same responsibilities, with the moments
        of some components about new centres.
        """
        looks = 0
        estimate = self._estimate(statistics, previous)
        doubtful = self._doubtful(estimate, statistics)
        if doubtful.any():
            looks = int(np.count_nonzero(doubtful))
            about = doubtful | (statistics.reference != self.frame.shift).any(axis=1)
            centres = np.where(doubtful[:, None], estimate.parameters.means, statistics.reference)
            estimate = self._estimate(look_again(centres, about), previous)
        bad = estimate.degenerate
        if not bad.any():
            return estimate.parameters, looks, 0
        if self.n_reseeds is None:
            self.n_reseeds = np.zeros(bad.size, dtype=np.int64)
        parameters = repair(
            estimate, self.structure, self.frame, self.options.repair, self.n_reseeds, previous
        )
        self.repaired.update(np.flatnonzero(bad).tolist())
        n_bad = int(np.count_nonzero(bad))
        self.n_repairs += n_bad
        return parameters, looks, n_bad

    def _estimate(self, statistics: Statistics, previous: Parameters | None) -> Estimate:
        with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
            estimate = self.structure.estimate(statistics, self.options.reg_covar, self.options.n_threads)
        return estimate if previous is None else keep_weightless(estimate, previous, self.structure)

    def _doubtful(self, estimate: Estimate, statistics: Statistics) -> BoolArray:
        """Components whose moments lost too many digits where they were taken: centring them would help."""
        parameters = estimate.parameters
        offset = (parameters.means - statistics.reference) * self.frame.scale
        doubtful = self.structure.needs_centring(parameters, offset, self.frame)
        # a covariance without a factor may be nothing but cancellation, unless it was centred already
        moved = (np.abs(offset) > 0).any(axis=1)
        doubtful = (doubtful | (estimate.singular & moved)) & ~estimate.starved
        return np.full(doubtful.shape, doubtful.any()) if self.structure.pooled else doubtful


def kernel_choice() -> str:
    """The test hook of the kernels: 'auto', 'features' or 'centred'."""
    from .kernels import _pass

    return _pass.kernel_choice()


def run(
    data: ArrayData,
    structure: Structure,
    start: Parameters,
    options: EMOptions,
    *,
    frame: Frame | None = None,
    previous_bound: float = -np.inf,
    on_iteration: Callable[[int, float, float, bool], None] | None = None,
) -> EMResult:
    """EM from given parameters until |change of the mean log-likelihood| < tol or max_iter iterations.

    Parameters
    ----------
    data, structure, start, options
    frame : of the data; measured if it is not given
    previous_bound : the bound a first change is measured from (a warm start's)
    on_iteration : called with (iteration, bound, change, converged) after each iteration
    """
    result = EMResult(start, lower_bound=previous_bound, history={key: [] for key in HISTORY})
    if options.max_iter == 0:
        return result
    if frame is None:
        frame = data.frame(options.n_threads, structure.common_scale)
    maximiser = Maximiser(data, structure, frame, options)
    parameters, bound = start, previous_bound
    n_components = start.weights.size
    for iteration in range(1, options.max_iter + 1):
        began = perf_counter()
        score_map = structure.score_map(parameters, frame, options.n_threads)
        source = {"score_map": score_map}
        centred = maximiser.centred(parameters)
        ready = perf_counter()
        statistics = maximiser.collect(n_components, parameters.means, centred, **source)
        passed = perf_counter()

        def look_again(centres: FloatArray, about: BoolArray, source: dict[str, Any] = source) -> Statistics:
            return maximiser.collect(n_components, centres, about, **source)

        parameters, looks, n_bad = maximiser.maximise(statistics, parameters, look_again)
        previous_bound, bound = bound, statistics.log_likelihood / statistics.total_weight
        change = bound - previous_bound
        converged = abs(change) < options.tol and not n_bad
        values = (
            bound,
            passed - ready,
            perf_counter() - passed + ready - began,
            statistics.pairs,
            statistics.pairs_centred,
            looks,
            n_bad,
        )
        for key, value in zip(HISTORY, values, strict=True):
            result.history[key].append(value)
        result.lower_bounds.append(bound)
        result.n_iter = iteration
        if on_iteration is not None:
            on_iteration(iteration, bound, change, converged)
        if converged:
            result.converged = True
            break
    result.parameters = parameters
    result.lower_bound = bound
    result.n_repairs = maximiser.n_repairs
    result.repaired = tuple(sorted(maximiser.repaired))
    return result
