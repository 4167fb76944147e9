"""Figures of notebook 08: what the replaceable parts of a search do."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from hdarts.plots.axes import edge_names, facets, label_facets, legend_above
from hdarts.plots.cells import OPERATION_STYLES
from hdarts.plots.simplex import plane_coordinates, triangle
from hdarts.plots.statistical import heat_map
from hdarts.plots.style import COLOURS, FAINT, INK, styled
from hdarts.plots.tables import require, split
from hdarts.space import SearchSpace

DOT: dict[str, Any] = {"marker": "o", "ms": 3.5, "mfc": "white", "mec": "black", "mew": 0.8, "linestyle": ""}


@styled
def weights_over_progress(frame: pd.DataFrame) -> Figure:
    """Return the mixture weights of one edge over the progress of a search, one axes per parametrisation.

    Columns: `parametrisation`, `progress` (0 to 1), `operation`, `weight`, and `value`: lines are means, dots samples.
    """
    rows = require(frame, ["parametrisation", "progress", "operation", "weight", "value"], "mixture weights")
    parts = split(rows, "parametrisation")
    figure, grid = facets(parts, 1.5, share="x")
    for axes, part in zip(grid, parts.values(), strict=True):
        for operation, both in split(part, "operation").items():
            colour, dashes = OPERATION_STYLES[operation]
            for value, line in split(both, "value").items():
                dots: dict[str, Any] = {"marker": ".", "linestyle": "", "markersize": 2.5, "alpha": 0.8}
                style = {"linestyle": dashes, "label": operation} if value == "mean" else dots
                axes.plot(line["progress"], line["weight"], color=colour, **style)
        axes.set_ylim(-0.04, 1.04)
    if "sample" in set(rows["value"]):
        grid[0].plot([], [], ".", color=INK, markersize=2.5, label="a sample")
    label_facets(figure, grid, "share of the epochs", "mixture weight")
    return figure


@styled
def neighbourhood_points(field: pd.DataFrame, points: pd.DataFrame, names: Sequence[str]) -> Figure:
    """Return points around mixture weights in the triangle of three operations, over levels of the inner loss.

    `field`: the shares `names` and `loss`. `points`: `size` (one axes each), `point` and the shares; the cross is the
    `current` one.
    """
    require(field, [*names, "loss"], "inner loss over the simplex")
    parts = split(require(points, ["size", "point", *names], "neighbourhood"), "size")
    figure, grid = facets([f"size {size:g}" for size in parts], 2.7, across=len(parts), share="")
    x, y, loss = *plane_coordinates(field, names), np.asarray(field["loss"], dtype=float)
    styles = {"uniform": (COLOURS[0], "o", "none"), "adversarial": (COLOURS[1], "^", COLOURS[1])}
    for axes, part in zip(grid, parts.values(), strict=True):
        levels = np.unique(np.quantile(loss, np.linspace(0, 1, 11)))
        shown = axes.tricontourf(x, y, loss, levels=levels, cmap="Greys", alpha=0.55)
        triangle(axes, names)
        axes.set_title(axes.get_title(), pad=14)
        places = {name: plane_coordinates(rows, names) for name, rows in split(part, "point").items()}
        for name, (colour, marker, face) in styles.items():
            axes.plot(*places[name], marker, color=colour, mfc=face, ms=3.2, linestyle="", label=name, clip_on=False)
        axes.plot(*places["current"], "x", color=INK, markersize=7, markeredgewidth=1.8, linestyle="", label="current")
    bar = figure.colorbar(shown, ax=grid, shrink=0.7, label="inner loss", format="%.3g")
    bar.ax.tick_params(length=0)
    legend_above(figure)
    return figure


def _table(rows: pd.DataFrame, column: str, space: SearchSpace) -> pd.DataFrame:
    """Return a column as a table of edges and operations, by their names in figures."""
    table = rows.pivot_table(index="edge", columns="operation", values=column, dropna=False, sort=False)
    table = table.reindex(index=range(len(space.edges)), columns=list(space.operations))
    return table.set_axis(edge_names(space), axis="index")


@styled
def removal_maps(frame: pd.DataFrame, space: SearchSpace) -> Figure:
    """Return the mixture weight of each operation next to the accuracy that the supernet loses without it.

    Columns: `edge` (index), `operation`, `weight`, `lost` (points). A dot marks the largest value of an edge.
    """
    rows = require(frame, ["edge", "operation", "weight", "lost"], "accuracy without an operation")
    titles = {"weight": "mixture weight", "lost": "accuracy lost without it (points)"}
    figure, grid = facets(titles.values(), 0.6 + 0.28 * len(space.edges), across=2, share="")
    for axes, (column, title) in zip(grid, titles.items(), strict=True):
        table = _table(rows, column, space)
        mesh = heat_map(axes, table, linewidth=0.3)
        axes.plot(table.to_numpy().argmax(1) + 0.5, np.arange(len(table)) + 0.5, **DOT)
        axes.set_title("")
        axes.tick_params(axis="x", labelrotation=90)
        axes.tick_params(labelleft=axes is grid[0])
        figure.colorbar(mesh, ax=axes, label=title, aspect=22)
    return figure


@styled
def candidates_by_stage(frame: pd.DataFrame, space: SearchSpace) -> Figure:
    """Return the candidates of each edge and their mixture weights at the end of each stage; crosses are pruned.

    Columns: `stage`, `edge` (index), `operation`, `weight` (nan: pruned).
    """
    require(frame, ["stage", "edge", "operation", "weight"], "candidates by stage")
    parts = split(frame, "stage")
    figure, grid = facets([f"stage {stage}" for stage in parts], 0.9 + 0.17 * len(space.edges), across=3, share="")
    low, high = frame["weight"].min(), frame["weight"].max()
    for axes, part in zip(grid, parts.values(), strict=True):
        table = _table(part, "weight", space)
        mesh = heat_map(axes, table, vmin=low, vmax=high, linewidth=0.3)
        edges, pruned = np.nonzero(table.isna().to_numpy())
        axes.plot(pruned + 0.5, edges + 0.5, "x", color=FAINT, markersize=3, linestyle="")
        axes.tick_params(axis="x", labelrotation=90)
        axes.tick_params(labelleft=axes is grid[0])
    handles = [Line2D([], [], color=FAINT, marker="x", linestyle="", label="pruned")]
    figure.legend(handles=handles, loc="outside upper right")
    figure.colorbar(mesh, ax=grid, label="mixture weight", aspect=30)
    return figure
