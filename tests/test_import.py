"""What `import fastgmm` imports: what a fit needs, and nothing that takes long beside scikit-learn's own."""

from __future__ import annotations

import subprocess
import sys

# What only some programs need, and scikit-learn may bring or not.
OPTIONAL = ("dask", "distributed", "matplotlib", "pandas", "polars", "pyarrow")


def modules_after(statement: str) -> set[str]:
    """Names of the modules that a new process has imported."""
    program = f"{statement}\nimport sys\nprint(*sys.modules, sep='\\n')"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(run.stdout.split())


def test_fewer_modules_than_scikit_learns_mixtures_are_imported():
    # the time goes with their number: counted, for it is the same on every machine
    ours = modules_after("import fastgmm")
    assert len(ours) < len(modules_after("from sklearn.mixture import GaussianMixture"))
    assert "sklearn.mixture" not in ours
    assert "tqdm" not in ours
    needed = modules_after("import sklearn.base")
    assert not (ours - needed) & set(OPTIONAL)


def test_what_is_imported_later_is_found():
    program = """
import fastgmm
mixture = fastgmm.GaussianMixture(verbose=1).fit([[0.0], [1.0], [3.0]])
print(type(mixture.to_sklearn()).__module__)
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.startswith("sklearn.mixture")
    assert "GaussianMixture" in run.stderr
