"""GaussianMixture among scikit-learn's tools, joblib, pickle, pandas, polars and arrays of all kinds."""

from __future__ import annotations

import copy
import doctest
import importlib
import pickle
import tracemalloc

import joblib
import numpy as np
import pytest
import sklearn
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fastgmm import GaussianMixture

OPTIONS = {"n_components": 3, "random_state": 0}


# ---- scikit-learn's tools --------------------------------------------------------------------------------


def test_pipeline(rows):
    pipeline = make_pipeline(StandardScaler(), GaussianMixture(**OPTIONS))
    labels = pipeline.fit_predict(rows)
    np.testing.assert_array_equal(pipeline.predict(rows), labels)
    assert pipeline.predict_proba(rows).shape == (len(rows), 3)
    assert np.isfinite(pipeline.score(rows))


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_grid_search(rows, n_jobs):
    search = GridSearchCV(
        GaussianMixture(random_state=0, max_iter=500),
        {"n_components": [1, 2, 3], "covariance_type": ["full", "diag"]},
        n_jobs=n_jobs,
    )
    search.fit(rows)
    assert search.best_params_["n_components"] == 3
    assert search.best_estimator_.converged_


def test_grid_search_by_bic(rows):
    search = GridSearchCV(
        GaussianMixture(random_state=0, max_iter=500),
        {"n_components": [1, 3]},
        scoring=lambda mixture, X, y=None: -mixture.bic(X),
    )
    assert search.fit(rows).best_params_["n_components"] == 3


def test_clone_and_parameters(rows, start_means):
    mixture = GaussianMixture(3, means_init=start_means, n_jobs=1, repair="floor").fit(rows)
    again = clone(mixture)
    assert again.get_params().keys() == mixture.get_params().keys()
    assert not hasattr(again, "means_")
    np.testing.assert_array_equal(again.means_init, start_means)
    np.testing.assert_array_equal(again.fit(rows).means_, mixture.means_)
    assert repr(mixture).startswith("GaussianMixture(")
    assert "GaussianMixture" in mixture._repr_html_()


def test_subclass_of_the_users(rows, tmp_path):
    class Mine(GaussianMixture):
        def outliers(self, X):
            return self.score_samples(X) < -10

    mine = Mine(**OPTIONS).fit(rows)
    assert mine.outliers(rows).dtype == bool
    mine.save(tmp_path / "mine")
    assert type(Mine.load(tmp_path / "mine")) is Mine


# ---- metadata routing ------------------------------------------------------------------------------------


def test_sample_weight_is_routed(rows):
    weight = np.random.RandomState(0).uniform(0.5, 2.0, len(rows))
    with sklearn.config_context(enable_metadata_routing=True):
        mixture = GaussianMixture(**OPTIONS)
        mixture.set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        pipeline = make_pipeline(StandardScaler().set_fit_request(sample_weight=False), mixture)
        pipeline.fit(rows, sample_weight=weight)
        scores = cross_val_score(mixture, rows, params={"sample_weight": weight}, cv=3)
    alone = clone(mixture).fit(StandardScaler().fit_transform(rows), sample_weight=weight)
    np.testing.assert_array_equal(pipeline[-1].means_, alone.means_)
    first = np.arange(len(rows)) < len(rows) // 3
    expected = clone(mixture).fit(rows[~first], sample_weight=weight[~first])
    np.testing.assert_allclose(
        scores[0], expected.score(rows[first], sample_weight=weight[first]), rtol=1e-12
    )


def test_sample_weight_that_nobody_asked_for_is_not_passed_on(rows):
    with sklearn.config_context(enable_metadata_routing=True):
        pipeline = make_pipeline(StandardScaler(), GaussianMixture(**OPTIONS))
        with pytest.raises(sklearn.exceptions.UnsetMetadataPassedError, match="sample_weight"):
            pipeline.fit(rows, sample_weight=np.ones(len(rows)))


def test_where_outputs_go_is_no_metadata():
    requests = GaussianMixture().get_metadata_routing()
    assert "out" not in requests.predict.requests
    assert "out" not in requests.predict_proba.requests
    assert not hasattr(GaussianMixture(), "set_predict_request")


