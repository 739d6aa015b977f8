"""Type checkers know what the estimators have: options, methods, attributes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Literal, get_args, get_origin, get_type_hints

import pytest
from sklearn.utils._param_validation import StrOptions

import fastgmm
from fastgmm import BayesianGaussianMixture, GaussianMixture, MiniBatchGaussianMixture

CLIENT = Path(__file__).parent / "typed_client.py"


def test_a_client_passes_strict_checks_and_its_mistakes_are_found(tmp_path):
    pytest.importorskip("mypy")
    environment = dict(os.environ)
    source = Path(fastgmm.__file__).parents[1]
    if source.name == "src":  # mypy finds what is installed, and refuses to be told where
        environment["MYPYPATH"] = str(source)
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--config-file=", f"--cache-dir={tmp_path}",
         "--follow-imports=silent", str(CLIENT)],
        cwd=tmp_path, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert checked.returncode == 0, checked.stdout + checked.stderr


def literals(annotation: object) -> set[str]:
    """All strings of an annotation's Literals."""
    if get_origin(annotation) is Literal:
        return {value for value in get_args(annotation) if isinstance(value, str)}
    return set().union(*map(literals, get_args(annotation)))


@pytest.mark.parametrize("estimator", [BayesianGaussianMixture, GaussianMixture, MiniBatchGaussianMixture])
def test_types_and_validation_know_the_same_strings(estimator):
    hints = get_type_hints(estimator.__init__)
    for name, constraints in estimator._parameter_constraints.items():
        accepted = [constraint.options for constraint in constraints if isinstance(constraint, StrOptions)]
        assert literals(hints[name]) == set().union(*accepted), name
