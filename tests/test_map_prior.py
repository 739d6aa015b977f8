"""`prior`: the posterior's mode against slow independent ways to it, and what holds for every fit."""

from __future__ import annotations

import warnings

import datasets
import map_oracle
import numpy as np
import oracle
import pytest
import tolerances
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize

from fastgmm import ConjugatePrior, GaussianMixture, em, seeding
from fastgmm.blocks import ArrayData
from fastgmm.posterior_mode import PosteriorMode
from fastgmm.structures import STRUCTURES

COVARIANCE_TYPES = oracle.COVARIANCE_TYPES
# An optimum found by differences of function values: half the digits of a double, and some for the curvature.
OPTIMISED = 1e-5
# Values of an objective that never decreases but for rounding: sums over rows and components.
ROUNDING = 1e-12


def prior_of(covariance_type: str, n_features: int, shrinkage: float = 0.5, seed: int = 0) -> ConjugatePrior:
    """A prior with nothing left open and nothing in common with its defaults."""
    rng = np.random.default_rng(seed)
    scale = {
        "full": datasets.random_covariances(rng, "tied", 1, n_features),
        "tied": datasets.random_covariances(rng, "tied", 1, n_features),
        "diag": rng.uniform(0.5, 2.0, n_features),
        "spherical": 1.3,
    }[covariance_type]
    return ConjugatePrior(rng.standard_normal(n_features), shrinkage, n_features + 0.7, scale)


def start_of(seed, covariance_type, n_rows=40, n_features=2, n_components=3):
    X, start = datasets.problem(seed, n_rows, n_features, n_components, covariance_type, 2.0)
    return X, start, datasets.init_arguments(covariance_type, start)


def fitted(X, covariance_type, prior, init, **parameters):
    parameters = {"tol": 0.0, "max_iter": 1, **parameters}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Best performing")
        n_components = len(init["weights_init"])
        return GaussianMixture(
            n_components, covariance_type=covariance_type, prior=prior, **init, **parameters
        ).fit(X)


# ---- one step ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shrinkage", [0.0, 0.01, 3.0])
@pytest.mark.parametrize("n_features", [1, 2, 5, 17])
def test_a_step_is_that_of_the_formulas(covariance_type, n_features, shrinkage):
    X, start, init = start_of(n_features, covariance_type, 60, n_features)
    prior = prior_of(covariance_type, n_features, shrinkage)
    mixture = fitted(X, covariance_type, prior, init)
    model = oracle.make_model(covariance_type, *start[:3])
    expected = map_oracle.m_step(X, oracle.responsibilities(X, model), prior, covariance_type)
    found = mixture.weights_, mixture.means_, mixture.covariances_
    assert oracle.difference(expected, found) <= tolerances.STEP_WHITENED


@pytest.mark.parametrize("shrinkage", [0.0, 0.7])
def test_a_step_is_what_an_optimiser_finds(covariance_type, shrinkage):
    """Of means and logarithms of Cholesky factors, from the maximum of the likelihood."""
    K, D = 2, 2
    X, start, init = start_of(5, covariance_type, 15, D, K)
    prior = prior_of(covariance_type, D, shrinkage, seed=1)
    mixture = fitted(X, covariance_type, prior, init)
    model = oracle.make_model(covariance_type, *start[:3])
    resp = oracle.responsibilities(X, model)
    size = {"full": K * 3, "tied": 3, "diag": K * D, "spherical": K}[covariance_type]

    def unpacked(vector):
        means, rest = vector[: K * D].reshape(K, D), vector[K * D :]
        if covariance_type in ("diag", "spherical"):
            return means, np.exp(rest).reshape((K, D) if covariance_type == "diag" else K)
        logs = rest.reshape(-1, 3)
        roots = np.zeros((len(logs), D, D))
        roots[:, [0, 1], [0, 1]], roots[:, 1, 0] = np.exp(logs[:, :2]), logs[:, 2]
        covariances = roots @ np.swapaxes(roots, 1, 2)
        return means, covariances if covariance_type == "full" else covariances[0]

    def cost(vector):
        return -map_oracle.expected(X, resp, prior, covariance_type, *unpacked(vector))

    begin = np.concatenate([np.asarray(start[1], dtype=float).ravel(), np.zeros(size)])
    best = optimize.minimize(cost, begin, method="BFGS", options={"gtol": 1e-6})
    means, covariances = unpacked(best.x)
    np.testing.assert_allclose(mixture.means_, means, rtol=0, atol=OPTIMISED)
    np.testing.assert_allclose(mixture.covariances_, covariances, rtol=0, atol=OPTIMISED)
    ours = -map_oracle.expected(X, resp, prior, covariance_type, mixture.means_, mixture.covariances_)
    assert ours <= best.fun + ROUNDING * abs(best.fun)


