"""What mixes the operations of each edge: their weights, and what some relatives of DARTS add."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from hdarts.errors import ParameterError
from hdarts.kernels.partial_channels import joined, split
from hdarts.runs.cuda_graph import host_may_read
from hdarts.space import SearchSpace
from hdarts.supernet.waves import Wave

Sources = tuple[int, ...]
AUXILIARY = "auxiliary_skip"  # name of the auxiliary skip's weights at stride 2


class Mixture(NamedTuple):
    """Everything that a supernet computes its nodes with, besides images and `w`.

    node_j = sum_{i < j} [ offsets[i->j] + sum_o weights[i->j, o] o(node_i) + auxiliary skip(node_i) ]

    weights: `(kinds, edges, operations)`.
    sparse: operations with weight 0 are not computed, and their weights have gradient 0.
    auxiliary: weight of one more skip connection on every edge, a scalar (Chu et al., DARTS-, ICLR 2021); at stride 2
        it has convolutions. None: there is none.
    offsets: numbers `(kinds, edges)` added to the maps (Dong and Yang, GDAS, CVPR 2019). None: 0.
    drop: a function applied to the output of the skip connection of each edge of stride 1, such as dropout (Chen et
        al., P-DARTS, ICCV 2019). None: the identity.
    noise: a function that returns standard normal values shaped like a map, the output of the operation `noise` on an
        edge (Zela et al., ICLR 2020, space S4). It is called edge by edge, in order. None: their mean, 0.
    """

    weights: Tensor
    sparse: bool = False
    auxiliary: Tensor | None = None
    offsets: Tensor | None = None
    drop: Callable[[Tensor], Tensor] | None = None
    noise: Callable[[Tensor], Tensor] | None = None

    def check(self, space: SearchSpace, auxiliary: bool) -> None:
        """Raise `ParameterError` unless it fits a supernet of the space; `auxiliary`: one with auxiliary skips."""
        found, wanted = tuple(self.weights.shape), space.alpha_shape
        if found != wanted:
            raise ParameterError(f"mixture weights of shape {found} are not of space {space.name}: {wanted}")
        if self.offsets is not None and tuple(self.offsets.shape) != wanted[:2]:
            raise ParameterError(f"offsets of shape {tuple(self.offsets.shape)}: space {space.name} has {wanted[:2]}")
        if self.auxiliary is not None and not auxiliary:
            raise ParameterError("auxiliary: the supernet has no auxiliary skip; make it with auxiliary_skip=True")

    def masked(self) -> "Mixture":
        """Return the same mixture; with `sparse`, weights of 0 have gradient 0, also where all is computed."""
        if not self.sparse:
            return self
        return self._replace(weights=self.weights * (self.weights.detach() != 0))

    def active(self) -> list[list[list[bool]]]:
        """Return for each kind, edge and operation whether it is computed: all if a GPU has to be waited for."""
        if self.sparse and host_may_read(self.weights):
            return (self.weights.detach() != 0).tolist()
        return torch.ones(self.weights.shape, dtype=torch.bool).tolist()

    def of_kinds(self, space: SearchSpace, groups: int) -> "list[CellMixture]":
        """Return the mixture of each kind of cell; of the `groups` of channels, the operations work on the first."""
        incoming = [space.inputs + node for node in range(space.nodes)]  # edges of each computed node
        found = []
        for kind, (rows, active) in enumerate(zip(self.weights.unbind(0), self.active(), strict=True)):
            offsets = [] if self.offsets is None else [part.sum() for part in self.offsets[kind].split(incoming)]
            of_edges = dict(zip(space.edges, rows.unbind(0), strict=True))
            starts = [tuple(range(space.inputs)), *((node,) for node in range(space.inputs, incoming[-1]))]
            leaving = {of: [edge for edge in space.edges if edge[0] in of] for of in starts}
            waves = {of: torch.stack([of_edges[edge] for edge in sorted(edges)]) for of, edges in leaving.items()}
            bypass = {of: part.sum(-1).view(len(of), -1).T for of, part in waves.items() if groups > 1}
            more = (self.sparse, self.auxiliary, self.drop, self.noise)
            found.append(CellMixture(waves, active, offsets, *more, bypass, groups))
        return found


class CellMixture(NamedTuple):
    """The mixture of one kind of cell."""

    weights: Mapping[Sources, Tensor]  # (edges, operations), of the edges of the wave of these sources
    active: Sequence[Sequence[bool]]  # by edge and operation: what is computed
    offsets: Sequence[Tensor]  # of each computed node; empty: 0
    sparse: bool
    auxiliary: Tensor | None
    drop: Callable[[Tensor], Tensor] | None
    noise: Callable[[Tensor], Tensor] | None
    bypass: Mapping[Sources, Tensor]  # (nodes, sources): weights of the channels that bypass the operations of a wave
    groups: int  # of channels

    def split(self, x: Sequence[Tensor], wave: Wave, compiled: bool) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
        """Return the channels of a cell's inputs that operations work on, and for each node what bypasses these."""
        if self.groups == 1:
            return x, ()
        weights = self.bypass[wave.sources]
        if wave.stride == 1:
            return split(x, self.groups, weights, compiled=compiled)
        pooled = [F.max_pool2d(one, 2, ceil_mode=True) for one in x]
        first, _ = split(x, self.groups, weights[:0].detach(), compiled=compiled)
        return first, split(pooled, self.groups, weights, first=False, compiled=compiled)[1]

    def node(
        self, j: int, mixed: Tensor, bypass: Sequence[Tensor], following: Sequence[Wave], compiled: bool
    ) -> tuple[Tensor, Sequence[Tensor], Sequence[Tensor]]:
        """Return computed node `j`, from 0, for its sum over operations, and its `split` for the wave that it starts.

        `bypass`: what bypasses the operations, for this node and those after it. `following`: the wave, or nothing.
        """
        if self.offsets:
            mixed = mixed + self.offsets[j]
        if not bypass:
            return mixed, [mixed], ()
        rest = bypass[0] + self.offsets[j] if self.offsets else bypass[0]
        weights = self.bypass[following[0].sources] if following else mixed.new_empty(0, 1)
        return joined(mixed, rest, weights, bypass[1:], compiled)
