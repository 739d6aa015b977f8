"""What a covariance structure is: the contract, and what the four share."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np

from .._typing import BoolArray, FloatArray
from ..frame import Frame
from ..parameters import Parameters
from ..score_map import EPSILON, HALF_LOG_2PI, LIMIT, ScoreMap
from ..statistics import Statistics

# Below this share of the total weight a component has lost its rows: its moments are rounding errors.
STARVED_SHARE = 10 * float(np.finfo(np.float64).eps)
# A standard deviation this small beside a component's mean is what rounding leaves of equal rows, where
# nothing is added to variances. Clusters 1e8 standard deviations apart are legal and stay far above it.
SMALLEST_SPREAD = 4 * EPSILON
# Factor on bounds that must not be too small for a rounding error.
ROUNDED_UP = 1.0 + 2.0**-20
# Variance that a repaired component keeps in any direction, as a share of the data's variance per feature ...
FLOOR = 1e-12
# ... but never less than this, so that precisions are finite also where correlations are raised to FLOOR.
SMALLEST_FLOOR = 1e-290
# As score_map.LIMIT, for moments: relative errors of a whitened covariance stay below 1e-10 or so. Tighter
# than for scores: it is asked once per component and pass, and errors of moments stay in the parameters.
STATISTICS_LIMIT: float = LIMIT / 10
# The share of STATISTICS_LIMIT for the whitened offset of a mean from where its moments were taken: rounding
# moves the mean by up to four times EPSILON times that. A component with its own covariance is centred long
# before, where the offset's square passes the limit; in a pooled covariance a light component hardly shows.
OFFSET_SHARE = 0.1
# Centring again is worth a pass where it shrinks the terms that are subtracted at least this much.
WORTH_CENTRING = 4.0


class Estimate(NamedTuple):
    """Outcome of an M-step: parameters, and which components cannot be used as they are."""

    parameters: Parameters
    starved: BoolArray  # (K,) bool: no weight left (components whose weight was zero before are legal)
    singular: BoolArray  # (K,) bool: covariance not positive definite

    @property
    def degenerate(self) -> BoolArray:
        """Starved or singular, (K,)."""
        return self.starved | self.singular


class Moments(NamedTuple):
    """Weights, means and covariances of the rows of each component, as the statistics have them.

    Of components without rows, the mean is where moments were taken and the covariance what is added to all.
    """

    weights: FloatArray
    means: FloatArray
    covariances: FloatArray


class Structure(Protocol):
    """One covariance structure, batched over all components. Knows mathematics, never data."""

    name: str
    terms: int  # features that score and are accumulated (score_map.py)
    moment_shape: int  # shape of second moments about centres
    pooled: bool  # one second moment for all components
    common_scale: bool  # all features share one scale of the frame

    def covariance_shape(self, n_components: int, n_features: int) -> tuple[int, ...]:
        """Shape of covariances, precisions and their factors."""

    def n_terms(self, n_features: int) -> int:
        """Length of the feature vector, without its leading 1."""

    def n_parameters(self, n_components: int, n_features: int) -> int:
        """Free parameters of a mixture, as scikit-learn counts them."""

    def always_project(self, n_features: int, n_active: float = np.inf) -> bool:
        """Whether projected scores beat the expansion in features at this size.

        n_active : components scored per block of rows; all where nothing is pruned
        """

    def from_covariances(self, weights: FloatArray, means: FloatArray, covariances: FloatArray) -> Parameters:
        """Parameters with these covariances; ValueError names a component whose covariance cannot be one."""

    def from_precisions(self, weights: FloatArray, means: FloatArray, precisions: FloatArray) -> Parameters:
        """Parameters with these precisions; ValueError names a component whose precision cannot be one."""

    def precisions(self, precisions_cholesky: FloatArray) -> FloatArray:
        """Precisions from their factors."""

    def variances(self, parameters: Parameters) -> FloatArray:
        """Diagonals of the covariances, (K, D), whatever their shape."""

    def score_map(
        self, parameters: Parameters, frame: Frame, n_threads: int, n_active: float = np.inf
    ) -> ScoreMap:
        """What the kernels need to score rows under these parameters."""

    def second_about_origin(self, terms: FloatArray, scatter: FloatArray | None) -> FloatArray:
        """`Statistics.second` from the summed features; where moments are pooled, from the total scatter."""

    def second_about_centres(self, second: FloatArray) -> FloatArray:
        """`Statistics.second` from moments about centres as the kernels leave them."""

    def moments(self, statistics: Statistics, reg_covar: float) -> Moments:
        """Moments of the rows of each component, reg_covar added to variances."""

    def factorised(
        self, means: FloatArray, covariances: FloatArray, reg_covar: float, n_threads: int
    ) -> tuple[FloatArray, BoolArray]:
        """Factors of the precisions, and which components have a covariance that is singular, (K,).

        Where reg_covar is 0, so are those that rounding may leave of equal rows at the means.
        """

    def scatter(self, weight: FloatArray, offset: FloatArray) -> FloatArray:
        """weight_k offset_k offset_k', (K,) and (K, D), in the shape of covariances; if pooled, their sum."""

    def log_det_roots(self, parameters: Parameters) -> FloatArray:
        """Logarithms of the determinants of the factors, (K,): half those of the precisions."""

    def squares(self, statistics: Statistics, parameters: Parameters) -> float:
        """Squared Mahalanobis distances of all rows from all means, by weight and responsibility."""

    def distances(self, parameters: Parameters, point: FloatArray) -> FloatArray:
        """Squared Mahalanobis distance of a point (D,) from each component, (K,)."""

    def log_det(self, covariance: FloatArray, n_features: int) -> float:
        """Logarithm of the determinant of one component's covariance."""

    def traces(self, covariance: FloatArray, parameters: Parameters) -> FloatArray:
        """Trace of each precision times one covariance, (K,)."""

    def second_of(self, parameters: Parameters, scale: FloatArray, reg_covar: float) -> FloatArray:
        """`Statistics.second` about the means, of which `estimate` makes these covariances."""

    def floored(self, covariances: FloatArray, frame: Frame) -> FloatArray:
        """Covariances raised to FLOOR of the data's variances and to correlations of condition 1 / FLOOR."""

    def from_variances(self, variances: FloatArray) -> FloatArray:
        """Covariances with these variances (m, D)."""

    def longest_axis(self, parameters: Parameters, k: int) -> FloatArray:
        """Standard deviation times direction of a component's longest axis, (D,)."""

    def pooled_covariance(self, parameters: Parameters) -> FloatArray:
        """Mean of the components' covariances by weight, (D, D)."""

    def to_vector(self, parameters: Parameters, frame: Frame) -> FloatArray:
        """Log-weights, means and log-covariances in the frame, one after the other; weights must not be 0."""

    def from_vector(self, vector: FloatArray, like: Parameters, frame: Frame) -> Parameters:
        """Parameters of such a vector, of the shape of `like`; ValueError where a covariance is singular."""

    def drift(self, old: Parameters, new: Parameters, n_threads: int) -> tuple[FloatArray, FloatArray]:
        """Bounds on |L^-1 (mean' - mean)| and |L^-1 L'|_2, (K,) each: how far distances can have moved."""

    def needs_centring(
        self, parameters: Parameters, offset: FloatArray, frame: Frame, limit: float = STATISTICS_LIMIT
    ) -> BoolArray:
        """Components whose moments, taken `offset` (frame units) off their means, lost too many digits.

        limit : on the sum of absolute terms of a whitened covariance, whose rounding errors are a share of it
        """


