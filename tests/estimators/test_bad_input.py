"""What is refused, before any work: by which exception, and what its message says."""

from __future__ import annotations

import re
import subprocess
import sys

import numpy as np
import pytest
import scipy.sparse
from sklearn.exceptions import NotFittedError
from sklearn.utils._param_validation import InvalidParameterError

from fastgmm import GaussianMixture, Scorer, _validation, em, seeding

BLOCKED = "the work has begun"


@pytest.fixture(autouse=True)
def no_work(request, monkeypatch):
    """Whatever is refused must be so before seeding and EM."""
    if "works" in request.keywords:
        return

    def blocked(*args, **kwargs):
        raise AssertionError(BLOCKED)

    monkeypatch.setattr(em, "run", blocked)
    monkeypatch.setattr(seeding, "initial_parameters", blocked)


@pytest.fixture
def ready() -> GaussianMixture:
    """A mixture of two components in two dimensions that was not fitted."""
    return GaussianMixture.from_parameters([0.5, 0.5], [[0.0, 0.0], [4.0, 4.0]], [np.eye(2)] * 2)


QUERIES = ("score_samples", "predict", "predict_proba", "score", "bic", "aic", "icl", "log_prob_components")


def each_method(mixture, X):
    """Everything that takes rows, as calls without arguments."""
    calls = {name: getattr(mixture, name) for name in QUERIES}
    calls |= {"fit": GaussianMixture(2).fit, "fit_predict": GaussianMixture(2).fit_predict}
    return {name: (lambda method=method: method(X)) for name, method in calls.items()}


def test_work_is_blocked_in_these_tests(rows):
    with pytest.raises(AssertionError, match=BLOCKED):
        GaussianMixture(2).fit(rows)


# ---- rows ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.nan, r"Input X contains NaN: the first is nan in row 207, column 1\."),
        (-np.inf, "infinity.*-inf in row 207"),
    ],
)
def test_not_finite(ready, rows, dtype, order, bad, message):
    rows[[207, 250], [1, 0]] = bad
    for call in each_method(ready, np.asarray(rows, dtype=dtype, order=order)).values():
        with pytest.raises(ValueError, match=message):
            call()


def test_not_finite_beyond_the_first_block_of_the_search(ready):
    X = np.zeros((2**20 + 5, 2), dtype=np.float32)
    X[-2, 1] = np.nan
    with pytest.raises(ValueError, match="row 1048579, column 1"):
        ready.predict(X)


def test_not_finite_in_a_row_of_weight_zero(ready, rows):
    rows[3, 0] = np.nan
    weight = np.ones(len(rows))
    weight[3] = 0
    for method in (GaussianMixture(2).fit, ready.score, ready.bic, ready.icl):
        with pytest.raises(ValueError, match="row 3, column 0"):
            method(rows, sample_weight=weight)


@pytest.mark.parametrize("covariance_type", ["full", "tied", "diag", "spherical"])
@pytest.mark.parametrize("largest", [5e153, 1e155, 1.7e308])
def test_variance_that_overflows(rows, covariance_type, largest):
    """scikit-learn fails inside SciPy here, or returns NaN and infinity."""
    X = rows / np.abs(rows).max(axis=0) * [1.0, largest]
    mixture = GaussianMixture(2, covariance_type=covariance_type)
    value = re.escape(f"{largest:.3g}")
    for method in (mixture.fit, mixture.fit_predict):
        with pytest.raises(ValueError, match=rf"{value}.* in column 1: .*too large.*Rescale X.*MaxAbsScaler"):
            method(X)
    assert not hasattr(mixture, "means_")


@pytest.mark.parametrize("largest", [1e153, 1.7e308])
def test_variance_that_does_not_overflow(rows, largest):
    """Within the range; or rows that far out do not count; or all are equally far out."""
    X = (rows - rows.min(axis=0)) / np.ptp(rows, axis=0)
    weight = np.ones(len(X))
    if largest == 1e153:
        X *= largest
    else:
        weight[::2] = 0
        X[::2] *= [1.0, -largest]
        X[1::2, 0] = largest
    with pytest.raises(AssertionError, match=BLOCKED):
        GaussianMixture(2, covariance_type="diag").fit(X, sample_weight=weight)


