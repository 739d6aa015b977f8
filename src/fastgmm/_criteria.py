"""Criteria that choose among fitted mixtures, for instance their number of components."""

from __future__ import annotations

import math
import warnings
from typing import Any

from . import rows
from ._attributes import attribute_parameters
from ._fitted import FittedMixture
from .exceptions import CriterionWarning


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

        Fit with ``tol=1 / n_samples`` and a `max_iter` of 1,000 or so to compare mixtures. Criteria compare
        optima and are sums over rows, but the `tol` of a fit is of the mean over rows: with 300,000 rows the
        default lets a fit end while an iteration gains up to 300, and the penalty of a component is a
        fraction of what is left then. BIC picked 6 to 8 components where the rows had 5 (docs of `tol`).

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

        Warns
        -----
        CriterionWarning
            Where the sum of `sample_weight`, or the number of rows, times the change of `lower_bound_` in the
            last iteration of the fit is more than `n_parameters_`. Once for each fit, by whichever criterion
            is computed first. Mixtures that no fit has made are taken as they are.
        """
        return self._bic(self._criterion_summary(X, sample_weight, "bic"))

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

        Warns
        -----
        CriterionWarning
            As :meth:`bic` does.
        """
        summary = self._criterion_summary(X, sample_weight, "aic")
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

        Warns
        -----
        CriterionWarning
            As :meth:`bic` does.
        """
        summary = self._criterion_summary(X, sample_weight, "icl")
        return float(self._bic(summary) - 2 * summary.log_max_responsibility)

    # ---- whether the fit was done ------------------------------------------------------------------------

    def _criterion_summary(self, X: Any, sample_weight: Any, name: str) -> rows.RowSummary:
        """What criteria are computed of; warns where the fit had still too much to gain."""
        summary = self._summary(X, sample_weight)
        bounds = getattr(self, "lower_bounds_", None)
        if bounds is getattr(self, "_warned_of_bounds", None):  # of this fit, or there is none
            return summary
        change = self._last_change()
        total = summary.total_weight * abs(change)
        if not total > self.n_parameters_:
            return summary
        self._warned_of_bounds = bounds  # each fit makes a list of its own
        what = "gained" if change > 0 else "lost"
        tol = 10.0 ** math.floor(-math.log10(summary.total_weight))
        warnings.warn(
            f"{name}: in its last iteration the fit still {what} {total:.3g} in log-likelihood "
            f"({abs(change):.2g} for each of {summary.total_weight:.6g} rows), more than one for each of its "
            f"{self.n_parameters_} parameters. Such differences say how far fits went, not which mixture is "
            f"better. Fit with tol={tol:.0e}, and a max_iter that lets it converge.",
            CriterionWarning,
            stacklevel=3,  # this, the criterion, its caller
        )
        return summary

    def _last_change(self) -> float:
        """Change of `lower_bound_` in the last iteration of the fit; 0 where that is not known.

        It is not known of mixtures that were not fitted, of the first iteration from a new start, and after
        steps of `partial_fit`.
        """
        bounds = [float(bound) for bound in getattr(self, "lower_bounds_", [])]
        taken_back = getattr(self, "history_", {}).get("taken_back", [])
        if len(taken_back) == len(bounds):
            bounds = [bound for bound, back in zip(bounds, taken_back) if not back]
        if not bounds or bounds[-1] != getattr(self, "lower_bound_", None):
            return 0.0
        before = [getattr(self, "_bound_before_fit", -math.inf), *bounds][-2]
        change = bounds[-1] - before
        return change if math.isfinite(change) else 0.0