def location_vector(parameters: Parameters, frame: Frame) -> FloatArray:
    """Log-weights and means in the frame."""
    return np.concatenate([np.log(parameters.weights), frame.to_frame(parameters.means).ravel()])


def from_location_vector(
    vector: FloatArray, like: Parameters, frame: Frame
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Weights and means of a vector, and what follows them in it."""
    K, D = like.means.shape
    weights = np.exp(vector[:K] - vector[:K].max())
    means = frame.shift + vector[K : K + K * D].reshape(K, D) / frame.scale
    return weights / weights.sum(), means, vector[K + K * D :]


def maximum_likelihood(
    structure: Structure, statistics: Statistics, reg_covar: float, n_threads: int
) -> Estimate:
    """M-step of maximum likelihood."""
    weights, means, covariances = structure.moments(statistics, reg_covar)
    roots, singular = structure.factorised(means, covariances, reg_covar, n_threads)
    return Estimate(Parameters(weights, means, covariances, roots), starved(statistics), singular)


def log_weights(weights: FloatArray) -> FloatArray:
    """log of the weights; -inf for 0."""
    with np.errstate(divide="ignore"):
        return np.log(weights)


def constants(weights: FloatArray, log_det_root: FloatArray | float, n_features: int) -> FloatArray:
    """Constant of the score: log weight + log sqrt(det precision) - D/2 log 2 pi."""
    return log_weights(weights) + log_det_root - n_features * HALF_LOG_2PI


def new_means(statistics: Statistics) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """n_k with 1 for 0; weights; means (user units); the means' offsets from the references (frame units)."""
    weight = statistics.weight
    safe = np.where(weight > 0, weight, 1.0)
    offset = statistics.first / safe[:, None]
    means = statistics.reference + offset / statistics.frame.scale
    total = weight.sum()
    weights = weight / (total if total > 0 else 1.0)
    return safe, weights, means, offset


def means_to_centre(estimate: Estimate, statistics: Statistics, frame: Frame) -> tuple[FloatArray, BoolArray]:
    """Points to take moments about anew, (K, D), and components for which they are no means yet, (K,).

    Rounding leaves an error of EPSILON times a mean's distance from its reference. Where that is more than
    the standard deviation of all rows, the frame's origin is nearer to the rows than such a mean.
    """
    means = estimate.parameters.means
    with np.errstate(over="ignore"):
        lost = EPSILON * np.abs(means - statistics.reference) * frame.scale > 1.0
    return np.where(lost, frame.shift, means), np.asarray(lost.any(axis=1))


def starved(statistics: Statistics) -> BoolArray:
    """Components with less than 10 eps of all the weight."""
    return ~(statistics.weight >= STARVED_SHARE * max(statistics.weight.sum(), np.finfo(float).tiny))


def worth_centring(
    with_offset: FloatArray, without_offset: FloatArray, limit: float = STATISTICS_LIMIT
) -> BoolArray:
    """Where subtracting the offset cost more digits than the error budget, and centring saves them."""
    return ~(with_offset <= limit) & ~(without_offset * WORTH_CENTRING > with_offset)


def far_off(offset: FloatArray, variances: FloatArray) -> BoolArray:
    """Components that may be worth centring: elsewhere that shrinks no term by more than WORTH_CENTRING."""
    near: BoolArray = offset**2 <= (WORTH_CENTRING - 1.0) * variances
    return np.asarray(~near.all(axis=1))


def raised_variances(variances: FloatArray, frame_scale: FloatArray | float) -> FloatArray:
    """Variances of at least FLOOR of the data's; what is no number becomes the floor."""
    usable = np.where(np.isfinite(variances), variances, 0.0)
    return np.maximum(usable, np.maximum(FLOOR / frame_scale**2, SMALLEST_FLOOR))


def rounding_of(means: FloatArray, reg_covar: float) -> FloatArray:
    """Standard deviations that equal rows at the means may get, (K, D); 0 where reg_covar hides them."""
    return np.abs(means) * (SMALLEST_SPREAD if reg_covar == 0 else 0.0)


def usable_variances(variances: FloatArray, rounding: FloatArray) -> BoolArray:
    """Which variances are more than what rounding leaves of equal rows, and finite like their reciprocals."""
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        apart = np.sqrt(variances) > rounding
        return apart & np.isfinite(variances) & np.isfinite(1.0 / variances)


def check_positive(values: FloatArray, what: str, shape_name: str) -> None:
    """Raise ValueError naming the first component with a variance or precision not positive and finite.

    So must be the reciprocals, which overflow below 6e-309.
    """
    with np.errstate(over="ignore", divide="ignore"):
        bad = ~(np.isfinite(values) & (values > 0) & np.isfinite(1.0 / values))
    if bad.any():
        k = int(np.argwhere(bad)[0][0])
        raise ValueError(
            f"{what} of component {k} must be positive and finite, and so must be their reciprocals "
            f"({shape_name}); got {values[k]!r}"
        )


def whitened_shift(old_mean: FloatArray, new_mean: FloatArray, old_roots: FloatArray) -> FloatArray:
    """A bound on |U_k' (new mean - old mean)|, (K,), for diagonal U (K, D) or triangular ones (., D, D)."""
    move = new_mean - old_mean
    if old_roots.ndim == 2:
        return ROUNDED_UP * np.linalg.norm(move * old_roots, axis=1)
    whitened = np.matmul(move[:, None, :], old_roots)[:, 0, :]
    rounding = np.matmul(np.abs(move)[:, None, :], np.abs(old_roots))[:, 0, :] * (move.shape[1] * EPSILON)
    return ROUNDED_UP * np.linalg.norm(np.abs(whitened) + rounding, axis=1)
