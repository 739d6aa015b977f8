"""Scoring again and again: what is kept between calls, and rows that are not validated."""

from __future__ import annotations

import concurrent.futures
import copy
import gc
import pickle
import weakref

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from fastgmm import GaussianMixture, Scorer, _fitted
from fastgmm.scorer import LARGEST_KEPT

KINDS = ["full", "tied", "diag", "spherical"]


@pytest.fixture
def rows():
    rng = np.random.default_rng(0)
    return np.concatenate([rng.normal(-2, 1, (200, 3)), rng.normal(2, 1, (200, 3))])


@pytest.fixture(params=KINDS)
def mixture(request, rows):
    return GaussianMixture(2, covariance_type=request.param, random_state=0).fit(rows)


def answers(scored, X):
    return scored.score_samples(X), scored.predict(X), scored.predict_proba(X)


def assert_equal(a, b):
    for x, y in zip(a, b, strict=True):
        np.testing.assert_array_equal(x, y)


def fresh(mixture):
    """A mixture that has never scored anything, with the same attributes."""
    return pickle.loads(pickle.dumps(mixture))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_scorer_gives_what_the_mixture_does(mixture, rows, dtype):
    scorer = mixture.scorer()
    assert isinstance(scorer, Scorer)
    assert (scorer.n_components, scorer.n_features) == (2, 3)
    for X in (rows.astype(dtype), rows[:1].astype(dtype)):
        assert_equal(answers(scorer, X), answers(fresh(mixture), X))


@pytest.mark.parametrize("name", ["weights_", "means_", "precisions_cholesky_"])
@pytest.mark.parametrize("in_place", [True, False])
def test_nothing_stale_is_used(mixture, rows, name, in_place):
    """The attributes are the model, also when they are edited between two calls."""
    before = answers(mixture, rows)
    value = getattr(mixture, name)
    changed = value[::-1].copy() if name == "weights_" else value * 1.25
    if in_place:
        value[...] = changed
    else:
        setattr(mixture, name, changed)
    after = answers(mixture, rows)
    assert_equal(after, answers(fresh(mixture), rows))
    assert not np.array_equal(before[0], after[0])


def test_other_options_are_not_mixed_up(rows):
    """The same numbers may be variances of diag or of another shape; threads do not change results."""
    mixture = GaussianMixture(3, covariance_type="diag", random_state=0).fit(rows)
    first = answers(mixture, rows)
    mixture.set_params(covariance_type="full")
    with pytest.raises(ValueError, match="precisions_cholesky_ should have the shape"):
        mixture.predict(rows)
    mixture.set_params(covariance_type="diag", n_jobs=2)
    assert_equal(answers(mixture, rows), first)


def test_a_refit_scores_anew(rows):
    mixture = GaussianMixture(2, random_state=0).fit(rows)
    mixture.predict(rows)
    mixture.fit(rows * 3.0)
    assert_equal(answers(mixture, rows), answers(fresh(mixture), rows))


def test_later_changes_do_not_reach_a_scorer(mixture, rows):
    scorer = mixture.scorer()
    before = answers(scorer, rows)
    mixture.means_ += 1.0
    mixture.precisions_cholesky_ *= 2.0
    assert_equal(answers(scorer, rows), before)


def test_what_is_kept_is_kept(mixture, rows, monkeypatch):
    """A second call derives nothing: that is what it is for."""
    mixture.predict(rows)

    def never(self):
        raise AssertionError("derived again")

    monkeypatch.setattr(_fitted.FittedMixture, "_model", never)
    mixture.predict(rows)
    assert mixture.scorer() is mixture.scorer()
    mixture.means_[0, 0] += 1.0
    with pytest.raises(AssertionError, match="derived again"):
        mixture.predict(rows)


def test_large_parameters_are_not_kept():
    n_components = LARGEST_KEPT // 8 // 16 + 1
    mixture = GaussianMixture.from_parameters(
        np.full(n_components, 1 / n_components),
        np.zeros((n_components, 16)),
        np.ones((n_components, 16)),
        "diag",
    )
    assert mixture.scorer() is not mixture.scorer()


def test_lists_as_attributes(rows):
    mixture = GaussianMixture(2, random_state=0).fit(rows)
    expected = answers(fresh(mixture), rows)
    mixture.means_ = mixture.means_.tolist()
    mixture.weights_ = mixture.weights_.tolist()
    assert_equal(answers(mixture, rows), expected)


