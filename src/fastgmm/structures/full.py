"""Full covariances: a symmetric matrix per component."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from .._typing import BoolArray, FloatArray, IndexArray
from ..frame import Frame
from ..kernels import _linalg
from ..kernels._pass import FULL, MATRIX, NO_TERMS
from ..parameters import Parameters
from ..score_map import ScoreMap
from ..statistics import Statistics
from .base import (
    STATISTICS_LIMIT,
    Moments,
    constants,
    far_off,
    from_location_vector,
    location_vector,
    new_means,
    rounding_of,
    whitened_shift,
    worth_centring,
)
from .matrices import (
    absolute_quadratic,
    checked_roots,
    from_log_cholesky,
    inverse_gram,
    log_cholesky,
    longest_axis_of_matrix,
    raised_matrix,
    ratio_norms,
    root_of_precision,
    singular_matrices,
)

# From this many features on the features of a block outgrow the caches; the projected kernel has none, is
# exact, and reaches nine tenths of their speed at 64: use it always.
PROJECT_FROM = 80
# With fewer active components per block than one for so many features, building the features of the block
# costs more than it saves.
PROJECT_FEW = 8


@lru_cache(maxsize=8)
def pair_index(n_features: int) -> IndexArray:
    """(D, D) place of z_i z_j among the quadratic terms, which hold i <= j row by row."""
    index = np.zeros((n_features, n_features), dtype=np.intp)
    upper = np.triu_indices(n_features)
    index[upper] = np.arange(upper[0].size)
    return np.maximum(index, index.T)


class Full:
    """log N(x) = const - |U' (x - mean)|^2 / 2, or as a quadratic polynomial in z."""

    name = "full"
    terms = FULL
    moment_shape = MATRIX
    pooled = False
    common_scale = False

    def covariance_shape(self, n_components: int, n_features: int) -> tuple[int, ...]:
        return (n_components, n_features, n_features)

    def n_terms(self, n_features: int) -> int:
        return n_features + n_features * (n_features + 1) // 2

    def n_parameters(self, n_components: int, n_features: int) -> int:
        covariance = n_components * n_features * (n_features + 1) // 2
        return covariance + n_components * n_features + n_components - 1

    def always_project(self, n_features: int, n_active: float = np.inf) -> bool:
        return n_features >= PROJECT_FROM or n_active * PROJECT_FEW < n_features

    def from_covariances(self, weights: FloatArray, means: FloatArray, covariances: FloatArray) -> Parameters:
        return Parameters(weights, means, covariances, checked_roots(covariances, "the covariance"))

    def from_precisions(self, weights: FloatArray, means: FloatArray, precisions: FloatArray) -> Parameters:
        roots = root_of_precision(precisions, "the precision")
        return Parameters(weights, means, inverse_gram(roots), roots)

    def precisions(self, precisions_cholesky: FloatArray) -> FloatArray:
        return precisions_cholesky @ np.swapaxes(precisions_cholesky, 1, 2)

    def variances(self, parameters: Parameters) -> FloatArray:
        inverse = np.linalg.inv(parameters.precisions_cholesky)
        with np.errstate(over="ignore"):
            return (inverse**2).sum(axis=1)

    def score_map(
        self, parameters: Parameters, frame: Frame, n_threads: int, n_active: float = np.inf
    ) -> ScoreMap:
        roots = parameters.precisions_cholesky
        K, D = parameters.means.shape
        constant = constants(parameters.weights, self.log_det_roots(parameters), D)
        common: dict[str, Any] = {
            "root_shape": MATRIX,
            "centre": parameters.means,
            "constant": constant,
        }
        if self.always_project(D, n_active):
            frame_roots = np.ascontiguousarray(np.swapaxes(roots / frame.scale[:, None], 1, 2))
            return ScoreMap(
                terms=NO_TERMS, coef=None, offset=None, bound=None, bound_offset=None,
                root=frame_roots, always_project=True, **common,
            )  # fmt: skip
        P = self.n_terms(D)
        coef, bound = np.empty((K, P)), np.empty((K, P))
        offset, bound_offset = np.empty(K), np.empty(K)
        frame_roots = np.empty((K, D, D))
        means = np.ascontiguousarray(frame.to_frame(parameters.means))
        _linalg.natural_parameters(
            roots, means, frame.scale, constant, coef, offset, bound, bound_offset, frame_roots, n_threads
        )
        return ScoreMap(
            terms=FULL, coef=coef, offset=offset, bound=bound, bound_offset=bound_offset,
            root=frame_roots, **common,
        )  # fmt: skip

    def second_about_origin(self, terms: FloatArray, scatter: FloatArray | None) -> FloatArray:
        D = int((np.sqrt(9 + 8 * terms.shape[1]) - 3) / 2 + 0.5)
        return np.take(terms[:, D:], pair_index(D), axis=1)

    def second_about_centres(self, second: FloatArray) -> FloatArray:
        D = int(np.sqrt(second.shape[1]) + 0.5)
        square = second.reshape(-1, D, D)
        _linalg.mirror(square)
        return square

    def moments(self, statistics: Statistics, reg_covar: float) -> Moments:
        safe, weights, means, offset = new_means(statistics)
        scale = statistics.frame.scale
        covariances = statistics.second / safe[:, None, None]
        covariances -= offset[:, :, None] * offset[:, None, :]
        covariances /= scale[:, None]
        covariances /= scale
        K, D = means.shape
        covariances.reshape(K, -1)[:, :: D + 1] += reg_covar
        return Moments(weights, means, covariances)

    def factorised(
        self, means: FloatArray, covariances: FloatArray, reg_covar: float, n_threads: int
    ) -> tuple[FloatArray, BoolArray]:
        roots = np.empty(covariances.shape)
        failed = np.zeros(len(means), dtype=np.intc)
        _linalg.precision_roots(covariances, roots, failed, n_threads)
        singular = singular_matrices(covariances, roots, rounding_of(means, reg_covar)) | (failed != 0)
        return roots, singular

    def scatter(self, weight: FloatArray, offset: FloatArray) -> FloatArray:
        return weight[:, None, None] * (offset[:, :, None] * offset[:, None, :])

    def log_det_roots(self, parameters: Parameters) -> FloatArray:
        return np.asarray(np.log(np.einsum("kii->ki", parameters.precisions_cholesky)).sum(axis=1))

    def squares(self, statistics: Statistics, parameters: Parameters) -> float:
        second = statistics.about(parameters.means).second
        precisions = self.precisions(parameters.precisions_cholesky / statistics.frame.scale[:, None])
        return float((precisions * second).sum())

    def distances(self, parameters: Parameters, point: FloatArray) -> FloatArray:
        away = point - parameters.means
        whitened = np.matmul(away[:, None, :], parameters.precisions_cholesky)[:, 0]
        return np.asarray((whitened**2).sum(axis=1))

    def log_det(self, covariance: FloatArray, n_features: int) -> float:
        return float(np.linalg.slogdet(covariance)[1])

    def traces(self, covariance: FloatArray, parameters: Parameters) -> FloatArray:
        roots = parameters.precisions_cholesky
        return np.asarray((np.matmul(covariance, roots) * roots).sum(axis=(1, 2)))

    def second_of(self, parameters: Parameters, scale: FloatArray, reg_covar: float) -> FloatArray:
        covariances = parameters.covariances - reg_covar * np.eye(scale.size)
        return parameters.weights[:, None, None] * covariances * scale[:, None] * scale

    def floored(self, covariances: FloatArray, frame: Frame) -> FloatArray:
        return np.array([raised_matrix(covariance, frame) for covariance in covariances])

    def from_variances(self, variances: FloatArray) -> FloatArray:
        return variances[:, :, None] * np.eye(variances.shape[1])

    def longest_axis(self, parameters: Parameters, k: int) -> FloatArray:
        return longest_axis_of_matrix(parameters.covariances[k])

    def pooled_covariance(self, parameters: Parameters) -> FloatArray:
        return np.tensordot(parameters.weights, parameters.covariances, axes=1)

    def to_vector(self, parameters: Parameters, frame: Frame) -> FloatArray:
        logs = log_cholesky(parameters.covariances, frame)
        return np.concatenate([location_vector(parameters, frame), logs.ravel()])

    def from_vector(self, vector: FloatArray, like: Parameters, frame: Frame) -> Parameters:
        weights, means, rest = from_location_vector(vector, like, frame)
        logs = rest.reshape(weights.size, -1)
        return self.from_covariances(weights, means, from_log_cholesky(logs, frame))

    def drift(self, old: Parameters, new: Parameters, n_threads: int) -> tuple[FloatArray, FloatArray]:
        stretch = ratio_norms(old.precisions_cholesky, new.precisions_cholesky, n_threads)
        return whitened_shift(old.means, new.means, old.precisions_cholesky), stretch

    def needs_centring(
        self, parameters: Parameters, offset: FloatArray, frame: Frame, limit: float = STATISTICS_LIMIT
    ) -> BoolArray:
        needs = np.zeros(offset.shape[0], dtype=bool)
        with np.errstate(over="ignore", invalid="ignore"):
            variances = np.einsum("kii->ki", parameters.covariances) * frame.scale**2
            far = far_off(offset, variances)
            if not far.any():
                return needs
            offset, variances = offset[far], variances[far]
            roots = parameters.precisions_cholesky[far] / frame.scale[:, None]
            with_offset = absolute_quadratic(roots, np.sqrt(variances + offset**2), limit)
            if not (with_offset <= limit).all():
                without = absolute_quadratic(roots, np.sqrt(variances), limit)
                needs[far] = worth_centring(with_offset, without, limit)
        return needs
