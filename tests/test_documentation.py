"""The documentation can be reached from an installed package and an index page, and README's code runs."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import numpy as np
import pytest

import fastgmm
from fastgmm import BayesianGaussianMixture, GaussianMixture, MiniBatchGaussianMixture
from fastgmm._documentation import DOCS, HOME

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
ESTIMATORS = (BayesianGaussianMixture, GaussianMixture, MiniBatchGaussianMixture)
SOURCES = sorted(Path(fastgmm.__file__).parent.rglob("*.py"))

# An installed package is tested without its pages.
with_pages = pytest.mark.skipif(not (ROOT / "docs").exists(), reason="the documentation is not here")


def pages_named(text: str) -> set[str]:
    """Paths of our own files that addresses in a text point to."""
    return set(re.findall(rf"{HOME}/(?:blob|tree)/main/([\w./-]+\w)", text))


@with_pages
def test_links_of_the_readme_are_absolute():
    # An index shows README without the repository around it, and makes no anchors of headings.
    text = README.read_text("utf-8")
    targets = re.findall(r"\]\(([^)]+)\)", text) + re.findall(r"^\[[\w-]+\]: (\S+)$", text, re.M)
    assert targets
    assert [target for target in targets if not target.startswith("https://")] == []
    defined = set(re.findall(r"^\[([\w-]+)\]: ", text, re.M))
    used = set(re.findall(r"\]\[([\w-]+)\]", text))
    assert used == defined


@with_pages
@pytest.mark.parametrize("path", [README, ROOT / "pyproject.toml", *SOURCES], ids=lambda path: path.name)
def test_pages_that_are_linked_to_are_there(path):
    for page in pages_named(path.read_text("utf-8")):
        assert (ROOT / page).exists(), page


@with_pages
def test_pages_that_docstrings_name_are_there():
    named = {name for path in SOURCES for name in re.findall(r"\bdocs/\w+\.md", path.read_text("utf-8"))}
    assert named
    for name in named:
        assert (ROOT / name).exists(), name


def test_docstrings_and_configuration_say_where_the_documentation_is():
    assert DOCS in fastgmm.__doc__
    assert fastgmm.show_config("dicts")["documentation"] == DOCS
    for estimator in ESTIMATORS:
        assert HOME in estimator.__doc__


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_the_html_representation_links_to_our_documentation(estimator):
    html = estimator()._repr_html_()
    links = re.findall(r'href="([^"]+)"', html)
    assert any(link.startswith(HOME) for link in links)
    assert not any("scikit-learn.org" in link and estimator.__name__ in link for link in links)
    if (ROOT / "docs").exists():
        for page in pages_named(html):
            assert (ROOT / page).exists(), page


def test_estimators_of_users_have_no_link_of_ours():
    class Theirs(GaussianMixture):
        """A user's estimator, which our pages do not describe."""

    assert HOME not in Theirs()._repr_html_()


@pytest.mark.skipif(not (ROOT / "pyproject.toml").exists(), reason="the project's file is not here")
def test_the_project_has_addresses_and_claims_only_what_has_run():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["urls"]["Repository"] == HOME
    assert project["urls"]["Documentation"] == DOCS
    systems = [line for line in project["classifiers"] if line.startswith("Operating System")]
    assert systems == ["Operating System :: POSIX :: Linux"]


@with_pages
def test_the_readmes_threshold_gives_the_alarms_that_it_says():
    program = next(
        code
        for code in re.findall(r"^```python\n(.*?)^```$", README.read_text("utf-8"), re.M | re.S)
        if "alarm" in code
    )
    names: dict = {}
    exec(compile(program, "README.md", "exec"), names)
    rng = np.random.default_rng(1)
    fresh = np.vstack([rng.normal(0, 1, (5_000, 8)), rng.normal(3, 2, (5_000, 8))])
    share = np.mean(names["gm"].score_samples(fresh) < names["alarm"])
    assert share == pytest.approx(0.01, abs=0.005)
