"""From the same start, the same map: fastgmm against scikit-learn's GaussianMixture.

Known departures are left out here and tested where they are ours: float32 parameters, integer X, tied starts
with one row per component.
"""

from __future__ import annotations

import copy
import warnings

import datasets
import numpy as np
import oracle
import pytest
import tolerances
from running import bounds_beside
from sklearn.cluster import kmeans_plusplus
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture as Peer
from sklearn.utils import check_random_state

from fastgmm import GaussianMixture

# rows, features, components
SHAPES = ((200, 2, 3), (333, 1, 4), (500, 5, 4), (150, 7, 1), (600, 16, 3), (40, 3, 2))
REGULARISATIONS = (1e-6, 1e-2, 0.0)
# Fewer rows than this leave a full covariance in 16 dimensions ill-conditioned: parity is then lost to
# rounding.
PARAMETERS = ("weights_", "means_", "covariances_", "precisions_cholesky_", "precisions_")


def both(X, **arguments):
    """Both libraries' estimators, fitted to the same rows with the same arguments."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return GaussianMixture(**copy.deepcopy(arguments)).fit(X), Peer(**copy.deepcopy(arguments)).fit(X)


def assert_same_parameters(ours, peer, tolerance=tolerances.PARITY_PARAMETERS):
    for name in PARAMETERS:
        assert getattr(ours, name).shape == getattr(peer, name).shape, name
        assert getattr(ours, name).dtype == np.float64, name
    reference = oracle.fitted_model(peer)
    assert oracle.difference(reference, (ours.weights_, ours.means_, ours.covariances_)) <= tolerance
    # The factors belong to the covariances beside them, in scikit-learn's convention (upper triangular).
    own = oracle.make_model(ours.covariance_type, ours.weights_, ours.means_, ours.covariances_)
    scale = np.abs(ours.precisions_cholesky_).max()
    np.testing.assert_allclose(
        ours.precisions_cholesky_,
        own.precisions_cholesky.astype(float),
        rtol=tolerance,
        atol=tolerance * scale,
    )
    scale = np.abs(peer.precisions_).max()
    np.testing.assert_allclose(ours.precisions_, peer.precisions_, rtol=tolerance, atol=tolerance * scale)


@pytest.mark.parametrize("reg_covar", REGULARISATIONS)
@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: "x".join(map(str, s)))
def test_same_start_fixed_iterations(covariance_type, shape, reg_covar):
    n_rows, n_features, n_components = shape
    X, start = datasets.problem(11, n_rows, n_features, n_components, covariance_type)
    arguments = datasets.init_arguments(covariance_type, start)
    ours, peer = both(
        X,
        n_components=n_components,
        covariance_type=covariance_type,
        reg_covar=reg_covar,
        tol=0.0,
        max_iter=20,
        **arguments,
    )
    assert_same_parameters(ours, peer)
    scale = max(1.0, abs(peer.lower_bound_))
    assert abs(ours.lower_bound_ - peer.lower_bound_) <= tolerances.BOUND_PARITY * scale
    assert isinstance(ours.lower_bounds_, list)
    np.testing.assert_allclose(
        *bounds_beside(ours.lower_bounds_, peer), rtol=tolerances.BOUND_PARITY, atol=tolerances.BOUND_PARITY
    )
    assert ours.n_iter_ == peer.n_iter_ == 20
    assert ours.converged_ is False
    assert abs(ours.score(X) - peer.score(X)) <= tolerances.BOUND_PARITY * scale
    for criterion in ("bic", "aic"):
        expected = getattr(peer, criterion)(X)
        np.testing.assert_allclose(
            getattr(ours, criterion)(X), expected, rtol=tolerances.PARITY_CRITERION_RELATIVE
        )
    np.testing.assert_allclose(ours.score_samples(X), peer.score_samples(X), atol=tolerances.PARITY_ROWS)
    np.testing.assert_allclose(ours.predict_proba(X), peer.predict_proba(X), atol=tolerances.PARITY_ROWS)
    np.testing.assert_array_equal(ours.predict(X), peer.predict(X))


@pytest.mark.parametrize("tol", [1e-3, 1e-6])
def test_same_start_until_convergence(covariance_type, tol):
    X, start = datasets.problem(4, 700, 3, 3, covariance_type, spread=2.0)
    arguments = datasets.init_arguments(covariance_type, start)
    ours, peer = both(X, n_components=3, covariance_type=covariance_type, tol=tol, max_iter=500, **arguments)
    assert peer.converged_
    assert peer.n_iter_ > 2, "the case is to converge after a few iterations"
    assert ours.converged_ is True
    assert ours.n_iter_ == peer.n_iter_
    assert type(ours.n_iter_) is int
    assert len(ours.lower_bounds_) == peer.n_iter_
    assert_same_parameters(ours, peer)


def test_lower_bound_is_of_the_parameters_before_the_last_step(covariance_type):
    X, start = datasets.problem(4, 300, 3, 3, covariance_type, spread=1.0)
    model = oracle.make_model(covariance_type, *start)
    after_four, _ = oracle.em(X, model, 4, 1e-6)
    arguments = datasets.init_arguments(covariance_type, start)
    with pytest.warns(ConvergenceWarning):
        ours = GaussianMixture(3, covariance_type=covariance_type, max_iter=5, tol=0.0, **arguments).fit(X)
    assert abs(ours.lower_bound_ - float(oracle.lower_bound(X, after_four))) <= tolerances.BOUND_PARITY
    assert ours.score(X) - ours.lower_bound_ > 1e-6, "one more step would have to improve the fit"


def copied(peer: Peer, **arguments) -> GaussianMixture:
    """Our estimator with scikit-learn's fitted attributes set by hand: the attributes are the model."""
    ours = GaussianMixture(peer.n_components, covariance_type=peer.covariance_type, **arguments)
    for name in ("weights_", "means_", "covariances_", "precisions_cholesky_"):
        setattr(ours, name, getattr(peer, name).copy())
    return ours


