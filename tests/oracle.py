"""Slow, obvious reference for Gaussian mixtures, in NumPy's ``longdouble``.

Everything is evaluated from the parameters as they are stored (``means_``, ``precisions_cholesky_`` and
``weights_``): at condition 1e10 a reference that started from ``covariances_`` would itself be off by 4e-7.

On x86-64 ``longdouble`` has a 64-bit mantissa (eps 1.1e-19), so the reference is 2000 times finer than what
it judges. Where ``longdouble`` is plain double precision (MSVC, Apple silicon) `EXTENDED` is False: the
reference is still the obvious formula, good for ordinary data, and the tests that need the additional digits
are skipped.

Nothing here is fast, clever or shared with the package.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

REAL = np.longdouble
EXTENDED = np.finfo(REAL).eps < 1e-18
LOG_2PI = REAL("1.83787706640934548356065947281123527972279")
COVARIANCE_TYPES = ("full", "tied", "diag", "spherical")


class Model(NamedTuple):
    """Parameters of a mixture in `REAL`, with the array shapes of scikit-learn."""

    covariance_type: str
    weights: np.ndarray
    means: np.ndarray
    covariances: np.ndarray
    precisions_cholesky: np.ndarray

    @property
    def n_components(self) -> int:
        return self.means.shape[0]

    @property
    def n_features(self) -> int:
        return self.means.shape[1]


class Statistics(NamedTuple):
    """Weighted moments per component: weight, mean, and scatter about that mean (K, D, D)."""

    weights: np.ndarray
    means: np.ndarray
    scatters: np.ndarray


# -- models ----------------------------------------------------------------------------------------


def real(array) -> np.ndarray:
    return np.asarray(array, dtype=REAL)


def cholesky(matrix) -> np.ndarray:
    """Lower triangular L with L L' = matrix; ValueError where the matrix is not positive definite."""
    rest = real(matrix).copy()
    lower = np.zeros_like(rest)
    for j in range(rest.shape[0]):
        if not rest[j, j] > 0:
            raise ValueError("matrix is not positive definite")
        lower[j:, j] = rest[j:, j] / np.sqrt(rest[j, j])
        rest[j:, j:] -= np.outer(lower[j:, j], lower[j:, j])
    return lower


def inverse_of_lower(lower) -> np.ndarray:
    inverse = np.zeros_like(lower)
    for i in range(lower.shape[0]):
        inverse[i, : i + 1] = -(lower[i, :i] @ inverse[:i, : i + 1]) / lower[i, i]
        inverse[i, i] = 1 / lower[i, i]
    return inverse


def precisions_cholesky(covariances, covariance_type: str) -> np.ndarray:
    """Upper triangular U with U U' = precision (full, tied); 1 / standard deviation (diag, spherical)."""
    covariances = real(covariances)
    if covariance_type == "full":
        return np.stack([inverse_of_lower(cholesky(c)).T for c in covariances])
    if covariance_type == "tied":
        return inverse_of_lower(cholesky(covariances)).T
    if not np.all(covariances > 0):
        raise ValueError("variances must be positive")
    return 1 / np.sqrt(covariances)


def make_model(covariance_type: str, weights, means, covariances) -> Model:
    """A model from its covariances, factorised here."""
    factor = precisions_cholesky(covariances, covariance_type)
    return Model(covariance_type, real(weights), real(means), real(covariances), factor)


def stored_model(covariance_type: str, parameters) -> Model:
    """The model that stored parameters stand for: their ``precisions_cholesky`` are taken as they are."""
    weights, means, covariances, factor = (real(a) for a in parameters)
    return Model(covariance_type, weights, means, covariances, factor)


def fitted_model(estimator) -> Model:
    """The model that a fitted estimator stores, ours or scikit-learn's."""
    e = estimator
    return stored_model(e.covariance_type, (e.weights_, e.means_, e.covariances_, e.precisions_cholesky_))


def factor(model: Model, k: int) -> np.ndarray:
    """U of component k as a matrix, whatever the covariance type."""
    if model.covariance_type == "full":
        return model.precisions_cholesky[k]
    if model.covariance_type == "tied":
        return model.precisions_cholesky
    if model.covariance_type == "diag":
        return np.diag(model.precisions_cholesky[k])
    return np.diag(np.full(model.n_features, model.precisions_cholesky[k]))


