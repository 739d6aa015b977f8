"""GaussianMixture as scikit-learn's users know it: constructor, types, attributes, what they hold."""

from __future__ import annotations

import inspect
import re

import numpy as np
import pytest
from scipy.special import logsumexp
from sklearn.mixture import GaussianMixture as SklearnGaussianMixture
from sklearn.utils import get_tags

import fastgmm
from fastgmm import GaussianMixture

# Two ways to one number that differ by rounding alone.
ROUNDING = 1e-10


# ---- constructor and types -------------------------------------------------------------------------------


def test_constructor_is_scikit_learns_with_two_more():
    theirs = inspect.signature(SklearnGaussianMixture).parameters
    ours = inspect.signature(GaussianMixture).parameters
    own = [
        "n_jobs",
        "repair",
        "acceleration",
        "arithmetic",
        "checkpoint",
        "checkpoint_every",
        "max_time",
        "prior",
    ]
    assert list(ours) == [*theirs, *own]
    for name, parameter in theirs.items():
        assert (ours[name].kind, ours[name].default) == (parameter.kind, parameter.default)
    assert (ours["n_jobs"].default, ours["repair"].default) == (None, "reseed")


def test_types_of_attributes_and_outputs(fitted, rows):
    n_rows, n_features = rows.shape
    for name in ("weights_", "means_", "covariances_", "precisions_", "precisions_cholesky_"):
        assert getattr(fitted, name).dtype == np.float64
        assert getattr(fitted, name).shape == getattr(fitted.to_sklearn(), name).shape
    assert type(fitted.converged_) is bool
    assert type(fitted.n_iter_) is type(fitted.n_repairs_) is type(fitted.n_features_in_) is int
    assert type(fitted.lower_bound_) is type(fitted.lower_bounds_[0]) is float
    assert type(fitted.lower_bounds_) is list
    assert len(fitted.lower_bounds_) == fitted.n_iter_
    assert fitted.lower_bounds_[-1] == fitted.lower_bound_
    assert {len(values) for values in fitted.history_.values()} == {fitted.n_iter_}
    assert fitted.history_["lower_bound"] == fitted.lower_bounds_
    assert type(fitted.n_parameters_) is int
    assert fitted.n_features_in_ == n_features
    assert type(fitted.score(rows)) is float
    assert type(fitted.bic(rows)) is type(fitted.aic(rows)) is type(fitted.icl(rows)) is float
    assert fitted.predict(rows).dtype == np.int64
    assert fitted.score_samples(rows).dtype == fitted.predict_proba(rows).dtype == np.float64
    assert fitted.predict_proba(rows).shape == fitted.log_prob_components(rows).shape == (n_rows, 3)


def test_float32_rows_give_float64_parameters(rows, start_means):
    mixture = GaussianMixture(3, means_init=start_means).fit(rows.astype(np.float32))
    assert mixture.means_.dtype == np.float64
    assert mixture.score_samples(rows.astype(np.float32)).dtype == np.float64


def test_tags():
    tags = get_tags(GaussianMixture(init_params="random"))
    assert tags.estimator_type == "density_estimator"
    assert not tags.array_api_support
    assert not tags.input_tags.sparse
    assert not tags.input_tags.allow_nan


def test_public_names():
    assert set(fastgmm.__all__) <= set(dir(fastgmm))
    assert re.fullmatch(r"\d+\.\d+\.\d+.*", fastgmm.__version__)
    configuration = fastgmm.show_config("dicts")
    assert configuration["instruction set"] in configuration["instruction sets available"]


def test_show_config_prints(capsys):
    assert fastgmm.show_config() is None
    assert "instruction set" in capsys.readouterr().out
    with pytest.raises(ValueError, match="mode must be"):
        fastgmm.show_config("yaml")


# ---- scores and criteria ---------------------------------------------------------------------------------


def test_scores_agree_with_scikit_learns(fitted, rows):
    peer = fitted.to_sklearn()
    for name in ("score_samples", "predict_proba", "predict", "score", "bic", "aic"):
        np.testing.assert_allclose(
            getattr(fitted, name)(rows), getattr(peer, name)(rows), rtol=ROUNDING, atol=ROUNDING
        )
    assert fitted.n_parameters_ == peer._n_parameters()
    np.testing.assert_allclose(
        fitted.log_prob_components(rows), peer._estimate_log_prob(rows), rtol=ROUNDING, atol=ROUNDING
    )


def test_log_prob_components_leave_the_weights_out(fitted, rows):
    joint = fitted.log_prob_components(rows) + np.log(fitted.weights_)
    np.testing.assert_allclose(logsumexp(joint, axis=1), fitted.score_samples(rows), rtol=ROUNDING)


def test_icl_is_bic_with_a_penalty_for_doubt(fitted, rows):
    weight = np.linspace(0.0, 2.0, len(rows))
    best = np.log(fitted.predict_proba(rows).max(axis=1))
    np.testing.assert_allclose(fitted.icl(rows), fitted.bic(rows) - 2 * best.sum(), rtol=ROUNDING)
    np.testing.assert_allclose(
        fitted.icl(rows, weight), fitted.bic(rows, weight) - 2 * weight @ best, rtol=ROUNDING
    )


def test_weighted_criteria_count_copies(fitted, rows):
    weight = np.arange(len(rows)) % 3
    copies = np.repeat(rows, weight, axis=0)
    for name in ("bic", "aic", "icl"):
        method = getattr(fitted, name)
        np.testing.assert_allclose(method(rows, sample_weight=weight), method(copies), rtol=ROUNDING)
    np.testing.assert_allclose(fitted.score(rows, sample_weight=weight), fitted.score(copies), rtol=ROUNDING)


