"""Search spaces, the discrete cells in them (`Genotype`), and how the one becomes the other."""

import json
from dataclasses import dataclass
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, StrictInt, ValidationError, model_validator
from torch import Tensor

from hdarts.params import ParameterError

FORMAT = 1  # of a genotype on disk


@dataclass(frozen=True)
class SearchSpace:
    """A cell as a graph: which edges there are, and which operations stand on each of them.

    `inputs` nodes (0, 1, ...) are given to a cell, `nodes` nodes are computed in it; every computed node has an edge
    from each earlier node. `alpha` of the space has the shape `(kinds, edges, operations)`.
    """

    name: str
    kinds: tuple[str, ...]
    inputs: int
    nodes: int
    operations: tuple[str, ...]

    @property
    def edges(self) -> tuple[tuple[int, int], ...]:
        """All (source, node), ordered by node, then source: the rows of `alpha`."""
        computed = range(self.inputs, self.inputs + self.nodes)
        return tuple((source, node) for node in computed for source in range(node))

    @property
    def alpha_shape(self) -> tuple[int, int, int]:
        """`(kinds, edges, operations)`."""
        return len(self.kinds), len(self.edges), len(self.operations)

    @property
    def n_alpha(self) -> int:
        """Number of architecture parameters of one kind of cell: edges x operations (112 in DARTS)."""
        return len(self.edges) * len(self.operations)


DARTS = SearchSpace(
    name="darts",
    kinds=("normal", "reduce"),
    inputs=2,
    nodes=4,
    operations=(
        "none",
        "max_pool_3x3",
        "avg_pool_3x3",
        "skip_connect",
        "sep_conv_3x3",
        "sep_conv_5x5",
        "dil_conv_3x3",
        "dil_conv_5x5",
    ),
)
NASBENCH201 = SearchSpace(
    name="nasbench201",
    kinds=("cell",),
    inputs=1,
    nodes=3,
    operations=("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3"),
)

Cell = list[tuple[str, StrictInt]]


