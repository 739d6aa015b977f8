"""Criteria that choose among fitted mixtures, for instance their number of components."""

from __future__ import annotations

import math
from typing import Any

from . import rows
from ._attributes import attribute_parameters
from ._fitted import FittedMixture


class CriteriaMixin(FittedMixture):
    """BIC, AIC and ICL of mixtures that maximise the likelihood (they mean nothing for variational ones)."""

    @property
    def n_parameters_(self) -> int:
        """Number of free parameters: weights, means and covariances."""
        structure = self._structure()
        parameters = attribute_parameters(self, structure, needs_covariances=False)
        return int(structure.n_parameters(*parameters.means.shape))

    def bic(self, X: Any, sample_weight: Any = None) -> float:
        """Bayesian information criterion of the mixture on X.

        ``-2 sum_n w_n log p(x_n) + n_parameters_ log(sum_n w_n)`` (Schwarz 1978, The Annals of Statistics 6,
        461-464). Of a mixture fitted with a `prior` the likelihood is that of the posterior mode, without
        the prior's density, as in mclust (Fraley and Raftery 2007, Journal of Classification 24, 155-181).

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or a source of rows
            The rows, as in :meth:`fit`.

        sample_weight : array-like of shape (n_samples,), default=None
            How many times each row counts. None: once.

        Returns
        -------
        bic : float
            The lower the better.
        """
        return self._bic(self._summary(X, sample_weight))

    def _bic(self, summary: rows.RowSummary) -> float:
        penalty = self.n_parameters_ * math.log(summary.total_weight)
        return float(-2 * summary.log_likelihood + penalty)

    def aic(self, X: Any, sample_weight: Any = None) -> float:
        """Akaike information criterion of the mixture on X.

        ``-2 sum_n w_n log p(x_n) + 2 n_parameters_`` (Akaike 1974, IEEE Transactions on Automatic Control 19,
        716-723).

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or a source of rows
            The rows, as in :meth:`fit`.

        sample_weight : array-like of shape (n_samples,), default=None
            How many times each row counts. None: once.

        Returns
        -------
        aic : float
            The lower the better.
        """
        summary = self._summary(X, sample_weight)
        return float(-2 * summary.log_likelihood + 2 * self.n_parameters_)

    def icl(self, X: Any, sample_weight: Any = None) -> float:
        """Integrated completed likelihood criterion of the mixture on X.

        The BIC with a penalty for rows that no component can claim:
        ``bic - 2 sum_n w_n log max_k r_nk``, where r are the responsibilities (Biernacki, Celeux and Govaert
        2000, IEEE Transactions on Pattern Analysis and Machine Intelligence 22, 719-725, with labels by
        maximum a posteriori). It prefers components that are well apart, where the BIC counts those that a
        density needs.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or a source of rows
            The rows, as in :meth:`fit`.

        sample_weight : array-like of shape (n_samples,), default=None
            How many times each row counts. None: once.

        Returns
        -------
        icl : float
            The lower the better.
        """
        summary = self._summary(X, sample_weight)
        return float(self._bic(summary) - 2 * summary.log_max_responsibility)
