"""Numbers that stay right: hard data against the longdouble reference.

The scores are held to 1e-8 + 8 eps |log p| of what the stored ``means_``, ``precisions_cholesky_`` and
``weights_`` say; one EM step that discovers tight clusters far apart is held to 1e-10 of the longdouble step.
"""

from __future__ import annotations

import warnings

import datasets
import numpy as np
import oracle
import pytest
import tolerances
from row_scores import log_prob_components
from running import log_density, parameters_of, responsibilities, run_em

from fastgmm import GaussianMixture, RepairWarning
from fastgmm.frame import Frame
from fastgmm.structures import STRUCTURES

pytestmark = pytest.mark.extended

N_ROWS, N_FEATURES, N_COMPONENTS = 700, 3, 3


def ordinary(covariance_type, n_features=N_FEATURES, spread=3.0):
    weights, means, covariances = datasets.random_model(2, covariance_type, N_COMPONENTS, n_features, spread)
    return datasets.draw(3, N_ROWS, weights, means, covariance_type, covariances), weights, means, covariances


def rescaled(covariance_type, covariances, scale):
    """Covariances of the rows times `scale` (one factor per feature; spherical takes a common one)."""
    if covariance_type in ("full", "tied"):
        return covariances * np.outer(scale, scale)
    return covariances * (scale**2 if covariance_type == "diag" else scale[0] ** 2)


def offset_1e8(covariance_type):
    X, weights, means, covariances = ordinary(covariance_type)
    return X + 1e8, weights, means + 1e8, covariances


def offset_of_one_feature(covariance_type):
    X, weights, means, covariances = ordinary(covariance_type)
    shift = np.array([0.0, -1e8, 3e5])
    return X + shift, weights, means + shift, covariances


def mixed_scales(covariance_type):
    """Features in units from 1e-140 to 1e140; for spherical the model has those of the widest."""
    X, weights, means, covariances = ordinary(covariance_type)
    scale = np.array([1e-140, 1.0, 1e140])
    if covariance_type == "spherical":
        return X * scale, weights, means * scale, covariances * 1e280
    return X * scale, weights, means * scale, rescaled(covariance_type, covariances, scale)


def all_tiny(covariance_type):
    X, weights, means, covariances = ordinary(covariance_type)
    return X * 1e-140, weights, means * 1e-140, covariances * 1e-280


def all_huge(covariance_type):
    X, weights, means, covariances = ordinary(covariance_type)
    return X * 1e140, weights, means * 1e140, covariances * 1e280


def clusters_1e6_apart(covariance_type):
    _, weights, means, covariances = ordinary(covariance_type)
    means = means + 1e6 * np.arange(N_COMPONENTS)[:, None]
    return datasets.draw(5, N_ROWS, weights, means, covariance_type, covariances), weights, means, covariances


def condition_1e10(covariance_type):
    """Variances of 1 down to 1e-10: along rotated axes for full and tied, along the features for diag."""
    _X, weights, means, covariances = ordinary(covariance_type, spread=1.0)
    rng = np.random.default_rng(9)
    variances = np.array([1.0, 1e-5, 1e-10])
    if covariance_type in ("full", "tied"):
        matrices = []
        for _ in range(N_COMPONENTS):
            rotation = datasets.random_rotation(rng, N_FEATURES)
            matrix = (rotation * variances) @ rotation.T
            matrices.append((matrix + matrix.T) / 2)
        covariances = np.stack(matrices) if covariance_type == "full" else matrices[0]
    elif covariance_type == "diag":
        covariances = np.stack([rng.permutation(variances) for _ in range(N_COMPONENTS)])
    else:
        covariances = variances
    return datasets.draw(6, N_ROWS, weights, means, covariance_type, covariances), weights, means, covariances


def outlier_1e8(covariance_type):
    """One row 1e8 standard deviations out, in the middle of a block of ordinary ones."""
    X, weights, means, covariances = ordinary(covariance_type)
    X[333] = 1e8 * np.array([1.0, -0.5, 0.25])
    return X, weights, means, covariances


def many_features(covariance_type):
    X, weights, means, covariances = ordinary(covariance_type, n_features=40)
    return X + 1e6, weights, means + 1e6, covariances


HARD = (
    offset_1e8,
    offset_of_one_feature,
    mixed_scales,
    all_tiny,
    all_huge,
    clusters_1e6_apart,
    condition_1e10,
    outlier_1e8,
    many_features,
)


def score_tolerance(exact):
    return tolerances.SCORE_ABSOLUTE + tolerances.SCORE_ROUNDINGS * tolerances.EPS * np.abs(exact)


@pytest.fixture(params=HARD, ids=lambda make: make.__name__)
def hard(request, covariance_type):
    X, weights, means, covariances = request.param(covariance_type)
    structure = STRUCTURES[covariance_type]
    return X, structure, structure.from_covariances(weights, means, covariances)


def test_score_samples_of_rows(hard):
    X, structure, parameters = hard
    exact = oracle.log_density(X, oracle.stored_model(structure.name, parameters))
    ours = log_density(X, structure, parameters, 2)
    error = np.abs(oracle.real(ours) - exact)
    assert np.all(error <= score_tolerance(exact)), f"worst {float(error.max())}"


