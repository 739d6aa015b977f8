"""The parameters of a mixture as its attributes hold them: the attributes are the model.

Users set `weights_`, `means_`, `covariances_` and `precisions_cholesky_` by hand or edit them in place, then
predict, score or sample. So the attributes are read and checked anew by every call, and nothing made of them
is kept.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.linalg import rq
from sklearn.utils.validation import check_is_fitted

from ._parameter_validation import COVARIANCE_SHAPES
from ._typing import FloatArray
from .parameters import Parameters


def attribute_parameters(estimator: Any, structure: Any, *, needs_covariances: bool) -> Parameters:
    """Read the parameters of a mixture from its attributes, which users may have set or edited by hand.

    Parameters
    ----------
    estimator : estimator
        With `weights_`, `means_`, `precisions_cholesky_` and, where read, `covariances_`.
    structure : Structure
    needs_covariances : bool
        Whether `covariances_` is read. Scoring does not look at it: without, `covariances` of what comes back
        is empty.

    Returns
    -------
    parameters : Parameters

    Raises
    ------
    NotFittedError
        If one of them is missing.
    ValueError
        If shapes do not fit together, weights are negative, or something is not finite or not invertible.
    """
    names = ["weights_", "means_", "precisions_cholesky_"] + ["covariances_"] * needs_covariances
    check_is_fitted(estimator, names)
    means = np.ascontiguousarray(estimator.means_, dtype=np.float64)
    if means.ndim != 2 or not means.size:
        raise ValueError(f"means_ should have the shape (n_components, n_features), but got {means.shape}.")
    n_components, n_features = means.shape
    shape = structure.covariance_shape(n_components, n_features)
    shape_text = COVARIANCE_SHAPES[structure.name]
    means = _attribute(means, "means_", means.shape, "")
    weights = _attribute(estimator.weights_, "weights_", (n_components,), "(n_components,)")
    if (weights < 0).any() or not weights.any():
        raise ValueError("weights_ should be non-negative, with at least one positive entry.")
    factors = _attribute(estimator.precisions_cholesky_, "precisions_cholesky_", shape, shape_text)
    factors = _checked_factors(factors, structure.name)
    covariances = np.empty(0)
    if needs_covariances:
        covariances = _attribute(estimator.covariances_, "covariances_", shape, shape_text)
    return Parameters(weights, means, covariances, factors)


def _attribute(values: Any, name: str, shape: tuple[int, ...], shape_text: str) -> FloatArray:
    array = np.ascontiguousarray(values, dtype=np.float64)
    if array.shape != shape:
        raise ValueError(
            f"{name} should have the shape {shape_text} = {shape} to go with means_ and covariance_type, but "
            f"got {array.shape}."
        )
    if not np.isfinite(array).all():
        raise ValueError(f"{name} contains NaN or infinity; parameters must be finite.")
    return array


def _checked_factors(factors: FloatArray, covariance_type: str) -> FloatArray:
    """Factors U of the precisions U U', upper triangular with a positive diagonal as the kernels want them.

    Users also set a lower triangular factor (``np.linalg.cholesky(precision)``), which serves scikit-learn's
    formula as well; it has the same U U' as the triangular factor of its RQ decomposition.
    """
    name = "precisions_cholesky_"
    if covariance_type in ("diag", "spherical"):
        if not (factors > 0).all():
            raise ValueError(f"{name} should be positive; it holds one over standard deviations.")
        return factors
    matrices = factors.reshape(-1, *factors.shape[-2:])
    diagonals = np.diagonal(matrices, axis1=1, axis2=2)
    odd = (diagonals <= 0).any(axis=1)
    odd |= np.tril(matrices, -1).any(axis=(1, 2))
    if not odd.any():
        return factors
    matrices = matrices.copy()
    for k in np.flatnonzero(odd):
        upper = rq(matrices[k], mode="r")
        upper *= np.sign(np.diagonal(upper))  # of columns: U U' does not change
        if not (np.diagonal(upper) > 0).all():
            raise ValueError(f"{name} of component {k} is singular.")
        matrices[k] = upper
    return matrices.reshape(factors.shape)


def attributes_of_parameters(structure: Any, parameters: Parameters) -> dict[str, Any]:
    """The attributes that are the model, by name."""
    return {
        "weights_": parameters.weights,
        "means_": parameters.means,
        "covariances_": parameters.covariances,
        "precisions_cholesky_": parameters.precisions_cholesky,
        "precisions_": structure.precisions(parameters.precisions_cholesky),
    }
