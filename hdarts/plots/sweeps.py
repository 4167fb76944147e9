"""Searches that differ in a setting: curves (thesis figure 27), two settings together, memory, learning rates."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from hdarts.plots.style import (
    COLOURS,
    integer_axis,
    label,
    legend_above,
    line_styles,
    new_figure,
    require,
    split,
    styled,
)


@styled
def sweep_curves(frame: pd.DataFrame, names: str) -> Figure:
    """Return search-validation accuracy over the epochs, a line a setting: its seeds' mean, before the thin seeds.

    Columns: `setting`, `seed`, `epoch`, `validation_accuracy`; `names` says what the settings are values of.
    """
    y = "validation_accuracy"
    rows = require(frame, ["setting", "seed", "epoch", y], f"{label(y)} by {names}")
    figure = new_figure(2.6)
    axes = figure.subplots()
    settings = split(rows, "setting")
    for (setting, own), look in zip(settings.items(), line_styles(settings).values(), strict=True):
        runs, means = split(own, "seed"), {epoch: np.asarray(at[y]).mean() for epoch, at in split(own, "epoch").items()}
        for run in runs.values() if len(runs) > 1 else ():
            axes.plot(run["epoch"], run[y], color=look["color"], linestyle=look["linestyle"], linewidth=0.6, alpha=0.5)
        told = f"{setting} (n = {len(runs)})"
        axes.plot(list(means), list(means.values()), markevery=max(1, len(means) // 8), label=told, **look)
    axes.set_xlabel(label("epoch"))
    axes.set_ylabel(label(y))
    integer_axis(axes)
    axes.legend(title=names, loc="upper left", bbox_to_anchor=(1, 1), alignment="left")
    return figure


@styled
def sweep_map(frame: pd.DataFrame, x: str, y: str) -> Figure:
    """Return search-validation accuracy over two settings that are numbers, `x` and `y`: means of seeds, written down.

    Columns: `x`, `y`, `validation_accuracy`, a row for each run. The best value of `x` in each row has a frame: it
    moves where the settings depend on each other.
    """
    value = "validation_accuracy"
    rows = require(frame, [x, y, value], f"{label(value)} over {label(x)} and {label(y)}")
    table = rows.pivot_table(index=y, columns=x, values=value)
    figure = new_figure(1.2 + 0.5 * len(table), 4.6)
    axes = figure.subplots()
    mesh = axes.pcolormesh(range(table.shape[1]), range(table.shape[0]), table.to_numpy(), cmap="cividis")
    middle = np.nanmean(mesh.get_clim())
    for (row, column), mean in np.ndenumerate(table.to_numpy()):
        if not np.isnan(mean):
            ink = "black" if mean > middle else "white"
            axes.text(column, row, f"{mean:.1f}", ha="center", va="center", color=ink, size=7)
    for row, best in enumerate(np.argmax(np.nan_to_num(table.to_numpy(), nan=-np.inf), axis=1)):
        for ink, wide in (("black", 2.8), ("white", 1.2)):  # seen on light and on dark fields
            axes.add_patch(Rectangle((best - 0.46, row - 0.46), 0.92, 0.92, fill=False, ec=ink, lw=wide))
    axes.set_xticks(range(table.shape[1]), [f"{name:g}" for name in table.columns])
    axes.set_yticks(range(table.shape[0]), [f"{name:g}" for name in table.index])
    axes.set_xlabel(label(x))
    axes.set_ylabel(label(y))
    axes.grid(False)
    figure.colorbar(mesh, ax=axes, label=label(value))
    return figure


@styled
def sweep_memory(frame: pd.DataFrame, x: str) -> Figure:
    """Return the most memory that runs held over a setting that is a number, from 0; a mark a run.

    Columns: `x` and `peak_memory_mib`. A process for each run is taken for granted, as `hdarts run` has it.
    """
    rows = require(frame, [x, "peak_memory_mib"], f"memory over {label(x)}")
    figure = new_figure(2.6, 4.6)
    axes = figure.subplots()
    axes.plot(rows[x], rows["peak_memory_mib"], linestyle="", marker="o", color=COLOURS[0])
    means = {at: np.asarray(own["peak_memory_mib"]).mean() for at, own in split(rows.sort_values(x), x).items()}
    axes.plot(list(means), list(means.values()), color=COLOURS[0], linewidth=1)
    axes.set_xticks(list(means))
    axes.set_ylim(0, 1.08 * np.asarray(rows["peak_memory_mib"]).max())  # whole marks, however little they differ
    axes.set_xlabel(label(x))
    axes.set_ylabel(label("peak_memory_mib"))
    return figure


@styled
def schedules(frame: pd.DataFrame) -> Figure:
    """Return the learning rate of the weights over the epochs, a line for each schedule (thesis section 5.2.3).

    Columns: `arm`, `seed`, `epoch`, `learning_rate`; an arm's seeds share a schedule. A line has the name of the first
    of the arms that have it.
    """
    rows = require(frame, ["arm", "seed", "epoch", "learning_rate"], "learning rates")
    figure = new_figure(2.4)
    axes = figure.subplots()
    alike: dict[tuple[tuple[float, float], ...], list[str]] = {}
    for arm, own in split(rows, "arm").items():
        first = own.loc[own["seed"] == own["seed"].iloc[0]]
        alike.setdefault(tuple(zip(first["epoch"], first["learning_rate"], strict=True)), []).append(str(arm))
    names = [arms[0] if len(arms) == 1 else f"{arms[0]} and {len(arms) - 1} more" for arms in alike.values()]
    for points, (name, look) in zip(alike, line_styles(names).items(), strict=True):
        axes.plot(*zip(*points, strict=True), markevery=max(1, len(points) // 8), label=name, **look)
    axes.set_ylim(bottom=0)
    axes.set_xlabel(label("epoch"))
    axes.set_ylabel(label("learning_rate"))
    integer_axis(axes)
    legend_above(figure)
    return figure
