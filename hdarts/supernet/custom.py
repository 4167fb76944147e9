"""Custom operations of a custom search space: objects that both networks receive by name.

The supernet computes them edge by edge with PyTorch's operators, followed by a BatchNorm whose scale is the weight of
the operation. In the evaluation network they are modules with an affine BatchNorm.
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hdarts.errors import ParameterError
from hdarts.runs.custom import require
from hdarts.supernet.layout import Shape

BUILT_IN = re.compile(r"none|noise|skip_connect|(max|avg)_pool_3x3|(sep|dil)_conv_(3x3|5x5)")  # in cells of DARTS


class Operation(Protocol):
    """The interface of a custom operation."""

    def shapes(self, channels: int, stride: int) -> Sequence[Shape]:
        """Return the shapes of its weights, `(out, in, ...)` for `C` to `C` channels; a vector is a bias."""
        ...

    def __call__(self, x: Tensor, weights: Sequence[Tensor], stride: int) -> Tensor:
        """Return the result `(N, C, ceil(H / stride), ceil(W / stride))` for `x` `(N, C, H, W)`; a pure function."""
        ...


CustomOperations = Mapping[str, Operation]


class CustomWeight(NamedTuple):
    """One weight of a custom operation on an edge; built-in operations have `space.operations.Convolution`."""

    fixed: Shape

    def shape(self, channels_in: int, channels_out: int) -> Shape:
        """Return its shape, which the operation computed from the channels."""
        return self.fixed


def check_operations(names: Sequence[str], custom: CustomOperations) -> None:
    """Raise `ParameterError` unless each operation of a space is either built in or custom."""
    for name in names:
        built_in = BUILT_IN.fullmatch(name) is not None
        if built_in == (name in custom):
            reason = "is built in; choose another name" if built_in else "is neither built in nor passed in `custom`"
            raise ParameterError(f"operation {name!r} {reason}")
    for name, operation in custom.items():
        if not callable(operation) or not hasattr(operation, "shapes"):
            raise ParameterError(f"operation {name!r}: has to be callable and to have a method `shapes`")
    if missing := [name for name in custom if name not in names]:
        raise ParameterError(f"operation {missing[0]!r} is passed in `custom`, but the space does not have it")


def add_custom(
    custom: CustomOperations,
    x: Sequence[Tensor],
    stride: int,
    named: Mapping[str, Tensor],
    scales: Mapping[str, Tensor],
    active: Mapping[str, Sequence[bool]],
    nodes: list[Tensor],
) -> list[Tensor]:
    """Return the target `nodes` with the outputs of the custom operations on the sources `x` added.

    `named` has the weights `<operation>.<i>` and `scales` their mixture weights, C equal values per edge; both are
    concatenated over the edges, ordered by source, then node. `active`: the edges that have each operation.
    """
    edges = len(x) * len(nodes)
    for name, operation in custom.items():
        weights = [weight.chunk(edges) for key, weight in named.items() if key.rpartition(".")[0] == name]
        for e, scale in enumerate(scales[name].chunk(edges)):
            if not active[name][e]:
                continue
            source, node = divmod(e, len(nodes))
            image, *own = in_rows([x[source], *(weight[e] for weight in weights)], stride)
            out = operation(image, own, stride)
            require(f"operation {name}: the shape of its value", out, tuple(nodes[node].shape))
            nodes[node] = nodes[node] + F.batch_norm(out, None, None, scale, None, training=True)
    return nodes


def in_rows(values: Sequence[Tensor], stride: int) -> list[Tensor]:
    """Return images or weights with channels first in memory where an operation has a stride.

    The backward pass of PyTorch's 1x1 convolution with stride 2 writes beyond its memory if images or weights of 2 to 6
    channels are channels-last, and Python aborts (torch 2.14.1, x86-64: 30 calls of `F.conv2d(x, w, stride=2)` on
    (4, 4, 8, 8)). A copy, as `contiguous` takes channels-last weights of one pixel for both.
    """
    return [one.clone(memory_format=torch.contiguous_format) for one in values] if stride > 1 else list(values)


class CustomOperation(nn.Module):
    """A custom operation in the evaluation network; its weights are initialised like PyTorch's layers, biases to 0."""

    def __init__(self, operation: Operation, channels: int, stride: int):
        super().__init__()
        self.operation, self.stride = operation, stride
        self.weights = nn.ParameterList(map(_initial, operation.shapes(channels, stride)))
        self.normalise = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        image, *weights = in_rows([x, *self.weights], self.stride)
        out = self.operation(image, weights, self.stride)
        sides = (-(-side // self.stride) for side in x.shape[2:])
        name = f"operation {type(self.operation).__name__}"
        require(f"{name}: the shape of its value", out, (*x.shape[:2], *sides))
        return self.normalise(out)


def _initial(shape: Shape) -> Tensor:
    bound = math.prod(shape[1:]) ** -0.5
    return torch.empty(shape).uniform_(-bound, bound) if len(shape) > 1 else torch.zeros(shape)
