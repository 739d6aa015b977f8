"""The posterior predictive density, draws from the posterior, credible intervals, components in use."""

from __future__ import annotations

import bayesian_fits as fits
import numpy as np
import pytest
import variational_oracle as oracle
from scipy import stats
from variational_oracle import KINDS

from fastgmm import BayesianGaussianMixture, BlockRows, GaussianMixture, NpyRows

# Of the density integrated over the line and the plane: promised.
INTEGRAL = 1e-6
# Draws for comparisons with moments and quantiles: these are then known within 1 % or so.
DRAWS = 20_000
FEW_ROWS = 9


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


def small(covariance_type, kind, n_features, n_rows=FEW_ROWS, **options):
    """Few rows, so that tails are heavy."""
    X = fits.rows_of(n_rows, n_features, seed=3)
    return X, fits.fitted(
        X, n_components=3, covariance_type=covariance_type, weight_concentration_prior_type=kind,
        init_params="random", **options,
    )  # fmt: skip


def line(reach=50.0, n=4001):
    """Nodes and weights for integrals over the line: the trapezoidal rule in t, x = sinh(t).

    sinh(50) = 3e21: tails of one degree of freedom hold less than 1e-21 beyond.
    """
    t, step = np.linspace(-reach, reach, n, retstep=True)
    return np.sinh(t), step * np.cosh(t)


def test_integrates_to_one_on_the_line(covariance_type, kind):
    X, mixture = small(covariance_type, kind, 1)
    x, w = line()
    rows = (x * X.std() + X.mean())[:, None]
    density = np.exp(mixture.score_samples(rows, predictive=True))
    assert float(density @ w * X.std()) == pytest.approx(1.0, abs=INTEGRAL)
    # what the bound takes of a row is no density
    assert float(np.exp(mixture.score_samples(rows)) @ w * X.std()) < 0.97


def test_integrates_to_one_on_the_plane(covariance_type, kind):
    X, mixture = small(covariance_type, kind, 2, n_rows=14)
    # polar coordinates about the middle: radii as on the line, the trapezoidal rule for angles
    log_radius, step = np.linspace(-20, 20, 601, retstep=True)
    angles = np.linspace(0, 2 * np.pi, 240, endpoint=False)
    middle, unit = X.mean(axis=0), X.std()
    radius = np.exp(log_radius) * unit
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    rows = (middle + radius[:, None, None] * circle).reshape(-1, 2)
    density = np.exp(mixture.score_samples(rows, predictive=True)).reshape(len(radius), -1)
    total = (density.mean(axis=1) * 2 * np.pi * radius**2 * step).sum()
    assert float(total) == pytest.approx(1.0, abs=INTEGRAL)


@pytest.mark.parametrize("n_features", [1, 3, 17])
def test_is_a_mixture_of_students_t(covariance_type, kind, n_features):
    X, mixture = small(
        covariance_type, kind, n_features, n_rows=40, degrees_of_freedom_prior=n_features - 0.7
    )
    rows = np.concatenate([X, 30 * X])
    expected = oracle.predictive(rows, oracle.posterior_of(mixture))
    found = mixture.score_samples(rows, predictive=True)
    np.testing.assert_allclose(found, np.log(expected).astype(float), rtol=1e-10, atol=1e-10)
    # and SciPy's, of a single one
    one = fits.fitted(X, covariance_type=covariance_type, weight_concentration_prior_type=kind)
    nu, beta = float(np.ravel(one.degrees_of_freedom_)[0]), float(one.mean_precision_[0])
    matrix = np.asarray(oracle.posterior_of(one).inverse_scales[0], dtype=float) / nu
    left = nu + 1 - n_features
    t = stats.multivariate_t(one.means_[0], matrix * nu * (1 + beta) / (left * beta), df=left)
    np.testing.assert_allclose(one.score_samples(rows, predictive=True), t.logpdf(rows), rtol=1e-9)


def test_far_rows_and_far_origins(covariance_type):
    X = fits.rows_of(60, 2, seed=4, origin=1e6)
    mixture = fits.fitted(X, n_components=3, covariance_type=covariance_type)
    rows = np.concatenate([X, X[:2] + 1e9, X[:2] - 1e150])
    expected = np.log(oracle.predictive(rows, oracle.posterior_of(mixture))).astype(float)
    np.testing.assert_allclose(mixture.score_samples(rows, predictive=True), expected, rtol=1e-7)


