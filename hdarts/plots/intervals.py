"""Estimates with their intervals: differences of arms, and rank correlations (notebook 10)."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from hdarts.plots.style import COLOURS, FAINT, INK, new_figure, styled
from hdarts.plots.tables import require, split


@styled
def rank_intervals(frame: pd.DataFrame) -> Figure:
    """Return Kendall's tau of every source as a point with its interval; one axes per value of column `of`.

    Columns: `source`, `of`, `tau`, `low`, `high`; a row without an interval (nan) has the point alone. Several rows of
    a source, such as seeds, lie one below the other, with a stroke at their mean.
    """
    rows = require(frame, ["source", "of", "tau"], "rank correlations")
    sources, panels = list(dict.fromkeys(rows["source"])), split(rows, "of")
    most = max(len(part) for _, part in rows.groupby(["source", "of"]))
    figure = new_figure(0.9 + (0.22 if most == 1 else 0.32) * len(sources))
    grid = figure.subplots(1, len(panels), sharex=True, sharey=True, squeeze=False)[0]
    for axes, (of, part) in zip(grid, panels.items(), strict=True):
        number = part.groupby("source").cumcount() - (most - 1) / 2
        heights = part["source"].map(sources.index) + 0.7 * number / most
        axes.hlines(heights, part["low"], part["high"], color=COLOURS[0], linewidth=1.2 if most == 1 else 0.6)
        axes.plot(part["tau"], heights, linestyle="", marker="o", markersize=4 if most == 1 else 2.5, color=COLOURS[0])
        if most > 1:
            means: Any = part.groupby("source")["tau"].mean()
            places = np.array([sources.index(source) for source in means.index])
            axes.vlines(means, places - 0.42, places + 0.42, color=INK, linewidth=1.8)
        axes.axvline(0, color=FAINT, linewidth=1.0, zorder=0.9)
        axes.set_title(f"with the {of}", loc="left")
        axes.set_xlabel("Kendall's τ")
    grid[0].set(yticks=range(len(sources)), yticklabels=sources, xlim=(-1.05, 1.05))
    grid[0].invert_yaxis()
    return figure


@styled
def differences(frame: pd.DataFrame, pairs: pd.DataFrame) -> Figure:
    """Return the mean difference of each arm from the first, one axes per measure.

    Columns of `frame`: `measure`, `arm`, `against`, `difference` (points), `low`, `high`, `shows_from`; brackets stand
    at plus and minus the last, if there is room for them. Columns of `pairs`: `measure`, `arm`, `difference`, one row
    per pair of seeds.
    """
    rows = require(frame, ["measure", "arm", "against", "difference"], "differences of arms")
    arms, panels = list(dict.fromkeys(rows["arm"])), split(rows, "measure")
    figure = new_figure(0.9 + (0.32 if len(arms) < 5 else 0.24) * len(arms))
    grid = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, (measure, part) in zip(grid, panels.items(), strict=True):
        heights, seeds = [arms.index(arm) for arm in part["arm"]], pairs.loc[pairs["measure"] == measure]
        places = [arms.index(arm) for arm in seeds["arm"]]
        axes.plot(seeds["difference"], places, linestyle="", marker="o", color=FAINT, markersize=3)
        for sign, mark in ((-1, "$[$"), (1, "$]$")):
            ends = sign * part["shows_from"]
            axes.plot(ends, heights, linestyle="", marker=mark, color=FAINT, markersize=8, zorder=0.95)
        axes.hlines(heights, part["low"], part["high"], color=COLOURS[0], linewidth=1.6)
        axes.plot(part["difference"], heights, linestyle="", marker="D", color=COLOURS[0], markersize=5)
        axes.axvline(0, color=FAINT, linewidth=1.0, zorder=0.9)
        widest = np.nanmax(np.abs(np.concatenate([part["low"], part["high"], seeds["difference"]])))
        axes.set_xlim(-1.4 * widest or -1, 1.4 * widest or 1)
        axes.set_title(str(measure), loc="left")
        axes.set_xlabel(f"difference from {part['against'].iloc[0]} (points)")
    grid[0].set(yticks=range(len(arms)), yticklabels=arms, ylim=(len(arms) - 0.5, -0.5))
    return figure