@pytest.fixture
def fitted_peer(covariance_type):
    X, start = datasets.problem(21, 400, 3, 4, covariance_type)
    return Peer(4, covariance_type=covariance_type, **datasets.init_arguments(covariance_type, start)).fit(X)


@pytest.mark.parametrize("n_samples", [1, 7, 1000])
def test_same_seed_same_samples(fitted_peer, n_samples):
    ours = copied(fitted_peer, random_state=5)
    fitted_peer.random_state = 5
    rows, labels = ours.sample(n_samples)
    expected_rows, expected_labels = fitted_peer.sample(n_samples)
    np.testing.assert_array_equal(rows, expected_rows)
    np.testing.assert_array_equal(labels, expected_labels)
    assert rows.dtype == np.float64
    assert np.issubdtype(labels.dtype, np.integer)
    assert np.all(np.diff(labels) >= 0)
    # A RandomState instance is used, and used up, in the same way.
    ours.random_state, fitted_peer.random_state = np.random.RandomState(3), np.random.RandomState(3)
    for _ in range(2):
        np.testing.assert_array_equal(ours.sample(n_samples)[0], fitted_peer.sample(n_samples)[0])


def test_sample_refuses_no_rows(fitted_peer):
    with pytest.raises(ValueError, match="n_samples"):
        copied(fitted_peer).sample(0)


def test_attributes_set_or_edited_by_hand_are_used(fitted_peer, covariance_type):
    X, _ = datasets.problem(21, 400, 3, 4, covariance_type)
    ours = copied(fitted_peer)
    np.testing.assert_allclose(
        ours.score_samples(X), fitted_peer.score_samples(X), atol=tolerances.PARITY_ROWS
    )
    for estimator in (ours, fitted_peer):
        estimator.means_[1] += 0.5
        estimator.weights_[:] = [0.1, 0.2, 0.3, 0.4]
        estimator.precisions_cholesky_ *= 1.25
    np.testing.assert_allclose(
        ours.score_samples(X), fitted_peer.score_samples(X), atol=tolerances.PARITY_ROWS
    )
    np.testing.assert_allclose(
        ours.predict_proba(X), fitted_peer.predict_proba(X), atol=tolerances.PARITY_ROWS
    )


# -- seeding with scikit-learn's draws -------------------------------------------------------------

SEED = 17