def test_predictive_of_sources_and_into_arrays(tmp_path, kind):
    X, mixture = small("full", kind, 2, n_rows=50)
    expected = mixture.score_samples(X, predictive=True)
    out = np.full(len(X), np.nan)
    assert mixture.score_samples(X, out, predictive=True) is out
    np.testing.assert_array_equal(out, expected)
    mapped = mixture.score_samples(X, tmp_path / "out.npy", predictive=True)
    np.testing.assert_array_equal(mapped, expected)
    np.save(tmp_path / "rows.npy", X)
    for source in (BlockRows([X[:20], X[20:]]), NpyRows(tmp_path / "rows.npy"), X.tolist()):
        np.testing.assert_allclose(mixture.score_samples(source, predictive=True), expected, rtol=1e-12)
    many = np.tile(X, (2000, 1))
    np.testing.assert_allclose(
        mixture.score_samples(many, predictive=True), np.tile(expected, 2000), rtol=1e-12
    )
    with pytest.raises(TypeError, match="positional"):
        mixture.score_samples(X, None, True)
    with pytest.raises(ValueError, match="X has 1 features"):
        mixture.score_samples(X[:, :1], predictive=True)


# ---- draws from the posterior ----------------------------------------------------------------------------


def test_draws_have_the_moments_of_the_posterior(covariance_type):
    _, mixture = small(covariance_type, KINDS[0], 2, n_rows=40, degrees_of_freedom_prior=8.0)
    q = oracle.posterior_of(mixture)
    K, D = mixture.means_.shape
    draws = mixture.sample_parameters(DRAWS)
    assert draws.weights.shape == (DRAWS, K)
    assert draws.means.shape == (DRAWS, K, D)
    assert draws.covariances.shape == (DRAWS, K, D, D)
    np.testing.assert_allclose(draws.weights.sum(axis=1), 1.0, rtol=1e-12)
    precisions = np.linalg.inv(draws.covariances)
    for k in range(K):
        scale = np.asarray(oracle.inverse(q.inverse_scales[k]), dtype=float)
        dof, beta = float(q.dof[k]), float(q.mean_precision[k])
        # first and second moments of the Wishart distribution (Bishop B.80): Var = nu (w_ij^2 + w_ii w_jj)
        deviation = np.sqrt(dof * (scale**2 + np.outer(scale.diagonal(), scale.diagonal())))
        error = 4 * deviation / np.sqrt(DRAWS)
        assert (np.abs(precisions[:, k].mean(axis=0) - dof * scale) < error).all()
        np.testing.assert_allclose(precisions[:, k].std(axis=0), deviation, rtol=0.05)
        # given its precision a mean is normal
        roots = np.linalg.cholesky(precisions[:, k])
        away = np.sqrt(beta) * np.einsum("nij,ni->nj", roots, draws.means[:, k] - mixture.means_[k])
        assert (np.abs(away.mean(axis=0)) < 4 / np.sqrt(DRAWS)).all()
        np.testing.assert_allclose(away.T @ away / DRAWS, np.eye(D), atol=0.05)
        np.testing.assert_array_equal(draws.covariances[:, k], np.swapaxes(draws.covariances[:, k], 1, 2))
    # components are independent
    correlation = np.corrcoef(np.log(draws.covariances[:, :, 0, 0]).T)
    assert np.abs(correlation - np.eye(K)).max() < 0.05


def test_drawn_weights(kind):
    _, mixture = small("diag", kind, 1, n_rows=30)
    draws = mixture.sample_parameters(DRAWS).weights
    if kind == oracle.DISTRIBUTION:
        exact = stats.dirichlet(mixture.weight_concentration_)
        np.testing.assert_allclose(
            draws.mean(axis=0), exact.mean(), atol=4 * np.sqrt(exact.var().max() / DRAWS)
        )
        np.testing.assert_allclose(draws.var(axis=0), exact.var(), rtol=0.1, atol=1e-5)
    else:
        sticks = np.random.default_rng(0).beta(*mixture.weight_concentration_, size=(DRAWS, 3))
        rest = np.cumprod(1 - sticks, axis=1)
        weights = sticks * np.concatenate([np.ones((DRAWS, 1)), rest[:, :-1]], axis=1)
        weights /= weights.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(draws.mean(axis=0), weights.mean(axis=0), atol=0.005)
        np.testing.assert_allclose(draws.std(axis=0), weights.std(axis=0), rtol=0.05, atol=1e-4)


