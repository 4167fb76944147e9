"""Rank correlations with their intervals: the ranking of cells by each source of weights (notebook 10)."""

import pandas as pd
from matplotlib.figure import Figure

from hdarts.plots.style import COLOURS, FAINT, new_figure, styled
from hdarts.plots.tables import require, split


@styled
def rank_intervals(frame: pd.DataFrame) -> Figure:
    """Return Kendall's tau of every source as a point with its interval; one axes per value of column `of`.

    Columns: `source`, `of`, `tau`, `low`, `high`; a row without an interval (nan) has the point alone.
    """
    rows = require(frame, ["source", "of", "tau"], "rank correlations")
    sources, panels = list(dict.fromkeys(rows["source"])), split(rows, "of")
    figure = new_figure(0.9 + 0.22 * len(sources))
    grid = figure.subplots(1, len(panels), sharex=True, sharey=True, squeeze=False)[0]
    for axes, (of, part) in zip(grid, panels.items(), strict=True):
        heights = [sources.index(source) for source in part["source"]]
        axes.hlines(heights, part["low"], part["high"], color=COLOURS[0], linewidth=1.2)
        axes.plot(part["tau"], heights, linestyle="", marker="o", color=COLOURS[0])
        axes.axvline(0, color=FAINT, linewidth=1.0, zorder=0.9)
        axes.set_title(f"with the {of}", loc="left")
        axes.set_xlabel("Kendall's τ")
    grid[0].set(yticks=range(len(sources)), yticklabels=sources, xlim=(-1.05, 1.05))
    grid[0].invert_yaxis()
    return figure
