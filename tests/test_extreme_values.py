"""Units, starts and weights at the ends of what float64 can hold."""

import numpy as np
import pytest

from fastgmm import BayesianGaussianMixture, GaussianMixture, MiniBatchGaussianMixture
from fastgmm.blocks import ArrayData
from fastgmm.frame import Frame
from fastgmm.structures import STRUCTURES

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore::fastgmm.exceptions.RepairWarning"),
    # rightly said: reg_covar is not small beside such units
    pytest.mark.filterwarnings("ignore::fastgmm.exceptions.RegularizationWarning"),
]

TYPES = ("full", "tied", "diag", "spherical")


def assert_usable(mixture):
    for name in ("weights_", "means_", "covariances_", "precisions_cholesky_"):
        assert np.isfinite(getattr(mixture, name)).all(), name
    assert np.isfinite(mixture.lower_bound_)


# ---- floors ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("covariance_type", ["full", "tied"])
@pytest.mark.parametrize("largest", [1.0, 2.0, 1e20, 1e93, 1e200, np.inf, np.nan])
@pytest.mark.parametrize("exponent", [0, 140])
def test_a_floor_can_be_factorised_whatever_cancellation_left(covariance_type, largest, exponent):
    rng = np.random.default_rng(0)
    spread = 10.0 ** rng.uniform(-exponent, exponent, size=12)
    correlation = rng.normal(size=(12, 12))
    correlation[3, 5] = correlation[5, 3] = largest
    with np.errstate(over="ignore"):
        covariance = (correlation + correlation.T) * spread[:, None] * spread
    covariance[2, 2], covariance[4, 4], covariance[6, 6] = 0.0, -1.0, np.nan
    structure, frame = STRUCTURES[covariance_type], Frame(np.zeros(12), np.exp2(-np.round(np.log2(spread))))
    covariances = covariance if covariance_type == "tied" else covariance[None]
    floored = structure.floored(covariances, frame)
    parameters = structure.from_covariances(np.ones(1), np.zeros((1, 12)), floored)
    singular = structure.factorised(parameters.means, floored, 0.0, 1)[1]
    assert not singular.any()


@pytest.mark.parametrize("covariance_type", TYPES)
@pytest.mark.parametrize("repair", ["floor", "reseed"])
def test_no_repair_ends_a_fit(covariance_type, repair):
    for seed in range(12):
        rng = np.random.default_rng(seed)
        X = rng.normal(size=(100, 12)) * 10.0 ** rng.uniform(-140, 140, size=12)
        means = rng.normal(size=(3, 12)) * 10.0 ** (seed % 3 * 3)
        mixture = GaussianMixture(
            3, covariance_type=covariance_type, reg_covar=0, repair=repair, means_init=means, max_iter=5
        ).fit(X)
        assert_usable(mixture)


# ---- acceleration ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("covariance_type", TYPES)
@pytest.mark.parametrize("prior", [None, "conjugate"])
@pytest.mark.parametrize("unit", [None, 1e-160, 1e-120, 1e140])
def test_acceleration_says_nothing_about_extreme_units(covariance_type, prior, unit, capfd):
    # neither NumPy, of which warnings are errors here, nor LAPACK, which prints lines of its own
    rng = np.random.default_rng(0)
    units = 10.0 ** np.linspace(-140, 140, 5) if unit is None else np.full(5, unit)
    X = (rng.normal(size=(300, 5)) + rng.integers(0, 2, size=(300, 1)) * 3) * units
    if prior is not None and unit == 1e-160:
        pytest.skip("the covariance of such rows is 0 in float64, which is no prior")
    options = {"prior": prior, "reg_covar": 0 if unit == 1e140 else 1e-6}
    mixture = GaussianMixture(
        3, covariance_type=covariance_type, acceleration="anderson", random_state=0, tol=1e-9, **options
    ).fit(X)
    assert_usable(mixture)
    assert capfd.readouterr() == ("", "")


# ---- starts far from all rows ------------------------------------------------------------------------------


@pytest.mark.parametrize("covariance_type", TYPES)
@pytest.mark.parametrize("n_features", [2, 12, 80])
@pytest.mark.parametrize("all_given", [False, True])
def test_means_may_be_given_anywhere(covariance_type, n_features, all_given):
    # where one component takes all rows, it ends as if it had been alone
    rng = np.random.default_rng(n_features)
    units = 10.0 ** rng.uniform(-140, 0, size=n_features) if covariance_type != "spherical" else 1e-120
    X = rng.normal(size=(300, n_features)) * units
    options = {"covariance_type": covariance_type, "reg_covar": 0, "repair": "floor"}
    alone = GaussianMixture(1, max_iter=1, **options).fit(X)
    options["means_init"] = rng.normal(size=(2, n_features)) * 1e6
    if all_given:
        precisions = np.asarray(alone.precisions_)
        options["weights_init"] = [0.5, 0.5]
        options["precisions_init"] = (
            precisions if covariance_type == "tied" else np.repeat(precisions, 2, axis=0)
        )
    mixture = GaussianMixture(2, max_iter=20, **options).fit(X)
    k = int(np.argmax(mixture.weights_))
    assert mixture.weights_[k] == pytest.approx(1.0)
    np.testing.assert_allclose((mixture.means_[k] - X.mean(axis=0)) / X.std(axis=0), 0.0, atol=1e-12)
    assert mixture.score(X) == pytest.approx(alone.score(X), rel=1e-10)


