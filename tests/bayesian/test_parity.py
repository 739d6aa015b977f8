"""From the same start, the same map: fastgmm against scikit-learn's BayesianGaussianMixture."""

from __future__ import annotations

import copy
import warnings

import bayesian_fits as fits
import numpy as np
import pytest
import tolerances
from running import bounds_beside
from sklearn.cluster import kmeans_plusplus
from sklearn.utils import check_random_state
from variational_oracle import DISTRIBUTION, KINDS, PROCESS

# After 20 iterations, as promised: attributes whitened or relative, and differences of bounds.
ATTRIBUTES, BOUND = tolerances.PARITY_PARAMETERS, tolerances.BOUND_PARITY
N_ITER = 20


def whitened(mixture):
    """Standard deviations of each component in each feature, (K, D)."""
    K, D = mixture.means_.shape
    kind, covariances = mixture.covariance_type, mixture.covariances_
    variances = {
        "full": lambda: np.einsum("kii->ki", covariances),
        "tied": lambda: np.diagonal(covariances),
        "diag": lambda: covariances,
        "spherical": lambda: covariances[:, None],
    }[kind]()
    return np.sqrt(np.broadcast_to(variances, (K, D)))


def assert_same_attributes(ours, theirs, tolerance=ATTRIBUTES):
    spread = whitened(theirs)
    assert np.abs((ours.means_ - theirs.means_) / spread).max() <= tolerance
    sizes = spread**2
    if ours.covariance_type in ("full", "tied"):
        sizes = spread[:, :, None] * spread[:, None, :]
    if ours.covariance_type in ("tied", "spherical"):
        sizes = sizes[0] if ours.covariance_type == "tied" else sizes[:, 0]
    assert np.abs((ours.covariances_ - theirs.covariances_) / sizes).max() <= tolerance
    for name in ("precisions_", "precisions_cholesky_"):
        found, expected = getattr(ours, name), getattr(theirs, name)
        np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance * np.abs(expected).max())
    for name in ("weights_", *fits.POSTERIOR, *fits.PRIOR):
        found, expected = getattr(ours, name), getattr(theirs, name)
        assert isinstance(found, tuple) == isinstance(expected, tuple), name
        assert np.shape(found) == np.shape(expected), name
        scale = np.abs(expected).max() if "prior" in name else 0.0
        # counts of empty components are scikit-learn's 10 eps, and 0 here
        np.testing.assert_allclose(found, expected, rtol=tolerance, atol=1e-12 * (1 + scale), err_msg=name)


def assert_same_bounds(ours, theirs):
    """Up to a constant."""
    bounds, others = bounds_beside(ours.lower_bounds_, theirs)
    assert len(bounds) == len(others)
    constants = np.array(bounds) - np.ravel(others)
    assert np.ptp(constants) <= BOUND * max(1.0, np.abs(bounds).max())
    assert ours.lower_bound_ == ours.lower_bounds_[-1]
    assert isinstance(ours.lower_bound_, float)


def assert_same_rows(ours, theirs, X):
    np.testing.assert_allclose(
        ours.score_samples(X),
        theirs.score_samples(X),
        rtol=tolerances.PARITY_ROWS,
        atol=tolerances.PARITY_ROWS,
    )
    found = ours.predict_proba(X)
    np.testing.assert_allclose(found, theirs.predict_proba(X), rtol=0, atol=tolerances.PARITY_ROWS)
    decided = np.sort(found, axis=1)[:, -2:]
    decided = (np.diff(decided, axis=1)[:, 0] > 1e-6) if found.shape[1] > 1 else np.ones(len(X), bool)
    np.testing.assert_array_equal(ours.predict(X)[decided], theirs.predict(X)[decided])
    assert ours.score(X) == pytest.approx(theirs.score(X), rel=tolerances.PARITY_ROWS)


def assert_same(ours, theirs, X, *, bounds=True):
    assert_same_attributes(ours, theirs)
    if bounds:
        assert_same_bounds(ours, theirs)
    assert_same_rows(ours, theirs, X)
    assert (ours.n_iter_, ours.converged_) == (theirs.n_iter_, theirs.converged_)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", fits.SIZES, ids=lambda size: "x".join(map(str, size)))
