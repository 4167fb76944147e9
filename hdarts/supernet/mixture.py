"""What mixes the operations of each edge: their weights, and what some relatives of DARTS add."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from hdarts.errors import ParameterError
from hdarts.runs.cuda_graph import host_may_read
from hdarts.space import SearchSpace

AUXILIARY = "auxiliary_skip"  # name of the auxiliary skip's weights at stride 2


class Mixture(NamedTuple):
    """Everything that a supernet computes its nodes with, besides images and `w`.

    node_j = sum_{i < j} [ offsets[i->j] + sum_o weights[i->j, o] o(node_i) + auxiliary skip(node_i) ]

    weights: `(kinds, edges, operations)`.
    sparse: operations with weight 0 are not computed, and their weights have gradient 0.
    auxiliary: weight of one more skip connection on every edge, a scalar (Chu et al., DARTS-, ICLR 2021); at stride 2
        it has convolutions of its own. None: there is none.
    offsets: numbers `(kinds, edges)` added to the maps (Dong and Yang, GDAS, CVPR 2019). None: 0.
    drop: a function applied to the output of the skip connection of each edge of stride 1, such as dropout (Chen et
        al., P-DARTS, ICCV 2019). None: the identity.
    """

    weights: Tensor
    sparse: bool = False
    auxiliary: Tensor | None = None
    offsets: Tensor | None = None
    drop: Callable[[Tensor], Tensor] | None = None

    def check(self, space: SearchSpace, auxiliary: bool) -> None:
        """Raise `ParameterError` unless it fits a supernet of the space; `auxiliary`: one with auxiliary skips."""
        found, wanted = tuple(self.weights.shape), space.alpha_shape
        if found != wanted:
            raise ParameterError(f"operation weights of shape {found} are not of space {space.name}: {wanted}")
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

    def offsets_of_nodes(self, space: SearchSpace, kind: int) -> list[Tensor]:
        """Return the summed offsets of the edges into each computed node of a kind of cell; [] without offsets."""
        if self.offsets is None:
            return []
        sums: dict[int, Tensor] = {}
        for (_, node), offset in zip(space.edges, self.offsets[kind].unbind(0), strict=True):
            sums[node] = sums[node] + offset if node in sums else offset
        return list(sums.values())
