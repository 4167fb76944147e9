"""What notebook 04 shows: every method against the reference, edge by edge, and the thesis's figure 32."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, LogLocator, NullLocator

from hdarts.plots.curves import PARTS
from hdarts.plots.style import (
    FAINT,
    INK,
    edge_names,
    integer_axis,
    label,
    legend_above,
    line_styles,
    new_figure,
    require,
    split,
    styled,
)
from hdarts.space import SearchSpace

PAID = {"color": INK, "marker": "|", "markersize": 8}

Style = dict[str, Any]  # colour, marker and so on


@styled
def method_agreement(frame: pd.DataFrame, grey: Sequence[str] = ()) -> Figure:
    """Return cosine and relative error of every method to the reference, part by part, and its cost; a row an epoch.

    Columns: `epoch`, `method`, `part`, `cosine`, `relative_error`, `gradients`. The methods in `grey`, which tell how
    uncertain the reference is, stand on grey. A relative error of 1 is that of the zero vector.
    """
    needed = ["epoch", "method", "part", "relative_error", "gradients"]
    rows = require(frame, needed, "agreement of methods").query("relative_error > 0")
    panels = {f"epoch {epoch}": own for epoch, own in split(rows, "epoch").items()}
    return _agreement(panels, ["cosine", "relative_error", "gradients"], "part", line_styles(("total", *PARTS)), grey)


@styled
def agreement_by_arm(frame: pd.DataFrame, grey: Sequence[str] = ()) -> Figure:
    """Return cosine and relative error of every method to the reference over all snapshots of a study, marks by arm.

    Columns: `arm`, `method`, `part`, `cosine`, `relative_error`; total above, response below, a mark a snapshot. The
    methods in `grey`, which tell how uncertain the reference is, stand on grey.
    """
    rows = require(frame, ["arm", "method", "part", "relative_error"], "agreement by arm").query("relative_error > 0")
    panels = {part: rows.loc[rows["part"] == part] for part in ("total", "response")}
    return _agreement(panels, ["cosine", "relative_error"], "arm", line_styles(rows["arm"]), grey)


def _agreement(
    panels: Mapping[str, pd.DataFrame],
    columns: Sequence[str],
    name: str,
    look: Mapping[Any, Style],
    grey: Sequence[str],
) -> Figure:
    """Draw a line of axes for each panel, an axes for each of `columns`; marks are told apart by the column `name`."""
    listed = dict.fromkeys(method for rows in panels.values() for method in rows["method"])
    methods = [*(method for method in listed if method not in grey), *grey]
    figure = new_figure(0.9 + (0.45 + 0.2 * len(methods)) * len(panels))
    ratios = [1.0 if column == "gradients" else 1.3 for column in columns]
    shape = len(panels), len(columns)
    grid = figure.subplots(*shape, sharex="col", sharey=True, squeeze=False, width_ratios=ratios)
    for line, (title, rows) in zip(grid, panels.items(), strict=True):
        for axes, column in zip(line, columns, strict=True):
            paid = column == "gradients"  # the same for all parts
            _marks(axes, rows, methods, column, "part" if paid else name, {"total": PAID} if paid else look)
            for place in map(methods.index, grey):
                axes.axhspan(place - 0.5, place + 0.5, color="#eeeeee", zorder=0)
        line[0].set_title(title, loc="left")
    for axes, column in zip(grid[-1], columns, strict=True):
        axes.set_xlabel(label(column))
    grid[0, 0].set_yticks(range(len(methods)), methods)
    grid[0, 0].set_ylim(len(methods) - 0.5, -0.5)
    grid[0, 0].set_xlim(min(-0.1, *(float(np.nanmin(rows["cosine"])) - 0.1 for rows in panels.values())), 1.05)
    legend_above(figure)
    return figure


def _marks(
    axes: Axes, rows: pd.DataFrame, methods: list[str], column: str, name: str, look: Mapping[Any, Style]
) -> None:
    """Draw `column`, a row a method, a mark a line of the table, those of each value of `name` side by side."""
    if column != "cosine":
        axes.set_xscale("log")
        _plain_ticks(axes.xaxis)
    for index, (value, own) in enumerate(look.items()):
        drawn = rows.loc[rows[name] == value]
        heights = [methods.index(method) + 0.6 * ((index + 0.5) / len(look) - 0.5) for method in drawn["method"]]
        apart = {"markersize": 4.5, **own, "linestyle": "", "markeredgecolor": "white", "markeredgewidth": 0.5}
        axes.plot(np.asarray(drawn[column]), heights, **apart, label=str(value))
    if column != "gradients":
        axes.axvline({"cosine": 0, "relative_error": 1}[column], color=FAINT, linewidth=1.0, zorder=1)


def _plain_ticks(axis: Axis) -> None:
    """Ticks of a logarithmic axis at 1, 2 and 5, written as plain numbers."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FormatStrFormatter("%g"))
    axis.set_minor_locator(NullLocator())


