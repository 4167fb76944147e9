"""Figures of notebooks 01 and 02: a hypergradient, the simplex of three operations, what a hypernetwork knows."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.tri import Triangulation

from hdarts.plots.style import (
    COLOURS,
    FAINT,
    INK,
    WIDTH,
    label,
    legend_above,
    looks,
    new_figure,
    require,
    split,
    styled,
)

HEIGHT = 3**0.5 / 2  # of the simplex, whose sides have length 1


@styled
def slopes(frame: pd.DataFrame, alpha: float, weight: float, tangents: Mapping[str, float]) -> Figure:
    """Return the two levels of a problem with one weight: inner loss over (alpha, w), retrained outer loss over alpha.

    Columns: `alpha`, `w`, `inner` on a grid. `best_response` and `outer` depend on alpha alone. `tangents`: slopes to
    draw at (`alpha`, `weight` = w*(alpha)), by name.
    """
    rows = require(frame, ["alpha", "w", "inner", "best_response", "outer"], "slopes")
    figure = new_figure(2.9)
    left, right = figure.subplots(1, 2)
    grid = rows.pivot_table(index="w", columns="alpha", values="inner")
    left.contourf(grid.columns, grid.index, grid.to_numpy(), levels=12, cmap="Greys", alpha=0.6)
    curve = rows.drop_duplicates("alpha")
    left.plot(curve["alpha"], curve["best_response"], color=COLOURS[0], label="w*(alpha)")
    left.plot([alpha], [weight], "o", color=INK, markersize=5)
    left.set(title="inner loss (dark: large)", xlabel="alpha", ylabel="w")
    right.plot(curve["alpha"], curve["outer"], color=COLOURS[0])
    height = float(np.interp(alpha, curve["alpha"], curve["outer"]))
    reach = 0.2 * (curve["alpha"].max() - curve["alpha"].min())
    for name, look in looks(["", *tangents]).items():
        if name:
            ends = np.array([-reach, reach])
            line = {"color": look["color"], "linestyle": look["linestyle"]}
            right.plot(alpha + ends, height + tangents[name] * ends, label=name, **line)
    right.plot([alpha], [height], "o", color=INK, markersize=5)
    right.set(title="outer loss at the best response", xlabel="alpha", ylabel="outer loss")
    legend_above(figure)
    return figure


@styled
def parts(frame: pd.DataFrame) -> Figure:
    """Return bars of the parts of a hypergradient, one group an operation, one axes a problem.

    Columns: `problem`, `operation`, `direct`, `response`, `total`.
    """
    rows = require(frame, ["problem", "operation", "direct", "response", "total"], "parts of the hypergradient")
    problems = split(rows, "problem")
    figure = new_figure(2.5)
    grid = figure.subplots(1, len(problems), squeeze=False)[0]
    for axes, (title, own) in zip(grid, problems.items(), strict=True):
        for i, (part, hatch) in enumerate((("direct", ""), ("response", "//"), ("total", ""))):
            colour = {"direct": COLOURS[4], "response": COLOURS[0], "total": INK}[part]
            places = np.arange(len(own)) + 0.27 * (i - 1)
            axes.bar(places, own[part], 0.25, label=part, color=colour, hatch=hatch, edgecolor="white", linewidth=0.5)
        axes.set_xticks(range(len(own)), list(own["operation"]))
        axes.axhline(0, color=INK, linewidth=0.8)
        axes.set_title(str(title))
    grid[0].set_ylabel("part of d outer/d alpha")
    legend_above(figure)
    return figure


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
    values, look = np.asarray(field[column], dtype=float), looks(rows[name])
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
    look = looks(paths[name])
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


@styled
def best_responses(frame: pd.DataFrame) -> Figure:
    """Return losses over alpha as in the thesis's figure 22: crosses retrained, lines generated, one axes a kind.

    Columns: `kind`, `mean`, `spread`, `alpha`, `inner`, `outer`. Shaded: mean +- 2 spread, the alphas seen.
    """
    rows = require(frame, ["kind", "mean", "spread", "alpha", "inner", "outer"], "best responses")
    truth = rows[rows["kind"] == "retrained"]
    kinds = split(rows.query("kind != 'retrained'"), "kind")
    figure = new_figure(2.7)
    grid = figure.subplots(1, len(kinds), sharey=True, squeeze=False)[0]
    highest = 1.6 * max(truth["inner"].max(), truth["outer"].max())
    for axes, (title, own) in zip(grid, kinds.items(), strict=True):
        for column, colour, style in (("inner", COLOURS[0], (0, (5, 1.5))), ("outer", COLOURS[1], "-")):
            axes.plot(truth["alpha"], truth[column], "x", color=colour, markersize=4, label=f"{column}, retrained")
            near = own.loc[(own["alpha"] - own["mean"]).abs() <= 5 * own["spread"]]  # farther off, local lines are wild
            for i, one in enumerate(split(near, "mean").values()):
                text = f"{column}, generated" if i == 0 else None
                axes.plot(one["alpha"], one[column], color=colour, linestyle=style, label=text)
                mean, spread = one[["mean", "spread"]].to_numpy()[0]
                if column == "outer":  # last, so that it stands last in the legend
                    ends = np.clip([mean - 2 * spread, mean + 2 * spread], truth["alpha"].min(), truth["alpha"].max())
                    axes.axvspan(*ends, color="#eeeeee")
        axes.set(title=title, xlabel="alpha", ylim=(0, highest))
    grid[0].set_ylabel("loss")
    grid[0].patches[-1].set_label("alphas seen")
    legend_above(figure)
    return figure


@styled
def matrices(found: Mapping[str, Any], columns: Sequence[str]) -> Figure:
    """Return matrices side by side in one scale of colours, that of the first; `columns` name a few leading columns."""
    figure = new_figure(1.95)
    grid = figure.subplots(1, len(found), squeeze=False)[0]
    limit = float(np.abs(np.asarray(next(iter(found.values())))).max())
    for i, (axes, (title, matrix)) in enumerate(zip(grid, found.items(), strict=True)):
        shown = axes.imshow(np.asarray(matrix), cmap="PuOr", vmin=-limit, vmax=limit, aspect="auto")
        axes.set_title(title.replace(", ", ",\n").replace(" + ", "\n+ "), fontsize=7.5)
        axes.set_xticks(range(len(columns)), columns)
        axes.set_yticks([])
        if columns:
            axes.axvline(len(columns) - 0.5, color=INK, linewidth=1)
        axes.grid(False)
        if i == 0:
            axes.set_ylabel("weight")
    figure.colorbar(shown, ax=grid, shrink=0.8)
    return figure


@styled
def dots(
    frame: pd.DataFrame, y: str, group: str, name: str, facet: str, level: Mapping[Any, float] | None = None
) -> Figure:
    """Return every run as a mark: `group` over `y`, marks by `name`, an axes a `facet`, dashed at `level[facet]`."""
    rows = require(frame, [y, group, name, facet], f"{label(y)} of runs")
    facets, look = split(rows, facet), looks(rows[name])
    groups = list(dict.fromkeys(rows[group]))
    figure = new_figure(0.7 + 0.24 * len(groups) + 0.5)
    grid = figure.subplots(1, len(facets), sharey=True, squeeze=False)[0]
    for axes, (title, own) in zip(grid, facets.items(), strict=True):
        for i, (value, one) in enumerate(split(own, name).items()):
            heights = np.array([groups.index(g) for g in one[group]]) + 0.22 * (i - (own[name].nunique() - 1) / 2)
            mark = {"color": look[value]["color"], "marker": look[value]["marker"], "linestyle": ""}
            axes.plot(one[y], heights, label=str(value), markersize=4, markerfacecolor="none", **mark)
        if level and title in level:
            axes.axvline(level[title], color=FAINT, linestyle=(0, (4, 2)))
        axes.set(title=str(title), xlabel=label(y))
    grid[0].set_yticks(range(len(groups)), groups)
    grid[0].invert_yaxis()
    legend_above(figure)
    return figure
