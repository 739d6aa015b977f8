"""Slow, obvious reference for variational Bayesian mixtures: posterior and evidence lower bound.

All is written out from responsibilities of all rows (N, K), term by term as in Bishop 2006, 10.57 to 10.77
and appendix B, in ``longdouble``; digamma and log-gamma are mpmath's. The model is that of full matrices. For
the other covariance types the scale matrices of the Wishart posteriors are restricted, and nothing else is.

Nothing here is fast, clever or shared with the package.
"""

from __future__ import annotations

from typing import NamedTuple

import mpmath
import numpy as np
from oracle import LOG_2PI, REAL, cholesky, inverse_of_lower, real, row_weights

PROCESS, DISTRIBUTION = "dirichlet_process", "dirichlet_distribution"
KINDS = (PROCESS, DISTRIBUTION)
# Digits that mpmath computes with: more than a longdouble has.
mpmath.mp.dps = 30


class Prior(NamedTuple):
    """Of all components; `inverse_scale` (D, D) is the inverse of the Wishart's scale matrix."""

    kind: str
    concentration: REAL
    mean_precision: REAL
    mean: np.ndarray
    dof: REAL
    inverse_scale: np.ndarray


class Posterior(NamedTuple):
    """concentration (K,), or (2, K) of sticks; mean_precision (K,), means (K, D), dof (K,), (K, D, D)."""

    concentration: np.ndarray
    mean_precision: np.ndarray
    means: np.ndarray
    dof: np.ndarray
    inverse_scales: np.ndarray


# -- special functions -----------------------------------------------------------------------------


def _each(function, values):
    values = real(values)
    out = [REAL(mpmath.nstr(function(mpmath.mpf(str(value))), 25)) for value in values.ravel()]
    return np.array(out, dtype=REAL).reshape(values.shape)


def digamma(values):
    return _each(mpmath.digamma, values)


def log_gamma(values):
    return _each(mpmath.loggamma, values)


def log_beta(a, b):
    return log_gamma(a) + log_gamma(b) - log_gamma(real(a) + real(b))


# -- matrices --------------------------------------------------------------------------------------


def as_matrix(values, n_features: int) -> np.ndarray:
    """A matrix, a diagonal or a number as a matrix."""
    values = real(values)
    if values.ndim == 2:
        return values
    return np.diag(np.broadcast_to(values, (n_features,)).astype(REAL))


def restricted(matrices, covariance_type: str) -> np.ndarray:
    """(K, D, D) as that type keeps them: all, their mean, their diagonals, the means of these."""
    eye = np.eye(matrices.shape[1], dtype=REAL)
    if covariance_type == "tied":
        return np.broadcast_to(matrices.sum(axis=0) / len(matrices), matrices.shape)
    if covariance_type == "diag":
        return matrices * eye
    if covariance_type == "spherical":
        return np.array([matrix.diagonal().mean() * eye for matrix in matrices])
    return matrices


def log_det(matrix) -> REAL:
    return 2 * np.log(np.diag(cholesky(matrix))).sum()


def inverse(matrix) -> np.ndarray:
    lower = inverse_of_lower(cholesky(matrix))
    return lower.T @ lower


# -- from and to estimators ------------------------------------------------------------------------


def prior_of(mixture) -> Prior:
    """The prior that a fitted mixture says it has used."""
    D = mixture.means_.shape[1]
    return Prior(
        mixture.weight_concentration_prior_type,
        REAL(mixture.weight_concentration_prior_),
        REAL(mixture.mean_precision_prior_),
        real(mixture.mean_prior_),
        REAL(mixture.degrees_of_freedom_prior_),
        as_matrix(mixture.covariance_prior_, D),
    )


