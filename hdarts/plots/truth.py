"""Searches in NAS-Bench-201 as its table sees them: what their cells are worth while they search, and at the end."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from hdarts.plots.style import (
    FAINT,
    INK,
    LINES,
    label,
    legend_above,
    line_styles,
    new_figure,
    require,
    split,
    styled,
    true_accuracy_axis,
)

COLUMNS = {"cifar10_test": "true test accuracy (%)", "skips": "skip connections (of 6)"}


@styled
def truth_over_time(frame: pd.DataFrame, lines: Mapping[str, float] | None = None) -> Figure:
    """Return what the derived cell is worth (left) and its skip connections (right) over the seconds of the search.

    Columns: `arm`, `seed`, `epoch`, `seconds`, `cifar10_test` (per cent), `skips`. A row of axes an arm; thin lines are
    seeds, the thick one their mean, epoch by epoch. `lines`: horizontal lines, {name: accuracy}. Arms that have
    their cell only at the end are left out.
    """
    rows = require(frame, ["arm", "seed", "epoch", "seconds", *COLUMNS], "true accuracy over search time")
    arms = {arm: own for arm, own in split(rows, "arm").items() if len(set(own["epoch"])) > 1}
    if not arms:
        raise ValueError("true accuracy over search time: no arm has more than one epoch")
    figure = new_figure(0.7 + 1.25 * len(arms))
    grid = figure.subplots(len(arms), 2, sharex=True, sharey="col", squeeze=False, width_ratios=[2, 1])
    for (arm, own), row in zip(arms.items(), grid, strict=True):
        steps = split(own, "epoch").values()
        means = {column: [np.asarray(at[column]).mean() for at in steps] for column in ("seconds", *COLUMNS)}
        for axes, column in zip(row, COLUMNS, strict=True):
            for index, run in enumerate(split(own, "seed").values()):
                name = "one seed" if index == 0 else None
                axes.plot(run["seconds"], run[column], color=line_styles([0])[0]["color"], linewidth=0.7, label=name)
            axes.plot(means["seconds"], means[column], color=INK, linewidth=2.2, label="mean of seeds")
        row[1].set_ylim(-0.4, 6.4)
        for (name, value), style in zip((lines or {}).items(), LINES[1:], strict=False):
            row[0].axhline(value, color=FAINT, linestyle=style, linewidth=1.1, zorder=1, label=f"{name}: {value:.4g}")
        row[0].set_title(str(arm), loc="left")
    for axes in grid[:, 0]:
        true_accuracy_axis(axes)
    for axes, text in zip(grid[-1], COLUMNS.values(), strict=True):
        axes.set_xlabel(label("seconds"))
        grid[0, 0 if axes is grid[-1, 0] else 1].set_title(text, loc="right")
    legend_above(figure)
    return figure


@styled
def error_against_truth(frame: pd.DataFrame) -> Figure:
    """Return the true accuracy of the final cells over the relative error of the hypergradients that led to them.

    Columns: `arm`, `relative_error`, `cifar10_test` (per cent), one row per search.
    """
    rows = require(frame, ["arm", "relative_error", "cifar10_test"], "hypergradient error against true accuracy")
    figure = new_figure(3.2, 5.4)
    axes = figure.subplots()
    arms = split(rows, "arm")
    for (arm, own), look in zip(arms.items(), line_styles(arms).values(), strict=True):
        axes.plot(own["relative_error"], own["cifar10_test"], label=arm, **{**look, "linestyle": ""})
    if np.asarray(rows["relative_error"]).min() > 0:
        axes.set_xscale("log")
    axes.set_xlabel("relative error of the hypergradient, mean over snapshots")
    axes.set_ylabel(label("cifar10_test"))
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1), handlelength=1)
    return figure
