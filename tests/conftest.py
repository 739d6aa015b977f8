"""Fixtures and options shared by all tests."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

# The helpers (oracle, tolerances, datasets) are plain modules beside this file: importable from every sub-
# directory and also when the tests run from outside the checkout against an installed wheel.
sys.path.insert(0, str(Path(__file__).parent))

from oracle import COVARIANCE_TYPES, EXTENDED

KERNELS = ("features", "centred")


def pytest_addoption(parser):
    parser.addoption("--run-slow", action="store_true", help="also run the long, exhaustive variants")


def pytest_configure(config):
    config.addinivalue_line("markers", "slow: long, exhaustive variant (run with --run-slow or -m slow)")
    config.addinivalue_line("markers", "extended: needs a longdouble wider than double")


def pytest_collection_modifyitems(config, items):
    run_slow = config.getoption("--run-slow") or "slow" in (config.getoption("markexpr") or "")
    for item in items:
        if (
            "slow" in item.keywords
            and not run_slow
            and "not slow" not in (config.getoption("markexpr") or "")
        ):
            item.add_marker(pytest.mark.skip(reason="slow: run with --run-slow"))
        if "extended" in item.keywords and not EXTENDED:
            item.add_marker(pytest.mark.skip(reason="longdouble is double precision here"))


@pytest.fixture(params=COVARIANCE_TYPES)
def covariance_type(request):
    return request.param


def available_isas() -> tuple[str, ...]:
    from fastgmm.kernels import _pass

    return tuple(_pass.available_isas())


def pytest_generate_tests(metafunc):
    # At collection, so that each instruction set of this machine has tests of its own name.
    if "isa" in metafunc.fixturenames:
        metafunc.parametrize("isa", available_isas(), indirect=True)


@pytest.fixture
def isa(request):
    """Runs the test under one instruction set and restores the best one afterwards."""
    from fastgmm.kernels import _pass

    before = _pass.current_isa()
    _pass.set_isa(request.param)
    assert _pass.current_isa() == request.param
    yield request.param
    _pass.set_isa(before)


@pytest.fixture(params=KERNELS)
def kernel(request):
    """Runs the test with one of the two kernels forced upon every block and component."""
    from fastgmm.kernels import _pass

    _pass.set_kernel_choice(request.param)
    yield request.param
    _pass.set_kernel_choice("auto")


@pytest.fixture
def clean_environment():
    """An environment for subprocesses without settings of threads or instruction set."""
    environment = dict(os.environ)
    for name in ("FASTGMM_ISA", "OMP_NUM_THREADS"):
        environment.pop(name, None)
    return environment