def posterior_of(mixture) -> Posterior:
    """The posterior that the attributes stand for."""
    K, D = mixture.means_.shape
    dof = np.broadcast_to(real(mixture.degrees_of_freedom_), (K,))
    tied = mixture.covariance_type == "tied"
    matrices = [as_matrix(mixture.covariances_ if tied else mixture.covariances_[k], D) for k in range(K)]
    return Posterior(
        real(mixture.weight_concentration_),
        real(mixture.mean_precision_),
        real(mixture.means_),
        dof,
        np.array([n * matrix for n, matrix in zip(dof, matrices)]),
    )


def default_prior(X, kind: str, covariance_type: str, n_components: int, sample_weight=None) -> Prior:
    """scikit-learn's: one row for the mean, the mean and covariance of X."""
    X, share = real(X), row_weights(X, sample_weight)
    D = X.shape[1]
    mean = share @ X / share.sum()
    away = X - mean
    covariance = (share[:, None] * away).T @ away / (share.sum() - 1)
    if covariance_type in ("diag", "spherical"):
        covariance = restricted(covariance[None], covariance_type)[0]
    return Prior(kind, REAL(1) / n_components, REAL(1), mean, REAL(D), covariance)


# -- the map ---------------------------------------------------------------------------------------


def posterior(X, resp, prior: Prior, covariance_type: str, reg_covar=0.0, sample_weight=None) -> Posterior:
    """The best posterior for these responsibilities (Bishop 10.57 to 10.63; Blei and Jordan 2006)."""
    X, share = real(X), real(resp) * row_weights(X, sample_weight)[:, None]
    counts, K, D = share.sum(axis=0), share.shape[1], X.shape[1]
    if prior.kind == DISTRIBUTION:
        concentration = prior.concentration + counts
    else:
        later = [counts[k + 1 :].sum() for k in range(K)]
        concentration = np.array([1 + counts, [prior.concentration + n for n in later]])
    means, matrices = [], []
    for k in range(K):
        beta = prior.mean_precision + counts[k]
        mean = X[0]
        for _ in range(3):  # about the last mean, so that a far origin costs no digits
            if counts[k] > 0:
                mean = mean + share[:, k] @ (X - mean) / counts[k]
        scatter = (share[:, k, None] * (X - mean)).T @ (X - mean)
        scatter = scatter + counts[k] * REAL(reg_covar) * np.eye(D, dtype=REAL)
        away = mean - prior.mean
        between = prior.mean_precision * counts[k] / beta * np.outer(away, away)
        matrices.append(prior.inverse_scale + scatter + between)
        means.append(prior.mean + counts[k] / beta * away)
    dof = prior.dof + (np.full(K, counts.sum() / K) if covariance_type == "tied" else counts)
    return Posterior(
        concentration,
        prior.mean_precision + counts,
        np.array(means),
        dof,
        restricted(np.array(matrices), covariance_type),
    )


def log_weights(q: Posterior) -> np.ndarray:
    """E[log weight_k]."""
    if q.concentration.ndim == 1:
        return digamma(q.concentration) - digamma(q.concentration.sum())
    a, b = q.concentration
    broken, left = digamma(a) - digamma(a + b), digamma(b) - digamma(a + b)
    return np.array([broken[k] + left[:k].sum() for k in range(len(a))])


def log_dets(dof, inverse_scales) -> np.ndarray:
    """E[log |precision_k|] (10.65)."""
    D = inverse_scales.shape[1]
    sums = [digamma((n - np.arange(D)) / 2).sum() for n in dof]
    return np.array([s + D * np.log(REAL(2)) - log_det(m) for s, m in zip(sums, inverse_scales)])


def log_normal(X, q: Posterior) -> np.ndarray:
    """E[log N(x | mean_k, inverse(precision_k))], (N, K) (10.64, 10.67)."""
    X, D = real(X), X.shape[1]
    dets, out = log_dets(q.dof, q.inverse_scales), []
    for k, matrix in enumerate(q.inverse_scales):
        y = (X - q.means[k]) @ inverse_of_lower(cholesky(matrix)).T
        squares = D / q.mean_precision[k] + q.dof[k] * (y * y).sum(axis=1)
        out.append((dets[k] - D * LOG_2PI - squares) / 2)
    return np.array(out).T


