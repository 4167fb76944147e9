"""Graph hypernetworks: messages pass between the edges of a cell (Zhang et al., ICLR 2019; thesis 5.6.2 and 6.2)."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from hdarts.hypernetwork.linear import WithOutputLayer
from hdarts.hypernetwork.mlp import ACTIVATIONS
from hdarts.hypernetwork.protocol import uniform
from hdarts.kernels.output_layer import SegmentedLinear


@dataclass(frozen=True)
class Graph(WithOutputLayer):
    r"""w_c = W_c h_e + b_c for a convolution c on edge e = (i, j), with features h_e of its place in the cell:

    $$ h_e \leftarrow f(A \alpha_e + a), \qquad \mathrm{then} \qquad
    h_e \leftarrow h_e + f \left( S h_e + F \, \mathrm{mean}_{(k, i)} h + B \, \mathrm{mean}_{(j, l)} h + s \right) $$

    in each of `rounds`.

    The means are over the edges that end where e starts and over those that start where it ends (0 without any): one
    step along the cell's graph, forward and backward. A, S, F, B are the same for all edges and rounds. So edges with
    equal alpha and equal surroundings have equal features, and alpha of an edge reaches only the weights of edges that
    are at most `rounds` steps away.

    edges: (source, node) of each row of alpha; places: the row of alpha of each convolution; sizes: its number of
    weights; hidden: length of h. ValueError for rows of alpha or places that are no edges.
    """

    n_alpha: int
    sizes: tuple[int, ...]
    edges: tuple[tuple[int, int], ...]
    places: tuple[int, ...]
    hidden: int
    rounds: int = 2
    activation: str = "tanh"

    def __post_init__(self):
        edges, n = len(self.edges), len(self.sizes)
        if self.n_alpha % edges:
            raise ValueError(f"n_alpha is {self.n_alpha}, but must be a multiple of {edges}, the number of edges")
        if len(self.places) != n or not set(self.places) <= set(range(edges)):
            raise ValueError(f"places has to be an edge from 0 to {edges - 1} for each of {n} convolutions")

    @property
    def n_weights(self) -> int:
        return sum(self.sizes)

    @property
    def columns(self) -> int:
        """Architecture parameters of an edge."""
        return self.n_alpha // len(self.edges)

    @property
    def _shapes(self) -> list[tuple[int, int]]:
        """Shapes of [A a] and [S F B s]."""
        return [(self.hidden, self.columns + 1), (self.hidden, 3 * self.hidden + 1)]

    @property
    def n_trunk(self) -> int:
        """Number of values in A, a, S, F, B and s."""
        return sum(rows * columns for rows, columns in self._shapes)

    @cached_property
    def output(self) -> SegmentedLinear:
        return SegmentedLinear(self.sizes, self.hidden)

    def initial_phi(self, generator: torch.Generator) -> Tensor:
        trunk = [uniform(rows * columns, columns - 1, generator) for rows, columns in self._shapes]
        return torch.cat([*trunk, uniform(self.output.n_parameters, self.hidden, generator)])

    @cached_property
    def _blocks(self) -> list[tuple[list[int], int]]:
        """Places as lists of edges that repeat, with how often: an index would be copied to a GPU in every step."""
        blocks, rest = [], [*self.places]
        while rest:
            n = next((k for k in range(1, len(rest)) if rest[k] in rest[:k]), len(rest))
            times = 1
            while rest[times * n : (times + 1) * n] == rest[:n]:
                times += 1
            blocks.append((rest[:n], times))
            rest = rest[times * n :]
        return blocks

    @cached_property
    def _neighbours(self) -> tuple[list[list[int]], list[list[int]]]:
        """For each edge the edges that end where it starts, and those that start where it ends."""
        before = [[o for o, (_, end) in enumerate(self.edges) if end == start] for start, _ in self.edges]
        after = [[o for o, (start, _) in enumerate(self.edges) if start == end] for _, end in self.edges]
        return before, after

    def features(self, trunk: Tensor, alpha: Tensor) -> Tensor:
        """Return h of the edge of each convolution, `(convolutions, hidden)`."""
        h = self.of_edges(trunk, alpha)
        return torch.cat([torch.stack([h[e] for e in edges]).repeat(times, 1) for edges, times in self._blocks])

    def of_edges(self, trunk: Tensor, alpha: Tensor) -> Tensor:
        """Return h of all edges, `(edges, hidden)`."""
        f = ACTIVATIONS[self.activation]
        first, message = (
            part.view(shape)
            for part, shape in zip(trunk.split([rows * n for rows, n in self._shapes]), self._shapes, strict=True)
        )
        x = alpha.reshape(len(self.edges), self.columns)
        h = f(x @ first[:, :-1].T + first[:, -1])
        for _ in range(self.rounds):
            before, after = (torch.stack([_mean(h, rows) for rows in side]) for side in self._neighbours)
            h = h + f(torch.cat([h, before, after], 1) @ message[:, :-1].T + message[:, -1])
        return h


def _mean(h: Tensor, rows: list[int]) -> Tensor:
    return torch.stack([h[row] for row in rows]).mean(0) if rows else torch.zeros_like(h[0])