def covariance_matrix(covariance_type: str, covariances, k: int, n_features: int) -> np.ndarray:
    """Covariance of component k as a matrix, whatever the covariance type."""
    covariances = real(covariances)
    if covariance_type == "full":
        return covariances[k]
    if covariance_type == "tied":
        return covariances
    if covariance_type == "diag":
        return np.diag(covariances[k])
    return np.diag(np.full(n_features, covariances[k]))


def n_parameters(covariance_type: str, n_components: int, n_features: int) -> int:
    """Free parameters, counted by hand: weights that sum to one, means, distinct covariance entries."""
    covariance = {
        "full": n_components * n_features * (n_features + 1) // 2,
        "tied": n_features * (n_features + 1) // 2,
        "diag": n_components * n_features,
        "spherical": n_components,
    }[covariance_type]
    return n_components - 1 + n_components * n_features + covariance


# -- rows ------------------------------------------------------------------------------------------


def log_prob_components(X, model: Model) -> np.ndarray:
    """log N(x | k), without the weight: (N, K)."""
    X = real(X)
    n_features = X.shape[1]
    out = np.empty((X.shape[0], model.n_components), dtype=REAL)
    for k in range(model.n_components):
        difference = X - model.means[k]
        if model.covariance_type in ("full", "tied"):
            upper = factor(model, k)
            y = difference @ upper
            log_det = np.log(np.diag(upper)).sum()
        else:
            scale = np.broadcast_to(model.precisions_cholesky[k], (n_features,))
            y = difference * scale
            log_det = np.log(scale).sum()
        out[:, k] = log_det - (n_features * LOG_2PI + (y * y).sum(axis=1)) / 2
    return out


def log_joint(X, model: Model) -> np.ndarray:
    """log (weight_k N(x | k)): (N, K)."""
    with np.errstate(divide="ignore"):
        log_weights = np.log(model.weights)
    return log_prob_components(X, model) + log_weights


def log_density(X, model: Model) -> np.ndarray:
    """log p(x): (N,)."""
    joint = log_joint(X, model)
    top = joint.max(axis=1)
    return top + np.log(np.exp(joint - top[:, None]).sum(axis=1))


def responsibilities(X, model: Model) -> np.ndarray:
    """p(k | x): (N, K)."""
    joint = log_joint(X, model)
    share = np.exp(joint - joint.max(axis=1)[:, None])
    return share / share.sum(axis=1)[:, None]


def row_weights(X, sample_weight=None) -> np.ndarray:
    return np.ones(len(X), dtype=REAL) if sample_weight is None else real(sample_weight)


def log_likelihood(X, model: Model, sample_weight=None) -> REAL:
    """sum_n w_n log p(x_n)."""
    return (row_weights(X, sample_weight) * log_density(X, model)).sum()


def lower_bound(X, model: Model, sample_weight=None) -> REAL:
    """Mean log-likelihood: what ``lower_bound_`` holds, one M-step earlier."""
    return log_likelihood(X, model, sample_weight) / row_weights(X, sample_weight).sum()


def log_max_responsibility(X, model: Model, sample_weight=None) -> REAL:
    """sum_n w_n log max_k r_nk."""
    return (row_weights(X, sample_weight) * np.log(responsibilities(X, model).max(axis=1))).sum()


def bic(X, model: Model, sample_weight=None) -> REAL:
    total = row_weights(X, sample_weight).sum()
    count = n_parameters(model.covariance_type, model.n_components, model.n_features)
    return count * np.log(total) - 2 * log_likelihood(X, model, sample_weight)


def aic(X, model: Model, sample_weight=None) -> REAL:
    count = n_parameters(model.covariance_type, model.n_components, model.n_features)
    return 2 * REAL(count) - 2 * log_likelihood(X, model, sample_weight)


def icl(X, model: Model, sample_weight=None) -> REAL:
    return bic(X, model, sample_weight) - 2 * log_max_responsibility(X, model, sample_weight)


# -- statistics and M-step -------------------------------------------------------------------------


def component_moments(X, share, k: int):
    """Weight, mean and the rows' differences from that mean, for component k."""
    weight = share[:, k].sum()
    mean = (share[:, k, None] * X).sum(axis=0) / weight
    # Once more about the first mean: what rounding left in it goes away.
    mean = mean + (share[:, k, None] * (X - mean)).sum(axis=0) / weight
    return weight, mean, X - mean