def test_what_is_kept_is_no_part_of_the_mixture(rows):
    mixture = GaussianMixture(2, random_state=0).fit(rows)
    before = set(vars(mixture))
    mixture.predict(rows)
    assert set(vars(mixture)) == before
    assert "scorer" not in clone(mixture).get_params()
    reference = weakref.ref(mixture)
    del mixture
    gc.collect()
    assert reference() is None  # nor does it keep the mixture alive


def test_not_fitted():
    with pytest.raises(NotFittedError):
        GaussianMixture(2).scorer()


def test_scorers_from_many_threads(rows):
    mixture = GaussianMixture(2, random_state=0, n_jobs=1).fit(rows)
    expected = mixture.predict_proba(rows)
    other = fresh(mixture)
    other.means_ += 0.5

    def work(i):
        chosen = (mixture, other)[i % 2]
        return chosen.predict_proba(rows)

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for i, found in enumerate(pool.map(work, range(60))):
            if i % 2 == 0:
                np.testing.assert_array_equal(found, expected)


def test_rows_of_another_shape(mixture, rows):
    scorer = mixture.scorer()
    for X in (rows[:, :2], np.zeros((5, 300)), rows[0]):
        for method in (scorer.predict, scorer.predict_proba, scorer.score_samples):
            with pytest.raises(ValueError, match=r"expected \(n_samples, 3\)"):
                method(X)


def test_rows_of_another_type(mixture):
    scorer = mixture.scorer()
    for X in ([[0.0, 0.0, 0.0]], np.zeros((2, 3), dtype=int), np.zeros((2, 3), dtype=object)):
        with pytest.raises(TypeError, match=r"ndarray of float64 or float32.*np\.asarray"):
            scorer.predict(X)


def test_later_changes_do_not_reach_a_scorer_of_projected_scores():
    """Components so narrow that their scores are computed from the means themselves."""
    means = np.array([[0.0, 1.0], [1.0, 0.0]])
    mixture = GaussianMixture.from_parameters([0.5, 0.5], means, np.full((2, 2), 1e-14), "diag")
    scorer, X = mixture.scorer(), means + 1e-7
    before = answers(scorer, X)
    mixture.means_ += 1e-7
    assert_equal(answers(scorer, X), before)
    assert not np.array_equal(mixture.score_samples(X), before[0])


def test_attributes_that_hold_objects(rows):
    """Their bytes are addresses, which are used again."""
    mixture = GaussianMixture(2, random_state=0).fit(rows)
    mixture.means_ = mixture.means_.astype(object)
    for shift in range(1, 30):
        mixture.means_[0, 0] = 0.1 * shift
        assert_equal(answers(mixture, rows[:5]), answers(fresh(mixture), rows[:5]))


def test_subclasses_without_a_hash(rows):
    class Equal(GaussianMixture):
        def __eq__(self, other):
            return isinstance(other, Equal)

        __hash__ = None

    one, other = Equal(2, random_state=0).fit(rows), Equal(2, random_state=0).fit(rows + 5.0)
    for estimator, X in ((one, rows), (other, rows + 5.0), (one, rows)):
        assert_equal(answers(estimator, X), answers(mixture_of(estimator), X))


def mixture_of(estimator):
    return GaussianMixture.from_parameters(estimator.weights_, estimator.means_, estimator.covariances_)


def test_changed_while_the_scorer_is_made(rows, monkeypatch):
    """What is kept under the numbers of before must be made of them."""
    mixture = GaussianMixture(2, random_state=0).fit(rows)
    before = mixture.means_.copy()
    model = _fitted.FittedMixture._model

    def edited(self):
        self.means_ = before + 1.0
        return model(self)

    monkeypatch.setattr(_fitted.FittedMixture, "_model", edited)
    mixture.predict(rows)
    monkeypatch.undo()
    mixture.means_ = before
    assert_equal(answers(mixture, rows), answers(fresh(mixture), rows))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda scorer: pickle.loads(pickle.dumps(scorer))])
def test_scorers_travel(mixture, rows, copied):
    scorer = mixture.scorer()
    again = copied(scorer)
    for name in ("predict", "predict_proba", "score_samples"):
        assert getattr(again, name)(rows).tobytes() == getattr(scorer, name)(rows).tobytes()
