"""The picture of the report: speed-ups at equal iterations, and the rate of the pass."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

import problems
from harness import geometric_mean
from results import Results
from sections import equal

COLOURS = {"full": "#1b4965", "tied": "#5fa8d3", "diag": "#ca6702", "spherical": "#ee9b00"}


def write(results: Results, path: Path) -> None:
    """Draw what there is to draw; without rows of "equal" or "rate" there is no picture."""
    panels = [draw for name, draw in (("equal", _speed_ups), ("rate", _rates)) if results.rows(name)]
    if not panels:
        return
    figure, axes = plt.subplots(
        1, len(panels), figsize=(6.4 * len(panels), 6.4), squeeze=False, layout="constrained",
        width_ratios=[1.5, 1.0][: len(panels)],
    )  # fmt: skip
    for draw, axis in zip(panels, axes[0], strict=True):
        draw(axis, results)
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _speed_ups(axis: Axes, results: Results) -> None:
    rows = results.rows("equal")
    names = list(dict.fromkeys(row["problem"] for row in rows))
    types = [name for name in problems.COVARIANCE_TYPES if equal.ratios(rows, name, "sklearn")]
    height = 0.8 / max(1, len(types))
    for index, covariance_type in enumerate(types):
        found = equal.ratios(rows, covariance_type, "sklearn")
        places = [y - 0.4 + (index + 0.5) * height for y, name in enumerate(names) if name in found]
        values = [found[name] for name in names if name in found]
        label = f"{covariance_type} (geometric mean {geometric_mean(values):.0f}x)"
        axis.barh(places, values, height=0.9 * height, color=COLOURS[covariance_type], label=label)
    onedal = equal.ratios(rows, "full", "onedal")
    if onedal:
        # What oneDAL gains over scikit-learn, on the same axis, so that the distance to it can be read off.
        against = equal.ratios(rows, "full", "sklearn")
        for y, name in enumerate(names):
            if name in onedal and name in against:
                place = y - 0.4 + 0.5 * height
                label = "oneDAL, full" if name == next(iter(onedal)) else "_"  # one entry in the legend
                speed = against[name] / onedal[name]
                axis.plot(speed, place, "D", color="white", markeredgecolor="black", label=label)
    axis.set_xscale("log")
    axis.xaxis.set_major_locator(FixedLocator([1, 2, 5, 10, 20, 50, 100, 200, 500]))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}x"))
    axis.axvline(1.0, color="grey", linewidth=1)
    axis.set_yticks(range(len(names)), names)
    axis.invert_yaxis()
    axis.grid(axis="x", alpha=0.3)
    axis.set_axisbelow(True)
    axis.set_title("Speed of one iteration, scikit-learn = 1", loc="left")
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.06), ncols=3, fontsize="small", frameon=False)


def _rates(axis: Axes, results: Results) -> None:
    rows = results.rows("rate")
    names = list(dict.fromkeys(row["problem"] for row in rows))
    sets = sorted({row["isa"] for row in rows}, reverse=True)
    height = 0.8 / len(sets)
    for index, isa in enumerate(sets):
        found = {row["problem"]: 100 * row["share"] for row in rows if row["isa"] == isa}
        places = [y - 0.4 + (index + 0.5) * height for y, name in enumerate(names) if name in found]
        values = [found[name] for name in names if name in found]
        axis.barh(
            places, values, height=0.9 * height, color=("#386641", "#a7c957", "#cccccc")[index], label=isa
        )
    axis.set_yticks(range(len(names)), names)
    axis.invert_yaxis()
    axis.set_xlim(0, 100)
    axis.grid(axis="x", alpha=0.3)
    axis.set_axisbelow(True)
    axis.set_title("Dense pass, % of the FMA peak", loc="left")
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.06), ncols=3, fontsize="small", frameon=False)