@pytest.mark.parametrize("dof", [2.01, 2.5, 3.0])
def test_draws_of_few_degrees_of_freedom(covariance_type, dof):
    """As components without rows have them: from n_features - 1 on."""
    X = fits.rows_of(60, 3, seed=5)
    mixture = fits.fitted(
        X, n_components=8, covariance_type=covariance_type, degrees_of_freedom_prior=dof, max_iter=100,
        weight_concentration_prior=1e-3,
    )  # fmt: skip
    draws = mixture.sample_parameters(200)
    for values in draws:
        assert np.isfinite(values).all()
    signs, logs = np.linalg.slogdet(draws.covariances[:, mixture.used_components()])
    assert (signs == 1).all()
    assert np.isfinite(logs).all()
    for ends in mixture.credible_intervals():  # the upper ones may be infinite
        assert (ends[..., 0] <= ends[..., 1]).all()


def test_concentrations_near_zero():
    X = fits.rows_of(60, 2, seed=5)
    for kind in KINDS:
        mixture = fits.fitted(
            X, n_components=9, weight_concentration_prior=1e-9, max_iter=60,
            weight_concentration_prior_type=kind,
        )  # fmt: skip
        draws = mixture.sample_parameters(50)
        np.testing.assert_allclose(draws.weights.sum(axis=1), 1.0)
        mixture.weight_concentration_ = (
            np.full(9, 1e-9) if kind == oracle.DISTRIBUTION else (np.full(9, 1e-9), np.full(9, 1e-9))
        )
        weights = mixture.sample_parameters(50).weights
        assert np.isfinite(weights).all()


@pytest.mark.parametrize("level", [0.5, 0.95])
def test_intervals_hold_so_many_draws(covariance_type, kind, level):
    _, mixture = small(covariance_type, kind, 2, n_rows=40)
    draws, intervals = mixture.sample_parameters(DRAWS), mixture.credible_intervals(level)
    variances = np.diagonal(draws.covariances, axis1=2, axis2=3)
    error = 4 * np.sqrt(level * (1 - level) / DRAWS) + (0.01 if kind == oracle.PROCESS else 0)
    tails = (1 - level) / 2
    for drawn, ends in ((draws.weights, intervals.weights), (draws.means, intervals.means),
                        (variances, intervals.variances)):  # fmt: skip
        assert ends.shape == (*drawn.shape[1:], 2)
        assert (np.abs((drawn < ends[..., 0]).mean(axis=0) - tails) < error).all()
        assert (np.abs((drawn > ends[..., 1]).mean(axis=0) - tails) < error).all()


def test_intervals_of_one_component():
    X = fits.rows_of(20, 1)
    mixture = fits.fitted(X, weight_concentration_prior_type=oracle.DISTRIBUTION)
    np.testing.assert_array_equal(mixture.credible_intervals().weights, [[1.0, 1.0]])
    nu, beta = mixture.degrees_of_freedom_[0], mixture.mean_precision_[0]
    variance = mixture.covariances_.item()
    ends = mixture.credible_intervals(0.9)
    expected = stats.t.interval(0.9, nu, mixture.means_.item(), np.sqrt(variance / beta))
    np.testing.assert_allclose(ends.means[0, 0], expected)
    expected = nu * variance / stats.chi2.ppf([0.95, 0.05], nu)
    np.testing.assert_allclose(ends.variances[0, 0], expected)
    np.testing.assert_allclose(fits.fitted(X).credible_intervals().weights, [[1.0, 1.0]])


@pytest.mark.parametrize("n_draws", [0, -1, 1.5, "3", None, True])
def test_numbers_of_draws(n_draws):
    mixture = small("full", KINDS[0], 2)[1]
    if n_draws is True:
        assert len(mixture.sample_parameters(n_draws).weights) == 1
        return
    with pytest.raises(ValueError, match=r"n_draws must be an integer, at least 1, got"):
        mixture.sample_parameters(n_draws)


