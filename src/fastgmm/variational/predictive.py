"""The posterior predictive density: a mixture of Student's t (Bishop 2006, 10.81 and 10.82).

It is the density of a new row once all that is uncertain about weights, means and precisions has been
integrated out, and so it integrates to 1.
"""

from __future__ import annotations

from copy import copy

import numpy as np
from scipy.special import gammaln, logsumexp

from .._typing import FloatArray, RowArray
from ..blocks import ArrayData
from ..kernels._pass import LOG_LIKELIHOOD, LOG_MAX
from ..parameters import Parameters
from ..scorer import Scorer
from ..sources.base import rows_per_part
from ..structures import Structure
from .posterior import Posterior, mean_weights

LOG_PI = float(np.log(np.pi))


class Predictive:
    """The density, for rows that are validated. Made to write where a `Scorer` does.

    With nu' = nu_k + 1 - D a component is Student's t of nu' degrees of freedom about means_k, of the scale
    matrix (1 + beta_k) nu_k / (beta_k nu') covariances_k.
    """

    def __init__(
        self, structure: Structure, parameters: Parameters, posterior: Posterior, n_threads: int
    ) -> None:
        K, D = parameters.means.shape
        self.n_components, self.n_features = K, D
        # scores of equal weights: what they have beside their constants is half a squared distance
        self._scorer = Scorer(structure, parameters._replace(weights=np.ones(K)), n_threads)
        log_roots = structure.log_det_roots(parameters)
        self._constants = log_roots - 0.5 * D * np.log(2.0 * np.pi)
        beta, nu = posterior.mean_precision, posterior.degrees_of_freedom
        left = nu + 1.0 - D
        self._spread = (1.0 + beta) * nu / beta  # of the scale matrix, times its degrees of freedom
        self._power = 0.5 * (left + D)
        with np.errstate(divide="ignore"):
            log_weights = np.log(mean_weights(posterior.concentration))
        self._log_norms = (
            log_weights
            + gammaln(self._power)
            - gammaln(0.5 * left)
            - 0.5 * D * (LOG_PI + np.log(self._spread))
            + log_roots
        )

    def score_samples(self, X: RowArray) -> FloatArray:
        """Logarithm of the density of each row, (n_samples,)."""
        out = np.empty(len(X))
        self._write(X, "log_density", out)
        return out

    def summary(self, data: ArrayData) -> FloatArray:
        """Sums over rows, as a scorer's: of w log p. That of log max_k r_k is NaN: there are no r_k."""
        head = np.zeros(LOG_MAX + 1)
        head[LOG_MAX] = np.nan
        n = rows_per_part(8)
        for first in range(0, data.n_rows, n):
            part = slice(first, min(first + n, data.n_rows))
            scores = self.score_samples(data.X[part])
            weight = data.sample_weight
            head[LOG_LIKELIHOOD] += scores.sum() if weight is None else weight[part] @ scores
        return head

    @property
    def _n_threads(self) -> int:
        return self._scorer._n_threads

    @_n_threads.setter
    def _n_threads(self, n_threads: int) -> None:
        # that of a worker is a copy, of which the scorer is not
        self._scorer = copy(self._scorer)
        self._scorer._n_threads = n_threads

    def _write(self, X: RowArray, name: str, out: FloatArray, hard: bool = False) -> None:
        n = rows_per_part(8 * self.n_components)
        for first in range(0, len(X), n):
            part = slice(first, min(first + n, len(X)))
            half_squares = np.maximum(self._constants - self._scorer.scores(X[part]), 0.0)
            logs = self._log_norms - self._power * np.log1p(2.0 * half_squares / self._spread)
            out[part] = logsumexp(logs, axis=1)
