"""docs/outliers.md says what its programs print."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parent.parent / "docs" / "outliers.md"

# An installed package is tested without its documentation.
pytestmark = pytest.mark.skipif(not PAGE.exists(), reason="the documentation is not here")


@pytest.fixture(scope="module")
def names():
    """What the page's programs, one after the other, leave behind."""
    names: dict = {}
    for program in re.findall(r"^```python\n(.*?)^```$", PAGE.read_text("utf-8"), re.M | re.S):
        with contextlib.redirect_stdout(io.StringIO()):
            exec(compile(program, "outliers.md", "exec"), names)
    return names


def test_a_threshold_of_held_out_rows_keeps_its_rate(names):
    of_fitted, of_held_out = names["shares"]
    assert of_fitted > 0.2
    assert of_held_out < 0.06


def test_responsibilities_are_extreme_away_from_the_data(names):
    mixture, near, far = names["mixture"], names["near"], names["far"]
    assert mixture.predict_proba(near).max() < 0.6
    assert mixture.predict_proba(far).max() > 1 - 1e-10
    assert mixture.score_samples(far)[0] < -4000
