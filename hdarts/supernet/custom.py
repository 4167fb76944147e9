"""Operations of one's own: an object each, given to both networks by their names in a space of one's own.

The supernet computes them edge by edge, in PyTorch; BatchNorm follows, its scale the weight of the operation. In the
evaluation network they are modules with an affine BatchNorm.
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hdarts.errors import ParameterError

Shape = tuple[int, ...]
KNOWN = re.compile(r"none|skip_connect|(max|avg)_pool_3x3|(sep|dil)_conv_(3x3|5x5)")  # hdarts's, in DARTS's cells


class Operation(Protocol):
    """An operation of one's own."""

    def shapes(self, channels: int, stride: int) -> Sequence[Shape]:
        """Return the shapes of its weights, (out, in, ...) for `C` to `C` channels; a vector is an offset."""
        ...

    def __call__(self, x: Tensor, weights: Sequence[Tensor], stride: int) -> Tensor:
        """Return the result `(N, C, ceil(H / stride), ceil(W / stride))` for `x` `(N, C, H, W)`; a pure function."""
        ...


Own = Mapping[str, Operation]


class Weight(NamedTuple):
    """One weight of a custom operation on an edge; built-in ones have `space.operations.Convolution`."""

    of: Shape

    def shape(self, channels_in: int, channels_out: int) -> Shape:
        """Return its shape, which knows its channels."""
        return self.of


def check_operations(names: Sequence[str], own: Own) -> None:
    """Raise `ParameterError` unless each operation of a space is known, or one of one's own, and not both."""
    for name in names:
        known = KNOWN.fullmatch(name) is not None
        if known == (name in own):
            told = "is hdarts's own; name yours otherwise" if known else "is not known, nor given as an object in `own`"
            raise ParameterError(f"operation {name!r} {told}")
    if missing := [name for name in own if name not in names]:
        raise ParameterError(f"operation {missing[0]!r} is given as an object, but the space does not have it")


def mixed_in(
    own: Own,
    x: Sequence[Tensor],
    stride: int,
    named: Mapping[str, Tensor],
    scales: Mapping[str, Tensor],
    to: list[Tensor],
) -> list[Tensor]:
    """Return `to`, a tensor a node, with what operations of one's own bring from the sources `x` added.

    `named` has the weights `<operation>.<i>`, and `scales` those of the operations, C values an edge, of all edges side
    by side, ordered by source, then node.
    """
    edges, nodes = len(x) * len(to), len(to)
    for name, operation in own.items():
        weights = [weight.chunk(edges) for at, weight in named.items() if at.rpartition(".")[0] == name]
        for e, scale in enumerate(scales[name].chunk(edges)):
            out = operation(x[e // nodes], [weight[e] for weight in weights], stride)
            to[e % nodes] = to[e % nodes] + F.batch_norm(out, None, None, scale, None, training=True)
    return to


class OwnOperation(nn.Module):
    """An operation of one's own in the evaluation network; its weights start as PyTorch's layers do, offsets at 0."""

    def __init__(self, own: Operation, channels: int, stride: int):
        super().__init__()
        self.own, self.stride = own, stride
        self.weights = nn.ParameterList(map(_start, own.shapes(channels, stride)))
        self.normalise = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.normalise(self.own(x, list(self.weights), self.stride))


def _start(shape: Shape) -> Tensor:
    bound = math.prod(shape[1:]) ** -0.5
    return torch.empty(shape).uniform_(-bound, bound) if len(shape) > 1 else torch.zeros(shape)
