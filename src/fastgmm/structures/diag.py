"""Diagonal covariances: a variance per component and feature."""

from __future__ import annotations

import numpy as np

from .._typing import BoolArray, FloatArray
from ..frame import Frame
from ..kernels._pass import DIAGONAL, VECTOR
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


class Diag:
    """log N(x) = const - sum_i p_i (z_i - m_i)^2 / 2 with p the precisions in the frame."""

    name = "diag"
    terms = DIAGONAL
    moment_shape = VECTOR
    pooled = False
    common_scale = False

    def covariance_shape(self, n_components: int, n_features: int) -> tuple[int, ...]:
        return (n_components, n_features)

    def n_terms(self, n_features: int) -> int:
        return 2 * n_features

    def n_parameters(self, n_components: int, n_features: int) -> int:
        return n_components * n_features + n_components * n_features + n_components - 1

    def always_project(self, n_features: int, n_active: float = np.inf) -> bool:
        return False

    def from_covariances(self, weights: FloatArray, means: FloatArray, covariances: FloatArray) -> Parameters:
        check_positive(covariances, "covariances", "one variance per feature")
        return Parameters(weights, means, covariances, 1.0 / np.sqrt(covariances))

    def from_precisions(self, weights: FloatArray, means: FloatArray, precisions: FloatArray) -> Parameters:
        check_positive(precisions, "precisions", "one precision per feature")
        return Parameters(weights, means, 1.0 / precisions, np.sqrt(precisions))

    def precisions(self, precisions_cholesky: FloatArray) -> FloatArray:
        return precisions_cholesky**2

    def variances(self, parameters: Parameters) -> FloatArray:
        with np.errstate(over="ignore", divide="ignore"):
            return 1.0 / parameters.precisions_cholesky**2

    def score_map(
        self, parameters: Parameters, frame: Frame, n_threads: int, n_active: float = np.inf
    ) -> ScoreMap:
        root = parameters.precisions_cholesky / frame.scale
        mean = frame.to_frame(parameters.means)
        constant = constants(parameters.weights, self.log_det_roots(parameters), mean.shape[1])
        with np.errstate(over="ignore", invalid="ignore"):
            precision = root * root
            linear = precision * mean
            absolute = np.abs(linear)
            quadratic = (linear * mean).sum(axis=1)
            return ScoreMap(
                terms=DIAGONAL,
                coef=np.concatenate((linear, -0.5 * precision), axis=1),
                offset=constant - 0.5 * quadratic,
                bound=np.concatenate((2.0 * absolute, precision), axis=1),
                bound_offset=quadratic,
                root_shape=VECTOR,
                root=root,
                centre=parameters.means,
                constant=constant,
            )

    def second_about_origin(self, terms: FloatArray, scatter: FloatArray | None) -> FloatArray:
        return terms[:, terms.shape[1] // 2 :]

    def second_about_centres(self, second: FloatArray) -> FloatArray:
        return second

    def moments(self, statistics: Statistics, reg_covar: float) -> Moments:
        safe, weights, means, offset = new_means(statistics)
        variance = statistics.second / safe[:, None] - offset * offset
        return Moments(weights, means, variance / statistics.frame.scale**2 + reg_covar)

    def factorised(
        self, means: FloatArray, covariances: FloatArray, reg_covar: float, n_threads: int
    ) -> tuple[FloatArray, BoolArray]:
        singular = ~np.all(usable_variances(covariances, rounding_of(means, reg_covar)), axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            roots = 1.0 / np.sqrt(covariances)
        return roots, singular

    def scatter(self, weight: FloatArray, offset: FloatArray) -> FloatArray:
        return weight[:, None] * offset**2

    def log_det_roots(self, parameters: Parameters) -> FloatArray:
        return np.asarray(np.log(parameters.precisions_cholesky).sum(axis=1))

    def squares(self, statistics: Statistics, parameters: Parameters) -> float:
        second = statistics.about(parameters.means).second
        return float(((parameters.precisions_cholesky / statistics.frame.scale) ** 2 * second).sum())

    def distances(self, parameters: Parameters, point: FloatArray) -> FloatArray:
        return np.asarray((((point - parameters.means) * parameters.precisions_cholesky) ** 2).sum(axis=1))

    def log_det(self, covariance: FloatArray, n_features: int) -> float:
        return float(np.log(covariance).sum())

    def traces(self, covariance: FloatArray, parameters: Parameters) -> FloatArray:
        return np.asarray(parameters.precisions_cholesky**2 @ covariance)

    def second_of(self, parameters: Parameters, scale: FloatArray, reg_covar: float) -> FloatArray:
        return parameters.weights[:, None] * (parameters.covariances - reg_covar) * scale**2

    def floored(self, covariances: FloatArray, frame: Frame) -> FloatArray:
        return raised_variances(covariances, frame.scale)

    def from_variances(self, variances: FloatArray) -> FloatArray:
        return variances

    def longest_axis(self, parameters: Parameters, k: int) -> FloatArray:
        axis = np.zeros(parameters.means.shape[1])
        i = int(np.argmax(parameters.covariances[k]))
        axis[i] = np.sqrt(parameters.covariances[k, i])
        return axis

    def pooled_covariance(self, parameters: Parameters) -> FloatArray:
        return np.diag(parameters.weights @ parameters.covariances)

    def to_vector(self, parameters: Parameters, frame: Frame) -> FloatArray:
        logs = np.log(parameters.covariances * frame.scale**2)
        return np.concatenate([location_vector(parameters, frame), logs.ravel()])

    def from_vector(self, vector: FloatArray, like: Parameters, frame: Frame) -> Parameters:
        weights, means, rest = from_location_vector(vector, like, frame)
        covariances = np.exp(rest).reshape(means.shape) / frame.scale**2
        return self.from_covariances(weights, means, covariances)

    def drift(self, old: Parameters, new: Parameters, n_threads: int) -> tuple[FloatArray, FloatArray]:
        stretch = (old.precisions_cholesky / new.precisions_cholesky).max(axis=1)
        return whitened_shift(old.means, new.means, old.precisions_cholesky), ROUNDED_UP * stretch

    def needs_centring(
        self, parameters: Parameters, offset: FloatArray, frame: Frame, limit: float = STATISTICS_LIMIT
    ) -> BoolArray:
        with np.errstate(over="ignore", invalid="ignore"):
            relative = np.abs(offset) * (parameters.precisions_cholesky / frame.scale)
            return worth_centring((1.0 + relative**2).max(axis=1), np.ones(offset.shape[0]), limit)