def log_scores(X, q: Posterior) -> np.ndarray:
    return log_weights(q) + log_normal(X, q)


def score_samples(X, q: Posterior) -> np.ndarray:
    scores = log_scores(X, q)
    top = scores.max(axis=1)
    return top + np.log(np.exp(scores - top[:, None]).sum(axis=1))


def responsibilities(X, q: Posterior) -> np.ndarray:
    return np.exp(log_scores(X, q) - score_samples(X, q)[:, None])


def iterate(X, resp, prior: Prior, covariance_type: str, n_iter: int, **how):
    """The posterior after so many iterations from responsibilities, and the bound of each."""
    q, bounds = posterior(X, resp, prior, covariance_type, **how), []
    for _ in range(n_iter):
        resp = responsibilities(X, q)
        q = posterior(X, resp, prior, covariance_type, **how)
        bounds.append(evidence(X, resp, q, prior, how.get("sample_weight")))
    return q, bounds


# -- the bound -------------------------------------------------------------------------------------


def log_wishart_norm(inverse_scale, dof) -> REAL:
    """log B(W, nu) (B.79)."""
    D = len(inverse_scale)
    halves = (dof - np.arange(D)) / 2
    rest = dof * D / 2 * np.log(REAL(2)) + D * (D - 1) / REAL(4) * np.log(REAL(mpmath.nstr(mpmath.pi, 25)))
    return dof / 2 * log_det(inverse_scale) - rest - log_gamma(halves).sum()


def log_dirichlet_norm(alpha) -> REAL:
    """log C(alpha) (B.23)."""
    return log_gamma(alpha.sum()) - log_gamma(alpha).sum()


def evidence(X, resp, q: Posterior, prior: Prior, sample_weight=None) -> REAL:
    """The evidence lower bound of all rows (10.70): every term by itself."""
    X, share = real(X), real(resp) * row_weights(X, sample_weight)[:, None]
    D, K = X.shape[1], len(q.means)
    dets, expected_logs = log_dets(q.dof, q.inverse_scales), log_weights(q)
    safe = np.where(resp > 0, real(resp), 1)

    # E[log p(X | Z, mu, Lambda)] and E[log p(Z | pi)] (10.71, 10.72), entropy of Z (10.75)
    of_rows = (share * log_normal(X, q)).sum()
    of_labels = (share * expected_logs).sum()
    entropy_of_labels = -(share * np.log(safe)).sum()

    # E[log p(pi)] and the entropy of pi (10.73, 10.76); of each stick by itself
    if prior.kind == DISTRIBUTION:
        alpha = np.full(K, prior.concentration)
        of_weights = log_dirichlet_norm(alpha) + ((alpha - 1) * expected_logs).sum()
        entropy_of_weights = -log_dirichlet_norm(q.concentration)
        entropy_of_weights -= ((q.concentration - 1) * expected_logs).sum()
    else:
        a, b = q.concentration
        log_v, log_rest = digamma(a) - digamma(a + b), digamma(b) - digamma(a + b)
        gamma = np.full(K, prior.concentration)
        of_weights = ((gamma - 1) * log_rest - log_beta(np.ones(K), gamma)).sum()
        entropy_of_weights = (log_beta(a, b) - (a - 1) * log_v - (b - 1) * log_rest).sum()

    # E[log p(mu, Lambda)] (10.74) and the entropies of mu given Lambda and of Lambda (10.77, B.82)
    of_means = of_precisions = entropy_of_means = entropy_of_precisions = REAL(0)
    beta_0, norm_0 = prior.mean_precision, log_wishart_norm(prior.inverse_scale, prior.dof)
    for k in range(K):
        beta, dof, scale = q.mean_precision[k], q.dof[k], inverse(q.inverse_scales[k])
        away = q.means[k] - prior.mean
        square = D * beta_0 / beta + beta_0 * dof * (away @ scale @ away)
        of_means += (D * (np.log(beta_0) - LOG_2PI) + dets[k] - square) / 2
        of_precisions += norm_0 + (prior.dof - D - 1) / 2 * dets[k]
        of_precisions -= dof / 2 * (prior.inverse_scale * scale).sum()
        entropy_of_means -= (D * (np.log(beta) - LOG_2PI) + dets[k] - D) / 2
        norm = log_wishart_norm(q.inverse_scales[k], dof)
        entropy_of_precisions -= norm + (dof - D - 1) / 2 * dets[k] - dof * D / 2
    terms = (
        of_rows, of_labels, of_weights, of_means, of_precisions,
        entropy_of_labels, entropy_of_weights, entropy_of_means, entropy_of_precisions,
    )  # fmt: skip
    return sum(terms, REAL(0))


