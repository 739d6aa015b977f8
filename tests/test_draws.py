"""Rows that are drawn: scikit-learn's where those are right, and right where they are not."""

import warnings

import numpy as np
import pytest
from sklearn.mixture import GaussianMixture as Peer

from fastgmm import BayesianGaussianMixture, GaussianMixture, MiniBatchGaussianMixture
from fastgmm.normal_draws import factor_of

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

TYPES = ("full", "tied", "diag", "spherical")


def with_attributes(estimator, weights, means, covariances):
    estimator.weights_, estimator.means_, estimator.covariances_ = map(
        np.asarray, (weights, means, covariances)
    )
    return estimator


def mixture(covariances, covariance_type="full", estimator=GaussianMixture, random_state=0):
    """Of equal weights and means 0."""
    covariances = np.asarray(covariances)
    K = 2 if covariance_type == "tied" else len(covariances)
    D = covariances.shape[-1]
    made = estimator(K, covariance_type=covariance_type, random_state=random_state)
    return with_attributes(made, np.full(K, 1 / K), np.zeros((K, D)), covariances)


def random_correlation(rng, D):
    Z = rng.normal(size=(3 * D, D))
    covariance = Z.T @ Z
    spread = np.sqrt(np.diag(covariance))
    correlation = covariance / spread[:, None] / spread
    return (correlation + correlation.T) / 2


def fits():
    X = np.random.default_rng(0).normal(size=(300, 2)) + [[3.0, 0.0]] * np.arange(300)[:, None] % 2
    for covariance_type in TYPES:
        for estimator in (GaussianMixture, BayesianGaussianMixture, MiniBatchGaussianMixture):
            yield estimator(
                n_components=2, covariance_type=covariance_type, random_state=7, max_iter=3, tol=1
            ).fit(X)


def test_a_call_can_have_a_random_state_of_its_own():
    for fitted in fits():
        default, _ = fitted.sample(20)
        np.testing.assert_array_equal(fitted.sample(20, random_state=None)[0], default)
        np.testing.assert_array_equal(fitted.sample(20, random_state=7)[0], default)
        other = fitted.sample(20, random_state=8)[0]
        assert not np.array_equal(other, default)
        np.testing.assert_array_equal(fitted.sample(20, 8)[0], other)
        fitted.set_params(random_state=8)
        np.testing.assert_array_equal(fitted.sample(20)[0], other)
        rng = np.random.RandomState(7)
        first, second = (fitted.sample(20, random_state=rng)[0] for _ in range(2))
        np.testing.assert_array_equal(first, default)
        assert not np.array_equal(second, default)
        assert fitted.random_state == 8


def test_posterior_draws_can_have_one_too():
    fitted = next(fit for fit in fits() if isinstance(fit, BayesianGaussianMixture))
    default = fitted.sample_parameters(3).means
    np.testing.assert_array_equal(fitted.sample_parameters(3).means, default)
    np.testing.assert_array_equal(fitted.sample_parameters(3, random_state=7).means, default)
    rng = np.random.RandomState(0)
    first, second = (fitted.sample_parameters(3, random_state=rng).means for _ in range(2))
    assert not np.array_equal(first, second)


@pytest.mark.parametrize("bad", ["seed", -1, np.random.default_rng(0)])
def test_what_is_no_random_state_is_refused(bad):
    with pytest.raises(ValueError):
        mixture([[[1.0]]]).sample(5, random_state=bad)


@pytest.mark.parametrize("covariance_type", ["full", "tied"])
@pytest.mark.parametrize("exponent", [3, 6, 8, 9, 12, 60, 140])
def test_units_of_features_may_differ_by_any_factor(covariance_type, exponent):
    rng = np.random.default_rng(exponent)
    correlation = random_correlation(rng, 4)
    spread = 10.0 ** np.array([-exponent, 0, exponent, exponent / 2])
    covariance = correlation * spread[:, None] * spread
    covariance = covariance if covariance_type == "tied" else [covariance, covariance]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rows, _ = mixture(covariance, covariance_type).sample(20_000)
    found = np.cov(rows / spread, rowvar=False, bias=True)
    np.testing.assert_allclose(found, correlation, atol=6 / np.sqrt(len(rows)))


def test_directions_of_little_variance_are_right_too():
    # the same sensor twice, and once more in another unit: the differences are what tells them apart
    spread, noise = np.array([1.0, 1.0, 1e5]), 1e-6
    correlation = np.ones((3, 3)) + noise**2 * np.eye(3)
    rows, _ = mixture([correlation * spread[:, None] * spread]).sample(20_000)
    rows /= spread
    for i, j in ((0, 1), (0, 2), (1, 2)):
        assert (rows[:, i] - rows[:, j]).std() == pytest.approx(np.sqrt(2) * noise, rel=0.05)