def test_random_start(covariance_type):
    X, _ = datasets.problem(31, 250, 3, 3, covariance_type)
    common = {
        "n_components": 3,
        "covariance_type": covariance_type,
        "init_params": "random",
        "random_state": SEED,
    }
    ours, peer = both(X, max_iter=0, **common)
    # scikit-learn leaves no covariances_ behind max_iter=0 in every version: compare with its factors.
    np.testing.assert_allclose(ours.weights_, peer.weights_, rtol=tolerances.PARITY_PARAMETERS)
    np.testing.assert_allclose(ours.means_, peer.means_, rtol=tolerances.PARITY_PARAMETERS, atol=1e-12)
    np.testing.assert_allclose(
        ours.precisions_cholesky_, peer.precisions_cholesky_, rtol=tolerances.PARITY_PARAMETERS, atol=1e-9
    )
    ours, peer = both(X, max_iter=8, tol=0.0, **common)
    assert_same_parameters(ours, peer)
    np.testing.assert_allclose(*bounds_beside(ours.lower_bounds_, peer), rtol=tolerances.BOUND_PARITY)


@pytest.mark.parametrize("init_params", ["random_from_data", "k-means++"])
@pytest.mark.parametrize("kind", ["full", "diag", "spherical"])
def test_start_from_rows(kind, init_params):
    X, _ = datasets.problem(31, 250, 3, 3, kind)
    common = {
        "n_components": 3,
        "covariance_type": kind,
        "init_params": init_params,
        "random_state": SEED,
        "reg_covar": 1e-2,
        "tol": 0.0,
    }
    ours, peer = both(X, max_iter=0, **common)
    np.testing.assert_allclose(ours.means_, peer.means_, rtol=1e-12, atol=1e-12)
    ours, peer = both(X, max_iter=8, **common)
    assert_same_parameters(ours, peer)
    # scikit-learn's first weights sum to K / N here, so its first bound is that of no density: compare the
    # others.
    np.testing.assert_allclose(*bounds_beside(ours.lower_bounds_, peer, skip=1), rtol=tolerances.BOUND_PARITY)


@pytest.mark.parametrize("init_params", ["random_from_data", "k-means++"])
def test_tied_start_from_rows_is_pooled_within_scatter(init_params):
    """scikit-learn subtracts K rows from the scatter of all N, which depends on where the origin is."""
    X, _ = datasets.problem(31, 250, 3, 3, "tied")
    common = {
        "covariance_type": "tied",
        "init_params": init_params,
        "random_state": SEED,
        "reg_covar": 1e-2,
        "tol": 0.0,
        "max_iter": 0,
    }
    if init_params == "random_from_data":
        indices = check_random_state(SEED).choice(len(X), size=3, replace=False)
    else:
        _, indices = kmeans_plusplus(X, 3, random_state=check_random_state(SEED))
    for shift in (0.0, 100.0):
        ours = GaussianMixture(3, **common).fit(X + shift)
        np.testing.assert_allclose(ours.means_, X[indices] + shift, rtol=1e-12, atol=1e-12)
        # One row per component: no scatter within, so reg_covar alone.
        np.testing.assert_allclose(ours.covariances_, 1e-2 * np.eye(3), atol=1e-10)
        np.testing.assert_allclose(ours.weights_, 1 / 3, rtol=1e-10)


def test_given_arrays_are_not_overwritten(covariance_type):
    X, start = datasets.problem(4, 120, 2, 3, covariance_type)
    arguments = datasets.init_arguments(covariance_type, start)
    before = copy.deepcopy(arguments)
    ours = GaussianMixture(3, covariance_type=covariance_type, **arguments).fit(X)
    for name, value in arguments.items():
        assert getattr(ours, name) is value
        np.testing.assert_array_equal(value, before[name])
        assert not np.shares_memory(value, ours.weights_)
        assert not np.shares_memory(value, ours.means_)


def test_warm_start_continues(covariance_type):
    X, start = datasets.problem(8, 300, 3, 3, covariance_type, spread=1.5)
    arguments = dict(
        n_components=3,
        covariance_type=covariance_type,
        tol=0.0,
        warm_start=True,
        **datasets.init_arguments(covariance_type, start),
    )
    ours, peer = GaussianMixture(max_iter=4, **arguments), Peer(max_iter=4, **arguments)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for _ in range(3):
            ours.fit(X)
            peer.fit(X)
            assert_same_parameters(ours, peer)
            np.testing.assert_allclose(*bounds_beside(ours.lower_bounds_, peer), rtol=tolerances.BOUND_PARITY)
        # It starts from the last bound: with a generous tol the first further iteration converges.
        for estimator in (ours, peer):
            estimator.set_params(tol=1.0)
            estimator.fit(X)
    assert ours.n_iter_ == peer.n_iter_ == 1
    assert ours.converged_ is True
