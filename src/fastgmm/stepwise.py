"""Stepwise EM: running statistics, moved a little towards those of each batch, and an M-step from them.

    s  <-  (1 - step) s + step * (statistics of the batch) / (its weight),        step = (t + t0)^-kappa

for t = 1, 2, ... (Cappe and Moulines 2009, Journal of the Royal Statistical Society B 71, 593-613; Liang and
Klein 2009, Proceedings of NAACL, 611-619). Running statistics have the total weight 1 and are kept about the
means of the parameters that they give, so that they lose no digits however far these wander.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import NamedTuple

import numpy as np

from . import em
from ._typing import BoolArray, FloatArray, LabelArray
from .batches import Batches
from .frame import Frame, frame_of_parameters
from .parameters import Parameters
from .repair import keep_weightless
from .sources import Data
from .statistics import Statistics
from .structures import Structure, maximum_likelihood

# A component may be seeded anew again (repair.LARGEST_RESEEDS) once it has gone without for so many steps:
# streams have no end, and a count that is never forgotten would run out.
FORGIVEN_AFTER = 100
# Running statistics are worth at least so many times the rows that a stream starts from. A shorter memory
# loses components, or gives them covariances that are narrow by chance.
REMEMBERED = 8
# Rows that a stream starts from: so many per component, and more than a covariance has dimensions.
START_ROWS_PER_COMPONENT = 10
# Sums of so many running statistics are averaged that the weight of the t-th is about proportional to t: the
# first ones, far from where it ends, are soon forgotten (Shamir and Zhang 2013, ICML, equation 8, eta = 1).
LATER_COUNT_MORE = 1.0


class Rule(NamedTuple):
    """How long steps are, and which statistics the parameters are of in the end.

    averaging : None: the running ones; "steps": their average over all steps; "epoch": the mean of those of
        the batches of the last epoch, which counts each row once, as EM does
    """

    kappa: float
    t0: float
    min_step: float = 0.0
    averaging: str | None = None

    def step(self, t: int, longest: float = 1.0) -> float:
        """Length of the t-th step, t = 1, 2, ...; at most `longest`, unless `min_step` is longer."""
        return float(min(1.0, max(self.min_step, min((t + self.t0) ** -self.kappa, longest))))


def rows_to_start_from(n_components: int, n_features: int) -> int:
    """How many rows a stream starts from."""
    return n_components * max(START_ROWS_PER_COMPONENT, n_features + 1)


@dataclass(frozen=True)
class Running:
    """All that stepwise EM keeps between two steps; steps make new ones and leave it as it is.

    Attributes
    ----------
    statistics : running statistics of total weight 1, about the means of `parameters`
    parameters : of the last M-step; responsibilities of the next batch are computed under these
    n_steps : so many steps were made
    average : average of running statistics, None before the first step and where none is wanted
    n_averaged : of so many
    n_reseeds, reseeded_at : how often and in which step each component was last seeded anew, (K,)
    hopeless, floored : as em.Maximiser has them, (K,)
    """

    statistics: Statistics
    parameters: Parameters
    n_steps: int
    average: Statistics | None
    n_averaged: int
    n_reseeds: LabelArray
    reseeded_at: LabelArray
    hopeless: BoolArray
    floored: BoolArray


class StepReport(NamedTuple):
    """What a step saw: the batch under the parameters before it, about the means after it; what it cost."""

    batch: Statistics
    step: float
    log_likelihood: float
    total_weight: float
    n_repairs: int
    repaired: tuple[int, ...]
    second_looks: int
    seconds_pass: float
    seconds_estimate: float


@dataclass
class StepwiseResult(em.EMResult):
    """Where the epochs ended; iterations are epochs, and `running` goes on from there."""

    running: Running | None = None


HISTORY = (
    "lower_bound",
    "seconds_pass",
    "seconds_estimate",
    "steps",
    "step",
    "second_looks",
    "repairs",
)


def begin(
    parameters: Parameters,
    structure: Structure,
    reg_covar: float,
    *,
    n_steps: int = 0,
    like: Frame | None = None,
) -> Running:
    """Running statistics that give these parameters, from which steps go on.

    The scale of the frame is that of the mixture, or of `like`; it stays.
    """
    weights, means = parameters.weights, parameters.means
    frame = like
    if frame is None:
        variances = structure.variances(parameters)
        frame = frame_of_parameters(weights, means, variances, structure.common_scale)
    K = weights.size
    total = weights.sum()
    parameters = Parameters(*(array.copy() for array in parameters._replace(weights=weights / total)))
    return Running(
        statistics=_statistics_of(parameters, structure, frame, reg_covar),
        parameters=parameters,
        n_steps=n_steps,
        average=None,
        n_averaged=0,
        n_reseeds=np.zeros(K, dtype=np.int64),
        reseeded_at=np.zeros(K, dtype=np.int64),
        hopeless=np.zeros(K, dtype=bool),
        floored=np.zeros(K, dtype=bool),
    )


def _statistics_of(
    parameters: Parameters, structure: Structure, frame: Frame, reg_covar: float
) -> Statistics:
    """Statistics of total weight 1 whose M-step gives these parameters."""
    return Statistics(
        structure=structure.name,
        frame=frame,
        reference=parameters.means.copy(),
        weight=parameters.weights.copy(),
        first=np.zeros(parameters.means.shape),
        second=structure.second_of(parameters, frame.scale, reg_covar),
        log_likelihood=0.0,
        log_max_responsibility=0.0,
        total_weight=1.0,
        n_rows=0,
        pairs=0.0,
        pairs_centred=0.0,
        fingerprint=b"",
    )


def take_step(
    running: Running,
    data: Data,
    structure: Structure,
    options: em.EMOptions,
    rule: Rule,
    relative_weight: float = 1.0,
    *,
    whole: bool = False,
) -> tuple[Running, StepReport]:
    """One step towards the statistics of a batch.

    Parameters
    ----------
    running : what went before
    data : the batch, of positive weight
    structure, options : of these reg_covar, repair and n_threads count
    rule : says how long the step is
    relative_weight : of the batch beside the mean of all; the step is so many times as long, and at most 1.
        Before, it is so long at most that the batch is not more of the running statistics than its rows can
        tell, REMEMBERED times those to start from
    whole : the batch is all there is: the step is 1, that of EM
    """
    began = perf_counter()
    n_steps = running.n_steps + 1
    longest = data.n_positive / (REMEMBERED * rows_to_start_from(*running.parameters.means.shape))
    share = 1.0 if whole else min(1.0, rule.step(n_steps, longest) * relative_weight)
    before, scale = running.parameters, running.statistics.frame.scale
    # Shared features are accumulated about the middle of the mixture, wherever it is by now.
    middle = frame_of_parameters(before.weights, before.means, np.zeros(before.means.shape), False).shift
    maximiser = em.Maximiser(data, structure, Frame(middle, scale), options, before.weights.size)
    forgiven = n_steps - running.reseeded_at > FORGIVEN_AFTER
    maximiser.repairs.n_reseeds = np.where(forgiven, 0, running.n_reseeds)
    maximiser.hopeless, maximiser.repairs.floored = running.hopeless.copy(), running.floored.copy()
    score_map = maximiser.score_map(before)
    batch: Statistics

    def mixture(centres: FloatArray, centred: BoolArray) -> Statistics:
        """Of running statistics and the batch's, about the points that the batch's are about.

        What rounding does to moments about these is seen from the estimate, which takes a second look.
        """
        nonlocal batch
        batch = maximiser.collect(before, score_map, centres, centred)
        batch = batch.scaled(1.0 / batch.total_weight)
        return batch.mixed(running.statistics, 1.0 - share)

    centred = maximiser.centred(before)
    first = mixture(before.means, centred)
    log_likelihood = batch.log_likelihood * data.total_weight
    reseeds = maximiser.repairs.n_reseeds.copy()
    parameters, looks, n_repairs = maximiser.maximise(first, centred, before, mixture)
    degenerate = bool(maximiser.repairs.repaired) or maximiser.repairs.floored.any()
    if degenerate:  # statistics that give what was repaired
        statistics = _statistics_of(parameters, structure, running.statistics.frame, options.reg_covar)
    else:
        # Each about the new means first: then all that is added up is positive, and nothing cancels.
        statistics = running.statistics.about(parameters.means)
        statistics = statistics.mixed(batch.about(parameters.means), share)
    average, n_averaged = running.average, running.n_averaged
    if rule.averaging == "steps":
        n_averaged = 1 if average is None or degenerate else n_averaged + 1
        weight = (1.0 + LATER_COUNT_MORE) / (n_averaged + LATER_COUNT_MORE)
        average = statistics if average is None or n_averaged == 1 else (
            average.about(parameters.means).mixed(statistics, weight)
        )  # fmt: skip
    reseeded = maximiser.repairs.n_reseeds > reseeds
    after = Running(
        statistics=statistics,
        parameters=parameters,
        n_steps=n_steps,
        average=average if rule.averaging == "steps" else None,
        n_averaged=n_averaged if rule.averaging == "steps" else 0,
        n_reseeds=maximiser.repairs.n_reseeds,
        reseeded_at=np.where(reseeded, n_steps, running.reseeded_at),
        hopeless=maximiser.hopeless,
        floored=maximiser.repairs.floored,
    )
    report = StepReport(
        batch.about(parameters.means),
        share,
        log_likelihood,
        data.total_weight,
        n_repairs,
        tuple(sorted(maximiser.repairs.repaired)),
        looks,
        maximiser.seconds,
        perf_counter() - began - maximiser.seconds,
    )
    return after, report


def final_parameters(running: Running, structure: Structure, options: em.EMOptions) -> Parameters:
    """Parameters of the averaged statistics where there are any, else of the running ones."""
    if running.average is None:
        return running.parameters
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        estimate = maximum_likelihood(structure, running.average, options.reg_covar, options.n_threads)
    return running.parameters if estimate.degenerate.any() else estimate.parameters


@dataclass
class _Epoch:
    """Sums over the steps of an epoch, and the mean of the statistics of its batches."""

    mean: Statistics | None = None
    log_likelihood: float = 0.0
    total_weight: float = 0.0
    seconds_pass: float = 0.0
    seconds_estimate: float = 0.0
    step: float = 0.0
    n_steps: int = 0
    looks: int = 0
    n_repairs: int = 0
    repaired: set[int] = field(default_factory=set)

    def add(self, report: StepReport) -> None:
        batch = report.batch
        if self.mean is None:
            self.mean = batch
        else:
            share = report.total_weight / (self.total_weight + report.total_weight)
            self.mean = self.mean.about(batch.reference).mixed(batch, share)
        self.log_likelihood += report.log_likelihood
        self.total_weight += report.total_weight
        self.seconds_pass += report.seconds_pass
        self.seconds_estimate += report.seconds_estimate
        self.step = report.step
        self.n_steps += 1
        self.looks += report.second_looks
        self.n_repairs += report.n_repairs
        self.repaired.update(report.repaired)


def _at_the_end_of(epoch: _Epoch, running: Running, structure: Structure, options: em.EMOptions) -> Running:
    """Go on from the mean of the statistics of an epoch's batches, where nothing was repaired in it."""
    if epoch.mean is None or epoch.n_repairs or running.floored.any():
        return running
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        estimate = maximum_likelihood(structure, epoch.mean, options.reg_covar, options.n_threads)
    estimate = keep_weightless(estimate, running.parameters, structure)
    if estimate.degenerate.any():
        return running
    statistics = replace(epoch.mean.about(estimate.parameters.means), frame=running.statistics.frame)
    return replace(running, statistics=statistics, parameters=estimate.parameters)


