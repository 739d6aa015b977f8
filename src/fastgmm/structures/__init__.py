"""Covariance structures, one per file; base.py holds the contract."""

from __future__ import annotations

from .base import Estimate, Structure
from .diag import Diag
from .full import Full
from .spherical import Spherical
from .tied import Tied

STRUCTURES: dict[str, Structure] = {s.name: s for s in (Full(), Tied(), Diag(), Spherical())}

__all__ = ["STRUCTURES", "Estimate", "Structure"]