@pytest.mark.parametrize("covariance_type", TYPES)
@pytest.mark.parametrize("seed", range(5))
def test_draws_in_like_units_are_scikit_learns(covariance_type, seed):
    rng = np.random.default_rng(seed)
    D = int(rng.integers(1, 12))
    matrices = [
        random_correlation(rng, D),
        np.ones((D, D)),  # singular
        np.ones((D, D)) + 1e-14 * np.eye(D),
        np.diag(rng.integers(0, 2, D).astype(float)),  # features without variance
        np.zeros((D, D)),
        random_correlation(rng, D) + rng.normal(size=(D, D)) * 1e-12,  # not symmetric to the last bit
        random_correlation(rng, D).astype(np.float32),
    ]
    spread = 10.0 ** rng.uniform(-1, 1, size=D)
    covariances = np.array([matrix * spread[:, None] * spread for matrix in matrices])
    if covariance_type == "tied":
        covariances = covariances[seed]
    elif covariance_type != "full":
        covariances = np.einsum("kii->ki", covariances)
    if covariance_type == "spherical":
        covariances = covariances.mean(axis=1)
        ours, peer = (
            with_attributes(
                made(7, covariance_type="spherical", random_state=seed),
                np.full(7, 1 / 7),
                np.ones((7, D)),
                covariances,
            )
            for made in (GaussianMixture, Peer)
        )
    else:
        ours, peer = (
            mixture(covariances, covariance_type, made, random_state=seed) for made in (GaussianMixture, Peer)
        )
    peer.precisions_cholesky_ = covariances
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rows, labels = ours.sample(50)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected, expected_labels = peer.sample(50)
    np.testing.assert_array_equal(rows, expected)
    np.testing.assert_array_equal(labels, expected_labels)


def test_other_factors_take_the_same_random_numbers():
    # what comes after a component in odd units is drawn as ever
    plain, odd = np.eye(2), np.diag([1e-20, 1e20]) + 0.5 * (1 - np.eye(2))
    ours, peer = (mixture([odd, plain], estimator=made) for made in (GaussianMixture, Peer))
    peer.precisions_cholesky_ = peer.covariances_
    rows, labels = ours.sample(50)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = peer.sample(50)[0]
    assert not np.array_equal(rows[labels == 0], expected[labels == 0])
    np.testing.assert_array_equal(rows[labels == 1], expected[labels == 1])


def test_features_without_variance_stay_at_their_mean():
    covariance = np.diag([1e30, 0.0, 1e-30])
    covariance[0, 2] = covariance[2, 0] = 0.9
    made = mixture([covariance])
    made.means_[0, 1] = 3.0
    rows, _ = made.sample(1000)
    assert (rows[:, 1] == 3.0).all()
    assert np.corrcoef(rows[:, 0] / 1e15, rows[:, 2] * 1e15)[0, 1] == pytest.approx(0.9, abs=0.05)


@pytest.mark.parametrize(
    ("covariances", "covariance_type", "message"),
    [
        ([[[1.0, 2.0], [2.0, 1.0]]], "full", r"covariances_\[0\] is not positive semi-definite"),
        ([[1.0, 2.0], [2.0, 1.0]], "tied", "covariances_ is not positive semi-definite"),
        ([np.eye(2), [[1.0, np.nan], [np.nan, 1.0]]], "full", r"covariances_\[1\] contains NaN"),
        ([[[-1.0, 0.0], [0.0, 1.0]]], "full", r"covariances_\[0\] has the variance -1.0"),
        ([[1.0, -2.0]], "diag", "covariances_ has the variance -2.0"),
        ([[np.inf, 2.0]], "diag", "covariances_ has the variance inf"),
    ],
)
def test_what_is_no_covariance_is_refused(covariances, covariance_type, message):
    with pytest.raises(ValueError, match=message):
        mixture(covariances, covariance_type).sample(5)


def test_no_covariance_warns_or_is_drawn_from_wrongly():
    for seed in range(100):
        rng = np.random.default_rng(seed)
        D = int(rng.choice([1, 2, 3, 8]))
        spread = 10.0 ** (rng.choice([0, 1, 6, 30, 140]) * rng.uniform(-1, 1, size=D))
        Z = rng.normal(size=(max(1, D - 1) if seed % 3 == 0 else 3 * D, D))
        covariance = (Z @ (np.eye(D) + rng.choice([0, 1, 1e3]) * rng.normal(size=(D, D)))).T
        covariance = covariance @ covariance.T
        units = np.sqrt(np.diag(covariance))
        correlation = covariance / units[:, None] / units + rng.choice([0, 1e-12]) * rng.normal(size=(D, D))
        covariance = correlation * spread[:, None] * spread
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            rows, _ = mixture([covariance]).sample(2000)
            factor_of(covariance, "a covariance")
        found = (rows / spread).T @ (rows / spread) / len(rows)
        np.testing.assert_allclose(found, correlation, atol=8 / np.sqrt(len(rows)), err_msg=str(seed))
