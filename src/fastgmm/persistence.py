"""Mixtures in files: .npz archives of plain arrays and text, with a format version and without pickle.

An archive of format 1 holds

    header                      JSON as bytes: format "fastgmm", version 1, name of the estimator's class,
                                parameters of the constructor, history_
    weights_, means_, covariances_, precisions_cholesky_        float64, in the shapes of the attributes
    lower_bound_, lower_bounds_ (float64), n_iter_, n_repairs_, n_steps_ (int64), converged_ (bool)  where set
    feature_names_in_                                           text, where set
    weights_init, means_init, precisions_init                   float64, where given to the constructor

as members that are stored, not compressed: none can then claim to be larger than the file. ``numpy.load``
reads it too. A reader trusts nothing: every member's name, type, shape and content is checked before use,
and whatever is wrong ends in a ValueError.
"""

from __future__ import annotations

import ast
import json
import math
import os
import secrets
import zipfile
from io import BytesIO
from typing import Any, BinaryIO, TypeVar

import numpy as np
from sklearn.utils.validation import check_is_fitted

from ._attributes import attribute_parameters
from ._validation import check_mixture_weights, check_positive_definite

T = TypeVar("T")

FORMAT = "fastgmm"
VERSION = 1

_MODEL = ("weights_", "means_", "covariances_", "precisions_cholesky_")
_OPTIONAL = {  # member: its type
    "converged_": "|b1",
    "n_iter_": "<i8",
    "n_repairs_": "<i8",
    "n_steps_": "<i8",
    "lower_bound_": "<f8",
    "lower_bounds_": "<f8",
}
_STARTS = ("weights_init", "means_init", "precisions_init")
_MEMBERS = {"header", "feature_names_in_", *_MODEL, *_OPTIONAL, *_STARTS}

# Members have the same date in every file, so that equal mixtures make equal files.
_DATE = (1980, 1, 1, 0, 0, 0)
_LARGEST_HEADER = 2**26  # bytes; a history of a million iterations is below it


# ---- save
# ----------------------------------------------------------------------------------------------------


def save(mixture: Any, path: str | os.PathLike[str]) -> None:
    """Write a fitted mixture; see `save` of the estimators."""
    members = _to_members(mixture)
    # Links are followed: replacing the link itself would leave the file it stands for as it was.
    path = os.path.realpath(path)
    # In the same folder, as a rename is atomic within one file system only.
    temporary = f"{path}.{os.getpid()}.{secrets.token_hex(4)}.tmp"
    try:
        with open(temporary, "xb") as file:
            _write(file, members)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        if os.path.exists(temporary):
            os.unlink(temporary)
        raise


def _write(file: BinaryIO, members: dict[str, np.ndarray]) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, values in members.items():
            content = BytesIO()
            np.lib.format.write_array(
                content, np.ascontiguousarray(values).reshape(values.shape), (1, 0), False
            )
            archive.writestr(zipfile.ZipInfo(f"{name}.npy", _DATE), content.getvalue())


def _to_members(mixture: Any) -> dict[str, np.ndarray]:
    check_is_fitted(mixture, _MODEL)
    mixture._validate_params()
    params = mixture.get_params(deep=False)
    given = {name: params.pop(name) for name in _STARTS if name in params}
    header = {
        "format": FORMAT,
        "version": VERSION,
        "estimator": type(mixture).__name__,
        "parameters": {
            name: _random_state_to_json(value) if name == "random_state" else _to_json(value)
            for name, value in params.items()
        },
        "history": _to_json(getattr(mixture, "history_", {})),
    }
    text = json.dumps(header).encode()
    members = {"header": np.frombuffer(text, dtype=np.uint8)}
    for name in _MODEL:
        members[name] = np.asarray(getattr(mixture, name), dtype="<f8")
    for name, dtype in _OPTIONAL.items():
        if hasattr(mixture, name):
            members[name] = np.asarray(getattr(mixture, name), dtype=dtype)
    if hasattr(mixture, "feature_names_in_"):
        members["feature_names_in_"] = np.asarray(mixture.feature_names_in_, dtype=np.str_)
    for name, values in given.items():
        if values is not None:
            members[name] = np.asarray(values, dtype="<f8")
    # What could not be read back is refused now, while the mixture still exists.
    try:
        _from_members(type(mixture), members)
    except ValueError as error:
        raise ValueError(f"This {type(mixture).__name__} cannot be saved: {error}") from error
    return members