def test_score_samples_of_the_estimator(hard):
    X, structure, parameters = hard
    estimator = GaussianMixture.from_parameters(
        parameters.weights, parameters.means, parameters.covariances, structure.name
    )
    exact = oracle.log_density(X, oracle.fitted_model(estimator))
    error = np.abs(oracle.real(estimator.score_samples(X)) - exact)
    assert np.all(error <= score_tolerance(exact)), f"worst {float(error.max())}"


def test_score_samples_one_row_at_a_time(hard):
    """No block-mates from which a kernel could have been chosen."""
    X, structure, parameters = hard
    rows = [0, 1, 332, 333, 334, N_ROWS - 1]
    exact = oracle.log_density(X[rows], oracle.stored_model(structure.name, parameters))
    for row, expected in zip(rows, exact, strict=True):
        ours = oracle.real(log_density(X[row : row + 1], structure, parameters, 1))[0]
        assert abs(ours - expected) <= score_tolerance(expected)


def test_components_and_responsibilities(hard):
    X, structure, parameters = hard
    model = oracle.stored_model(structure.name, parameters)
    exact = oracle.log_prob_components(X, model)
    error = np.abs(oracle.real(log_prob_components(X, structure, parameters, 2)) - exact)
    assert np.all(error <= score_tolerance(exact)), f"worst {float(error.max())}"
    shares = responsibilities(X, structure, parameters, 2)
    # dr_k = r_k (ds_k - sum_j r_j ds_j): at most the largest error of a score among components that have a
    # share.
    expected = oracle.responsibilities(X, model)
    allowed = np.where(expected > 1e-30, score_tolerance(oracle.log_joint(X, model)), 0).max(axis=1)
    assert np.all(np.abs(oracle.real(shares) - expected) <= allowed[:, None])
    np.testing.assert_allclose(shares.sum(axis=1), 1.0, atol=tolerances.ROW_SUM)


# -- one step that discovers tight clusters --------------------------------------------------------


def two_far_clusters(covariance_type, distance, origin=0.0, n_features=2):
    """Unit clusters `distance` apart, and parameters a thousandth to a tenth of that distance broad."""
    rng = np.random.default_rng(12)
    X = rng.standard_normal((1000, n_features))
    X[:, 0] += 0.5 * X[:, -1]  # so that the covariance is no multiple of the identity
    X[::2, 0] += distance
    X[1::2] += origin
    X[::2] += origin
    means = np.full((2, n_features), origin)
    means[1, 0] += distance
    means += 1e-4 * distance
    variance = (distance / 20) ** 2  # 20 standard deviations: responsibilities are exactly 0 or 1
    covariances = {
        "full": np.stack([variance * np.eye(n_features)] * 2),
        "tied": variance * np.eye(n_features),
        "diag": np.full((2, n_features), variance),
        "spherical": np.full(2, variance),
    }[covariance_type]
    return X, np.array([0.4, 0.6]), means, covariances


def assert_step_is_exact(result_parameters, exact):
    """Whitened by the exact step."""
    weights, means, covariances = result_parameters[:3]
    assert oracle.weight_difference(exact, weights) <= tolerances.STEP_WHITENED
    assert oracle.covariance_difference(exact, covariances) <= tolerances.STEP_WHITENED
    assert_means_are_exact(means, exact)


def assert_means_are_exact(means, exact):
    """A mean cannot be stored more finely than its own spacing of doubles."""
    spacing = np.spacing(np.abs(exact.means.astype(float))).astype(oracle.REAL)
    for k in range(exact.n_components):
        whiten = oracle.factor(exact, k).T
        error = np.abs(whiten @ (oracle.real(means[k]) - exact.means[k])).max()
        granularity = (np.abs(whiten) @ spacing[k]).max()
        assert error <= tolerances.STEP_WHITENED + granularity, f"component {k}: {float(error)}"


STEPS = {
    "1e8 apart": {"distance": 1e8},
    "1e6 apart": {"distance": 1e6},
    "1e4 apart": {"distance": 1e4},
    "1e8 apart, five features": {"distance": 1e8, "n_features": 5},
    "1e6 apart at 1e8": {"distance": 1e6, "origin": 1e8},
}


@pytest.mark.parametrize("distance", [30.0, 1e2, 3e2, 1e3, 2e3, 3e3, 5e3, 3e4])
def test_step_between_the_extremes(covariance_type, distance):
    """Where moments about the origin just pass the test for a second look: within the expansion's budget."""
    X, *start = two_far_clusters(covariance_type, distance)
    exact = oracle.em_step(X, oracle.stored_model(covariance_type, parameters_of(covariance_type, start)))
    result = run_em(X, covariance_type, start, 1, reg_covar=0.0, repair="raise")
    assert oracle.difference(exact, result.parameters) <= tolerances.STEP_EXPANSION


