"""Components as counts, means and covariances of their rows: what moves take apart and put together.

With responsibilities fixed and the posterior at its best for them, the evidence lower bound is

    entropy of the responsibilities + log Z(counts) + sum_k log Z(rows of component k)

where log Z are what the priors give to counts, and to rows that are taken for one Gaussian's (Bishop 2006,
10.2, with the posteriors put in). So a move changes the terms of the components that it touches, and no
others.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.special import betaln, gammaln

from .._typing import BoolArray, FloatArray, IndexArray
from ..parameters import Parameters
from ..structures import STRUCTURES
from .evidence import LOG_PI, Evidence, log_wishart_norm
from .posterior import LOG_2, posterior_of
from .prior import DISTRIBUTION, Prior

_outer = STRUCTURES["full"].scatter
# Less than so many rows are none: their mean and covariance would be rounding errors of the prior's.
NOBODY = 1e-9


class Components(NamedTuple):
    """Rows of each component.

    Attributes
    ----------
    counts : ndarray of shape (K,)
    means : ndarray of shape (K, D)
    covariances : ndarray
        In the shape of the structure's; one for all where they are pooled.
    """

    counts: FloatArray
    means: FloatArray
    covariances: FloatArray


def of_parameters(evidence: Evidence, parameters: Parameters) -> Components:
    """The rows that a posterior is of: Bishop 10.60 to 10.63, the other way round."""
    prior, structure = evidence.prior, evidence.structure
    counts = parameters.weights * evidence.total_weight
    some = counts > NOBODY
    posterior = posterior_of(prior, counts, structure.pooled)
    ratio = posterior.mean_precision / np.where(some, counts, 1.0)
    away = np.where(some[:, None], ratio[:, None] * (parameters.means - prior.mean), 0.0)
    between = structure.scatter(counts * prior.mean_precision / posterior.mean_precision, away)
    dof = posterior.degrees_of_freedom
    if structure.pooled:
        scatter = (dof[0] * parameters.covariances - prior.covariance) * counts.size - between
        covariances = scatter / max(float(counts.sum()), NOBODY)
    else:
        shape = (-1, *(1,) * (parameters.covariances.ndim - 1))
        scatter = dof.reshape(shape) * parameters.covariances - prior.covariance - between
        covariances = scatter / np.where(some, counts, 1.0).reshape(shape)
        covariances[~some] = prior.covariance
    return Components(counts, prior.mean + away, covariances)


def to_parameters(evidence: Evidence, components: Components) -> Parameters:
    """The posterior of these rows."""
    counts, means, covariances = components
    weights = counts / evidence.total_weight
    return evidence.start(Parameters(weights, means, covariances, covariances))


def taken(components: Components, index: IndexArray | BoolArray, pooled: bool) -> Components:
    """Some of the components, in this order."""
    counts, means, covariances = components
    return Components(counts[index], means[index], covariances if pooled else covariances[index])


def together(parts: list[Components], pooled: bool) -> Components:
    """All components of several; a pooled covariance is that of the first."""
    covariances = parts[0].covariances if pooled else np.concatenate([part.covariances for part in parts])
    return Components(
        np.concatenate([part.counts for part in parts]),
        np.concatenate([part.means for part in parts]),
        covariances,
    )


def largest_first(components: Components, pooled: bool) -> Components:
    """By count, descending: the order in which sticks give the counts the highest evidence."""
    return taken(components, np.argsort(-components.counts, kind="stable"), pooled)


def merged(evidence: Evidence, components: Components, first: IndexArray, second: IndexArray) -> Components:
    """Each pair as one component. Where covariances are pooled, each is of a mixture with that merge alone.

    The latter come stacked, (m, D, D).
    """
    structure = evidence.structure
    counts, means, covariances = components
    one, other = counts[first], counts[second]
    total = one + other
    share = other / np.maximum(total, NOBODY)
    apart = means[second] - means[first]
    between = one * share
    if structure.pooled:
        both = covariances + _outer(between, apart) / counts.sum()
    else:
        shape = (-1, *(1,) * (covariances.ndim - 1))
        of_first = (1.0 - share).reshape(shape) * covariances[first]
        both = of_first + share.reshape(shape) * covariances[second]
        both += structure.scatter(between / np.maximum(total, NOBODY), apart)
    return Components(total, means[first] + share[:, None] * apart, both)


def log_evidence_of_rows(evidence: Evidence, components: Components) -> FloatArray:
    """log Z of the rows of each component, (K,), taken for one Gaussian's; not for pooled covariances."""
    prior = evidence.prior
    parameters = to_parameters(evidence, components)
    D = components.means.shape[1]
    dof = prior.degrees_of_freedom + components.counts
    log_det = 2.0 * evidence.structure.log_det_roots(parameters) - D * np.log(dof)
    return _of_means(prior, components.counts, D) + _of_precisions(evidence, dof, log_det, D)


