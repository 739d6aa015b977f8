"""Checks of parameters that the user gives: starts, priors, attributes set by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils import check_array

from ._typing import FloatArray, LabelArray
from ._validation import FLOATS, is_float32, on_host

# Matrices that differ more from their transposes are not meant to be symmetric; inverses differ by rounding.
LARGEST_ASYMMETRY = 1e-5
# How the shape of a covariance-like array reads in messages.
COVARIANCE_SHAPES = {
    "full": "(n_components, n_features, n_features)",
    "tied": "(n_features, n_features)",
    "diag": "(n_components, n_features)",
    "spherical": "(n_components,)",
}
# And that of the prior of a covariance.
COVARIANCE_PRIOR_SHAPES = {
    "full": "(n_features, n_features)",
    "tied": "(n_features, n_features)",
    "diag": "(n_features,)",
    "spherical": "of a number,",
}
# How far probabilities may be from summing to 1: those of float32 are, by rounding.
LARGEST_DEFECT = 1e-5


def check_parameter(values: Any, name: str, shape: tuple[int, ...], shape_text: str) -> FloatArray:
    """Validate one parameter array that the user gives.

    Parameters
    ----------
    values : array-like
    name : str
        As messages are to call it.
    shape : tuple of int
    shape_text : str
        The shape in words, such as ``"(n_components,)"``.

    Returns
    -------
    values : ndarray of that shape, float64, C-contiguous
        Always a copy: what the user gave is never written to.

    Raises
    ------
    ValueError
        For another shape, NaN or infinity.
    """
    array = check_array(
        on_host(values, name),
        dtype=FLOATS,
        ensure_2d=False,
        allow_nd=True,
        ensure_all_finite=False,
        ensure_min_samples=0,
        ensure_min_features=0,
        input_name=name,
    )
    if array.shape != shape:
        raise ValueError(f"{name} should have the shape {shape_text} = {shape}, but got {array.shape}.")
    bad = np.argwhere(~np.isfinite(array))
    if len(bad):
        place = tuple(int(i) for i in bad[0])
        raise ValueError(f"{name} contains {array[place]}, first at {name}{list(place)}; it must be finite.")
    return np.array(array, dtype=np.float64, order="C")


def check_mixture_weights(values: Any, name: str, n_components: int) -> FloatArray:
    """Validate weights of components: in [0, 1], summing to 1 within 1e-8 (1e-6 if given as float32)."""
    weights = check_parameter(values, name, (n_components,), "(n_components,)")
    for bad in np.flatnonzero((weights < 0) | (weights > 1))[:1]:
        raise ValueError(
            f"{name} should be in the range [0, 1], but it is {weights[bad]} for component {bad}."
        )
    atol = 1e-6 if is_float32(values) else 1e-8
    if abs(1.0 - weights.sum()) > atol:
        raise ValueError(
            f"{name} should be normalized, but its sum is {weights.sum():.10g}. Divide it by its sum."
        )
    return weights


def check_means(values: Any, name: str, n_components: int, n_features: int) -> FloatArray:
    """Validate the means of components."""
    return check_parameter(values, name, (n_components, n_features), "(n_components, n_features)")


def check_positive_definite(values: Any, name: str, structure: Any, shape: tuple[int, ...]) -> FloatArray:
    """Validate covariances or precisions: symmetric and positive definite in the shape of their structure.

    Returns a copy, symmetric to the last bit.
    """
    array = check_parameter(values, name, shape, COVARIANCE_SHAPES[structure.name])
    if structure.name in ("diag", "spherical"):
        bad = np.argwhere(array <= 0)
        if len(bad):
            place = tuple(int(i) for i in bad[0])
            raise ValueError(
                f"{name} should be positive, but {name}{list(place)} = {array[place]} (component {place[0]})."
            )
        return array
    for k, matrix in enumerate(array if structure.name == "full" else array[np.newaxis]):
        of = f" of component {k}" if structure.name == "full" else ""
        asymmetry = _asymmetry(matrix)
        if asymmetry.max() > LARGEST_ASYMMETRY:
            i, j = np.unravel_index(np.argmax(asymmetry), matrix.shape)
            raise ValueError(
                f"{name} should be symmetric, positive-definite, but the matrix{of} has {matrix[i, j]} at "
                f"[{i}, {j}] and {matrix[j, i]} at [{j}, {i}]."
            )
        if not _has_cholesky(matrix):
            raise ValueError(
                f"{name} should be symmetric, positive-definite, but the matrix{of} has the smallest "
                f"eigenvalue {np.linalg.eigvalsh(matrix)[0]:.3g}."
            )
        matrix[:] = (matrix + matrix.T) / 2
    return array


def _asymmetry(matrix: FloatArray) -> FloatArray:
    """Difference from the transpose, in units in which the diagonal is 1."""
    scale = np.sqrt(np.abs(np.diagonal(matrix)))
    scale[scale == 0] = 1
    return np.abs((matrix - matrix.T) / scale[:, np.newaxis] / scale)


def _has_cholesky(matrix: FloatArray) -> bool:
    # In units in which the diagonal is 1, so that features of very different scale do no harm.
    diagonal = np.diagonal(matrix)
    if not (diagonal > 0).all():
        return False
    scale = 1 / np.sqrt(diagonal)
    try:
        np.linalg.cholesky(matrix * scale[:, np.newaxis] * scale)
    except np.linalg.LinAlgError:
        return False
    return True


def check_assignment(
    values: Any, name: str, n_rows: int, n_components: int
) -> tuple[FloatArray | None, LabelArray | None]:
    """Validate responsibilities (n_rows, n_components), or labels (n_rows,); what was given, and None."""
    array = np.asarray(on_host(values, name))
    if array.ndim == 1 and array.dtype.kind in "iu":
        if array.shape != (n_rows,):
            raise ValueError(f"{name} has {len(array)} labels, but X has {n_rows} rows.")
        for row in np.flatnonzero((array < 0) | (array >= n_components))[:1]:
            raise ValueError(
                f"{name}[{row}] = {array[row]} is no component: labels go from 0 to n_components - 1 = "
                f"{n_components - 1}."
            )
        return None, array.astype(np.int64)
    text = "(n_samples, n_components), or that of integer labels, (n_samples,),"
    responsibilities = check_parameter(array, name, (n_rows, n_components), text)
    sums = responsibilities.sum(axis=1)
    bad = (responsibilities < 0).any(axis=1) | ~(np.abs(sums - 1.0) <= LARGEST_DEFECT)
    for row in np.flatnonzero(bad)[:1]:
        raise ValueError(
            f"{name} should hold probabilities, but row {row} is {responsibilities[row]}, of sum "
            f"{sums[row]:.10g}."
        )
    return responsibilities, None


def check_covariance_prior(
    values: Any, name: str, structure: Any, n_features: int, *, may_be_singular: bool = False
) -> FloatArray:
    """Validate the covariance of one component: a matrix, a diagonal, or a number, positive definite.

    may_be_singular : as that of rows is, of which a column is constant or depends on others
    """
    shape = structure.covariance_shape(1, n_features)
    expected = shape if structure.pooled else shape[1:]
    array = check_parameter(values, name, expected, COVARIANCE_PRIOR_SHAPES[structure.name])
    if may_be_singular:
        matrix = array if array.ndim == 2 else np.diag(np.atleast_1d(array))
        spread = np.abs(matrix).max()
        if (
            np.abs(matrix - matrix.T).max() > LARGEST_ASYMMETRY * spread
            or np.linalg.eigvalsh(matrix).min() < -LARGEST_ASYMMETRY * spread
        ):
            raise ValueError(f"{name} should be symmetric and positive semi-definite.")
        return array
    checked = check_positive_definite(array.reshape(shape), name, structure, shape)
    return checked.reshape(expected)
