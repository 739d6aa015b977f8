"""From and to scikit-learn's mixtures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import sklearn.mixture

T = TypeVar("T")

_ARRAYS = (
    "weights_", "means_", "covariances_", "precisions_cholesky_", "precisions_", "mean_precision_",
    "mean_prior_",
)  # fmt: skip


def _number_or_array(values: Any) -> Any:
    """A number as a float, arrays as float64 copies, alone or two together."""
    if isinstance(values, tuple):
        return tuple(np.array(array, dtype=np.float64) for array in values)
    return np.array(values, dtype=np.float64) if np.ndim(values) else float(values)


_OTHERS: dict[str, Callable[[Any], Any]] = {
    "converged_": bool,
    "n_iter_": int,
    # of tied Bayesian mixtures scikit-learn's are arrays of one number
    "lower_bound_": lambda bound: float(np.ravel(bound)[0]),
    "lower_bounds_": lambda bounds: [float(np.ravel(bound)[0]) for bound in bounds],
    "weight_concentration_": _number_or_array,
    "degrees_of_freedom_": _number_or_array,
    "covariance_prior_": _number_or_array,
    "weight_concentration_prior_": float,
    "mean_precision_prior_": float,
    "degrees_of_freedom_prior_": float,
    "n_features_in_": int,
    "feature_names_in_": np.array,
}


def _copy_attributes(source: Any, target: Any) -> None:
    """Copy the attributes both classes have, as far as the source has them."""
    for name in _ARRAYS:
        if hasattr(source, name):
            setattr(target, name, np.array(getattr(source, name), dtype=np.float64, order="C"))
    for name, convert in _OTHERS.items():
        if hasattr(source, name):
            setattr(target, name, convert(getattr(source, name)))


def to_sklearn(mixture: Any, name: str) -> Any:
    """Make scikit-learn's estimator of this name from ours; see `GaussianMixture.to_sklearn`."""
    params = mixture.get_params(deep=False)
    theirs = getattr(sklearn.mixture, name)()
    theirs.set_params(**{name: params[name] for name in theirs.get_params(deep=False)})
    _copy_attributes(mixture, theirs)
    return theirs


def from_sklearn(cls: type[T], mixture: Any, params: dict[str, Any], name: str) -> T:
    """Make our estimator from scikit-learn's of this name; see `GaussianMixture.from_sklearn`."""
    if not isinstance(mixture, getattr(sklearn.mixture, name)):
        raise TypeError(
            f"mixture must be a sklearn.mixture.{name}, got {type(mixture).__module__}."
            f"{type(mixture).__name__}."
        )
    ours: Any = cls(**{**mixture.get_params(deep=False), **params})
    _copy_attributes(mixture, ours)
    theirs = getattr(mixture, "covariances_", ours)
    if getattr(theirs, "dtype", None) == np.float32 and mixture.covariance_type in ("full", "tied"):
        # Fitted in float32, matrices are symmetric to few digits, which NumPy does not like to draw from.
        ours.covariances_ = (ours.covariances_ + np.swapaxes(ours.covariances_, -1, -2)) / 2
    if hasattr(ours, "weights_"):
        # What only a fit of ours records: empty, so that a converted mixture can do all that a fitted one
        # can.
        ours.history_, ours.n_repairs_ = {}, 0
    return ours
