"""A cell during its search: all operations on every edge, their weights, and those kept (thesis figure 19)."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from numpy.typing import ArrayLike

from hdarts.plots.axes import contrast, node_name
from hdarts.plots.cells import OPERATION_STYLES
from hdarts.plots.diagram import SIZE
from hdarts.plots.style import INK, new_figure, styled
from hdarts.space import Genotype, SearchSpace


@styled
def draw_cell_search(mixture_weights: ArrayLike, space: SearchSpace, genotype: Genotype) -> Figure:
    """Return the first kind of cell at the start, as searched, and discretised (thesis figure 19).

    Above: all operations on all edges, equally strong, as a search starts. Middle: `mixture_weights` of shape `(kinds,
    edges, operations)`; width and opacity of a line grow with its weight, from the smallest to the largest.
    Below: what `genotype` keeps.
    """
    weights = np.asarray(mixture_weights, dtype=float)[0]
    kept = np.zeros_like(weights)
    for (operation, source), node in zip(next(iter(genotype.cells.values())), space.targets, strict=True):
        kept[space.edges.index((source, node)), space.operations.index(operation)] = 1.0
    low, high = contrast(weights)
    panels = {
        "at the start: all operations equal": (np.full_like(weights, 1 / weights.shape[1]) - low) / (high - low),
        # the weakest is still visible
        "as searched: mixture weights": np.maximum(0.02, (weights - low) / (high - low)),
        "the discrete cell": kept,
    }
    figure = new_figure(1.75 * len(panels) + 0.4, layout="constrained")
    grid = figure.subplots(len(panels), 1)
    for axes, (title, strengths) in zip(grid, panels.items(), strict=True):
        _arcs(axes, space, strengths)
        axes.set_title(title, loc="left")
    styles = {name: OPERATION_STYLES[name] for name in space.operations}
    handles = [Line2D([], [], color=colour, linestyle=line, label=name) for name, (colour, line) in styles.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=4)
    return figure


def _arcs(axes: Axes, space: SearchSpace, strengths: np.ndarray) -> None:
    """Draw nodes in a row, each edge as a bundle of arcs, one per operation: even sources above, odd ones below."""
    codes = [int(Path.MOVETO)] + [int(Path.CURVE4)] * 3
    for (source, node), row in zip(space.edges, strengths, strict=True):
        for o in np.flatnonzero(row):
            colour, line = OPERATION_STYLES[space.operations[o]]
            height = (node - source + 0.8 * o / len(row)) * (-1 if source % 2 else 1)
            path = Path([(source, 0), (source, height), (node, height), (node, 0)], codes)
            axes.add_artist(
                PathPatch(
                    path, fill=False, ec=colour, ls=line, lw=0.4 + 0.9 * row[o], alpha=row[o], gid=space.operations[o]
                )
            )
    nodes = space.inputs + space.nodes
    output = nodes - 1 if space.outputs == 1 else None
    axes.plot(range(nodes), [0] * nodes, "o", ms=20, mfc="white", mec=INK, zorder=3)
    for node in range(nodes):
        axes.text(node, 0, node_name(node, space.inputs, output), ha="center", va="center", size=SIZE, zorder=4)
    axes.set_xlim(-0.4, nodes - 0.6)
    axes.set_ylim(-0.75 * (nodes - 1), 0.75 * nodes)  # a curve reaches 3/4 of the height of its inner points
    axes.set_axis_off()
