"""The kernels in single precision: exp and log over the whole range, EM steps over awkward sizes."""

from __future__ import annotations

import numpy as np
import oracle
import pytest
import tolerances
from kernel_sizes import MOST_ROWS, PAIRS, problem
from running import assert_same_bits, forced_pruning, parameters_of, run_em

from fastgmm.kernels import _pass

# Few rows per component leave covariances singular; this keeps them away from it (variances are 0.25 to 4).
REG_COVAR = 0.5
# Below this exp is 0 (tiles_exp_single.h).
EXP_LOW = -64.0
EXACT: dict = {}


def errors_in_ulp(ours, exact):
    return np.abs(ours - exact) / np.spacing(np.abs(exact).astype(np.float32)).astype(np.float64)


def as_float32(values):
    return np.asarray(values).astype(np.float32).astype(np.float64)


def test_exp(isa):
    rng = np.random.default_rng(0)
    reduced = np.arange(-184, 1) * (np.log(2) / 2)  # where range reduction changes its mind
    tiny = -(10.0 ** np.arange(-30, 1, 3))
    arguments = np.concatenate([rng.uniform(EXP_LOW, 0, 50_000), rng.uniform(-2, 0, 20_000), reduced, tiny])
    arguments = as_float32(arguments[arguments >= EXP_LOW])
    errors = errors_in_ulp(_pass.vector_exp(arguments, single=True), np.exp(arguments))
    assert errors.max() <= tolerances.SINGLE_EXP_ULP, f"{errors.max()} ulp at {arguments[errors.argmax()]!r}"


def test_log(isa):
    rng = np.random.default_rng(1)
    arguments = np.concatenate([
        2.0 ** rng.uniform(-125.9, 127.9, 50_000),
        2.0 ** np.arange(-126, 128),
        np.sqrt(2) * 2.0 ** np.arange(-100, 100),
        1 + rng.uniform(-1, 1, 20_000) * 10.0 ** rng.uniform(-7, -0.5, 20_000),
    ])  # fmt: skip
    arguments = as_float32(arguments)
    arguments = arguments[arguments != 1.0]
    errors = errors_in_ulp(_pass.vector_log(arguments, single=True), np.log(arguments))
    assert errors.max() <= tolerances.SINGLE_LOG_ULP, f"{errors.max()} ulp at {arguments[errors.argmax()]!r}"
    np.testing.assert_array_equal(_pass.vector_log(np.ones(37), single=True), np.zeros(37))


def test_exp_of_special_values(isa):
    arguments = np.array([0.0, -0.0, -np.inf, -1e30, -64.001, -1000.0])
    np.testing.assert_array_equal(_pass.vector_exp(arguments, single=True), [1.0, 1.0, 0.0, 0.0, 0.0, 0.0])
    assert np.isnan(_pass.vector_exp(np.array([np.nan]), single=True)[0])


def step(covariance_type, n_features, n_components, n_rows, weighted):
    """(X, start, weights, step, bound) of float32 rows, from the oracle."""
    key = covariance_type, n_features, n_components, n_rows, weighted
    if key not in EXACT:
        X, start = problem(covariance_type, n_features, n_components)
        X = X[:n_rows].astype(np.float32)
        weights = None
        if weighted:
            weights = np.random.default_rng(n_rows).uniform(0, 2, n_rows)
            weights[1::3] = 0.0
        model = oracle.stored_model(covariance_type, parameters_of(covariance_type, start))
        exact = oracle.em_step(X, model, REG_COVAR, weights)
        EXACT[key] = X, start, weights, exact, float(oracle.lower_bound(X, model, weights))
    return EXACT[key]


