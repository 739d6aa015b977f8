"""Fits in every way there is: sources, pruning, acceleration, float32, races, checkpoints, time, progress."""

from __future__ import annotations

import warnings

import bayesian_fits as fits
import numpy as np
import pytest
import tolerances
import variational_oracle as oracle
from oracle import COVARIANCE_TYPES
from running import forced_pruning
from sklearn.exceptions import ConvergenceWarning
from streams import WAYS, make_parts_small, source_of
from variational_oracle import DISTRIBUTION, KINDS

from fastgmm import BayesianGaussianMixture, BlockRows

N, D, K = 12_000, 3, 4


@pytest.fixture(scope="module")
def rows():
    return fits.rows_of(N, D, seed=1)


def start_of(covariance_type):
    """As if the rows had these parameters: a start that sources take, too."""
    precisions = {"full": np.tile(np.eye(D), (K, 1, 1)), "tied": np.eye(D), "diag": np.ones((K, D)),
                  "spherical": np.ones(K)}[covariance_type]  # fmt: skip
    means = np.random.default_rng(0).standard_normal((K, D)) * 2
    return {"weights_init": [0.4, 0.3, 0.2, 0.1], "means_init": means, "precisions_init": precisions}


def options_of(covariance_type, **more):
    return {
        "n_components": K,
        "covariance_type": covariance_type,
        "max_iter": 8,
        **start_of(covariance_type),
        **more,
    }


# ---- starts ----------------------------------------------------------------------------------------------


def test_given_parameters_are_what_rows_are_like(covariance_type):
    """The start's posterior is that of rows with such weights, means and covariances."""
    X = fits.rows_of(90, D)
    for kind in KINDS:
        mixture = fits.fitted(
            X, weight_concentration_prior_type=kind, **{**options_of(covariance_type), "max_iter": 0}
        )
        prior, start = oracle.prior_of(mixture), start_of(covariance_type)
        counts = 90 * np.array(start["weights_init"])
        np.testing.assert_allclose(mixture.mean_precision_, 1 + counts)
        expected = (prior.mean + counts[:, None] * start["means_init"]) / (1 + counts)[:, None]
        np.testing.assert_allclose(mixture.means_, expected.astype(float))
        dof = D + (counts if covariance_type != "tied" else np.full(K, 90 / K))
        away = start["means_init"] - prior.mean
        matrices = [
            prior.inverse_scale + n * np.eye(D) + n / (1 + n) * np.outer(a, a) for n, a in zip(counts, away)
        ]
        found = oracle.posterior_of(mixture)
        np.testing.assert_allclose(found.dof.astype(float), dof)
        expected = oracle.restricted(np.array(matrices), covariance_type)
        np.testing.assert_allclose(found.inverse_scales.astype(float), expected.astype(float), rtol=1e-9)


def test_means_alone(covariance_type):
    """Rows are assigned to the nearest, and count as if their means were these."""
    X = np.concatenate([fits.rows_of(40, 2, spread=0.1), fits.rows_of(50, 2, spread=0.1) + 30])
    given, labels = np.array([[30.0, 30.0], [0.0, 0.0]]), np.repeat([1, 0], [40, 50])
    mixture = fits.fitted(X, means_init=given, n_components=2, covariance_type=covariance_type, max_iter=0)
    np.testing.assert_allclose(mixture.mean_precision_, [51.0, 41.0])
    expected = (X.mean(axis=0) + [[50.0], [40.0]] * given) / [[51.0], [41.0]]
    np.testing.assert_allclose(mixture.means_, expected)
    prior, within = oracle.prior_of(mixture), []
    for k, n in enumerate((50, 40)):
        away = given[k] - X.mean(axis=0)
        rows = X[labels == k]
        within.append(
            n * np.cov(rows.T, bias=True) + n * 1e-6 * np.eye(2) + n / (1 + n) * np.outer(away, away)
        )
    expected = oracle.restricted(prior.inverse_scale + np.array(within), covariance_type)
    found = oracle.posterior_of(mixture).inverse_scales
    np.testing.assert_allclose(found.astype(float), expected.astype(float), rtol=1e-7)


# ---- sources ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("weighted", [False, True])
def test_sources(rows, way, weighted, tmp_path, monkeypatch):
    make_parts_small(monkeypatch)
    weight = np.random.default_rng(0).uniform(0, 2, N) if weighted else None
    covariance_type = COVARIANCE_TYPES[WAYS.index(way) % 4]
    for kind in KINDS[weighted:][:1]:
        options = options_of(covariance_type, weight_concentration_prior_type=kind)
        expected = fits.fitted(rows, weight, **options)
        source = source_of(way, rows, weight, tmp_path)
        found = fits.fitted(source, **options)
        np.testing.assert_allclose(found.lower_bounds_, expected.lower_bounds_, rtol=tolerances.SUM_RELATIVE)
        assert oracle.difference(oracle.posterior_of(expected), oracle.posterior_of(found)) < 1e-9
        for name in fits.PRIOR:
            np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-11, atol=1e-12)
        np.testing.assert_allclose(found.score_samples(source), expected.score_samples(rows), rtol=1e-9)
        predictive = found.score_samples(source, predictive=True)
        np.testing.assert_allclose(predictive, expected.score_samples(rows, predictive=True), rtol=1e-9)


