"""How all mixture estimators fit: what is checked, in which order, and what is kept."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from contextlib import ExitStack, nullcontext
from copy import copy
from dataclasses import replace
from functools import partial
from numbers import Integral, Real
from os import PathLike
from time import perf_counter
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions

from . import em, outputs
from ._attributes import attribute_parameters
from ._fit_warnings import FitWarnings
from ._memory import explained_memory_error
from ._progress import Progress, SurveyProgress
from ._scikit_learn import validated
from ._typing import Acceleration, Arithmetic, InitParams, Repair
from ._validation import check_enough_rows, check_rows, check_sample_weight
from .blocks import ArrayData
from .checkpoint import Checkpoint
from .frame import Frame
from .objective import Objective
from .parameters import Parameters
from .restarts import RANDOM, SEEDED, Heats, Standing, plan, race
from .seeding import Start, rows_to_seed_from
from .sources import Data, Source, as_source, close, data_of
from .threads import effective_n_threads, single_threaded_blas


class MixtureEstimator(FitWarnings, metaclass=ABCMeta):
    """Base of the mixture estimators: constructor parameters' constraints and the fit; no mathematics.

    A subclass has the constructor and says how a start is checked and made (`_check_start`, `_make_start`),
    how one run improves it (`_run`) and which attributes a result becomes (`_attributes_of`).
    """

    # options of the constructor; stepwise mixtures have not all of them
    n_components: int | Literal["auto"]
    tol: float
    reg_covar: float
    max_iter: int
    n_init: int
    init_params: InitParams
    warm_start: bool
    verbose: int
    verbose_interval: int
    repair: Repair
    acceleration: Acceleration | None
    arithmetic: Arithmetic
    checkpoint: str | PathLike[str] | None
    checkpoint_every: int
    max_time: float | None

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "covariance_type": [StrOptions({"full", "tied", "diag", "spherical"})],
        "tol": [Interval(Real, 0.0, None, closed="left")],
        "reg_covar": [Interval(Real, 0.0, None, closed="left")],
        "max_iter": [Interval(Integral, 0, None, closed="left")],
        "n_init": [Interval(Integral, 1, None, closed="left")],
        "init_params": [StrOptions({"kmeans", "random", "random_from_data", "k-means++"})],
        "random_state": ["random_state"],
        "warm_start": ["boolean"],
        "verbose": ["verbose"],
        "verbose_interval": [Interval(Integral, 1, None, closed="left")],
        "n_jobs": [
            Interval(Integral, None, -1, closed="right"),
            Interval(Integral, 1, None, closed="left"),
            None,
        ],
        "repair": [StrOptions({"reseed", "floor", "raise"})],
        "acceleration": [StrOptions({"anderson"}), None],
        "arithmetic": [StrOptions({"float64", "float32"})],
        "checkpoint": [str, PathLike, None],
        "checkpoint_every": [Interval(Integral, 1, None, closed="left")],
        "max_time": [Interval(Real, 0.0, None, closed="neither"), None],
    }

    # ---- what a subclass says ----------------------------------------------------------------------------

    @abstractmethod
    def _check_start(self, n_features: int, n_rows: int | None = None) -> dict[str, Any]:
        """Check the starting arrays the user gave; what comes back are copies.

        n_rows : rows of X where they are one array, None where they are read or come part by part
        """

    @abstractmethod
    def _make_start(
        self,
        data: ArrayData,
        given: dict[str, Any],
        random_state: np.random.RandomState,
        options: em.EMOptions,
        frame: Frame | None,
        objective: Objective | None = None,
    ) -> Start:
        """Make what one run starts from, of the data or a sample; `frame` is of all, None where unknown."""

    @abstractmethod
    def _attributes_of(self, result: em.EMResult) -> dict[str, Any]:
        """Turn the result of a run into attributes by name."""

    def _objective(self, data: Data, frame: Frame | None, options: em.EMOptions) -> Objective | None:
        """What the fit maximises; None: the likelihood."""
        return None

    def _run(self, data: Data, start: Any, options: em.EMOptions, **how: Any) -> em.EMResult:
        """Improve a start until it converges, or max_iter or the deadline is reached; `how`: as em.run's."""
        return em.run(data, self._structure(), start, options, **how)

    # ---- fit ---------------------------------------------------------------------------------------------

    @validated
    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Estimate the parameters of the mixture by the EM algorithm.

        Fits `n_init` times from different starts and keeps the run with the largest `lower_bound_`. A run
        ends when `lower_bound_` changes by less than `tol`, or after `max_iter` iterations. With
        `warm_start`, later calls continue from the parameters and the lower bound of the last one, and
        `n_init` does not count.

        If the fit is interrupted or fails, the attributes stay as they were.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or a source of rows
            The rows, at least 2. float64 and float32 arrays are read where they are, whatever their memory
            layout; those of foreign byte order are copied and keep their precision; all else becomes float64.
            Rows that do not fit into memory may come from files, named by their paths (.npy, .parquet,
            .arrow, ...; :class:`fastgmm.NpyRows`, :class:`fastgmm.ParquetRows`), a large memory-mapped array,
            pyarrow's tables and data sets, a list of blocks, a generator function or
            :class:`fastgmm.BlockRows`: they are read once to be checked and measured, and once per iteration;
            starts are made from a sample.
            So are Dask arrays, Dask DataFrames and lists of futures, on the workers of a Dask client if there
            is one (docs/cluster.md).

        y : Ignored
            Not used, present for API consistency by convention.

        sample_weight : array-like of shape (n_samples,), default=None
            How many times each row counts; finite and not negative, fractions are fine. Rows of weight 0
            take no part, but are checked. None: each row counts once. For .npy files also paths of files
            of weights, for X of Dask's partitions alike or the name of a column of a Dask DataFrame; other
            sources bring their own.

        Returns
        -------
        self : object
            The fitted mixture.

        Raises
        ------
        ValueError
            For options, rows, weights or starting arrays that are not valid; for fewer rows of positive
            weight than components; with `repair='raise'`, for a component that collapses
            (:class:`fastgmm.DegenerateComponentError`).
        TypeError
            For sparse matrices, arrays on another device, dates and durations, and polars' LazyFrames.
        MemoryError
            If the sums that each thread keeps do not fit into memory.

        Warns
        -----
        ConvergenceWarning
            If the kept run did not converge and `max_iter` is positive.
        RepairWarning
            If components of the kept run had to be repaired; once, with their numbers.
        RegularizationWarning
            Where `reg_covar` is half or more of the variance that a component of ten or more rows has in a
            feature, or more than a tenth of the variance of all rows; once, with features and components.
            Constant features do not count, nor do mixtures with `max_iter=0` or a conjugate `prior`.
        """
        self._fit(X, sample_weight)
        return self

    @validated
    def fit_predict(self, X: Any, y: Any = None, sample_weight: Any = None) -> NDArray[np.int64]:
        """Fit the mixture to X and label the rows of X.

        The same as ``fit(X, sample_weight=sample_weight).predict(X)``: labels belong to the final parameters.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or a source of rows
            The rows, as in :meth:`fit`.

        y : Ignored
            Not used, present for API consistency by convention.

        sample_weight : array-like of shape (n_samples,), default=None
            How many times each row counts in the fit, as in :meth:`fit`. All rows are labelled.

        Returns
        -------
        labels : ndarray of shape (n_samples,), int64
            Number of the most probable component of each row.
        """
        X = self._fit(X, sample_weight)
        if isinstance(X, Source):
            return self._outputs(outputs.LABELS, X, None)
        return outputs.of_array(outputs.LABELS, self.scorer(), X)

    def _fit(self, X: Any, sample_weight: Any) -> Any:
        """Fit, and return the rows, validated. Attributes change at the very end, all at once."""
        candidate = copy(self)  # receives what validation sets, while self keeps an earlier fit
        # stepwise mixtures have neither of these options
        max_time, path = getattr(self, "max_time", None), getattr(self, "checkpoint", None)
        deadline = np.inf if max_time is None else perf_counter() + float(max_time)
        n_threads = effective_n_threads(self.n_jobs)  # before BLAS is limited, which may change the answer
        random_state = check_random_state(self.random_state)
        checkpoint = None
        with ExitStack() as at_the_end:
            if path is not None and self.max_iter > 0:
                checkpoint = Checkpoint(path, int(self.checkpoint_every), self, random_state)
                at_the_end.callback(checkpoint.close)
                random_state = checkpoint.random_state
            with nullcontext() if checkpoint is None else checkpoint.until_accepted():
                X, data, seeds = self._rows_of(X, sample_weight, candidate, random_state, n_threads)
                at_the_end.callback(close, data)
                n_components = self._n_start(data.n_positive, data.n_features)
                check_enough_rows(data.n_rows, data.n_positive, n_components)
                last = self._last_fit(data)
                n_rows = data.n_rows if isinstance(data, ArrayData) else None
                given = self._check_start(data.n_features, n_rows)
            request = f"a fit of {n_components} components to {data.n_rows} x {data.n_features} rows"
            remedy = "Use fewer components or threads (n_jobs), or another covariance_type."
            with single_threaded_blas(), explained_memory_error(request, remedy):
                options = self._options(n_threads, deadline)
                result = self._best_run(data, seeds, given, last, random_state, options, checkpoint)
                attributes = self._attributes_of(result)
                n_rows, moments = data.n_positive, data.moments(n_threads) if self.max_iter else None
                if last is not None and len(result.lower_bounds) == 1:
                    attributes["_bound_before_fit"] = last[1]  # else the gain is told from lower_bounds_
        for name in ("n_features_in_", "feature_names_in_"):
            if hasattr(candidate, name):
                attributes[name] = getattr(candidate, name)
        self.__dict__.update(attributes)
        for name in ("feature_names_in_", "_bound_before_fit"):
            if name not in attributes:
                self.__dict__.pop(name, None)
        self._warn_about(result)
        if moments is not None:  # of a start, which is no result
            self._warn_about_variances(result.parameters, n_rows, *moments, 5)  # as in _warn_about
        return X

    def _rows_of(
        self,
        X: Any,
        sample_weight: Any,
        candidate: Self,
        random_state: np.random.RandomState,
        n_threads: int,
        *,
        reset: bool = True,
        min_rows: int = 2,
    ) -> tuple[Any, Data, ArrayData]:
        """X validated, as data that passes go over, and the rows that starts are made from.

        reset : whether X says which features there are; else it must have those that were seen before
        """
        source = as_source(X, sample_weight)
        if source is None:
            X = check_rows(candidate, X, reset=reset, min_rows=min_rows)
            rows = ArrayData(X, check_sample_weight(sample_weight, X.shape[0]))
            return X, rows, rows
        data = self._open(source, n_threads)
        if not reset:
            data.expect(candidate.n_features_in_, getattr(candidate, "feature_names_in_", None))
        with SurveyProgress(type(self).__name__, source.n_rows, self.verbose) as report:
            data.on_part = report.on_part
            data.survey(partial(rows_to_seed_from, self._n_start()), random_state)
        data.on_part = None
        if data.n_rows < min_rows:
            raise ValueError(f"X has {data.n_rows} row(s), but {min_rows} or more are needed for a fit.")
        if not reset:
            return source, data, data.seeds
        candidate.n_features_in_ = data.n_features
        candidate.__dict__.pop("feature_names_in_", None)
        names = getattr(data, "feature_names", source.feature_names)
        if names is not None:
            candidate.feature_names_in_ = names
        return source, data, data.seeds

    def _open(self, source: Source, n_threads: int) -> Any:
        """The rows of a source, where passes are made over them."""
        return data_of(source, n_threads)

    def _options(self, n_threads: int, deadline: float) -> em.EMOptions:
        return em.EMOptions(
            tol=float(self.tol),
            reg_covar=float(self.reg_covar),
            max_iter=int(self.max_iter),
            repair=self.repair,
            acceleration=self.acceleration,
            arithmetic=self.arithmetic,
            n_threads=n_threads,
            deadline=deadline,
        )

    def _best_run(
        self,
        data: Data,
        seeds: ArrayData,
        given: dict[str, Any],
        last: tuple[Any, float] | None,
        random_state: np.random.RandomState,
        options: em.EMOptions,
        checkpoint: Checkpoint | None,
    ) -> em.EMResult:
        """Run from each start, keep the best; one random state draws for all, in scikit-learn's order."""
        n_runs = self.n_init if last is None else 1
        structure, name = self._structure(), type(self).__name__
        # Measuring the data is a pass over them: once, for the seeding and for all runs.
        frame = data.frame(options.n_threads, structure.common_scale) if options.max_iter else None
        objective = self._objective(data, frame, options)
        if objective is None and isinstance(data, ArrayData):  # nothing that rows are weighed against
            data = seeds = data.with_weights_in_range()

        def progress(run: int, max_iter: int, begun: int = 0) -> Progress:
            if checkpoint is not None and checkpoint.loop is not None:
                begun += checkpoint.loop.result.n_iter
            report = Progress(
                name, run, n_runs, max_iter, self.verbose, self.verbose_interval, data.n_rows, begun
            )
            read_in_parts: Any = None if isinstance(data, ArrayData) else data
            if read_in_parts is not None:
                read_in_parts.on_part = report.on_part
            return report

        def begin(run: int, max_iter: int) -> em.EMResult:
            bound = -np.inf if last is None else last[1]
            if checkpoint is not None and checkpoint.loop is not None:  # it was begun in another process
                start = Start(checkpoint.loop.result.parameters, checkpoint.repaired_at_start)
            elif last is None:
                start = self._make_start(seeds, given, random_state, options, frame, objective)
            else:
                start = Start(last[0])
            if checkpoint is not None:
                checkpoint.repaired_at_start = start.repaired
            with progress(run, max_iter) as report:
                limited = replace(options, max_iter=max_iter)
                result = self._run(
                    data, start.parameters, limited, frame=frame, previous_bound=bound, on_iteration=report,
                    keeper=checkpoint, objective=objective,
                )  # fmt: skip
            # of a run that is not over the checkpoint has its own: this is a result of both
            n_repairs, repaired = result.n_repairs + len(start.repaired), {*result.repaired, *start.repaired}
            return replace(result, n_repairs=n_repairs, repaired=tuple(sorted(repaired)))

        def go_on(run: int, result: em.EMResult, max_iter: int) -> em.EMResult:
            assert frame is not None
            with progress(run, max_iter, result.n_iter) as report:
                limited = replace(options, max_iter=max_iter)
                return em.go_on(
                    data, structure, result, limited, frame=frame, on_iteration=report, keeper=checkpoint,
                    objective=objective,
                )  # fmt: skip

        if frame is None:  # no bound to compare: the last start is kept, as scikit-learn does
            result = begin(0, 0)
            for run in range(1, n_runs):
                if perf_counter() >= options.deadline:
                    return replace(result, objective=objective, out_of_time=True)
                result = begin(run, 0)
            return replace(result, objective=objective)
        heats = self._heats()
        standing = Standing(0, range(n_runs), {}, {})
        if checkpoint is not None:
            compared_after = [most for most, _ in plan(n_runs, options.max_iter, heats)[:-1]]
            covariance_shape = structure.covariance_shape(self.n_components, data.n_features)
            shapes = {
                "weights": (self.n_components,),
                "means": (self.n_components, data.n_features),
                "covariances": covariance_shape,
                "precisions_cholesky": covariance_shape,
            }
            standing = checkpoint.take_up(standing, data, seeds, frame, last, compared_after, shapes)
        best = race(
            n_runs,
            options.max_iter,
            heats,
            begin,
            go_on,
            standing=standing,
            on_result=None if checkpoint is None else checkpoint.keep_standing,
            is_over=lambda: perf_counter() >= options.deadline,
        )
        return replace(best, objective=objective)

    def _heats(self) -> Heats:
        """When several runs are compared, and the worse given up."""
        return SEEDED if self.init_params == "kmeans" else RANDOM

    def _n_start(self, n_rows: int | None = None, n_features: int = 1) -> int:
        """How many components a fit starts with, to so many rows of positive weight; the most it may be."""
        return int(self.n_components)

    def _last_fit(self, data: Data) -> tuple[Any, float] | None:
        """Parameters and bound that a warm start continues from, None where there are none."""
        if not (self.warm_start and hasattr(self, "converged_")):
            return None
        parameters = self._fitted_parameters(
            data.n_features, "warm_start=True continues the last fit", "Set warm_start=False to start afresh."
        )
        return parameters, float(getattr(self, "lower_bound_", -np.inf))

    def _fitted_parameters(self, n_features: int, what: str, remedy: str) -> Parameters:
        """Parameters that a call goes on from; refuses other numbers of components and features."""
        parameters = attribute_parameters(self, self._structure(), needs_covariances=True)
        before = dict(zip(("n_components", "n_features"), parameters.means.shape))
        for name, now in (("n_components", self.n_components), ("n_features", n_features)):
            if before[name] != now and now != "auto":
                raise ValueError(f"{what}, which had {name} = {before[name]}; now {name} = {now}. {remedy}")
        return parameters
