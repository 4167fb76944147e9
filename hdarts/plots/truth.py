"""True accuracies of searched cells, from the table of NAS-Bench-201, during and after the search."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
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
