"""What mixes the operations of each edge: the weights of the operations, and what some relatives of DARTS add to them."""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor


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
