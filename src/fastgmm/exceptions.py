"""Warning and error classes of fastgmm's own; everything else uses scikit-learn's and Python's."""

from __future__ import annotations

from sklearn.exceptions import ConvergenceWarning


class RepairWarning(UserWarning):
    """Components degenerated during a fit and were repaired; the message names them."""


class UnfinishedSearchWarning(ConvergenceWarning):
    """A search for the number of components, or for better ones, was cut off before it came to an end."""


class RegularizationWarning(UserWarning):
    """Variances of a fit are `reg_covar` and little else; the message names features and components."""


class CriterionWarning(UserWarning):
    """A criterion (BIC, AIC, ICL) is of a fit that ended while it still gained a lot."""


class DegenerateComponentError(ValueError):
    """A component degenerated during a fit with ``repair="raise"``."""
