"""Row outputs of both kernels at every instruction set against the oracle, over awkward sizes."""

from __future__ import annotations

import numpy as np
import oracle
import pytest
import tolerances
from kernel_sizes import DIMENSIONS, MOST_ROWS, PAIRS, ROWS, exact_rows, problem
from row_scores import log_prob_components, summary
from running import labels, log_density, parameters_of, responsibilities

from fastgmm.blocks import ArrayData
from fastgmm.structures import STRUCTURES

pairs = pytest.mark.parametrize(("n_features", "n_components"), PAIRS, ids=lambda n: str(n))


def assert_rows(covariance_type, n_features, n_components, n_rows_list=ROWS, dtype=np.float64):
    X, start = problem(covariance_type, n_features, n_components)
    structure, parameters = STRUCTURES[covariance_type], parameters_of(covariance_type, start)
    if dtype == np.float64:
        density, shares, components = exact_rows(covariance_type, n_features, n_components)
    else:
        X = X.astype(dtype)
        model = oracle.stored_model(covariance_type, parameters)
        density, shares = oracle.log_density(X, model), oracle.responsibilities(X, model)
        components = oracle.log_prob_components(X, model)
    best = np.argmax(shares, axis=1)
    ordered = np.sort(shares, axis=1)
    certain = ordered[:, -1] - (ordered[:, -2] if n_components > 1 else 0) > 1e-9
    tolerance = tolerances.ROW_LOG_DENSITY
    for n in n_rows_list:
        rows = X[:n]
        where = f"D={n_features} K={n_components} N={n}"
        ours = log_density(rows, structure, parameters, 1)
        assert ours.shape == (n,)
        assert ours.dtype == np.float64
        np.testing.assert_allclose(ours, density[:n].astype(float), rtol=0, atol=tolerance, err_msg=where)
        ours = log_prob_components(rows, structure, parameters, 1)
        assert ours.shape == (n, n_components)
        assert ours.dtype == np.float64
        np.testing.assert_allclose(
            ours, components[:n].astype(float), rtol=1e-13, atol=tolerance, err_msg=where
        )
        ours = responsibilities(rows, structure, parameters, 1)
        assert ours.shape == (n, n_components)
        assert ours.dtype == np.float64
        np.testing.assert_allclose(
            ours, shares[:n].astype(float), rtol=0, atol=tolerances.ROW_RESPONSIBILITY, err_msg=where
        )
        np.testing.assert_allclose(ours.sum(axis=1), 1.0, rtol=0, atol=tolerances.ROW_SUM)
        ours = labels(rows, structure, parameters, 1)
        assert ours.shape == (n,)
        assert ours.dtype == np.int64
        np.testing.assert_array_equal(ours[certain[:n]], best[:n][certain[:n]], err_msg=where)


@pairs
def test_rows(isa, kernel, covariance_type, n_features, n_components):
    assert_rows(covariance_type, n_features, n_components)


@pytest.mark.parametrize(("n_features", "n_components"), [(1, 3), (3, 16), (9, 2), (17, 31)])
def test_rows_of_single_precision(isa, kernel, covariance_type, n_features, n_components):
    assert_rows(covariance_type, n_features, n_components, dtype=np.float32)


@pytest.mark.slow
@pytest.mark.parametrize("n_features", DIMENSIONS)
def test_rows_of_every_pair(isa, kernel, covariance_type, n_features):
    for n_components in DIMENSIONS:
        assert_rows(covariance_type, n_features, n_components, (1, 33, 385, MOST_ROWS))


@pairs
def test_summary(isa, kernel, covariance_type, n_features, n_components):
    X, start = problem(covariance_type, n_features, n_components)
    structure, parameters = STRUCTURES[covariance_type], parameters_of(covariance_type, start)
    density, shares, _ = exact_rows(covariance_type, n_features, n_components)
    certainty = np.log(shares.max(axis=1))
    weights = np.random.default_rng(n_features).uniform(0, 2, MOST_ROWS)
    weights[::5] = 0.0
    for n in (1, 33, 385, MOST_ROWS):
        for w in (None, weights[:n].copy()):
            if w is not None and w.sum() == 0:
                continue
            exact = oracle.row_weights(X[:n], w)
            ours = summary(ArrayData(X[:n], w), structure, parameters, 1)
            size = float((exact * np.abs(density[:n])).sum())
            error = abs(float(ours.log_likelihood - (exact * density[:n]).sum()))
            assert error <= tolerances.SUM_RELATIVE * size + 1e-12 * n
            error = abs(float(ours.log_max_responsibility - (exact * certainty[:n]).sum()))
            assert error <= tolerances.ROW_RESPONSIBILITY * n
            assert ours.total_weight == pytest.approx(float(exact.sum()), rel=1e-14)


def test_rows_without_a_share(isa, kernel, covariance_type):
    """A component of weight zero has no responsibility, and its own density all the same."""
    X, (weights, means, covariances) = problem(covariance_type, 3, 16)
    weights = weights.copy()
    weights[[0, 5, 15]] = 0.0
    weights /= weights.sum()
    structure = STRUCTURES[covariance_type]
    parameters = parameters_of(covariance_type, (weights, means, covariances))
    model = oracle.stored_model(covariance_type, parameters)
    shares = responsibilities(X, structure, parameters, 1)
    assert np.all(shares[:, [0, 5, 15]] == 0.0)
    np.testing.assert_allclose(
        shares, oracle.responsibilities(X, model).astype(float), atol=tolerances.ROW_RESPONSIBILITY
    )
    components = log_prob_components(X, structure, parameters, 1)
    assert np.all(np.isfinite(components))
    np.testing.assert_allclose(
        components[:, 5], oracle.log_prob_components(X, model)[:, 5].astype(float), atol=1e-10
    )
    assert not np.any(np.isin(labels(X, structure, parameters, 1), [0, 5, 15]))


def test_far_rows_underflow_to_certainty(isa, kernel, covariance_type):
    """Shares below the smallest double are zero and the others still sum to one; no NaN from exp(-inf)."""
    X, start = problem(covariance_type, 2, 3)
    structure, parameters = STRUCTURES[covariance_type], parameters_of(covariance_type, start)
    rows = np.concatenate([X[:50], 1e4 * X[:50], 1e9 * X[:50]])
    shares = responsibilities(rows, structure, parameters, 1)
    assert np.all(np.isfinite(shares))
    assert np.all(shares >= 0)
    np.testing.assert_allclose(shares.sum(axis=1), 1.0, atol=tolerances.ROW_SUM)
    density = log_density(rows, structure, parameters, 1)
    exact = oracle.log_density(rows, oracle.stored_model(covariance_type, parameters)).astype(float)
    np.testing.assert_allclose(density, exact, rtol=1e-6)


def test_ties_go_to_the_first_component(isa, kernel, covariance_type):
    X, (_weights, means, covariances) = problem(covariance_type, 3, 16)
    means = means.copy()
    means[9] = means[2]
    if covariance_type != "tied":
        covariances = covariances.copy()
        covariances[9] = covariances[2]
    parameters = parameters_of(covariance_type, (np.full(16, 1 / 16), means, covariances))
    found = labels(X, STRUCTURES[covariance_type], parameters, 1)
    assert 2 in found, "the case is to have rows whose best component is one of the two"
    assert 9 not in found
