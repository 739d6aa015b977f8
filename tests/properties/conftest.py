"""Hypothesis for the property tests: the same examples in every run, more of them in the slow variant."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# Fixtures choose kernels and covariance types from outside, hence function_scoped_fixture; no deadline on
# machines that are shared.
COMMON = {
    "deadline": None,
    "derandomize": True,
    "suppress_health_check": [HealthCheck.function_scoped_fixture],
}
settings.register_profile("fastgmm", max_examples=40, **COMMON)
settings.register_profile("fastgmm-thorough", max_examples=200, **COMMON)


def pytest_configure(config):
    thorough = config.getoption("--run-slow") or config.getoption("markexpr") == "slow"
    settings.load_profile("fastgmm-thorough" if thorough else "fastgmm")
