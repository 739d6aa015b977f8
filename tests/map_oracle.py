"""The posterior's mode, slow and obvious: densities by scipy.stats, M-steps in one formula for each kind.

The prior is that of Fraley and Raftery 2007, Journal of Classification 24, 155-181. The modes are derived by
hand: the exponents of each variance are counted, for each kind of covariance apart.
"""

from __future__ import annotations

import numpy as np
import oracle
from scipy import stats

REAL = oracle.REAL


def matrices(covariance_type, covariances, n_components, n_features):
    return [
        oracle.covariance_matrix(covariance_type, covariances, k, n_features).astype(float)
        for k in range(n_components)
    ]


def log_prior(prior, covariance_type: str, means, covariances) -> float:
    """Log-density of a complete prior at means and covariances, all constants included."""
    K, D = np.shape(means)
    nu, scale, kappa = prior.degrees_of_freedom, prior.scale, prior.shrinkage
    full = matrices(covariance_type, covariances, K, D)
    total = 0.0
    for k in range(K):
        if kappa > 0:
            total += stats.multivariate_normal.logpdf(means[k], prior.mean, full[k] / kappa)
        if covariance_type == "full":
            total += (
                stats.invwishart.logpdf(full[k], nu, scale) if D > 1 else one(full[k][0, 0], nu, scale[0, 0])
            )
        elif covariance_type == "diag":
            total += sum(one(covariances[k][i], nu, scale[i]) for i in range(D))
        elif covariance_type == "spherical":
            total += one(covariances[k], nu, scale)
    if covariance_type == "tied":
        total += stats.invwishart.logpdf(full[0], nu, scale) if D > 1 else one(full[0][0, 0], nu, scale[0, 0])
    return float(total)


def one(variance, nu, scale) -> float:
    """Log-density of a variance that is inverse gamma."""
    return float(stats.invgamma.logpdf(variance, nu / 2, scale=scale / 2))


def value(X, prior, covariance_type, weights, means, covariances, sample_weight=None) -> float:
    """Log-likelihood plus log-density of the prior, over the weight of all rows."""
    model = oracle.make_model(covariance_type, weights, means, covariances)
    total = float(oracle.row_weights(X, sample_weight).sum())
    log_likelihood = float(oracle.log_likelihood(X, model, sample_weight))
    return (log_likelihood + log_prior(prior, covariance_type, means, covariances)) / total


def expected(X, resp, prior, covariance_type, means, covariances) -> float:
    """What an M-step maximises of means and covariances."""
    K, D = np.shape(means)
    full = matrices(covariance_type, covariances, K, D)
    logs = np.array([stats.multivariate_normal.logpdf(X, means[k], full[k]) for k in range(K)])
    return float((np.asarray(resp, dtype=float).T * logs).sum()) + log_prior(
        prior, covariance_type, means, covariances
    )


def m_step(X, resp, prior, covariance_type: str, sample_weight=None) -> oracle.Model:
    """Modes of the posterior given responsibilities, in longdouble."""
    n, means, scatters = oracle.statistics(X, resp, sample_weight)
    K, D = means.shape
    nu, kappa = REAL(prior.degrees_of_freedom), REAL(prior.shrinkage)
    scale, centre = oracle.real(prior.scale), oracle.real(prior.mean)
    has_means = 1 if kappa > 0 else 0
    modes, scatter = [], []
    for k in range(K):
        away = means[k] - centre
        scatter.append(scatters[k] + kappa * n[k] / (kappa + n[k]) * np.outer(away, away))
        modes.append((n[k] * means[k] + kappa * centre) / (n[k] + kappa))
    if covariance_type == "full":
        covariances = [(scale + scatter[k]) / (nu + n[k] + D + 1 + has_means) for k in range(K)]
    elif covariance_type == "tied":
        covariances = (scale + sum(scatter)) / (nu + n.sum() + D + 1 + K * has_means)
    elif covariance_type == "diag":
        covariances = [(scale + np.diag(scatter[k])) / (nu + n[k] + 2 + has_means) for k in range(K)]
    else:
        covariances = [(scale + np.trace(scatter[k])) / (nu + (n[k] + has_means) * D + 2) for k in range(K)]
    return oracle.make_model(covariance_type, n / n.sum(), np.array(modes), np.array(covariances))
