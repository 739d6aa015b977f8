"""BayesianGaussianMixture among scikit-learn's tools; copies, conversions and files of it."""

from __future__ import annotations

import copy
import doctest
import importlib
import inspect
import json
import pickle

import bayesian_fits as fits
import joblib
import numpy as np
import pytest
import sklearn.mixture
from saved_files import assert_equal, changed_parameters, members_of, rewritten
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_param_validation, parametrize_with_checks
from variational_oracle import DISTRIBUTION, KINDS, PROCESS

from fastgmm import BayesianGaussianMixture, GaussianMixture

# Checks that cannot pass, each with the reason. None so far.
EXPECTED_FAILURES: dict[str, str] = {}

# Those that do not converge warn, which some checks take amiss.
MIXTURES = [
    BayesianGaussianMixture(
        n_components=n_components,
        covariance_type=covariance_type,
        weight_concentration_prior_type=kind,
        tol=0.5,
    )
    for n_components, covariance_type, kind in (
        (3, "full", PROCESS),
        (3, "tied", DISTRIBUTION),
        (1, "diag", PROCESS),
        (3, "spherical", DISTRIBUTION),
    )
]
CHECKS = parametrize_with_checks(MIXTURES, expected_failed_checks=lambda _: EXPECTED_FAILURES)


# Made a list of: scikit-learn 1.6 hands a generator on, which pytest 9 no longer takes.
@pytest.mark.parametrize(CHECKS.args[0], list(CHECKS.args[1]), **CHECKS.kwargs)
def test_estimator_check(estimator, check):
    check(estimator)


@pytest.mark.filterwarnings("ignore")  # options are tried one by one on rows of noise
def test_options_are_validated():
    check_param_validation("BayesianGaussianMixture", BayesianGaussianMixture())


@pytest.fixture
def rows():
    return fits.rows_of(120, 2)


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture
def fitted(rows, covariance_type, kind):
    return fits.fitted(
        rows,
        n_components=4,
        covariance_type=covariance_type,
        weight_concentration_prior_type=kind,
        random_state=0,
    )


# ---- constructor and documentation -----------------------------------------------------------------------


def test_constructor():
    """scikit-learn's arguments with its defaults, and what GaussianMixture has besides."""
    ours = inspect.signature(BayesianGaussianMixture).parameters
    theirs = inspect.signature(sklearn.mixture.BayesianGaussianMixture).parameters
    plain = inspect.signature(GaussianMixture).parameters
    assert all(ours[name].kind is inspect.Parameter.KEYWORD_ONLY for name in ours)
    assert {name: ours[name].default for name in theirs} == {name: p.default for name, p in theirs.items()}
    shared = set(plain) - {"prior"}  # what GaussianMixture needs for what this is about
    assert shared <= set(ours)
    assert {name: ours[name].default for name in shared} == {name: plain[name].default for name in shared}
    assert set(ours) - set(theirs) - shared == {"responsibilities_init", "moves", "max_components"}


def test_everything_is_documented():
    text = BayesianGaussianMixture.__doc__
    for name in BayesianGaussianMixture().get_params():
        assert f"{name} :" in text or f"{name}, " in text or f", {name} :" in text, name
    mixture = fits.fitted(fits.rows_of(60, 2))
    for name in (*vars(mixture), "n_effective_components_"):
        if name.endswith("_"):
            assert f"    {name}" in text or f", {name}" in text, name
    for name in dir(BayesianGaussianMixture):
        if not name.startswith("_"):
            assert getattr(BayesianGaussianMixture, name).__doc__, name


@pytest.mark.parametrize("module", ["fastgmm.bayesian_mixture", "fastgmm._bayesian"])
def test_examples(module):
    results = doctest.testmod(importlib.import_module(module))
    assert results.failed == 0
    assert results.attempted or module != "fastgmm.bayesian_mixture"


def test_parameters(rows):
    mixture = BayesianGaussianMixture(n_components=3, mean_prior=[0.0, 1.0], n_jobs=1, random_state=0)
    again = clone(mixture)
    assert again.get_params() == mixture.get_params()
    text = repr(mixture)
    assert text.startswith("BayesianGaussianMixture(")
    assert "mean_prior=[0.0, 1.0]" in text
    assert "tol" not in text
    assert "BayesianGaussianMixture" in mixture._repr_html_()
    mixture.set_params(n_components=2, mean_prior=None, tol=10.0).fit(rows)
    assert len(mixture.weights_) == 2
    with pytest.raises(ValueError, match="Invalid parameter 'colour'"):
        mixture.set_params(colour=1)
    assert not hasattr(clone(mixture), "means_")