def test_dask(rows, covariance_type):
    da = pytest.importorskip("dask.array")
    pytest.importorskip("distributed")
    options = options_of(covariance_type)
    expected = fits.fitted(rows, **options)
    x = da.from_array(rows, chunks=(5000, 2))
    found = fits.fitted(x, **options)
    np.testing.assert_allclose(found.lower_bounds_, expected.lower_bounds_, rtol=tolerances.SUM_RELATIVE)
    for kwargs in ({}, {"predictive": True}):
        scores = np.asarray(found.score_samples(x, **kwargs))
        np.testing.assert_allclose(scores, expected.score_samples(rows, **kwargs), rtol=1e-9)
    np.testing.assert_array_equal(np.asarray(found.predict(x)), found.predict(rows))


def test_pruning(covariance_type):
    """Passes that skip what does not matter end with the same bound."""
    X = fits.rows_of(6000, D, seed=2, spread=25.0)
    kind = KINDS[covariance_type in ("full", "diag")]
    options = {
        "n_components": 8, "covariance_type": covariance_type, "weight_concentration_prior_type": kind,
        "init_params": "kmeans", "max_iter": 12,
    }  # fmt: skip
    with forced_pruning("never"):
        dense = fits.fitted(X, **options)
    with forced_pruning("always"):
        pruned = fits.fitted(X, **options)
        assert fits.bits_of(fits.fitted(X, n_jobs=2, **options)) == fits.bits_of(pruned)
    np.testing.assert_allclose(pruned.lower_bounds_, dense.lower_bounds_, rtol=1e-9)
    np.testing.assert_allclose(pruned.means_, dense.means_, rtol=1e-6, atol=1e-6)
    assert min(pruned.history_["pairs"]) < 0.8 * max(pruned.history_["pairs"])


# ---- acceleration ----------------------------------------------------------------------------------------


def test_acceleration(covariance_type):
    """Steps that stay never lower the bound, and it ends as high."""
    kind = KINDS[covariance_type in ("tied", "diag")]
    X = fits.rows_of(700, 2, seed=3, spread=1.0)
    options = {
        "n_components": 4,
        "covariance_type": covariance_type,
        "weight_concentration_prior_type": kind,
        "reg_covar": 0.0,
        "tol": 1e-5,
        "max_iter": 250,
    }
    plain, found = fits.fitted(X, **options), fits.fitted(X, acceleration="anderson", **options)
    assert found.lower_bound_ >= plain.lower_bound_ - 0.05
    bounds, back = np.array(found.lower_bounds_), np.array(found.history_["taken_back"], dtype=bool)
    assert (np.diff(bounds[~back]) >= -1e-12 * np.abs(bounds).max()).all()
    assert found.lower_bound_ == bounds[~back][-1]
    assert back.sum() < len(back) / 2
    # the attributes are those of the bound: of the best responsibilities it is as high, and hardly higher
    q, prior = oracle.posterior_of(found), oracle.prior_of(found)
    bound = float(oracle.evidence(X, oracle.responsibilities(X, q), q, prior))
    assert -1e-9 * abs(bound) <= bound - found.lower_bound_ <= 0.05
    if covariance_type == "diag":
        assert plain.converged_
        assert found.n_iter_ < plain.n_iter_ / 2


# ---- float32 ---------------------------------------------------------------------------------------------


def test_single_precision(covariance_type, rows):
    X = rows.astype(np.float32)
    for kind in KINDS:
        options = options_of(covariance_type, weight_concentration_prior_type=kind)
        double = fits.fitted(X, **options)
        found = fits.fitted(X, arithmetic="float32", **options)
        assert sum(found.history_["pairs_single"]) > 0.5 * sum(found.history_["pairs"])
        np.testing.assert_allclose(
            found.lower_bounds_[-1], double.lower_bounds_[-1], rtol=tolerances.SINGLE_BOUND
        )
        assert oracle.difference(oracle.posterior_of(double), oracle.posterior_of(found)) < 1e-3
        for name in fits.PRIOR:  # the prior is of float64
            np.testing.assert_array_equal(getattr(found, name), getattr(double, name))
    options |= {"max_iter": 2000, "tol": 1e-2}  # less than a bound in float32 tells
    converged = fits.fitted(X[:2000], arithmetic="float32", **options)
    assert converged.converged_
    assert converged.history_["pairs_single"][-1] == 0


# ---- races, time, progress -------------------------------------------------------------------------------


