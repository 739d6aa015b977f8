"""What a fit warns of once it has ended: repairs, an end before it was done, variances that are reg_covar."""

from __future__ import annotations

import warnings
from typing import ClassVar

from sklearn.exceptions import ConvergenceWarning

from ._fitted import FittedMixture
from ._typing import FloatArray, Repair
from .exceptions import RegularizationWarning, RepairWarning
from .loop_state import EMResult
from .parameters import Parameters
from .repair import repair_message
from .small_variances import variances_message


class FitWarnings(FittedMixture):
    """Warnings of mixtures that are fitted."""

    max_iter: int
    max_time: float | None
    reg_covar: float
    repair: Repair

    _prior_wanted: ClassVar[str] = "use GaussianMixture(prior='conjugate')"
    """What warnings say where only a prior keeps variances up."""

    def _warn_about(self, result: EMResult) -> None:
        above_fit = 5  # _warn_about, _fit, fit, its decorator, the caller
        self._warn_about_repairs(result, above_fit + 1)
        unfinished = self._unfinished(result)
        if unfinished is not None:
            warnings.warn(*unfinished, stacklevel=above_fit)

    def _unfinished(self, result: EMResult) -> tuple[str, type[Warning]] | None:
        """What a fit warns of that ended before it was done, None of one that was."""
        if result.out_of_time:
            return (
                f"The fit ended after max_time={self.max_time} seconds, before it was done: this is the best "
                f"so far, after {result.n_iter} iterations. Increase max_time, or go on by warm_start or "
                "a checkpoint."
            ), ConvergenceWarning
        if not result.converged and self.max_iter > 0:
            return (
                "Best performing initialization did not converge. Try different init parameters, or increase "
                "max_iter, tol, or check for degenerate data."
            ), ConvergenceWarning
        return None

    def _warn_about_variances(
        self, parameters: Parameters, n_rows: int, mean: FloatArray, spread: FloatArray, above_fit: int
    ) -> None:
        """Warn where reg_covar outweighs rows of this mean and spread."""
        names, structure = getattr(self, "feature_names_in_", None), self._structure()
        message = variances_message(
            structure, parameters, self._reg_covar_added(), n_rows, mean, spread, names, self._prior_wanted
        )
        if message:
            warnings.warn(message, RegularizationWarning, stacklevel=above_fit)

    def _reg_covar_added(self) -> float:
        """What is added to the variances of components."""
        return float(self.reg_covar)

    def _warn_about_repairs(self, result: EMResult, above_fit: int) -> None:
        if result.n_repairs:
            warnings.warn(
                repair_message(result.n_repairs, result.repaired, self.repair),
                RepairWarning,
                stacklevel=above_fit,
            )
