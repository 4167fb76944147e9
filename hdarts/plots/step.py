"""Figures of one step of a search: its hypergradient, the move of alpha, the change of the weights."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from hdarts.plots.axes import edge_names
from hdarts.plots.statistical import heat_map
from hdarts.plots.style import WIDTH, new_figure, styled
from hdarts.space import SearchSpace


@styled
def edge_maps(
    values: Mapping[str, ArrayLike], space: SearchSpace, columns: Sequence[str], unit: str, dots: bool = False
) -> Figure:
    """Return heat maps of signed numbers: edges as rows, `columns` as columns, one map per name and kind of cell.

    `values`: arrays `(kinds, edges, columns)`, each with a scale of its own around 0 in `unit`. With `dots`, one marks
    the smallest number of each edge: of a slope, what gains most by a step against it.
    """
    kinds, names = len(space.kinds), list(values)
    along = WIDTH if kinds * len(names) > 2 else 0.75 * WIDTH
    figure = new_figure(1.4 + 0.135 * len(space.edges), along)
    grid = figure.subplots(1, kinds * len(names), squeeze=False)[0]
    for number, (name, value) in enumerate(values.items()):
        stacked = np.asarray(value, dtype=float)
        most = np.abs(stacked[np.isfinite(stacked)]).max(initial=0.0) or 1.0
        row = grid[number * kinds : (number + 1) * kinds]
        for axes, kind, one in zip(row, space.kinds, stacked, strict=True):
            table = pd.DataFrame(one, edge_names(space), list(columns))
            mesh = heat_map(axes, table, vmin=-most, vmax=most, linewidth=0.3)
            if dots:
                least = np.where(np.isfinite(one), one, np.inf).argmin(-1)
                axes.plot(least + 0.5, np.arange(len(one)) + 0.5, "o", ms=3.5, mfc="white", mec="black", mew=0.8)
            axes.set_title(kind)
            axes.tick_params(axis="x", labelrotation=90)
            axes.tick_params(labelleft=axes is grid[0])
        figure.colorbar(mesh, ax=list(row), label=f"{name} ({unit})", aspect=30, location="bottom")
    return figure


@styled
def weight_change_map(shares: pd.DataFrame) -> Figure:
    """Return the change of the weights, in per cent of their norm, as a heat map: parts as rows, cells as columns."""
    figure = new_figure(1.0 + 0.2 * len(shares), min(WIDTH, 2.6 + 0.45 * shares.shape[1]))
    axes = figure.subplots()
    numbers = ".2g" if shares.shape[1] <= 10 else ""
    mesh = heat_map(axes, shares, numbers, vmin=0, linewidth=0.3)
    axes.set_xlabel("cell")
    figure.colorbar(mesh, ax=axes, label="relative change (%)", aspect=20)
    return figure
