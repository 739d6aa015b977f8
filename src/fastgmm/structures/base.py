"""What a covariance structure is: the contract, and what the four share."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np

from ..frame import Frame
from ..parameters import Parameters
from ..score_map import HALF_LOG_2PI, LIMIT, ScoreMap
from ..statistics import Statistics

# Below this share of the total weight a component has lost its rows: its moments are rounding errors.
STARVED_SHARE = 10 * float(np.finfo(np.float64).eps)
# A covariance whose correlation matrix R has trace(inverse(R)) > 1 / SINGULAR is singular to working precision:
# the smallest eigenvalue of R lies between 1 / trace(inverse(R)) and D times that.
SINGULAR = float(np.finfo(np.float64).eps)
# A standard deviation this small beside the data's (frame units) is rounding noise of a set of equal rows. Clusters
# 1e8 standard deviations apart are legal and stay far above it.
SMALLEST_SPREAD = 1e-15
# Centring again is worth a pass where it shrinks the terms that are subtracted at least this much.
WORTH_CENTRING = 4.0


class Estimate(NamedTuple):
    """Outcome of an M-step: parameters, and which components cannot be used as they are."""

    parameters: Parameters
    starved: np.ndarray  # (K,) bool: no weight left (components whose weight was zero before are legal)
    singular: np.ndarray  # (K,) bool: covariance not positive definite

    @property
    def degenerate(self) -> np.ndarray:
        return self.starved | self.singular


class Structure(Protocol):
    """One covariance structure, batched over all components. Knows mathematics, never data."""

    name: str
    terms: int  # features that score and are accumulated (score_map.py)
    moment_shape: int  # shape of second moments about centres
    pooled: bool  # one second moment for all components
    common_scale: bool  # all features share one scale of the frame

    def covariance_shape(self, n_components: int, n_features: int) -> tuple[int, ...]: ...
    def n_terms(self, n_features: int) -> int: ...
    def n_parameters(self, n_components: int, n_features: int) -> int: ...
    def always_project(self, n_features: int) -> bool: ...
    def from_covariances(self, weights, means, covariances) -> Parameters: ...
    def from_precisions(self, weights, means, precisions) -> Parameters: ...
    def precisions(self, precisions_cholesky): ...
    def variances(self, parameters: Parameters) -> np.ndarray: ...
    def score_map(self, parameters: Parameters, frame: Frame, n_threads: int) -> ScoreMap: ...
    def second_about_origin(self, terms: np.ndarray, scatter: np.ndarray | None) -> np.ndarray: ...
    def second_about_centres(self, second: np.ndarray) -> np.ndarray: ...
    def estimate(self, statistics: Statistics, reg_covar: float, n_threads: int) -> Estimate: ...
    def needs_centring(self, parameters: Parameters, offset: np.ndarray, frame: Frame) -> np.ndarray: ...


def log_weights(weights):
    """log of the weights; -inf for 0."""
    with np.errstate(divide="ignore"):
        return np.log(weights)


def constants(weights, log_det_root, n_features):
    """Constant of the score: log weight + log sqrt(det precision) - D/2 log 2 pi."""
    return log_weights(weights) + log_det_root - n_features * HALF_LOG_2PI


def new_means(statistics: Statistics):
    """Weights, means (user units) and offsets of the means from the references (frame units), n_k guarded."""
    weight = statistics.weight
    safe = np.where(weight > 0, weight, 1.0)
    offset = statistics.first / safe[:, None]
    means = statistics.reference + offset / statistics.frame.scale
    total = weight.sum()
    weights = weight / (total if total > 0 else 1.0)
    return safe, weights, means, offset


def starved(statistics: Statistics):
    """Components with less than 10 eps of all the weight."""
    return ~(statistics.weight >= STARVED_SHARE * max(statistics.weight.sum(), np.finfo(float).tiny))


def worth_centring(with_offset, without_offset):
    """Where subtracting the offset cost more digits than the error budget, and centring saves them."""
    return ~(with_offset <= LIMIT) & ~(without_offset * WORTH_CENTRING > with_offset)


def check_positive(values, what, shape_name):
    """Raise ValueError naming the first component whose variances or precisions are not all positive and finite."""
    bad = ~(np.isfinite(values) & (values > 0))
    if bad.any():
        k = int(np.argwhere(bad)[0][0])
        raise ValueError(
            f"{what} of component {k} must be positive and finite ({shape_name}); got {values[k]!r}"
        )
