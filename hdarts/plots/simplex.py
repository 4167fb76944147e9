"""Maps and paths in the simplex of three operations, and paths in a plane of two parameters."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.tri import Triangulation

from hdarts.plots.style import (
    INK,
    WIDTH,
    legend_above,
    line_styles,
    new_figure,
    require,
    split,
    styled,
)

HEIGHT = 3**0.5 / 2  # of the simplex, whose sides have length 1


def corners(axes: Axes, names: Sequence[str]) -> None:
    """Make `axes` a triangle whose corners, lower left, lower right, top, are the `names`."""
    axes.set_axis_off()
    axes.set_aspect("equal")
    axes.plot([0, 1, 0.5, 0], [0, 0, HEIGHT, 0], color=INK, linewidth=0.8)
    for name, (x, y), (h, v) in zip(
        names,
        ((0, -0.03), (1, -0.03), (0.5, HEIGHT + 0.03)),
        (("center", "top"),) * 2 + (("center", "bottom"),),
        strict=True,
    ):
        axes.text(x, y, name, ha=h, va=v, fontsize=7.5)


def flat(frame: pd.DataFrame, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return x and y in the triangle of the shares in the columns `names`."""
    _, second, third = (np.asarray(frame[name], dtype=float) for name in names)
    return second + third / 2, HEIGHT * third


@styled
def simplex_maps(frame: pd.DataFrame, names: Sequence[str], maps: Mapping[str, tuple[str, float]]) -> Figure:
    """Return a triangle for each of `maps`: title -> (column, the value that divides the colours).

    Columns: the three shares `names`, and those of `maps`. A line marks where the dividing value is met.
    """
    require(frame, [*names, *(column for column, _ in maps.values())], "maps of the simplex")
    figure = new_figure(2.8)
    x, y = flat(frame, names)
    for axes, (title, (column, middle)) in zip(
        figure.subplots(1, len(maps), squeeze=False)[0], maps.items(), strict=True
    ):
        values = np.asarray(frame[column], dtype=float)
        low, high = np.quantile(values, [0.02, 0.98])
        low, high = min(low, middle - 1e-3), max(high, middle + 1e-3)
        norm = TwoSlopeNorm(middle, low, high)
        shown = np.clip(values, low, high)
        colours = axes.tripcolor(
            Triangulation(x, y), shown, norm=norm, cmap="PuOr_r", shading="gouraud", rasterized=True
        )
        if values.min() < middle < values.max():
            axes.tricontour(x, y, values, levels=[middle], colors=INK, linewidths=1.2)
        corners(axes, names)
        axes.set_title(title, pad=14)
        bar = figure.colorbar(colours, ax=axes, orientation="horizontal", shrink=0.8, aspect=14, pad=0.14)
        bar.set_ticks([low, middle, high], labels=[f"{tick:.2g}" for tick in (low, middle, high)])
    return figure


@styled
def simplex_paths(
    field: pd.DataFrame, column: str, paths: pd.DataFrame, names: Sequence[str], name: str, facet: str
) -> Figure:
    """Return the paths of runs in the triangle of three shares, over level lines of `column`; an axes a `facet`.

    `field` has the shares `names` and `column`; `paths` has the shares, `name` and `facet`, and perhaps `seed`. A ring
    is a path's end, the cross the lowest value of the field.
    """
    require(field, [*names, column], "paths in the simplex")
    rows = require(paths, [*names, name, facet], "paths in the simplex")
    facets = split(rows, facet)
    across = min(3, len(facets))
    down = -(-len(facets) // across)
    width = min(WIDTH, 3.8 * across)
    figure = new_figure(0.45 + down * (0.8 * width / across + 0.4), width)
    grid = figure.subplots(down, across, squeeze=False)
    x, y = flat(field, names)
    values, look = np.asarray(field[column], dtype=float), line_styles(rows[name])
    levels = np.quantile(values, np.linspace(0, 1, 11))
    lowest = int(values.argmin())
    for axes, (title, own) in zip(grid.flat, facets.items(), strict=False):
        axes.tricontourf(x, y, values, levels=np.unique(levels), cmap="Greys", alpha=0.55)
        corners(axes, names)
        for value, drawn in split(own, name).items():
            line = {"color": look[value]["color"], "linestyle": look[value]["linestyle"]}
            for i, (_, one) in enumerate(drawn.groupby("seed") if "seed" in drawn else [(0, drawn)]):
                right, up = flat(one, names)
                axes.plot(right, up, linewidth=1.3, label=str(value) if i == 0 else None, **line)
                axes.plot(right[-1:], up[-1:], look[value]["marker"], color=line["color"], markerfacecolor="white")
        axes.plot(x[lowest], y[lowest], "x", color=INK, markersize=6, markeredgewidth=1.6)
        axes.set_title(str(title), pad=12, fontsize=8)
    for axes in grid.flat[len(facets) :]:
        axes.set_axis_off()
    legend_above(figure)
    return figure


@styled
def plane_paths(
    field: pd.DataFrame, column: str, paths: pd.DataFrame, axes_names: tuple[str, str], name: str
) -> Figure:
    """Return the paths of runs in a plane over levels of `column`; a ring is an end, the cross the lowest value."""
    across, up = axes_names
    require(field, [across, up, column], "paths in the plane")
    figure = new_figure(3.0, 4.2)
    axes = figure.subplots()
    grid = field.pivot_table(index=up, columns=across, values=column)
    levels = np.unique(np.quantile(grid.to_numpy(), np.linspace(0, 1, 13)))
    axes.contourf(grid.columns, grid.index, grid.to_numpy(), levels=levels, cmap="Greys", alpha=0.55)
    look = line_styles(paths[name])
    for value, own in split(paths, name).items():
        line = {"color": look[value]["color"], "linestyle": look[value]["linestyle"]}
        axes.plot(own[across], own[up], label=str(value), **line)
        axes.plot(
            own[across].iloc[-1:],
            own[up].iloc[-1:],
            look[value]["marker"],
            color=line["color"],
            markerfacecolor="white",
        )
    lowest = field.loc[field[column].idxmin()]
    axes.plot([lowest[across]], [lowest[up]], "x", color=INK, markersize=7, markeredgewidth=1.6)
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    figure.legend(loc="outside right upper")
    return figure
