"""The log-likelihood plus the log-density of a conjugate prior, as what a fit maximises.

What EM finds is the mode of the posterior of means and covariances (maximum a posteriori; Fraley and Raftery
2007, "Bayesian Regularization for Normal Mixture Estimation and Model-Based Clustering", Journal of
Classification 24, 155-181). Every M-step is the exact maximiser, so the value never decreases; and no
covariance is singular where the scale of the prior is not.

All four kinds of prior are one formula. An inverse gamma density of shape nu / 2 and scale s / 2 is the
inverse Wishart density of one dimension, of nu degrees of freedom and scale s: diagonal covariances are D
blocks of that size, a spherical one is one such block that counts for D features.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.special import multigammaln

from .conjugate_prior import ConjugatePrior
from .data_moments import mean_and_covariance
from .em import EMOptions
from .frame import Frame
from .kernels._pass import MATRIX, VECTOR
from .parameters import Parameters
from .score_map import HALF_LOG_2PI
from .sources import Data
from .statistics import Statistics
from .structures import Estimate, Structure

LOG_2 = float(np.log(2.0))


class PosteriorMode:
    """The mean over rows of the log-likelihood and the log-density of the prior, all constants included.

    Parameters
    ----------
    structure : Structure
    prior : ConjugatePrior, complete and checked for the structure
    n_threads : int
    """

    point_estimate = True

    def __init__(self, structure: Structure, prior: ConjugatePrior, n_threads: int) -> None:
        self.structure, self.prior, self.n_threads = structure, prior, n_threads
        D, dof = prior.mean.size, prior.degrees_of_freedom
        assert dof is not None
        size, n_blocks, repeats = _blocks(structure, D)
        self.scale = prior.scale / repeats
        # A covariance's log-density, but for the trace, is so much times log sqrt(det precision), plus a
        # constant.
        self.exponent = (dof + size + 1.0) / repeats
        log_det = structure.log_det(prior.scale, D) / repeats
        of_block = 0.5 * dof * size * LOG_2 + float(multigammaln(0.5 * dof, size))
        self.constant = 0.5 * dof * log_det - n_blocks * of_block
        # A mean's has one more log sqrt(det precision).
        self.of_mean = 1.0 if prior.shrinkage > 0 else 0.0

    # ---- what the loop asks for --------------------------------------------------------------------------

    def scored(self, parameters: Parameters) -> Parameters:
        return parameters

    def start(self, parameters: Parameters) -> Parameters:
        return parameters

    def estimate(self, statistics: Statistics, previous: Parameters | None) -> Estimate:
        """Mode of the posterior given responsibilities; of the prior, for components without rows."""
        structure, prior = self.structure, self.prior
        counts, kappa = statistics.weight, prior.shrinkage
        weights, means, covariances = structure.moments(statistics, 0.0)
        # how far means are drawn to the prior's: all the way where there is nothing else to tell them
        drawn = np.where(counts > 0, kappa / np.where(counts > 0, counts + kappa, 1.0), 1.0)
        away = means - prior.mean
        scatter = self.scale + structure.scatter(counts * drawn, away)
        if structure.pooled:
            total = counts.sum()
            covariances = scatter + total * covariances
            covariances /= total + counts.size * self.of_mean + self.exponent
        else:
            n = counts.reshape(-1, *(1,) * (covariances.ndim - 1))
            covariances = (scatter + n * covariances) / (n + self.of_mean + self.exponent)
        means = means - drawn[:, None] * away
        # reg_covar is no part of this; 0: nothing hides what rounding leaves of equal rows but the prior
        roots, singular = structure.factorised(means, covariances, 0.0, self.n_threads)
        nobody = np.zeros(counts.shape, dtype=bool)  # what has no rows is what the prior says
        return Estimate(Parameters(weights, means, covariances, roots), nobody, singular)

    def found(self, statistics: Statistics, parameters: Parameters) -> float:
        log_posterior = statistics.log_likelihood + self.log_density(parameters)
        return float(log_posterior / statistics.total_weight)

    def reached(self, statistics: Statistics, before: Parameters, after: Parameters) -> float:
        return self.found(statistics, before)

    # ---- prior -------------------------------------------------------------------------------------------

    def log_density(self, parameters: Parameters) -> float:
        """Log-density of the prior at these means and covariances."""
        structure, kappa, D = self.structure, self.prior.shrinkage, parameters.means.shape[1]
        log_roots = structure.log_det_roots(parameters)
        traces = structure.traces(self.scale, parameters)
        of_covariances = self.constant + self.exponent * log_roots - 0.5 * traces
        total = of_covariances[0] if structure.pooled else of_covariances.sum()
        if kappa > 0:
            distances = structure.distances(parameters, self.prior.mean)
            of_means = D * (0.5 * np.log(kappa) - HALF_LOG_2PI) + log_roots - 0.5 * kappa * distances
            total += of_means.sum()
        return float(total)


def _blocks(structure: Structure, n_features: int) -> tuple[int, int, int]:
    """Features of a block of a covariance that has one density; how many blocks; features of each number."""
    if structure.moment_shape == MATRIX:
        return n_features, 1, 1
    return (1, n_features, 1) if structure.moment_shape == VECTOR else (1, 1, n_features)


def completed(
    prior: ConjugatePrior,
    data: Data,
    structure: Structure,
    n_components: int,
    frame: Frame,
    options: EMOptions,
) -> ConjugatePrior:
    """The prior, checked for the structure, with what it leaves open taken from the rows by one pass.

    Raises
    ------
    ValueError
        If the covariance of the rows cannot be a scale.
    """
    D = data.n_features
    default_of = "prior.scale" if prior.scale is None else None
    mean, covariance = mean_and_covariance(data, structure, frame, options, default_of)
    scale = prior.scale
    if scale is None:
        if structure.moment_shape == VECTOR:
            covariance = np.full(D, covariance.mean())
        scale = covariance / n_components ** (2.0 / D)
        alone = scale if structure.pooled else np.asarray(scale)[None]
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            singular = structure.factorised(mean[None], alone, 0.0, options.n_threads)[1]
        if singular.any():
            raise ValueError(
                "the default prior.scale is a share of the covariance of X, which is singular: rows are "
                "equal, there are no more of them than features, or columns are constant or depend on each "
                f"other. Give prior=ConjugatePrior(scale=...){_REMEDY[structure.moment_shape == MATRIX]}."
            )
    return replace(prior, mean=mean if prior.mean is None else prior.mean, scale=scale)


_REMEDY = {True: ", drop such columns, or choose covariance_type='diag' or 'spherical'", False: ""}
