"""Pictures of cells as in the figures 25 to 34 of the thesis and in the paper of DARTS, without Graphviz."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, PathPatch, Polygon
from matplotlib.path import Path
from matplotlib.textpath import TextPath

from hdarts.plots.axes import node_name
from hdarts.plots.graph_layout import HEIGHTS, Edge, Layout, lay_out
from hdarts.plots.style import FAINT, INK, WIDTH, new_figure, styled
from hdarts.space import Genotype, SearchSpace

# operation: (colour, line style); families differ in hue, kernel sizes in lightness, and all in their dashes
OPERATION_STYLES = {
    "none": (FAINT, (0, (1, 4))),
    "noise": (FAINT, (0, (1, 1))),
    "max_pool_3x3": ("#B5460F", (0, (1, 1))),
    "avg_pool_3x3": ("#E69F00", (0, (1, 2.2))),
    "skip_connect": ("#009E73", (0, (5, 2))),
    "sep_conv_3x3": ("#0072B2", "-"),
    "sep_conv_5x5": ("#4FA3D9", (0, (8, 3))),
    "dil_conv_3x3": ("#7A3E9D", (0, (6, 1.5, 1, 1.5))),
    "dil_conv_5x5": ("#CC79A7", (0, (4, 1.2, 1, 1.2, 1, 1.2))),
    "nor_conv_1x1": ("#4FA3D9", (0, (8, 3))),
    "nor_conv_3x3": ("#0072B2", "-"),
}
BOX_COLOURS = {"input": "#dcebd3", "inner": "#dbe8f4", "output": "#f6ecc6"}

LABEL_SIZE, NODE_SIZE = 7.0, 8.5  # points
INPUT_WIDTH = 0.4  # of the boxes c_{k-2} and c_{k-1}, inches; the others are square
MARGIN = 0.06  # inches
TITLE = 0.24  # inches that a title takes
HEAD = 0.08  # length of an arrow head, inches
GAPS = (0.14, 0.8)  # least and largest width between two columns, inches
PORTS = 0.6  # share of a box's height over which its lines are spread

Cell = Sequence[tuple[str, int]]
TITLES = {"normal": "normal cell", "reduce": "reduction cell", "cell": "cell"}


@dataclass(frozen=True)
class _Graph:
    """One cell: its first `inputs` nodes are its inputs, its last node is its output."""

    title: str
    edges: list[Edge]
    inputs: int

    @property
    def output(self) -> int:
        return self.edges[-1].target


@styled
def draw_genotype(genotype: Genotype | str) -> Figure:
    """Return the picture of a genotype: normal and reduction cell, one above the other, or NAS-Bench-201's one cell.

    It may be given as a text (`Genotype.from_text`).

    Nodes are boxes from left to right: the outputs c_{k-2}, c_{k-1} of the two cells before, the intermediate
    nodes 0 to 3, and the cell's output c_k, their concatenation. An operation has its name, colour and line style. Of
    NAS-Bench-201 all six edges are drawn, those with the operation `none` too; its inner nodes are 1 and 2.
    """
    genotype = genotype if isinstance(genotype, Genotype) else Genotype.from_text(genotype)
    return _draw([_graph(TITLES[kind], cell, genotype.space) for kind, cell in genotype.cells.items()])


def _graph(title: str, cell: Cell, space: SearchSpace) -> _Graph:
    edges = [Edge(source, node, name) for (name, source), node in zip(cell, space.targets, strict=True)]
    output = space.inputs + space.nodes
    if space.outputs > 1:  # otherwise the last node is the output
        edges += [Edge(node, output, None) for node in range(output - space.outputs, output)]
    return _Graph(title, edges, space.inputs)


def _draw(cells: list[_Graph]) -> Figure:
    layouts = [
        lay_out(range(cell.output + 1), cell.edges, upright=(0, 1) if cell.inputs == 2 else None) for cell in cells
    ]
    extents = [_extent(layout) for layout in layouts]
    total = sum(top - foot for foot, top in extents)
    figure = new_figure(total, layout="none")
    above = total
    for cell, layout, (foot, top) in zip(cells, layouts, extents, strict=True):
        above -= top - foot
        axes = figure.add_axes((0, above / total, 1, (top - foot) / total), xlim=(0, WIDTH), ylim=(foot, top))
        axes.set_axis_off()
        axes.text(MARGIN, top - MARGIN, cell.title, size=9, weight="bold", va="top")
        _draw_layout(axes, cell, layout)
    return figure


def _extent(layout: Layout) -> tuple[float, float]:
    """Lowest and highest point of a cell's picture with its title, in inches of the layout."""
    reach = [HEIGHTS[place.kind] / 2 + MARGIN for place in layout.places]
    foot = min(height - half for height, half in zip(layout.heights, reach, strict=True))
    top = max(height + half for height, half in zip(layout.heights, reach, strict=True))
    return foot, top + TITLE


