"""Figures of notebook 04: every method against the reference, edge by edge, and the thesis's figure 32."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from hdarts.plots.axes import edge_names, facets, integer_axis, legend_above, plain_log_ticks
from hdarts.plots.curves import PARTS
from hdarts.plots.statistical import Style, heat_map, strips
from hdarts.plots.style import FAINT, INK, line_styles, new_figure, styled
from hdarts.plots.tables import label, require, split
from hdarts.space import SearchSpace


@styled
def method_agreement(frame: pd.DataFrame, grey: Sequence[str] = ()) -> Figure:
    """Return cosine and relative error of every method to the reference, part by part, and its cost; one row per epoch.

    Columns: `epoch`, `method`, `part`, `cosine`, `relative_error`, `gradients`. The methods in `grey`, which show how
    uncertain the reference is, have a grey background. The zero vector has a relative error of 1.
    """
    needed = ["epoch", "method", "part", "relative_error", "gradients"]
    rows = require(frame, needed, "agreement of methods").query("relative_error > 0")
    panels = {f"epoch {epoch}": part for epoch, part in split(rows, "epoch").items()}
    return _agreement(panels, ["cosine", "relative_error", "gradients"], "part", line_styles(("total", *PARTS)), grey)


@styled
def agreement_by_arm(frame: pd.DataFrame, grey: Sequence[str] = ()) -> Figure:
    """Return cosine and relative error of every method to the reference over all snapshots of a study, marks by arm.

    Columns: `arm`, `method`, `part`, `cosine`, `relative_error`; total above, response below, one mark per snapshot.
    The `grey` methods are as in `method_agreement`.
    """
    rows = require(frame, ["arm", "method", "part", "relative_error"], "agreement by arm").query("relative_error > 0")
    panels = {part: rows.loc[rows["part"] == part] for part in ("total", "response")}
    return _agreement(panels, ["cosine", "relative_error"], "arm", line_styles(rows["arm"]), grey)


def _agreement(
    panels: Mapping[str, pd.DataFrame],
    columns: Sequence[str],
    name: str,
    styles: Mapping[str, Style],
    grey: Sequence[str],
) -> Figure:
    """Draw one row of axes per panel, one axes per column in `columns`; marks differ by the column `name`."""
    listed = dict.fromkeys(method for rows in panels.values() for method in rows["method"])
    methods = [*(method for method in listed if method not in grey), *grey]
    figure = new_figure(0.9 + (0.45 + 0.2 * len(methods)) * len(panels))
    ratios = [1.0 if column == "gradients" else 1.3 for column in columns]
    grid = figure.subplots(len(panels), len(columns), sharex="col", sharey=True, squeeze=False, width_ratios=ratios)
    for line, (title, rows) in zip(grid, panels.items(), strict=True):
        for axes, column in zip(line, columns, strict=True):
            if column == "gradients":  # the same for all parts
                strips(axes, rows, column, "method", methods, "part", {"total": {"color": INK, "marker": "|"}})
            else:
                strips(axes, rows, column, "method", methods, name, styles)
                axes.axvline(0 if column == "cosine" else 1, color=FAINT, linewidth=1.0, zorder=0.9)
            for place in map(methods.index, grey):
                axes.axhspan(place - 0.5, place + 0.5, color="#eeeeee", zorder=0)
            axes.set_xlabel("")
            if column != "cosine":
                axes.set_xscale("log")
                plain_log_ticks(axes.xaxis)
        line[0].set_title(title, loc="left")
    for axes, column in zip(grid[-1], columns, strict=True):
        axes.set_xlabel(label(column))
    grid[0, 0].set_xlim(min(-0.1, *(rows["cosine"].min() - 0.1 for rows in panels.values())), 1.05)
    legend_above(figure)
    return figure


@styled
def edge_agreement(frame: pd.DataFrame, space: SearchSpace) -> Figure:
    """Return the relative error of every method's hypergradient on each edge, as a heat map on a logarithmic scale.

    Columns: `method`, `kind`, `edge`, `relative_error`, of one epoch, the edges in the order of `space`.
    Brighter is worse; errors below 0.1 and above 3 have the colours of these ends.
    """
    rows = require(frame, ["method", "kind", "edge", "relative_error"], "agreement by edge")
    methods, kinds = list(dict.fromkeys(rows["method"])), split(rows, "kind")
    figure, grid = facets(kinds, 0.8 + 0.2 * len(methods))
    for axes, part in zip(grid, kinds.values(), strict=True):
        table = part.pivot(index="method", columns="edge", values="relative_error")
        table = table.loc[methods, list(dict.fromkeys(part["edge"]))].set_axis(edge_names(space), axis=1)
        mesh = heat_map(axes, table, norm=LogNorm(0.1, 3, clip=True))
        axes.set_xlabel("edge")
        axes.tick_params(axis="x", labelrotation=90)
        axes.tick_params(labelleft=axes is grid[0])
    bar = {"aspect": 25, "ticks": [0.1, 0.3, 1, 3], "format": "%g"}
    figure.colorbar(mesh, ax=grid, label=label("relative_error"), **bar)
    return figure


@styled
def batch_magnitudes(reported: pd.DataFrame, varied: pd.DataFrame) -> Figure:
    """Return the thesis's figure 32 on the left, and on the right the same with the model fixed.

    `reported`: `model`, `batch_size`, `step`, `edge`, `drawn`, one row per step; the drawn steps have marks.
    `varied`: `batch_size`, `edge`, `mean`, one row per batch. Dashed: proportional to 1/sqrt(batch size), as for
    independent images.
    """
    left = require(reported, ["model", "batch_size", "step", "edge", "drawn"], "figure 32")
    right = require(varied, ["batch_size", "edge", "mean"], "magnitude over batch size")
    figure = new_figure(2.9)
    first, second = figure.subplots(1, 2)
    models = split(left, "model")
    for (model, rows), style in zip(models.items(), line_styles(models).values(), strict=True):
        first.plot(rows["step"], rows["edge"], **{**style, "marker": ""}, linewidth=0.8, alpha=0.6)
        drawn, text = rows[rows["drawn"]], f"{model}, batch of {rows['batch_size'].iloc[0]}"
        first.plot(drawn["step"], drawn["edge"], **{**style, "linestyle": ""}, label=text)
    first.set_title("model and batch size change", loc="left")
    first.set_xlabel(label("step"))
    first.set_ylim(bottom=0)
    integer_axis(first)
    columns = {"edge": "one edge", "mean": "all edges"}
    for (column, text), style in zip(columns.items(), line_styles(columns).values(), strict=True):
        apart = right["batch_size"] * (0.97 if column == "edge" else 1.03)  # so that no mark hides another
        second.plot(apart, right[column], **{**style, "linestyle": ""}, alpha=0.7, label=text)
    sizes = np.unique(right["batch_size"].to_numpy(dtype=float))
    anchor = right.loc[right["batch_size"] == sizes[0], "mean"].mean()
    second.plot(sizes, anchor * np.sqrt(sizes[0] / sizes), color=FAINT, linestyle="--", label="1/√(batch size)")
    second.set_xscale("log", base=2)
    second.set_yscale("log")
    plain_log_ticks(second.yaxis)
    second.set_xticks(sizes, [f"{size:.0f}" for size in sizes])
    second.xaxis.set_minor_locator(NullLocator())
    second.set_title("batch size alone changes", loc="left")
    second.set_xlabel("batch size (images)")
    first.set_ylabel("mean magnitude (nats)")
    for axes in (first, second):
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.22), ncols=1, handlelength=1.5)
    return figure
