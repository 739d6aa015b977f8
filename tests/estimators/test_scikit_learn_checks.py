"""scikit-learn's own checks of estimators, in full."""

from __future__ import annotations

import pytest
from sklearn.utils.estimator_checks import check_param_validation, parametrize_with_checks

from fastgmm import GaussianMixture

# Checks that cannot pass, each with the reason. None so far.
EXPECTED_FAILURES: dict[str, str] = {}

# With one component the check of sample weights is vacuous: every responsibility is 1.
MIXTURES = [
    GaussianMixture(n_components=n_components, covariance_type=covariance_type)
    for n_components in (1, 3)
    for covariance_type in ("full", "tied", "diag", "spherical")
]


CHECKS = parametrize_with_checks(MIXTURES, expected_failed_checks=lambda _: EXPECTED_FAILURES)


# Made a list of: scikit-learn 1.6 hands a generator on, which pytest 9 no longer takes.
@pytest.mark.parametrize(CHECKS.args[0], list(CHECKS.args[1]), **CHECKS.kwargs)
def test_estimator_check(estimator, check):
    check(estimator)


@pytest.mark.filterwarnings("ignore")  # options are tried one by one on rows of noise
def test_options_are_validated():
    check_param_validation("GaussianMixture", GaussianMixture())