def pooled_rises(
    evidence: Evidence, components: Components, first: IndexArray, second: IndexArray, keep: bool
) -> FloatArray:
    """By how much log Z of all rows rises with the merge of each pair, (m,), where covariances are pooled.

    That of the whole mixture is K times that of one component with the mean scatter, whose prior counts for
    each; keep: it goes on doing so for a component that is gone.
    """
    prior = evidence.prior
    counts, means, covariances = components
    K, D = means.shape
    left = K if keep else K - 1
    both = np.maximum(counts[first] + counts[second], NOBODY)
    apart = means[second] - means[first]
    joint = means[first] + (counts[second] / both)[:, None] * apart
    away = means - prior.mean
    pull = counts * (prior.mean_precision / (prior.mean_precision + counts))
    scatter = counts.sum() * covariances + evidence.structure.scatter(pull, away)
    both_pull = both * (prior.mean_precision / (prior.mean_precision + both))
    after = scatter + _outer(counts[first] * counts[second] / both, apart)
    after += _outer(both_pull, joint - prior.mean)
    after -= _outer(pull[first], away[first]) + _outer(pull[second], away[second])

    def of_precisions(scatters: FloatArray, n: int) -> FloatArray:
        log_det = -np.linalg.slogdet(prior.covariance + scatters / n)[1]
        dof = np.full(len(scatters), prior.degrees_of_freedom + counts.sum() / n)
        return n * _of_precisions(evidence, dof, log_det, D)

    of_each = _of_means(prior, counts, D)
    of_means = _of_means(prior, both, D) - of_each[first] - of_each[second]
    return np.asarray(of_means + of_precisions(after, left) - of_precisions(scatter[None], K))


def _of_means(prior: Prior, counts: FloatArray, n_features: int) -> FloatArray:
    shrunk = np.log(prior.mean_precision / (prior.mean_precision + counts))
    return 0.5 * n_features * (shrunk - counts * (LOG_2 + LOG_PI))


def _of_precisions(evidence: Evidence, dof: FloatArray, log_det: FloatArray, n_features: int) -> FloatArray:
    prior = evidence.prior
    log_det_prior = np.array([evidence.log_det_prior])
    before = log_wishart_norm(np.array([prior.degrees_of_freedom]), log_det_prior, n_features)
    return np.asarray(before - log_wishart_norm(dof, log_det, n_features))


def log_evidence_of_counts(prior: Prior, counts: FloatArray, n_components: int) -> FloatArray:
    """log Z of counts, (..., K), the largest of a process first, of so many components."""
    gamma = prior.weight_concentration
    if prior.kind == DISTRIBUTION:
        K, total = n_components, counts.sum(axis=-1)
        norms = gammaln(K * gamma) - gammaln(K * gamma + total)
        return np.asarray(norms + (gammaln(gamma + counts) - gammaln(gamma)).sum(axis=-1))
    ordered = -np.sort(-counts, axis=-1)
    later = np.cumsum(ordered[..., ::-1], axis=-1)[..., ::-1] - ordered
    return np.asarray((betaln(1.0 + ordered, gamma + later) - betaln(1.0, gamma)).sum(axis=-1))
