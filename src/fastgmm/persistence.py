"""Mixtures in files: .npz archives of plain arrays and text, with a format version and without pickle.

An archive of format 2 holds

    header                      JSON as bytes: format "fastgmm", version 2, name of the estimator's class,
                                parameters of the constructor, history_, names of the other members
    weights_, means_, covariances_, precisions_cholesky_        float64, in the shapes of the attributes
    lower_bound_, lower_bounds_ (float64), n_iter_, n_repairs_, n_steps_ (int64), converged_ (bool)  where set
    feature_names_in_                                           text, where set
    weights_init, means_init, precisions_init                   float64, where given to the constructor
    mean_prior, covariance_prior, responsibilities_init         float64, or labels int64; likewise
    weight_concentration_ ... (see POSTERIOR)                   float64, of Bayesian mixtures
    prior.numbers, .mean, .scale                                float64, of a ConjugatePrior that was given:
                                                                shrinkage and degrees of freedom (NaN: None),
                                                                and its arrays where they are not None
    prior_.numbers, .mean, .scale                               float64, of the one that was used, where set

as members of an archive (archive.py). Format 1 lists no members; it is read, too. What a fit is told to write
on this machine (`checkpoint`) is neither written nor read: whoever made a file would choose where a later fit
of somebody else writes.

A reader trusts nothing: every member's name, type, shape and content
is checked before use, and whatever is wrong ends in a ValueError.
"""

from __future__ import annotations

import os
from typing import Any, TypeVar

import numpy as np
from sklearn.utils.validation import check_is_fitted

from . import archive
from ._attributes import attribute_parameters
from ._parameter_validation import check_mixture_weights, check_positive_definite
from .archive import Members, refuse_unless
from .conjugate_prior import ConjugatePrior

T = TypeVar("T")

FORMAT = "fastgmm"
VERSION = 2

_MODEL = ("weights_", "means_", "covariances_", "precisions_cholesky_")
_OPTIONAL = {  # member: its type
    "converged_": "|b1",
    "n_iter_": "<i8",
    "n_repairs_": "<i8",
    "n_steps_": "<i8",
    "lower_bound_": "<f8",
    "lower_bounds_": "<f8",
}
POSTERIOR = (
    "weight_concentration_",
    "mean_precision_",
    "degrees_of_freedom_",
    "weight_concentration_prior_",
    "mean_precision_prior_",
    "mean_prior_",
    "degrees_of_freedom_prior_",
    "covariance_prior_",
)
_GIVEN = (
    "weights_init", "means_init", "precisions_init", "mean_prior", "covariance_prior",
    "responsibilities_init",
)  # fmt: skip
_NOT_KEPT = {"checkpoint"}  # parameters that have their defaults in what is loaded
_PRIORS = {of: [f"{of}.{part}" for part in ("numbers", "mean", "scale")] for of in ("prior", "prior_")}
_MEMBERS = {
    "header", "feature_names_in_", *_MODEL, *POSTERIOR, *_OPTIONAL, *_GIVEN, *_PRIORS["prior"],
    *_PRIORS["prior_"],
}  # fmt: skip


# ---- save --------------------------------------------------------------------------------------------------


def save(mixture: Any, path: str | os.PathLike[str]) -> None:
    """Write a fitted mixture; see `save` of the estimators."""
    archive.save(path, _to_members(mixture))


def _to_members(mixture: Any) -> Members:
    check_is_fitted(mixture, _MODEL)
    mixture._validate_params()
    params = mixture.get_params(deep=False)
    given = {name: params.pop(name) for name in _GIVEN if name in params}
    priors = {"prior_": getattr(mixture, "prior_", None)}
    if isinstance(params.get("prior"), ConjugatePrior):
        priors["prior"] = params.pop("prior")
    header = {
        "format": FORMAT,
        "version": VERSION,
        "estimator": type(mixture).__name__,
        "parameters": {
            name: random_state_to_json(value) if name == "random_state" else _to_json(value)
            for name, value in params.items()
            if name not in _NOT_KEPT
        },
        "history": _to_json(getattr(mixture, "history_", {})),
    }
    members: Members = {}
    for name in (*_MODEL, *_posterior_of(mixture)):
        members[name] = np.asarray(getattr(mixture, name), dtype="<f8")
    for name, dtype in _OPTIONAL.items():
        if hasattr(mixture, name):
            members[name] = np.asarray(getattr(mixture, name), dtype=dtype)
    if hasattr(mixture, "feature_names_in_"):
        members["feature_names_in_"] = np.asarray(mixture.feature_names_in_, dtype=np.str_)
    for name, values in given.items():
        if values is not None:
            is_labels = name == "responsibilities_init" and np.asarray(values).dtype.kind in "iu"
            members[name] = np.asarray(values, dtype="<i8" if is_labels else "<f8")
    for name, prior in priors.items():
        members |= _members_of_prior(name, prior)
    members = archive.with_header(header, members)
    # What could not be read back is refused now, while the mixture still exists.
    try:
        _from_members(type(mixture), members)
    except ValueError as error:
        raise ValueError(f"This {type(mixture).__name__} cannot be saved: {error}") from error
    return members


