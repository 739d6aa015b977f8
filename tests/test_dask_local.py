"""Fits over Dask collections where there is no cluster: partitions come one after the other."""

from __future__ import annotations

import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
from dask_fits import SAME, D, N, bits, mixture, rows, weights_of
from hypothesis import given, settings
from hypothesis import strategies as st

dask = pytest.importorskip("dask")
pytest.importorskip("distributed")
pd = pytest.importorskip("pandas")
import dask.array as da  # noqa: E402
import dask.dataframe as dd  # noqa: E402

from fastgmm.blocks import ArrayData  # noqa: E402
from fastgmm.sources.survey import Survey  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    # sockets of workers that were killed
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


def test_fastgmm_is_imported_without_dask():
    code = (
        "import sys, numpy as np, fastgmm\n"
        "X = np.random.default_rng(0).normal(size=(100, 2))\n"
        "fastgmm.GaussianMixture(2, random_state=0).fit(X).predict(X)\n"
        "print([name for name in ('dask', 'distributed') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("weighted", [False, True])
def test_local_scheduler(covariance_type, weighted):
    X, start = rows(covariance_type)
    w = weights_of(N) if weighted else None
    whole = mixture(start, covariance_type).fit(X, sample_weight=w)
    x = da.from_array(X, chunks=(1100, 3))
    lazy = mixture(start, covariance_type).fit(x, sample_weight=None if w is None else da.from_array(w, 500))
    assert lazy.lower_bound_ == pytest.approx(whole.lower_bound_, rel=SAME)
    assert lazy.bic(x) == pytest.approx(whole.bic(X), rel=SAME)


def test_partitions_are_read_anew_by_each_pass():
    """Nothing stays in memory, and a partition's own tasks alone are run."""
    X, start = rows()
    read = []

    def make(number):
        read.append(number)
        return X[3000 * number : 3000 * (number + 1)]

    parts = [dask.delayed(make)(number) for number in range(3)]
    with dask.config.set(scheduler="synchronous"):
        lazy = mixture(start, max_iter=2).fit(parts)
    assert read == [0, 1, 2] * 3
    assert lazy.lower_bound_ == pytest.approx(mixture(start, max_iter=2).fit(X).lower_bound_, rel=SAME)


def test_frames():
    X, start = rows()
    frame = pd.DataFrame(X, columns=list("abcd"))
    frame["w"] = weights_of(N)
    frame = dd.from_pandas(frame, npartitions=4)
    model = mixture(start).fit(frame, sample_weight="w")
    assert list(model.feature_names_in_) == list("abcd")
    expected = mixture(start).fit(X, sample_weight=weights_of(N))
    assert model.lower_bound_ == pytest.approx(expected.lower_bound_, rel=SAME)
    other = mixture(start).fit(frame[list("abcd")], sample_weight=frame["w"])
    assert bits(other) == bits(model)
    assert np.array_equal(
        model.predict(frame[list("abcd")]).compute(), model.predict(frame.compute()[list("abcd")])
    )
    for method in (model.score, model.predict):
        with pytest.raises(ValueError, match="feature names should match"):
            method(frame[list("badc")])
    with pytest.raises(ValueError, match="no column of X"):
        mixture(start).fit(frame, sample_weight="weight")


def test_outputs_are_lazy_and_know_their_chunks():
    X, start = rows()
    model = mixture(start).fit(X)

    def fail(block):
        raise AssertionError("computed")

    x = da.from_array(X, chunks=(4000, 2))
    never = x.map_blocks(fail, dtype=X.dtype, meta=X[:0])
    for name in ("predict", "predict_proba", "score_samples"):
        method = getattr(model, name)
        method(never)
        out, expected = method(x), method(X)
        assert (out.shape, out.dtype, out.chunks[0]) == (expected.shape, expected.dtype, (4000, 4000, 1000))
        assert np.array_equal(out.compute(), expected)
        out = method([dask.delayed(X[:10]), dask.delayed(X[10:50])])
        assert np.isnan(out.shape[0])
        assert np.array_equal(out.compute(), expected[:50])
    assert np.array_equal(mixture(start).fit_predict(x).compute(), model.predict(X))


def test_bad_input_without_a_client():
    X, start = rows()
    x = da.from_array(X, chunks=(1000, D))
    model = mixture(start).fit(X)
    before = dict(model.__dict__)
    with pytest.raises(ValueError, match="3 features"):
        model.predict(x[:, :3])
    with pytest.raises(ValueError, match="3 features"):
        model.score(x[:, :3])
    for bad in (
        da.from_array(weights_of(8000), 1000),
        list(da.from_array(weights_of(8000), 1000).to_delayed()),
    ):
        with pytest.raises(ValueError, match="has 8 partitions and X has 9"):
            model.fit(x, sample_weight=bad)
    with pytest.raises(TypeError, match="sample_weight is a ndarray"):
        model.fit(x, sample_weight=weights_of(N))
    with pytest.raises(ValueError, match="Expected 2D array, got 1D"):
        model.fit(x[:, 0])
    X[3456, 1] = np.inf
    with pytest.raises(ValueError, match="row 456 of partition 3, column 1"):
        model.fit(da.from_array(X, chunks=(1000, D)))
    with pytest.raises(ValueError, match="row 456 of partition 3, column 1"):
        model.predict(da.from_array(X, chunks=(1000, D))).compute(scheduler="synchronous")
    assert model.__dict__ == before


# ---- moments of parts --------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    cuts=st.lists(st.integers(0, 60), max_size=5),
    offset=st.sampled_from([0.0, 1e6]),
    seed=st.integers(0, 2**16),
    weighted=st.booleans(),
)
def test_surveys_add_up_however_rows_are_cut(cuts, offset, seed, weighted):
    rng = np.random.default_rng(seed)
    X = offset + rng.normal(size=(60, 3)) * [1.0, 10.0, 0.1]
    w = rng.integers(0, 3, 60).astype(float) if weighted else None
    if weighted:
        w[0] = 1.0
    edges = [0, *sorted(cuts), 60]
    surveys = []
    for first, last in pairwise(edges):
        survey = Survey()
        survey.add(ArrayData(X[first:last], None if w is None else w[first:last]), 1)
        surveys.append(survey)
    middle = len(surveys) // 2
    for group in (surveys[:middle], surveys[middle:]):
        for other in group[1:]:
            group[0].merge(other)
    whole = surveys[0]
    if middle:
        whole.merge(surveys[middle])
    repeated = X if w is None else np.repeat(X, w.astype(int), axis=0)
    assert (whole.n_rows, whole.weight) == (60, len(repeated))
    np.testing.assert_allclose(whole.mean, repeated.mean(axis=0), rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(whole.spread, repeated.std(axis=0), rtol=1e-8, atol=1e-12)
