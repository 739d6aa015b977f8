"""Warning and error classes of fastgmm's own; everything else uses scikit-learn's and Python's."""

from __future__ import annotations


class RepairWarning(UserWarning):
    """Components degenerated during a fit and were repaired; the message names them."""


class DegenerateComponentError(ValueError):
    """A component degenerated during a fit with ``repair="raise"``."""
