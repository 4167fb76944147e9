"""Maps and paths in the simplex of three operations, and paths in a plane of two parameters."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.tri import Triangulation

from hdarts.plots.axes import facets, legend_above
from hdarts.plots.style import INK, WIDTH, line_styles, new_figure, styled
from hdarts.plots.tables import require, split

HEIGHT = 3**0.5 / 2  # of the simplex, whose sides have length 1


def triangle(axes: Axes, names: Sequence[str]) -> None:
    """Make `axes` a triangle whose corners, lower left, lower right, top, are the `names`."""
    axes.set_axis_off()
    axes.set_aspect("equal")
    axes.plot([0, 1, 0.5, 0], [0, 0, HEIGHT, 0], color=INK, linewidth=0.8)
    for name, x, y, va in zip(names, (0, 1, 0.5), (-0.03, -0.03, HEIGHT + 0.03), ("top", "top", "bottom"), strict=True):
        axes.text(x, y, name, ha="center", va=va, fontsize=7.5)


def plane_coordinates(frame: pd.DataFrame, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return x and y in the triangle of the three shares in the columns `names`."""
    _, second, third = (np.asarray(frame[name], dtype=float) for name in names)
    return second + third / 2, HEIGHT * third


@styled
def simplex_maps(frame: pd.DataFrame, names: Sequence[str], maps: Mapping[str, tuple[str, float]]) -> Figure:
    """Return one triangle per item of `maps`: title -> (column, the value that divides the colours).

    Columns: the three shares `names`, and those of `maps`. A line marks where the dividing value is met. Lightness
    rises with the value, also in greyscale.
    """
    require(frame, [*names, *(column for column, _ in maps.values())], "maps of the simplex")
    figure, grid = facets(maps, 2.4, across=len(maps), share="")
    x, y = plane_coordinates(frame, names)
    for axes, (title, (column, middle)) in zip(grid, maps.items(), strict=True):
        values = np.asarray(frame[column], dtype=float)
        low, high = np.quantile(values, [0.02, 0.98])
        low, high = min(low, middle - 1e-3), max(high, middle + 1e-3)
        norm, shown = TwoSlopeNorm(middle, low, high), np.clip(values, low, high)
        shading: dict[str, Any] = {"shading": "gouraud", "rasterized": True}
        colours = axes.tripcolor(Triangulation(x, y), shown, norm=norm, cmap="cividis", **shading)
        if values.min() < middle < values.max():
            axes.tricontour(x, y, values, levels=[middle], colors=INK, linewidths=1.2)
        triangle(axes, names)
        axes.set_title(title, pad=14)
        bar = figure.colorbar(colours, ax=axes, orientation="horizontal", shrink=0.8, aspect=14, pad=0.14)
        bar.set_ticks([low, middle, high], labels=[f"{tick:.2g}" for tick in (low, middle, high)])
    return figure


@styled
def simplex_paths(
    field: pd.DataFrame, column: str, paths: pd.DataFrame, names: Sequence[str], name: str, facet: str
) -> Figure:
    """Return the paths of runs in the triangle of three shares, over level sets of `column`; one axes per `facet`.

    `field` has the shares `names` and `column`; `paths` has the shares, `name` and `facet`, and optionally `seed`. A
    ring marks a path's end, the cross the lowest value of the field.
    """
    require(field, [*names, column], "paths in the simplex")
    rows = require(paths, [*names, name, facet], "paths in the simplex")
    parts = split(rows, facet)
    across = 2 if len(parts) == 4 else min(3, len(parts))
    width = min(WIDTH, 3.8 * across)
    figure, grid = facets(parts, 0.8 * width / across + 0.4, width, share="")
    x, y = plane_coordinates(field, names)
    values, styles = np.asarray(field[column], dtype=float), line_styles(rows[name])
    levels, lowest = np.unique(np.quantile(values, np.linspace(0, 1, 11))), int(values.argmin())
    for axes, (title, part) in zip(grid, parts.items(), strict=True):
        axes.tricontourf(x, y, values, levels=levels, cmap="Greys", alpha=0.55)
        triangle(axes, names)
        for value, runs in split(part, name).items():
            for _, run in runs.groupby("seed") if "seed" in runs else [(0, runs)]:
                _path(axes, *plane_coordinates(run, names), str(value), styles[value])
        _cross(axes, x[lowest], y[lowest])
        axes.set_title(str(title), pad=12, fontsize=8)
    legend_above(figure)
    return figure


@styled
def plane_paths(
    field: pd.DataFrame, column: str, paths: pd.DataFrame, axes_names: tuple[str, str], name: str
) -> Figure:
    """Return the paths of runs in a plane over levels of `column`; a ring is an end, the cross the lowest value.

    Columns: `axes_names` in both tables, `column` in `field` (on a grid), `name` in `paths`.
    """
    across, up = axes_names
    require(field, [across, up, column], "paths in the plane")
    rows = require(paths, [across, up, name], "paths in the plane")
    figure = new_figure(3.0, 4.2)
    axes = figure.subplots()
    grid = field.pivot_table(index=up, columns=across, values=column)
    levels = np.unique(np.quantile(grid.to_numpy(), np.linspace(0, 1, 13)))
    axes.contourf(grid.columns, grid.index, grid.to_numpy(), levels=levels, cmap="Greys", alpha=0.55)
    styles = line_styles(rows[name])
    for value, run in split(rows, name).items():
        _path(axes, run[across].to_numpy(), run[up].to_numpy(), str(value), styles[value])
    lowest = field.loc[field[column].idxmin()]
    _cross(axes, lowest[across], lowest[up])
    axes.set(xlabel=across, ylabel=up)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right upper")
    return figure


def _path(axes: Axes, x: np.ndarray, y: np.ndarray, name: str, style: Mapping[str, Any]) -> None:
    """Draw a path with a hollow marker at its end."""
    axes.plot(x, y, linewidth=1.3, label=name, color=style["color"], linestyle=style["linestyle"])
    axes.plot(x[-1:], y[-1:], style["marker"], color=style["color"], markerfacecolor="white")


def _cross(axes: Axes, x: float, y: float) -> None:
    axes.plot([x], [y], "x", color=INK, markersize=6, markeredgewidth=1.6)