def test_sum_that_overflows_is_not_refused(ready):
    X = np.full((4, 2), 1.5e308)
    assert ready.predict(X).shape == (4,)
    X = np.repeat([[1.5e308], [-1.5e308]], 600, axis=0) * [1.0, -1.0]  # NumPy sums in parts, to inf - inf
    assert ready.predict(X).shape == (1200,)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_who_looks_for_nan(ready, rows, dtype, monkeypatch):
    """scikit-learn's look is left out only where one sum has said that all is finite."""
    looks = []
    validate = _validation.validate_data

    def watched(*args, ensure_all_finite, **kwargs):
        looks.append(ensure_all_finite)
        return validate(*args, ensure_all_finite=ensure_all_finite, **kwargs)

    monkeypatch.setattr(_validation, "validate_data", watched)
    X = rows.astype(dtype)
    large = np.full((4, 2), 0.9 * np.finfo(dtype).max, dtype)
    for known in (X, X[:1], np.asfortranarray(X), X[::-2]):
        ready.predict(known)
    assert not any(looks)
    for unknown in (large, X.astype(int), X.tolist(), X.astype(object), X.view(np.recarray)):
        looks.clear()
        ready.predict(unknown)
        assert looks == [True]


def test_text(ready):
    X = [[1.0, 2.0], [3.0, "warm"], [5.0, 6.0]]
    for call in each_method(ready, X).values():
        with pytest.raises(ValueError, match=r"could not convert string to float.*'warm' in row 1, column 1"):
            call()


def test_object_that_is_no_number(ready):
    X = np.ones((3, 2), dtype=object)
    X[2, 0] = {"a": 1}
    with pytest.raises(TypeError, match=r"argument must be.*number.*row 2, column 0"):
        ready.predict(X)


def test_complex(ready, rows):
    for call in each_method(ready, rows + 1j).values():
        with pytest.raises(ValueError, match="Complex data not supported: X holds complex128"):
            call()


@pytest.mark.parametrize(
    "container", [scipy.sparse.csr_matrix, scipy.sparse.csc_array, scipy.sparse.coo_array]
)
def test_sparse(ready, rows, container):
    for call in each_method(ready, container(rows)).values():
        with pytest.raises(TypeError, match=r"Sparse data was passed for X.*toarray"):
            call()


@pytest.mark.parametrize(
    "X", [np.zeros(6), np.zeros((3, 2, 1)), np.zeros((0, 2)), np.zeros((3, 0)), 7.0, None]
)
def test_shapes(ready, X):
    for call in each_method(ready, X).values():
        with pytest.raises((ValueError, TypeError), match=r"array|sample|feature|None"):
            call()


def test_rows_of_different_lengths(ready):
    with pytest.raises(ValueError, match="inhomogeneous"):
        ready.predict([[1.0, 2.0], [3.0]])


def test_too_few_rows(rows):
    with pytest.raises(ValueError, match="minimum of 2 is required by GaussianMixture"):
        GaussianMixture(1).fit(rows[:1])
    with pytest.raises(ValueError, match=r"n_components = 5, n_samples = 4\. Use fewer components"):
        GaussianMixture(5).fit(rows[:4])
    weight = np.array([1.0, 0, 2, 0, 3])
    with pytest.raises(ValueError, match="n_components = 4, n_samples = 3 with positive sample_weight"):
        GaussianMixture(4).fit(rows[:5], sample_weight=weight)


def test_other_columns(ready, rows):
    for name in QUERIES:
        with pytest.raises(ValueError, match="X has 3 features, but GaussianMixture is expecting 2 features"):
            getattr(ready, name)(rows[:, [0, 1, 1]])


class OnDevice:
    """An array of a library like torch or CuPy, in the memory of a device."""

    def __init__(self, values, device_type):
        self.values, self.device_type = values, device_type

    def __dlpack_device__(self):
        return (self.device_type, 0)

    def __array__(self, dtype=None, copy=None):
        assert self.device_type == 1, "the device's memory was read"
        return np.asarray(self.values, dtype=dtype)


def test_arrays_on_other_devices(ready, rows):
    cuda, cpu = OnDevice(rows, 2), OnDevice(rows, 1)
    for call in each_method(ready, cuda).values():
        with pytest.raises(TypeError, match=r"OnDevice in the memory of another device.*X\.cpu\(\)"):
            call()
    np.testing.assert_array_equal(ready.predict(cpu), ready.predict(rows))
    weight = OnDevice(np.ones(len(rows)), 2)
    with pytest.raises(TypeError, match="sample_weight is a"):
        ready.score(rows, sample_weight=weight)


# ---- weights of rows -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        ([1.0, -1, 1], r"must be non-negative, but it is -1\.0 for row 1"),
        ([1.0, 1, np.nan], "must be finite, but it is nan for row 2"),
        ([np.inf, 1, 1], "must be finite, but it is inf for row 0"),
        ([0.0, 0, 0], "at least one non-zero number: sample_weight is all zero"),
        ([1.0, 1], r"sample_weight.shape == \(2,\), expected \(3,\)"),
        ([[1.0, 1, 1]], "Sample weights must be 1D array or scalar, got 2D array"),
        ([1.0, "two", 3], "could not convert string to float"),
        (np.array([1.0, 2j, 3]), "Complex data not supported"),
        ([1e308, 1e308, 1e308], "would leave the range of float64"),
        (-2.0, "non-negative"),
        (np.nan, "finite"),
    ],
)
def test_sample_weight(ready, rows, weight, message):
    methods = [GaussianMixture(2).fit, GaussianMixture(2).fit_predict]
    methods += [getattr(ready, name) for name in ("score", "bic", "aic", "icl")]
    for method in methods:
        with pytest.raises(ValueError, match=message):
            method(rows[:3], sample_weight=weight)