# ---- scikit-learn's tools --------------------------------------------------------------------------------


def test_pipelines_and_searches(rows):
    options = {"n_components": 3, "random_state": 0, "tol": 10.0}
    pipeline = make_pipeline(StandardScaler(), BayesianGaussianMixture(**options))
    np.testing.assert_array_equal(pipeline.fit_predict(rows), pipeline.predict(rows))
    search = GridSearchCV(BayesianGaussianMixture(**options), {"mean_precision_prior": [1e-2, 1e3]}, cv=3)
    assert search.fit(rows).best_params_["mean_precision_prior"] == 1e-2


def test_sample_weight_is_routed(rows):
    weight = np.random.RandomState(0).uniform(0.5, 2.0, len(rows))
    with sklearn.config_context(enable_metadata_routing=True):
        mixture = BayesianGaussianMixture(n_components=3, random_state=0, tol=10.0)
        mixture.set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        scores = cross_val_score(mixture, rows, params={"sample_weight": weight}, cv=3)
    first = np.arange(len(rows)) < len(rows) // 3
    expected = clone(mixture).fit(rows[~first], sample_weight=weight[~first])
    np.testing.assert_allclose(
        scores[0], expected.score(rows[first], sample_weight=weight[first]), rtol=1e-12
    )
    requests = mixture.get_metadata_routing()
    assert "out" not in requests.predict.requests
    assert not hasattr(mixture, "set_predict_request")


# ---- copies ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda mixture: pickle.loads(pickle.dumps(mixture))]
)
def test_copies(fitted, rows, copied):
    again = copied(fitted)
    assert fits.bits_of(again) == fits.bits_of(fitted)
    assert joblib.hash(vars(again)) == joblib.hash(vars(fitted))
    for kwargs in ({}, {"predictive": True}):
        expected = fitted.score_samples(rows, **kwargs)
        np.testing.assert_array_equal(again.score_samples(rows, **kwargs), expected)


def test_copies_are_apart(fitted, rows):
    again = copy.deepcopy(fitted)
    before = fitted.score_samples(rows)
    again.mean_precision_ *= 2
    assert (again.score_samples(rows) != before).any()
    np.testing.assert_array_equal(fitted.score_samples(rows), before)


def test_scorers(fitted, rows):
    scorer = fitted.scorer()
    for name in ("score_samples", "predict", "predict_proba"):
        np.testing.assert_array_equal(getattr(scorer, name)(rows), getattr(fitted, name)(rows))
    again = pickle.loads(pickle.dumps(scorer))
    np.testing.assert_array_equal(again.score_samples(rows), fitted.score_samples(rows))


# ---- from and to scikit-learn ----------------------------------------------------------------------------


def test_to_sklearn(fitted, rows):
    theirs = fitted.to_sklearn()
    assert type(theirs) is sklearn.mixture.BayesianGaussianMixture
    np.testing.assert_allclose(theirs.score_samples(rows), fitted.score_samples(rows), rtol=1e-9)
    np.testing.assert_allclose(theirs.predict_proba(rows), fitted.predict_proba(rows), atol=1e-9)
    for found, expected in zip(theirs.sample(20), fitted.sample(20), strict=True):
        np.testing.assert_array_equal(found, expected)
    for name, value in theirs.get_params().items():
        np.testing.assert_array_equal(value, getattr(fitted, name))
    theirs.means_ += 1.0
    theirs.mean_prior_ += 1.0
    assert (fitted.means_ != theirs.means_).all()
    assert (fitted.mean_prior_ != theirs.mean_prior_).all()
    again = BayesianGaussianMixture.from_sklearn(fitted.to_sklearn())
    bits, expected = fits.bits_of(again), fits.bits_of(fitted)
    for name in ("history_", "n_repairs_"):
        bits.pop(name), expected.pop(name)
    assert bits == expected


