"""The evidence lower bound as what a fit maximises (Bishop 2006, 10.2; Attias 2000).

A pass under a posterior is a pass of EM: rows are scored by

    E[log weight_k] + E[log N(x | mean_k, inverse(precision_k))] = log w_k + log N(x | means_k, covariances_k)

with covariances_k = inverse(E[precision_k]) and a weight w_k that takes up all that does not depend on x. The
posterior follows from how many rows each component has, their mean and their covariance: from what maximum
likelihood would take for weights, means and covariances.

For tied, diagonal and spherical covariances the model is that of full ones still; what is restricted is the
scale matrix of the Wishart posteriors: the same for all components, diagonal, or a multiple of the identity.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.special import betaln, digamma, gammaln

from .._typing import BoolArray, FloatArray
from ..parameters import Parameters
from ..score_map import EPSILON, HALF_LOG_2PI
from ..statistics import Statistics
from ..structures import Estimate, Structure
from .posterior import LOG_2, Posterior, log_blur, mean_log_det, mean_log_weights, posterior_of
from .prior import DISTRIBUTION, Prior

LOG_PI = float(np.log(np.pi))
# scikit-learn adds so many rows to each component.
LEAST_COUNT = 10 * EPSILON


class Derived(NamedTuple):
    """What follows from the parameters of a posterior.

    log_weights : that rows are scored by, (K,), normalised
    shift : what normalising took from each of them
    """

    parameters: Parameters
    posterior: Posterior
    log_weights: FloatArray
    shift: float


class Evidence:
    """The evidence lower bound of all rows.

    `Parameters` of such a fit are those of its posterior: means; covariances = inverse(E[precision]); and as
    weights the shares of rows, n_k / total weight, which all else follows from. An iteration counts what its
    estimate has reached, as scikit-learn's: the bound of the old responsibilities and the new posterior.

    Parameters
    ----------
    structure : Structure
    prior : Prior
    total_weight : float
        Of all rows.
    reg_covar : float
        Added to the covariances of rows; the bound counts for the posterior that comes of it.
    n_threads : int
    """

    point_estimate = False

    def __init__(
        self, structure: Structure, prior: Prior, total_weight: float, reg_covar: float, n_threads: int
    ) -> None:
        self.structure, self.prior, self.total_weight = structure, prior, total_weight
        self.reg_covar, self.n_threads = reg_covar, n_threads
        self._kept: list[Derived] = []
        # Where columns are constant or depend on others the default prior is singular, and the bound minus
        # infinity. What makes it so is the same whatever the posterior, and is left out.
        singular = is_singular(structure, prior, n_threads)
        self.log_det_prior = 0.0 if singular else -structure.log_det(prior.covariance, prior.mean.size)

    # ---- what the loop asks for --------------------------------------------------------------------------

    def scored(self, parameters: Parameters) -> Parameters:
        return parameters._replace(weights=np.exp(self._derived(parameters).log_weights))

    def estimate(self, statistics: Statistics, previous: Parameters | None) -> Estimate:
        _, means, covariances = self.structure.moments(statistics, self.reg_covar)
        return self._estimate(statistics.weight, means, covariances)

    def found(self, statistics: Statistics, parameters: Parameters) -> float:
        log_likelihood = statistics.log_likelihood + self._derived(parameters).shift * statistics.total_weight
        return float(log_likelihood - self.divergence(parameters))

    def reached(self, statistics: Statistics, before: Parameters, after: Parameters) -> float:
        # of the old responsibilities, the entropy is log p less the scores, both summed over rows
        shift = self._derived(before).shift
        log_likelihood = statistics.log_likelihood + shift * statistics.total_weight
        entropy = log_likelihood - self._summed_scores(statistics, before)
        scores = self._summed_scores(statistics, after)
        return float(entropy + scores - self.divergence(after))

    def start(self, parameters: Parameters) -> Parameters:
        return self._estimate(
            parameters.weights * self.total_weight, parameters.means, parameters.covariances
        ).parameters

    # ---- posterior ---------------------------------------------------------------------------------------

    def posterior(self, parameters: Parameters) -> Posterior:
        """The posterior that these parameters are of."""
        return self._derived(parameters).posterior

    def _derived(self, parameters: Parameters) -> Derived:
        """What follows from these parameters; kept for the last two, which an iteration asks for again."""
        for kept in self._kept:
            if kept.parameters is parameters:
                return kept
        counts = parameters.weights * self.total_weight
        posterior = posterior_of(self.prior, counts, self.structure.pooled)
        logs = mean_log_weights(posterior.concentration) + log_blur(posterior, parameters.means.shape[1])
        largest = logs.max()
        shift = float(largest + np.log(np.exp(logs - largest).sum()))
        derived = Derived(parameters, posterior, logs - shift, shift)
        self._kept = [derived, *self._kept[:1]]
        return derived

    def _estimate(self, counts: FloatArray, means: FloatArray, covariances: FloatArray) -> Estimate:
        """Posterior of rows with these counts, means and covariances (Bishop 10.60 to 10.63)."""
        prior, structure = self.prior, self.structure
        posterior = posterior_of(prior, counts, structure.pooled)
        precision = posterior.mean_precision
        away = means - prior.mean
        between = structure.scatter(counts * (prior.mean_precision / precision), away)
        if structure.pooled:  # one component's share of what all have
            share = counts.sum() / counts.size
            covariances = prior.covariance + share * covariances + between / counts.size
            covariances /= posterior.degrees_of_freedom[0]
        else:
            per_component = (-1, *(1,) * (covariances.ndim - 1))
            # without any rows a covariance is no smaller than scikit-learn's, where the prior is singular
            weight = (counts + LEAST_COUNT).reshape(per_component)
            covariances = prior.covariance + weight * covariances + between
            covariances /= posterior.degrees_of_freedom.reshape(per_component)
        means = prior.mean + (counts / precision)[:, None] * away
        roots, singular = structure.factorised(means, covariances, self.reg_covar, self.n_threads)
        parameters = Parameters(counts / self.total_weight, means, covariances, roots)
        nobody: BoolArray = np.zeros(counts.shape, dtype=bool)  # without rows it is what the prior says
        return Estimate(parameters, nobody, singular)

    # ---- bound -------------------------------------------------------------------------------------------

    def _summed_scores(self, statistics: Statistics, parameters: Parameters) -> float:
        """Scores of all rows and components, by responsibility."""
        D = parameters.means.shape[1]
        _, _, log_weights, shift = self._derived(parameters)
        log_roots = self.structure.log_det_roots(parameters)
        constants = log_weights + shift + log_roots - D * HALF_LOG_2PI
        return float(statistics.weight @ constants) - 0.5 * self.structure.squares(statistics, parameters)

    def divergence(self, parameters: Parameters) -> float:
        """Kullback-Leibler divergence of the posterior from the prior."""
        prior, posterior = self.prior, self.posterior(parameters)
        precisions = self._of_means(parameters, posterior) + self._of_precisions(parameters, posterior)
        return of_weights(prior, posterior.concentration) + precisions

    def _of_means(self, parameters: Parameters, posterior: Posterior) -> float:
        D = parameters.means.shape[1]
        ratio = self.prior.mean_precision / posterior.mean_precision
        distances = self.structure.distances(parameters, self.prior.mean)
        terms = D * (ratio - 1.0 - np.log(ratio)) + self.prior.mean_precision * distances
        return float(0.5 * terms.sum())

    def _of_precisions(self, parameters: Parameters, posterior: Posterior) -> float:
        prior, structure = self.prior, self.structure
        D = parameters.means.shape[1]
        dof, dof_prior = posterior.degrees_of_freedom, np.array([prior.degrees_of_freedom])
        log_det = 2.0 * structure.log_det_roots(parameters) - D * np.log(dof)  # of the scale matrices
        traces = structure.traces(prior.covariance, parameters)
        terms = (
            log_wishart_norm(dof, log_det, D)
            - log_wishart_norm(dof_prior, np.array([self.log_det_prior]), D)
            + 0.5 * (dof - dof_prior) * (mean_log_det(dof, D) + log_det)
            + 0.5 * (traces - dof * D)
        )
        return float(terms.sum())


def is_singular(structure: Structure, prior: Prior, n_threads: int) -> bool:
    """Whether the covariance of the prior is singular to working precision."""
    alone = prior.covariance if structure.pooled else np.asarray(prior.covariance)[None]
    with np.errstate(all="ignore"):
        return bool(structure.factorised(prior.mean[None], alone, 0.0, n_threads)[1].any())


def of_weights(prior: Prior, concentration: FloatArray) -> float:
    """Divergence of the posterior of the weights from their prior."""
    gamma = prior.weight_concentration
    if prior.kind == DISTRIBUTION:
        total, K = concentration.sum(), concentration.size
        norms = gammaln(total) - gammaln(concentration).sum() - gammaln(K * gamma) + K * gammaln(gamma)
        return float(norms + (concentration - gamma) @ (digamma(concentration) - digamma(total)))
    broken, left = concentration
    terms = (
        betaln(1.0, gamma)
        - betaln(broken, left)
        + (broken - 1.0) * digamma(broken)
        + (left - gamma) * digamma(left)
        + (1.0 + gamma - broken - left) * digamma(broken + left)
    )
    return float(terms.sum())


def log_wishart_norm(
    degrees_of_freedom: FloatArray, log_det_scale: FloatArray, n_features: int
) -> FloatArray:
    """Logarithm of what a Wishart density is normalised by, B(W, nu) (Bishop B.79)."""
    D = n_features
    halves = 0.5 * (degrees_of_freedom[:, None] - np.arange(D))
    return np.asarray(
        -0.5 * degrees_of_freedom * (log_det_scale + D * LOG_2)
        - 0.25 * D * (D - 1) * LOG_PI
        - gammaln(halves).sum(axis=1)
    )