# ---- copies ----------------------------------------------------------------------------------------------


def by_joblib(mixture):
    with joblib.parallel_config(n_jobs=1):
        return joblib.hash(mixture) and pickle.loads(pickle.dumps(mixture, protocol=2))


@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, by_joblib, lambda mixture: pickle.loads(pickle.dumps(mixture))]
)
def test_copies(fitted, rows, copied):
    again = copied(fitted)
    assert vars(again).keys() == vars(fitted).keys()
    np.testing.assert_array_equal(again.predict_proba(rows), fitted.predict_proba(rows))
    assert again.history_ == fitted.history_


def test_joblib_files(fitted, rows, tmp_path):
    joblib.dump(fitted, tmp_path / "mixture")
    for mmap_mode in (None, "r"):
        again = joblib.load(tmp_path / "mixture", mmap_mode=mmap_mode)
        np.testing.assert_array_equal(again.score_samples(rows), fitted.score_samples(rows))


def test_joblib_processes(fitted, rows):
    results = joblib.Parallel(n_jobs=2)(
        joblib.delayed(fitted.score)(part) for part in np.array_split(rows, 4)
    )
    np.testing.assert_allclose(results, [fitted.score(part) for part in np.array_split(rows, 4)], rtol=1e-12)


# ---- frames ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_frames(rows, library):
    module = pytest.importorskip(library)
    frame = module.DataFrame({"width": rows[:, 0], "height": rows[:, 1]})
    mixture = GaussianMixture(**OPTIONS).fit(frame)
    plain = GaussianMixture(**OPTIONS).fit(rows)
    np.testing.assert_array_equal(mixture.means_, plain.means_)
    assert mixture.feature_names_in_.tolist() == ["width", "height"]
    assert mixture.feature_names_in_.dtype == object
    assert not hasattr(plain, "feature_names_in_")
    for name in ("score_samples", "predict", "predict_proba", "score", "bic", "aic", "icl"):
        np.testing.assert_array_equal(getattr(mixture, name)(frame), getattr(plain, name)(rows))
    with pytest.raises(ValueError, match="feature names should match"):
        mixture.predict(frame[["height", "width"]])
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        mixture.predict(rows)
    weight = module.Series(np.linspace(0.5, 1.5, len(rows)))
    np.testing.assert_array_equal(
        GaussianMixture(**OPTIONS).fit(frame, sample_weight=weight).means_,
        GaussianMixture(**OPTIONS).fit(rows, sample_weight=weight.to_numpy()).means_,
    )
    assert not hasattr(mixture.fit(rows), "feature_names_in_")


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_errors_name_the_column(rows, library):
    module = pytest.importorskip(library)
    rows[7, 1] = np.nan
    frame = module.DataFrame({"width": rows[:, 0], "height": rows[:, 1]})
    with pytest.raises(ValueError, match=r"nan in row 7, column 1 \('height'\)"):
        GaussianMixture(**OPTIONS).fit(frame)
    frame = module.DataFrame({"width": [1.0, 2.0, 3.0], "colour": ["red", "green", "blue"]})
    with pytest.raises(ValueError, match=r"'red' in row 0, column 1 \('colour'\)"):
        GaussianMixture(1).fit(frame)


def test_nullable_pandas(rows):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(rows, columns=["a", "b"]).astype("Float64")
    np.testing.assert_array_equal(
        GaussianMixture(**OPTIONS).fit(frame).means_, GaussianMixture(**OPTIONS).fit(rows).means_
    )
    frame.loc[2, "b"] = pandas.NA
    with pytest.raises(ValueError, match=r"nan in row 2, column 1 \('b'\)"):
        GaussianMixture(**OPTIONS).fit(frame)


# ---- arrays of all kinds ---------------------------------------------------------------------------------


def strided(rows):
    wide = np.zeros((2 * len(rows), 3 * rows.shape[1]), dtype=rows.dtype)
    wide[::2, 1::3] = rows
    return wide[::2, 1::3]