def test_from_sklearn(rows, covariance_type, kind):
    theirs = fits.peer(
        rows, n_components=4, covariance_type=covariance_type, weight_concentration_prior_type=kind,
        mean_prior=[0.5, -0.5], init_params="random",
    )  # fmt: skip
    ours = BayesianGaussianMixture.from_sklearn(theirs, n_jobs=1)
    assert ours.n_jobs == 1
    assert ours.mean_prior == [0.5, -0.5]
    np.testing.assert_allclose(ours.score_samples(rows), theirs.score_samples(rows), rtol=1e-9)
    for name in (*fits.PARAMETERS, *fits.POSTERIOR, *fits.PRIOR):
        value = getattr(theirs, name)
        np.testing.assert_array_equal(getattr(ours, name), value)
        assert isinstance(getattr(ours, name), tuple) == isinstance(value, tuple), name
    assert isinstance(ours.lower_bound_, float)
    assert ours.lower_bounds_ == np.ravel(theirs.lower_bounds_).tolist()
    assert ours.sample_parameters(2).weights.shape == (2, 4)
    assert np.isfinite(ours.score_samples(rows, predictive=True)).all()
    assert 0 <= ours.n_effective_components_ <= 4
    # goes on from there as scikit-learn's does
    ours.set_params(warm_start=True, max_iter=3, reg_covar=1e-6)
    theirs.set_params(warm_start=True, max_iter=3)
    with pytest.warns(sklearn.exceptions.ConvergenceWarning):
        ours.fit(rows)
    with pytest.warns(sklearn.exceptions.ConvergenceWarning):
        theirs.fit(rows)
    np.testing.assert_allclose(ours.means_, theirs.means_, rtol=1e-8, atol=1e-8)


def test_from_sklearn_refuses_others():
    for other in (sklearn.mixture.GaussianMixture(), BayesianGaussianMixture(), 3):
        with pytest.raises(TypeError, match=r"must be a sklearn.mixture.BayesianGaussianMixture, got"):
            BayesianGaussianMixture.from_sklearn(other)
    unfitted = BayesianGaussianMixture.from_sklearn(sklearn.mixture.BayesianGaussianMixture(n_components=7))
    assert unfitted.n_components == 7
    assert not hasattr(unfitted, "means_")


# ---- files -----------------------------------------------------------------------------------------------


