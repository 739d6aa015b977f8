"""What must not change a single bit: threads, storage of the same values, the way the rows lie in memory."""

from __future__ import annotations

import warnings

import datasets
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from row_scores import log_prob_components
from running import assert_same_bits, labels, log_density, parameters_of, responsibilities, run_em
from shapes import cases
from threadpoolctl import threadpool_limits

from fastgmm import GaussianMixture
from fastgmm.structures import STRUCTURES

THREADS = (1, 2, 3, 8)
ROW_OUTPUTS = (log_density, responsibilities, labels, log_prob_components)


def rows_bits(X, covariance_type, start, n_threads=1):
    structure, parameters = STRUCTURES[covariance_type], parameters_of(covariance_type, start)
    return [output(X, structure, parameters, n_threads).tobytes() for output in ROW_OUTPUTS]


# -- threads ---------------------------------------------------------------------------------------


# A pass with little work takes fewer threads than it is offered (4e6 flops each), so these have tens of
# thousands of rows.
@given(case=cases(min_rows=20_000, max_rows=50_000))
def test_threads(covariance_type, kernel, case):
    X, start = case.problem(covariance_type)
    reference = run_em(X, covariance_type, start, 3, n_threads=1)
    rows = rows_bits(X, covariance_type, start)
    for n_threads in THREADS[1:]:
        assert_same_bits(reference, run_em(X, covariance_type, start, 3, n_threads=n_threads))
        assert rows_bits(X, covariance_type, start, n_threads) == rows


@pytest.mark.parametrize("weighted", [False, True])
def test_threads_with_many_chunks(covariance_type, kernel, weighted):
    X, start = datasets.problem(3, 60_001, 4, 6, covariance_type, 2.0)
    sample_weight = np.random.default_rng(0).uniform(0, 2, len(X)) if weighted else None
    reference = run_em(X, covariance_type, start, 3, n_threads=1, sample_weight=sample_weight)
    rows = rows_bits(X, covariance_type, start)
    for n_threads in THREADS[1:]:
        assert rows_bits(X, covariance_type, start, n_threads) == rows
        result = run_em(X, covariance_type, start, 3, n_threads=n_threads, sample_weight=sample_weight)
        assert_same_bits(reference, result)


@pytest.mark.parametrize(("n_features", "n_components"), [(33, 20), (90, 3)])
def test_threads_where_statistics_are_large(covariance_type, kernel, n_features, n_components):
    """K * P large: partial statistics are within a budget, and that must not let the threads show."""
    X, start = datasets.problem(3, 6_000, n_features, n_components, covariance_type, 1.0)
    reference = run_em(X, covariance_type, start, 2, n_threads=1)
    for n_threads in THREADS[1:]:
        assert_same_bits(reference, run_em(X, covariance_type, start, 2, n_threads=n_threads))


def test_threads_with_both_kernels_at_work(covariance_type):
    """Outliers and far clusters send some pairs of block and component to the centred kernel, not all."""
    X, start = datasets.problem(3, 60_000, 3, 4, covariance_type, 3.0)
    X = X.copy()
    X[::4001] *= 1e7
    X[:5000, 0] += 1e5
    reference = run_em(X, covariance_type, start, 4, n_threads=1)
    for n_threads in THREADS[1:]:
        assert_same_bits(reference, run_em(X, covariance_type, start, 4, n_threads=n_threads))


ATTRIBUTES = ("weights_", "means_", "covariances_", "precisions_", "precisions_cholesky_", "lower_bounds_")


def fitted_bits(estimator, X):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        estimator.fit(X)
    values = [np.asarray(getattr(estimator, name)).tobytes() for name in ATTRIBUTES]
    return [*values, estimator.n_iter_, estimator.converged_, estimator.lower_bound_]


@pytest.mark.parametrize("init_params", ["kmeans", "k-means++", "random", "random_from_data"])
def test_n_jobs_of_a_whole_fit(covariance_type, kernel, init_params):
    """Seeding included."""
    X, _ = datasets.problem(5, 50_000, 4, 4, covariance_type, 3.0)
    arguments = {
        "covariance_type": covariance_type,
        "init_params": init_params,
        "random_state": 0,
        "max_iter": 6,
        "n_init": 2,
    }
    results = [fitted_bits(GaussianMixture(4, n_jobs=n_jobs, **arguments), X) for n_jobs in THREADS]
    assert all(result == results[0] for result in results[1:])