class Genotype(BaseModel):
    """The discrete cells a search found, as in DARTS's lists: `[operation, input]`, two for each of 4 nodes, in order.

    Inputs 0 and 1 are the outputs of the two cells before; 2 to 5 are the cell's own nodes. The cell's output is the
    concatenation of nodes 2 to 5. The two edges of a node are ordered by strength where a search found them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    normal: Cell
    reduce: Cell

    @model_validator(mode="after")
    def _is_a_cell(self) -> "Genotype":
        for kind in DARTS.kinds:
            _check_cell(kind, getattr(self, kind))
        return self

    def to_json(self) -> str:
        """Return the genotype as JSON text with its format version and space."""
        cells = {kind: [list(edge) for edge in getattr(self, kind)] for kind in DARTS.kinds}
        return json.dumps({"format": FORMAT, "space": DARTS.name, **cells}, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Genotype":
        """Return the genotype in a JSON text; anything else raises `ParameterError` with one sentence."""
        try:
            content = json.loads(text)
        except (ValueError, RecursionError):
            raise ParameterError("genotype: the text is not JSON") from None
        if not isinstance(content, dict):
            raise ParameterError("genotype: the JSON is no object with format, space, normal and reduce")
        if (form := content.pop("format", None)) != FORMAT or isinstance(form, bool):
            raise ParameterError(f"genotype: format {form!r} is not known here; this release reads format {FORMAT}")
        if (space := content.pop("space", None)) != DARTS.name:
            raise ParameterError(f"genotype: it belongs to the space {space!r}, not to {DARTS.name!r}")
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            message = first["msg"].removeprefix("Value error, ")
            raise ParameterError(f"genotype: {where + ': ' if where else ''}{message}") from None


def _check_cell(kind: str, cell: Cell) -> None:
    if len(cell) != 2 * DARTS.nodes:
        raise ValueError(f"{kind} cell has {len(cell)} edges; a cell has {2 * DARTS.nodes}, two for each node")
    for position, (operation, source) in enumerate(cell):
        node = DARTS.inputs + position // 2
        if operation not in DARTS.operations or operation == "none":
            raise ValueError(f"{kind} cell: operation {operation!r} is not one of {', '.join(DARTS.operations[1:])}")
        if not 0 <= source < node:
            raise ValueError(f"{kind} cell: node {node} takes input {source}; it can take 0 to {node - 1}")
    for node in range(DARTS.nodes):
        if cell[2 * node][1] == cell[2 * node + 1][1]:
            raise ValueError(f"{kind} cell: node {node + DARTS.inputs} takes input {cell[2 * node][1]} twice")


def check_alpha(alpha: Tensor, space: SearchSpace) -> None:
    """Raise `ParameterError` unless `alpha` has the shape of the space and finite values."""
    if tuple(alpha.shape) != space.alpha_shape:
        raise ParameterError(f"alpha of shape {tuple(alpha.shape)} is not of space {space.name}: {space.alpha_shape}")
    if not bool(torch.isfinite(alpha).all()):
        raise ParameterError("alpha holds values that are not finite")


def discretise(alpha: Tensor, space: SearchSpace = DARTS) -> Genotype:
    """Return the genotype of `alpha` `(2, 14, 8)` as DARTS derives it (report eq. 14 and figure 19 d).

    The strength of an edge is its largest softmax weight without `none`; each node keeps its two strongest edges,
    each with that operation. Of equal ones the first wins.
    """
    check_alpha(alpha, space)
    if space is not DARTS:
        raise ParameterError(f"space {space.name}: only {DARTS.name} has a genotype in this release")
    weights = alpha.detach().cpu().double().softmax(-1)
    cells: dict[str, Any] = {}
    for kind, rows in zip(space.kinds, weights, strict=True):
        strength, operation = rows[:, 1:].max(-1)  # operation 0 is none
        cells[kind] = []
        for node in range(space.inputs, space.inputs + space.nodes):
            incoming = [edge for edge, (_, target) in enumerate(space.edges) if target == node]
            kept = sorted(incoming, key=lambda edge: -float(strength[edge]))[:2]  # sorted is stable
            cells[kind] += [(space.operations[1 + int(operation[edge])], space.edges[edge][0]) for edge in kept]
    return Genotype(**cells)


def skip_count(genotype: Genotype) -> int:
    """Return the number of skip connections in the normal cell, which the report's selection rule looks at (4.7)."""
    return sum(operation == "skip_connect" for operation, _ in genotype.normal)


@dataclass(frozen=True)
class CellPlan:
    """Place of one cell in the network: its kind, the channels of its two inputs, and its own."""

    kind: str
    previous_previous: int
    previous: int
    channels: int
    after_reduction: bool

    @property
    def stride(self) -> int:
        """Stride of the operations next to the cell's inputs."""
        return 2 if self.kind == "reduce" else 1


def plan(channels: int, layers: int) -> list[CellPlan]:
    """Return the cells of a DARTS network: reduction cells at 1/3 and 2/3, channels doubled there (report 4.5).

    The stem has 3 C channels as in DARTS, and a cell puts out 4 times its channels. (The report's section 4.5 says
    that the stem has 64; with C = 16, 48 fits the 1.93 million weights of the supernet, 64 does not.)
    """
    if layers < 3:
        raise ParameterError(f"layers = {layers}: a network needs at least 3 cells, two of which are reduction cells")
    cells, previous_previous, previous, after = [], 3 * channels, 3 * channels, False
    for layer in range(layers):
        reduces = layer in (layers // 3, 2 * layers // 3)
        channels *= 2 if reduces else 1
        cells.append(CellPlan("reduce" if reduces else "normal", previous_previous, previous, channels, after))
        previous_previous, previous, after = previous, DARTS.nodes * channels, reduces
    return cells