def packed(rows):
    """Fields of records whose numbers lie at odd addresses."""
    records = np.zeros(len(rows), dtype=[("flag", "i1"), ("values", rows.dtype, (rows.shape[1],))])
    records["values"] = rows
    return records["values"]


def read_only(rows):
    rows = rows.copy()
    rows.flags.writeable = False
    return rows


LAYOUTS = {
    "Fortran": np.asfortranarray,
    "reversed": lambda rows: rows[::-1, ::-1].copy()[::-1, ::-1],
    "strided": strided,
    "packed": packed,
    "read-only": read_only,
    "foreign byte order": lambda rows: rows.astype(rows.dtype.newbyteorder()),
    "list": lambda rows: rows.tolist(),
    "object": lambda rows: rows.astype(object),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_memory_layouts(rows, layout, dtype):
    rows = rows.astype(dtype)
    same = LAYOUTS[layout](rows)
    ours, plain = GaussianMixture(**OPTIONS).fit(same), GaussianMixture(**OPTIONS).fit(rows)
    np.testing.assert_array_equal(ours.means_, plain.means_)
    np.testing.assert_array_equal(ours.predict_proba(same), plain.predict_proba(rows))


def test_weights_at_odd_addresses(rows):
    weight = np.linspace(0.5, 1.5, len(rows))
    odd = np.frombuffer(b"x" + weight.tobytes(), dtype=np.float64, offset=1)
    assert not odd.flags.aligned
    ours, plain = GaussianMixture(**OPTIONS), GaussianMixture(**OPTIONS)
    plain.fit(rows, sample_weight=weight)
    np.testing.assert_array_equal(ours.fit(rows, sample_weight=odd).means_, plain.means_)
    np.testing.assert_array_equal(ours.fit(rows, sample_weight=weight[::-1][::-1]).means_, plain.means_)
    assert ours.score(rows, sample_weight=odd) == plain.score(rows, sample_weight=weight)


@pytest.mark.filterwarnings("ignore::fastgmm.RegularizationWarning")  # of components that are all True
@pytest.mark.parametrize("dtype", [np.int8, np.int64, np.uint16, bool, np.float16, np.longdouble])
def test_other_numbers_are_read_as_float64(rows, dtype):
    numbers = (np.abs(rows) * 3).astype(dtype)
    ours, plain = GaussianMixture(**OPTIONS), GaussianMixture(**OPTIONS)
    if dtype is bool:
        numbers = rows > 4
    np.testing.assert_array_equal(ours.fit(numbers).means_, plain.fit(numbers.astype(np.float64)).means_)
    np.testing.assert_array_equal(
        ours.score_samples(numbers), plain.score_samples(numbers.astype(np.float64))
    )


@pytest.mark.parametrize("layout", ["Fortran", "strided", "read-only"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_validation_does_not_copy(layout, dtype):
    X = LAYOUTS[layout](np.random.RandomState(0).standard_normal((200_000, 8)).astype(dtype))
    mixture = GaussianMixture.from_parameters([1.0], np.zeros((1, 8)), [1.0], "spherical")
    mixture.score(X[:10])
    tracemalloc.start()
    mixture.score(X)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < X.nbytes / 4


def test_memory_mapped(rows, tmp_path):
    np.save(tmp_path / "rows.npy", rows)
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
    np.testing.assert_array_equal(
        GaussianMixture(**OPTIONS).fit(mapped).means_, GaussianMixture(**OPTIONS).fit(rows).means_
    )


# ---- examples in the documentation -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "module",
    [
        "fastgmm.gaussian_mixture",
        "fastgmm._config",
        "fastgmm._fitted",
        "fastgmm.conjugate_prior",
        "fastgmm.incremental",
        "fastgmm.statistics",
    ],
)
def test_examples(module):
    results = doctest.testmod(importlib.import_module(module))
    assert results.failed == 0


@pytest.mark.parametrize("name", [name for name in dir(GaussianMixture) if not name.startswith("_")])
def test_public_methods_are_documented(name):
    text = getattr(GaussianMixture, name).__doc__
    assert text
    if callable(getattr(GaussianMixture, name)) and not name.startswith(("get_", "set_")):
        assert "Returns" in text or name == "save"