@pytest.mark.parametrize("shrinkage", [0.0, 0.7])
@pytest.mark.parametrize("n_features", [1, 3])
def test_the_bound_has_the_density_of_the_prior_with_its_constants(covariance_type, shrinkage, n_features):
    X, start, init = start_of(3, covariance_type, 30, n_features)
    weight = np.random.default_rng(0).uniform(0.1, 2.0, len(X))
    prior = prior_of(covariance_type, n_features, shrinkage)
    model = GaussianMixture(
        3, covariance_type=covariance_type, prior=prior, max_iter=2, tol=1e300, **init
    ).fit(X, sample_weight=weight)
    expected = map_oracle.value(X, prior, covariance_type, *start[:3], sample_weight=weight)
    assert model.lower_bounds_[0] == pytest.approx(expected, rel=ROUNDING)
    assert model.lower_bound_ == model.lower_bounds_[-1]


# ---- every fit -----------------------------------------------------------------------------------------


def differences(mixture, X, sample_weight=None):
    """Changes of the bound from one iteration to the next, and that the fit repaired nothing."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message="Best performing")
        mixture.fit(X, sample_weight=sample_weight)
    assert mixture.n_repairs_ == 0
    assert np.isfinite(mixture.covariances_).all()
    bounds = np.array(mixture.lower_bounds_)
    return np.diff(bounds), ROUNDING * np.maximum(1.0, np.abs(bounds[1:]))


@st.composite
def cases(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n_features = draw(st.integers(1, 4))
    n_rows = n_features + 2 + draw(st.integers(0, 20))
    X = rng.standard_normal((n_rows, n_features))
    kind = draw(st.sampled_from(["plain", "clusters", "far", "copies", "weights", "units"]))
    weight = None
    if kind == "clusters":
        X += 10.0 * rng.integers(0, 3, n_rows)[:, None]
    elif kind == "far":
        X += 1e4
    elif kind == "copies":
        X = np.repeat(X, 2, axis=0)
    elif kind == "weights":
        weight = rng.exponential(size=n_rows) * 10.0 ** rng.integers(-3, 3) + 1.0
    elif kind == "units":
        X *= 10.0 ** rng.integers(-3, 4, n_features)
    return X, weight, {
        "n_components": draw(st.integers(1, min(6, n_rows))),
        "covariance_type": draw(st.sampled_from(COVARIANCE_TYPES)),
        "init_params": draw(st.sampled_from(["random", "random_from_data"])),
        "prior": draw(st.sampled_from([
            "conjugate", ConjugatePrior(shrinkage=0), ConjugatePrior(shrinkage=2.5),
            ConjugatePrior(degrees_of_freedom=9.0), ConjugatePrior(mean=np.zeros(n_features)),
        ])),
        "random_state": int(rng.integers(1000)),
    }  # fmt: skip


@settings(max_examples=250, deadline=None, derandomize=True)
@given(cases())
def test_it_never_decreases_and_nothing_collapses(case):
    X, weight, parameters = case
    changes, rounding = differences(GaussianMixture(tol=0.0, max_iter=8, n_jobs=1, **parameters), X, weight)
    assert (changes >= -rounding).all(), changes.min()


@settings(max_examples=600, deadline=None, derandomize=True)
@given(cases(), st.integers(0, 2**32 - 1))
def test_no_run_of_any_kind_decreases(case, seed):
    """2400 runs of the loop alone, which cost less than fits: all kinds of covariance, odd priors far off."""
    X, weight, parameters = case
    rng = np.random.default_rng(seed)
    D = X.shape[1]
    data, K = ArrayData(X, weight), parameters["n_components"]
    covariance = np.atleast_2d(np.cov(X.T, aweights=weight)) * 10.0 ** rng.uniform(-4, 2)
    variances = np.diag(covariance)
    options = em.EMOptions(tol=0.0, max_iter=6)
    for name, structure in STRUCTURES.items():
        scale = {"diag": variances, "spherical": variances.mean()}.get(name, covariance)
        least = D - 1.0 if name in ("full", "tied") else 0.0
        dof = least + 10.0 ** rng.uniform(-2, 2)
        shrinkage = rng.choice([0.0, 10.0 ** rng.uniform(-6, 3)])
        mean = X.mean(axis=0) + X.std(axis=0) * rng.standard_normal(D) * 10.0 ** rng.uniform(-2, 1)
        prior = ConjugatePrior(mean, shrinkage, dof, scale).checked(structure, D)
        objective = PosteriorMode(structure, prior, 1)
        start = seeding.initial_parameters(
            data, structure, K, init_params=parameters["init_params"], options=options,
            random_state=np.random.RandomState(seed), objective=objective,
        )  # fmt: skip
        result = em.run(data, structure, start.parameters, options, objective=objective)
        bounds = np.array(result.lower_bounds)
        assert result.n_repairs == len(start.repaired) == 0
        # strong priors have large terms, which cancel
        log_roots = structure.log_det_roots(result.parameters)
        size = K * abs(objective.constant) + objective.exponent * np.abs(log_roots).sum()
        size += structure.traces(objective.scale, result.parameters).sum()
        rounding = ROUNDING * np.maximum(1.0, np.abs(bounds[1:])) + 16 * tolerances.EPS * size / len(X)
        assert (np.diff(bounds) >= -rounding).all(), (name, bounds)


@pytest.mark.parametrize("init_params", ["kmeans", "k-means++", "random", "random_from_data"])
@pytest.mark.parametrize("kind", ["ten rows", "copies", "as many components as rows", "two places"])
def test_no_component_collapses(covariance_type, init_params, kind):
    X = np.random.default_rng(3).standard_normal((10, 3))
    n_components = 10 if kind == "as many components as rows" else 5
    if kind == "copies":
        X[:6] = X[0]
    elif kind == "two places":  # a scale of rank 1 would be no prior: it is given
        X[:5], X[5:] = X[0], X[1]
    scale = {"full": np.eye(3), "tied": np.eye(3), "diag": 1.0, "spherical": 1.0}[covariance_type]
    prior = ConjugatePrior(scale=scale) if kind == "two places" else "conjugate"
    mixture = GaussianMixture(
        n_components, covariance_type=covariance_type, prior=prior, init_params=init_params,
        random_state=0, tol=0.0, max_iter=200,
    )  # fmt: skip
    changes, rounding = differences(mixture, X)
    assert (changes >= -rounding).all()
    # and the covariance is no less than what the prior leaves of it
    least = mixture.prior_.scale / (10 + mixture.prior_.degrees_of_freedom + 3 + 10 + 2)
    below = mixture.covariances_ - (least / 3 if covariance_type == "spherical" else least)
    smallest = np.linalg.eigvalsh(below) if covariance_type in ("full", "tied") else below
    assert smallest.min() >= -1e-12


def test_a_component_without_rows_has_the_mode_of_the_prior(covariance_type):
    X, _, init = start_of(1, covariance_type, 50, 2, 3)
    init["means_init"][2] = 1e6  # no row has a responsibility that is not 0
    prior = prior_of(covariance_type, 2)
    mixture = fitted(X, covariance_type, prior, init, max_iter=5)
    assert mixture.n_repairs_ == 0
    assert mixture.weights_[2] == 0.0
    assert mixture.weights_.sum() == pytest.approx(1.0, abs=1e-15)
    np.testing.assert_allclose(mixture.means_[2], prior.mean, rtol=1e-14)
    nu = prior.degrees_of_freedom
    if covariance_type == "full":
        np.testing.assert_allclose(mixture.covariances_[2], prior.scale / (nu + 4), rtol=1e-14)
    elif covariance_type == "diag":
        np.testing.assert_allclose(mixture.covariances_[2], prior.scale / (nu + 3), rtol=1e-14)
    elif covariance_type == "spherical":
        assert mixture.covariances_[2] == pytest.approx(prior.scale / (nu + 4), rel=1e-14)


# ---- limits --------------------------------------------------------------------------------------------


def test_many_rows_outweigh_it(covariance_type):
    """Rows that count 1e9 times: the prior is worth 1e-10 of them, and what is left is the likelihood."""
    X, _, init = start_of(2, covariance_type, 300)
    weight = np.full(len(X), 1e9)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        one, other = (
            GaussianMixture(
                3, covariance_type=covariance_type, reg_covar=0.0, tol=0.0, max_iter=20, prior=prior, **init
            ).fit(X, sample_weight=weight)
            for prior in ("conjugate", None)
        )
    np.testing.assert_allclose(one.means_, other.means_, rtol=0, atol=1e-7)
    np.testing.assert_allclose(one.covariances_, other.covariances_, rtol=1e-6, atol=1e-8)
    assert one.lower_bound_ == pytest.approx(other.lower_bound_, abs=1e-7)


def test_a_vague_prior_is_the_likelihood_but_for_its_few_rows(covariance_type):
    """Tiny scale, no prior of means: covariances are those of rows, divided by a few more than there are."""
    X, _, init = start_of(4, covariance_type, 500)
    nu = {"full": 1.5, "tied": 1.5, "diag": 1e-9, "spherical": 1e-9}[covariance_type]
    tiny = {"full": np.eye(2), "tied": np.eye(2), "diag": 1.0, "spherical": 1.0}[covariance_type]
    prior = ConjugatePrior(np.zeros(2), 0.0, nu, 1e-12 * np.asarray(tiny))
    one = fitted(X, covariance_type, prior, init)
    other = fitted(X, covariance_type, None, init, reg_covar=0.0)
    np.testing.assert_allclose(one.means_, other.means_, rtol=1e-12, atol=1e-12)
    n = 500.0 if covariance_type == "tied" else 500.0 * other.weights_
    added = {"full": nu + 3, "tied": nu + 3, "diag": nu + 2, "spherical": (nu + 2) / 2}[covariance_type]
    shape = np.reshape(n / (n + added), (-1, *(1,) * (np.ndim(other.covariances_) - 1)))
    shape = shape.item() if covariance_type == "tied" else shape
    np.testing.assert_allclose(one.covariances_, shape * other.covariances_, rtol=1e-10, atol=1e-11)


def test_a_strong_prior_is_all_there_is(covariance_type):
    X, _, init = start_of(4, covariance_type, 50)
    prior = prior_of(covariance_type, 2, shrinkage=1e12)
    mixture = fitted(X, covariance_type, prior, init)
    np.testing.assert_allclose(mixture.means_, np.tile(prior.mean, (3, 1)), atol=1e-9)


# ---- defaults ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["faithful", "iris"])
def test_defaults_are_mclusts(covariance_type, name):
    """mclust's reference values have no prior: what it documents of defaultPrior is what can be compared."""
    X, K = datasets.mclust_rows(name), 3
    D = X.shape[1]
    prior = GaussianMixture(
        K, covariance_type=covariance_type, prior="conjugate", random_state=0, max_iter=0
    ).fit(X).prior_  # fmt: skip
    covariance = np.cov(X.T)
    number = np.trace(covariance) / D
    expected = {"diag": np.full(D, number), "spherical": number}.get(covariance_type, covariance)
    np.testing.assert_allclose(prior.scale, expected / K ** (2 / D), rtol=1e-12)
    np.testing.assert_allclose(prior.mean, X.mean(axis=0), rtol=1e-13)
    assert (prior.shrinkage, prior.degrees_of_freedom) == (0.01, D + 2)
    assert prior.is_complete
    assert type(prior.scale) is (float if covariance_type == "spherical" else np.ndarray)


