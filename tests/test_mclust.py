"""Fits from stored partitions against R's mclust: log-likelihood, number of parameters and BIC.

The start is the M-step of mclust's partition, computed by the oracle and handed over as ``weights_init``,
``means_init`` and ``precisions_init``; neither side regularises. See tests/data/README.md.
"""

from __future__ import annotations

import warnings

import datasets
import numpy as np
import oracle
import pytest
import tolerances

from fastgmm import GaussianMixture

MODELS = {"tied": "EEE", "full": "VVV", "diag": "VVI", "spherical": "VII"}
# mclust stops at relative changes of 1e-11; EM approaches slowly near flat optima, so run until nothing
# moves.
TOL = 1e-13
MAX_ITER = 20_000


def cases():
    for name in ("faithful", "iris", "wreath"):
        for covariance_type, model in MODELS.items():
            for n_components in range(1, 7):
                if datasets.mclust_reference(name)[model, n_components] is not None:
                    yield name, covariance_type, n_components


@pytest.fixture(scope="module")
def fits():
    return {}


def fit(fits, name, covariance_type, n_components):
    key = name, covariance_type, n_components
    if key not in fits:
        X = datasets.mclust_rows(name)
        labels = datasets.mclust_partitions(name)[:, n_components - 1]
        start = oracle.m_step(X, oracle.one_hot(labels, n_components), covariance_type)
        estimator = GaussianMixture(
            n_components,
            covariance_type=covariance_type,
            reg_covar=0.0,
            tol=TOL,
            max_iter=MAX_ITER,
            **datasets.init_arguments(covariance_type, start[1:]),
        )
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # no repair and no failure to converge on regular optima
            fits[key] = estimator.fit(X)
    return (
        fits[key],
        datasets.mclust_rows(name),
        datasets.mclust_reference(name)[MODELS[covariance_type], n_components],
    )


@pytest.mark.parametrize(("name", "covariance_type", "n_components"), list(cases()))
def test_log_likelihood(fits, name, covariance_type, n_components):
    estimator, X, (log_likelihood, _, _) = fit(fits, name, covariance_type, n_components)
    ours = estimator.score(X) * len(X)
    assert abs(ours - log_likelihood) <= tolerances.MCLUST_LOG_LIKELIHOOD


@pytest.mark.parametrize(("name", "covariance_type", "n_components"), list(cases()))
def test_count_and_bic(fits, name, covariance_type, n_components):
    estimator, X, (_, n_parameters, bic) = fit(fits, name, covariance_type, n_components)
    assert estimator.n_parameters_ == n_parameters
    assert abs(-estimator.bic(X) - bic) <= tolerances.MCLUST_BIC


@pytest.mark.parametrize("name", ["faithful", "iris", "wreath"])
def test_reference_files_are_complete(name):
    reference = datasets.mclust_reference(name)
    assert len(reference) == 14 * 6
    assert datasets.mclust_partitions(name).shape == (len(datasets.mclust_rows(name)), 6)
    for n_components in range(1, 7):
        classes = np.unique(datasets.mclust_partitions(name)[:, n_components - 1])
        np.testing.assert_array_equal(classes, np.arange(n_components))
    assert sum(value is None for value in reference.values()) == (3 if name == "iris" else 0)
