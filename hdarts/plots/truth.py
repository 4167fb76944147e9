"""True accuracies of searched cells, from the table of NAS-Bench-201, during and after the search."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hdarts.plots.axes import legend_above, plain_log_ticks, true_accuracy_axis
from hdarts.plots.statistical import mean_line, scatter_by_arm, seed_lines
from hdarts.plots.style import COLOURS, FAINT, INK, LINES, new_figure, styled
from hdarts.plots.tables import label, require, split

COLUMNS = {"cifar10_test": "true test accuracy (%)", "skips": "skip connections (of 6)"}


@styled
def truth_over_time(frame: pd.DataFrame, lines: Mapping[str, float] | None = None) -> Figure:
    """Return the true accuracy of the derived cell and its skip connections over the seconds of the search.

    Columns: `arm`, `seed`, `epoch`, `seconds`, `cifar10_test` (per cent), `skips`. One row of axes per arm; thin lines
    are seeds, the thick one their mean at each epoch. `lines`: horizontal reference lines, {name: accuracy}. Arms that
    have a cell only at the end are left out.
    """
    rows = require(frame, ["arm", "seed", "epoch", "seconds", *COLUMNS], "true accuracy over search time")
    arms = {arm: runs for arm, runs in split(rows, "arm").items() if len(set(runs["epoch"])) > 1}
    if not arms:
        raise ValueError("true accuracy over search time: no arm has more than one epoch")
    figure = new_figure(0.7 + 1.25 * len(arms))
    grid = figure.subplots(len(arms), 2, sharex=True, sharey="col", squeeze=False, width_ratios=[2, 1])
    for (arm, runs), row in zip(arms.items(), grid, strict=True):
        for axes, column in zip(row, COLUMNS, strict=True):
            seed_lines(axes, runs, "seconds", column, color=COLOURS[0], linewidth=0.7, label="one seed")
            mean_line(axes, runs, "seconds", column, "epoch", color=INK, linewidth=2.2, label="mean of seeds")
            axes.set(xlabel="", ylabel="")
        row[1].set_ylim(-0.4, 6.4)
        for (name, value), style in zip((lines or {}).items(), LINES[1:], strict=False):
            row[0].axhline(value, color=FAINT, linestyle=style, linewidth=1.1, zorder=1, label=f"{name}: {value:.4g}")
        row[0].set_title(str(arm), loc="left")
    for axes in grid[:, 0]:
        true_accuracy_axis(axes)
    for column, text in enumerate(COLUMNS.values()):
        grid[-1, column].set_xlabel(label("seconds"))
        grid[0, column].set_title(text, loc="right")
    legend_above(figure)
    return figure


@styled
def error_against_truth(frame: pd.DataFrame) -> Figure:
    """Return the true accuracy of the final cells over the relative error of the hypergradients that led to them.

    Columns: `arm`, `relative_error` (mean over snapshots), `cifar10_test` (per cent), one row per search.
    """
    columns = ["relative_error", "cifar10_test"]
    rows = require(frame, ["arm", *columns], "hypergradient error against true accuracy")
    figure = scatter_by_arm(rows, *columns)
    (axes,) = figure.axes
    if np.min(rows["relative_error"]) > 0:
        axes.set_xscale("log")
        plain_log_ticks(axes.xaxis)
    axes.set_xlabel("relative error of the hypergradient, mean over snapshots")
    return figure


@styled
def truth_over_flops(frame: pd.DataFrame) -> Figure:
    """Return the true accuracy of the final cells over the operations of their searches.

    Columns: `arm`, `flops` (floating-point operations of one search), `cifar10_test` (per cent), one row per search. A
    pale ring is a search, a filled point the mean of an arm, with its name beside it or, if it has no room, below.
    """
    rows = require(frame, ["arm", "flops", "cifar10_test"], "true accuracy over operations")
    figure = new_figure(4.6)
    axes = figure.subplots()
    rows = rows.assign(flops=rows["flops"] / 1e12)
    rings = {"linestyle": "", "marker": "o", "fillstyle": "none", "markersize": 4}
    axes.plot(rows["flops"], rows["cifar10_test"], color=FAINT, **rings)
    arms = split(rows, "arm")
    x, y = ([float(np.mean(one[column])) for one in arms.values()] for column in ("flops", "cifar10_test"))
    axes.plot(x, y, linestyle="", marker="o", color=COLOURS[0], markersize=5)
    axes.set_xscale("log")
    plain_log_ticks(axes.xaxis)
    axes.set_xlabel("floating-point operations of a search ($10^{12}$)")
    axes.set_ylabel(COLUMNS["cifar10_test"])
    true_accuracy_axis(axes)
    axes.margins(x=0.15)
    figure.draw_without_rendering()  # the axes have their place after this only
    name_points(axes, list(map(str, arms)), x, y)
    return figure


def name_points(axes: Axes, names: list[str], x: list[float], y: list[float]) -> None:
    """Write each name beside its point, where the axes have room, moved down until it overlaps none written before."""
    places = axes.transData.transform(np.column_stack([x, y])) * 72 / axes.figure.dpi
    end = axes.transAxes.transform((1, 1))[0] * 72 / axes.figure.dpi
    taken: list[tuple[float, float, float]] = []  # left and right end, height
    for place in np.lexsort((places[:, 0], -places[:, 1])):
        (at, height), width = places[place], 4.0 * len(names[place])
        left = at + 6 if at + 6 + width < end else at - 6 - width
        while any(left < r and left + width > start and abs(height - h) < 8 for start, r, h in taken):
            height -= 1.0
        taken.append((left, left + width, height))
        side = "left" if left > at else "right"
        offset = (6 if left > at else -6, height - places[place, 1] - 2.5)
        style: dict[str, Any] = {"textcoords": "offset points", "fontsize": 7, "color": INK, "ha": side}
        style["arrowprops"] = {"arrowstyle": "-", "color": FAINT, "linewidth": 0.6, "shrinkA": 0, "shrinkB": 3}
        axes.annotate(names[place], (x[place], y[place]), offset, **style)
