"""The examples keep what they promise, and need nothing but what is installed."""

from __future__ import annotations

import importlib.util
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
DATA = Path(__file__).parent / "data"

# An installed package is tested without its examples.
pytestmark = pytest.mark.skipif(not EXAMPLES.exists(), reason="the examples are not here")


@pytest.fixture
def example(tmp_path):
    """An example's module, of a copy that has nothing of the repository beside it."""
    pytest.importorskip("matplotlib")

    def load(name: str):
        path = shutil.copy(EXAMPLES / f"{name}.py", tmp_path)
        spec = importlib.util.spec_from_file_location(f"example_{name}", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        module.OUTPUT.mkdir()
        return module

    return load


def test_the_demos_threshold_of_digits_keeps_its_rate(example, capsys):
    quickstart = example("quickstart")
    quickstart.explore_digits()
    shares = re.findall(r"that were (fitted|held out) +(\d+)%", capsys.readouterr().out)
    shares = {name: int(share) for name, share in shares}
    assert shares["held out"] <= 8  # of 5 that are asked for: 400 digits held out, 397 new ones
    assert shares["fitted"] > 20
    assert (quickstart.OUTPUT / "digits.png").exists()


def test_the_example_of_priors_brings_its_rows(example):
    rows = example("bayesian_priors").load()
    faithful = np.loadtxt(DATA / "faithful.csv", delimiter=",", skiprows=1)
    np.testing.assert_array_equal(rows["faithful"], faithful)
    assert rows["iris"].shape == (150, 4)
