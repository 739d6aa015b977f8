"""The code of documentation pages runs as it stands, from top to bottom, in an empty folder."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

DOCS = Path(__file__).parent.parent / "docs"

# An installed package is tested without its documentation.
pytestmark = pytest.mark.skipif(not DOCS.exists(), reason="the documentation is not here")


def blocks(page: str) -> list[str]:
    """The page's Python."""
    return re.findall(r"^```python\n(.*?)^```$", (DOCS / page).read_text("utf-8"), re.M | re.S)


@pytest.fixture
def names_of(tmp_path, monkeypatch):
    """What the page's blocks, one after the other, leave behind."""
    monkeypatch.chdir(tmp_path)

    def run(page: str) -> dict:
        names: dict = {}
        for i, block in enumerate(blocks(page), 1):
            exec(compile(block, f"{page}, block {i}", "exec"), names)
        return names

    return run


def test_bayesian(names_of):
    pytest.importorskip("dask.array", exc_type=ImportError)
    names = names_of("bayesian.md")
    assert names["mixture"].n_effective_components_ == 2
    assert names["plain"].n_components == 2
    assert names["best"].n_effective_components_ == 2
    # the intervals hold what the rows were drawn from
    lower, upper = np.moveaxis(names["intervals"].means[names["used"]], -1, 0)
    for true in ([0.0, 0.0], [5.0, 5.0]):
        assert ((lower <= true) & (true <= upper)).all(axis=1).sum() == 1
    for name in ("labelled", "ordered", "from_file", "on_dask"):
        assert names[name].n_effective_components_ == 2, name
    assert names["ordered"].lower_bound_ >= names["mixture"].lower_bound_


@pytest.mark.parametrize("page", ["bayesian.md"])
def test_links_and_pictures_are_there(page):
    text = (DOCS / page).read_text("utf-8")
    targets = [target.split("#")[0] for target in re.findall(r"\]\(([^)]+)\)", text)]
    local = [target for target in targets if target and "://" not in target]
    assert local
    for target in local:
        assert (DOCS / target).exists(), target
