"""What may change the rounding and nothing else: repeats, order, units, empty rows, instruction sets."""

from __future__ import annotations

import datasets
import numpy as np
import oracle
import pytest
import tolerances
from hypothesis import assume, given
from hypothesis import strategies as st
from running import forced_isa, forced_kernel, log_density, parameters_of, responsibilities, run_em
from shapes import cases

from fastgmm import GaussianMixture
from fastgmm.kernels import _pass
from fastgmm.structures import STRUCTURES

N_ITER = 4


def assert_same_fit(covariance_type, first, second, tolerance=tolerances.SAME_FIT):
    """`second` within the tolerance of `first`, whitened by `first`; bounds likewise."""
    assume(first.n_repairs == 0)
    assert second.n_repairs == 0
    reference = oracle.stored_model(covariance_type, first.parameters)
    assert oracle.difference(reference, second.parameters) <= tolerance
    np.testing.assert_allclose(second.lower_bounds, first.lower_bounds, rtol=tolerance, atol=tolerance)


@given(case=cases(max_rows=400, max_features=5), seed=st.integers(0, 1000))
def test_weights_are_repeats(covariance_type, kernel, case, seed):
    X, start = case.problem(covariance_type)
    counts = np.random.default_rng(seed).integers(1, 4, len(X))
    repeated = run_em(np.repeat(X, counts, axis=0), covariance_type, start, N_ITER)
    assert_same_fit(
        covariance_type, repeated, run_em(X, covariance_type, start, N_ITER, sample_weight=counts)
    )


@given(case=cases(max_rows=400, max_features=5), factor=st.sampled_from([1e-200, 1e-3, 7.0, 1e200]))
def test_common_factor_of_weights(covariance_type, case, factor):
    """Parameters and mean log-likelihood depend on proportions alone."""
    X, start = case.problem(covariance_type)
    weights = np.random.default_rng(case.seed).uniform(0.5, 1.5, len(X))
    first = run_em(X, covariance_type, start, N_ITER, sample_weight=weights)
    assert_same_fit(
        covariance_type, first, run_em(X, covariance_type, start, N_ITER, sample_weight=factor * weights)
    )


@given(case=cases(), seed=st.integers(0, 1000))
def test_order_of_rows(covariance_type, kernel, case, seed):
    X, start = case.problem(covariance_type)
    order = np.random.default_rng(seed).permutation(len(X))
    assert_same_fit(
        covariance_type,
        run_em(X, covariance_type, start, N_ITER),
        run_em(X[order], covariance_type, start, N_ITER),
    )


@given(case=cases(), seed=st.integers(0, 1000))
def test_order_of_components(covariance_type, kernel, case, seed):
    X, start = case.problem(covariance_type)
    order = np.random.default_rng(seed).permutation(case.n_components)
    weights, means, covariances = start
    covariances_moved = covariances if covariance_type == "tied" else covariances[order]
    moved = run_em(X, covariance_type, (weights[order], means[order], covariances_moved), N_ITER)
    first = run_em(X, covariance_type, start, N_ITER)
    back = np.argsort(order)
    covariances_back = moved.parameters.covariances
    if covariance_type != "tied":
        covariances_back = covariances_back[back]
    reference = oracle.stored_model(covariance_type, first.parameters)
    parameters = moved.parameters.weights[back], moved.parameters.means[back], covariances_back
    assert oracle.difference(reference, parameters) <= tolerances.SAME_FIT