# ---- the smallest numbers ----------------------------------------------------------------------------------


def subnormal_rows(seed, n_features, scale):
    return np.random.default_rng(seed).normal(size=(300, n_features)) * scale


@pytest.mark.parametrize("covariance_type", TYPES)
@pytest.mark.parametrize("scale", [5e-322, 1e-315, 1e-308, 1e-300])
@pytest.mark.parametrize("max_iter", [0, 1, 20])
def test_fits_of_the_smallest_numbers_are_finite(covariance_type, scale, max_iter):
    for n_features in (1, 2, 12, 76):
        X = subnormal_rows(n_features, n_features, scale)
        mixture = GaussianMixture(5, covariance_type=covariance_type, max_iter=max_iter, random_state=0).fit(
            X
        )
        assert np.isfinite(mixture.means_).all()
        assert (np.abs(mixture.means_) <= np.abs(X).max()).all()
        assert max_iter == 0 or np.isfinite(mixture.lower_bound_)


@pytest.mark.parametrize("covariance_type", TYPES)
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_mini_batches_of_the_smallest_numbers_are_finite(covariance_type, method):
    X = subnormal_rows(0, 12, 5e-322)
    mixture = MiniBatchGaussianMixture(5, covariance_type=covariance_type, random_state=0, max_iter=1)
    getattr(mixture, method)(X)
    assert np.isfinite(mixture.means_).all()
    posterior = BayesianGaussianMixture(n_components=5, covariance_type=covariance_type, random_state=0).fit(
        X
    )
    assert np.isfinite(posterior.means_).all()


@pytest.mark.parametrize("unit", [1.0, 1e-290, 1e-305, 1e-310])
def test_k_means_finds_clusters_of_the_smallest_numbers(unit):
    rng = np.random.default_rng(0)
    X = (rng.normal(size=(300, 2)) + 20 * rng.integers(0, 3, size=(300, 1))) * unit
    found = GaussianMixture(3, max_iter=0, random_state=0).fit(X).means_ / unit
    np.testing.assert_allclose(np.sort(found, axis=0), [[0, 0], [20, 20], [40, 40]], atol=0.5)


# ---- weights -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [1e-6, 1e-13, 1e-20, 1e-40])
def test_the_spread_of_rows_of_hardly_any_weight_is_measured(share):
    # one row has all the rest: the spread is what the others have
    X = np.random.default_rng(0).normal(size=(20, 2))
    weight = np.full(20, share)
    weight[7] = 1.0
    mean, spread = ArrayData(X, weight).moments(1)
    weight /= weight.sum()
    away = X - X[7]
    np.testing.assert_allclose(spread, np.sqrt(weight @ away**2 - (weight @ away) ** 2), rtol=1e-9)
    np.testing.assert_allclose(mean, X[7], rtol=0, atol=100 * share + 1e-15)


@pytest.mark.parametrize("covariance_type", TYPES)
@pytest.mark.parametrize("init_params", ["kmeans", "k-means++", "random", "random_from_data"])
def test_a_mean_log_likelihood_is_finite_where_its_sum_is_not(covariance_type, init_params):
    rng = np.random.default_rng(3)
    X = rng.normal(size=(60, 3)) * [1e116, 1.0, 1e-90]
    weight = 10.0 ** rng.choice([-130, 0, 90], size=60)
    options = {
        "covariance_type": covariance_type,
        "init_params": init_params,
        "random_state": 0,
        "max_iter": 1,
    }
    heavy = GaussianMixture(3, **options).fit(X, sample_weight=weight)
    assert_usable(heavy)
    # 2 ** -290 times the weights are the same weights
    light = GaussianMixture(3, **options).fit(X, sample_weight=weight * 2.0**-290)
    assert heavy.lower_bound_ == light.lower_bound_
    np.testing.assert_array_equal(heavy.means_, light.means_)


@pytest.mark.parametrize("covariance_type", TYPES)
def test_weights_of_any_size_give_a_bound(covariance_type):
    for seed in range(30):
        rng = np.random.default_rng(seed)
        n_features = int(rng.choice([1, 2, 5, 12]))
        X = rng.normal(size=(20, n_features)) * 10.0 ** rng.uniform(-130, 130, size=n_features)
        exponent = rng.choice([1, 30, 90])
        weight = 10.0 ** rng.uniform(-exponent, exponent, size=20)
        mixture = GaussianMixture(
            2, covariance_type=covariance_type, reg_covar=0, init_params="random", random_state=0, max_iter=5
        ).fit(X, sample_weight=weight)
        assert_usable(mixture)
