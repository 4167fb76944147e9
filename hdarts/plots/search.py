"""Figures of one run: learning curves, and the live panel of a search."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure, FigureBase
from numpy.typing import ArrayLike

from hdarts.plots.axes import contrast, edge_names, integer_axis
from hdarts.plots.statistical import heat_map
from hdarts.plots.style import COLOURS, FAINT, LINES, line_styles, new_figure, styled
from hdarts.plots.tables import label, require
from hdarts.space import SearchSpace

SPLITS = {"train": "training", "validation": "validation", "test": "test"}  # column prefix: word in the legend


@styled
def learning_curves(metrics: pd.DataFrame) -> Figure:
    """Return loss (cross-entropy, nats) and accuracy (%) over the epochs, of every split that `metrics` has.

    Columns: `epoch` and, for `train`, `validation` or `test`, `<split>_loss` and `<split>_accuracy`.
    """
    figure = new_figure(2.4)
    _learning_curves(figure, metrics)
    return figure


@styled
def search_panel(
    metrics: pd.DataFrame, hypergradients: pd.DataFrame, mixture_weights: ArrayLike, space: SearchSpace
) -> Figure:
    """Return loss, accuracy, mixture weights and hypergradient norms of a search in one picture.

    Meant to be redrawn while it runs. `metrics` as for `learning_curves`; `mixture_weights` `(kinds, edges,
    operations)`; `hypergradients` has `step` and, for each kind of cell, `direct_<kind>` and `response_<kind>`, the
    Euclidean norms of both parts, or is empty: random cells have none.
    """
    figure = new_figure(5.6)
    above, below = figure.subfigures(2, 1, squeeze=False, height_ratios=(1, 1.45))[:, 0]
    left, right = below.subfigures(1, 2, squeeze=False, width_ratios=(1.25, 1))[0]
    _learning_curves(above, metrics)
    _weight_heat_maps(left, mixture_weights, space)
    if hypergradients.empty:
        right.text(0.5, 0.5, "no hypergradients logged", ha="center", va="center", color=FAINT)
    else:
        _hypergradient_norms(right, hypergradients)
    return figure


def _learning_curves(figure: FigureBase, metrics: pd.DataFrame) -> None:
    parts = [part for part in SPLITS if f"{part}_loss" in metrics]
    require(metrics, ["epoch", *(f"{part}_loss" for part in parts or ["train"])], "learning curves")
    styles = line_styles(SPLITS)
    for axes, (quantity, unit) in zip(figure.subplots(1, 2), {"loss": "nats", "accuracy": "%"}.items(), strict=True):
        for part in parts:
            _line(axes, metrics["epoch"], metrics[f"{part}_{quantity}"], **styles[part], label=SPLITS[part])
        axes.set_xlabel(label("epoch"))
        axes.set_ylabel(f"{quantity} ({unit})")
        integer_axis(axes)
        axes.legend()


def _line(axes: Axes, x: Any, y: Any, marker: str, **style: Any) -> None:
    # few points get marks, so that the first epoch of a live figure is seen; many would hide the line
    axes.plot(x, y, marker=marker, markevery=max(1, len(x) // 10), **style)


def _weight_heat_maps(figure: FigureBase, mixture_weights: ArrayLike, space: SearchSpace) -> None:
    """Draw the mixture weights as one heat map per kind of cell, edges as rows, operations as columns.

    A dot marks the strongest operation of an edge, `none` left out where discretisation leaves it out. Colours reach
    from the smallest to the largest weight, and a little to both sides of equal weights: the noise that a search starts
    with stays grey.
    """
    stacked = np.asarray(mixture_weights, dtype=float)
    if stacked.shape != space.alpha_shape:
        raise ValueError(f"mixture weights of shape {stacked.shape} are not of space {space.name}: {space.alpha_shape}")
    row = figure.subplots(1, len(space.kinds), squeeze=False)[0]
    low, high = contrast(stacked)
    for axes, kind, weights in zip(row, space.kinds, stacked, strict=True):
        table = pd.DataFrame(weights, edge_names(space), space.operations)
        mesh = heat_map(axes, table, vmin=low, vmax=high, linewidth=0.3)
        strongest = space.best_operations(weights)
        dots: dict[str, Any] = {"marker": "o", "ms": 3.5, "mfc": "white", "mec": "black", "mew": 0.8}
        axes.plot(strongest + 0.5, np.arange(len(weights)) + 0.5, linestyle="", **dots)
        axes.set_title(kind)
        axes.tick_params(axis="x", labelrotation=90)
        axes.tick_params(labelleft=axes is row[0])
        for edge in range(1, len(space.edges)):
            if space.edges[edge][1] != space.edges[edge - 1][1]:
                axes.axhline(edge, color="white", linewidth=2)  # separates the edges of one node from the next
    figure.colorbar(mesh, ax=list(row), label=f"mixture weight; equal: {1 / stacked.shape[-1]:.4g}", aspect=30)


def _hypergradient_norms(figure: FigureBase, hypergradients: pd.DataFrame) -> None:
    """Draw the norm of both parts over the steps, by kind of cell; for long tables also the running geometric mean.

    A part that is always 0 is not drawn on the logarithmic axis and has "(0)" in the legend.
    """
    kinds = [str(column).removeprefix("direct_") for column in hypergradients if str(column).startswith("direct_")]
    columns = [f"{part}_{kind}" for part in ("direct", "response") for kind in kinds or ["normal"]]
    rows = require(hypergradients, ["step", *columns], "hypergradient norms")
    axes = figure.subplots()
    axes.set_yscale("log")
    steps = np.asarray(rows["step"])
    for column in columns:
        part, kind = column.split("_", 1)
        norms = pd.Series(np.asarray(rows[column], dtype=float))
        seen = norms.where(norms > 0)
        colour, line = COLOURS[part == "response"], LINES[2 * kinds.index(kind) + (part == "response")]
        window = 1 + len(rows) // 40
        if window > 1:
            axes.plot(steps, seen, color=colour, linewidth=0.5, alpha=0.35)
        logarithm = pd.Series(np.log(seen)).rolling(window, center=True, min_periods=1).mean()
        text = f"{part}, {kind}" if (norms > 0).any() else f"{part}, {kind} (0)"
        axes.plot(steps, np.exp(logarithm), color=colour, linestyle=line, label=text)
    axes.set_xlabel(label("step"))
    axes.set_ylabel("hypergradient norm (nats)")
    integer_axis(axes)
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, columnspacing=1.0)
