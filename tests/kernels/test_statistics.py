"""Statistics of one pass, seen through one EM step, against the oracle over awkward sizes."""

from __future__ import annotations

import numpy as np
import oracle
import pytest
import tolerances
from kernel_sizes import DIMENSIONS, MOST_ROWS, PAIRS, problem
from running import parameters_of, run_em

# Few rows per component leave covariances singular; this keeps them away from it (variances are 0.25 to 4).
REG_COVAR = 0.5
EXACT: dict = {}


def exact_step(covariance_type, n_features, n_components, n_rows, dtype, weighted):
    """(X, start, weights, step, bound): computed once for all kernels and instruction sets."""
    key = covariance_type, n_features, n_components, n_rows, dtype, weighted
    if key not in EXACT:
        X, start = problem(covariance_type, n_features, n_components)
        X = X[:n_rows].astype(dtype)
        weights = None
        if weighted:
            weights = np.random.default_rng(n_rows).uniform(0, 2, n_rows)
            weights[1::3] = 0.0
        model = oracle.stored_model(covariance_type, parameters_of(covariance_type, start))
        step = oracle.em_step(X, model, REG_COVAR, weights)
        EXACT[key] = X, start, weights, step, float(oracle.lower_bound(X, model, weights))
    return EXACT[key]


def assert_step(covariance_type, n_features, n_components, n_rows, dtype=np.float64, weighted=False):
    X, start, weights, step, bound = exact_step(
        covariance_type, n_features, n_components, n_rows, dtype, weighted
    )
    result = run_em(X, covariance_type, start, 1, reg_covar=REG_COVAR, sample_weight=weights, repair="raise")
    assert result.n_iter == 1
    assert result.n_repairs == 0
    assert result.repaired == ()
    assert abs(result.lower_bound - bound) <= tolerances.ROW_LOG_DENSITY
    assert oracle.difference(step, result.parameters) <= tolerances.STEP_PARAMETERS
    # Factors of the covariances beside them.
    own = oracle.make_model(covariance_type, *(np.asarray(a) for a in result.parameters[:3]))
    factor = np.asarray(result.parameters.precisions_cholesky)
    np.testing.assert_allclose(factor, own.precisions_cholesky.astype(float), rtol=1e-11, atol=1e-12)
    if covariance_type in ("full", "tied"):
        np.testing.assert_array_equal(factor, np.triu(factor))


@pytest.mark.parametrize(("n_features", "n_components"), PAIRS, ids=lambda n: str(n))
def test_step(isa, kernel, covariance_type, n_features, n_components):
    assert_step(covariance_type, n_features, n_components, MOST_ROWS)
    assert_step(covariance_type, n_features, n_components, 385, weighted=True)


@pytest.mark.parametrize("n_rows", [2, 7, 31, 33, 127, 128, 129, 255, 256, 257, 383, 384, 385])
@pytest.mark.parametrize("weighted", [False, True])
def test_step_of_few_rows(isa, kernel, covariance_type, n_rows, weighted):
    assert_step(covariance_type, 3, 2, n_rows, weighted=weighted)


@pytest.mark.parametrize(("n_features", "n_components"), [(1, 3), (3, 16), (9, 2), (17, 31)])
def test_step_of_single_precision(isa, kernel, covariance_type, n_features, n_components):
    assert_step(covariance_type, n_features, n_components, MOST_ROWS, np.float32)
    assert_step(covariance_type, n_features, n_components, 385, np.float32, weighted=True)


@pytest.mark.slow
@pytest.mark.parametrize("n_features", DIMENSIONS)
def test_step_of_every_pair(isa, kernel, covariance_type, n_features):
    for n_components in DIMENSIONS:
        assert_step(covariance_type, n_features, n_components, 257)
        assert_step(covariance_type, n_features, n_components, MOST_ROWS, weighted=True)


def test_many_rows_and_threads(isa, kernel, covariance_type):
    """Several chunks, merged: the sum over rows is complete (each row once) and correct."""
    X, start = problem(covariance_type, 3, 2)
    many = np.concatenate([X] * 60)
    step = exact_step(covariance_type, 3, 2, MOST_ROWS, np.float64, False)[3]
    for n_threads in (1, 2):
        result = run_em(many, covariance_type, start, 1, reg_covar=REG_COVAR, n_threads=n_threads)
        assert oracle.difference(step, result.parameters) <= tolerances.STEP_PARAMETERS


def test_step_with_a_component_far_from_its_rows(isa, kernel, covariance_type):
    """Its share is small, not nothing: the step is exact for it too."""
    X, (weights, means, covariances) = problem(covariance_type, 3, 2)
    means = means.copy()
    means[1] += 6.0
    start = weights, means, covariances
    model = oracle.stored_model(covariance_type, parameters_of(covariance_type, start))
    step = oracle.em_step(X, model, REG_COVAR)
    assert step.weights[1] < 0.05, "the case is to be about a component with little weight"
    result = run_em(X, covariance_type, start, 1, reg_covar=REG_COVAR)
    assert result.n_repairs == 0
    assert oracle.difference(step, result.parameters) <= tolerances.STEP_PARAMETERS


def test_no_iterations_return_the_start(covariance_type):
    X, start = problem(covariance_type, 3, 2)
    result = run_em(X, covariance_type, start, 0)
    assert (result.n_iter, result.converged, result.lower_bounds) == (0, False, [])
    for ours, given in zip(result.parameters, parameters_of(covariance_type, start), strict=True):
        np.testing.assert_array_equal(ours, given)
