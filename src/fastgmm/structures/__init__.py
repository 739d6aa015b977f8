"""Covariance structures, one per file; base.py holds the contract."""

from __future__ import annotations

from .base import Estimate, Structure, maximum_likelihood
from .diag import Diag
from .full import Full
from .spherical import Spherical
from .tied import Tied

_ALL: tuple[Structure, ...] = (Full(), Tied(), Diag(), Spherical())
STRUCTURES = {structure.name: structure for structure in _ALL}

__all__ = ["STRUCTURES", "Estimate", "Structure", "maximum_likelihood"]