# ---- options and starts ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "option",
    [
        {"n_components": 0},
        {"n_components": 1.5},
        {"covariance_type": "round"},
        {"tol": -1},
        {"reg_covar": -1e-9},
        {"max_iter": -1},
        {"n_init": 0},
        {"init_params": "best"},
        {"random_state": "seed"},
        {"warm_start": "yes"},
        {"verbose": -1},
        {"verbose_interval": 0},
        {"n_jobs": 0},
        {"n_jobs": 1.5},
        {"repair": "pray"},
        {"means_init": 3},
    ],
)
def test_options(rows, option):
    (name,) = option
    mixture = GaussianMixture(**option)  # the constructor checks nothing
    for method in (mixture.fit, mixture.fit_predict):
        with pytest.raises(InvalidParameterError, match=f"The '{name}' parameter of GaussianMixture must be"):
            method(rows)


SYMMETRIC = np.array([[2.0, 0.5], [0.5, 1.0]])


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"weights_init": [0.5, 0.4]}, r"weights_init should be normalized, but its sum is 0\.9"),
        ({"weights_init": [0.5, 0.5 + 2e-8]}, "weights_init should be normalized"),
        ({"weights_init": [1.5, -0.5]}, r"weights_init should be in the range \[0, 1\].*component 0"),
        (
            {"weights_init": [1.0]},
            r"weights_init should have the shape \(n_components,\) = \(2,\), but got \(1,\)",
        ),
        ({"weights_init": [np.nan, 1]}, r"weights_init contains nan, first at weights_init\[0\]"),
        ({"weights_init": ["a", "b"]}, "could not convert string"),
        (
            {"means_init": np.zeros((2, 3))},
            r"means_init should have the shape .*= \(2, 2\), but got \(2, 3\)",
        ),
        ({"means_init": [[0, 0], [0, np.inf]]}, r"means_init contains inf, first at means_init\[1, 1\]"),
        ({"means_init": np.zeros((2, 2)) + 1j}, "Complex data not supported"),
        (
            {"precisions_init": np.eye(2)},
            r"\(n_components, n_features, n_features\) = \(2, 2, 2\), but got \(2, 2\)",
        ),
        (
            {"precisions_init": [np.eye(2), -np.eye(2)]},
            "positive-definite, .* of component 1 .*eigenvalue -1",
        ),
        ({"precisions_init": [np.eye(2), [[1, 2], [2, 1]]]}, "positive-definite, .* of component 1"),
        (
            {"precisions_init": [[[1, 0.5], [0.4, 1]], np.eye(2)]},
            r"symmetric, .* of component 0 has 0.5 at \[0, 1\]",
        ),
        ({"precisions_init": [np.eye(2), np.zeros((2, 2))]}, "positive-definite, .* of component 1"),
        ({"covariance_type": "tied", "precisions_init": -np.eye(2)}, "positive-definite, but the matrix has"),
        (
            {"covariance_type": "diag", "precisions_init": [[1, 1], [1, 0]]},
            r"should be positive, but precisions_init\[1, 1\] = 0.0 \(component 1\)",
        ),
        (
            {"covariance_type": "spherical", "precisions_init": [-1, 1]},
            r"should be positive, .*\(component 0\)",
        ),
    ],
)
def test_starts(rows, option, message):
    with pytest.raises(ValueError, match=message):
        GaussianMixture(2, **option).fit(rows)


def test_from_parameters():
    good = {"weights": [0.5, 0.5], "means": [[0.0, 0.0], [4.0, 4.0]], "covariances": [SYMMETRIC] * 2}
    for change, message in [
        ({"weights": [0.5, 0.6]}, "weights should be normalized"),
        ({"weights": [1.0]}, r"means should have the shape .*\(1, 2\)"),
        ({"means": [0.0, 4.0]}, "means should have the shape"),
        ({"means": [[0.0, np.nan], [4.0, 4.0]]}, r"means contains nan, first at means\[0, 1\]"),
        ({"covariances": [SYMMETRIC] * 3}, "covariances should have the shape"),
        (
            {"covariances": [SYMMETRIC, -SYMMETRIC]},
            "covariances should be symmetric, positive-definite.*component 1",
        ),
        ({"covariance_type": "diag"}, r"covariances should have the shape \(n_components, n_features\)"),
        ({"covariance_type": "round"}, "The 'covariance_type' parameter"),
        ({"tol": -1}, "The 'tol' parameter"),
    ]:
        with pytest.raises(ValueError, match=message):
            GaussianMixture.from_parameters(**(good | change))
    with pytest.raises(TypeError, match="unexpected keyword argument 'colour'"):
        GaussianMixture.from_parameters(**good, colour="red")


