"""`prior` in all that a mixture can do: starts, streams, checkpoints, files, updates, messages."""

from __future__ import annotations

import pickle
import warnings

import datasets
import numpy as np
import oracle
import pytest
import streams
from saved_files import relist
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning

from fastgmm import (
    BayesianGaussianMixture,
    BlockRows,
    ConjugatePrior,
    GaussianMixture,
    MiniBatchGaussianMixture,
    archive,
    persistence,
)
from fastgmm.blocks import ArrayData

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

# Sums over the same rows, block by block in another order, and what a few iterations make of them.
REORDERED = 1e-10


@pytest.fixture
def rows():
    return datasets.problem(0, 120, 3, 3, "full", 2.0)[0]


def init_of(covariance_type, rows, n_components=3):
    resp = np.random.default_rng(1).dirichlet(np.ones(n_components), len(rows))
    return datasets.init_arguments(covariance_type, oracle.m_step(rows, resp, covariance_type)[1:])


def bits(mixture):
    arrays = mixture.weights_, mixture.means_, mixture.covariances_, np.array(mixture.lower_bounds_)
    return [array.tobytes() for array in arrays]


def own_prior(covariance_type="full", D=3):
    scale = {"full": np.eye(D), "tied": np.eye(D), "diag": np.ones(D), "spherical": 2.0}[covariance_type]
    return ConjugatePrior(np.linspace(0, 1, D), 0.2, D + 1.5, scale)


# ---- starts and runs -----------------------------------------------------------------------------------


@pytest.mark.parametrize("init_params", ["kmeans", "k-means++", "random", "random_from_data"])
def test_reg_covar_takes_no_part(rows, covariance_type, init_params):
    one, other = (
        GaussianMixture(
            3, covariance_type=covariance_type, prior="conjugate", init_params=init_params,
            reg_covar=reg_covar, random_state=0, max_iter=5,
        ).fit(rows)
        for reg_covar in (0.0, 100.0)
    )  # fmt: skip
    assert bits(one) == bits(other)


def test_given_arrays_are_the_start_and_what_is_not_given_is_made_with_the_prior(rows, covariance_type):
    init = init_of(covariance_type, rows)
    parameters = {"covariance_type": covariance_type, "prior": "conjugate", "max_iter": 0}
    mixture = GaussianMixture(3, **parameters, **init).fit(rows)
    assert (mixture.weights_ == init["weights_init"]).all()
    assert (mixture.means_ == init["means_init"]).all()
    np.testing.assert_allclose(mixture.precisions_, init["precisions_init"], rtol=1e-12)
    # three rows, a component each: only with the prior there are covariances
    few = rows[:4]
    prior = own_prior(covariance_type)
    parameters.update(prior=prior, reg_covar=0.0, repair="raise")
    mixture = GaussianMixture(3, means_init=few[:3], **parameters).fit(few)
    assert (mixture.means_ == few[:3]).all()
    assert np.isfinite(mixture.precisions_).all()
    assert mixture.prior_ == prior


def test_a_start_does_not_depend_on_the_origin(rows, covariance_type):
    """Prior and start move with the rows: by 1024, so that differences lose three digits of sixteen."""
    parameters = {"covariance_type": covariance_type, "prior": "conjugate", "max_iter": 0, "random_state": 0}
    one, other = (
        GaussianMixture(3, init_params="random_from_data", **parameters).fit(rows + shift)
        for shift in (0.0, 1024.0)
    )
    np.testing.assert_allclose(other.means_ - 1024.0, one.means_, atol=1e-11)
    np.testing.assert_allclose(other.covariances_, one.covariances_, rtol=1e-9, atol=1e-11)


def test_rows_far_from_the_origin_lose_nothing(rows, covariance_type):
    """2^26 away rows themselves have eight digits left; what is made of these has as many as the rows."""
    far = rows + 2.0**26
    near = far - 2.0**26
    init = init_of(covariance_type, near)
    parameters = {"covariance_type": covariance_type, "prior": "conjugate", "tol": 0.0, "max_iter": 10}
    one = GaussianMixture(3, **parameters, **init).fit(near)
    init["means_init"] = init["means_init"] + 2.0**26
    other = GaussianMixture(3, **parameters, **init).fit(far)
    assert other.n_repairs_ == 0
    np.testing.assert_allclose(other.covariances_, one.covariances_, rtol=1e-6, atol=1e-6)
    assert (np.diff(other.lower_bounds_) >= -1e-9).all()