@pytest.mark.parametrize("level", [0, 1, -0.5, 2.0, np.nan, "0.9", None])
def test_levels(level):
    with pytest.raises(ValueError, match=r"level must be a number between 0 and 1, got"):
        small("full", KINDS[0], 2)[1].credible_intervals(level)


def test_draws_are_random_states(kind):
    _, mixture = small("full", kind, 2)
    np.testing.assert_array_equal(mixture.sample_parameters(3).means, mixture.sample_parameters(3).means)
    mixture.set_params(random_state=np.random.RandomState(0))
    assert (mixture.sample_parameters(3).means != mixture.sample_parameters(3).means).all()
    mixture.set_params(random_state=5)
    other = mixture.sample_parameters(3)
    assert (mixture.set_params(random_state=6).sample_parameters(3).means != other.means).all()


# ---- components in use -----------------------------------------------------------------------------------


def separated(n_features=2):
    rng = np.random.default_rng(0)
    sizes = (200, 150, 100, 4)
    return np.concatenate(
        [rng.normal(size=(n, n_features)) + 12 * k for k, n in enumerate(sizes)]
    )  # fmt: skip


def test_used_components(covariance_type, kind):
    X = separated()
    mixture = fits.fitted(
        X, n_components=9, covariance_type=covariance_type, weight_concentration_prior_type=kind,
        max_iter=100,
        weight_concentration_prior=1e-3, responsibilities_init=np.repeat([0, 3, 5, 7], [200, 150, 100, 4]),
    )  # fmt: skip
    counts = mixture.mean_precision_ - mixture.mean_precision_prior_
    np.testing.assert_allclose(counts, [200, 0, 0, 150, 0, 100, 0, 4, 0], atol=1.0)
    np.testing.assert_array_equal(mixture.used_components(), [0, 3, 5])  # 4 rows are less than 1 %
    np.testing.assert_array_equal(mixture.used_components(0.0), [0, 3, 5, 7])  # more than D + 1 = 3 rows
    np.testing.assert_array_equal(mixture.used_components(0.3), [0, 3])
    assert mixture.used_components(1).size == 0
    assert mixture.n_effective_components_ == 3

    plain = mixture.compact()
    assert type(plain) is GaussianMixture
    assert plain.n_components == 3
    assert (plain.covariance_type, plain.random_state) == (covariance_type, 1)
    np.testing.assert_allclose(plain.weights_, np.array([200, 150, 100]) / 450, atol=0.01)
    np.testing.assert_array_equal(plain.means_, mixture.means_[[0, 3, 5]])
    expected = mixture.covariances_ if covariance_type == "tied" else mixture.covariances_[[0, 3, 5]]
    np.testing.assert_allclose(plain.covariances_, expected, rtol=1e-14, atol=1e-14)
    np.testing.assert_array_equal(plain.predict(X[:450]), np.repeat([0, 1, 2], [200, 150, 100]))
    assert len(mixture.compact(0.0).weights_) == 4
    with pytest.raises(ValueError, match="No component has a share of 1 of the rows and more than"):
        mixture.compact(1)
    plain.set_params(tol=1e-3).fit(X)


@pytest.mark.parametrize("threshold", [-0.1, 1.1, np.nan, "0.5"])
def test_thresholds(threshold):
    mixture = small("full", KINDS[0], 2)[1]
    for method in (mixture.used_components, mixture.compact):
        with pytest.raises(ValueError, match="threshold must be a number from 0 to 1, got"):
            method(threshold)


def test_compact_keeps_names_of_features():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(separated(), columns=["a", "b"])
    mixture = fits.fitted(frame, n_components=4)
    plain = mixture.compact()
    np.testing.assert_array_equal(plain.feature_names_in_, ["a", "b"])
    plain.predict(frame)


def test_more_components_than_there_are(covariance_type):
    """What the estimator is for."""
    X = separated()[:450]
    mixture = BayesianGaussianMixture(
        n_components=12, covariance_type=covariance_type, random_state=0, max_iter=1000, tol=1e-4
    ).fit(X)
    assert mixture.n_effective_components_ == 3
    assert mixture.converged_
