"""float32 arithmetic: where it may be used, and what its kernels are given (docs/numerical_contract.md).

A pass in single precision reads float32 rows, scores and normalises them and adds up each block in float32;
sums over blocks, parameters and all that is derived from them stay float64. Each block is tested, and one
that single precision is not good enough for is done in float64 (kernels/tiles_single.h).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ._typing import FloatArray, IndexArray
from .blocks import ArrayData
from .frame import Frame
from .kernels._pass import DIAGONAL, FULL, MATRIX, SPHERICAL
from .parameters import Parameters
from .score_map import ScoreMap
from .structures import Estimate, Structure

SingleArray = NDArray[np.float32]

EPSILON = float(np.finfo(np.float32).eps)
# As score_map.LARGEST_ERROR, for float32: a bound on what rounding does to a score, of which it does about a
# thirtieth in practice. Errors differ from row to row, so that a mean over MANY_ROWS has 1e-6 of them; fewer
# rows get less, down to FEW_ROWS, where scores are expanded in features. Projected ones are more exact.
LARGEST_ERROR = 1e-2
MANY_ROWS, FEW_ROWS = 2**16, 2**13
# Many features may add up to more than they do in practice, and pruning must allow for it. Beyond this its
# bounds would be too loose, and the projected kernel, which has only D numbers to add, takes over sooner.
LARGEST_SLACK = 1.0
# As structures.base.STATISTICS_LIMIT: a bound on what rounding does to a whitened covariance, by no more than
# a tenth of this in practice. Errors of many blocks cancel, the likelihood changes by the square of what is
# left, and the next M-step begins anew.
MOMENTS_LIMIT = 2e-3 / EPSILON
# The same for what correlations alone do, however near the mean is that moments are about: 1e-2 for
# (roughness / EPSILON)^2. There the bound is some D times what random errors come to.
LARGEST_ROUGHNESS = (1e-2 * EPSILON) ** 0.5
# Where the mean log-likelihood changes by less than this share of itself, or than this, changes are made of
# rounding: where a tolerance asks for more, passes are in float64 from then on, and nothing converges before.
NOISE = 2e-6
# A pass is in float64 where components that are rougher have more than this share of the weight: the blocks
# that they have a part in would be done twice.
LARGEST_SHARE = 0.25
# After a pass of which less than this share of pairs stayed in float32 so many passes are in float64.
SMALLEST_GAIN, REST = 0.6, 8
# Passes in float64 where moments in float32 came out too rough: these once more, and again about new centres.
LOOKS = 2
# Squares of a reach, weighted and added up over a block, stay far below 3e38, the largest float32; so do rows
# in frames of these scales, and weights within these.
LARGEST_REACH = 2.0**30
LARGEST_EXPONENT = 100
LARGEST_WEIGHT = 2.0**30


@dataclass
class SingleMap:
    """A score map and a frame in float32, as kernels/job.h has them (fg_single)."""

    coef: SingleArray | None
    offset: SingleArray | None
    offset_low: SingleArray | None
    root: SingleArray | None
    constant: SingleArray
    common_root: SingleArray | None
    centre: SingleArray
    centre_low: SingleArray
    shift: SingleArray
    shift_low: SingleArray
    scale: SingleArray
    base: float
    roughness: FloatArray
    slack: float
    share: float
    feature_share: float
    limit: float
    largest_error: float = LARGEST_ERROR
    largest_reach: float = LARGEST_REACH
    largest_roughness: float = LARGEST_ROUGHNESS


def possible(data: ArrayData, frame: Frame) -> bool:
    """Whether passes may be in float32: never over float64 rows, nor at the ends of float32's range."""
    if data.X.dtype != np.float32:
        return False
    weight = data.sample_weight
    if weight is not None:
        positive = weight[weight > 0]
        if not ((positive <= LARGEST_WEIGHT) & (positive >= 1.0 / LARGEST_WEIGHT)).all():
            return False
    return bool((np.abs(np.log2(frame.scale)) <= LARGEST_EXPONENT).all())


def halves(a: FloatArray) -> tuple[SingleArray, SingleArray]:
    """float32 numbers that add up to `a`, to 48 bits."""
    high = a.astype(np.float32)
    return high, (a - high).astype(np.float32)


def single_map(
    score_map: ScoreMap, parameters: Parameters, structure: Structure, frame: Frame, n_rows: int
) -> SingleMap | None:
    """The map rounded to float32; None where float64 is to be used: no numbers, or too few digits."""
    with np.errstate(over="ignore", invalid="ignore"):
        result = _rounded(score_map, parameters, structure, frame, n_rows)
    if parameters.weights[~(result.roughness <= result.largest_roughness)].sum() > LARGEST_SHARE:
        return None
    arrays = (
        result.coef,
        result.offset_low,
        result.root,
        result.common_root,
        result.centre_low,
        result.shift_low,
    )
    return result if all(a is None or np.isfinite(a).all() for a in arrays) else None