def test_the_best_of_several_starts_is_the_best_by_the_penalised_value(rows):
    X = rows[:15]
    parameters = {"prior": "conjugate", "init_params": "random_from_data", "tol": 1e-9, "max_iter": 500}
    single = []
    state = np.random.RandomState(0)
    for _ in range(2):  # one state draws for both, as in one fit with n_init=2
        single.append(GaussianMixture(4, random_state=state, **parameters).fit(X).lower_bound_)
    both = GaussianMixture(4, n_init=2, random_state=np.random.RandomState(0), **parameters).fit(X)
    assert single[0] != single[1]
    assert both.lower_bound_ == max(single)


def test_a_warm_start_goes_on(rows, covariance_type):
    init = init_of(covariance_type, rows)
    parameters = {"covariance_type": covariance_type, "prior": "conjugate", "tol": 0.0, **init}
    whole = GaussianMixture(3, max_iter=12, **parameters).fit(rows)
    parts = GaussianMixture(3, max_iter=7, warm_start=True, **parameters).fit(rows)
    parts.set_params(max_iter=5).fit(rows)
    np.testing.assert_allclose(parts.covariances_, whole.covariances_, rtol=1e-11, atol=1e-13)
    assert parts.lower_bound_ == pytest.approx(whole.lower_bound_, rel=1e-13)


def test_acceleration_ends_no_lower(covariance_type):
    X, start = datasets.problem(9, 400, 2, 3, covariance_type, 1.5)
    parameters = {
        "covariance_type": covariance_type, "prior": "conjugate", "tol": 1e-10, "max_iter": 5000,
        **datasets.init_arguments(covariance_type, start),
    }  # fmt: skip
    plain = GaussianMixture(3, **parameters).fit(X)
    bold = GaussianMixture(3, acceleration="anderson", **parameters).fit(X)
    assert bold.converged_
    assert bold.lower_bound_ >= plain.lower_bound_ - 1e-7
    kept = np.array(bold.lower_bounds_)[np.array(bold.history_["taken_back"]) == 0]
    assert (np.diff(kept) >= -1e-12).all()  # what lowers the penalised value is taken back


def test_float32_agrees(covariance_type):
    X, start = datasets.problem(3, 3000, 4, 3, covariance_type, 3.0)
    X = X.astype(np.float32)
    parameters = {
        "covariance_type": covariance_type, "prior": "conjugate", "tol": 0.0, "max_iter": 10,
        **datasets.init_arguments(covariance_type, start),
    }  # fmt: skip
    single = GaussianMixture(3, arithmetic="float32", **parameters).fit(X)
    double = GaussianMixture(3, **parameters).fit(X)
    assert sum(single.history_["pairs_single"]) > 0
    assert single.prior_ == double.prior_
    assert single.lower_bound_ == pytest.approx(double.lower_bound_, abs=1e-6)


def test_threads_do_not_matter(covariance_type):
    X = datasets.problem(4, 5000, 3, 3, covariance_type, 2.0)[0]
    one, two = (
        GaussianMixture(
            3, covariance_type=covariance_type, prior="conjugate", random_state=0, n_jobs=n_jobs, max_iter=5
        ).fit(X)
        for n_jobs in (1, 2)
    )
    assert bits(one) == bits(two)
    assert one.prior_ == two.prior_


# ---- rows from elsewhere -------------------------------------------------------------------------------


def compare(one, other):
    np.testing.assert_allclose(one.prior_.mean, other.prior_.mean, rtol=1e-12)
    np.testing.assert_allclose(one.prior_.scale, other.prior_.scale, rtol=1e-12)
    np.testing.assert_allclose(one.means_, other.means_, rtol=REORDERED, atol=REORDERED)
    np.testing.assert_allclose(one.covariances_, other.covariances_, rtol=REORDERED, atol=REORDERED)
    np.testing.assert_allclose(one.lower_bounds_, other.lower_bounds_, rtol=REORDERED)


def test_streams(rows, covariance_type, monkeypatch):
    streams.make_parts_small(monkeypatch)
    parameters = {
        "covariance_type": covariance_type, "prior": "conjugate", "tol": 0.0, "max_iter": 5,
        **init_of(covariance_type, rows),
    }  # fmt: skip
    blocks = BlockRows(lambda: iter(np.array_split(rows, 7)))
    compare(GaussianMixture(3, **parameters).fit(blocks), GaussianMixture(3, **parameters).fit(rows))


