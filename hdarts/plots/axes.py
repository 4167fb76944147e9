"""Axes: facets on common scales, legends, ticks, and the names of nodes and edges."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, LogLocator, MaxNLocator, NullLocator

from hdarts.plots.style import WIDTH, new_figure
from hdarts.space import SearchSpace


def facets(
    titles: Iterable[Any], height: float, width: float = WIDTH, across: int = 3, share: str = "xy"
) -> tuple[Figure, list[Axes]]:
    """Return a figure with one axes per title, in rows of at most `across`, each `height` inches high, and its axes.

    Four axes are two by two. `share`: which of the scales, x and y, are common.
    """
    names = list(titles)
    across = 2 if len(names) == 4 and across == 3 else min(across, len(names))
    down = -(-len(names) // across)
    figure = new_figure(0.4 + height * down, width)
    grid = figure.subplots(down, across, sharex="x" in share, sharey="y" in share, squeeze=False)
    for axes, name in zip(grid.flat, names, strict=False):
        axes.set_title(str(name))
    for axes in grid.flat[len(names) :]:
        axes.set_axis_off()
    return figure, list(grid.flat[: len(names)])


def label_facets(figure: Figure, grid: Sequence[Axes], x: str, y: str) -> None:
    """Write `x` below the lowest axes of each column and `y` left of each row, and put a legend above all."""
    rows, across = figure.axes[0].get_subplotspec().get_gridspec().get_geometry()  # pyright: ignore
    for place, axes in enumerate(grid):
        lowest = place + across >= len(grid)
        axes.set_xlabel(x if lowest else "")
        axes.set_ylabel(y if place % across == 0 and rows == 1 else "")
        if lowest:
            axes.tick_params(labelbottom=True)
    if rows > 1:
        figure.supylabel(y, fontsize="medium")
    legend_above(figure)


def legend_above(figure: Figure) -> None:
    """Put a legend above the axes: each label once, in as few rows as the width allows."""
    named: dict[str, Any] = {}
    for axes in figure.axes:
        for handle, name in zip(*axes.get_legend_handles_labels(), strict=True):
            named.setdefault(name, handle)
    for rows in range(1, len(named) + 1):
        columns = math.ceil(len(named) / rows)
        place = {"loc": "outside upper center", "ncols": columns, "columnspacing": 1.2}
        legend = figure.legend(list(named.values()), list(named), **place)
        if columns == 1 or legend.get_window_extent().width <= figure.bbox.width:
            return
        legend.remove()


def true_accuracy_axis(axes: Axes) -> None:
    """Scale the vertical axis, a true accuracy in per cent, by the logarithm of the error.

    Good cells differ by a few points only, and a broken one at 10 % would compress them to a line.
    """
    low, high = axes.get_ylim()
    axes.set_yscale(
        "function", functions=(lambda y: -np.log(np.maximum(100.5 - y, 1e-3)), lambda z: 100.5 - np.exp(-z))
    )
    axes.set_ylim(max(0, low), min(high, 96))
    ticks = [tick for tick in (10, 50, 80, 90, 94) if axes.get_ylim()[0] <= tick]
    axes.set_yticks(ticks, [str(tick) for tick in ticks])


def integer_axis(axes: Axes) -> None:
    """Put ticks of the horizontal axis at whole numbers only."""
    low, high = axes.get_xlim()
    if high - low < 1:
        axes.set_xlim(low - 0.5, high + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10], integer=True, min_n_ticks=1))


def plain_log_ticks(axis: Axis) -> None:
    """Put ticks of a logarithmic axis at 1, 2 and 5 of each decade, written as plain numbers."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FormatStrFormatter("%g"))
    axis.set_minor_locator(NullLocator())


def node_name(node: int, inputs: int, output: int | None = None) -> str:
    """Return the name of a node of a cell in all figures, given the cell's number of inputs and its output node.

    DARTS: inputs c_{k-2} and c_{k-1}, intermediate nodes 0 to 3. NAS-Bench-201: the input c_{k-1} is node 0, the
    intermediate nodes are 1 and 2, and node 3 is c_k.
    """
    if node < inputs:
        return ("$c_{k-2}$", "$c_{k-1}$")[-inputs:][node]
    return "$c_{k}$" if node == output else str(node - (inputs if inputs == 2 else 0))


def edge_names(space: SearchSpace) -> list[str]:
    """Return the names of the edges of a space in all figures, in their order: source → node."""
    output = space.inputs + space.nodes - 1 if space.outputs == 1 else None
    return [" → ".join(node_name(node, space.inputs, output) for node in edge) for edge in space.edges]


def contrast(weights: np.ndarray) -> tuple[float, float]:
    """Return the ends of a scale on which softmax weights, operations last, are distinguishable: smallest and largest.

    At least 2 % to both sides of equal weights, so that the noise at the start of a search has the middle colour.
    """
    even = 1 / weights.shape[-1]
    return min(float(weights.min()), 0.98 * even), max(float(weights.max()), 1.02 * even)
