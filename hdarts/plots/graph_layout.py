"""Where the boxes, labels and lines of a cell's picture go: a layered drawing in three steps (Sugiyama et al., 1981).

1. Columns: a node is right of all its sources. Between two columns of nodes lies a column of operation labels, and
   a line that passes a column takes a place in it, so it cannot meet a box or a label there.
2. Order within the columns: as few crossings of lines as barycentre sweeps and swaps of neighbours find.
3. Heights: lines as straight as the least distances allow, a bounded linear least-squares problem.

Lengths are inches. Everything is deterministic and independent of matplotlib.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import scipy  # loads its submodules on first use: each takes a while

HEIGHTS = {"node": 0.27, "label": 0.17, "pass": 0.06}  # of the places in a column
CLEARANCE = 0.07  # between two places of a column
REWEIGHTS = 4  # of the least squares that straighten the lines
STARTS = 8  # orders from which the search for few crossings starts
STRAIGHTNESS = {"node": 1.0, "label": 2.0, "pass": 4.0}  # bends of a passing line are the ugliest


@dataclass(frozen=True)
class Edge:
    """A line from one node to another; `operation` is None where the outputs of nodes are concatenated."""

    source: int
    target: int
    operation: str | None


@dataclass(frozen=True)
class Place:
    """An item of a column: the box of a node, the label of an edge, or an edge that passes."""

    column: int
    kind: str  # node | label | pass
    owner: int  # number of the node, or index of the edge


@dataclass(frozen=True)
class Layout:
    """Places with their heights (up is positive), and for each edge the places it visits, source and target too."""

    places: tuple[Place, ...]
    heights: tuple[float, ...]
    routes: tuple[tuple[int, ...], ...]
    columns: int


def lay_out(nodes: Sequence[int], edges: Sequence[Edge], upright: tuple[int, int] | None = None) -> Layout:
    """Return the layout of a directed graph without cycles, whose `edges` lead from lower to higher node numbers.

    Of a picture and its mirror image, which are equally good, return the one with node `upright[0]` above `upright[1]`.
    """
    places, routes, columns = _columns(nodes, edges)
    links = sorted({pair for route in routes for pair in pairwise(route)})
    order = _fewest_crossings(places, links, columns)
    heights = _heights(places, links, order)
    if upright and heights[upright[0]] < heights[upright[1]]:
        heights = -heights
    return Layout(tuple(places), tuple(float(height) for height in heights), tuple(routes), columns)


def _columns(nodes: Sequence[int], edges: Sequence[Edge]) -> tuple[list[Place], list[tuple[int, ...]], int]:
    depth = dict.fromkeys(nodes, 0)
    for edge in sorted(edges, key=lambda edge: edge.target):
        # a label needs a separate column between the two nodes, a concatenation does not
        depth[edge.target] = max(depth[edge.target], depth[edge.source] + (2 if edge.operation else 1))
    places = [Place(depth[node], "node", node) for node in nodes]
    box = {node: index for index, node in enumerate(nodes)}
    routes = []
    for number, edge in enumerate(edges):
        route = [box[edge.source]]
        for column in range(depth[edge.source] + 1, depth[edge.target]):
            last = column == depth[edge.target] - 1
            places.append(Place(column, "label" if last and edge.operation else "pass", number))
            route.append(len(places) - 1)
        routes.append((*route, box[edge.target]))
    return places, routes, max(depth.values()) + 1


Order = list[list[int]]


def _fewest_crossings(places: list[Place], links: list[tuple[int, int]], columns: int) -> Order:
    natural = [[i for i, place in enumerate(places) if place.column == column] for column in range(columns)]
    between = [[link for link in links if places[link[0]].column == column] for column in range(columns - 1)]
    shuffle = random.Random(0)  # fixed: the same cell always gets the same picture
    best, least = natural, _crossings(natural, between)
    for start in range(STARTS):
        order = [list(column) if start == 0 else shuffle.sample(column, len(column)) for column in natural]
        order = _swap_neighbours(_sweep(order, between), between)
        if (crossings := _crossings(order, between)) < least:
            best, least = order, crossings
    return best


def _sweep(order: Order, between: list[list[tuple[int, int]]], sweeps: int = 4) -> Order:
    """Sort each column by the mean position of its neighbours, left to right, then right to left, and so on."""
    for sweep in range(sweeps):
        forward = sweep % 2 == 0
        for gap in range(len(between)) if forward else reversed(range(len(between))):
            fixed, free = (gap, gap + 1) if forward else (gap + 1, gap)
            position = {item: index for index, item in enumerate(order[fixed])}
            near: dict[int, list[int]] = {item: [] for item in order[free]}
            for left, right in between[gap]:
                near[right if forward else left].append(position[left if forward else right])
            old = {item: index for index, item in enumerate(order[free])}
            order[free] = sorted(old, key=lambda i: sum(near[i]) / len(near[i]) if near[i] else old[i])
    return order


def _swap_neighbours(order: Order, between: list[list[tuple[int, int]]]) -> Order:
    """Swap neighbours of a column as long as that saves a crossing."""
    saved = True
    while saved:
        saved = False
        for column, items in enumerate(order):
            gaps = [gap for gap in (column - 1, column) if 0 <= gap < len(between)]
            for i in range(len(items) - 1):
                before = sum(_crossings_in(order, between, gap) for gap in gaps)
                items[i], items[i + 1] = items[i + 1], items[i]
                if sum(_crossings_in(order, between, gap) for gap in gaps) < before:
                    saved = True
                else:
                    items[i], items[i + 1] = items[i + 1], items[i]
    return order


def _crossings(order: Order, between: list[list[tuple[int, int]]]) -> int:
    return sum(_crossings_in(order, between, gap) for gap in range(len(between)))


def _crossings_in(order: Order, between: list[list[tuple[int, int]]], gap: int) -> int:
    left = {item: index for index, item in enumerate(order[gap])}
    right = {item: index for index, item in enumerate(order[gap + 1])}
    ends = [(left[a], right[b]) for a, b in between[gap]]
    return sum((a - c) * (b - d) < 0 for i, (a, b) in enumerate(ends) for c, d in ends[:i])


def _heights(places: list[Place], links: list[tuple[int, int]], order: Order) -> np.ndarray:
    """Minimise sum weight |y_a - y_b| over the links, neighbours in a column at their least distance or more apart.

    Unknowns are the height of the lowest place of each column and the distances upwards from it, so that the
    constraints are plain bounds. Absolute values make few bends of many small ones; they are reached by least squares
    reweighted by 1 / |y_a - y_b|.
    """
    unknowns = [item for column in order for item in column]
    number = {item: index for index, item in enumerate(unknowns)}
    position = np.zeros((len(places), len(unknowns)))  # heights = position @ unknowns
    least = np.full(len(unknowns), -np.inf)
    for column in order:
        for i, item in enumerate(column):
            position[item, [number[other] for other in column[: i + 1]]] = 1.0
            if i:
                below = places[column[i - 1]].kind
                least[number[item]] = (HEIGHTS[below] + HEIGHTS[places[item].kind]) / 2 + CLEARANCE
    bounds = (least, np.full(len(unknowns), np.inf))
    weight = np.array([STRAIGHTNESS[places[a].kind] * STRAIGHTNESS[places[b].kind] for a, b in links])
    bend = np.array([position[a] - position[b] for a, b in links])
    centre = np.vstack([0.1 * position.sum(0), 0.03 * position])  # what the links leave open tends to 0
    heights, scale = np.zeros(len(places)), np.ones(len(links))
    for _ in range(REWEIGHTS):
        rows = np.vstack([np.sqrt(weight * scale)[:, None] * bend, centre])
        heights = position @ scipy.optimize.lsq_linear(rows, np.zeros(len(rows)), bounds, method="bvls").x
        scale = 0.1 / np.maximum(np.abs([heights[a] - heights[b] for a, b in links]), 0.01)
    return heights