def test_dask(rows):
    array = pytest.importorskip("dask.array")
    parameters = {"prior": "conjugate", "tol": 0.0, "max_iter": 5, **init_of("full", rows)}
    mixture = GaussianMixture(3, **parameters)
    compare(mixture.fit(array.from_array(rows, chunks=(25, 3))), GaussianMixture(3, **parameters).fit(rows))


# ---- checkpoints ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("acceleration", [None, "anderson"])
def test_a_checkpoint_goes_on_with_the_same_bits(rows, tmp_path, acceleration):
    parameters = {"prior": "conjugate", "random_state": 0, "tol": 0.0, "acceleration": acceleration}
    whole = GaussianMixture(3, max_iter=20, **parameters).fit(rows)
    parameters["checkpoint"] = tmp_path / "fit"
    GaussianMixture(3, max_iter=8, **parameters).fit(rows)
    more = GaussianMixture(3, max_iter=20, **parameters).fit(rows)
    assert more.n_iter_ == 20
    if acceleration is None:  # whose last step is on trial where a fit ends
        assert bits(more) == bits(whole)
    assert more.prior_ == whole.prior_


def test_a_checkpoint_of_another_prior_is_refused(rows, tmp_path):
    nearly = own_prior()
    scale = nearly.scale.copy()
    scale[0, 0] = np.nextafter(scale[0, 0], 2)  # no text of eight digits shows it
    other = ConjugatePrior(nearly.mean, nearly.shrinkage, nearly.degrees_of_freedom, scale)
    path = tmp_path / "fit"
    GaussianMixture(3, prior=nearly, random_state=0, max_iter=3, checkpoint=path).fit(rows)
    GaussianMixture(3, prior=pickle.loads(pickle.dumps(nearly)), random_state=0, checkpoint=path).fit(rows)
    for prior in (other, "conjugate", None):
        with pytest.raises(ValueError, match=r"belongs to another fit \(prior"):
            GaussianMixture(3, prior=prior, random_state=0, checkpoint=path).fit(rows)


# ---- files ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", ["conjugate", "own", "open", None])
def test_files_keep_both_priors(rows, covariance_type, given, tmp_path):
    prior = {"own": own_prior(covariance_type), "open": ConjugatePrior(shrinkage=0)}.get(given, given)
    mixture = GaussianMixture(3, covariance_type=covariance_type, prior=prior, random_state=0).fit(rows)
    mixture.save(tmp_path / "mixture")
    loaded = GaussianMixture.load(tmp_path / "mixture")
    assert loaded.prior == prior
    assert type(loaded.prior) is type(prior)
    assert loaded.prior_ == mixture.prior_
    assert (loaded.prior_ is None) == (given is None)
    assert repr(loaded) == repr(mixture)
    mixture.update(mixture.accumulate(rows))
    loaded.update(loaded.accumulate(rows))
    assert bits(mixture) == bits(loaded)


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("prior.numbers", [-1.0, 5.0], "shrinkage must not be negative"),
        ("prior.numbers", [0.1], "prior.numbers has the shape"),
        ("prior.numbers", None, "prior.numbers is missing"),
        ("prior.numbers", [0.1, 1.0], "degrees_of_freedom should be greater"),
        ("prior.scale", [[1.0, 2.0, 0.0], [2.0, 1.0, 0.0], [0.0, 0.0, 1.0]], "positive-definite"),
        ("prior.mean", [1.0, 2.0], r"prior\.mean should have the shape"),
        ("prior_.scale", None, "prior_ is not complete"),
        ("prior_.mean", [1.0, np.nan, 2.0], "mean contains nan"),
        ("prior_.numbers", [0.1, np.nan], "prior_ is not complete"),
        ("prior_.scale", [1.0, 1.0, 1.0], r"prior_\.scale should have the shape"),
    ],
)
def test_tampered_files_are_refused(rows, tmp_path, name, values, message):
    path = tmp_path / "mixture"
    GaussianMixture(2, prior=own_prior(), random_state=0).fit(rows).save(path)
    with open(path, "rb") as file:
        members = archive.read(file, None)
    if values is None:
        del members[name]
    else:
        members[name] = np.array(values)
    relist(members)
    archive.save(path, members)
    with pytest.raises(ValueError, match=message):
        GaussianMixture.load(path)


