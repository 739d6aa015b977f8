"""From and to scikit-learn's mixtures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import numpy as np

from ._validation import is_float32

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


class ConvertibleMixin:
    """Mixtures that scikit-learn has as well, under the same name."""

    def to_sklearn(self) -> Any:
        """Make scikit-learn's estimator with the same parameters and attributes.

        For converters and tools that ask for the class itself. What only fastgmm knows (`n_jobs`, `repair`,
        priors of `GaussianMixture`, ...) is left out; arrays are copied. A lower bound keeps its constant.

        Returns
        -------
        mixture : estimator of sklearn.mixture, of the same name
            Fitted if this one is, with as many components as were found.

        Raises
        ------
        NotFittedError
            If `n_components` is 'auto', which scikit-learn does not have, and nothing was found yet.
        """
        mixture: Any = self
        params = mixture.get_params(deep=False)
        if params["n_components"] == "auto":
            params["n_components"] = mixture.n_components_
        theirs = _sklearn_class(type(self))()
        theirs.set_params(**{name: params[name] for name in theirs.get_params(deep=False)})
        _copy_attributes(self, theirs)
        return theirs

    @classmethod
    def from_sklearn(cls, mixture: Any, **params: Any) -> Self:
        """Make a mixture with the parameters and attributes of scikit-learn's.

        Parameters
        ----------
        mixture : estimator of sklearn.mixture, of the same name
            Fitted or not; it is not changed.

        **params : dict
            Constructor parameters to set besides, such as `n_jobs`.

        Returns
        -------
        mixture : estimator
            Fitted if the one given is; attributes are float64 copies. The lower bound of a Bayesian mixture
            lacks its constant.

        Raises
        ------
        TypeError
            If `mixture` is of another class.
        """
        theirs = _sklearn_class(cls)
        if not isinstance(mixture, theirs):
            raise TypeError(
                f"mixture must be a sklearn.mixture.{theirs.__name__}, got {type(mixture).__module__}."
                f"{type(mixture).__name__}."
            )
        ours: Any = cls(**{**mixture.get_params(deep=False), **params})
        _copy_attributes(mixture, ours)
        covariances = getattr(mixture, "covariances_", ours)
        if is_float32(covariances) and mixture.covariance_type in ("full", "tied"):
            # Fitted in float32, matrices are symmetric to few digits, which NumPy does not like to draw from.
            ours.covariances_ = (ours.covariances_ + np.swapaxes(ours.covariances_, -1, -2)) / 2
        if hasattr(ours, "weights_"):
            # What only a fit of ours records: empty, so that a converted mixture can do all that a fitted one
            # can.
            ours.history_, ours.n_repairs_ = {}, 0
            if "prior" in ours.get_params(deep=False):
                ours.prior_ = None
        converted: Self = ours
        return converted


def _sklearn_class(cls: type) -> Any:
    """scikit-learn's class of the name that a class of ours has, or one that it comes from."""
    # Imported here: it brings clusterers, trees and linear models, longer to import than all of fastgmm.
    from sklearn import mixture

    return next(getattr(mixture, c.__name__) for c in cls.__mro__ if hasattr(mixture, c.__name__))