@given(case=cases(), seed=st.integers(0, 1000), far=st.sampled_from([1.0, 1e6, 1e200]))
def test_rows_of_weight_zero(covariance_type, case, seed, far):
    """Wherever they are: 0 times a square that overflows is not 0."""
    X, start = case.problem(covariance_type)
    rng = np.random.default_rng(seed)
    positions = np.sort(rng.integers(0, len(X) + 1, len(X) // 3))
    extra = far * rng.standard_normal((len(positions), X.shape[1]))
    weights = np.insert(np.ones(len(X)), positions, 0.0)
    with_extra = run_em(
        np.insert(X, positions, extra, axis=0), covariance_type, start, N_ITER, sample_weight=weights
    )
    assert_same_fit(covariance_type, run_em(X, covariance_type, start, N_ITER), with_extra)


# -- units -----------------------------------------------------------------------------------------


def affine_map(rng, covariance_type, n_features):
    """A matrix of condition at most 100 that the covariance type is closed under, and a shift."""
    scale = 10.0 ** rng.uniform(-1, 1, n_features)
    shift = rng.uniform(-20, 20, n_features)
    if covariance_type == "diag":
        return np.diag(scale), shift
    rotation = datasets.random_rotation(rng, n_features)
    if covariance_type == "spherical":
        return rotation * scale[0], shift
    return rotation * scale @ datasets.random_rotation(rng, n_features), shift


def mapped_covariances(covariance_type, covariances, matrix):
    if covariance_type == "diag":
        return np.asarray(covariances) * np.diag(matrix) ** 2
    if covariance_type == "spherical":
        return np.asarray(covariances) * abs(np.linalg.det(matrix)) ** (2 / len(matrix))
    mapped = matrix.T @ covariances @ matrix
    return (mapped + np.swapaxes(mapped, -1, -2)) / 2


@given(case=cases(max_features=6), seed=st.integers(0, 1000))
def test_affine_maps(covariance_type, kernel, case, seed):
    X, (weights, means, covariances) = case.problem(covariance_type)
    matrix, shift = affine_map(np.random.default_rng(seed), covariance_type, case.n_features)
    moved_start = weights, means @ matrix + shift, mapped_covariances(covariance_type, covariances, matrix)
    first = run_em(X, covariance_type, (weights, means, covariances), N_ITER, reg_covar=0.0)
    second = run_em(X @ matrix + shift, covariance_type, moved_start, N_ITER, reg_covar=0.0)
    assume(first.n_repairs == 0)
    parameters = first.parameters
    expected = oracle.make_model(
        covariance_type,
        parameters.weights,
        parameters.means @ matrix + shift,
        mapped_covariances(covariance_type, parameters.covariances, matrix),
    )
    assert oracle.difference(expected, second.parameters) <= tolerances.AFFINE
    log_det = np.linalg.slogdet(matrix)[1]
    np.testing.assert_allclose(
        np.array(second.lower_bounds) + log_det,
        first.lower_bounds,
        rtol=tolerances.AFFINE,
        atol=tolerances.AFFINE,
    )


@pytest.mark.parametrize("unit", [1e-140, 1e-9, 1e9, 1e140])
def test_units_of_all_features(covariance_type, unit):
    X, (weights, means, covariances) = datasets.problem(7, 500, 3, 3, covariance_type)
    first = run_em(X, covariance_type, (weights, means, covariances), N_ITER, reg_covar=0.0)
    moved = weights, means * unit, covariances * unit**2
    second = run_em(X * unit, covariance_type, moved, N_ITER, reg_covar=0.0)
    back = second.parameters.weights, second.parameters.means / unit, second.parameters.covariances / unit**2
    reference = oracle.stored_model(covariance_type, first.parameters)
    assert oracle.difference(reference, back) <= tolerances.AFFINE


# -- kernels and instruction sets ------------------------------------------------------------------


@given(case=cases())
def test_kernels_against_each_other(covariance_type, case):
    X, start = case.problem(covariance_type)
    results = {}
    for choice in ("auto", "features", "centred"):
        with forced_kernel(choice):
            results[choice] = run_em(X, covariance_type, start, N_ITER)
    assert_same_fit(covariance_type, results["centred"], results["features"])
    assert_same_fit(covariance_type, results["centred"], results["auto"])


@given(case=cases(max_rows=600))
def test_instruction_sets_against_each_other(covariance_type, kernel, case):
    X, start = case.problem(covariance_type)
    structure, parameters = STRUCTURES[covariance_type], parameters_of(covariance_type, start)
    fits, densities, shares = [], [], []
    for name in _pass.available_isas():
        with forced_isa(name):
            fits.append(run_em(X, covariance_type, start, 1))
            densities.append(log_density(X, structure, parameters, 1))
            shares.append(responsibilities(X, structure, parameters, 1))
    for i in range(1, len(fits)):
        assert_same_fit(covariance_type, fits[0], fits[i], tolerances.INSTRUCTION_SETS)
        np.testing.assert_allclose(densities[i], densities[0], rtol=1e-13, atol=tolerances.INSTRUCTION_SETS)
        np.testing.assert_allclose(shares[i], shares[0], atol=tolerances.INSTRUCTION_SETS)


# -- the objective ---------------------------------------------------------------------------------


@given(case=cases(max_rows=500, max_features=6), spread=st.sampled_from([0.0, 0.5, 2.0]))
def test_log_likelihood_never_falls(covariance_type, kernel, case, spread):
    """At reg_covar = 0 the M-step is the exact maximiser (a repair is not, so no repairs here)."""
    X, start = case.problem(covariance_type, spread)
    result = run_em(X, covariance_type, start, 40, reg_covar=0.0)
    assume(result.n_repairs == 0)
    bounds = np.array(result.lower_bounds)
    assert len(bounds) == 40
    assert np.all(np.diff(bounds) >= -tolerances.MONOTONE * np.maximum(1.0, np.abs(bounds[1:])))
    # The bounds are what they say: the log-likelihood of the parameters before each step.
    exact = oracle.lower_bound(X, oracle.stored_model(covariance_type, parameters_of(covariance_type, start)))
    assert abs(bounds[0] - float(exact)) <= tolerances.ROW_LOG_DENSITY


@given(case=cases(max_rows=400, max_features=4))
def test_weighted_criteria_are_those_of_repeats(covariance_type, case):
    X, start = case.problem(covariance_type)
    counts = np.random.default_rng(case.seed).integers(0, 4, len(X))
    repeated = np.repeat(X, counts, axis=0)
    model = oracle.make_model(covariance_type, *start)
    estimator = GaussianMixture.from_parameters(*start, covariance_type)
    for name in ("bic", "aic", "icl"):
        criterion = getattr(estimator, name)
        expected = float(getattr(oracle, name)(repeated, model))
        assert criterion(X, sample_weight=counts.astype(float)) == pytest.approx(expected, rel=1e-11)
        assert criterion(repeated) == pytest.approx(expected, rel=1e-11)