@pytest.mark.parametrize("n_features", [5, 12, 20, 28, 33, 40, 64, 100])
def test_threads_of_blas(covariance_type, n_features):
    """A threaded product or factorisation has other bits, so BLAS must not have threads of its own."""
    X, start = datasets.problem(6, 1_500, n_features, 3, covariance_type, 1.0)
    arguments = datasets.init_arguments(covariance_type, start)
    estimator = GaussianMixture(3, covariance_type=covariance_type, max_iter=2, **arguments)
    results = []
    for limit in (1, 2, 4):
        with threadpool_limits(limit, user_api="blas"):
            fitted = fitted_bits(estimator, X)
            rows = [getattr(estimator, name)(X) for name in ("score_samples", "predict_proba")]
            results.append([*fitted, *(values.tobytes() for values in rows)])
    assert results[1] == results[0]
    assert results[2] == results[0]


def test_run_to_run(covariance_type):
    X, start = datasets.problem(5, 50_000, 4, 4, covariance_type, 3.0)
    reference = run_em(X, covariance_type, start, 5, n_threads=2)
    for _ in range(5):
        assert_same_bits(reference, run_em(X, covariance_type, start, 5, n_threads=2))


# -- storage ---------------------------------------------------------------------------------------


@given(case=cases())
def test_dtype(covariance_type, kernel, case):
    """float32 is read as it is and upcast: the same bits as float64 of the same values."""
    X, start = case.problem(covariance_type)
    single = X.astype(np.float32)
    double = single.astype(np.float64)
    first = run_em(single, covariance_type, start, 3)
    assert_same_bits(first, run_em(double, covariance_type, start, 3))
    assert first.parameters.means.dtype == np.float64
    assert rows_bits(single, covariance_type, start) == rows_bits(double, covariance_type, start)


@pytest.mark.parametrize("init_params", ["kmeans", "k-means++"])
def test_dtype_of_a_whole_fit(covariance_type, init_params):
    X, _ = datasets.problem(5, 1_500, 3, 4, covariance_type, 3.0)
    single = X.astype(np.float32)
    arguments = {
        "covariance_type": covariance_type,
        "init_params": init_params,
        "random_state": 0,
        "max_iter": 5,
    }
    first = fitted_bits(GaussianMixture(4, **arguments), single)
    assert first == fitted_bits(GaussianMixture(4, **arguments), single.astype(np.float64))


def every_other(X):
    return np.repeat(np.repeat(X, 2, axis=0), 3, axis=1)[::2, ::3]


def reversed_twice(X):
    """Negative strides along both axes."""
    return np.ascontiguousarray(X[::-1, ::-1])[::-1, ::-1]


def middle_columns(X):
    wide = np.full((X.shape[0], X.shape[1] + 7), np.nan)
    wide = wide.astype(X.dtype)
    wide[:, 3 : 3 + X.shape[1]] = X
    return wide[:, 3 : 3 + X.shape[1]]


def read_only(X):
    X = X.copy()
    X.flags.writeable = False
    return X


def misplaced(X):
    """Aligned to its items, and to nothing larger."""
    buffer = np.zeros(X.size + 1, dtype=X.dtype)
    buffer[1:] = X.ravel()
    return buffer[1:].reshape(X.shape)


LAYOUTS = (np.asfortranarray, every_other, reversed_twice, middle_columns, read_only, misplaced)


@given(case=cases(max_rows=500), dtype=st.sampled_from([np.float64, np.float32]))
def test_layout(covariance_type, case, dtype):
    X, start = case.problem(covariance_type)
    X = np.ascontiguousarray(X, dtype=dtype)
    reference, rows = run_em(X, covariance_type, start, 2), rows_bits(X, covariance_type, start)
    for layout in LAYOUTS:
        other = layout(X)
        np.testing.assert_array_equal(other, X)
        assert_same_bits(reference, run_em(other, covariance_type, start, 2))
        assert rows_bits(other, covariance_type, start) == rows, layout.__name__


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("order", ["C", "F"])
def test_memory_map(covariance_type, tmp_path, dtype, order):
    X, start = datasets.problem(5, 1_000, 3, 4, covariance_type, 3.0)
    X = np.asarray(X, dtype=dtype, order=order)
    np.save(tmp_path / "rows.npy", X)
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
    assert isinstance(mapped, np.memmap)
    assert not mapped.flags.writeable
    assert_same_bits(run_em(X, covariance_type, start, 3), run_em(mapped, covariance_type, start, 3))
    arguments = {"covariance_type": covariance_type, "random_state": 0, "max_iter": 4}
    assert fitted_bits(GaussianMixture(4, **arguments), X) == fitted_bits(
        GaussianMixture(4, **arguments), mapped
    )
    del mapped


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
def test_layout_of_a_whole_fit(layout):
    X, _ = datasets.problem(5, 1_000, 3, 4, "full", 3.0)
    X = X.copy()
    other = layout(X)
    assert fitted_bits(GaussianMixture(4, random_state=0), X) == fitted_bits(
        GaussianMixture(4, random_state=0), other
    )