def _draw_layout(axes: Axes, cell: _Graph, layout: Layout) -> None:
    columns = _columns(cell, layout)
    for edge, path in zip(cell.edges, _paths(layout, columns), strict=True):
        colour, line = OPERATION_STYLES.get(edge.operation or "", (INK if edge.operation else FAINT, "-"))
        width = 1.5 if edge.operation else 0.9
        axes.add_artist(PathPatch(path, fill=False, edgecolor=colour, linestyle=line, linewidth=width, zorder=1))
        x, y = np.asarray(path.vertices)[-1]
        head = [(x + HEAD, y), (x, y + HEAD / 2.5), (x, y - HEAD / 2.5)]
        axes.add_artist(Polygon(head, color=colour, linewidth=0, zorder=2))
    for place, height in zip(layout.places, layout.heights, strict=True):
        left, right = columns[place.column]
        if place.kind == "node":
            _box(axes, left, height, right - left, cell, place.owner)
        elif place.kind == "label":
            _label(axes, (left + right) / 2, height, str(cell.edges[place.owner].operation))


def _box(axes: Axes, left: float, height: float, width: float, cell: _Graph, node: int) -> None:
    kind = "input" if node < cell.inputs else "output" if node == cell.output else "inner"
    corner = (left, height - HEIGHTS["node"] / 2)
    shape = "round,pad=0,rounding_size=0.06"
    axes.add_artist(
        FancyBboxPatch(corner, width, HEIGHTS["node"], shape, fc=BOX_COLOURS[kind], ec=INK, lw=0.8, zorder=3)
    )
    axes.text(
        left + width / 2,
        height,
        node_name(node, cell.inputs, cell.output),
        size=NODE_SIZE,
        ha="center",
        va="center",
        zorder=4,
    )


def _label(axes: Axes, x: float, y: float, operation: str) -> None:
    colour = OPERATION_STYLES.get(operation, (INK, "-"))[0]
    width = _label_width(operation)
    corner, shape = (x - width / 2, y - HEIGHTS["label"] / 2), "round,pad=0,rounding_size=0.04"
    axes.add_artist(FancyBboxPatch(corner, width, HEIGHTS["label"], shape, fc="white", ec=colour, lw=0.6, zorder=3))
    axes.text(x, y, operation, size=LABEL_SIZE, ha="center", va="center_baseline", zorder=4)


def _label_width(operation: str | None) -> float:
    return 0.06 + float(np.asarray(TextPath((0, 0), operation or "", size=LABEL_SIZE).vertices)[:, 0].max()) / 72


def _columns(cell: _Graph, layout: Layout) -> list[tuple[float, float]]:
    """Left and right end of each column: as wide as its widest content, equal gaps, the whole centred on the page."""
    widths = [0.0] * layout.columns
    for place in layout.places:
        if place.kind == "node":
            width = INPUT_WIDTH if place.owner < cell.inputs else HEIGHTS["node"]
        else:
            width = _label_width(cell.edges[place.owner].operation) if place.kind == "label" else 0.0
        widths[place.column] = max(widths[place.column], width)
    least, most = GAPS
    gap = min(most, max(least, (WIDTH - 2 * MARGIN - sum(widths)) / (layout.columns - 1)))
    left = (WIDTH - sum(widths) - gap * (layout.columns - 1)) / 2
    ends = []
    for width in widths:
        ends.append((left, left + width))
        left += width + gap
    return ends


def _paths(layout: Layout, columns: list[tuple[float, float]]) -> list[Path]:
    """The line of each edge: level through the columns, S-shaped between them, ending where its arrow head begins."""
    start, end = _ports(layout, leaving=True), _ports(layout, leaving=False)
    paths = []
    for number, route in enumerate(layout.routes):
        heights = [start[number], *(layout.heights[item] for item in route[1:-1]), end[number]]
        spans = [columns[layout.places[item].column] for item in route]
        x, y = spans[0][1], heights[0]
        vertices, codes = [(x, y)], [int(Path.MOVETO)]
        for index in range(1, len(route)):
            last = index == len(route) - 1
            left, y_next = spans[index][0] - (HEAD if last else 0), heights[index]
            middle = (x + left) / 2
            vertices += [(middle, y), (middle, y_next), (left, y_next)]
            codes += [int(Path.CURVE4)] * 3
            x, y = left, y_next
            if not last:
                x = spans[index][1]
                vertices.append((x, y))
                codes.append(int(Path.LINETO))
        paths.append(Path(vertices, codes))
    return paths


def _ports(layout: Layout, leaving: bool) -> dict[int, float]:
    """Height at which each edge leaves its source (or reaches its target), ordered as the lines' next points."""
    box, neighbour = (0, 1) if leaving else (-1, -2)
    at: dict[int, list[int]] = {}
    for number, route in enumerate(layout.routes):
        at.setdefault(route[box], []).append(number)
    ports = {}
    for item, numbers in at.items():
        numbers.sort(key=lambda number: layout.heights[layout.routes[number][neighbour]])
        step = HEIGHTS["node"] * PORTS / max(len(numbers) - 1, 1)
        for position, number in enumerate(numbers):
            ports[number] = layout.heights[item] + step * (position - (len(numbers) - 1) / 2)
    return ports
