"""Spherical covariances: one variance per component."""

from __future__ import annotations

import numpy as np

from .._typing import BoolArray, FloatArray
from ..frame import Frame
from ..kernels._pass import SCALAR, SPHERICAL
from ..parameters import Parameters
from ..score_map import ScoreMap
from ..statistics import Statistics
from .base import (
    ROUNDED_UP,
    STATISTICS_LIMIT,
    Moments,
    check_positive,
    constants,
    from_location_vector,
    location_vector,
    new_means,
    raised_variances,
    rounding_of,
    usable_variances,
    whitened_shift,
    worth_centring,
)


class Spherical:
    """log N(x) = const - p |z - m|^2 / 2.

    The frame has one scale for all features, or |z|^2 would weigh them.
    """

    name = "spherical"
    terms = SPHERICAL
    moment_shape = SCALAR
    pooled = False
    common_scale = True

    def covariance_shape(self, n_components: int, n_features: int) -> tuple[int, ...]:
        return (n_components,)

    def n_terms(self, n_features: int) -> int:
        return n_features + 1

    def n_parameters(self, n_components: int, n_features: int) -> int:
        return n_components + n_components * n_features + n_components - 1

    def always_project(self, n_features: int, n_active: float = np.inf) -> bool:
        return False

    def from_covariances(self, weights: FloatArray, means: FloatArray, covariances: FloatArray) -> Parameters:
        check_positive(covariances, "covariances", "one variance per component")
        return Parameters(weights, means, covariances, 1.0 / np.sqrt(covariances))

    def from_precisions(self, weights: FloatArray, means: FloatArray, precisions: FloatArray) -> Parameters:
        check_positive(precisions, "precisions", "one precision per component")
        return Parameters(weights, means, 1.0 / precisions, np.sqrt(precisions))

    def precisions(self, precisions_cholesky: FloatArray) -> FloatArray:
        return precisions_cholesky**2

    def variances(self, parameters: Parameters) -> FloatArray:
        with np.errstate(over="ignore", divide="ignore"):
            variance = 1.0 / parameters.precisions_cholesky**2
        return np.repeat(variance[:, None], parameters.means.shape[1], axis=1)

    def score_map(
        self, parameters: Parameters, frame: Frame, n_threads: int, n_active: float = np.inf
    ) -> ScoreMap:
        root = parameters.precisions_cholesky / frame.scale[0]
        mean = frame.to_frame(parameters.means)
        constant = constants(parameters.weights, self.log_det_roots(parameters), mean.shape[1])
        with np.errstate(over="ignore", invalid="ignore"):
            precision = (root * root)[:, None]
            linear = precision * mean
            quadratic = (linear * mean).sum(axis=1)
            return ScoreMap(
                terms=SPHERICAL,
                coef=np.concatenate((linear, -0.5 * precision), axis=1),
                offset=constant - 0.5 * quadratic,
                bound=np.concatenate((2.0 * np.abs(linear), precision), axis=1),
                bound_offset=quadratic,
                root_shape=SCALAR,
                root=root,
                centre=parameters.means,
                constant=constant,
            )

    def second_about_origin(self, terms: FloatArray, scatter: FloatArray | None) -> FloatArray:
        return np.ascontiguousarray(terms[:, -1])

    def second_about_centres(self, second: FloatArray) -> FloatArray:
        return second[:, 0]

    def moments(self, statistics: Statistics, reg_covar: float) -> Moments:
        safe, weights, means, offset = new_means(statistics)
        D = offset.shape[1]
        scale = statistics.frame.scale[0]
        variance = (statistics.second / safe - (offset * offset).sum(axis=1)) / D
        return Moments(weights, means, variance / scale**2 + reg_covar)

    def factorised(
        self, means: FloatArray, covariances: FloatArray, reg_covar: float, n_threads: int
    ) -> tuple[FloatArray, BoolArray]:
        singular = ~usable_variances(covariances, rounding_of(means, reg_covar).max(axis=1))
        with np.errstate(invalid="ignore", divide="ignore"):
            roots = 1.0 / np.sqrt(covariances)
        return roots, singular

    def scatter(self, weight: FloatArray, offset: FloatArray) -> FloatArray:
        return weight * (offset**2).mean(axis=1)

    def log_det_roots(self, parameters: Parameters) -> FloatArray:
        return np.asarray(parameters.means.shape[1] * np.log(parameters.precisions_cholesky))

    def squares(self, statistics: Statistics, parameters: Parameters) -> float:
        second = statistics.about(parameters.means).second
        return float((parameters.precisions_cholesky / statistics.frame.scale[0]) ** 2 @ second)

    def distances(self, parameters: Parameters, point: FloatArray) -> FloatArray:
        squares = ((point - parameters.means) ** 2).sum(axis=1)
        return np.asarray(parameters.precisions_cholesky**2 * squares)

    def log_det(self, covariance: FloatArray, n_features: int) -> float:
        return float(n_features * np.log(covariance))

    def traces(self, covariance: FloatArray, parameters: Parameters) -> FloatArray:
        return np.asarray(parameters.means.shape[1] * covariance * parameters.precisions_cholesky**2)

    def second_of(self, parameters: Parameters, scale: FloatArray, reg_covar: float) -> FloatArray:
        return parameters.weights * (parameters.covariances - reg_covar) * (scale.size * scale[0] ** 2)

    def floored(self, covariances: FloatArray, frame: Frame) -> FloatArray:
        return raised_variances(covariances, frame.scale[0])

    def from_variances(self, variances: FloatArray) -> FloatArray:
        return variances.mean(axis=1)

    def longest_axis(self, parameters: Parameters, k: int) -> FloatArray:
        axis = np.zeros(parameters.means.shape[1])  # any axis is as long as another
        axis[0] = np.sqrt(parameters.covariances[k])
        return axis

    def pooled_covariance(self, parameters: Parameters) -> FloatArray:
        return np.eye(parameters.means.shape[1]) * (parameters.weights @ parameters.covariances)

    def to_vector(self, parameters: Parameters, frame: Frame) -> FloatArray:
        logs = np.log(parameters.covariances * frame.scale[0] ** 2)
        return np.concatenate([location_vector(parameters, frame), logs])

    def from_vector(self, vector: FloatArray, like: Parameters, frame: Frame) -> Parameters:
        weights, means, rest = from_location_vector(vector, like, frame)
        return self.from_covariances(weights, means, np.exp(rest) / frame.scale[0] ** 2)

    def drift(self, old: Parameters, new: Parameters, n_threads: int) -> tuple[FloatArray, FloatArray]:
        roots = np.repeat(old.precisions_cholesky[:, None], old.means.shape[1], axis=1)
        stretch = old.precisions_cholesky / new.precisions_cholesky
        return whitened_shift(old.means, new.means, roots), ROUNDED_UP * stretch

    def needs_centring(
        self, parameters: Parameters, offset: FloatArray, frame: Frame, limit: float = STATISTICS_LIMIT
    ) -> BoolArray:
        D = offset.shape[1]
        with np.errstate(over="ignore", invalid="ignore"):
            root = parameters.precisions_cholesky / frame.scale[0]
            distance = ((offset * root[:, None]) ** 2).sum(axis=1)
        return worth_centring(D + distance, np.full(distance.shape, float(D)), limit)