def statistics(X, resp, sample_weight=None) -> Statistics:
    """Two passes over the rows: first the means, then the scatters about them."""
    X, share = real(X), real(resp) * row_weights(X, sample_weight)[:, None]
    weights, means, scatters = [], [], []
    for k in range(share.shape[1]):
        weight, mean, difference = component_moments(X, share, k)
        weights.append(weight)
        means.append(mean)
        scatters.append((share[:, k, None] * difference).T @ difference)
    return Statistics(np.array(weights), np.array(means), np.array(scatters))


def m_step(X, resp, covariance_type: str, reg_covar=0.0, sample_weight=None) -> Model:
    """Maximum likelihood parameters of given responsibilities, `reg_covar` added to every variance."""
    X, share = real(X), real(resp) * row_weights(X, sample_weight)[:, None]
    n_features, reg_covar = X.shape[1], REAL(reg_covar)
    weights, means, covariances = [], [], []
    for k in range(share.shape[1]):
        weight, mean, difference = component_moments(X, share, k)
        weights.append(weight)
        means.append(mean)
        if covariance_type in ("full", "tied"):
            scatter = (share[:, k, None] * difference).T @ difference
            covariances.append(scatter if covariance_type == "tied" else scatter / weight)
        else:
            variances = (share[:, k, None] * difference**2).sum(axis=0) / weight
            covariances.append(variances if covariance_type == "diag" else variances.mean())
    weights, covariances = np.array(weights), np.array(covariances)
    if covariance_type == "tied":
        covariances = covariances.sum(axis=0) / weights.sum()
    if covariance_type in ("full", "tied"):
        covariances = covariances + reg_covar * np.eye(n_features, dtype=REAL)
    else:
        covariances = covariances + reg_covar
    return make_model(covariance_type, weights / weights.sum(), np.array(means), covariances)


def em_step(X, model: Model, reg_covar=0.0, sample_weight=None) -> Model:
    return m_step(X, responsibilities(X, model), model.covariance_type, reg_covar, sample_weight)


def em(X, model: Model, n_iter: int, reg_covar=0.0, sample_weight=None) -> tuple[Model, list]:
    """`n_iter` EM steps; the model after the last, and the mean log-likelihood before each of them."""
    bounds = []
    for _ in range(n_iter):
        bounds.append(lower_bound(X, model, sample_weight))
        model = em_step(X, model, reg_covar, sample_weight)
    return model, bounds


def one_hot(labels, n_components: int) -> np.ndarray:
    """Responsibilities of a partition with labels 0 .. n_components - 1."""
    return np.eye(n_components, dtype=REAL)[np.asarray(labels)]


# -- comparing models ------------------------------------------------------------------------------


def mean_difference(reference: Model, means) -> float:
    """max_k || U_k' (m_k - m'_k) ||_inf: the difference in standard deviations of the reference."""
    means = real(means)
    return float(
        max(
            np.abs(factor(reference, k).T @ (means[k] - reference.means[k])).max()
            for k in range(reference.n_components)
        )
    )


def covariance_difference(reference: Model, covariances) -> float:
    """max_k || U_k' C'_k U_k - I ||_F: the relative difference in the worst direction, or a little more."""
    n_features, worst = reference.n_features, 0.0
    for k in range(1 if reference.covariance_type == "tied" else reference.n_components):
        upper = factor(reference, k)
        matrix = covariance_matrix(reference.covariance_type, covariances, k, n_features)
        whitened = upper.T @ matrix @ upper - np.eye(n_features, dtype=REAL)
        worst = max(worst, float(np.sqrt((whitened**2).sum())))
    return worst


def weight_difference(reference: Model, weights) -> float:
    """max_k |pi_k - pi'_k| / pi_k."""
    return float(np.max(np.abs(real(weights) - reference.weights) / reference.weights))


def difference(reference: Model, parameters) -> float:
    """The largest of the three whitened differences; NaN where anything is not finite."""
    weights, means, covariances = parameters[0], parameters[1], parameters[2]
    if not all(np.all(np.isfinite(np.asarray(a, dtype=float))) for a in (weights, means, covariances)):
        return float("nan")
    return max(
        weight_difference(reference, weights),
        mean_difference(reference, means),
        covariance_difference(reference, covariances),
    )