# ---- mixtures that are not ready -------------------------------------------------------------------------


def test_not_fitted(rows):
    mixture = GaussianMixture(2)
    for name in QUERIES:
        with pytest.raises(NotFittedError, match="GaussianMixture instance is not fitted yet"):
            getattr(mixture, name)(rows)
    for call in (mixture.sample, lambda: mixture.save("never.npz"), lambda: mixture.n_parameters_):
        with pytest.raises(NotFittedError):
            call()
    assert not hasattr(mixture, "n_parameters_")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("weights_", [1.0], r"weights_ should have the shape \(n_components,\) = \(2,\)"),
        ("weights_", [1.5, -0.5], "weights_ should be non-negative"),
        ("weights_", [0.0, 0.0], "at least one positive entry"),
        ("means_", [0.0, 4.0], "means_ should have the shape"),
        ("means_", [[0.0, np.nan], [4.0, 4.0]], "means_ contains NaN or infinity"),
        ("precisions_cholesky_", np.eye(2), "precisions_cholesky_ should have the shape"),
        (
            "precisions_cholesky_",
            [np.eye(2), np.full((2, 2), np.inf)],
            "precisions_cholesky_ contains NaN or inf",
        ),
        (
            "precisions_cholesky_",
            [np.eye(2), np.diag([1.0, 0.0])],
            "precisions_cholesky_ of component 1 is singular",
        ),
    ],
)
def test_attributes_that_do_not_fit_together(ready, rows, name, value, message):
    setattr(ready, name, np.array(value))
    for query in QUERIES:
        with pytest.raises(ValueError, match=message):
            getattr(ready, query)(rows)


def test_covariance_type_changed_by_hand(ready, rows):
    ready.covariance_type = "round"
    with pytest.raises(ValueError, match=r"covariance_type must be one of 'full'.*got 'round'"):
        ready.predict(rows)
    ready.covariance_type = "spherical"
    with pytest.raises(ValueError, match=r"precisions_cholesky_ should have the shape \(n_components,\)"):
        ready.predict(rows)


@pytest.mark.parametrize("n_samples", [0, -3])
def test_no_samples(ready, n_samples):
    with pytest.raises(ValueError, match=f"Invalid value for 'n_samples': {n_samples}"):
        ready.sample(n_samples)


# ---- memory ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "request_text"),
    [
        ("predict_proba", r"predict_proba, an array of shape \(300, 2\) and 4.69 KiB"),
        ("log_prob_components", r"log_prob_components, an array of shape \(300, 2\)"),
        ("score_samples", r"score_samples, an array of shape \(300,\)"),
        ("predict", r"predict, an array of shape \(300,\)"),
    ],
)
def test_memory_error_says_what_was_asked_for(ready, rows, monkeypatch, method, request_text):
    def exhausted(*args, **kwargs):
        raise MemoryError("no room")

    monkeypatch.setattr(Scorer, "_write", exhausted)
    with pytest.raises(
        MemoryError, match=f"Not enough memory for {request_text}.*no room.*fewer rows at a time"
    ):
        getattr(ready, method)(rows)


def test_memory_error_in_fit(rows, monkeypatch):
    def exhausted(*args, **kwargs):
        raise MemoryError

    monkeypatch.setattr(seeding, "initial_parameters", exhausted)
    with pytest.raises(
        MemoryError, match=r"a fit of 2 components to 300 x 2 rows\. Use fewer components or threads"
    ):
        GaussianMixture(2).fit(rows)


LITTLE_MEMORY = """
import resource
import numpy as np
from fastgmm import GaussianMixture
weights = np.full(2000, 1 / 2000)
mixture = GaussianMixture.from_parameters(weights, np.zeros((2000, 1)), np.ones(2000), "spherical", n_jobs=1)
X = np.zeros((1_000_000, 1))
mixture.predict(X[:1000])
used = 4096 * int(open("/proc/self/statm").read().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (used + 2**30, resource.RLIM_INFINITY))
try:
    mixture.predict_proba(X)
except MemoryError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits its own memory")
def test_memory_that_really_does_not_suffice():
    done = subprocess.run(
        [sys.executable, "-c", LITTLE_MEMORY], capture_output=True, text=True, timeout=120, check=False
    )
    assert "predict_proba, an array of shape (1000000, 2000) and 14.9 GiB" in done.stdout, done.stderr