def test_same_responsibilities(covariance_type, kind, size):
    n_rows, D, K = size
    X = fits.rows_of(n_rows, D)
    options = {"n_components": K, "covariance_type": covariance_type, "weight_concentration_prior_type": kind}
    if n_rows <= D or K == 33:  # else the prior, or what one iteration makes of noise, is singular
        options |= fits.given_prior(D, covariance_type)
    start = fits.random_responsibilities(n_rows, K)
    options["reg_covar"] = 0.0 if kind == PROCESS else 1e-6
    ours = fits.fitted(X, responsibilities_init=start, **options)
    assert_same(ours, fits.peer(X, start, **options), X, bounds=kind == PROCESS)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("init_params", ["random", "random_from_data"])
@pytest.mark.parametrize("shape", [(300, 3, 7), (150, 17, 4)])
def test_same_seed(covariance_type, kind, init_params, shape):
    n_rows, D, K = shape
    X = fits.rows_of(n_rows, D, seed=1, origin=30.0)
    options = {
        "n_components": K, "covariance_type": covariance_type, "init_params": init_params,
        "weight_concentration_prior_type": kind, "reg_covar": 0.0,
    }  # fmt: skip
    ours, theirs = fits.fitted(X, **options), fits.peer(X, **options)
    assert_same(ours, theirs, X)
    for found, expected in zip(ours.sample(50), theirs.sample(50), strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_same_seed_with_k_means_plus_plus(covariance_type):
    """The draws of k-means++ are scikit-learn's where its candidates are; rows are the same then."""
    X = fits.rows_of(200, 3, seed=2)
    options = {"n_components": 4, "covariance_type": covariance_type, "init_params": "k-means++"}
    ours, theirs = fits.fitted(X, reg_covar=0.0, **options), fits.peer(X, reg_covar=0.0, **options)
    assert_same(ours, theirs, X)
    rows = kmeans_plusplus(X, 4, random_state=check_random_state(1))[1]
    start = np.zeros((len(X), 4))
    start[rows, np.arange(4)] = 1
    assert_same_attributes(fits.peer(X, start, reg_covar=0.0, **options), theirs, 1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_labels_as_a_start(covariance_type, kind):
    X = fits.rows_of(120, 2, seed=3)
    labels = np.random.default_rng(0).integers(3, size=len(X))
    options = {"n_components": 4, "covariance_type": covariance_type, "weight_concentration_prior_type": kind}
    ours = fits.fitted(X, responsibilities_init=labels, **options)
    assert_same(ours, fits.peer(X, np.eye(4)[labels], **options), X, bounds=False)
    again = fits.fitted(X, responsibilities_init=np.eye(4)[labels], **options)
    np.testing.assert_allclose(again.means_, ours.means_, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_given_priors(covariance_type, kind):
    X = fits.rows_of(90, 3, seed=4)
    options = {
        "n_components": 5, "covariance_type": covariance_type, "weight_concentration_prior_type": kind,
        "init_params": "random", "reg_covar": 0.0, **fits.given_prior(3, covariance_type),
    }  # fmt: skip
    before = copy.deepcopy(options)
    assert_same(fits.fitted(X, **options), fits.peer(X, **options), X)
    np.testing.assert_array_equal(options["mean_prior"], before["mean_prior"])
    np.testing.assert_array_equal(options["covariance_prior"], before["covariance_prior"])


@pytest.mark.parametrize("kind", KINDS)
def test_until_convergence(covariance_type, kind):
    X = fits.rows_of(250, 2, seed=5, spread=6.0)
    options = {
        "n_components": 6, "covariance_type": covariance_type, "weight_concentration_prior_type": kind,
        "init_params": "random_from_data", "tol": 1e-3, "max_iter": 1000, "reg_covar": 0.0,
    }  # fmt: skip
    ours, theirs = fits.fitted(X, **options), fits.peer(X, **options)
    assert ours.converged_
    # rounding of sums of hundreds may end it an iteration sooner or later
    assert abs(ours.n_iter_ - theirs.n_iter_) <= 1
    np.testing.assert_allclose(ours.means_, theirs.means_, rtol=1e-4, atol=1e-4)


def test_zero_iterations(covariance_type):
    X = fits.rows_of(60, 2)
    options = {"n_components": 3, "covariance_type": covariance_type, "max_iter": 0, "init_params": "random"}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ours, theirs = fits.fitted(X, **options), fits.peer(X, **options)
    assert_same_attributes(ours, theirs)
    assert (ours.n_iter_, ours.converged_, ours.lower_bound_) == (0, False, -np.inf)


@pytest.mark.parametrize("kind", KINDS)
def test_warm_start(covariance_type, kind):
    """Goes on where it was: so many iterations at once or in parts, as scikit-learn's."""
    X = fits.rows_of(150, 3, seed=6)
    options = {
        "n_components": 4, "covariance_type": covariance_type, "weight_concentration_prior_type": kind,
        "init_params": "random", "reg_covar": 0.0,
    }  # fmt: skip
    whole = fits.fitted(X, max_iter=15, **options)
    parts = fits.fitted(X, max_iter=9, warm_start=True, **options)
    theirs = fits.peer(X, max_iter=9, warm_start=True, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        parts.set_params(max_iter=6).fit(X)
        theirs.set_params(max_iter=6).fit(X)
    assert_same(parts, theirs, X)
    assert_same_attributes(parts, whole)
    np.testing.assert_allclose(parts.lower_bounds_, whole.lower_bounds_[9:], rtol=1e-12)
    with pytest.raises(ValueError, match=r"warm_start=True continues the last fit, which had n_components"):
        parts.set_params(n_components=3).fit(X)


@pytest.mark.parametrize("kind", KINDS)
def test_types_of_rows(covariance_type, kind):
    pandas = pytest.importorskip("pandas")
    X = np.round(fits.rows_of(120, 2, seed=7) * 3)
    start = fits.random_responsibilities(len(X), 3)
    options = {"n_components": 3, "covariance_type": covariance_type, "weight_concentration_prior_type": kind}
    reference = fits.fitted(X, responsibilities_init=start, **options)
    bits = fits.bits_of(reference)
    frame = pandas.DataFrame(X, columns=["a", "b"])
    for other in (X.astype(np.float32), X.astype(np.int32), X.astype(int), X.tolist(), frame, X.copy("F")):
        mixture = fits.fitted(other, responsibilities_init=start, **options)
        assert fits.bits_of(mixture) == bits
        assert mixture.means_.dtype == np.float64
        for name in ("score_samples", "predict", "predict_proba"):
            np.testing.assert_array_equal(getattr(mixture, name)(other), getattr(reference, name)(X))
    assert mixture.predict(X).dtype == np.int64
    named = fits.fitted(frame, responsibilities_init=pandas.DataFrame(start), **options)
    assert fits.bits_of(named) == bits
    np.testing.assert_array_equal(named.feature_names_in_, ["a", "b"])
    with pytest.raises(ValueError, match="feature names should match"):
        named.predict(frame.rename(columns={"a": "c"}))


@pytest.mark.parametrize("kind", KINDS)
def test_rows_far_out_and_components_without_rows(covariance_type, kind):
    """Weights of components without rows underflow; their scores must not."""
    X = fits.rows_of(200, 2, seed=8, spread=8.0)
    wide = {"full": 100 * np.eye(2), "tied": 100 * np.eye(2), "diag": [100.0, 100.0], "spherical": 100.0}
    options = {
        "n_components": 8, "covariance_type": covariance_type, "weight_concentration_prior_type": kind,
        "weight_concentration_prior": 1e-4, "covariance_prior": wide[covariance_type],
        "init_params": "random",
        "max_iter": 60,
    }  # fmt: skip
    ours, theirs = fits.fitted(X, **options), fits.peer(X, **options)
    far = np.array([[300.0, -300.0], [1e3, 1e3], [0.0, 0.0], [-4e4, 1.0]])
    np.testing.assert_array_equal(ours.predict(far), theirs.predict(far))
    np.testing.assert_allclose(ours.score_samples(far), theirs.score_samples(far), rtol=1e-7)


@pytest.mark.parametrize(("kind", "shape"), [(PROCESS, (2, 3)), (DISTRIBUTION, (3,))])
def test_shapes_and_types_of_attributes(covariance_type, kind, shape):
    X = fits.rows_of(60, 2)
    mixture = fits.fitted(
        X, n_components=3, covariance_type=covariance_type, weight_concentration_prior_type=kind
    )
    assert np.shape(mixture.weight_concentration_) == shape
    assert isinstance(mixture.weight_concentration_, tuple if kind == PROCESS else np.ndarray)
    assert isinstance(mixture.degrees_of_freedom_, float if covariance_type == "tied" else np.ndarray)
    assert isinstance(mixture.covariance_prior_, float if covariance_type == "spherical" else np.ndarray)
    assert isinstance(mixture.n_effective_components_, int)
    assert isinstance(mixture.score(X), float)
    assert isinstance(mixture.n_iter_, int)
    assert mixture.weights_.sum() == pytest.approx(1.0)
    assert not hasattr(mixture, "bic")