def _rounded(
    m: ScoreMap, parameters: Parameters, structure: Structure, frame: Frame, n_rows: int
) -> SingleMap:
    assert m.constant is not None
    assert m.root is not None
    base = float(m.constant.max())
    coef = offset = offset_low = common_root = None
    if m.common_root is not None:
        common_root = m.common_root.astype(np.float32)
    if m.coef is not None:
        coef = m.coef.astype(np.float32)
        exact = _offset_of(coef, common_root, m, frame.to_frame(parameters.means)) - base
        offset, offset_low = halves(exact)
        offset_low[exact == -np.inf] = 0.0  # of components of weight 0
    centre, centre_low = halves(parameters.means)
    shift, shift_low = halves(frame.shift)
    expanded_error = LARGEST_ERROR * min(1.0, max(FEW_ROWS, n_rows) / MANY_ROWS) ** 0.5
    # Rounded one after the other, by half of EPSILON each: sums, and some numbers before and after them.
    projecting = (frame.shift.size + 8) / 2
    expanding = ((0 if coef is None else coef.shape[1]) + 8) / 2 * EPSILON
    return SingleMap(
        coef=coef,
        offset=offset,
        offset_low=offset_low,
        root=np.ascontiguousarray(m.root.reshape(-1), dtype=np.float32),
        constant=(m.constant - base).astype(np.float32),
        common_root=common_root,
        centre=centre,
        centre_low=centre_low,
        shift=shift,
        shift_low=shift_low,
        scale=frame.scale.astype(np.float32),
        base=base,
        roughness=roughness(parameters, structure),
        slack=projecting * LARGEST_ERROR,
        share=2 * projecting,
        feature_share=expanding,
        limit=min(expanded_error / EPSILON, LARGEST_SLACK / expanding),
    )


@lru_cache(maxsize=8)
def pairs(n_features: int) -> tuple[IndexArray, IndexArray]:
    """i and j of the features z_i z_j, in their order."""
    return np.triu_indices(n_features)


def _offset_of(
    coef: SingleArray, common_root: SingleArray | None, m: ScoreMap, mean: FloatArray
) -> FloatArray:
    """Offsets that make scores at the means exact with rounded coefficients.

    What rounding does to coefficients is the same for all rows, and would stay in the mean log-likelihood.
    With such an offset hardly any of it is left in the mean over the rows of a component.
    """
    features = [mean]
    if m.terms == SPHERICAL:
        features.append((mean**2).sum(axis=1, keepdims=True))
    elif m.terms == DIAGONAL:
        features.append(mean**2)
    elif m.terms == FULL:
        i, j = pairs(mean.shape[1])
        features.append(mean[:, i] * mean[:, j])
    assert m.constant is not None
    offset = m.constant - (coef * np.concatenate(features, axis=1)).sum(axis=1)
    if common_root is not None:
        offset += 0.5 * ((mean @ common_root.T.astype(np.float64)) ** 2).sum(axis=1)
    return offset


def roughness(parameters: Parameters, structure: Structure) -> FloatArray:
    """Relative error of squared distances, (K,).

    y = U'd errs by EPSILON |U|'|d|, where |d_i| <= sd_i |y|: so |y|^2 errs by EPSILON | |U|' sd | |y|^2. The
    square of that norm also bounds what rounding of the order of EPSILON sd_i sd_j in moments becomes in the
    whitened covariance: hence LARGEST_ROUGHNESS.
    """
    K = parameters.means.shape[0]
    if structure.moment_shape != MATRIX:
        return np.full(K, EPSILON)
    spread = np.sqrt(np.einsum("...ii->...i", parameters.covariances))
    roots = np.abs(parameters.precisions_cholesky)
    size = np.linalg.norm(np.matmul(spread[..., None, :], roots)[..., 0, :], axis=-1)
    return np.ascontiguousarray(np.broadcast_to(EPSILON * size, (K,)))


def came_out_rough(estimate: Estimate, before: Parameters, structure: Structure) -> bool:
    """Whether moments that were summed in float32 have too few digits for the covariances they became.

    Blocks where a component has a part that was too rough before were done in float64.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        rough = ~(roughness(estimate.parameters, structure) <= LARGEST_ROUGHNESS)
        was_rough = ~(roughness(before, structure) <= LARGEST_ROUGHNESS)
    return bool(((rough | estimate.singular) & ~was_rough & ~estimate.starved).any())
