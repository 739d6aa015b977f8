"""The programs of docs/engines.md, run as they stand, each in a process of its own."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tolerances import PARITY_PARAMETERS

from fastgmm import GaussianMixture

PAGE = Path(__file__).parent.parent / "docs" / "engines.md"
LONGEST_PROGRAM = 15  # lines: what the page promises by showing them
SECONDS = 240
N_ROWS = 6000


def programs() -> dict[str, str]:
    """Programs by the heading above them."""
    if not PAGE.exists():  # an installed package is tested without its documentation
        return {}
    found = re.findall(
        r"^### (\w+)\n(?:(?!^#).)*?^```python\n(.*?)^```$", PAGE.read_text("utf-8"), re.M | re.S
    )
    return dict(found)


pytestmark = pytest.mark.skipif(not PAGE.exists(), reason="the documentation is not here")


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    means = np.array([[0.0, 0.0, 0.0], [3.0, -2.0, 1.0], [-3.0, 2.0, 4.0]])
    return means[rng.integers(3, size=N_ROWS)] + rng.standard_normal((N_ROWS, 3)) * [0.5, 1.0, 1.5]


def run(name: str, folder: Path, *launcher: str) -> GaussianMixture:
    """The mixture that a program of the page leaves."""
    (folder / "program.py").write_text(programs()[name], encoding="utf-8")
    paths = [str(Path(importlib.util.find_spec("fastgmm").origin).parent.parent)]
    paths += [os.environ["PYTHONPATH"]] if "PYTHONPATH" in os.environ else []
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYSPARK_PYTHON": sys.executable}
    process = subprocess.run(
        [*launcher, sys.executable, "program.py"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert process.returncode == 0, process.stderr[-4000:]
    return GaussianMixture.load(folder / "mixture.npz")


def assert_follows_fit(mixture, first_part, rows):
    """As `fit` from the same start: the same number of iterations, and of digits."""
    start = GaussianMixture(3, max_iter=0, random_state=0).fit(first_part)
    assert start.n_iter_ == 0
    np.testing.assert_array_equal(start.means_.shape, (3, 3))
    fitted = GaussianMixture(
        3, weights_init=start.weights_, means_init=start.means_, precisions_init=start.precisions_
    ).fit(rows)
    assert mixture.converged_
    assert mixture.n_iter_ == fitted.n_iter_ > 2
    np.testing.assert_allclose(mixture.lower_bounds_, fitted.lower_bounds_, rtol=PARITY_PARAMETERS)
    for name in ("weights_", "means_", "covariances_"):
        np.testing.assert_allclose(
            getattr(mixture, name), getattr(fitted, name), rtol=0, atol=PARITY_PARAMETERS
        )


@pytest.fixture
def parts(rows, tmp_path):
    """Parts of the rows in files, of which the program's start is made from the first."""
    cuts = np.split(rows, [1000, 3500])
    for number, part in enumerate(cuts):
        np.save(tmp_path / f"part{number}.npy", part)
    return cuts


def test_programs_are_short():
    found = programs()
    assert found.keys() == {"multiprocessing", "MPI", "Spark", "Ray"}
    for name, text in found.items():
        assert len(text.splitlines()) <= LONGEST_PROGRAM, name


def test_multiprocessing(rows, parts, tmp_path):
    assert_follows_fit(run("multiprocessing", tmp_path), parts[0], rows)


@pytest.mark.slow
def test_mpi(rows, parts, tmp_path):
    pytest.importorskip("mpi4py")
    launcher = shutil.which(
        "mpiexec", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    )
    if launcher is None:
        pytest.skip("needs mpiexec")
    assert_follows_fit(run("MPI", tmp_path, launcher, "-n", "3"), parts[0], rows)


@pytest.mark.slow
def test_spark(rows, tmp_path):
    pytest.importorskip("pyspark")
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    if shutil.which("java") is None:
        pytest.skip("needs Java")
    frame = pandas.DataFrame(rows, columns=["a", "b", "c"])
    frame.to_parquet(tmp_path / "rows.parquet", row_group_size=2000)
    mixture = run("Spark", tmp_path)
    assert list(mixture.feature_names_in_) == ["a", "b", "c"]
    assert_follows_fit(mixture, rows[:1000], rows)


@pytest.mark.slow
def test_ray(rows, parts, tmp_path):
    pytest.importorskip("ray")
    assert_follows_fit(run("Ray", tmp_path), parts[0], rows)
