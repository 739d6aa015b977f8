"""What continuous integration builds, tests and publishes fits together, and with what the project claims."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
WORKFLOWS = ROOT / ".github" / "workflows"

# Neither an sdist nor an installed package has the workflows.
pytestmark = pytest.mark.skipif(not WORKFLOWS.exists(), reason="the workflows are not here")


@pytest.fixture(scope="module")
def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


@pytest.fixture(scope="module", params=["ci", "wheels"])
def workflow(request):
    return load(request.param)


def load(name: str) -> dict:
    yaml = pytest.importorskip("yaml")
    return yaml.safe_load((WORKFLOWS / f"{name}.yml").read_text("utf-8"))


def steps_of(job: dict) -> list[dict]:
    return job["steps"]


def test_each_python_that_wheels_are_built_for_is_claimed_and_tested(project):
    built = project["tool"]["cibuildwheel"]["build"]
    built = {re.sub(r"^cp3(\d+)(t?)-\*$", r"3.\1\2", pattern) for pattern in built}
    prefix = "Programming Language :: Python :: 3."
    claimed = {
        line.rpartition(" ")[2] for line in project["project"]["classifiers"] if line.startswith(prefix)
    }
    assert {python for python in built if not python.endswith("t")} == claimed
    legs = load("ci")["jobs"]["test"]["strategy"]["matrix"]["include"]
    assert built <= {leg["python"] for leg in legs if not leg.get("may-fail")}


def test_wheels_are_built_where_what_they_are_made_of_changes():
    # YAML 1.1 reads the key "on" as true
    paths = load("wheels")[True]["pull_request"]["paths"]
    assert {"src/fastgmm/kernels/**", "setup.py", "pyproject.toml"} <= set(paths)


def test_a_leg_that_fails_holds_up_its_own_wheels_only():
    jobs = load("wheels")["jobs"]
    assert not jobs["wheels"]["strategy"]["fail-fast"]
    publish = jobs["publish"]
    assert "!cancelled()" in publish["if"]
    assert "needs.sdist.result == 'success'" in publish["if"]
    assert "needs.wheels.result" not in publish["if"]
    # what most users install has to be there, and what comes later is added
    assert any("manylinux*_x86_64" in step.get("run", "") for step in steps_of(publish))
    assert steps_of(publish)[-1]["with"]["skip-existing"] is True


def test_windows_builds_find_their_compiler(workflow):
    for name, job in workflow["jobs"].items():
        legs = job.get("strategy", {}).get("matrix", {}).get("include", [])
        if any(leg["os"].startswith("windows") for leg in legs):
            assert any("LLVM/bin" in step.get("run", "") for step in steps_of(job)), name


def test_no_pipe_hides_a_failure(workflow):
    # only a shell that is asked for by the name of bash has pipefail
    for name, job in workflow["jobs"].items():
        default = job.get("defaults", {}).get("run", {}).get("shell")
        for step in steps_of(job):
            if re.search(r"[^|]\|[^|]", step.get("run", "")):
                assert step.get("shell", default) == "bash", name


def test_actions_are_pinned_by_commit(workflow):
    for job in workflow["jobs"].values():
        for step in steps_of(job):
            assert re.search(r"@[0-9a-f]{40}$", step.get("uses", "@" + "0" * 40)), step


def test_build_tools_of_releases_are_pinned(project):
    options = project["tool"]["cibuildwheel"]
    scripts = [options["before-build"], options["windows"]["before-build"]]
    scripts += [step.get("run", "") for job in load("wheels")["jobs"].values() for step in steps_of(job)]
    tools = [
        tool
        for script in scripts
        for line in re.findall(r"pip install (.*)", script)
        for tool in line.split()
    ]
    assert [tool for tool in tools if not re.fullmatch(r"[\w-]+==[\d.]+", tool)] == []
    # what several places name is the same version in all of them
    assert len({tool.partition("==")[0] for tool in tools}) == len(set(tools)) > 3
