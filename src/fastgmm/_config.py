"""What this installation of fastgmm runs on."""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal, overload

from threadpoolctl import threadpool_info

from ._documentation import DOCS
from .kernels import _pass
from .threads import effective_n_threads

_PACKAGES = ("numpy", "scipy", "scikit-learn", "threadpoolctl", "tqdm")


def _package_version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _configuration() -> dict[str, Any]:
    pools = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
    return {
        "fastgmm": _package_version("fastgmm"),
        "instruction set": _pass.current_isa(),
        "instruction sets available": list(_pass.available_isas()),
        "FASTGMM_ISA": os.environ.get("FASTGMM_ISA"),
        "OpenMP": bool(_pass.openmp_enabled()),
        "threads at n_jobs=None": effective_n_threads(None),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS"),
        "BLAS": [f"{pool['internal_api']} {pool['version']}" for pool in pools],
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        **{name: _package_version(name) for name in _PACKAGES},
        "documentation": DOCS,
    }


@overload
def show_config(mode: Literal["stdout"] = "stdout") -> None: ...
@overload
def show_config(mode: Literal["dicts"]) -> dict[str, Any]: ...
def show_config(mode: Literal["stdout", "dicts"] = "stdout") -> dict[str, Any] | None:
    """Show what fastgmm runs on: instruction set, threads, libraries; and where its documentation is.

    The instruction set is chosen once, when fastgmm is imported: the best that the processor has and fastgmm
    was compiled for, or the one that the environment variable ``FASTGMM_ISA`` names.

    Parameters
    ----------
    mode : {'stdout', 'dicts'}, default='stdout'
        'stdout' prints, 'dicts' returns the same as a dictionary (the names of NumPy's `show_config`).

    Returns
    -------
    configuration : dict or None
        The configuration if `mode` is 'dicts', else None.

    Raises
    ------
    ValueError
        If `mode` is neither.

    Examples
    --------
    >>> import fastgmm
    >>> fastgmm.show_config("dicts")["instruction set"] is not None
    True
    """
    if mode not in ("stdout", "dicts"):
        raise ValueError(f"mode must be 'stdout' or 'dicts', got {mode!r}.")
    configuration = _configuration()
    if mode == "dicts":
        return configuration
    width = max(map(len, configuration))
    for name, value in configuration.items():
        text = (
            ", ".join(map(str, value))
            if isinstance(value, list)
            else "not set"
            if value is None
            else str(value)
        )
        print(f"{name.ljust(width)}  {text}")
    return None
