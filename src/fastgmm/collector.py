"""Passes over all rows of a fit, wherever they are: what is asked of one, and who makes it for arrays.

The loop (em.py) knows collectors only by `collect`: a request in, Statistics out. Between its passes a
collector keeps what makes the next one faster, which is never needed for the result.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple, Protocol

import numpy as np

from . import single
from ._typing import BoolArray, FloatArray
from .blocks import ArrayData
from .frame import Frame
from .kernels._pass import Workspace
from .parameters import Parameters
from .passes import accumulate
from .pruning import NEGLIGIBLE, Pruning
from .score_map import ScoreMap
from .single import SingleMap
from .statistics import Statistics
from .structures import Structure


class Setting(NamedTuple):
    """What stays the same over all passes of a fit."""

    structure: Structure
    frame: Frame
    n_components: int
    n_threads: int
    arithmetic: str = "float64"


class Request(NamedTuple):
    """What one pass is to do: a few arrays of the size of the parameters.

    Attributes
    ----------
    parameters : that responsibilities are computed under
    centres, centred : (K, D) and (K,) bool
        Components whose moments are taken about these points; the others' are about the frame's origin.
    score_map : of the parameters, for n_active; not sent to other machines, which make it again
    n_active : components scored per block of rows in the last pass; all where nothing was skipped
    single_map : the score map rounded to float32, for a pass in it; not sent either
    to_the_end : no pass will be in float32 any more
    scatter_is_known : tied covariances: the total scatter is not wanted again, and comes out as 0
    forget : score every pair of block and component
    """

    parameters: Parameters
    centres: FloatArray
    centred: BoolArray
    score_map: ScoreMap | None = None
    n_active: float = np.inf
    single_map: SingleMap | None = None
    to_the_end: bool = False
    scatter_is_known: bool = False
    forget: bool = False


class Collector(Protocol):
    """Makes passes over all rows, one after the other."""

    single: bool
    """Whether passes may be in float32."""

    def collect(self, request: Request) -> Statistics:
        """One pass over all rows."""

    def rebuild(self) -> None:
        """Forget what is kept between passes: the next is made as if it were the first."""


class ArrayCollector:
    """Passes over rows in memory; skips what provably does not matter where that pays (pruning.py).

    The rows may be taken away between two passes (`data`), where they are read again for each.
    """

    def __init__(self, data: ArrayData, setting: Setting, workspace: Workspace | None = None) -> None:
        self.data: ArrayData | None = data
        self.setting = setting
        self.workspace = Workspace() if workspace is None else workspace
        self.single = setting.arithmetic == "float32" and single.possible(data, setting.frame)
        self.sizes = data.sizes
        self.rebuild()

    def rebuild(self) -> None:
        """Forget the order of the rows and their bounds."""
        structure, frame, n_components, n_threads, _ = self.setting
        self.pruning = Pruning(self.sizes, structure, frame, n_components, n_threads, self.single)

    def collect(self, request: Request) -> Statistics:
        """One pass over the rows."""
        assert self.data is not None
        structure, frame, n_components, n_threads, _ = self.setting
        assert request.score_map is not None
        pruning = self.pruning
        if request.to_the_end:
            pruning.negligible = NEGLIGIBLE
        if request.forget:
            pruning.forget()
        bounds = pruning.bounds(request.parameters, self.data)
        no_scatter = None
        if request.scatter_is_known and structure.pooled and not request.centred.any():
            no_scatter = np.zeros((self.data.n_features, self.data.n_features))
        statistics = accumulate(
            self.data,
            structure,
            frame,
            n_components,
            n_threads,
            score_map=request.score_map,
            centres=request.centres,
            centred=request.centred,
            second=no_scatter,
            bounds=bounds,
            workspace=self.workspace,
            single=request.single_map if self.single else None,
        )
        if bounds is None:
            return statistics
        pruning.learn(statistics.pairs)
        return replace(statistics, pairs_skipped=pruning.n_pairs - statistics.pairs)
