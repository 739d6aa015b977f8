"""This package. Line for line the scikit-learn adapter, but for the import and what only fastgmm reports."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

import fastgmm
from adapters import Fit
from fastgmm import BayesianGaussianMixture, GaussianMixture, em
from fastgmm.pruning import set_pruning_choice
from problems import Start

LABEL = "fastgmm"
COVARIANCE_TYPES = ("full", "tied", "diag", "spherical")


def prepare(n_threads: int) -> None:
    """Thread counts come from the environment the worker was started in."""


def info() -> dict[str, Any]:
    from fastgmm.kernels import _pass

    return {
        "version": fastgmm.__version__,
        "isa": _pass.current_isa(),
        "threads": _pass.max_threads(),
    }


def has_option(name: str) -> bool:
    """Whether this version's estimator has the argument."""
    return name in GaussianMixture().get_params()


def set_dense(dense: bool) -> None:
    """Without pruning from now on, or with it."""
    set_pruning_choice("never" if dense else "auto")


def fit(X: np.ndarray, start: Start, covariance_type: str, max_iter: int, **options: Any) -> Fit:
    model = GaussianMixture(
        len(start.weights),
        covariance_type=covariance_type,
        tol=0.0,
        max_iter=max_iter,
        reg_covar=start.reg_covar,
        weights_init=start.weights,
        means_init=start.means,
        precisions_init=start.precisions,
        **options,
    )
    return _timed(model, X)


def fit_default(
    X: np.ndarray, n_components: int, seed: int, max_iter: int | None = None, **options: Any
) -> Fit:
    if max_iter is not None:
        options["max_iter"] = max_iter
    return _timed(GaussianMixture(n_components, random_state=seed, **options), X)


def fit_clusters(X: np.ndarray, n_components: int, seed: int, max_iter: int, **options: Any) -> Fit:
    """From the clusters that k-means finds: EM over all rows from the first iteration on."""
    start = GaussianMixture(n_components, random_state=seed, max_iter=0).fit(X)
    given = {
        "weights_init": start.weights_, "means_init": start.means_, "precisions_init": start.precisions_
    }  # fmt: skip
    return _timed(GaussianMixture(n_components, max_iter=max_iter, **given, **options), X)


def fit_bayesian(X: np.ndarray, n_components: int, max_iter: int) -> Fit:
    model = BayesianGaussianMixture(
        n_components=n_components, init_params="random_from_data", random_state=0, tol=0.0, max_iter=max_iter
    )
    return _timed(model, X)


def restarts(X: np.ndarray, n_components: int, seed: int, n_init: int) -> dict[str, Any]:
    """Passes, seconds and final bounds of a fit with ``n_init`` starts, and of as many fits with one each."""
    n_passes, collect = 0, em.Maximiser.collect

    def counted(maximiser: em.Maximiser, *arguments: Any) -> Any:
        nonlocal n_passes
        n_passes += 1
        return collect(maximiser, *arguments)

    def measured(n_fits: int, **options: Any) -> dict[str, Any]:
        nonlocal n_passes
        n_passes = 0
        begin = time.perf_counter()
        bounds = [GaussianMixture(n_components, **options).fit(X).lower_bound_ for _ in range(n_fits)]
        return {"bounds": bounds, "passes": n_passes, "seconds": time.perf_counter() - begin}

    em.Maximiser.collect = counted  # every pass of every run, also of those that are not kept
    try:
        race = measured(1, n_init=n_init, random_state=seed)
        # one RandomState for all of them: the starts of the race
        apart = measured(n_init, random_state=np.random.RandomState(seed))
    finally:
        em.Maximiser.collect = collect
    return {"race": race, "apart": apart}


def mixture(X: np.ndarray, n_components: int) -> GaussianMixture:
    return GaussianMixture(n_components, max_iter=2, random_state=0).fit(X)


def one_row(model: GaussianMixture, row: np.ndarray, rounds: int, calls: int) -> dict[str, Any]:
    """Seconds of a call, one number a round."""
    from sklearn.utils.validation import validate_data

    peer, scorer = model.to_sklearn(), model.scorer()
    ways: dict[str, Callable[[], Any]] = {
        "validate_data": lambda: validate_data(model, row, reset=False, dtype=[np.float64, np.float32]),
        "predict": lambda: model.predict(row),
        "scorer": lambda: scorer.predict(row),
        "sklearn": lambda: peer.predict(row),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, call in ways.items():
            call()
            begin = time.perf_counter()
            for _ in range(calls):
                call()
            seconds[name].append((time.perf_counter() - begin) / calls)
    return {"seconds": seconds}


def _timed(model: Any, X: np.ndarray) -> Fit:
    begin = time.perf_counter()
    model.fit(X)
    seconds = time.perf_counter() - begin
    history = {name: np.asarray(values).tolist() for name, values in model.history_.items()}

    def score() -> float:
        return float(model.score(X))

    return Fit(
        seconds, model.n_iter_, model.weights_, model.means_, model.covariances_, score, {"history": history}
    )
