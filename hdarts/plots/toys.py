"""Figures of the toy problems of notebooks 01 and 02: hypergradients and best responses."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Circle

from hdarts.plots.style import (
    COLOURS,
    FAINT,
    INK,
    label,
    legend_above,
    line_styles,
    new_figure,
    require,
    split,
    styled,
)

HEIGHT = 3**0.5 / 2  # of the simplex, whose sides have length 1


@styled
def hypergradient_slope(frame: pd.DataFrame, alpha: float, weight: float, tangents: Mapping[str, float]) -> Figure:
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
    for name, look in line_styles(["", *tangents]).items():
        if name:
            ends = np.array([-reach, reach])
            line = {"color": look["color"], "linestyle": look["linestyle"]}
            right.plot(alpha + ends, height + tangents[name] * ends, label=name, **line)
    right.plot([alpha], [height], "o", color=INK, markersize=5)
    right.set(title="outer loss at the best response", xlabel="alpha", ylabel="outer loss")
    legend_above(figure)
    return figure


@styled
def hypergradient_bars(frame: pd.DataFrame) -> Figure:
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
def grouped_strips(
    frame: pd.DataFrame, y: str, group: str, name: str, facet: str, level: Mapping[Any, float] | None = None
) -> Figure:
    """Return every run as a mark: `group` over `y`, marks by `name`, an axes a `facet`, dashed at `level[facet]`."""
    rows = require(frame, [y, group, name, facet], f"{label(y)} of runs")
    facets, look = split(rows, facet), line_styles(rows[name])
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


@styled
def neumann_path(frame: pd.DataFrame, names: tuple[str, str], truth: tuple[float, float]) -> Figure:
    """Return the way of a hypergradient of two components from no response to K terms, an axes for each `share`.

    Columns: `share` (the step size times the largest curvature), `K` and the components `names`. The cross is `truth`,
    dashed circles are at once and twice the distance of no response from it.
    """
    across, up = names
    rows = require(frame, ["share", "K", across, up], "way of a hypergradient")
    parts = split(rows, "share")
    figure = new_figure(2.9, max(2.9, 2.1 * len(parts)))
    grid = figure.subplots(1, len(parts), sharex=True, sharey=True, squeeze=False)[0]
    first = rows[rows["K"] == 0].iloc[0]
    reach = float(((first[across] - truth[0]) ** 2 + (first[up] - truth[1]) ** 2) ** 0.5)
    for axes, (share, own) in zip(grid, parts.items(), strict=True):
        own = own.sort_values("K")
        for radius in (reach, 2 * reach):
            axes.add_patch(Circle(truth, radius, fill=False, ec=FAINT, ls=(0, (4, 2)), lw=0.8))
        axes.plot(own[across], own[up], "o-", color=COLOURS[0], markersize=3, linewidth=1, label="K = 2, 3, ...")
        for k, colour, marker, text in ((0, INK, "o", "K = 0, no response"), (1, COLOURS[1], "s", "K = 1, one step")):
            one = own[own["K"] == k]
            axes.plot(one[across], one[up], marker, color=colour, markersize=6, linestyle="", label=text)
        axes.plot(*truth, "x", color=INK, markersize=8, markeredgewidth=1.8, linestyle="", label="exact")
        axes.set(title=rf"$\xi = {share:g}\,/\,\kappa_{{max}}$", xlabel=across)
        axes.set(xlim=(truth[0] - 2.1 * reach, truth[0] + 2.1 * reach))
        axes.set(ylim=(truth[1] - 2.1 * reach, truth[1] + 2.1 * reach))
        axes.set_aspect("equal")
    grid[0].set_ylabel(up)
    handles, words = grid[0].get_legend_handles_labels()
    figure.legend(handles, words, loc="outside upper center", ncols=4 if len(parts) > 1 else 2)
    return figure


@styled
def chords(frame: pd.DataFrame, at: float) -> Figure:
    """Return lines through a best response near alpha = `at`, an axes for each `sigma`; shaded: `at` +- 2 sigma.

    Columns: `sigma`, `line`, `alpha`, `weight`. The first line is the best response itself.
    """
    rows = require(frame, ["sigma", "line", "alpha", "weight"], "lines through a best response")
    parts, look = split(rows, "sigma"), line_styles(rows["line"])
    figure = new_figure(2.9, max(3.2, 2.1 * len(parts)))
    grid = figure.subplots(1, len(parts), sharex=True, sharey=True, squeeze=False)[0]
    for axes, (sigma, own) in zip(grid, parts.items(), strict=True):
        axes.axvspan(at - 2 * sigma, at + 2 * sigma, color="#eeeeee", label="alphas seen")
        for name, one in split(own, "line").items():
            line = {"color": look[name]["color"], "linestyle": look[name]["linestyle"]}
            axes.plot(one["alpha"], one["weight"], label=str(name), **line)
        axes.set(title=f"sigma = {sigma:g}", xlabel="alpha", xlim=(rows["alpha"].min(), rows["alpha"].max()))
    grid[0].set_ylabel("weight")
    handles, words = grid[0].get_legend_handles_labels()
    figure.legend(handles, words, loc="outside upper center", ncols=3 if len(parts) > 1 else 2)
    return figure