def _posterior_of(mixture: Any) -> tuple[str, ...]:
    return POSTERIOR if "weight_concentration_prior_type" in mixture.get_params(deep=False) else ()


def _members_of_prior(name: str, prior: Any) -> Members:
    if prior is None:
        return {}
    refuse_unless(isinstance(prior, ConjugatePrior), f"{name} is no ConjugatePrior")
    dof = np.nan if prior.degrees_of_freedom is None else prior.degrees_of_freedom
    parts = zip(_PRIORS[name], ([prior.shrinkage, dof], prior.mean, prior.scale))
    return {member: np.asarray(values, dtype="<f8") for member, values in parts if values is not None}


def _to_json(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, dict):
        return {str(name): _to_json(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_to_json(item) for item in value]
    return value


def random_state_to_json(random_state: Any) -> Any:
    if not isinstance(random_state, np.random.RandomState):
        return _to_json(random_state)
    state = random_state.get_state(legacy=False)
    if state["bit_generator"] != "MT19937":
        raise ValueError(
            f"random_state must be an int, None or a RandomState of MT19937 to be saved, not of "
            f"{state['bit_generator']}."
        )
    return _to_json([state["state"]["key"], state["state"]["pos"], state["has_gauss"], state["gauss"]])


# ---- load --------------------------------------------------------------------------------------------------


def load(cls: type[T], path: str | os.PathLike[str]) -> T:
    """Read a mixture written by `save`; see `load` of the estimators."""
    with open(path, "rb") as file, archive.explained(f"{os.fspath(path)} is not a valid fastgmm file"):
        return _from_members(cls, archive.read(file, _MEMBERS))


def _from_members(cls: type[T], members: Members) -> T:
    """Make an estimator of what a file holds, checking all of it."""
    for name in ("header", *_MODEL):
        refuse_unless(name in members, f"{name} is missing")
    header = _checked_header(cls, members)
    params = {name: value for name, value in header["parameters"].items() if name not in _NOT_KEPT}
    for name in _GIVEN:
        if name in members:
            is_labels = name == "responsibilities_init" and members[name].dtype.kind == "i"
            params[name] = _number_or_array(archive.array(members, name, "<i8" if is_labels else "<f8"))
    given_prior = _prior_of_members("prior", members)
    if given_prior is not None:
        refuse_unless("prior" not in params, "it has two priors")
        params["prior"] = given_prior
    mixture: Any = cls(**params)
    # files of versions that had no priors say nothing of them
    missing = set(mixture.get_params(deep=False)) - set(params) - {*_GIVEN, *_NOT_KEPT, "prior"}
    refuse_unless(not missing, f"constructor parameters are missing: {sorted(missing)}")
    mixture._validate_params()
    for name in _MODEL:
        setattr(mixture, name, archive.array(members, name, "<f8").astype(np.float64))
    for name in _posterior_of(mixture):
        refuse_unless(name in members, f"{name} is missing")
        values = _number_or_array(archive.array(members, name, "<f8"))
        in_two = name == "weight_concentration_" and np.ndim(values) == 2
        setattr(mixture, name, tuple(values) if in_two else values)
    _check_model(mixture)
    mixture.precisions_ = mixture._structure().precisions(mixture.precisions_cholesky_)
    mixture.n_features_in_ = mixture.means_.shape[1]
    _set_prior(mixture, _prior_of_members("prior_", members))
    mixture.history_ = header["history"]
    _set_optional(mixture, members)
    return mixture


def _prior_of_members(name: str, members: Members) -> ConjugatePrior | None:
    numbers, mean, scale = _PRIORS[name]
    if not set(_PRIORS[name]) & set(members):
        return None
    values = archive.array(members, numbers, "<f8")
    refuse_unless(values.shape == (2,), f"{numbers} has the shape {values.shape}")
    shrinkage, dof = values.tolist()
    arrays = (
        _number_or_array(archive.array(members, part, "<f8")) if part in members else None
        for part in (mean, scale)
    )
    return ConjugatePrior(next(arrays), shrinkage, None if np.isnan(dof) else dof, next(arrays))


def _set_prior(mixture: Any, used: ConjugatePrior | None) -> None:
    """The prior that was used, of mixtures that have one; checked like the one that is given."""
    if "prior" not in mixture.get_params(deep=False):
        refuse_unless(used is None, f"a {type(mixture).__name__} has no prior_")
        return
    mixture._given_prior(mixture.n_features_in_)
    if used is not None:
        refuse_unless(used.is_complete, "prior_ is not complete")
        used = used.checked(mixture._structure(), mixture.n_features_in_, "prior_")
    mixture.prior_ = used


def _number_or_array(values: Any) -> Any:
    native = values.astype(values.dtype.newbyteorder("="))
    return native if native.ndim else native.item()


def _checked_header(cls: type[T], members: Members) -> dict[str, Any]:
    header = archive.checked_header(members, FORMAT, VERSION, {"estimator", "parameters", "history"})
    estimator = header["estimator"]
    refuse_unless(estimator == cls.__name__, f"it holds a {estimator!r}, not a {cls.__name__}")
    params = header["parameters"]
    refuse_unless(isinstance(params, dict) and not set(params) & set(_GIVEN), "its parameters are malformed")
    params["random_state"] = random_state_from_json(params.get("random_state"))
    _check_history(header["history"])
    return header


def random_state_from_json(value: Any) -> Any:
    """An int or None as they are, a RandomState from its state."""
    if not isinstance(value, list):
        return value
    keys, position, has_gauss, gauss = value
    keys = np.array(keys, dtype=np.uint32)
    is_state = keys.shape == (624,) and position in range(625) and has_gauss in (0, 1)
    refuse_unless(is_state and isinstance(gauss, float), "the state of its random_state is malformed")
    random_state = np.random.RandomState()
    random_state.set_state(("MT19937", keys, position, has_gauss, gauss))
    return random_state


def _check_history(history: Any) -> None:
    refuse_unless(isinstance(history, dict), "its history is not a table")
    for name, values in history.items():
        refuse_unless(isinstance(values, list), f"history_[{name!r}] is not a list")
        refuse_unless(_is_plain(values, depth=2), f"history_[{name!r}] holds other things than numbers")


def _is_plain(values: list[Any], depth: int) -> bool:
    return all(
        value is None
        or isinstance(value, bool | int | float | str)
        or (depth > 1 and isinstance(value, list) and _is_plain(value, depth - 1))
        for value in values
    )


def _check_model(mixture: Any) -> None:
    """Check the parameters as strictly as those a user gives."""
    structure = mixture._structure()
    parameters = attribute_parameters(mixture, structure, needs_covariances=True)
    shape = structure.covariance_shape(*parameters.means.shape)
    check_mixture_weights(parameters.weights, "weights_", len(parameters.weights))
    check_positive_definite(parameters.covariances, "covariances_", structure, shape)
    if _posterior_of(mixture):
        mixture.check_posterior()


def _set_optional(mixture: Any, members: Members) -> None:
    for name, dtype in _OPTIONAL.items():
        if name not in members:
            continue
        values = archive.array(members, name, dtype)
        refuse_unless(
            values.ndim == (1 if name == "lower_bounds_" else 0), f"{name} has {values.ndim} dimensions"
        )
        refuse_unless(not np.isnan(values).any(), f"{name} is not a number")
        setattr(mixture, name, values.tolist())
    for name in ("n_iter_", "n_repairs_", "n_steps_"):
        refuse_unless(getattr(mixture, name, 0) >= 0, f"{name} is negative")
    if "feature_names_in_" in members:
        names = members["feature_names_in_"]
        fits = names.dtype.kind == "U" and names.shape == (mixture.n_features_in_,)
        refuse_unless(fits, "feature_names_in_ does not name the features")
        mixture.feature_names_in_ = names.astype(object)
