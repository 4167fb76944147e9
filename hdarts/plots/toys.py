"""Figures of the toy problems of notebooks 01 and 02: hypergradients and best responses."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Circle

from hdarts.plots.axes import facets, label_facets, legend_above
from hdarts.plots.statistical import strips
from hdarts.plots.style import COLOURS, FAINT, INK, line_styles, new_figure, styled
from hdarts.plots.tables import label, require, split


@styled
def hypergradient_slope(frame: pd.DataFrame, alpha: float, weight: float, tangents: Mapping[str, float]) -> Figure:
    """Return the two levels of a problem with one weight: inner loss over (alpha, w), retrained outer loss over alpha.

    Columns: `alpha`, `w`, `inner` on a grid; `best_response` and `outer`, which depend on alpha alone. `tangents`:
    slopes to draw at (`alpha`, `weight` = w*(alpha)), by name.
    """
    rows = require(frame, ["alpha", "w", "inner", "best_response", "outer"], "slope of the outer loss")
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
    ends = np.array([-reach, reach])
    _, *styles = line_styles(["", *tangents]).values()  # the first is the curve's
    for (name, slope), style in zip(tangents.items(), styles, strict=True):
        right.plot(alpha + ends, height + slope * ends, label=name, **{**style, "marker": ""})
    right.plot([alpha], [height], "o", color=INK, markersize=5)
    right.set(title="outer loss at the best response", xlabel="alpha", ylabel="outer loss")
    legend_above(figure)
    return figure


@styled
def hypergradient_bars(frame: pd.DataFrame) -> Figure:
    """Return bars of the parts of a hypergradient, one group per operation, one axes per problem.

    Columns: `problem`, `operation`, `direct`, `response`, `total`.
    """
    import seaborn as sns

    colours = {"direct": COLOURS[4], "response": COLOURS[0], "total": INK}
    rows = require(frame, ["problem", "operation", *colours], "parts of the hypergradient")
    bars = rows.melt(["problem", "operation"], list(colours), "part")
    figure, grid = facets(rows["problem"].unique(), 2.1, share="")
    for axes, part in zip(grid, split(bars, "problem").values(), strict=True):
        bar_style = {"palette": colours, "saturation": 1, "edgecolor": "white", "linewidth": 0.5}
        sns.barplot(part, x="operation", y="value", hue="part", errorbar=None, legend=False, ax=axes, **bar_style)
        for bar, (name, hatch) in zip(axes.containers, zip(colours, ("", "//", ""), strict=True), strict=True):
            bar.set_label(name)
            for patch in bar:
                patch.set_hatch(hatch)
        axes.axhline(0, color=INK, linewidth=0.8)
    label_facets(figure, grid, "", "part of d outer/d alpha")
    return figure


@styled
def neumann_path(frame: pd.DataFrame, names: tuple[str, str], truth: tuple[float, float]) -> Figure:
    """Return a hypergradient of two components from no response to K terms of the Neumann series.

    Columns: `share` (the step size times the largest curvature; one axes each), `K` and the components `names`. The
    cross is `truth`; dashed circles have once and twice the distance of no response from it.
    """
    across, up = names
    rows = require(frame, ["share", "K", across, up], "path of a hypergradient")
    shares = split(rows, "share")
    figure, grid = facets(shares, 2.5, max(2.9, 2.1 * len(shares)), across=len(shares))
    reach = float(np.hypot(*(rows.loc[rows["K"] == 0, [across, up]].to_numpy()[0] - truth)))
    for axes, (share, part) in zip(grid, shares.items(), strict=True):
        path = part.sort_values("K")
        for radius in (reach, 2 * reach):
            axes.add_patch(Circle(truth, radius, fill=False, ec=FAINT, ls=(0, (4, 2)), lw=0.8))
        axes.plot(path[across], path[up], "o-", color=COLOURS[0], markersize=3, linewidth=1, label="K = 2, 3, ...")
        for k, colour, marker, text in ((0, INK, "o", "K = 0, no response"), (1, COLOURS[1], "s", "K = 1, one step")):
            step = path[path["K"] == k]
            axes.plot(step[across], step[up], marker, color=colour, markersize=6, linestyle="", label=text)
        axes.plot(*truth, "x", color=INK, markersize=8, markeredgewidth=1.8, linestyle="", label="exact")
        axes.set_title(rf"$\xi = {share:g}\,/\,\kappa_{{max}}$")
        axes.set(xlim=(truth[0] - 2.1 * reach, truth[0] + 2.1 * reach))
        axes.set(ylim=(truth[1] - 2.1 * reach, truth[1] + 2.1 * reach))
        axes.set_aspect("equal")
    label_facets(figure, grid, across, up)
    return figure


@styled
def best_responses(frame: pd.DataFrame) -> Figure:
    """Return losses over alpha as in the thesis's figure 22: crosses retrained, lines generated, one axes per kind.

    Columns: `kind`, `mean`, `spread`, `alpha`, `inner`, `outer`. Shaded: mean +- 2 spread, the alphas seen.
    """
    rows = require(frame, ["kind", "mean", "spread", "alpha", "inner", "outer"], "best responses")
    truth = rows[rows["kind"] == "retrained"]
    kinds = split(rows.query("kind != 'retrained'"), "kind")
    figure, grid = facets(kinds, 2.3, across=len(kinds))
    highest = 1.6 * truth[["inner", "outer"]].max().max()
    for axes, kind in zip(grid, kinds.values(), strict=True):
        near = kind.loc[(kind["alpha"] - kind["mean"]).abs() <= 5 * kind["spread"]]  # farther off, local lines are wild
        for column, colour, line, cross in (("inner", COLOURS[0], (0, (5, 1.5)), "x"), ("outer", COLOURS[1], "-", "+")):
            axes.plot(truth["alpha"], truth[column], cross, color=colour, markersize=4, label=f"{column}, retrained")
            for curve in split(near, "mean").values():
                text = f"{column}, generated"
                axes.plot(curve["alpha"], curve[column], color=colour, linestyle=line, label=text)
        for mean, spread in near[["mean", "spread"]].drop_duplicates().to_numpy():
            ends = np.clip([mean - 2 * spread, mean + 2 * spread], truth["alpha"].min(), truth["alpha"].max())
            axes.axvspan(*ends, color="#eeeeee", label="alphas seen")
    grid[0].set_ylim(0, highest)
    label_facets(figure, grid, "alpha", "loss")
    return figure


@styled
def chords(frame: pd.DataFrame, at: float) -> Figure:
    """Return lines through a best response near alpha = `at`, one axes per `sigma`; shaded: `at` +- 2 sigma.

    Columns: `sigma`, `line`, `alpha`, `weight`. The first line is the best response itself.
    """
    rows = require(frame, ["sigma", "line", "alpha", "weight"], "lines through a best response")
    sigmas, styles = split(rows, "sigma"), line_styles(rows["line"])
    figure, grid = facets(sigmas, 2.5, max(3.2, 2.1 * len(sigmas)), across=len(sigmas))
    for axes, (sigma, part) in zip(grid, sigmas.items(), strict=True):
        axes.axvspan(at - 2 * sigma, at + 2 * sigma, color="#eeeeee", label="alphas seen")
        for name, line in split(part, "line").items():
            axes.plot(line["alpha"], line["weight"], label=str(name), **{**styles[name], "marker": ""})
        axes.set(title=f"sigma = {sigma:g}", xlim=(rows["alpha"].min(), rows["alpha"].max()))
    label_facets(figure, grid, "alpha", "weight")
    return figure


@styled
def matrices(named: Mapping[str, Any], columns: Sequence[str]) -> Figure:
    """Return matrices side by side on the colour scale of the first; `columns` names the first few columns."""
    titles = [title.replace(", ", ",\n").replace(" + ", "\n+ ") for title in named]
    figure, grid = facets(titles, 1.55, across=len(named), share="")
    limit = float(np.abs(np.asarray(next(iter(named.values())))).max())
    for axes, matrix in zip(grid, named.values(), strict=True):
        shown = axes.imshow(np.asarray(matrix), cmap="cividis", vmin=-limit, vmax=limit, aspect="auto")
        axes.set_title(axes.get_title(), fontsize=7.5)
        axes.set_xticks(range(len(columns)), columns)
        axes.set_yticks([])
        if columns:
            axes.axvline(len(columns) - 0.5, color=INK, linewidth=1)
        axes.grid(False)
    grid[0].set_ylabel("weight")
    figure.colorbar(shown, ax=grid, shrink=0.8)
    return figure


@styled
def grouped_strips(
    frame: pd.DataFrame, x: str, group: str, name: str, facet: str, level: Mapping[Any, float] | None = None
) -> Figure:
    """Return marks of column `x` in rows by `group`, styled by `name`, one axes per `facet`; a line at its `level`."""
    rows = require(frame, [x, group, name, facet], f"{label(x)} of runs")
    parts, styles = split(rows, facet), line_styles(rows[name])
    groups = list(dict.fromkeys(rows[group]))
    figure, grid = facets(parts, 0.8 + 0.24 * len(groups), across=len(parts), share="y")
    for axes, (title, part) in zip(grid, parts.items(), strict=True):
        strips(axes, part, x, group, groups, name, styles)
        if level and title in level:
            axes.axvline(level[title], color=FAINT, linestyle=(0, (4, 2)))
    label_facets(figure, grid, label(x), "")
    return figure
