"""Curves of the searches of a study over epochs or steps, arm by arm, every seed drawn."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hdarts.plots.style import (
    FAINT,
    INK,
    integer_axis,
    label,
    legend_above,
    line_styles,
    new_figure,
    require,
    split,
    styled,
)

FACETS = 3  # axes in a row
PARTS = ("direct", "response")


@styled
def validation_curves(frame: pd.DataFrame) -> Figure:
    """Return search-validation accuracy (%) over the epochs, one axes an arm; all seeds, their mean pale behind.

    Columns: `arm`, `seed`, `epoch`, `validation_accuracy`. The runs of the other arms stand behind in grey. The axis
    starts at the lowest value of the last three quarters of the epochs, since the first rise hides all differences.
    """
    figure = _over_epochs(frame, {"validation_accuracy": ""}, label("validation_accuracy"))
    _without_rise(figure.axes[0], frame)
    return figure


def _without_rise(axes: Axes, frame: pd.DataFrame) -> None:
    """Let the vertical axis begin at the lowest accuracy of the last three quarters of the epochs."""
    accuracies = np.asarray(frame["validation_accuracy"])
    late = np.asarray(frame["epoch"]) >= np.nanmax(frame["epoch"]) / 4
    low, high = float(np.nanmin(accuracies[late])), float(np.nanmax(accuracies))
    if low < high:
        axes.set_ylim(low - 0.05 * (high - low), high + 0.05 * (high - low))


@styled
def selection_curves(frame: pd.DataFrame, selection: pd.DataFrame) -> Figure:
    """Return search-validation accuracy (%) of searches over the epochs, and which of them a selection chose.

    `frame`: `run`, `epoch`, `validation_accuracy`; `selection`: the table of `analysis.selection.select`. The chosen
    search is a broad line, those that were kept are thin ones, those disregarded are grey with hollow marks. A ring is
    a search's best epoch, by which it is judged. The axis starts as that of `validation_curves`.
    """
    rows = require(frame, ["run", "epoch", "validation_accuracy"], "curves of a selection").reset_index()
    figure = new_figure(3.2)
    axes, curves = figure.subplots(), split(rows, "run")
    searches = [search for search in selection.to_dict("records") if search["run"] in curves]
    searches.sort(key=lambda search: not search["chosen"])  # the chosen one has the first colour and the solid line
    one_setting = selection["search_seed"].is_unique
    for search, look in zip(searches, line_styles(search["run"] for search in searches).values(), strict=True):
        own = curves[search["run"]]
        name = f"seed {search['search_seed']}" if one_setting else search["run"].rpartition("/")[2]
        why = search["why"].partition(":")[0] if search["kept"] else search["why"].removesuffix(" in the normal cell")
        line: dict[str, Any] = {"linewidth": 1.0, "markevery": max(1, len(own) // 8)}
        if search["chosen"]:
            line |= {"linewidth": 3.0, "zorder": 2.5}
        elif not search["kept"]:
            line |= {"color": FAINT, "markerfacecolor": "white"}
        axes.plot(own["epoch"], own["validation_accuracy"], label=f"{name}, {why}", **look | line)
    best = rows.loc[rows.groupby("run")["validation_accuracy"].idxmax()]
    ring: dict[str, Any] = {"marker": "o", "markersize": 9, "markerfacecolor": "none", "color": INK, "zorder": 3}
    axes.plot(best["epoch"], best["validation_accuracy"], linestyle="", label="best epoch", **ring)
    axes.set_xlabel(label("epoch"))
    axes.set_ylabel(label("validation_accuracy"))
    integer_axis(axes)
    _without_rise(axes, rows)
    legend_above(figure)
    return figure


@styled
def skips_over_epochs(frame: pd.DataFrame) -> Figure:
    """Return the number of skip connections in the derived normal cell over the epochs, one axes an arm.

    Columns: `arm`, `seed`, `epoch`, `skips_normal`. Lines are drawn slightly apart, so that equal counts are all seen.
    """
    return _over_epochs(frame, {"skips_normal": ""}, label("skips_normal"), apart=0.1)


@styled
def hypergradient_parts(frame: pd.DataFrame) -> Figure:
    """Return the norms of the direct and the response part over the steps, one axes an arm, logarithmic.

    Columns: `arm`, `seed`, `step`, `direct`, `response`. A value of 0, such as the response of first-order DARTS, has
    no place on the axis.
    """
    figure = _over_epochs(frame, dict(zip(PARTS, PARTS, strict=True)), "hypergradient norm (nats)", x="step")
    for axes in figure.axes:
        axes.set_yscale("log", nonpositive="mask")
    return figure


@styled
def hypergradient_magnitudes(frame: pd.DataFrame) -> Figure:
    """Return both parts' norms over the steps, an axes a part, a line an arm: the geometric mean of its seeds.

    Columns as for `hypergradient_parts`. What is 0 has no place on the logarithmic axis, and is left out of the mean.
    """
    rows = require(frame, ["arm", "seed", "step", *PARTS], "hypergradient magnitudes")
    figure = new_figure(3.2)
    grid = figure.subplots(1, len(PARTS), sharex=True, sharey=True)
    arms = split(rows, "arm")
    for axes, part in zip(grid, PARTS, strict=True):
        for (arm, own), look in zip(arms.items(), line_styles(arms).values(), strict=True):
            seen = split(own.loc[own[part] > 0], "step")
            means = [np.exp(np.log(np.asarray(at[part])).mean()) for at in seen.values()]
            axes.plot(list(seen), means, label=arm, markevery=max(1, len(means) // 6), linewidth=1, **look)
        axes.set_yscale("log")
        axes.set_title(f"{part} part")
        axes.set_xlabel(label("step"))
        integer_axis(axes)
    grid[0].set_ylabel("hypergradient norm (nats)")
    legend_above(figure)
    return figure


@styled
def entropy_over_epochs(frame: pd.DataFrame) -> Figure:
    """Return the entropy of softmax(alpha) in nats over the epochs, one axes an arm, one line style a kind of cell.

    Columns: `arm`, `seed`, `epoch`, and `entropy_<kind>` for each kind of cell.
    """
    columns = [str(column) for column in frame if str(column).startswith("entropy_")] or ["entropy_normal"]
    kinds = {column: column.removeprefix("entropy_") for column in columns}
    return _over_epochs(frame, kinds, "entropy of softmax(α) (nats)")


@styled
def discretisation_gap(frame: pd.DataFrame) -> Figure:
    """Return supernet accuracy (%) before and after discretisation over the epochs, one axes an arm.

    Columns: `arm`, `seed`, `epoch`, `validation_accuracy`, and `discretised_accuracy`, that with the one-hot mixture of
    the cell which the epoch's alpha gives; epochs where it was not measured are left out.
    """
    columns = {"validation_accuracy": "before", "discretised_accuracy": "after"}
    return _over_epochs(frame, columns, label("validation_accuracy"))


@styled
def eigenvalue_over_epochs(frame: pd.DataFrame) -> Figure:
    """Return the dominant eigenvalue of the Hessian of the outer loss in alpha over the epochs, one axes an arm.

    Columns: `arm`, `seed`, `epoch`, `eigenvalue` (nats); epochs where it was not measured are left out.
    """
    return _over_epochs(frame, {"eigenvalue": ""}, "dominant eigenvalue (nats)")


def _over_epochs(
    frame: pd.DataFrame, columns: Mapping[str, str], text: str, apart: float = 0.0, x: str = "epoch"
) -> Figure:
    """Draw `columns` (with the words for them in the legend) over `x`, one axes an arm, on common scales."""
    arms = split(require(frame, ["arm", "seed", x, *columns], f"{text} by {x}"), "arm")
    across = 2 if len(arms) == 4 else min(FACETS, len(arms))  # no row of one
    down = -(-len(arms) // across)
    figure = new_figure(0.4 + 1.75 * down)
    grid = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False)
    for axes, (arm, rows) in zip(grid.flat, arms.items(), strict=False):
        if len(columns) == 1:
            for other in (other for name, other in arms.items() if name != arm):
                for run in split(other, "seed").values():
                    axes.plot(run[x], run[next(iter(columns))], color="#d4d4d4", linewidth=0.7, zorder=1)
        _arm(axes, rows, columns, apart, x)
        axes.set_title(arm)
        integer_axis(axes)
    for axes in grid.flat[len(arms) :]:
        axes.set_axis_off()
    for column in range(across):  # the lowest axes of each column of the grid names what lies below
        lowest = grid[(len(arms) - 1 - column) // across, column]
        lowest.set_xlabel(label(x))
        lowest.tick_params(labelbottom=True)
    figure.supylabel(text, fontsize="medium")
    legend_above(figure)
    return figure


def _arm(axes: Axes, rows: pd.DataFrame, columns: Mapping[str, str], apart: float, x: str) -> None:
    for (column, kind), look in zip(columns.items(), line_styles(columns).values(), strict=True):
        colour, line = look["color"], look["linestyle"]
        runs, steps = split(rows, "seed"), split(rows, x)
        point = "o" if len(steps) == 1 else ""  # a line through one epoch would not be seen
        for index, run in enumerate(runs.values()):
            heights = run[column] + apart * (index - (len(runs) - 1) / 2)
            name = f"{kind}, one seed".lstrip(", ") if index == 0 else None
            axes.plot(run[x], heights, color=colour, linestyle=line, linewidth=0.9, marker=point, label=name)
        means = [np.asarray(at[column]).mean() for at in steps.values()]
        name = f"{kind}, mean of seeds".lstrip(", ")
        broad: dict[str, Any] = {"linewidth": 4, "alpha": 0.25, "zorder": 1.5, "solid_capstyle": "butt"}
        axes.plot(list(steps), means, color=colour, linestyle=line, marker=point, ms=10, label=name, **broad)
