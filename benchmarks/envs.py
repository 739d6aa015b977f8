"""The environment of oneDAL's em_gmm, which needs older numpy, scipy and scikit-learn than this package.

    python benchmarks/envs.py              # makes it now and prints its interpreter

Made on demand in ``benchmarks/.envs`` with pip, so the first time needs a package index and one of the
CPython versions daal4py 2024.7.0 has wheels for. Delete the folder to make it anew.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).with_name(".envs")
ONEDAL_REQUIREMENTS = (
    "numpy<2", "scipy<1.14", "scikit-learn==1.5.2", "daal4py==2024.7.0", "packaging", "pillow",
)  # fmt: skip
ONEDAL_PYTHONS = ("3.11", "3.12", "3.10")


class EnvironmentUnavailableError(RuntimeError):
    """The environment cannot be made here; the message says why."""


def onedal_python() -> Path:
    """Return the interpreter of oneDAL's environment, which is made first if it is missing."""
    folder = ROOT / "onedal"
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    if (folder / "complete").exists():
        return python
    shutil.rmtree(folder, ignore_errors=True)
    try:
        _run(_base_interpreter(), "-m", "venv", folder)
        _run(python, "-m", "pip", "install", "--quiet", *ONEDAL_REQUIREMENTS)
        _run(python, "-c", "import daal4py; daal4py.em_gmm")
    except (OSError, subprocess.CalledProcessError) as error:
        raise EnvironmentUnavailableError(f"oneDAL's environment could not be made: {error}") from error
    (folder / "complete").touch()
    return python


def _base_interpreter() -> str:
    for version in ONEDAL_PYTHONS:
        if f"{sys.version_info.major}.{sys.version_info.minor}" == version:
            return sys.executable
    for version in ONEDAL_PYTHONS:
        found = shutil.which(f"python{version}")
        # A version manager's shim can be on the path without the version behind it.
        if found and subprocess.run([found, "--version"], capture_output=True, check=False).returncode == 0:
            return found
    raise EnvironmentUnavailableError(f"oneDAL needs one of Python {', '.join(ONEDAL_PYTHONS)} on the path")


def _run(*command: object) -> None:
    subprocess.run([str(part) for part in command], check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    print(onedal_python())