@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize("case", STEPS)
def test_step_from_broad_parameters(covariance_type, case, n_threads):
    X, *start = two_far_clusters(covariance_type, **STEPS[case])
    exact = oracle.em_step(X, oracle.stored_model(covariance_type, parameters_of(covariance_type, start)))
    result = run_em(X, covariance_type, start, 1, reg_covar=0.0, repair="raise", n_threads=n_threads)
    assert result.n_repairs == 0
    assert_step_is_exact(result.parameters, exact)


@pytest.mark.parametrize("light", ["the one at the origin", "the other"])
@pytest.mark.parametrize(
    ("distance", "weight"), [(1e5, 1e-12), (5e5, 1e-6), (1e6, 1e-9), (1e7, 1e-9), (1e8, 1e-12)]
)
def test_step_with_a_light_cluster(covariance_type, distance, weight, light):
    """The heavy cluster holds the frame's origin, and the covariance where it is shared: the light one is far
    from where its rows are counted, and hardly shows in sums over both.
    """
    X, *start = two_far_clusters(covariance_type, distance)
    sample_weight = np.ones(len(X))
    sample_weight[1 if light == "the one at the origin" else 0 :: 2] = weight
    model = oracle.stored_model(covariance_type, parameters_of(covariance_type, start))
    exact = oracle.em_step(X, model, sample_weight=sample_weight)
    result = run_em(X, covariance_type, start, 1, reg_covar=0.0, repair="raise", sample_weight=sample_weight)
    assert_step_is_exact(result.parameters, exact)


@pytest.mark.parametrize("distance", [1e2, 5e2, 1e3, 5e3, 1e4, 2e4, 3e4, 5e4])
@pytest.mark.parametrize("weight", [1e-3, 1e-5])
def test_step_with_a_light_cluster_between_the_extremes(covariance_type, distance, weight):
    """Means stay exact; covariances are within the expansion's budget (test_step_between_the_extremes)."""
    X, *start = two_far_clusters(covariance_type, distance)
    sample_weight = np.ones(len(X))
    sample_weight[1::2] = weight
    model = oracle.stored_model(covariance_type, parameters_of(covariance_type, start))
    exact = oracle.em_step(X, model, sample_weight=sample_weight)
    result = run_em(X, covariance_type, start, 1, reg_covar=0.0, repair="raise", sample_weight=sample_weight)
    assert_means_are_exact(result.parameters.means, exact)
    assert oracle.covariance_difference(exact, result.parameters.covariances) <= tolerances.STEP_EXPANSION


def test_tied_moments_are_not_centred_without_need():
    """Moments about every mean cost K times as much as one scatter of the rows: only far ones need them."""
    structure, n_features = STRUCTURES["tied"], 64
    frame = Frame(np.zeros(n_features), np.ones(n_features))
    direction = np.random.default_rng(3).standard_normal(n_features)
    direction /= np.linalg.norm(direction)

    def is_centred(distance, weight):
        means = np.stack([np.zeros(n_features), distance * direction])
        parameters = structure.from_covariances(np.array([1.0 - weight, weight]), means, np.eye(n_features))
        return structure.needs_centring(parameters, means, frame).tolist()

    assert is_centred(400.0, 0.1) == is_centred(400.0, 1e-6) == is_centred(2e4, 1e-6) == [False, False]
    assert is_centred(1e4, 0.1) == is_centred(1e5, 1e-6) == [True, True]
    assert is_centred(1e9, 0.0) == [False, False], "a component without weight has no moments to lose"


def test_step_of_the_estimator_without_repair(covariance_type):
    X, *start = two_far_clusters(covariance_type, 1e8)
    estimator = GaussianMixture(
        2,
        covariance_type=covariance_type,
        reg_covar=0.0,
        max_iter=1,
        tol=0.0,
        **datasets.init_arguments(covariance_type, start),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", RepairWarning)
        estimator.fit(X)
    assert estimator.n_repairs_ == 0
    assert_step_is_exact(
        (estimator.weights_, estimator.means_, estimator.covariances_),
        oracle.em_step(X, oracle.make_model(covariance_type, *start)),
    )


def test_tight_and_broad_components_together(covariance_type):
    """Only one of the two needs the second look: a cluster of unit spread inside one of spread 1e7."""
    if covariance_type == "tied":
        pytest.skip("one covariance cannot be both tight and broad")
    rng = np.random.default_rng(14)
    X = rng.standard_normal((1500, 2))
    X[500:] *= 1e7
    X[:500] += 3e8
    covariances = {
        "full": np.stack([1e12 * np.eye(2), 1e14 * np.eye(2)]),
        "diag": np.array([[1e12] * 2, [1e14] * 2]),
        "spherical": np.array([1e12, 1e14]),
    }[covariance_type]
    start = np.array([0.3, 0.7]), np.array([[3e8, 3e8], [0.0, 0.0]]), covariances
    exact = oracle.em_step(X, oracle.stored_model(covariance_type, parameters_of(covariance_type, start)))
    result = run_em(X, covariance_type, start, 1, reg_covar=0.0, repair="raise")
    assert_step_is_exact(result.parameters, exact)