def test_races(covariance_type):
    X = fits.rows_of(400, 2, seed=4, spread=6.0)
    options = {
        "n_components": 6, "covariance_type": covariance_type,
        "init_params": "random_from_data", "max_iter": 30,
    }  # fmt: skip
    race = fits.fitted(X, n_init=6, **options)
    state = np.random.RandomState(1)
    alone = [fits.fitted(X, **{**options, "random_state": state}) for _ in range(6)]
    bounds = [mixture.lower_bound_ for mixture in alone]
    same = np.isclose(bounds, race.lower_bound_, rtol=1e-14, atol=0.0)
    assert same.sum() == 1
    assert np.argsort(np.argsort(bounds))[same] >= 3
    best = alone[int(np.argmax(same))]
    if covariance_type == "tied":  # each part of a run sums up the scatter anew: it rounds in another way
        np.testing.assert_allclose(race.covariances_, best.covariances_, rtol=1e-12)
        return
    expected = {**fits.bits_of(best)}
    assert {k: v for k, v in fits.bits_of(race).items() if k != "history_"} == {
        k: v for k, v in expected.items() if k != "history_"
    }
    assert len(race.lower_bounds_) == race.n_iter_ == 30


def test_two_starts_are_both_finished():
    X = fits.rows_of(300, 2, seed=5, spread=6.0)
    state = np.random.RandomState(1)
    alone = [fits.fitted(X, n_components=5, init_params="random", random_state=state) for _ in range(2)]
    both = fits.fitted(X, n_components=5, init_params="random", n_init=2)
    assert both.lower_bound_ == max(mixture.lower_bound_ for mixture in alone)


def test_time(rows):
    options = options_of("full", tol=0.0)
    options["max_iter"] = 10_000
    with pytest.warns(ConvergenceWarning, match=r"ended after max_time=0\.2 seconds"):
        mixture = BayesianGaussianMixture(max_time=0.2, **options).fit(rows)
    assert 0 < mixture.n_iter_ < 10_000
    assert np.isfinite(mixture.lower_bound_)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        whole = BayesianGaussianMixture(**{**options, "max_iter": mixture.n_iter_}).fit(rows)
    assert fits.bits_of(whole) == fits.bits_of(mixture)


def test_progress(capsys):
    X = fits.rows_of(200, 2)
    fits.fitted(X, n_components=3, verbose=2, verbose_interval=5)
    out = "".join(capsys.readouterr())
    assert "BayesianGaussianMixture" in out
    assert "iteration" in out.lower()
    fits.fitted(X, n_components=3)
    assert "".join(capsys.readouterr()) == ""


def test_warnings_and_history():
    X = fits.rows_of(200, 2)
    mixture = BayesianGaussianMixture(n_components=3, max_iter=3, tol=0.0, random_state=0)
    with pytest.warns(ConvergenceWarning, match="did not converge"):
        mixture.fit(X)
    assert mixture.history_["lower_bound"] == mixture.lower_bounds_
    assert len(mixture.lower_bounds_) == mixture.n_iter_ == 3
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mixture.set_params(max_iter=1000, tol=1e-2).fit(X)
    assert mixture.converged_
    assert abs(np.diff(mixture.lower_bounds_[-2:]).item()) < 1e-2
    np.testing.assert_array_equal(mixture.fit_predict(X), mixture.predict(X))


# ---- checkpoints (also tests/test_checkpoint.py) -----------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weight_concentration_prior": 3.0}, "weight_concentration_prior: None there, 3.0 now"),
        (
            {"weight_concentration_prior_type": DISTRIBUTION},
            "weight_concentration_prior_type: 'dirichlet_process'",
        ),
        ({"mean_prior": [0.0, 0.0]}, r"mean_prior: None there, 'array of shape \(2,\)"),
        ({"covariance_prior": np.eye(2)}, "covariance_prior: None there"),
        ({"mean_precision_prior": 2.0}, "mean_precision_prior: None there, 2.0 now"),
        ({"degrees_of_freedom_prior": 4}, "degrees_of_freedom_prior: None there, 4 now"),
        ({"responsibilities_init": np.zeros(200, int)}, "responsibilities_init: None there"),
    ],
)
def test_checkpoints_of_other_priors(tmp_path, changes, message):
    X = fits.rows_of(200, 2)
    options = {"n_components": 3, "max_iter": 4, "checkpoint": tmp_path / "fit"}
    first = fits.fitted(X, **options)
    assert fits.bits_of(fits.fitted(X, **options)) == fits.bits_of(first)
    with pytest.raises(ValueError, match=rf"belongs to another fit \({message}"):
        fits.fitted(X, **{**options, **changes})
    longer = fits.fitted(X, **{**options, "max_iter": 9})
    assert fits.bits_of(longer) == fits.bits_of(fits.fitted(X, n_components=3, max_iter=9))


def test_blocks_have_the_prior_of_all_rows():
    X = fits.rows_of(500, 2, origin=1e5)
    options = {"n_components": 3, "max_iter": 0, "means_init": X[:3]}
    whole, parts = fits.fitted(X, **options), fits.fitted(BlockRows([X[:7], X[7:300], X[300:]]), **options)
    np.testing.assert_allclose(parts.covariance_prior_, np.cov(X.T), rtol=1e-10)
    np.testing.assert_allclose(parts.covariance_prior_, whole.covariance_prior_, rtol=1e-12)