def _to_json(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, dict):
        return {str(name): _to_json(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_to_json(item) for item in value]
    return value


def _random_state_to_json(random_state: Any) -> Any:
    if not isinstance(random_state, np.random.RandomState):
        return _to_json(random_state)
    state = random_state.get_state(legacy=False)
    if state["bit_generator"] != "MT19937":
        raise ValueError(
            f"random_state must be an int, None or a RandomState of MT19937 to be saved, not of "
            f"{state['bit_generator']}."
        )
    return _to_json([state["state"]["key"], state["state"]["pos"], state["has_gauss"], state["gauss"]])


# ---- load
# ----------------------------------------------------------------------------------------------------


def load(cls: type[T], path: str | os.PathLike[str]) -> T:
    """Read a mixture written by `save`; see `load` of the estimators."""
    with open(path, "rb") as file:
        try:
            members = _read(file)
            return _from_members(cls, members)
        except _Refused as error:
            raise ValueError(f"{os.fspath(path)} is not a valid fastgmm file: {error}") from error
        except MemoryError:
            raise
        except Exception as error:
            # Parsers of damaged files fail in more ways than can be listed: zipfile alone has a dozen.
            raise ValueError(
                f"{os.fspath(path)} is not a valid fastgmm file: {type(error).__name__}: {error}"
            ) from error


class _Refused(ValueError):
    """Something in a file is not as it must be."""


def _refuse_unless(condition: Any, message: str) -> None:
    if not condition:
        raise _Refused(message)


def _read(file: BinaryIO) -> dict[str, np.ndarray]:
    """Read the members of an archive, none of which can be larger than the file."""
    size = os.fstat(file.fileno()).st_size
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        names = [entry.filename for entry in entries]
        expected = {f"{name}.npy" for name in _MEMBERS}
        _refuse_unless(len(set(names)) == len(names), "it has two members of the same name")
        _refuse_unless(set(names) <= expected, f"it has unknown members {sorted(set(names) - expected)[:3]}")
        stored = all(entry.compress_type == zipfile.ZIP_STORED for entry in entries)
        _refuse_unless(stored, "it has compressed members")
        _refuse_unless(
            sum(entry.file_size for entry in entries) <= size, "its members are larger than the file"
        )
        return {
            entry.filename[: -len(".npy")]: _parse(entry.filename, archive.read(entry)) for entry in entries
        }


def _parse(name: str, content: bytes) -> np.ndarray:
    """Read one array: NumPy's format 1.0, whose header is checked against the length of what follows it."""
    _refuse_unless(content[:8] == b"\x93NUMPY\x01\x00", f"{name} is not an array")
    start = 10 + int.from_bytes(content[8:10], "little")
    _refuse_unless(start <= min(len(content), 10_000), f"the header of {name} is too long")
    header = ast.literal_eval(content[10:start].decode("latin1").strip())
    _refuse_unless(
        isinstance(header, dict) and set(header) == {"descr", "fortran_order", "shape"},
        f"the header of {name} is malformed",
    )
    descr, shape = header["descr"], header["shape"]
    is_plain = isinstance(descr, str) and (descr in ("<f8", "<i8", "|b1", "|u1") or descr[:2] == "<U")
    _refuse_unless(is_plain, f"{name} has the type {descr!r}")
    dtype = np.dtype(descr)
    is_shape = isinstance(shape, tuple) and all(type(n) is int and n >= 0 for n in shape) and len(shape) <= 3
    _refuse_unless(is_shape and header["fortran_order"] is False, f"{name} has the shape {shape!r}")
    # In Python's integers, which do not overflow.
    length = math.prod(shape) * dtype.itemsize
    _refuse_unless(length == len(content) - start, f"{name} has {len(content) - start} bytes, not {length}")
    return np.frombuffer(content, dtype=dtype, offset=start).reshape(shape)


def _from_members(cls: type[T], members: dict[str, np.ndarray]) -> T:
    """Make an estimator of what a file holds, checking all of it."""
    for name in ("header", *_MODEL):
        _refuse_unless(name in members, f"{name} is missing")
    header = _checked_header(cls, members["header"])
    params = dict(header["parameters"])
    for name in _STARTS:
        if name in members:
            params[name] = _array(members, name, "<f8").astype(np.float64)
    mixture: Any = cls(**params)
    missing = set(mixture.get_params(deep=False)) - set(params) - set(_STARTS)
    _refuse_unless(not missing, f"constructor parameters are missing: {sorted(missing)}")
    mixture._validate_params()
    for name in _MODEL:
        setattr(mixture, name, _array(members, name, "<f8").astype(np.float64))
    _check_model(mixture)
    mixture.precisions_ = mixture._structure().precisions(mixture.precisions_cholesky_)
    mixture.n_features_in_ = mixture.means_.shape[1]
    mixture.history_ = header["history"]
    _set_optional(mixture, members)
    return mixture


def _checked_header(cls: type[T], values: np.ndarray) -> dict[str, Any]:
    is_text = values.dtype == np.uint8 and values.ndim == 1 and values.size <= _LARGEST_HEADER
    _refuse_unless(is_text, "the header is not text")
    header = json.loads(values.tobytes().decode())
    _refuse_unless(isinstance(header, dict) and header.get("format") == FORMAT, "it is of another program")
    version = header.get("version")
    _refuse_unless(
        type(version) is int and version == VERSION,
        f"its format version is {version!r}, and this fastgmm reads version {VERSION}",
    )
    keys = {"format", "version", "estimator", "parameters", "history"}
    _refuse_unless(set(header) == keys, f"its header has the entries {sorted(header)}")
    estimator = header["estimator"]
    _refuse_unless(estimator == cls.__name__, f"it holds a {estimator!r}, not a {cls.__name__}")
    params = header["parameters"]
    _refuse_unless(
        isinstance(params, dict) and not set(params) & set(_STARTS), "its parameters are malformed"
    )
    params["random_state"] = _random_state_from_json(params.get("random_state"))
    _check_history(header["history"])
    return header


def _random_state_from_json(value: Any) -> Any:
    """An int or None as they are, a RandomState from its state."""
    if not isinstance(value, list):
        return value
    keys, position, has_gauss, gauss = value
    keys = np.array(keys, dtype=np.uint32)
    is_state = keys.shape == (624,) and position in range(625) and has_gauss in (0, 1)
    _refuse_unless(is_state and isinstance(gauss, float), "the state of its random_state is malformed")
    random_state = np.random.RandomState()
    random_state.set_state(("MT19937", keys, position, has_gauss, gauss))
    return random_state


def _check_history(history: Any) -> None:
    _refuse_unless(isinstance(history, dict), "its history is not a table")
    for name, values in history.items():
        _refuse_unless(isinstance(values, list), f"history_[{name!r}] is not a list")
        _refuse_unless(_is_plain(values, depth=2), f"history_[{name!r}] holds other things than numbers")


def _is_plain(values: list[Any], depth: int) -> bool:
    return all(
        value is None
        or isinstance(value, bool | int | float | str)
        or (depth > 1 and isinstance(value, list) and _is_plain(value, depth - 1))
        for value in values
    )


def _array(members: dict[str, np.ndarray], name: str, dtype: str) -> np.ndarray:
    _refuse_unless(members[name].dtype == np.dtype(dtype), f"{name} has the type {members[name].dtype}")
    return members[name]


def _check_model(mixture: Any) -> None:
    """Check the parameters as strictly as those a user gives."""
    structure = mixture._structure()
    parameters = attribute_parameters(mixture, structure, needs_covariances=True)
    shape = structure.covariance_shape(*parameters.means.shape)
    check_mixture_weights(parameters.weights, "weights_", len(parameters.weights))
    check_positive_definite(parameters.covariances, "covariances_", structure, shape)


def _set_optional(mixture: Any, members: dict[str, np.ndarray]) -> None:
    for name, dtype in _OPTIONAL.items():
        if name not in members:
            continue
        values = _array(members, name, dtype)
        _refuse_unless(
            values.ndim == (1 if name == "lower_bounds_" else 0), f"{name} has {values.ndim} dimensions"
        )
        _refuse_unless(not np.isnan(values).any(), f"{name} is not a number")
        setattr(mixture, name, values.tolist())
    for name in ("n_iter_", "n_repairs_", "n_steps_"):
        _refuse_unless(getattr(mixture, name, 0) >= 0, f"{name} is negative")
    if "feature_names_in_" in members:
        names = members["feature_names_in_"]
        fits = names.dtype.kind == "U" and names.shape == (mixture.n_features_in_,)
        _refuse_unless(fits, "feature_names_in_ does not name the features")
        mixture.feature_names_in_ = names.astype(object)