def test_there_and_back(fitted, rows, tmp_path):
    fitted.save(tmp_path / "mixture")
    loaded = BayesianGaussianMixture.load(tmp_path / "mixture")
    for name, value in vars(fitted).items():
        other = getattr(loaded, name)
        assert type(value) is type(other), name
        assert isinstance(value, tuple) == isinstance(other, tuple)
    assert fits.bits_of(loaded) == fits.bits_of(fitted)
    assert vars(loaded).keys() == vars(fitted).keys()
    for kwargs in ({}, {"predictive": True}):
        expected = fitted.score_samples(rows, **kwargs)
        np.testing.assert_array_equal(loaded.score_samples(rows, **kwargs), expected)
    for found, expected in zip(loaded.sample_parameters(3), fitted.sample_parameters(3)):
        np.testing.assert_array_equal(found, expected)
    loaded.save(tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == (tmp_path / "mixture").read_bytes()
    loaded.set_params(warm_start=True, tol=1e3).fit(rows)


@pytest.mark.parametrize("labels", [False, True])
def test_what_was_given_is_kept(rows, covariance_type, tmp_path, labels):
    start = np.arange(len(rows)) % 3 if labels else fits.random_responsibilities(len(rows), 3)
    prior = fits.given_prior(2, covariance_type)
    mixture = fits.fitted(
        rows, n_components=3, covariance_type=covariance_type, responsibilities_init=start, **prior
    )
    mixture.save(tmp_path / "mixture")
    loaded = BayesianGaussianMixture.load(tmp_path / "mixture")
    for name, value in mixture.get_params().items():
        np.testing.assert_array_equal(getattr(loaded, name), value)
    assert loaded.responsibilities_init.dtype == start.dtype
    assert fits.bits_of(clone(loaded).set_params(max_iter=0).fit(rows)) == fits.bits_of(
        clone(mixture).set_params(max_iter=0).fit(rows)
    )


def test_other_estimators(fitted, rows, tmp_path):
    fitted.save(tmp_path / "mixture")
    with pytest.raises(ValueError, match="it holds a 'BayesianGaussianMixture', not a GaussianMixture"):
        GaussianMixture.load(tmp_path / "mixture")
    GaussianMixture(tol=10.0).fit(rows).save(tmp_path / "plain")
    with pytest.raises(ValueError, match="it holds a 'GaussianMixture', not a BayesianGaussianMixture"):
        BayesianGaussianMixture.load(tmp_path / "plain")
    fitted.mean_precision_ = -fitted.mean_precision_
    with pytest.raises(ValueError, match="cannot be saved: mean_precision_ should be greater than 0"):
        fitted.save(tmp_path / "mixture")


def put(name, value):
    return lambda members: members.update({name: np.array(value, dtype=float)})


def scaled(name, factor):
    return lambda members: members.update({name: np.asarray(members[name] * factor)})


CHANGES = {
    **{f"no {name}": (lambda m, name=name: m.pop(name), f"{name} is missing") for name in
       (*fits.POSTERIOR, *fits.PRIOR)},
    **{f"NaN in {name}": (scaled(name, np.nan), f"{name}") for name in (*fits.POSTERIOR, *fits.PRIOR)},
    **{f"negative {name}": (scaled(name, -1.0), f"{name} should be") for name in
       (*fits.POSTERIOR, *fits.PRIOR) if name != "mean_prior_"},
    **{f"integer {name}": (lambda m, name=name: m.update({name: m[name].astype("i8")}),
       f"{name} has the type int64") for name in (*fits.POSTERIOR, *fits.PRIOR)},
    **{f"more of {name}": (lambda m, name=name: m.update({name: np.stack([m[name]] * 7)}),
       f"{name} should have the shape|{name}.npy has the shape") for name in (*fits.POSTERIOR, *fits.PRIOR)},
    "dof below D - 1": (put("degrees_of_freedom_prior_", 1.0), "degrees_of_freedom_prior_ should be gr"),
    "asymmetric": (put("covariance_prior_", [[1.0, 0.5], [0.1, 1.0]]), "covariance_prior_ should be sym"),
    "other prior": (changed_parameters(weight_concentration_prior_type=DISTRIBUTION),
                    "weight_concentration_ should have the shape"),
    "no prior": (changed_parameters(weight_concentration_prior_type=None), "parameters are missing"),
    "bad prior": (changed_parameters(weight_concentration_prior_type="x"),
                  "The 'weight_concentration_prior_type' parameter"),
    "bad gamma": (changed_parameters(weight_concentration_prior=-1), "'weight_concentration_prior' param"),
    "prior in the header": (changed_parameters(mean_prior=[0, 0]), "its parameters are malformed"),
    "wrong labels": (
        lambda m: m.update(responsibilities_init=np.ones(3, bool)), "responsibilities_init has the type"),
}  # fmt: skip


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "mixture.npz"
    fits.fitted(fits.rows_of(60, 2), n_components=3, weight_concentration_prior_type=PROCESS).save(path)
    return path


@pytest.mark.parametrize("change", CHANGES)
def test_files_with_something_wrong(saved, change):
    edit, message = CHANGES[change]
    with pytest.raises(ValueError, match=rf"is not a valid fastgmm file: .*({message})"):
        BayesianGaussianMixture.load(rewritten(saved, edit))


def test_every_number_of_a_file_matters(saved):
    """Whatever is loaded is a mixture of which all can be asked."""
    X = np.zeros((2, 2))
    names = [name for name in members_of(saved) if name in (*fits.POSTERIOR, *fits.PRIOR, "means_")]
    loaded = 0
    for name in names:
        for value in (0.0, -1.0, 1e300, 1e-300, np.inf, np.nan):

            def change(members, name=name, value=value):
                members[name] = np.array(members[name])
                members[name].flat[0] = value

            try:
                mixture = BayesianGaussianMixture.load(rewritten(saved, change))
            except ValueError:
                continue
            loaded += 1
            with np.errstate(all="ignore"):
                for scores in (mixture.score_samples(X), mixture.score_samples(X, predictive=True)):
                    assert not np.isnan(scores).any(), (name, value)
                mixture.used_components(), mixture.predict_proba(X)
    assert loaded > 5


def test_equal_files_of_equal_mixtures(saved):
    header = json.loads(members_of(saved)["header"].tobytes())
    assert header["estimator"] == "BayesianGaussianMixture"
    loaded = BayesianGaussianMixture.load(saved)
    again = BayesianGaussianMixture.load(saved)
    loaded.weight_concentration_ = again.weight_concentration_ = 0
    assert_equal(loaded, again)
