"""Searches that differ in a parameter: curves (thesis figure 27), maps of two parameters, memory, learning rates."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from hdarts.plots.axes import integer_axis, legend_above
from hdarts.plots.statistical import heat_map, mean_line, seed_lines
from hdarts.plots.style import COLOURS, line_styles, new_figure, styled
from hdarts.plots.tables import label, require, split


@styled
def sweep_curves(frame: pd.DataFrame, names: str) -> Figure:
    """Return search-validation accuracy over the epochs: per setting, thin lines for the seeds and one for their mean.

    Columns: `setting`, `seed`, `epoch`, `validation_accuracy`; `names`: the parameters that the settings are values of.
    """
    y = "validation_accuracy"
    rows = require(frame, ["setting", "seed", "epoch", y], f"{label(y)} by {names}")
    figure = new_figure(2.6)
    axes = figure.subplots()
    settings = split(rows, "setting")
    for (setting, runs), style in zip(settings.items(), line_styles(settings).values(), strict=True):
        if (seeds := len(set(runs["seed"]))) > 1:
            line = {"color": style["color"], "linestyle": style["linestyle"]}
            seed_lines(axes, runs, "epoch", y, linewidth=0.6, alpha=0.5, **line)
        every = max(1, len(set(runs["epoch"])) // 8)
        mean_line(axes, runs, "epoch", y, label=f"{setting} (n = {seeds})", markevery=every, **style)
    axes.set(xlabel=label("epoch"), ylabel=label(y))
    integer_axis(axes)
    axes.legend(title=names, loc="upper left", bbox_to_anchor=(1, 1), alignment="left")
    return figure


@styled
def sweep_map(frame: pd.DataFrame, x: str, y: str) -> Figure:
    """Return search-validation accuracy over two numeric parameters, `x` and `y`, as a heat map of means over seeds.

    Columns: `x`, `y`, `validation_accuracy`, one row per run. The best value of `x` in each row has a frame: it
    moves from row to row where the parameters depend on each other.
    """
    value = "validation_accuracy"
    rows = require(frame, [x, y, value], f"{label(value)} over {label(x)} and {label(y)}")
    table = rows.pivot_table(index=y, columns=x, values=value).sort_index(ascending=False)
    table.index, table.columns = ([f"{number:g}" for number in axis] for axis in (table.index, table.columns))
    figure = new_figure(1.2 + 0.5 * len(table), 4.6)
    axes = figure.subplots()
    mesh = heat_map(axes, table, ".1f")
    for row, best in enumerate(np.argmax(table.fillna(-np.inf), axis=1)):
        for ink, wide in (("black", 2.8), ("white", 1.2)):  # seen on light and on dark fields
            axes.add_patch(Rectangle((best + 0.04, row + 0.04), 0.92, 0.92, fill=False, ec=ink, lw=wide))
    axes.set(xlabel=label(x), ylabel=label(y))
    figure.colorbar(mesh, ax=axes, label=label(value))
    return figure


@styled
def sweep_memory(frame: pd.DataFrame, x: str) -> Figure:
    """Return the peak memory of runs over a numeric parameter, from 0: one marker per run, a line through the means.

    Columns: `x` and `peak_memory_mib`. Assumes one process per run, as `hdarts run` starts them.
    """
    y = "peak_memory_mib"
    rows = require(frame, [x, y], f"memory over {label(x)}")
    figure = new_figure(2.6, 4.6)
    axes = figure.subplots()
    axes.plot(rows[x], rows[y], linestyle="", marker="o", color=COLOURS[0])
    mean_line(axes, rows, x, y, color=COLOURS[0], linewidth=1)
    axes.set_xticks(sorted(rows[x].unique()))
    axes.set_ylim(0, 1.08 * float(np.max(rows[y])))  # room for the markers, however little they differ
    axes.set(xlabel=label(x), ylabel=label(y))
    return figure


@styled
def schedules(frame: pd.DataFrame) -> Figure:
    """Return the learning rate of the weights over the epochs, one line per schedule (thesis section 5.2.3).

    Columns: `arm`, `seed`, `epoch`, `learning_rate`; an arm's seeds share a schedule. A line is named after the first
    of the arms that share it.
    """
    rows = require(frame, ["arm", "seed", "epoch", "learning_rate"], "learning rates")
    figure = new_figure(2.4)
    axes = figure.subplots()
    shared: dict[tuple[tuple[float, float], ...], list[str]] = {}
    for arm, runs in split(rows, "arm").items():
        first = runs.loc[runs["seed"] == runs["seed"].iloc[0]]
        shared.setdefault(tuple(zip(first["epoch"], first["learning_rate"], strict=True)), []).append(str(arm))
    names = [arms[0] if len(arms) == 1 else f"{arms[0]} and {len(arms) - 1} more" for arms in shared.values()]
    for points, (name, style) in zip(shared, line_styles(names).items(), strict=True):
        axes.plot(*zip(*points, strict=True), markevery=max(1, len(points) // 8), label=name, **style)
    axes.set_ylim(bottom=0)
    axes.set(xlabel=label("epoch"), ylabel=label("learning_rate"))
    integer_axis(axes)
    legend_above(figure)
    return figure
