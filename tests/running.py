"""Short calls of the package's inner stages, for tests that go below the estimator."""

from __future__ import annotations

import contextlib

import numpy as np

from fastgmm import Scorer
from fastgmm.blocks import ArrayData
from fastgmm.em import EMOptions, run
from fastgmm.kernels import _pass
from fastgmm.pruning import set_pruning_choice
from fastgmm.structures import STRUCTURES


def parameters_of(covariance_type: str, start):
    """The package's `Parameters` of (weights, means, covariances)."""
    weights, means, covariances = (np.array(a, dtype=np.float64) for a in start[:3])
    return STRUCTURES[covariance_type].from_covariances(weights, means, covariances)


def run_em(
    X,
    covariance_type: str,
    start,
    n_iter: int,
    *,
    sample_weight=None,
    reg_covar: float = 1e-6,
    n_threads: int = 1,
    repair: str = "reseed",
    tol: float = 0.0,
    arithmetic: str = "float64",
):
    """`n_iter` EM iterations from (weights, means, covariances)."""
    options = EMOptions(
        tol=tol,
        reg_covar=reg_covar,
        max_iter=n_iter,
        repair=repair,
        n_threads=n_threads,
        arithmetic=arithmetic,
    )
    if sample_weight is not None:
        sample_weight = np.ascontiguousarray(sample_weight, dtype=np.float64)
    data = ArrayData(X, sample_weight)
    return run(data, STRUCTURES[covariance_type], parameters_of(covariance_type, start), options)


def bounds_beside(bounds, peer, skip: int = 0):
    """Bounds and scikit-learn's, without the first `skip`; the last alone where it keeps no others (1.6)."""
    theirs = getattr(peer, "lower_bounds_", None)
    return (bounds[-1:], [peer.lower_bound_]) if theirs is None else (bounds[skip:], theirs[skip:])


def log_density(X, structure, parameters, n_threads):
    """log p(x_n), (N,)."""
    return Scorer(structure, parameters, n_threads).score_samples(X)


def responsibilities(X, structure, parameters, n_threads):
    """p(component k | x_n), (N, K)."""
    return Scorer(structure, parameters, n_threads).predict_proba(X)


def labels(X, structure, parameters, n_threads):
    """The most likely component of each row, (N,)."""
    return Scorer(structure, parameters, n_threads).predict(X)


@contextlib.contextmanager
def forced_kernel(choice: str):
    """One kernel ("features" or "centred") for every block and component; "auto" is the package's choice."""
    _pass.set_kernel_choice(choice)
    try:
        yield
    finally:
        _pass.set_kernel_choice("auto")


@contextlib.contextmanager
def forced_pruning(choice: str):
    """Pruned passes wherever they can be ("always") or nowhere ("never")."""
    set_pruning_choice(choice)
    try:
        yield
    finally:
        set_pruning_choice("auto")


@contextlib.contextmanager
def forced_isa(name: str):
    """One of the available instruction sets."""
    before = _pass.current_isa()
    _pass.set_isa(name)
    try:
        yield
    finally:
        _pass.set_isa(before)


def assert_same_bits(first, second):
    """Two EM results with the same bits in every parameter and bound."""
    for name in first.parameters._fields:
        a, b = np.asarray(getattr(first.parameters, name)), np.asarray(getattr(second.parameters, name))
        assert (a.dtype, a.shape) == (b.dtype, b.shape), name
        assert a.tobytes() == b.tobytes(), f"{name} differs by up to {np.max(np.abs(a - b))}"
    assert np.array(first.lower_bounds).tobytes() == np.array(second.lower_bounds).tobytes()
    assert (first.n_iter, first.converged, first.repaired) == (
        second.n_iter,
        second.converged,
        second.repaired,
    )
