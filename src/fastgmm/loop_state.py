"""What a run of EM hands on: its result so far, and all that its next iteration depends on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np

from .parameters import Parameters

HISTORY = (
    "lower_bound",
    "seconds_pass",
    "seconds_estimate",
    "pairs",
    "pairs_centred",
    "pairs_single",
    "second_looks",
    "repairs",
    "taken_back",
)


@dataclass
class EMResult:
    """Where the loop ended and how it got there.

    lower_bound and lower_bounds are mean log-likelihoods per unit of weight of the parameters *before* each
    M-step, as scikit-learn counts them; parameters are those after the last one. An accelerated step that was
    taken back counts as an iteration, as it cost a pass, and its bound stands in the list.
    """

    parameters: Parameters
    converged: bool = False
    n_iter: int = 0
    lower_bound: float = -np.inf
    lower_bounds: list[float] = field(default_factory=list)
    history: dict[str, list[Any]] = field(default_factory=dict)
    n_repairs: int = 0
    repaired: tuple[int, ...] = ()
    out_of_time: bool = False
    cut_off: bool = False  # whether a search for moves ended before all were tried
    objective: Any = None  # what was maximised, where the likelihood was not


class LoopState(NamedTuple):
    """All that an iteration takes over from those before it.

    Attributes
    ----------
    result : so far; its parameters are those of the next pass
    of_two_kinds : whether the next bound is float64's, and the last float32's
    arrays : what the Maximiser and Anderson remember, by names that begin with theirs
    """

    result: EMResult
    of_two_kinds: bool
    arrays: dict[str, Any]


class Keeper(Protocol):
    """Keeps the state of a run somewhere, so that it can be gone on with after all else is lost."""

    def found(self) -> LoopState | None:
        """The state this run is to go on from, if it was begun before."""

    def is_due(self, iteration: int) -> bool:
        """Whether the state is to be kept after this iteration; 0: before the first."""

    def keep(self, state: LoopState) -> LoopState:
        """Keep it; what comes back is the state as it would be found."""


def nothing_done(start: Parameters, bound: float) -> EMResult:
    """The result before the first iteration."""
    return EMResult(start, lower_bound=bound, history={key: [] for key in HISTORY})
