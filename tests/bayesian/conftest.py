"""Shared by the tests of Bayesian mixtures: BLAS without threads of its own, which only cost time here."""

from __future__ import annotations

import pytest
from threadpoolctl import threadpool_limits


@pytest.fixture(autouse=True, scope="session")
def _one_thread_of_blas():
    with threadpool_limits(1, user_api="blas"):
        yield


@pytest.fixture
def thorough(request):
    """Whether there is time for many more examples."""
    return request.config.getoption("--run-slow") or request.config.getoption("markexpr") == "slow"