def run(
    batches: Batches,
    structure: Structure,
    running: Running,
    options: em.EMOptions,
    rule: Rule,
    *,
    patience: int,
    previous_bound: float = -np.inf,
    on_epoch: Callable[[int, float, float, bool], None] | None = None,
) -> StepwiseResult:
    """Epochs until the bound has not risen by options.tol for `patience` of them, or options.max_iter.

    The bound of an epoch is the mean log-likelihood of its batches, each under the parameters before its
    step. `previous_bound`, which may be of other rows, or of one batch, is what the first change is told
    from; epochs are compared with each other alone.
    """
    result = StepwiseResult(
        running.parameters,
        lower_bound=previous_bound,
        history={key: [] for key in HISTORY},
        running=running,
    )
    best, n_idle = -np.inf, 0
    repaired: set[int] = set()
    whole = batches.n_batches == 1
    epoch = _Epoch()
    for number in range(1, options.max_iter + 1):
        epoch = _Epoch()
        for batch in batches.epoch():
            relative = batch.total_weight / batches.mean_weight
            running, report = take_step(running, batch, structure, options, rule, relative, whole=whole)
            epoch.add(report)
        found = epoch.log_likelihood / epoch.total_weight
        change = found - result.lower_bound
        gained = found - best >= options.tol
        best = max(best, found)
        n_idle = 0 if gained or epoch.n_repairs else n_idle + 1
        converged = options.tol > 0 and n_idle >= patience
        repaired |= epoch.repaired
        values = (
            found,
            epoch.seconds_pass,
            epoch.seconds_estimate,
            epoch.n_steps,
            epoch.step,
            epoch.looks,
            epoch.n_repairs,
        )
        for key, value in zip(HISTORY, values, strict=True):
            result.history[key].append(value)
        result.lower_bounds.append(found)
        result.lower_bound, result.n_iter = found, number
        result.n_repairs += epoch.n_repairs
        if on_epoch is not None:
            on_epoch(number, found, change, converged)
        if converged:
            result.converged = True
            break
    if rule.averaging == "epoch" and not whole:
        running = _at_the_end_of(epoch, running, structure, options)
    result.parameters = final_parameters(running, structure, options)
    result.running = running
    result.repaired = tuple(sorted(repaired))
    return result
