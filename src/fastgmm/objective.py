"""What a fit maximises: how statistics become the next parameters, and the value that the loop watches.

The loop (em.py) and the passes know no likelihood and no prior. An objective says what rows are scored by
under given parameters, what follows from their statistics, and how good that is.
"""

from __future__ import annotations

from typing import Protocol

from .parameters import Parameters
from .repair import keep_weightless
from .statistics import Statistics
from .structures import Estimate, Structure, maximum_likelihood


class Objective(Protocol):
    """What a fit maximises.

    point_estimate : whether parameters are those of a mixture, for which given ones can stand as they are and
        an M-step is a start; not what a posterior is told by
    """

    point_estimate: bool

    def scored(self, parameters: Parameters) -> Parameters:
        """What rows are scored by under these parameters; the weights sum to 1."""

    def start(self, parameters: Parameters) -> Parameters:
        """What a fit starts from that is given these weights, means and covariances."""

    def estimate(self, statistics: Statistics, previous: Parameters | None) -> Estimate:
        """The parameters that are best for these responsibilities; `previous` gave them, if it is given."""

    def found(self, statistics: Statistics, parameters: Parameters) -> float:
        """Value of the parameters that the statistics were made under."""

    def reached(self, statistics: Statistics, before: Parameters, after: Parameters) -> float:
        """Value that counts for an iteration to `after` from `before`, which gave the statistics."""


class Likelihood:
    """The mean log-likelihood. An iteration counts what its pass has found, as scikit-learn's."""

    point_estimate = True

    def __init__(self, structure: Structure, reg_covar: float, n_threads: int) -> None:
        self.structure, self.reg_covar, self.n_threads = structure, reg_covar, n_threads

    def scored(self, parameters: Parameters) -> Parameters:
        return parameters

    def start(self, parameters: Parameters) -> Parameters:
        return parameters

    def estimate(self, statistics: Statistics, previous: Parameters | None) -> Estimate:
        estimate = maximum_likelihood(self.structure, statistics, self.reg_covar, self.n_threads)
        return estimate if previous is None else keep_weightless(estimate, previous, self.structure)

    def found(self, statistics: Statistics, parameters: Parameters) -> float:
        return statistics.log_likelihood / statistics.total_weight

    def reached(self, statistics: Statistics, before: Parameters, after: Parameters) -> float:
        return self.found(statistics, before)
