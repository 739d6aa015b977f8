"""Rows that are no finite numbers are refused in words of ours: which column, and what helps."""

from __future__ import annotations

import datetime

import numpy as np
import pytest

from fastgmm import BayesianGaussianMixture, BlockRows, GaussianMixture, MiniBatchGaussianMixture

N = 40
DAYS = np.datetime64("2024-01-01", "ns") + np.arange(N).astype("m8[D]")
TOOK = (np.arange(N) * 3).astype("m8[s]").astype("m8[ns]")
NUMBERS = np.random.default_rng(0).normal(size=N)
DATES, DURATIONS = "days since the first of them", r"Divide them by a unit.*timedelta64\(1, 's'\)"


@pytest.fixture
def ready() -> GaussianMixture:
    """A mixture of two features that was not fitted."""
    return GaussianMixture.from_parameters([1.0], np.zeros((1, 2)), np.eye(2)[None])


def calls_with(X, ready):
    """All kinds of methods that take rows."""
    for method in (ready.predict, ready.score_samples, ready.score, ready.bic, ready.accumulate):
        yield lambda method=method: method(X)
    for estimator in (GaussianMixture(), BayesianGaussianMixture(), MiniBatchGaussianMixture()):
        yield lambda estimator=estimator: estimator.fit(X)
    yield lambda: MiniBatchGaussianMixture().partial_fit(X)


# ---- NaN and infinity --------------------------------------------------------------------------------------


def test_gaps_are_not_to_be_filled_with_means(ready):
    X = np.c_[NUMBERS, NUMBERS]
    X[7, 1] = np.nan
    for call in calls_with(X, ready):
        with pytest.raises(ValueError, match=r"NaN: .*row 7, column 1\. Drop rows with gaps") as error:
            call()
        assert "SimpleImputer" not in str(error.value)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_infinities_have_a_remedy_of_their_own(ready, dtype):
    X = np.c_[NUMBERS, NUMBERS].astype(dtype)
    X[7, 1] = -np.inf
    message = r"contains infinity.*: the first is -inf in row 7, column 1\..*logarithm of 0, a division by 0"
    for call in calls_with(X, ready):
        with pytest.raises(ValueError, match=message) as error:
            call()
        assert "Imputer" not in str(error.value)


def test_the_place_is_of_what_is_named(ready):
    """scikit-learn names NaN where there are both: so does the place, whichever comes first."""
    X = np.c_[NUMBERS, NUMBERS]
    X[3, 0], X[30, 1] = np.inf, np.nan
    with pytest.raises(ValueError, match="contains NaN: the first is nan in row 30, column 1"):
        ready.predict(X)
    with pytest.raises(ValueError, match="contains infinity: the first is inf in row 3 of block 0, column 0"):
        ready.predict([X])  # block by block, it is the first of either


@pytest.mark.parametrize(("bad", "what"), [(np.nan, "Drop rows with gaps"), (np.inf, "a division by 0")])
def test_blocks_and_files_of_columns_with_names(ready, tmp_path, bad, what):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"height": NUMBERS, "width": np.where(np.arange(N) == 9, bad, NUMBERS)})
    for call in calls_with(BlockRows([frame[:5], frame[5:]]), ready):
        with pytest.raises(ValueError, match=rf"row 4 of block 1, column 1 \('width'\)\. .*{what}"):
            call()
    pytest.importorskip("pyarrow")
    frame.to_parquet(tmp_path / "rows.parquet")
    with pytest.raises(ValueError, match=rf"column 1 \('width'\)\. .*{what}|'width' has a null in .*{what}"):
        ready.predict(str(tmp_path / "rows.parquet"))


def test_blocks_of_objects_name_the_place(ready):
    X = np.c_[NUMBERS, NUMBERS].astype(object)
    X[2, 1] = "warm"
    with pytest.raises(ValueError, match=r"X has 'warm' in row 2, column 1.*\(in X of block 0\)"):
        ready.predict([X])


# ---- dates and durations -----------------------------------------------------------------------------------