def test_other_mixtures_have_no_prior_in_their_files(rows, tmp_path):
    path = tmp_path / "mixture"
    mixture = GaussianMixture(2, prior="conjugate", random_state=0).fit(rows)
    for other in (MiniBatchGaussianMixture(2), BayesianGaussianMixture(n_components=2)):
        other.fit(rows).save(path)
        with open(path, "rb") as file:
            members = archive.read(file, None)
        members |= persistence._members_of_prior("prior_", mixture.prior_)
        relist(members)
        archive.save(path, members)
        with pytest.raises(ValueError, match="has no prior_"):
            type(other).load(path)


# ---- updates -------------------------------------------------------------------------------------------


def test_updates_are_the_iterations_of_a_fit(rows, covariance_type):
    parameters = {"covariance_type": covariance_type, "prior": "conjugate", **init_of(covariance_type, rows)}
    fitted = GaussianMixture(3, max_iter=6, tol=0.0, **parameters).fit(rows)
    mixture = GaussianMixture(3, max_iter=0, tol=0.0, **parameters).fit(rows)
    for _ in range(6):
        mixture.update(mixture.accumulate(rows[:50]) + mixture.accumulate(rows[50:]))
    compare(mixture, fitted)


def test_updates_take_what_is_open_from_the_fit(rows):
    mixture = GaussianMixture(2, prior="conjugate", max_iter=0, random_state=0).fit(rows)
    before = mixture.prior_
    mixture.update(mixture.accumulate(rows[:20] + 100.0))
    assert mixture.prior_ == before
    # a prior that was set since counts for what it says
    strong = mixture.set_params(prior=ConjugatePrior(mean=np.full(3, 7.0), shrinkage=1e12))
    strong.update(strong.accumulate(rows))
    np.testing.assert_allclose(strong.means_, 7.0, atol=1e-6)
    # and without one it is the likelihood again
    score = strong.set_params(prior=None).score(rows)
    strong.update(strong.accumulate(rows))
    assert strong.lower_bound_ == pytest.approx(score, rel=1e-12)


def test_updates_without_a_fit_need_the_whole_prior(rows):
    weights, means, covariances = [0.5, 0.5], rows[:2], [np.eye(3), np.eye(3)]
    mixture = GaussianMixture.from_parameters(weights, means, covariances, prior="conjugate")
    statistics = mixture.accumulate(rows)
    with pytest.raises(ValueError, match="prior leaves open what only rows can tell"):
        mixture.update(statistics)
    assert mixture.n_iter_ == 0
    prior = own_prior()
    mixture.set_params(prior=prior).update(statistics)
    start = {"weights_init": weights, "means_init": means, "precisions_init": covariances}
    fitted = GaussianMixture(2, prior=prior, max_iter=1, **start).fit(rows)
    np.testing.assert_allclose(mixture.covariances_, fitted.covariances_, rtol=1e-12, atol=1e-13)
    assert mixture.lower_bound_ == pytest.approx(fitted.lower_bound_, rel=1e-13)


# ---- the parameter -------------------------------------------------------------------------------------


def test_priors_are_values():
    prior = own_prior()
    for same in (own_prior(), pickle.loads(pickle.dumps(prior)), clone(GaussianMixture(prior=prior)).prior):
        assert same == prior
        assert hash(same) == hash(prior)
    assert prior != ConjugatePrior()
    assert prior != ConjugatePrior(prior.mean, 0.3, prior.degrees_of_freedom, prior.scale)
    assert prior != "conjugate"
    for array in (prior.mean, prior.scale):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1.0
    with pytest.raises(AttributeError):
        prior.shrinkage = 2.0
    assert repr(ConjugatePrior(scale=2)) == (
        "ConjugatePrior(mean=None, shrinkage=0.01, degrees_of_freedom=None, scale=2.0)"
    )
    mixture = GaussianMixture(2, prior=prior)
    assert mixture.get_params()["prior"] is prior
    assert "prior=ConjugatePrior(" in repr(mixture)


def test_what_is_given_is_copied():
    mean = np.zeros(3)
    prior = ConjugatePrior(mean=mean)
    mean[:] = 1.0
    assert (prior.mean == 0.0).all()


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"shrinkage": -0.1}, "shrinkage must not be negative"),
        ({"shrinkage": np.inf}, "shrinkage must be a finite number"),
        ({"shrinkage": True}, "shrinkage must be a finite number"),
        ({"degrees_of_freedom": 0}, "degrees_of_freedom must be positive"),
        ({"degrees_of_freedom": "5"}, "degrees_of_freedom must be a finite number"),
        ({"mean": 1.0}, "mean must have 1 dimension"),
        ({"mean": [0.0, np.nan]}, "mean contains nan"),
        ({"mean": [[1.0], [1.0, 2.0]]}, "mean must be an array"),
        ({"scale": 0}, "scale must be positive"),
        ({"scale": np.ones((2, 2, 2))}, "scale must have 0 or 1 or 2 dimension"),
    ],
)
def test_what_can_be_no_prior_is_refused_when_it_is_made(parameters, message):
    with pytest.raises(ValueError, match=message):
        ConjugatePrior(**parameters)


