"""Variational Bayesian mixtures: priors, posteriors, the evidence lower bound, and what follows from them."""

from __future__ import annotations

from .evidence import Evidence
from .posterior import Posterior
from .prior import Prior

__all__ = ["Evidence", "Posterior", "Prior"]