def test_one_row(fitted, rows):
    assert fitted.predict(rows[:1]).shape == (1,)
    np.testing.assert_allclose(fitted.score(rows[:1]), fitted.score_samples(rows)[0], rtol=ROUNDING)


def test_lists_are_accepted(fitted, rows):
    rows = rows[:10]
    assert fitted.bic(rows.tolist()) == fitted.bic(rows)
    assert fitted.predict(rows.tolist()).tolist() == fitted.predict(rows).tolist()


# ---- the attributes are the model ------------------------------------------------------------------------


def test_attributes_set_by_hand_need_no_fit(fitted, rows):
    mixture = GaussianMixture(3, covariance_type=fitted.covariance_type, random_state=1)
    for name in ("weights_", "means_", "covariances_", "precisions_cholesky_"):
        setattr(mixture, name, getattr(fitted, name))
    for name in ("score_samples", "predict", "predict_proba", "score", "bic", "icl"):
        np.testing.assert_array_equal(getattr(mixture, name)(rows), getattr(fitted, name)(rows))
    assert mixture.sample(7)[0].shape == (7, 2)
    assert mixture.n_parameters_ == fitted.n_parameters_
    with pytest.raises(ValueError, match="X has 1 features, but GaussianMixture is expecting 2 features"):
        mixture.predict(rows[:, :1])


def test_edits_in_place_are_seen(fitted, rows):
    before = fitted.score_samples(rows)
    fitted.means_ += 10
    np.testing.assert_allclose(fitted.score_samples(rows + 10), before, rtol=1e-9)
    peer = fitted.to_sklearn()
    fitted.precisions_cholesky_ *= 2
    peer.precisions_cholesky_ *= 2
    fitted.weights_[:] = peer.weights_[:] = [0.7, 0.3, 0.0]
    with np.errstate(divide="ignore"):
        expected = peer.score_samples(rows)
    np.testing.assert_allclose(fitted.score_samples(rows), expected, rtol=1e-9)


def test_rows_are_scored_by_precisions_cholesky_alone(fitted, rows):
    before = fitted.score_samples(rows)
    fitted.covariances_ = np.full(fitted.covariances_.shape, np.nan)
    fitted.precisions_ = None
    np.testing.assert_array_equal(fitted.score_samples(rows), before)
    del fitted.covariances_
    np.testing.assert_array_equal(fitted.score_samples(rows), before)


@pytest.mark.parametrize("covariance_type", ["full", "tied"])
def test_lower_triangular_factors_serve_as_in_scikit_learn(fitted, rows):
    before = fitted.score_samples(rows)
    fitted.precisions_cholesky_ = np.linalg.cholesky(fitted.precisions_)
    np.testing.assert_allclose(fitted.to_sklearn().score_samples(rows), before, rtol=1e-9)
    np.testing.assert_allclose(fitted.score_samples(rows), before, rtol=1e-9)
    fitted.precisions_cholesky_ = -fitted.precisions_cholesky_  # the same precision
    np.testing.assert_allclose(fitted.score_samples(rows), before, rtol=1e-9)


def test_float32_and_fortran_attributes(fitted, rows):
    before = fitted.score_samples(rows)
    for name in ("weights_", "means_", "precisions_cholesky_"):
        setattr(fitted, name, np.asfortranarray(getattr(fitted, name)))
    np.testing.assert_array_equal(fitted.score_samples(rows), before)
    for name in ("weights_", "means_", "precisions_cholesky_"):
        setattr(fitted, name, getattr(fitted, name).astype(np.float32))
    np.testing.assert_allclose(fitted.score_samples(rows), before, rtol=1e-3)


# ---- sample ----------------------------------------------------------------------------------------------


def test_same_seed_same_draws_as_scikit_learn(fitted):
    peer = fitted.to_sklearn()
    for mixture in (fitted, peer):
        mixture.set_params(random_state=42)
    for n_samples in (1, 2, 1000):
        (X, y), (X_peer, y_peer) = fitted.sample(n_samples), peer.sample(n_samples)
        assert X.dtype == np.float64
        assert y.dtype == np.int64
        np.testing.assert_array_equal(X, X_peer)
        np.testing.assert_array_equal(y, y_peer)
    fitted.set_params(random_state=np.random.RandomState(3))
    assert not np.array_equal(fitted.sample(5)[0], fitted.sample(5)[0])


# ---- from parameters -------------------------------------------------------------------------------------


def test_from_parameters_is_usable_at_once(fitted, rows):
    made = GaussianMixture.from_parameters(
        fitted.weights_, fitted.means_, fitted.covariances_, fitted.covariance_type, random_state=0, n_jobs=1
    )
    assert made.get_params()["n_components"] == 3
    assert made.n_jobs == 1
    np.testing.assert_allclose(made.score_samples(rows), fitted.score_samples(rows), rtol=1e-9)
    np.testing.assert_allclose(made.precisions_, fitted.precisions_, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(made.bic(rows), fitted.bic(rows), rtol=1e-9)
    assert made.sample(3)[0].shape == (3, 2)
    assert (made.n_iter_, made.converged_, made.n_features_in_) == (0, False, 2)
    made.means_ += 1
    assert not np.array_equal(made.means_, fitted.means_)


def test_from_parameters_can_be_fitted_further(fitted, rows):
    made = GaussianMixture.from_parameters(
        fitted.weights_, fitted.means_, fitted.covariances_, fitted.covariance_type, warm_start=True
    )
    made.fit(rows)
    assert made.n_iter_ <= 3
    np.testing.assert_allclose(made.lower_bound_, fitted.lower_bound_, atol=1e-2)