@pytest.mark.parametrize(
    ("prior", "covariance_type", "message"),
    [
        ("jeffreys", "full", "The 'prior' parameter of GaussianMixture must be"),
        (0.01, "full", "The 'prior' parameter of GaussianMixture must be"),
        (
            ConjugatePrior(mean=[0.0, 0.0]),
            "full",
            r"prior\.mean should have the shape \(n_features,\) = \(3,\)",
        ),
        (ConjugatePrior(scale=1.0), "full", r"prior\.scale should have the shape \(n_features, n_features\)"),
        (ConjugatePrior(scale=[1.0, 2.0]), "diag", r"prior\.scale should have the shape \(n_features,\)"),
        (ConjugatePrior(scale=np.eye(3)), "spherical", r"prior\.scale should have the shape of a number"),
        (ConjugatePrior(scale=-np.eye(3)), "tied", r"prior\.scale should be symmetric, positive-definite"),
        (ConjugatePrior(degrees_of_freedom=2), "full", r"prior\.degrees_of_freedom should be greater than"),
    ],
)
def test_what_does_not_fit_the_mixture_is_refused_before_any_work(
    rows, prior, covariance_type, message, monkeypatch
):
    mixture = GaussianMixture(2, covariance_type=covariance_type, random_state=0).fit(rows)
    before = vars(mixture).copy()
    mixture.set_params(prior=prior)
    monkeypatch.setattr(ArrayData, "frame", None)  # the first look at the rows would fail
    with pytest.raises(ValueError, match=message):
        mixture.fit(rows)
    assert {**vars(mixture), "prior": None} == before


@pytest.mark.parametrize("case", ["constant column", "few rows", "equal rows", "little weight"])
def test_rows_that_tell_no_scale_are_refused(rows, covariance_type, case):
    X, weight = rows.copy(), None
    if case == "constant column":
        X[:, 1] = 5.0
    elif case == "few rows":
        X = X[:3]
    elif case == "equal rows":
        X[:] = X[0]
    else:
        weight = np.full(len(X), 1e-3)
    mixture = GaussianMixture(2, covariance_type=covariance_type, prior="conjugate", random_state=0)
    survives = covariance_type in ("diag", "spherical") and case in ("constant column", "few rows")
    if survives:
        assert mixture.fit(X).n_repairs_ == 0
        return
    message = "must be two or more" if case == "little weight" else r"default prior\.scale .* is singular"
    with pytest.raises(ValueError, match=message):
        mixture.fit(X, sample_weight=weight)
    assert not hasattr(mixture, "weights_")
    mixture.set_params(prior=ConjugatePrior(scale=own_prior(covariance_type).scale))
    assert mixture.fit(X, sample_weight=weight).n_repairs_ == 0


def test_without_a_prior_there_is_none(rows):
    mixture = GaussianMixture(2, prior="conjugate", random_state=0).fit(rows)
    assert isinstance(mixture.prior_, ConjugatePrior)
    mixture.set_params(prior=None).fit(rows)
    assert mixture.prior_ is None
    assert not hasattr(mixture.to_sklearn(), "prior_")
    assert GaussianMixture.from_sklearn(mixture.to_sklearn()).prior_ is None


def test_scores_and_criteria_are_of_the_likelihood(rows):
    mixture = GaussianMixture(2, prior="conjugate", random_state=0, tol=1e-9, max_iter=500).fit(rows)
    theirs = mixture.to_sklearn()
    assert mixture.score(rows) == pytest.approx(theirs.score(rows), rel=1e-12)
    assert mixture.bic(rows) == pytest.approx(theirs.bic(rows), rel=1e-12)
    assert abs(mixture.lower_bound_ - mixture.score(rows)) > 1e-3


def test_it_warns_as_ever(rows):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        GaussianMixture(3, prior="conjugate", max_iter=1, tol=0.0, random_state=0).fit(rows)
    assert [w.category for w in caught] == [ConvergenceWarning]