def test_arrays_of_dates_and_durations(ready):
    """NumPy counts their units: a date that is missing would become -9.2e18."""
    for X, what in ((np.c_[DAYS, DAYS], f"datetime64.*{DATES}"), (np.c_[TOOK, TOOK], DURATIONS)):
        for rows in (X, [X], X.tolist() if what is DATES else X, [list(row) for row in X]):
            for call in calls_with(rows, ready):
                with pytest.raises(TypeError, match=what):
                    call()


@pytest.mark.parametrize(
    ("value", "what"),
    [
        (datetime.date(2024, 1, 1), DATES),
        (datetime.datetime(2024, 1, 1), DATES),
        (datetime.time(12), DATES),
        (datetime.timedelta(1), DURATIONS),
    ],
)
def test_objects_that_are_dates(ready, value, what):
    for X in ([[1.0, value]] * 5, np.array([[1.0, value]] * 5, dtype=object)):
        for call in calls_with(X, ready):
            with pytest.raises(TypeError, match=rf"in row 0, column 1, which is not a number\. .*{what}"):
                call()


def frames():
    """Frames with a column of dates or durations: how they are made, and what helps."""
    return {
        "pandas dates": ("pandas", {"when": DAYS}, DATES),
        "pandas dates only": ("pandas", {"x": DAYS, "when": DAYS}, DATES),
        "pandas durations": ("pandas", {"when": TOOK}, DURATIONS),
        "polars dates": ("polars", {"when": DAYS}, DATES),
        "polars durations": ("polars", {"when": TOOK}, DURATIONS),
        "polars times": ("polars", {"when": [datetime.time(1, 2)] * N}, DATES),
    }


@pytest.mark.parametrize("kind", frames())
def test_frames_with_dates_and_durations(ready, kind):
    library, column, what = frames()[kind]
    frame = pytest.importorskip(library).DataFrame({"x": NUMBERS} | column)
    name = r"column 1 \('when'\)" if column.keys() == {"when"} else r"column 0 \('x'\) and 1 more"
    for X in (frame, [frame]):
        for call in calls_with(X, ready):
            with pytest.raises(TypeError, match=rf"{name}, not numbers\. .*{what}"):
                call()


def test_pandas_own_types_of_dates(ready):
    pandas = pytest.importorskip("pandas")
    for column in (
        pandas.Series(DAYS).dt.tz_localize("UTC"),
        pandas.period_range("2024-01", periods=N, freq="M"),
    ):
        frame = pandas.DataFrame({"x": NUMBERS, "when": column})
        with pytest.raises(TypeError, match=rf"column 1 \('when'\).*{DATES}"):
            ready.predict(frame)


def test_files_and_tables_with_dates(ready, tmp_path):
    np.save(tmp_path / "days.npy", np.c_[DAYS, DAYS])
    with pytest.raises(ValueError, match=rf"days\.npy should hold real numbers.*datetime64.*{DATES}"):
        ready.predict(str(tmp_path / "days.npy"))
    pyarrow = pytest.importorskip("pyarrow")
    for column, what in ((DAYS, DATES), (TOOK, DURATIONS)):
        table = pyarrow.table({"x": NUMBERS, "when": pyarrow.array(column)})
        for call in calls_with(table, ready):
            with pytest.raises(ValueError, match=rf"Column 'when' holds .*columns=\[...\].*{what}"):
                call()


def test_dask_collections_with_dates(ready):
    pytest.importorskip("dask.array")
    import dask.array as da
    import dask.dataframe as dd
    import pandas

    frame = pandas.DataFrame({"x": NUMBERS, "when": DAYS})
    for X in (dd.from_pandas(frame, npartitions=2), da.from_array(np.c_[DAYS, DAYS], chunks=(20, 2))):
        for method in (ready.predict, ready.score, GaussianMixture().fit):
            with pytest.raises(TypeError, match=DATES):
                method(X)


# ---- queries that have not been run ------------------------------------------------------------------------


def test_lazy_frames_are_to_be_collected(ready):
    polars = pytest.importorskip("polars")
    lazy = polars.DataFrame({"x": NUMBERS, "y": NUMBERS}).lazy()
    for X in (lazy, [lazy, lazy], BlockRows([lazy])):
        for call in calls_with(X, ready):
            with pytest.raises(
                TypeError, match=r"polars LazyFrame, a query that has not been run.*collect\(\)"
            ):
                call()
    assert GaussianMixture().fit_predict(lazy.collect()).shape == (N,)
