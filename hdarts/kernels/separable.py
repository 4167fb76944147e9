"""Separable convolutions of all edges of a wave, summed at each node: most of the arithmetic of a network of cells.

    node_j = sum_i sum_o BN(pointwise(depthwise(relu(node_i))))     (thesis eq. 12; BN's scale is the weight of o)

There are two implementations of the same function. In PyTorch the edges are groups of channels of one convolution; it
runs anywhere and is differentiable any number of times. On the CPU, with a C compiler, separable.c computes one image
after the other in the cache; its second derivatives are those of the first implementation.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate, chain
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from hdarts.kernels.bindings import Kernel, WindowSizes, channels_last, load_kernel, vjp
from hdarts.kernels.depthwise import depthwise
from hdarts.space.operations import Block

Active = Sequence[Sequence[bool]]  # by operation and edge


class BlockWeights(NamedTuple):
    """Weights of one block on all edges: (edges C, 1, k, k), (edges C, C, 1, 1), and BatchNorm's, (edges C,) each."""

    depthwise: Tensor
    pointwise: Tensor
    gamma: Tensor | None = None
    beta: Tensor | None = None


@dataclass(frozen=True)
class Separable:
    """Edges from each of `sources` to each of `nodes` (ordered by source, then node), and their operations."""

    sources: int
    nodes: int
    operations: tuple[tuple[Block, ...], ...]
    compiled: bool = True

    def __call__(
        self, x: Sequence[Tensor], weights: list[BlockWeights], active: Active | None = None
    ) -> tuple[Tensor, ...]:
        """Return the nodes, `(N, C, H', W')` each, for the sources x, `(N, C, H, W)` each, best channels-last.

        `weights`: those of each block of the first operation, of the second, and so on. `active`: which operations each
        edge has. The last gamma (and beta) of the others has to be 0; it has gradient 0 where a kernel is used.
        """
        kernel = self.kernel(x)
        return self.in_pytorch(x, weights) if kernel is None else self.with_statistics(kernel, x, weights, active)[0]

    def kernel(self, x: Sequence[Tensor]) -> Kernel | None:
        """Return the kernel, or None where PyTorch has to compute the nodes of `x`."""
        if not self.compiled or torch.is_autocast_enabled("cpu"):
            return None
        images, channels, *size = x[0].shape
        stride = self.operations[0][0].convolutions[0].stride
        if images * math.prod(-(-length // stride) for length in size) < 2:  # an error of PyTorch's BatchNorm
            return None
        convolutions = [block.convolutions for blocks in self.operations for block in blocks]
        usual = all(len(c) == 2 and c[0].depthwise and c[0].kernel in (3, 5) and c[1].kernel == 1 for c in convolutions)
        return load_kernel("separable", channels, x[0]) if usual else None

    def with_statistics(
        self, kernel: Kernel, x: Sequence[Tensor], weights: list[BlockWeights], active: Active | None = None
    ) -> tuple[tuple[Tensor, ...], list[tuple[Tensor, Tensor]]]:
        """Return the nodes by the kernel, and mean and 1 / sqrt(variance + 1e-5) of the input of each BatchNorm."""
        out = _Compiled.apply(self, kernel, self._places(active), *x, *(one for block in weights for one in block))
        *nodes, statistics = out  # type: ignore[misc]
        pairs = statistics.flatten(3)[..., : x[0].shape[1]].flatten(2).unbind(0)  # (block, 2, edge, chunk, lane)
        return tuple(nodes), [(mean, rstd) for mean, rstd in pairs]

    def _places(self, active: Active | None) -> Tensor:
        """Return the place of each `(block, source, node)` among the edges of the source that have it, or -1."""
        rows = active or [[True] * (self.sources * self.nodes)] * len(self.operations)
        places = []
        for blocks, row in zip(self.operations, rows, strict=True):
            counts = [list(accumulate(row[i : i + self.nodes])) for i in range(0, len(row), self.nodes)]
            flat = [count - 1 if on else -1 for on, count in zip(row, chain(*counts), strict=True)]
            places += [flat] * len(blocks)
        return torch.tensor(places).view(-1, self.sources, self.nodes)

    def in_pytorch(self, x: Sequence[Tensor], weights: list[BlockWeights]) -> tuple[Tensor, ...]:
        """Return the nodes by PyTorch's operators, the edges as groups of channels."""
        channels = x[0].shape[1]
        each = torch.cat([part for part in map(F.relu, x) for _ in range(self.nodes)], 1)
        rest, total = list(weights), None
        for blocks in self.operations:
            term = each
            for i, block in enumerate(blocks):
                (first, _), block_weights = block.convolutions, rest.pop(0)
                term = depthwise(F.relu(term) if i else term, block_weights.depthwise, first.stride, first.dilation)
                term = F.conv2d(term, block_weights.pointwise, groups=self.sources * self.nodes)
                term = F.batch_norm(term, None, None, block_weights.gamma, block_weights.beta, training=True)
            total = term if total is None else total + term
        assert total is not None
        # (N, S m C, H, W) -> m times (N, C, H, W), summed over the sources
        summed = total.permute(0, 2, 3, 1).unflatten(-1, (self.sources, self.nodes, channels)).sum(3)
        return summed.permute(3, 0, 4, 1, 2).unbind(0)


@cache
def _forms(operations: tuple[tuple[Block, ...], ...]) -> Tensor:
    """Return kernel, stride, dilation and "is the first of its operation" of each block (`Form` in separable.c)."""
    blocks = [(block.convolutions[0], i == 0) for blocks in operations for i, block in enumerate(blocks)]
    return torch.tensor([(c.kernel, c.stride, c.dilation, int(first)) for c, first in blocks])


class _Compiled(torch.autograd.Function):
    """Separable by separable.c. Saved for the backward pass: inputs, the values before BatchNorm, and statistics."""

    @staticmethod
    def forward(ctx: Any, spec: Separable, kernel: Kernel, places: Tensor, *inputs: Tensor | None) -> Any:
        x, weights = _contiguous(spec, inputs)
        forms, shape, (chunks, lanes) = _forms(spec.operations), _shape(spec, x[0]), kernel.chunks(x[0].shape[-1])
        size, edges = shape.size_out(), spec.sources * spec.nodes
        # small tensors: malloc keeps what is below 32 MiB, so that it need not be mapped again at each step
        many = (places.amax(2) + 1).flatten().tolist()
        y = [x[0].new_empty(count, len(x[0]), *size, chunks, lanes) for count in many]
        statistics = x[0].new_empty(len(forms), 2, edges, chunks, lanes)
        nodes = (len(x[0]), x[0].shape[-1], *size)  # no views, so that hdarts.kernels.pooling can add to them in place
        out = [torch.empty(nodes, dtype=statistics.dtype, memory_format=torch.channels_last) for _ in range(spec.nodes)]
        kernel.call("forward", shape, len(forms), forms, places, x, weights, y, statistics, out)
        ctx.spec, ctx.kernel, ctx.places = spec, kernel, places
        ctx.save_for_backward(*inputs, *y, statistics)
        ctx.mark_non_differentiable(statistics)
        return *out, statistics

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        spec, needed, n = ctx.spec, ctx.needs_input_grad[3:], ctx.spec.sources
        inputs, (*y, statistics) = ctx.saved_tensors[: len(needed)], ctx.saved_tensors[len(needed) :]
        g = grads[: spec.nodes]

        def by_kernel() -> list[Tensor | None]:
            train = any(need for i, need in enumerate(needed[n:]) if i % 4 < 2)  # convolutions
            ends = accumulate(4 * len(blocks) for blocks in spec.operations)
            last = {i for end in ends for i in (end - 2, end - 1)}  # scale and offset of last BatchNorms
            inside = any(need and i - n not in last for i, need in enumerate(needed))
            x, weights = _contiguous(spec, inputs)
            x_grads = [torch.empty_like(one) for one in x] if inside else None
            empty = torch.zeros_like if bool((ctx.places < 0).any()) else torch.empty_like
            weight_grads = [
                None if one is None or (i % 4 < 2 and not train) else empty(one) for i, one in enumerate(weights)
            ]
            forms, shape = _forms(spec.operations), _shape(spec, x[0])
            read = (x, weights, y, statistics, [*map(channels_last, g)])
            ctx.kernel.call("backward", shape, len(forms), forms, ctx.places, *read, x_grads, weight_grads)
            of_x = [None] * n if x_grads is None else [one.permute(0, 3, 1, 2) for one in x_grads]
            return [*of_x, *weight_grads]

        def pytorch(*tensors: Tensor) -> tuple[Tensor, ...]:
            return spec.in_pytorch(tensors[:n], [BlockWeights(*tensors[i : i + 4]) for i in range(n, len(tensors), 4)])

        return None, None, None, *vjp(by_kernel, pytorch, inputs, needed, g)


def _contiguous(spec: Separable, inputs: Sequence[Any]) -> tuple[list[Tensor], list[Tensor | None]]:
    """Return sources, channels-last, and weights as separable.c reads them."""
    weights = [None if one is None else one.contiguous() for one in inputs[spec.sources :]]
    return [channels_last(one) for one in inputs[: spec.sources]], weights


def _shape(spec: Separable, x: Tensor) -> WindowSizes:
    images, height, width, channels = x.shape
    stride = spec.operations[0][0].convolutions[0].stride
    return WindowSizes.of(images, height, width, channels, spec.sources, spec.nodes, 1, stride, 1)
