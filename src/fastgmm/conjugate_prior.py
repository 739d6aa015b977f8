"""`ConjugatePrior`: what is taken to be known of means and covariances before the rows are seen."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from numbers import Real
from typing import Any

import numpy as np

from ._parameter_validation import check_covariance_prior, check_parameter
from ._typing import FloatArray
from .kernels._pass import MATRIX
from .structures import Structure

# Fraley and Raftery's choice: the prior tells as much of a mean as a hundredth of a row.
SHRINKAGE = 0.01


@dataclass(frozen=True, eq=False)
class ConjugatePrior:
    """Conjugate prior of the means and covariances of :class:`GaussianMixture`.

    The same for all components and independent of each other. A mean, given its component's covariance, is
    normal about `mean` with `covariance / shrinkage`. Covariances are inverse Wishart ('full', and the one of
    'tied'); variances are inverse gamma of shape ``degrees_of_freedom / 2`` and scale ``scale / 2``
    ('diag': each of them; 'spherical': the one of each component). Weights have no prior (Fraley and Raftery
    2007, Journal of Classification 24, 155-181).

    Parameters
    ----------
    mean : array-like of shape (n_features,), default=None
        Where means are drawn to. None: the mean of X, by `sample_weight`.

    shrinkage : float, default=0.01
        How many rows `mean` counts as, beside those of a component. 0: means have no prior.

    degrees_of_freedom : float, default=None
        How many rows, about, `scale` counts as. More than ``n_features - 1`` for 'full' and 'tied', more than
        0 for 'diag' and 'spherical'. None: ``n_features + 2``.

    scale : array-like or float, default=None
        What is added to the scatter of a component's rows about their mean, in squared units of X: of shape
        (n_features, n_features) for 'full' and 'tied', (n_features,) or a number for 'diag', a number for
        'spherical'; positive definite. None: the covariance of X (``numpy.cov``, by `sample_weight`), for
        'diag' and 'spherical' the mean of its diagonal, divided by ``n_components ** (2 / n_features)``.

    Raises
    ------
    ValueError
        For what can be no such parameter, whatever the mixture. What depends on the mixture `fit` checks.

    Notes
    -----
    The defaults are those of mclust's ``defaultPrior`` in R. For 'diag' that is one number for all features:
    where their units differ it is no weak prior of the narrow ones, and `scale` should be given, or X scaled.

    Priors are equal if all their parameters are. Arrays are copied, and the copies cannot be written to.

    Of n rows of mean m and scatter S about it, the posterior mode of 'full' has the mean
    ``(n m + shrinkage mean) / (n + shrinkage)`` and the covariance ::

        scale + S + n shrinkage / (n + shrinkage) (m - mean)(m - mean)'
        ---------------------------------------------------------------
                  n + degrees_of_freedom + n_features + 2

    Without a prior of means the last term above and one of the 2 below are missing.

    Examples
    --------
    >>> import numpy as np
    >>> from fastgmm import ConjugatePrior, GaussianMixture
    >>> X = [[0.0, 1.0], [0.0, 1.0], [0.1, 1.1], [5.0, 5.0]]
    >>> prior = ConjugatePrior(shrinkage=0, scale=[0.2, 0.2])
    >>> mixture = GaussianMixture(2, covariance_type="diag", prior=prior, random_state=0).fit(X)
    >>> mixture.prior_
    ConjugatePrior(mean=array([1.275, 2.025]), shrinkage=0.0, degrees_of_freedom=4.0, scale=array([0.2, 0.2]))
    >>> np.sort(mixture.covariances_[:, 0]).round(3)  # of three rows, and of one
    array([0.023, 0.029])
    """

    mean: Any = None
    shrinkage: float = SHRINKAGE
    degrees_of_freedom: float | None = None
    scale: Any = None

    def __post_init__(self) -> None:
        shrinkage = _number(self.shrinkage, "shrinkage")
        if shrinkage < 0:
            raise ValueError(f"shrinkage must not be negative, got {shrinkage!r}.")
        changes: dict[str, Any] = {"shrinkage": shrinkage}
        if self.degrees_of_freedom is not None:
            dof = _number(self.degrees_of_freedom, "degrees_of_freedom")
            if not dof > 0:
                raise ValueError(f"degrees_of_freedom must be positive, got {dof!r}.")
            changes["degrees_of_freedom"] = dof
        if self.mean is not None:
            changes["mean"] = _array(self.mean, "mean", (1,))
        if self.scale is not None:
            scale = _array(self.scale, "scale", (0, 1, 2))
            changes["scale"] = scale if scale.ndim else _positive(float(scale))
        for name, value in changes.items():
            object.__setattr__(self, name, value)  # what dataclasses do themselves where they are frozen

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies and pickles are made like the first one, whose arrays cannot be written to either."""
        return ConjugatePrior, tuple(getattr(self, field.name) for field in fields(self))

    def __eq__(self, other: object) -> bool:
        return self._values() == other._values() if isinstance(other, ConjugatePrior) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._values())

    def _values(self) -> tuple[Any, ...]:
        values = (getattr(self, field.name) for field in fields(self))
        return tuple((v.shape, v.tobytes()) if isinstance(v, np.ndarray) else v for v in values)

    @property
    def is_complete(self) -> bool:
        """Whether nothing is left to take from the rows."""
        return all(getattr(self, field.name) is not None for field in fields(self))

    def completed_by(self, other: ConjugatePrior | None) -> ConjugatePrior:
        """This prior, with what it leaves open as another has it."""
        if other is None:
            return self
        names = [field.name for field in fields(self) if getattr(self, field.name) is None]
        return replace(self, **{name: getattr(other, name) for name in names})

    def checked(self, structure: Structure, n_features: int, name: str = "prior") -> ConjugatePrior:
        """This prior for covariances of a structure: of the right shapes and proper, or a ValueError.

        Only the degrees of freedom are filled in where they are open.
        """
        D = n_features
        dof = D + 2.0 if self.degrees_of_freedom is None else self.degrees_of_freedom
        least = D - 1.0 if structure.moment_shape == MATRIX else 0.0
        if not dof > least:
            raise ValueError(
                f"{name}.degrees_of_freedom should be greater than n_features - 1 = {least:g} for "
                f"covariance_type={structure.name!r}, but got {dof:g}."
            )
        changes: dict[str, Any] = {"degrees_of_freedom": dof}
        if self.mean is not None:
            changes["mean"] = check_parameter(self.mean, f"{name}.mean", (D,), "(n_features,)")
        if self.scale is not None:
            scale = self.scale
            if structure.name == "diag" and isinstance(scale, float):
                scale = np.full(D, scale)
            changes["scale"] = check_covariance_prior(scale, f"{name}.scale", structure, D)
        return replace(self, **changes)


def _number(value: Any, name: str) -> float:
    if isinstance(value, bool | np.bool_) or not isinstance(value, Real) or not np.isfinite(float(value)):
        raise ValueError(f"{name} must be a finite number, got {value!r}.")
    return float(value)


def _positive(scale: float) -> float:
    if not scale > 0:
        raise ValueError(f"scale must be positive, got {scale!r}.")
    return scale


def _array(values: Any, name: str, n_dimensions: tuple[int, ...]) -> FloatArray:
    """A copy of finite numbers that cannot be written to."""
    try:
        shape = np.shape(values)
    except ValueError as error:
        raise ValueError(f"{name} must be an array, got {values!r}.") from error
    if len(shape) not in n_dimensions:
        allowed = " or ".join(map(str, n_dimensions))
        raise ValueError(f"{name} must have {allowed} dimension(s), got the shape {shape}.")
    array = check_parameter(np.atleast_1d(values), name, shape or (1,), "given").reshape(shape)
    array.setflags(write=False)
    return array
