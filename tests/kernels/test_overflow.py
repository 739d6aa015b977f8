"""Rows that far away that their squared distances overflow: infinities where they belong, and no NaN."""

from __future__ import annotations

import numpy as np
import pytest
from row_scores import log_prob_components, summary
from running import labels, log_density, parameters_of, responsibilities

from fastgmm.blocks import ArrayData
from fastgmm.frame import frame_of_parameters
from fastgmm.kernels import _pass
from fastgmm.structures import STRUCTURES

FAR = 1.797e308
# Distances are infinite, or NaN before they are mended: inf * 0, inf - inf.
FAR_ROWS = np.array(
    [
        [FAR, 0.0, 0.0],
        [0.0, 0.0, -FAR],
        [FAR, -FAR, FAR],
        [FAR, FAR, FAR],
        [0.0, 1e300, 0.0],
        [0.0, 1e160, 1e160],
    ]
)
NEAR_ROWS = np.array([[0.1, -0.2, 0.0], [1.0, 1.0, 1.0]])


def model(covariance_type, n_components, n_features=3):
    """Components of standard deviation 0.3 side by side, correlated where they can be."""
    means = np.linspace(-1.0, 1.0, n_components)[:, None] * np.ones(n_features)
    matrix = 0.09 * (0.5 * np.eye(n_features) + 0.5)
    covariances = {
        "full": np.stack([matrix] * n_components),
        "tied": matrix,
        "diag": np.full((n_components, n_features), 0.09),
        "spherical": np.full(n_components, 0.09),
    }[covariance_type]
    weights = np.full(n_components, 1.0 / n_components)
    return STRUCTURES[covariance_type], parameters_of(covariance_type, (weights, means, covariances))


@pytest.mark.parametrize("n_components", [1, 2, 5])
def test_rows_beyond_every_component(isa, covariance_type, n_components):
    structure, parameters = model(covariance_type, n_components)
    rows = np.concatenate([NEAR_ROWS, FAR_ROWS, NEAR_ROWS])
    is_far = np.repeat([False, True, False], [2, len(FAR_ROWS), 2])
    density = log_density(rows, structure, parameters, 1)
    np.testing.assert_array_equal(density[is_far], -np.inf)
    assert np.all(np.isfinite(density[~is_far]))
    shares = responsibilities(rows, structure, parameters, 1)
    np.testing.assert_array_equal(shares[is_far], 1.0 / n_components)
    np.testing.assert_allclose(shares.sum(axis=1), 1.0, rtol=1e-14)
    assert np.all(labels(rows, structure, parameters, 1)[is_far] == 0)
    scores = log_prob_components(rows, structure, parameters, 1)
    np.testing.assert_array_equal(scores[is_far], -np.inf)
    assert np.all(np.isfinite(scores[~is_far]))


def test_two_features(isa):
    structure, parameters = model("full", 4, 2)
    rows = np.array([[FAR, 0.0]])
    assert log_density(rows, structure, parameters, 1)[0] == -np.inf
    np.testing.assert_array_equal(responsibilities(rows, structure, parameters, 1), 0.25)
    assert labels(rows, structure, parameters, 1)[0] == 0


def test_summary_of_rows_beyond_every_component(isa, covariance_type):
    """Their largest responsibility is 1 / K; rows of weight zero do not count, whatever they hold."""
    structure, parameters = model(covariance_type, 5)
    found = summary(ArrayData(FAR_ROWS), structure, parameters, 1)
    assert found.log_likelihood == -np.inf
    assert found.log_max_responsibility == pytest.approx(len(FAR_ROWS) * np.log(1 / 5), rel=1e-14)
    rows = np.concatenate([NEAR_ROWS, FAR_ROWS])
    weights = np.repeat([1.0, 0.0], [len(NEAR_ROWS), len(FAR_ROWS)])
    found = summary(ArrayData(rows, weights), structure, parameters, 1)
    near = summary(ArrayData(NEAR_ROWS), structure, parameters, 1)
    assert found.log_likelihood == pytest.approx(near.log_likelihood, rel=1e-14)
    assert found.log_max_responsibility == pytest.approx(near.log_max_responsibility, rel=1e-12, abs=1e-14)


def test_weights_of_rows_beyond_every_component(isa, covariance_type):
    """Each gives an equal part of itself to all components."""
    structure, parameters = model(covariance_type, 5)
    frame = frame_of_parameters(
        parameters.weights, parameters.means, structure.variances(parameters), structure.common_scale
    )
    sweep = _pass.Pass(FAR_ROWS, None, frame, 5)
    sweep.score(structure.score_map(parameters, frame, 1))
    n_terms = structure.n_terms(3)
    sweep.accumulate(structure.terms, n_terms, False, None, None, structure.moment_shape, False, False)
    np.testing.assert_allclose(sweep.run(1)["weight"], len(FAR_ROWS) / 5, rtol=1e-14)


def test_rows_beyond_some_components(isa, covariance_type):
    """What overflows for one component and not for another belongs to the other."""
    if covariance_type == "tied":
        pytest.skip("components of equal covariances overflow together but for a rounding")
    structure, _ = model(covariance_type, 2)
    small, large = {
        "full": (1e-4 * np.eye(3), 1e60 * np.eye(3)),
        "diag": (np.full(3, 1e-4), np.full(3, 1e60)),
        "spherical": (1e-4, 1e60),
    }[covariance_type]
    start = np.full(2, 0.5), np.zeros((2, 3)), np.stack([small, large])
    parameters = parameters_of(covariance_type, start)
    rows = np.array([[1e160, 0.0, -1e160]])
    assert np.isfinite(log_density(rows, structure, parameters, 1)[0])
    np.testing.assert_array_equal(responsibilities(rows, structure, parameters, 1), [[0.0, 1.0]])
    assert labels(rows, structure, parameters, 1)[0] == 1
