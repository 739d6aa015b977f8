"""`partial_fit` of stepwise EM: one step per call, and what is kept from one call to the next."""

from __future__ import annotations

from copy import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self

import numpy as np
from sklearn.utils import check_random_state

from . import em, stepwise
from ._criteria import CriteriaMixin
from ._memory import explained_memory_error
from ._scikit_learn import validated
from ._seeded import SeededMixture
from ._typing import FloatArray
from ._validation import check_block_weight, check_rows
from .blocks import ArrayData
from .few_rows import drawn_to_their_mean
from .frame import Frame, moments_of_parameters
from .seeding import Start
from .sources import Data, Source
from .threads import effective_n_threads, single_threaded_blas

# Starts whose components are single rows, with covariances that say nothing.
FROM_SINGLE_ROWS = ("k-means++", "random_from_data")


class Waiting(NamedTuple):
    """The first rows of a stream, until there are enough of them to seed from."""

    X: FloatArray
    sample_weight: FloatArray | None
    n_seeded: int  # rows that the parameters were seeded from that serve meanwhile

    def rows(self) -> ArrayData:
        """The rows, as data."""
        return ArrayData(self.X, self.sample_weight)


class SteppingMixture(CriteriaMixin, SeededMixture):
    """Mixtures that go on from their last step: in `partial_fit`, or with epochs of steps.

    The constructor has `kappa`, `t0`, `min_step` and `averaging`. Two attributes are kept beside the model:
    `_running`, None before the first step, and `_waiting`, the first rows of a stream while they are too few.
    """

    n_components: int
    kappa: float
    t0: float
    min_step: float
    averaging: Literal["epoch", "steps"] | None
    n_steps_: int

    if TYPE_CHECKING:

        def set_partial_fit_request(self, *, sample_weight: bool | str | None = ...) -> Self: ...

    def _with_covariances(
        self,
        start: Start,
        rows: ArrayData,
        given: dict[str, Any],
        options: em.EMOptions,
        frame: Frame | None = None,
    ) -> Start:
        """A start from single rows after an iteration of EM over the rows it was made of; others as they are.

        Short steps would never get over covariances of `reg_covar`: the component that outgrows the others
        first takes their rows, as its density far away is the largest by so many orders of magnitude.
        """
        single = self.init_params in FROM_SINGLE_ROWS
        if not single or given["means"] is not None or given["precisions"] is not None:
            return start
        one = replace(options, max_iter=1)
        result = em.run(rows, self._structure(), start.parameters, one, frame=frame)
        parameters = result.parameters
        if given["weights"] is not None:
            parameters = parameters._replace(weights=start.parameters.weights)
        return Start(parameters, (*start.repaired, *result.repaired))

    def _start_of_stream(
        self,
        rows: ArrayData,
        given: dict[str, Any],
        random_state: np.random.RandomState,
        options: em.EMOptions,
    ) -> Start:
        """A start made of few rows: what covariances have of their own, each has in proportion to its rows.

        Those of clusters with fewer rows than features would be singular but for `reg_covar`, and such
        components lose their rows to the others in the first steps.
        """
        structure = self._structure()
        start = self._make_start(rows, given, random_state, options, None)
        start = self._with_covariances(start, rows, given, options)
        if given["precisions"] is not None or structure.pooled:
            return start
        weights, means, covariances, _ = start.parameters
        covariances = drawn_to_their_mean(weights, covariances, weights * rows.n_positive)
        try:
            parameters = structure.from_covariances(weights, means, covariances)
        except ValueError:  # no row has more dimensions: repaired ones are what there is
            return start
        return start._replace(parameters=parameters)

    def _attributes_of(self, result: em.EMResult) -> dict[str, Any]:
        assert isinstance(result, stepwise.StepwiseResult)
        running = result.running
        # what is kept to go on from does not change when users edit attributes in place
        result.parameters = type(result.parameters)(*(array.copy() for array in result.parameters))
        return {
            **super()._attributes_of(result),
            "n_steps_": 0 if running is None else running.n_steps,
            "_running": running,
            "_waiting": None,
        }

    def _options(self, n_threads: int, deadline: float = np.inf) -> em.EMOptions:
        return em.EMOptions(
            tol=float(self.tol),
            reg_covar=float(self.reg_covar),
            max_iter=int(self.max_iter),
            repair=self.repair,
            n_threads=n_threads,
        )

    def _open(self, source: Source, n_threads: int) -> Any:
        """The rows of a source, in this process: each step needs the one before, wherever its rows are."""
        return source.open_here(n_threads)

    def _rule(self) -> stepwise.Rule:
        return stepwise.Rule(float(self.kappa), float(self.t0), float(self.min_step), self.averaging)

    def _going_on(self, parameters: Any, options: em.EMOptions) -> stepwise.Running:
        """What steps go on from: as it was kept, or the attributes where they were set or edited since."""
        structure, n_steps = self._structure(), int(getattr(self, "n_steps_", 0))
        running: stepwise.Running | None = getattr(self, "_running", None)
        if running is None:
            return stepwise.begin(parameters, structure, options.reg_covar, n_steps=n_steps)
        with single_threaded_blas():
            written = stepwise.final_parameters(running, structure, options)
        if all(np.array_equal(now, then) for now, then in zip(parameters, written)):
            # where n_steps_ was set back, repairs of later steps are as old as they can be told to be
            reseeded_at = np.minimum(running.reseeded_at, n_steps)
            return replace(running, n_steps=n_steps, reseeded_at=reseeded_at)
        return stepwise.begin(parameters, structure, options.reg_covar, n_steps=n_steps)

    # ---- partial_fit -------------------------------------------------------------------------------------

    @validated
    def partial_fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Make one step towards a batch of rows.

        The first call begins a stream: with `weights_init`, `means_init` and `precisions_init` from there,
        else rows are kept until there are ``n_components * max(10, n_features + 1)`` of positive weight to
        seed from; all of them then make the first step. Until then a provisional mixture is seeded whenever
        twice as many rows have come, the first time from as many as components (at least 2); methods that
        need a mixture raise NotFittedError before. After `fit` or `load` it goes on from there.

        If the call is interrupted or fails, the attributes stay as they were.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or a source of rows
            The batch: any number of rows, one is enough. A source is read twice and makes one step as well.

        y : Ignored
            Not used, present for API consistency by convention.

        sample_weight : array-like of shape (n_samples,), default=None
            How many times each row counts within the batch. The length of the step does not depend on it, nor
            on the number of rows; a batch without any weight makes no step.

        Returns
        -------
        self : object
            The mixture after the step.

        Raises
        ------
        ValueError
            For options, rows, weights or starting arrays that are not valid, and other features or
            `n_components` than before; with `repair='raise'`, for a component that collapses.
        TypeError
            For sparse matrices and arrays on another device.

        Warns
        -----
        RepairWarning
            If components had to be repaired in this step; with their numbers.
        RegularizationWarning
            As `fit` does, in the first step of a stream.
        """
        self._partial_fit(X, sample_weight)
        return self

    def _partial_fit(self, X: Any, sample_weight: Any) -> None:
        candidate = copy(self)
        n_threads = effective_n_threads(self.n_jobs)
        random_state = check_random_state(self.random_state)
        data, seeds = self._batch_of(X, sample_weight, candidate, random_state, n_threads)
        n_features = int(candidate.n_features_in_)
        given, options = self._check_start(n_features), self._options(n_threads)
        attributes: dict[str, Any] = {
            name: getattr(candidate, name)
            for name in ("n_features_in_", "feature_names_in_")
            if hasattr(candidate, name)
        }
        result = stepwise.StepwiseResult(None)  # type: ignore[arg-type]
        request = f"a step of {self.n_components} components x {n_features} features"
        remedy = "Use fewer components or threads (n_jobs), or another covariance_type."
        if data is not None and seeds is not None:
            with single_threaded_blas(), explained_memory_error(request, remedy):
                attributes |= self._advance(data, seeds, given, options, random_state, result)
        steps_before = int(getattr(self, "n_steps_", 0))
        self.__dict__.update(attributes)
        above = 5  # the method that warns, _partial_fit, partial_fit, its decorator, the caller
        self._warn_about_repairs(result, above)
        if data is not None and not steps_before and getattr(self, "n_steps_", None):
            # once in a stream, which has no end
            n_rows = max(data.n_positive, stepwise.rows_to_start_from(self.n_components, n_features))
            weights, means = result.parameters.weights, result.parameters.means
            variances = self._structure().variances(result.parameters)
            left = np.maximum(variances - self._reg_covar_added(), 0.0)
            moments = moments_of_parameters(weights, means, left)
            self._warn_about_variances(result.parameters, n_rows, *moments, above)

    def _batch_of(
        self,
        X: Any,
        sample_weight: Any,
        candidate: Self,
        random_state: np.random.RandomState,
        n_threads: int,
    ) -> tuple[Data | None, ArrayData | None]:
        """A batch validated, and its rows to seed from; None where nothing in it has weight."""
        reset = not hasattr(self, "n_features_in_")
        if reset and hasattr(self, "means_"):
            candidate.n_features_in_ = np.shape(self.means_)[-1]  # attributes set by hand
            reset = False
        weights = None if sample_weight is None else np.asarray(sample_weight)
        if weights is not None and weights.dtype.kind in "biuf" and not weights.any() and weights.ndim == 1:
            X = check_rows(candidate, X, reset=reset)
            check_block_weight(weights, len(X), "", 0)
            return None, None
        _, data, seeds = self._rows_of(
            X, sample_weight, candidate, random_state, n_threads, reset=reset, min_rows=1
        )
        if isinstance(data, ArrayData):
            data.frame(n_threads)  # refuses rows whose variances float64 has no numbers for
        return data, seeds

    def _advance(
        self,
        data: Data,
        seeds: ArrayData,
        given: dict[str, Any],
        options: em.EMOptions,
        random_state: np.random.RandomState,
        result: stepwise.StepwiseResult,
    ) -> dict[str, Any]:
        """Attributes after a step, or while rows are waiting; `result` is told of repairs."""
        structure = self._structure()
        waiting: Waiting | None = getattr(self, "_waiting", None)
        if waiting is None and hasattr(self, "means_"):
            what = f"partial_fit continues {type(self).__name__}"
            parameters = self._fitted_parameters(
                data.n_features, what, "Clone the estimator to start afresh."
            )
            running = self._going_on(parameters, options)
        else:
            if not all(value is not None for value in given.values()):
                if waiting is not None:
                    seeds = _together(waiting.rows(), seeds)
                    if isinstance(data, ArrayData):
                        data = seeds
                n_wanted = stepwise.rows_to_start_from(self.n_components, data.n_features)
                if seeds.n_positive < n_wanted:
                    n_seeded = 0 if waiting is None else waiting.n_seeded
                    return self._while_waiting(seeds, n_seeded, given, options, random_state)
            start = self._start_of_stream(seeds, given, random_state, options)
            running = stepwise.begin(start.parameters, structure, options.reg_covar)
            result.n_repairs, result.repaired = len(start.repaired), tuple(sorted(set(start.repaired)))
        running, report = stepwise.take_step(running, data, structure, options, self._rule())
        result.parameters = stepwise.final_parameters(running, structure, options)
        result.running = running
        result.n_repairs += report.n_repairs
        result.repaired = tuple(sorted({*result.repaired, *report.repaired}))
        result.lower_bound = report.log_likelihood / report.total_weight
        attributes = self._attributes_of(result)
        attributes["n_repairs_"] += getattr(self, "n_repairs_", 0)
        return attributes | self._last_epochs()

    def _while_waiting(
        self,
        rows: ArrayData,
        n_seeded: int,
        given: dict[str, Any],
        options: em.EMOptions,
        random_state: np.random.RandomState,
    ) -> dict[str, Any]:
        """Keep the rows; a provisional mixture where there are twice as many as the last was made of."""
        attributes: dict[str, Any] = {}
        if rows.n_positive >= max(2 * n_seeded, self.n_components, 2):
            # repairs are of no account: better seeds follow
            start = self._start_of_stream(rows, given, random_state, replace(options, repair="reseed"))
            result = stepwise.StepwiseResult(start.parameters)
            attributes = self._attributes_of(result) | self._last_epochs()
            n_seeded = rows.n_positive
        positive = slice(None) if rows.sample_weight is None else rows.sample_weight > 0
        weight = None if rows.sample_weight is None else rows.sample_weight[positive]
        X = np.array(
            rows.X[positive], dtype=np.float64
        )  # a copy: the caller may use the batch's memory again
        return {**attributes, "_waiting": Waiting(X, weight, n_seeded)}

    def _last_epochs(self) -> dict[str, Any]:
        """Attributes that only `fit` changes."""
        fresh: dict[str, Any] = {"converged_": False, "n_iter_": 0, "lower_bounds_": [], "history_": {}}
        return {name: getattr(self, name, value) for name, value in fresh.items()}


def _together(first: ArrayData, second: ArrayData) -> ArrayData:
    """The rows of both."""
    weight = None
    if first.sample_weight is not None or second.sample_weight is not None:
        parts = (first, second)
        weight = np.concatenate(
            [np.ones(p.n_rows) if p.sample_weight is None else p.sample_weight for p in parts]
        )
    return ArrayData(np.concatenate([first.X, np.asarray(second.X, dtype=np.float64)]), weight)
