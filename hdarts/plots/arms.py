"""Comparisons of the arms of a study: final accuracies, times and costs of all runs."""

import textwrap
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from hdarts.plots.axes import legend_above, true_accuracy_axis
from hdarts.plots.statistical import scatter_by_arm, swarm
from hdarts.plots.style import COLOURS, FAINT, INK, LINES, MARKERS, line_styles, new_figure, styled
from hdarts.plots.tables import label, require, split

HERE = "here"  # the names of panels with runs of this study start with it
THESIS_MODELS = ("DARTS", "hyperDARTS-1", "hyperDARTS-2")  # which it trained; its other rows are cited from papers


@styled
def strip(frame: pd.DataFrame, x: str, y: str, lines: Mapping[str, float] | None = None) -> Figure:
    """Return all values of column `y` as points above the categories of column `x`, with bars at their means.

    `lines`: horizontal reference lines, {label: value}. Category labels include the number of values.
    """
    rows = require(frame, [x, y], f"{label(y)} by {x}")
    figure = new_figure(3.2)
    axes = figure.subplots()
    _named_swarm(axes, rows, x, y)
    for index, (name, value) in enumerate((lines or {}).items()):
        line = LINES[(index + 1) % len(LINES)]
        axes.axhline(value, color=FAINT, linestyle=line, linewidth=1.2, zorder=1, label=f"{name}: {value:.4g}")
    axes.set_ylabel(label(y))
    if y == "cifar10_test":
        true_accuracy_axis(axes)
    legend_above(figure)
    return figure


def _named_swarm(axes: Axes, rows: pd.DataFrame, x: str, y: str) -> None:
    categories, counts = swarm(axes, rows, x, y), rows[x].value_counts()
    if len(categories) > 9:  # no room for them side by side
        texts = [f"{name}, n = {counts[name]}" for name in categories]
        axes.set_xticks(range(len(categories)), texts, rotation=90)
        return
    width = max(6, 72 // len(categories))  # characters that have room below a category
    texts = [f"{_folded(str(name), width)}\nn = {counts[name]}" for name in categories]
    axes.set_xticks(range(len(categories)), texts)


def _folded(name: str, width: int) -> str:
    """Fold a name at spaces and hyphens; textwrap would fold `one-two` only, not `one-2`."""
    lines = textwrap.wrap(name.replace("-", "- "), width, break_long_words=False)
    return "\n".join(line.replace("- ", "-") for line in lines)


@styled
def seconds_by_arm(frame: pd.DataFrame) -> Figure:
    """Return the time of all runs by arm, from 0, in the unit that suits (s, min or h). Columns: `arm`, `seconds`."""
    rows = require(frame, ["arm", "seconds"], "time by arm")
    longest = float(np.max(rows["seconds"]))
    unit, length = next((u, s) for u, s in (("h", 3600), ("min", 60), ("s", 1)) if longest >= 2 * s or s == 1)
    figure = new_figure(2.8)
    axes = figure.subplots()
    _named_swarm(axes, rows.assign(time=rows["seconds"] / length), "arm", "time")
    axes.set_ylim(bottom=0)
    axes.set_ylabel(f"time ({unit})")
    return figure


@styled
def validation_against_test(frame: pd.DataFrame) -> Figure:
    """Return test accuracy of the trained cells after their last epoch over their search-validation accuracy.

    Columns: `arm`, `validation_accuracy`, `last_test_accuracy`, both in per cent, one row per cell.
    """
    columns = ["validation_accuracy", "last_test_accuracy"]
    return scatter_by_arm(require(frame, ["arm", *columns], "validation against test accuracy"), *columns)


@styled
def accuracy_and_cost(frame: pd.DataFrame) -> Figure:
    """Return test accuracy (%) over search cost as in the thesis's figure 35, one axes per panel; bars are deviations.

    Columns: `panel`, `model`, `accuracy`, `deviation` (nan: no bar), `cost`, `unit`, and perhaps `published`, the cost
    in the model's paper (nan: none): a stroke that a line joins to the marker. Panels named "here: ..." show arms of
    this study. The others share a legend; their markers are filled for the thesis's models, hollow for cited ones.
    """
    rows = require(frame, ["panel", "model", "accuracy", "cost", "unit"], "accuracy and search cost")
    panels = split(rows, "panel")
    arms = line_styles(rows["model"][rows["panel"].str.startswith(HERE)])
    cited = [name for name in rows["model"].unique() if name not in (*THESIS_MODELS, *arms)]
    hollow = {"color": INK, "markerfacecolor": "white", "markeredgewidth": 0.9}
    models = line_styles(THESIS_MODELS) | {n: {**hollow, "marker": MARKERS[i % 8]} for i, n in enumerate(cited)}
    legend = 0.1 + 0.16 * max(len(arms), 2 + (len(models) + 1) // 3)  # inches
    height = 2.7 + legend
    figure = new_figure(height, layout=ConstrainedLayoutEngine(rect=(0, legend / height, 1, 2.7 / height)))
    grid = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, (panel, part) in zip(grid, panels.items(), strict=True):
        here = panel.startswith(HERE)
        _points(axes, part, arms if here else models)
        axes.set(title=panel, xlabel=f"search cost ({part['unit'].iloc[0]})")
        axes.margins(0.08, 0.08)
        if axes in (grid[0], grid[-1]):  # one legend for all panels of the thesis, and one for this study's
            place: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (0, -0.24), "borderaxespad": 0}
            axes.legend(ncols=1 if here else 3, handlelength=1, **place).set_in_layout(False)
    grid[0].set_ylabel(label("test_accuracy"))
    return figure


def _points(axes: Axes, rows: pd.DataFrame, styles: Mapping[Any, Mapping[str, Any]]) -> None:
    published = rows.dropna(subset="published") if "published" in rows else rows.iloc[:0]
    if len(published):
        cited, known = published["published"], published["accuracy"]
        axes.hlines(known, published["cost"], cited, color=FAINT, linewidth=0.8, linestyle=(0, (2, 1.5)), zorder=1)
        axes.plot(cited, known, "|", color=COLOURS[1], ms=7, mew=1.6, label="published cost", zorder=2)
    for row in rows.fillna({"deviation": 0}).to_dict("records"):
        style = {**styles[row["model"]], "linestyle": ""}
        axes.errorbar(row["cost"], row["accuracy"], row["deviation"], elinewidth=0.8, label=row["model"], **style)