@styled
def edge_agreement(frame: pd.DataFrame, space: SearchSpace) -> Figure:
    """Return the relative error of every method's hypergradient on each edge, as a heat map on a logarithmic scale.

    Columns: `method`, `kind`, `edge`, `relative_error`, of one epoch, the edges in the order of `space`.
    Brighter is worse; errors below 0.1 and above 3 look as those.
    """
    rows = require(frame, ["method", "kind", "edge", "relative_error"], "agreement by edge")
    methods, kinds = list(dict.fromkeys(rows["method"])), split(rows, "kind")
    figure = new_figure(1.2 + 0.2 * len(methods))
    row = figure.subplots(1, len(kinds), sharey=True, squeeze=False)[0]
    mesh = None
    for axes, (kind, own) in zip(row, kinds.items(), strict=True):
        edges = list(dict.fromkeys(own["edge"]))
        table = own.pivot(index="method", columns="edge", values="relative_error").loc[methods, edges]
        centres = range(len(edges)), range(len(methods))
        mesh = axes.pcolormesh(*centres, table.to_numpy(), cmap="cividis", norm=LogNorm(0.1, 3, clip=True))
        axes.set_xticks(range(len(edges)), edge_names(space), rotation=90)
        axes.set_xlabel("edge")
        axes.set_title(str(kind))
        axes.grid(False)
        axes.tick_params(length=0)
    row[0].set_yticks(range(len(methods)), methods)
    row[0].invert_yaxis()
    if mesh is not None:
        figure.colorbar(
            mesh, ax=list(row), label=label("relative_error"), aspect=25, ticks=[0.1, 0.3, 1, 3], format="%g"
        )
    return figure


@styled
def batch_magnitudes(reported: pd.DataFrame, varied: pd.DataFrame) -> Figure:
    """Return the thesis's figure 32 on the left, and on the right the same with the model fixed.

    `reported`: `model`, `batch_size`, `step`, `edge`, `drawn`, a row for each step; the drawn steps have marks.
    `varied`: `batch_size`, `edge`, `mean`, a row for each batch; dashed: what independent images would give,
    proportional to 1/sqrt(batch size).
    """
    left = require(reported, ["model", "batch_size", "step", "edge", "drawn"], "figure 32")
    right = require(varied, ["batch_size", "edge", "mean"], "magnitude over batch size")
    figure = new_figure(2.9)
    first, second = figure.subplots(1, 2)
    models = split(left, "model")
    for (model, own), look in zip(models.items(), line_styles(models).values(), strict=True):
        drawn, colour = own[own["drawn"]], {"color": look["color"], "linestyle": look["linestyle"]}
        first.plot(own["step"], own["edge"], **colour, linewidth=0.8, alpha=0.6)
        text = f"{model}, batch of {own['batch_size'].iloc[0]}"
        first.plot(drawn["step"], drawn["edge"], color=look["color"], marker=look["marker"], linestyle="", label=text)
    first.set_title("model and batch size change", loc="left")
    first.set_xlabel(label("step"))
    first.set_ylim(bottom=0)
    integer_axis(first)
    columns = {"edge": "one edge", "mean": "all edges"}
    for (column, text), look in zip(columns.items(), line_styles(columns).values(), strict=True):
        beside = right["batch_size"] * (0.97 if column == "edge" else 1.03)
        second.plot(beside, right[column], **{**look, "linestyle": ""}, alpha=0.7, label=text)
    sizes = np.unique(np.asarray(right["batch_size"], dtype=float))
    anchor = float(np.asarray(right[right["batch_size"] == sizes[0]]["mean"]).mean())
    second.plot(sizes, anchor * np.sqrt(sizes[0] / sizes), color=FAINT, linestyle="--", label="1/√(batch size)")
    second.set_xscale("log", base=2)
    second.set_yscale("log")
    _plain_ticks(second.yaxis)
    second.set_xticks(sizes, [f"{size:.0f}" for size in sizes])
    second.xaxis.set_minor_locator(NullLocator())
    second.set_title("batch size alone changes", loc="left")
    second.set_xlabel("batch size (images)")
    first.set_ylabel("mean magnitude (nats)")
    for axes in (first, second):
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.22), ncols=1, handlelength=1.5)
    return figure
