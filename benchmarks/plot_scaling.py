"""The picture of scaling: an iteration's time, and its share of the FMA peak, against N, D, K and threads."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from harness import Row
from results import Results
from sections import scaling

COLOURS = ("#1b4965", "#ca6702")  # of curves that differ in what the panel does not vary
_KEYS = {"N": "n_rows", "D": "n_features", "K": "n_components", "threads": "threads"}
_NAMES = {"N": "rows N", "D": "features D", "K": "components K", "threads": "threads"}


def write(results: Results, path: Path) -> None:
    """Draw a column for each panel: milliseconds above, share of the peak below."""
    panels = scaling.curves(results.rows("scaling"))
    if not panels:
        return
    figure, axes = plt.subplots(
        2, len(panels), figsize=(4.2 * len(panels), 7.0), squeeze=False, sharex="col", sharey="row",
        layout="constrained",
    )  # fmt: skip
    for column, (panel, lines) in enumerate(panels.items()):
        for row, draw in enumerate((_times, _shares)):
            axis = axes[row, column]
            draw(axis, panel, lines)
            axis.set_xscale("log", base=10 if panel == "N" else 2)
            axis.grid(alpha=0.3)
            axis.spines[["top", "right"]].set_visible(False)
        _ticks(axis, panel, lines)
        axis.set_xlabel(_NAMES[panel])
        axes[0, column].set_title(_fixed(panel, lines), loc="left", fontsize="small")
    axes[0, 0].set_ylabel("milliseconds of an iteration")
    axes[1, 0].set_ylabel("dense: % of the FMA peak")
    axes[1, 0].set_ylim(0, 100)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _times(axis: Axes, panel: str, lines: list[list[Row]]) -> None:
    for colour, rows in zip(COLOURS, lines, strict=False):
        styles = {"default": "o-", "dense": "--", scaling.PEER: "D:"}
        labels = {"default": "fastgmm", "dense": "fastgmm, every pair scored", scaling.PEER: "scikit-learn"}
        for name, style in styles.items():
            known = [row for row in rows if name in row["milliseconds"]]
            places = [row[_KEYS[panel]] for row in known]
            values = [row["milliseconds"][name] for row in known]
            axis.plot(places, values, style, color=colour, markersize=3.5, label=labels[name])
    axis.set_yscale("log")
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _shares(axis: Axes, panel: str, lines: list[list[Row]]) -> None:
    for colour, rows in zip(COLOURS, lines, strict=False):
        places = [row[_KEYS[panel]] for row in rows]
        axis.plot(
            places,
            [100 * row["share"] for row in rows],
            "o-",
            color=colour,
            markersize=3.5,
            label=_label(panel, rows),
        )
    if len(lines) > 1:
        axis.legend(fontsize="small", frameon=False)


def _ticks(axis: Axes, panel: str, lines: list[list[Row]]) -> None:
    if panel != "N":
        places = sorted({row[_KEYS[panel]] for rows in lines for row in rows})
        axis.xaxis.set_major_locator(FixedLocator(places[:: 2 if len(places) > 9 else 1]))
        axis.xaxis.set_minor_locator(NullLocator())
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _label(panel: str, rows: list[Row]) -> str:
    row = rows[0]
    more = f", K = {row['n_components']}" if panel == "threads" else ""
    apart = ", well apart" if row["separation"] > 2 else ", overlapping"
    return f"{row['n_rows']:,} x {row['n_features']}{more if panel == 'threads' else apart}"


def _fixed(panel: str, lines: list[list[Row]]) -> str:
    """What a panel does not vary."""
    row = lines[0][0]
    n_rows = [each["n_rows"] for each in lines[0]]
    threads = f"{row['threads']} threads"
    return {
        "N": f"D = {row['n_features']}, K = {row['n_components']}, {threads}",
        "D": f"K = {row['n_components']}, N from {max(n_rows):,} down to {min(n_rows):,}, {threads}",
        "K": f"N x D below, {threads}",
        "threads": "N x D and K below",
    }[panel]
