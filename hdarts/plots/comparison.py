"""Accuracy against search cost: the thesis's figure 35, and the same of our own runs."""

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from hdarts.plots.style import INK, MARKERS, label, looks, new_figure, require, split, styled

HERE = "here"  # so begin the names of panels of our runs
OWN = ("DARTS", "hyperDARTS-1", "hyperDARTS-2")  # the thesis's own rows; the others it took from their papers


@styled
def accuracy_and_cost(frame: pd.DataFrame) -> Figure:
    """Return test accuracy (%) over search cost, an axes a panel, each on scales of its own; bars are deviations.

    Columns: `panel`, `model`, `accuracy`, `deviation` (nan: no bar), `cost`, `unit`. Panels named "here: ..." have
    models of their own; in the others, which share a legend, the thesis's are filled, those of other papers hollow.
    """
    rows = require(frame, ["panel", "model", "accuracy", "cost", "unit"], "accuracy and search cost")
    panels = split(rows, "panel")
    ours = looks(rows["model"][rows["panel"].str.startswith(HERE)])
    theirs = [name for name in rows["model"].unique() if name not in (*OWN, *ours)]
    plain = {"color": INK, "markerfacecolor": "white", "markeredgewidth": 0.9}
    look = looks(OWN) | {name: {**plain, "marker": MARKERS[i % len(MARKERS)]} for i, name in enumerate(theirs)}
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
