"""The pass as the rest of the package sees it: rows and a score map in, Statistics or row outputs out."""

from __future__ import annotations

from typing import Any

import numpy as np

from ._typing import BoolArray, FloatArray, LabelArray, OrderArray
from .blocks import ArrayData
from .frame import Frame
from .kernels._pass import (
    LOG_LIKELIHOOD,
    LOG_MAX,
    PAIRS,
    PAIRS_CENTRED,
    PAIRS_SINGLE,
    WEIGHT,
    Pass,
    Workspace,
)
from .pruning import Bounds
from .score_map import ScoreMap
from .single import SingleMap, halves
from .statistics import Statistics
from .structures import Structure


def accumulate(
    data: ArrayData,
    structure: Structure,
    frame: Frame,
    n_components: int,
    n_threads: int,
    *,
    score_map: ScoreMap | None = None,
    responsibilities: FloatArray | None = None,
    labels: LabelArray | None = None,
    centres: FloatArray | None = None,
    centred: BoolArray | None = None,
    second: FloatArray | None = None,
    hard: bool = False,
    made_under: bytes = b"",
    bounds: Bounds | None = None,
    order: OrderArray | None = None,
    workspace: Workspace | None = None,
    single: SingleMap | None = None,
) -> Statistics:
    """One pass: responsibilities from a score map, an (N, K) array or labels; Statistics out.

    Parameters
    ----------
    centres : (K, D) and centred : (K,) bool
        Components whose moments are taken about these points (user units) by the projected kernel; the
        others' are taken about the origin of the frame from the shared features.
    second : (D, D), optional
        Tied: the total scatter about the origin of the frame, if it is known already.
    bounds : for a pass that skips what does not matter (pruning.py)
    order : rows to visit, all of positive weight, in this order; given responsibilities stay by row
    workspace : memory that passes share
    single : the score map once more, for a pass in single precision; not one that adds up a total scatter
    """
    slots = None
    n_centred = 0 if centred is None else int(np.count_nonzero(centred))
    if centred is not None and n_centred:
        slots = np.where(centred, np.cumsum(centred) - 1, -1).astype(np.intc)
        centres = np.ascontiguousarray(centres)
    from_features = n_centred < n_components
    want_scatter = structure.pooled and from_features and second is None
    if structure.pooled and 0 < n_centred < n_components:
        raise AssertionError("pooled moments are centred for all components or for none")

    sweep = Pass(data.X, data.sample_weight, frame, n_components)
    if order is not None:
        sweep.in_order(order)
    if bounds is not None:
        bounds.apply_to(sweep)
    if score_map is not None:
        sweep.score(score_map, hard)
    elif responsibilities is not None:
        sweep.give_responsibilities(responsibilities)
    else:
        assert labels is not None
        sweep.give_labels(labels)
    # a score map that projects everything has no features: they are built for accumulation alone, if at all
    n_terms = structure.n_terms(data.n_features)
    needs_terms = from_features or (score_map is not None and not score_map.always_project)
    sweep.accumulate(
        structure.terms if needs_terms else 0,
        n_terms if needs_terms else 0,
        from_features,
        slots,
        centres if n_centred else None,
        structure.moment_shape,
        structure.pooled,
        want_scatter,
    )
    if single is not None:
        assert not want_scatter
        about = halves(centres) if n_centred and centres is not None else (None, None)
        sweep.in_single(single, *about)
    sums = sweep.run(n_threads, workspace)

    reference = np.repeat(frame.shift[None, :], n_components, axis=0)
    first = np.zeros(reference.shape)
    if from_features:
        first[:] = sums["terms"][:, : data.n_features]
        second = structure.second_about_origin(sums["terms"], sums["scatter"] if want_scatter else second)
    if n_centred:
        assert centred is not None
        assert centres is not None
        moments = structure.second_about_centres(sums["second"])
        reference[centred] = centres[centred]
        first[centred] = sums["first"]
        if n_centred == n_components:
            second = moments
        else:
            assert second is not None
            second[centred] = moments
    assert second is not None
    head = sums["head"]
    return Statistics(
        structure=structure.name,
        frame=frame,
        reference=reference,
        weight=sums["weight"],
        first=first,
        second=second,
        log_likelihood=float(head[LOG_LIKELIHOOD]),
        log_max_responsibility=float(head[LOG_MAX]),
        total_weight=float(head[WEIGHT]),
        n_rows=data.n_rows,
        pairs=float(head[PAIRS]),
        pairs_centred=float(head[PAIRS_CENTRED]),
        pairs_single=float(head[PAIRS_SINGLE]),
        fingerprint=made_under,
    )


def score_rows(
    data: ArrayData,
    frame: Frame,
    score_map: ScoreMap,
    n_components: int,
    n_threads: int,
    *,
    hard: bool = False,
    **outputs: Any,
) -> FloatArray:
    """One pass that only scores: row outputs (Pass.write), and the head of its sums.

    A row of weight 0 is not read: its outputs are those of the frame's origin.
    """
    sweep = Pass(data.X, data.sample_weight, frame, n_components)
    sweep.score(score_map, hard)
    sweep.write(**outputs)
    return sweep.run(n_threads)["head"]
