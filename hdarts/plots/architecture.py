"""Networks and their cells with the real channels and map sizes: figures 20 and 23 of the thesis."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

from matplotlib.figure import Figure

from hdarts.plots.axes import node_name
from hdarts.plots.diagram import Diagram
from hdarts.plots.style import WIDTH, styled
from hdarts.space import RESIDUAL, CellPlan, SearchSpace
from hdarts.space.layers import sizes_after_stem

MapShape = tuple[int, int, int]  # C, H, W
NAMES = {"normal": "normal", "reduce": "reduction", "cell": "cell", RESIDUAL: "residual"}


@dataclass(frozen=True)
class CellGroup:
    """Consecutive cells of one kind, by index in the network, and the shape of the maps that each outputs."""

    kind: str
    cells: tuple[int, ...]
    maps: MapShape


def cell_groups(cells: Sequence[CellPlan], space: SearchSpace, image: MapShape) -> list[CellGroup]:
    """Return the groups of consecutive cells of one kind, with the shape (C, H, W) that each cell outputs."""
    _, (height, width) = sizes_after_stem(cells, image[1:])
    groups = []
    for kind, group in groupby(enumerate(cells), key=lambda numbered: numbered[1].kind):
        numbers, plans = zip(*group, strict=True)
        outputs = 1 if kind == RESIDUAL else space.outputs
        rows: list[MapShape] = []
        for plan in plans:
            if plan.reduces:
                height, width = (height + 1) // 2, (width + 1) // 2
            rows.append((outputs * plan.channels, height, width))
        if len(set(rows)) == 1:
            groups.append(CellGroup(kind, numbers, rows[0]))
        else:  # consecutive reduction cells in a network of few cells
            groups += [CellGroup(kind, (number,), maps) for number, maps in zip(numbers, rows, strict=True)]
    return groups


@styled
def draw_network(cells: Sequence[CellPlan], space: SearchSpace, image: MapShape, classes: int) -> Figure:
    """Return the macro-architecture: stem, cells, classifier, and the C × H × W after each (thesis figure 23).

    `cells` is `hdarts.space.plan` of the network, `image` the shape of its images.
    """
    rows = cell_groups(cells, space, image)
    stem = (cells[0].previous, *sizes_after_stem(cells, image[1:])[-1])
    named = [("images", "data", image), ("stem", "made", stem)]
    named += [
        (f"{len(row.cells)} ×\n{NAMES[row.kind]}", "net" if row.kind in ("normal", "cell") else "alpha", row.maps)
        for row in rows
    ]
    named += [("pooling,\nclassifier", "made", None)]
    d = Diagram(0.85)
    step = WIDTH / (len(named) + 1)
    boxes = []
    for place, (name, kind, maps) in enumerate(named):
        x = step * (place + 0.5)
        boxes.append(d.box(x, 0.55, name, kind))
        if maps:
            d.text(x, 0.18, _words(maps), size=6)
    boxes.append(d.box(step * (len(named) + 0.5), 0.55, f"{classes}\nclasses"))
    for start, end in pairwise(boxes):
        d.arrow(start, end)
    return d.figure


def _words(maps: MapShape) -> str:
    return "×".join(map(str, maps))


@styled
def draw_cell_shapes(cells: Sequence[CellPlan], space: SearchSpace, image: MapShape) -> Figure:
    """Return the shapes C × H × W inside the first cell of each kind of a supernet (thesis 4.5, figures 20 and 23)."""
    each = [(number, row.maps) for row in cell_groups(cells, space, image) for number in row.cells]
    stem = [(cells[0].previous, *size) for size in sizes_after_stem(cells, image[1:])][-space.inputs :]
    outputs = [*stem, *(maps for _, maps in each)]
    shown = [next(number for number, cell in enumerate(cells) if cell.kind == kind) for kind in space.kinds]
    height = 0.95 if space.inputs > 1 else 0.6
    d = Diagram(height * len(shown))
    for row, number in enumerate(shown):
        inputs = outputs[number : number + space.inputs]
        _cell_row(d, height * (len(shown) - row - 0.5), space, cells[number], inputs, each[number][1])
    return d.figure


def _cell_row(d: Diagram, y: float, space: SearchSpace, cell: CellPlan, inputs: list[MapShape], out: MapShape) -> None:
    inside = (cell.channels, *out[1:])
    edges = [
        sum(node == target for _, target in space.edges) for node in range(space.inputs, space.inputs + space.nodes)
    ]
    words = f"{NAMES[cell.kind]}: {space.nodes} nodes of {_words(inside)}\nsums of {', '.join(map(str, edges))} edges"
    nodes = d.box(3.95, y, f"{words}\nwith {len(space.operations)} operations each", "net", 1.9)
    for place, maps in enumerate(inputs):
        level = y + 0.44 * (0.5 * (len(inputs) - 1) - place)
        before = d.box(0.55, level, f"{node_name(place, space.inputs)}: {_words(maps)}", "data", 0.95)
        if space.inputs > 1:
            halves = place == 0 and cell.after_reduction
            words = "factorised reduction" if halves else "1×1 convolution"
            ready = d.box(2.0, level, f"{words}: {_words((cell.channels, *inputs[-1][1:]))}", "made", 1.5)
            d.arrow(before, ready)
            before = ready
        d.arrow(before, nodes)
    last = "concatenation" if space.outputs > 1 else "last node"
    d.arrow(nodes, d.box(5.65, y, f"$c_k$, {last}\n{_words(out)}", "data", 1.0))
