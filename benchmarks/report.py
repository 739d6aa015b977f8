"""The report in Markdown, and the short table of the README."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import problems
from harness import OURS, geometric_mean
from markdown import number, ratio, render
from results import Results
from sections import SECTIONS, equal

BEGIN, END = "<!-- benchmark table: begin -->", "<!-- benchmark table: end -->"


def full(results: Results) -> str:
    """All that is measured, section by section."""
    parts = ["# Benchmarks", *_machine(results.machine)]
    if results.rows("equal"):
        parts += ["## In short", short(results)]
    for name, section in SECTIONS.items():
        rows = results.rows(name)
        if rows:
            days = sorted({row["when"][:10] for row in rows if "when" in row})
            parts += [f"## {section.TITLE}", f"Measured on {', '.join(days)}.", section.table(rows)]
            if any(row["scale"] != 1.0 for row in rows):
                parts.append("Some rows at reduced size: not comparable with published numbers.")
    return "\n\n".join(parts) + "\n"


def _machine(machine: dict[str, Any]) -> list[str]:
    if not machine:
        return []
    peaks = ", ".join(f"{isa} {number(rate)}" for isa, rate in machine["peak_gflops"].items())
    lines = [
        f"{machine['processor']}, {machine['cores']} cores, {machine['threads']} threads for every library; "
        f"{machine['system']}.",
        f"Peak GFLOP/s: {peaks}; dgemm {number(machine['dgemm_gflops'])}. "
        f"Reading memory: {number(machine['read_gigabytes_per_second'])} GB/s.",
    ]
    body = []
    for info in machine["libraries"].values():
        blas = {pool["architecture"] for pool in info["pools"] if pool.get("architecture")}
        note = f"instruction set {info['isa']}" if "isa" in info else ""
        body.append(
            [info["label"], info["version"], info["numpy"], ", ".join(sorted(blas)) or "-", note or "-"]
        )
    lines.append(render(["library", "version", "numpy", "BLAS core type", "note"], body))
    lines.append(
        "So it was in the last run. Sections were measured on the days they name, on machines of this kind; "
        "which kernels the peers' BLAS took may have been others."
    )
    if machine["environment"]:
        lines.append(
            "Set in the environment: "
            + ", ".join(f"{k}={v}" for k, v in machine["environment"].items())
            + "."
        )
    lines.append(
        "Equal iterations: time of the fit divided by its iterations, from the same parameters with tol=0, "
        "the libraries taking turns, medians. scikit-learn's fit ends with one more pass, for labels, which "
        "its users wait for too. oneDAL has no tied or spherical form and regularises only where a "
        "factorisation fails."
    )
    return lines


def short(results: Results) -> str:
    """Table for the README: milliseconds of one iteration and how many times faster than the peers."""
    rows = results.rows("equal")
    ours = {row["problem"]: row["milliseconds"].get(OURS) for row in rows if row["type"] == "full"}
    shapes = {row["problem"]: (row["n_rows"], row["n_features"], row["n_components"]) for row in rows}
    columns = [("full", "onedal")] + [(name, "sklearn") for name in problems.COVARIANCE_TYPES]
    columns = [column for column in columns if equal.ratios(rows, *column)]
    found = {column: equal.ratios(rows, *column) for column in columns}
    labels = {"sklearn": "scikit-learn", "onedal": "oneDAL"}
    header = ["problem", "rows x features", "K", "ms", *(f"{name}: {labels[peer]}" for name, peer in columns)]
    body = [
        [
            name, f"{shapes[name][0]:,} x {shapes[name][1]}", str(shapes[name][2]), number(ours.get(name)),
            *(ratio(found[column].get(name, math.nan)) for column in columns),
        ]
        for name in shapes
    ]  # fmt: skip
    means = [ratio(geometric_mean(list(found[column].values()))) for column in columns]
    return (
        "Milliseconds of one iteration (full covariance), and how many times as long the peer takes from the "
        "same start.\n\n" + render(header, [*body, ["geometric mean", "", "", "", *means]])
    )


def update_readme(path: Path, results: Results) -> None:
    """Put the short table between the two markers of a README."""
    text = path.read_text()
    before, marker, rest = text.partition(BEGIN)
    _, other, after = rest.partition(END)
    if not (marker and other):
        raise ValueError(f"{path} lacks the lines {BEGIN} and {END}")
    machine = results.machine
    where = f"{machine['processor']}, {machine['threads']} threads, {machine['system']}."
    path.write_text(f"{before}{BEGIN}\n{short(results)}\n\n{where}\n{END}{after}")