@pytest.mark.parametrize("name", ["faithful", "iris", "wreath"])
def test_where_the_likelihood_has_a_maximum_the_fit_hardly_differs(covariance_type, name):
    """A prior worth a fraction of a row: the likelihood at the mode is a little below mclust's maximum."""
    if (covariance_type, name) == ("diag", "faithful"):
        pytest.skip("one number for minutes and eruptions: the default is no weak prior there, as in mclust")
    X, K = datasets.mclust_rows(name), 2
    labels = datasets.mclust_partitions(name)[:, K - 1]
    start = oracle.m_step(X, oracle.one_hot(labels, K), covariance_type)
    mixture = GaussianMixture(
        K, covariance_type=covariance_type, prior="conjugate", tol=1e-10, max_iter=5000,
        **datasets.init_arguments(covariance_type, start[1:]),
    ).fit(X)  # fmt: skip
    model = {"tied": "EEE", "full": "VVV", "diag": "VVI", "spherical": "VII"}[covariance_type]
    best, n_parameters, _ = datasets.mclust_reference(name)[model, K]
    reached = mixture.score(X) * len(X)
    assert best - n_parameters <= reached <= best + 1e-6
    assert mixture.bic(X) == pytest.approx(-2 * reached + n_parameters * np.log(len(X)), rel=1e-12)


def test_weights_count_rows(covariance_type):
    X, _, init = start_of(6, covariance_type, 30)
    weight = np.random.default_rng(0).integers(0, 4, 30).astype(float)
    weighted = GaussianMixture(3, covariance_type=covariance_type, prior="conjugate", tol=1e-3, **init)
    weighted.fit(X, sample_weight=weight)
    repeated = GaussianMixture(3, covariance_type=covariance_type, prior="conjugate", tol=1e-3, **init)
    repeated.fit(np.repeat(X, weight.astype(int), axis=0))
    assert weighted.n_iter_ == repeated.n_iter_
    np.testing.assert_allclose(weighted.prior_.scale, repeated.prior_.scale, rtol=1e-12)
    np.testing.assert_allclose(weighted.covariances_, repeated.covariances_, rtol=1e-9)
    assert weighted.lower_bound_ == pytest.approx(repeated.lower_bound_, rel=1e-11)