def assert_step(covariance_type, n_features, n_components, n_rows, weighted=False):
    """The second of two steps from one start: the first of tied covariances is float64's, for its scatter."""
    X, start, weights, exact, bound = step(covariance_type, n_features, n_components, n_rows, weighted)
    options = {"reg_covar": REG_COVAR, "sample_weight": weights, "repair": "raise", "arithmetic": "float32"}
    result = run_em(X, covariance_type, start, 1, **options)
    double = covariance_type == "tied" and result.history["pairs_centred"] == [0.0]
    assert result.history["pairs_single"] == ([0.0] if double else result.history["pairs"])
    assert abs(result.lower_bound - bound) <= tolerances.SINGLE_BOUND * max(1.0, abs(bound))
    assert oracle.difference(exact, result.parameters) <= tolerances.SINGLE_STEP
    if double:
        peer = run_em(X, covariance_type, start, 2, **{**options, "arithmetic": "float64"})
        result = run_em(X, covariance_type, start, 2, **options)
        assert result.history["pairs_single"][1] == result.history["pairs"][1]
        exact = oracle.stored_model(covariance_type, peer.parameters)
        assert oracle.difference(exact, result.parameters) <= tolerances.SINGLE_STEP
        np.testing.assert_allclose(result.lower_bounds, peer.lower_bounds, rtol=tolerances.SINGLE_BOUND)


@pytest.mark.parametrize(("n_features", "n_components"), PAIRS, ids=lambda n: str(n))
def test_step(isa, kernel, covariance_type, n_features, n_components):
    assert_step(covariance_type, n_features, n_components, MOST_ROWS)
    assert_step(covariance_type, n_features, n_components, 385, weighted=True)


@pytest.mark.parametrize("n_rows", [2, 7, 31, 33, 95, 96, 97, 191, 193, 383, 384, 385])
@pytest.mark.parametrize("weighted", [False, True])
def test_step_of_few_rows(isa, kernel, covariance_type, n_rows, weighted):
    assert_step(covariance_type, 3, 2, n_rows, weighted=weighted)


@pytest.mark.parametrize(("n_features", "n_components"), [(1, 7), (3, 16), (9, 2), (17, 31)])
def test_pruned_step(isa, kernel, covariance_type, n_features, n_components):
    with forced_pruning("always"):
        assert_step(covariance_type, n_features, n_components, MOST_ROWS)
        assert_step(covariance_type, n_features, n_components, 385, weighted=True)


@pytest.mark.parametrize(("n_features", "n_components"), [(3, 4), (7, 2), (16, 3), (17, 3)])
def test_layouts(isa, covariance_type, n_features, n_components):
    """Rows side by side are packed four by four, others number by number: the same numbers."""
    X, start = problem(covariance_type, n_features, n_components)
    X = X.astype(np.float32)
    wide = np.zeros((len(X), 2 * n_features + 1), dtype=np.float32)
    wide[:, 1::2] = X
    beside = np.zeros((len(X), n_features + 3), dtype=np.float32)
    beside[:, 3:] = X
    for choice in ("never", "always"):
        with forced_pruning(choice):
            reference = run_em(X, covariance_type, start, 3, reg_covar=REG_COVAR, arithmetic="float32")
            for same in (np.asfortranarray(X), wide[:, 1::2], beside[:, 3:]):
                result = run_em(same, covariance_type, start, 3, reg_covar=REG_COVAR, arithmetic="float32")
                assert_same_bits(reference, result)


def test_blocks_that_are_done_again_in_double(isa, covariance_type):
    """Rows too far out for float32 in some blocks, with and without what pruning keeps between passes."""
    X, start = problem(covariance_type, 3, 2)
    X = np.concatenate([X] * 8).astype(np.float32)
    X[100::1500] *= np.float32(3e3)
    for choice in ("never", "always"):
        with forced_pruning(choice):
            peer = run_em(X, covariance_type, start, 4, reg_covar=REG_COVAR)
            result = run_em(X, covariance_type, start, 4, reg_covar=REG_COVAR, arithmetic="float32")
        history = result.history
        assert 0 < sum(history["pairs_single"]) < sum(history["pairs"])
        np.testing.assert_allclose(result.lower_bounds, peer.lower_bounds, rtol=tolerances.SINGLE_BOUND)
        model = oracle.stored_model(covariance_type, peer.parameters)
        assert oracle.difference(model, result.parameters) <= tolerances.SINGLE_STEP


def test_what_single_precision_is_not_for():
    X = np.zeros((4, 2))
    from fastgmm.frame import Frame

    sweep = _pass.Pass(X, None, Frame(np.zeros(2), np.ones(2)), 1)
    with pytest.raises(TypeError, match="float32 rows"):
        sweep.in_single(None, None, None)