def log_evidence_of_one(X, prior: Prior, sample_weight=None) -> REAL:
    """log p(X) of a single normal with this prior, where all can be integrated out (Murphy 2007, 266)."""
    q = posterior(X, np.ones((len(X), 1)), prior, "full", sample_weight=sample_weight)
    n, D = row_weights(X, sample_weight).sum(), X.shape[1]
    norms = log_wishart_norm(prior.inverse_scale, prior.dof) - log_wishart_norm(q.inverse_scales[0], q.dof[0])
    return norms + D / REAL(2) * (np.log(prior.mean_precision / q.mean_precision[0]) - n * LOG_2PI)


# -- predictions -----------------------------------------------------------------------------------


def mean_weights(q: Posterior) -> np.ndarray:
    """Expected weights, normalised."""
    if q.concentration.ndim == 1:
        return q.concentration / q.concentration.sum()
    a, b = q.concentration
    weights = np.array([a[k] / (a[k] + b[k]) * np.prod((b / (a + b))[:k]) for k in range(len(a))])
    return weights / weights.sum()


def predictive(X, q: Posterior) -> np.ndarray:
    """Density of new rows: weighted Student's t densities (10.81, 10.82, B.68)."""
    X, D, density = real(X), X.shape[1], REAL(0)
    log_pi = np.log(REAL(mpmath.nstr(mpmath.pi, 25)))
    for k, weight in enumerate(mean_weights(q)):
        left = q.dof[k] + 1 - D
        shape = q.inverse_scales[k] * (1 + q.mean_precision[k]) / (left * q.mean_precision[k])
        y = (X - q.means[k]) @ inverse_of_lower(cholesky(shape)).T
        log_norm = log_gamma((left + D) / 2) - log_gamma(left / 2)
        log_norm = log_norm - (D * (np.log(left) + log_pi) + log_det(shape)) / 2
        density = density + weight * np.exp(log_norm - (left + D) / 2 * np.log1p((y * y).sum(axis=1) / left))
    return density


# -- comparing -------------------------------------------------------------------------------------


def difference(first: Posterior, second: Posterior) -> float:
    """The largest relative difference; means and matrices in standard deviations of the first."""
    worst = [REAL(0)]
    for name in ("concentration", "mean_precision", "dof"):
        a, b = getattr(first, name), getattr(second, name)
        assert a.shape == b.shape, name
        worst.append(np.abs(b / a - 1).max())
    for k, matrix in enumerate(first.inverse_scales):
        spread = np.sqrt(matrix.diagonal() / first.dof[k])
        worst.append(np.abs((second.means[k] - first.means[k]) / spread).max())
        sizes = np.sqrt(np.outer(matrix.diagonal(), matrix.diagonal()))
        worst.append(np.abs((second.inverse_scales[k] - matrix) / sizes).max())
    assert not any(np.isnan(worst))
    return float(max(worst))
