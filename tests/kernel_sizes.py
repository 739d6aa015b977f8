"""Awkward sizes: ones, and each side of the widths at which vectors, tiles and blocks end."""

from __future__ import annotations

import functools

import datasets
import oracle

DIMENSIONS = (1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 33, 64)
# Every value of DIMENSIONS as number of features and as number of components, in pairs that mix small and
# large.
PAIRS = (
    (1, 1),
    (1, 7),
    (2, 3),
    (3, 64),
    (7, 9),
    (8, 8),
    (9, 2),
    (15, 17),
    (16, 16),
    (17, 31),
    (31, 1),
    (33, 15),
    (64, 3),
    (2, 33),
    (3, 16),
    # Many features: the projected kernel takes over altogether.
    (81, 2),
)
# Blocks are of 96 to 384 rows, by design a multiple of the vector width.
ROWS = (1, 2, 7, 31, 33, 95, 96, 97, 191, 192, 193, 383, 384, 385, 700)
MOST_ROWS = max(ROWS)


@functools.cache
def problem(covariance_type: str, n_features: int, n_components: int):
    """Rows and (weights, means, covariances) with components that overlap: every responsibility matters.

    The means are spread less the more features there are, so that log-ratios of components stay moderate.
    """
    spread = 1.5 / n_features**0.5
    seed = 1000 * n_features + n_components
    return datasets.problem(seed, MOST_ROWS, n_features, n_components, covariance_type, spread)


@functools.cache
def exact_rows(covariance_type: str, n_features: int, n_components: int):
    """(log density, responsibilities, log density of the components) of all rows, from the oracle."""
    from running import parameters_of

    X, start = problem(covariance_type, n_features, n_components)
    model = oracle.stored_model(covariance_type, parameters_of(covariance_type, start))
    joint = oracle.log_prob_components(X, model)
    return oracle.log_density(X, model), oracle.responsibilities(X, model), joint
