"""Comparisons of the arms of a study: final accuracies, times and costs of all runs."""

import textwrap
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from hdarts.plots.style import (
    COLOURS,
    FAINT,
    INK,
    LINES,
    MARKERS,
    label,
    legend_above,
    line_styles,
    new_figure,
    require,
    split,
    styled,
    true_accuracy_axis,
)

HERE = "here"  # so begin the names of panels of our runs
THESIS_MODELS = ("DARTS", "hyperDARTS-1", "hyperDARTS-2")  # the thesis's own rows; the others it took from their papers


@styled
def accuracy_and_cost(frame: pd.DataFrame) -> Figure:
    """Return test accuracy (%) over search cost, an axes a panel, each on scales of its own; bars are deviations.

    Columns: `panel`, `model`, `accuracy`, `deviation` (nan: no bar), `cost`, `unit`. Panels named "here: ..." have
    models of their own; in the others, which share a legend, the thesis's are filled, those of other papers hollow.
    """
    rows = require(frame, ["panel", "model", "accuracy", "cost", "unit"], "accuracy and search cost")
    panels = split(rows, "panel")
    ours = line_styles(rows["model"][rows["panel"].str.startswith(HERE)])
    theirs = [name for name in rows["model"].unique() if name not in (*THESIS_MODELS, *ours)]
    plain = {"color": INK, "markerfacecolor": "white", "markeredgewidth": 0.9}
    look = line_styles(THESIS_MODELS) | {
        name: {**plain, "marker": MARKERS[i % len(MARKERS)]} for i, name in enumerate(theirs)
    }
    lines = 0.1 + 0.16 * max(len(ours), 2 + len(look) // 3)
    figure = new_figure(
        2.7 + lines, layout=ConstrainedLayoutEngine(rect=(0, lines / (2.7 + lines), 1, 2.7 / (2.7 + lines)))
    )
    grid = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, (panel, own) in zip(grid, panels.items(), strict=True):
        _points(axes, own, ours if panel.startswith(HERE) else look)
        axes.set_title(panel)
        axes.set_xlabel(f"search cost ({own['unit'].iloc[0]})")
        axes.margins(0.08, 0.08)
        if axes in (grid[0], grid[-1]):  # one for all panels of the thesis, and one for ours
            wide = {"ncols": 1 if panel.startswith(HERE) else 3, "handlelength": 1, "borderaxespad": 0}
            axes.legend(loc="upper left", bbox_to_anchor=(0, -0.24), **wide).set_in_layout(False)
    grid[0].set_ylabel(label("test_accuracy"))
    return figure


def _points(axes: Axes, rows: pd.DataFrame, look: dict[Any, dict[str, Any]]) -> None:
    for row in rows.fillna({"deviation": 0}).to_dict("records"):
        given = {**look[row["model"]], "linestyle": ""}
        axes.errorbar(row["cost"], row["accuracy"], row["deviation"], elinewidth=0.8, label=row["model"], **given)


@styled
def strip(frame: pd.DataFrame, x: str, y: str, lines: Mapping[str, float] | None = None) -> Figure:
    """Return all values of column `y` as points over the categories of column `x`, with ticks at their means.

    `lines`: horizontal lines for reference, {label: value}. A category names its number of values.
    """
    rows = require(frame, [x, y], f"{label(y)} by {x}")
    figure = new_figure(3.2)
    axes = figure.subplots()
    _strip(axes, rows, x, y)
    for index, (name, value) in enumerate((lines or {}).items()):
        line = LINES[(index + 1) % len(LINES)]
        axes.axhline(value, color=FAINT, linestyle=line, linewidth=1.2, zorder=1, label=f"{name}: {value:.4g}")
    axes.set_ylabel(label(y))
    if y == "cifar10_test":
        true_accuracy_axis(axes)
    legend_above(figure)
    return figure


def _strip(axes: Axes, rows: pd.DataFrame, x: str, y: str) -> None:
    categories = split(rows, x)
    for place, category in enumerate(categories.values()):
        heights = np.asarray(category[y])
        step = min(0.12, 0.56 / len(heights))  # side by side in the table's order, none behind another
        across = place + step * (np.arange(len(heights)) - (len(heights) - 1) / 2)
        axes.plot(across, heights, color=COLOURS[0], marker="o", linestyle="", alpha=0.9)
        ends = [place - 0.336, place + 0.336]
        axes.plot(ends, [heights.mean()] * 2, color=INK, linewidth=1.4, solid_capstyle="butt")
    width = max(6, 72 // len(categories))  # characters that have room below a category
    texts = [f"{_folded(str(name), width)}\nn = {len(own)}" for name, own in categories.items()]
    axes.set_xticks(range(len(categories)), texts)
    axes.set_xlim(-0.6, len(categories) - 0.4)
    axes.grid(False, axis="x")


def _folded(name: str, width: int) -> str:
    """Fold a name at spaces and hyphens; textwrap would fold `one-two` only, not `one-2`."""
    lines = textwrap.wrap(name.replace("-", "- "), width, break_long_words=False)
    return "\n".join(line.replace("- ", "-") for line in lines)


@styled
def validation_against_test(frame: pd.DataFrame) -> Figure:
    """Return test accuracy of the trained cells over their search-validation accuracy.

    Columns: `arm`, `validation_accuracy`, `test_accuracy`, both in per cent, one row per run.
    """
    rows = require(frame, ["arm", "validation_accuracy", "test_accuracy"], "validation against test accuracy")
    figure = new_figure(3.2, 5.4)
    axes = figure.subplots()
    arms = split(rows, "arm")
    for (arm, own), look in zip(arms.items(), line_styles(arms).values(), strict=True):
        axes.plot(own["validation_accuracy"], own["test_accuracy"], label=arm, **{**look, "linestyle": ""})
    axes.set_xlabel(label("validation_accuracy"))
    axes.set_ylabel(label("test_accuracy"))
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1), handlelength=1)
    return figure


@styled
def seconds_by_arm(frame: pd.DataFrame) -> Figure:
    """Return the time of all runs by arm, from 0, in the unit that suits (s, min or h).

    Columns: `arm`, `seconds`.
    """
    rows = require(frame, ["arm", "seconds"], "time by arm")
    longest = np.asarray(rows["seconds"]).max()
    unit, length = next((u, s) for u, s in (("h", 3600), ("min", 60), ("s", 1)) if longest >= 2 * s or s == 1)
    figure = new_figure(2.8)
    axes = figure.subplots()
    _strip(axes, rows.assign(time=rows["seconds"] / length), "arm", "time")
    axes.set_ylim(bottom=0)
    axes.set_ylabel(f"time ({unit})")
    return figure
