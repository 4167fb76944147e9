"""The search spaces: the edges of a cell, the operations on each edge, and how a network is made of cells."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from hdarts.errors import ParameterError
from hdarts.space.layers import RESIDUAL, CellPlan, stem_widths

if TYPE_CHECKING:  # reading, drawing and selecting cells need not wait for torch
    from torch import Tensor

Cell = Sequence[tuple[str, int]]


@dataclass(frozen=True)
class SearchSpace:
    """A cell as a graph, with the rules of DARTS; `NASBench201` has other rules.

    A cell has `inputs` nodes as its inputs (0, 1, ...) and computes `nodes` more; each of these has an edge from every
    earlier node. A cell outputs its last `outputs` nodes, concatenated; the stem has `stem` times the channels of the
    first cell.

    A custom space is like DARTS with another number of `nodes` and other `operations`, the first of them `none`.

    `candidates`: for each kind of cell and each edge the names of its operations, which need not include `none`; empty:
    all operations on all edges. The other columns of `alpha` have no effect.
    """

    name: str
    kinds: tuple[str, ...]
    inputs: int
    nodes: int
    operations: tuple[str, ...]
    outputs: int
    stem: int
    candidates: tuple[tuple[tuple[str, ...], ...], ...] = ()

    @property
    def edges(self) -> tuple[tuple[int, int], ...]:
        """All (source, node), ordered by node, then source: the rows of `alpha`."""
        computed = range(self.inputs, self.inputs + self.nodes)
        return tuple((source, node) for node in computed for source in range(node))

    @property
    def alpha_shape(self) -> tuple[int, int, int]:
        """Shape of alpha: (kinds, edges, operations)."""
        return len(self.kinds), len(self.edges), len(self.operations)

    @cached_property
    def mask(self) -> "Tensor | None":
        """Which operations are candidates, `(kinds, edges, operations)`, bool; None: all."""
        import torch

        rows = [[[name in names for name in self.operations] for names in edges] for edges in self.candidates]
        return torch.tensor(rows) if rows else None

    @property
    def n_alpha(self) -> int:
        """Number of architecture parameters of one kind of cell: edges x operations (112 in DARTS)."""
        return len(self.edges) * len(self.operations)

    @property
    def targets(self) -> list[int]:
        """Node that each edge of a discrete cell leads to, in the order of its list: two edges per node."""
        return [self.inputs + i // 2 for i in range(2 * self.nodes)]

    def best_operations(self, weights: Any) -> Any:
        """Return the operation of each edge in a discrete cell, `(edges,)`, for the weights `(edges, operations)`.

        Both are arrays of NumPy or PyTorch; the first of equal weights is kept. In DARTS it is never `none`. Operations
        that are no candidates need the smallest weights.
        """
        return 1 + weights[:, 1:].argmax(-1)  # operation 0 is none

    def strongest(self, weights: "Tensor") -> list[tuple[str, int]]:
        """Return the discrete cell of mixture weights `(edges, operations)` of one kind (thesis eq. 14, figure 19 d).

        The strength of an edge is its largest weight without `none`; each node keeps its two strongest edges, each with
        that operation. The first of equal edges or operations is kept.
        """
        operation = self.best_operations(weights)
        strength = weights.gather(1, operation[:, None])
        cell = []
        for node in range(self.inputs, self.inputs + self.nodes):
            incoming = [edge for edge, (_, target) in enumerate(self.edges) if target == node]
            kept = sorted(incoming, key=lambda edge: -float(strength[edge]))[:2]  # sorted is stable
            cell += [(self.operations[int(operation[edge])], self.edges[edge][0]) for edge in kept]
        return cell

    def check_cell(self, kind: str, cell: Cell) -> None:
        """Raise ValueError unless the list is a discrete cell of this space."""
        if len(cell) != 2 * self.nodes:
            raise ValueError(f"{kind} cell has {len(cell)} edges; a cell has {2 * self.nodes}, two for each node")
        for (operation, source), node in zip(cell, self.targets, strict=True):
            if operation not in self.operations:
                raise ValueError(f"{kind} cell: operation {operation!r} is not one of {', '.join(self.operations)}")
            if not 0 <= source < node:
                raise ValueError(f"{kind} cell: {self._named(node)} takes input {source}; it can take 0 to {node - 1}")
        for node in range(self.nodes):
            if cell[2 * node][1] == cell[2 * node + 1][1]:
                named = self._named(node + self.inputs)
                raise ValueError(f"{kind} cell: {named} takes input {cell[2 * node][1]} twice")

    def _named(self, node: int) -> str:
        """Return the name of a node: its number in pictures, and that as an input, where those of the cell count."""
        return f"node {node - self.inputs} (input {node} of the others)"

    def plan(self, channels: int, layers: int, stem: str = "cifar") -> list[CellPlan]:
        """Return the cells of a network in order: `layers` cells, reduction cells at 1/3 and 2/3 (thesis 4.5).

        A space without reduction cells has normal ones there. Channels double in reduction cells. The CIFAR stem has
        3 C channels as in DARTS, and a cell outputs 4 times its channels. (The thesis's section 4.5 says that the stem
        has 64; with C = 16, 48 matches the 1.93 million weights of the supernet, 64 does not.)
        """
        if layers < 3 and "reduce" in self.kinds:
            raise ParameterError(
                f"layers = {layers}: a network needs at least 3 cells, two of which are reduction cells"
            )
        cells, previous = [], stem_widths(stem, channels, self.stem)[-1]
        previous_previous, after = previous, stem == "imagenet"
        for layer in range(layers):
            reduces = "reduce" in self.kinds and layer in (layers // 3, 2 * layers // 3)
            channels *= 2 if reduces else 1
            cells.append(CellPlan("reduce" if reduces else "normal", previous_previous, previous, channels, after))
            previous_previous, previous, after = previous, self.outputs * channels, reduces
        return cells


@dataclass(frozen=True)
class NASBench201(SearchSpace):
    """The space of NAS-Bench-201 (Dong and Yang, ICLR 2020): a discrete cell has an operation on every edge."""

    @property
    def targets(self) -> list[int]:
        return [node for _, node in self.edges]

    def best_operations(self, weights: Any) -> Any:
        """Return the largest operation of each edge, which may be `none`."""
        return weights.argmax(-1)

    def strongest(self, weights: "Tensor") -> list[tuple[str, int]]:
        """Return the largest operation of each edge, which may be `none`; the first of equal ones is kept."""
        chosen = zip(self.best_operations(weights).tolist(), self.edges, strict=True)
        return [(self.operations[operation], source) for operation, (source, _) in chosen]

    def check_cell(self, kind: str, cell: Cell) -> None:
        if len(cell) != len(self.edges):
            raise ValueError(f"{kind} has {len(cell)} edges; a cell of space {self.name} has {len(self.edges)}")
        for (operation, given), (source, node) in zip(cell, self.edges, strict=True):
            if operation not in self.operations:
                raise ValueError(f"{kind}: operation {operation!r} is not one of {', '.join(self.operations)}")
            if given != source:
                raise ValueError(f"{kind}: node {node} takes input {given} where input {source} is expected")

    def plan(self, channels: int, layers: int, stem: str = "cifar") -> list[CellPlan]:
        """Return three stages of `layers` cells, joined by residual blocks of stride 2 that double the channels."""
        if layers < 1:
            raise ParameterError(f"layers = {layers}: a network of space {self.name} needs at least 1 cell per stage")
        cells, before, after = [], stem_widths(stem, channels, self.stem)[-1], stem == "imagenet"
        for stage in range(3):
            width = channels * 2**stage
            for kind in (*((RESIDUAL,) if stage else ()), *(self.kinds * layers)):
                cells.append(CellPlan(kind, before, before, width, after))
                before, after = width, cells[-1].reduces
        return cells


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
    outputs=4,
    stem=3,
)
NASBENCH201 = NASBench201(
    name="nasbench201",
    kinds=("cell",),
    inputs=1,
    nodes=3,
    operations=("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3"),
    outputs=1,
    stem=1,
)


def plan(channels: int, layers: int, space: SearchSpace = DARTS, stem: str = "cifar") -> list[CellPlan]:
    """Return the cells of a network of a space in order."""
    return space.plan(channels, layers, stem)
