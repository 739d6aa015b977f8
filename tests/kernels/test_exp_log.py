"""The package's own exp and log against mpmath over the whole range, at every instruction set.

exp is for arguments of a softmax (not positive), log for positive normal numbers. The error is measured in
units in the last place of the exact result; the largest found is printed (pytest -s).
"""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
import tolerances

from fastgmm.kernels import _pass

SMALLEST_NORMAL = float(np.finfo(np.float64).tiny)
SMALLEST = float(np.nextafter(0.0, 1.0))
# Below log(2^-1022) the result is subnormal; a kernel may flush it to zero: nothing in a mixture depends on
# it.
EXP_LOW = float(np.log(SMALLEST_NORMAL))
_EXACT: dict = {}


def errors_in_ulp(function, arguments, ours):
    """|ours - exact| / ulp(exact) for each argument, in 40 digits; exact values are kept for the next set."""
    key = function.__name__, arguments.tobytes()
    with mpmath.workdps(40):
        if key not in _EXACT:
            _EXACT[key] = [function(mpmath.mpf(x)) for x in arguments.tolist()]
        spacing = [max(np.spacing(abs(float(e))), SMALLEST) for e in _EXACT[key]]
        pairs = zip(ours.tolist(), _EXACT[key], spacing, strict=True)
        return np.array([float(abs(mpmath.mpf(o) - e) / mpmath.mpf(float(s))) for o, e, s in pairs])


def exp_arguments():
    rng = np.random.default_rng(0)
    reduced = np.arange(-2044, 1) * (np.log(2) / 2)  # where range reduction changes its mind
    edges = np.concatenate([reduced, np.nextafter(reduced, np.inf), np.nextafter(reduced, -np.inf)])
    tiny = -(10.0 ** np.arange(-320, 1, 7))
    all_of_them = np.concatenate([rng.uniform(EXP_LOW, 0, 3000), rng.uniform(-2, 0, 1500), edges, tiny])
    return all_of_them[(all_of_them >= EXP_LOW) & (all_of_them <= 0)]


def log_arguments():
    rng = np.random.default_rng(1)
    exponents = rng.uniform(-1021.9, 1023.9, 3000)
    powers = 2.0 ** np.arange(-1022, 1024)
    halves = np.sqrt(2) * 2.0 ** np.arange(-100, 100)
    near_one = 1 + rng.uniform(-1, 1, 1500) * 10.0 ** rng.uniform(-16, -0.5, 1500)
    edges = np.concatenate([np.nextafter(a, b) for a in (powers[1:-1], halves) for b in (0.0, np.inf)])
    return np.concatenate([2.0**exponents, powers, halves, near_one, edges])


def test_exp(isa):
    arguments = exp_arguments()
    errors = errors_in_ulp(mpmath.exp, arguments, _pass.vector_exp(arguments))
    print(f"exp, {isa}: {errors.max():.3f} ulp at {arguments[errors.argmax()]!r}")
    assert errors.max() <= tolerances.EXP_ULP, f"{errors.max()} ulp at {arguments[errors.argmax()]!r}"


def test_log(isa):
    arguments = log_arguments()
    errors = errors_in_ulp(mpmath.log, arguments, _pass.vector_log(arguments))
    print(f"log, {isa}: {errors.max():.3f} ulp at {arguments[errors.argmax()]!r}")
    assert errors.max() <= tolerances.LOG_ULP, f"{errors.max()} ulp at {arguments[errors.argmax()]!r}"


def test_exp_of_special_values(isa):
    arguments = np.array([0.0, -0.0, -np.inf, -1e308, -746.0])
    np.testing.assert_array_equal(_pass.vector_exp(arguments), [1.0, 1.0, 0.0, 0.0, 0.0])


def test_exp_where_results_are_subnormal(isa):
    """Exact, rounded or flushed to zero, but never negative and never off by a normal number."""
    arguments = np.linspace(-750.0, EXP_LOW, 400)
    ours = _pass.vector_exp(arguments)
    assert np.all(ours >= 0)
    assert np.all(np.abs(ours - np.exp(arguments)) <= SMALLEST_NORMAL)
    assert np.all(np.diff(ours) >= 0)


def test_exp_grows(isa):
    """Monotone across the seams of the range reduction: neighbours never swap by more than their error."""
    arguments = np.sort(exp_arguments())
    ours = _pass.vector_exp(arguments)
    assert np.all(np.diff(ours) >= -2 * tolerances.EXP_ULP * np.spacing(ours[1:]))


def test_log_of_one_is_zero(isa):
    np.testing.assert_array_equal(_pass.vector_log(np.ones(9)), np.zeros(9))


@pytest.mark.parametrize("function", [_pass.vector_exp, _pass.vector_log])
def test_every_length(isa, function):
    """Tails of vectors: each element as if it were alone."""
    arguments = np.linspace(0.1, 5.0, 67) * (-1 if function is _pass.vector_exp else 1)
    alone = np.array([function(arguments[i : i + 1].copy())[0] for i in range(67)])
    for length in range(68):
        np.testing.assert_array_equal(function(arguments[:length].copy()), alone[:length])


def test_same_values_at_every_instruction_set():
    """One algorithm: the sets differ at most by contracted multiply-adds, an ulp or two."""
    arguments = np.linspace(-30.0, 0.0, 1001)
    before = _pass.current_isa()
    results = []
    for name in _pass.available_isas():
        _pass.set_isa(name)
        results.append(_pass.vector_exp(arguments))
    _pass.set_isa(before)
    for result in results[1:]:
        np.testing.assert_allclose(result, results[0], rtol=2 * tolerances.EXP_ULP * tolerances.EPS)
