"""Tied covariances: one matrix shared by all components."""

from __future__ import annotations

import numpy as np

from .._typing import BoolArray, FloatArray
from ..frame import Frame
from ..kernels import _linalg
from ..kernels._pass import LINEAR, MATRIX
from ..parameters import Parameters
from ..score_map import ScoreMap
from ..statistics import Statistics
from .base import (
    OFFSET_SHARE,
    STARVED_SHARE,
    STATISTICS_LIMIT,
    Moments,
    constants,
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
    mirrored,
    raised_matrix,
    ratio_norms,
    root_of_precision,
    singular_matrices,
)


class Tied:
    """log N(x) = const + b' z - |U' z|^2 / 2: only the linear part differs between components.

    While all rows' responsibilities sum to 1 the total scatter is constant over iterations; the covariance is
    what the scatter between the means leaves of it.
    """

    name = "tied"
    terms = LINEAR
    moment_shape = MATRIX
    pooled = True
    common_scale = False

    def covariance_shape(self, n_components: int, n_features: int) -> tuple[int, ...]:
        return (n_features, n_features)

    def n_terms(self, n_features: int) -> int:
        return n_features

    def n_parameters(self, n_components: int, n_features: int) -> int:
        return n_features * (n_features + 1) // 2 + n_components * n_features + n_components - 1

    def always_project(self, n_features: int, n_active: float = np.inf) -> bool:
        return False

    def from_covariances(self, weights: FloatArray, means: FloatArray, covariances: FloatArray) -> Parameters:
        root = checked_roots(covariances[None], "the covariance (shared)")[0]
        return Parameters(weights, means, covariances, root)

    def from_precisions(self, weights: FloatArray, means: FloatArray, precisions: FloatArray) -> Parameters:
        root = root_of_precision(precisions[None], "the precision (shared)")[0]
        return Parameters(weights, means, inverse_gram(root), root)

    def precisions(self, precisions_cholesky: FloatArray) -> FloatArray:
        return precisions_cholesky @ precisions_cholesky.T

    def variances(self, parameters: Parameters) -> FloatArray:
        inverse = np.linalg.inv(parameters.precisions_cholesky)
        with np.errstate(over="ignore"):
            variance = (inverse**2).sum(axis=0)
        return np.repeat(variance[None, :], parameters.means.shape[0], axis=0)

    def score_map(
        self, parameters: Parameters, frame: Frame, n_threads: int, n_active: float = np.inf
    ) -> ScoreMap:
        root = parameters.precisions_cholesky / frame.scale[:, None]
        mean = frame.to_frame(parameters.means)
        constant = constants(parameters.weights, self.log_det_roots(parameters), mean.shape[1])
        with np.errstate(over="ignore", invalid="ignore"):
            whitened = mean @ root
            linear = whitened @ root.T
            # What rounding does to a score: to the sum of linear terms, to their coefficients, and through
            # whitened means, of error EPSILON * reach, to products with whitened rows and the offset.
            reach = np.linalg.norm(np.abs(mean) @ np.abs(root), axis=1)
            length = np.linalg.norm(whitened, axis=1)
            transposed = np.ascontiguousarray(root.T)
            return ScoreMap(
                terms=LINEAR,
                coef=np.ascontiguousarray(linear),
                offset=constant - 0.5 * length**2,
                bound=np.abs(linear) + np.abs(whitened) @ np.abs(root.T),
                bound_offset=length * (length + reach),
                root_shape=MATRIX,
                root=transposed,
                centre=parameters.means,
                constant=constant,
                root_is_shared=True,
                project_whole_block=True,
                common_root=transposed,
                common_reach=float(reach.max()),
            )

    def second_about_origin(self, terms: FloatArray, scatter: FloatArray | None) -> FloatArray:
        assert scatter is not None
        return mirrored(scatter)

    def second_about_centres(self, second: FloatArray) -> FloatArray:
        D = int(np.sqrt(second.size) + 0.5)
        return mirrored(second.reshape(D, D))

    def moments(self, statistics: Statistics, reg_covar: float) -> Moments:
        _, weights, means, offset = new_means(statistics)
        scale = statistics.frame.scale
        total = statistics.weight.sum()
        between = self.scatter(statistics.weight, offset)
        covariance = (statistics.second - between) / (total if total > 0 else 1.0)
        covariance /= scale[:, None]
        covariance /= scale
        covariance.flat[:: scale.size + 1] += reg_covar
        return Moments(weights, means, covariance)

    def factorised(
        self, means: FloatArray, covariances: FloatArray, reg_covar: float, n_threads: int
    ) -> tuple[FloatArray, BoolArray]:
        roots = np.empty((1, *covariances.shape))
        failed = np.zeros(1, dtype=np.intc)
        _linalg.precision_roots(covariances[None], roots, failed, 1)
        rounding = rounding_of(means, reg_covar).max(axis=0)
        singular = failed[0] != 0 or singular_matrices(covariances[None], roots, rounding)[0]
        return roots[0], np.full(len(means), singular)

    def scatter(self, weight: FloatArray, offset: FloatArray) -> FloatArray:
        # of a symmetric product in floating point one half is kept, as in pickled statistics
        return mirrored((offset * weight[:, None]).T @ offset)

    def log_det_roots(self, parameters: Parameters) -> FloatArray:
        log_det = np.log(np.diagonal(parameters.precisions_cholesky)).sum()
        return np.full(len(parameters.means), log_det)

    def squares(self, statistics: Statistics, parameters: Parameters) -> float:
        second = statistics.about(parameters.means).second
        precision = self.precisions(parameters.precisions_cholesky / statistics.frame.scale[:, None])
        return float((precision * second).sum())

    def distances(self, parameters: Parameters, point: FloatArray) -> FloatArray:
        whitened = (point - parameters.means) @ parameters.precisions_cholesky
        return np.asarray((whitened**2).sum(axis=1))

    def log_det(self, covariance: FloatArray, n_features: int) -> float:
        return float(np.linalg.slogdet(covariance)[1])

    def traces(self, covariance: FloatArray, parameters: Parameters) -> FloatArray:
        root = parameters.precisions_cholesky
        return np.full(len(parameters.means), ((covariance @ root) * root).sum())

    def second_of(self, parameters: Parameters, scale: FloatArray, reg_covar: float) -> FloatArray:
        covariance = parameters.covariances - reg_covar * np.eye(scale.size)
        return parameters.weights.sum() * covariance * scale[:, None] * scale

    def floored(self, covariances: FloatArray, frame: Frame) -> FloatArray:
        return raised_matrix(covariances, frame)

    def from_variances(self, variances: FloatArray) -> FloatArray:
        return np.diag(variances.mean(axis=0))

    def longest_axis(self, parameters: Parameters, k: int) -> FloatArray:
        return longest_axis_of_matrix(parameters.covariances)

    def pooled_covariance(self, parameters: Parameters) -> FloatArray:
        return parameters.covariances

    def to_vector(self, parameters: Parameters, frame: Frame) -> FloatArray:
        logs = log_cholesky(parameters.covariances[None], frame)
        return np.concatenate([location_vector(parameters, frame), logs.ravel()])

    def from_vector(self, vector: FloatArray, like: Parameters, frame: Frame) -> Parameters:
        weights, means, rest = from_location_vector(vector, like, frame)
        return self.from_covariances(weights, means, from_log_cholesky(rest[None], frame)[0])

    def drift(self, old: Parameters, new: Parameters, n_threads: int) -> tuple[FloatArray, FloatArray]:
        stretch = ratio_norms(old.precisions_cholesky[None], new.precisions_cholesky[None], 1)
        shift = whitened_shift(old.means, new.means, old.precisions_cholesky[None])
        return shift, np.repeat(stretch, shift.size)

    def needs_centring(
        self, parameters: Parameters, offset: FloatArray, frame: Frame, limit: float = STATISTICS_LIMIT
    ) -> BoolArray:
        """All components or none: their second moments are pooled."""
        with np.errstate(over="ignore", invalid="ignore"):
            variance = np.diagonal(parameters.covariances) * frame.scale**2
            root = (parameters.precisions_cholesky / frame.scale[:, None])[None]
            between = parameters.weights @ offset**2
            worth = worth_centring(
                absolute_quadratic(root, np.sqrt(variance + between)[None], limit),
                absolute_quadratic(root, np.sqrt(variance)[None], limit),
                limit,
            )
            # a light component far out hardly shows in the scatter between means, yet its mean loses as many
            # digits as any other that far out
            precision = (root[0] ** 2).sum(axis=1)
            spread = variance @ precision
            furthest = (offset[parameters.weights >= STARVED_SHARE] ** 2 @ precision).max(initial=0.0)
            worth |= worth_centring(np.sqrt(spread + furthest), np.sqrt(spread), OFFSET_SHARE * limit)
        return np.repeat(worth, offset.shape[0])
