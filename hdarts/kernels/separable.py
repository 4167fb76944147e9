"""Separable convolutions of all edges of a wave, summed at each node: most of the arithmetic of a network of cells.

    node_j = sum_i sum_o BN(pointwise(depthwise(relu(node_i))))     (thesis eq. 12; BN's scale is the weight of o)

There are two implementations of the same function. In PyTorch the edges are groups of channels of one convolution; it
runs anywhere and is differentiable any number of times. On the CPU, with a C compiler, separable.c computes one image
after the other in the cache; its second derivatives are those of the first implementation.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from hdarts.kernels.bindings import MAX_TERMS, Kernel, WindowSizes, channels_last, load_kernel, vjp
from hdarts.kernels.depthwise import depthwise
from hdarts.space.operations import Block


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

    def __call__(self, x: Sequence[Tensor], weights: list[BlockWeights]) -> tuple[Tensor, ...]:
        """Return the nodes, `(N, C, H', W')` each, for the sources x, `(N, C, H, W)` each, best channels-last.

        `weights`: those of each block of the first operation, of the second, and so on.
        """
        kernel = self.kernel(x)
        return self.in_pytorch(x, weights) if kernel is None else self.with_statistics(kernel, x, weights)[0]

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
        fits = usual and len(self.operations) * self.sources <= MAX_TERMS
        return load_kernel("separable", channels, x[0]) if fits else None

    def with_statistics(
        self, kernel: Kernel, x: Sequence[Tensor], weights: list[BlockWeights]
    ) -> tuple[tuple[Tensor, ...], list[tuple[Tensor, Tensor]]]:
        """Return the nodes by the kernel, and mean and 1 / sqrt(variance + 1e-5) of the input of each BatchNorm."""
        out = _Compiled.apply(self, kernel, *x, *(one for block in weights for one in block))
        channels, statistics = x[0].shape[1], out[self.nodes :]  # type: ignore[index]
        pairs = [_channels(one, channels) for one in statistics]
        return out[: self.nodes], list(zip(pairs[::2], pairs[1::2], strict=True))  # type: ignore[index]

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


class _Norm(NamedTuple):
    """Values before a BatchNorm, its statistics and weights, (edges, chunks, lanes); all None for the sources."""

    values: Tensor | None
    mean: Any = None
    rstd: Any = None
    gamma: Tensor | None = None
    beta: Tensor | None = None


class _Step(NamedTuple):
    """One block of one operation on all edges: the inputs and outputs of separable.c."""

    shape: WindowSizes
    sources: list[Tensor] | None  # None unless it is the first block
    before: _Norm
    weights: tuple[Tensor, Tensor]
    after: _Norm


def _steps(
    spec: Separable, lanes: int, x: list[Tensor], weights: list[BlockWeights], buffers: list[Tensor]
) -> list[list[_Step]]:
    """Return the steps of each operation, for sources `(N, H, W, C)`; fill `buffers`, which they write, if empty."""
    (images, *before_stride, channels), edges, first_x = x[0].shape, spec.sources * spec.nodes, x[0]
    chunks, fresh, rest, kept, operations = -(-channels // lanes), not buffers, list(weights), list(buffers), []
    for blocks in spec.operations:
        steps, before, size = [], _Norm(None), tuple(before_stride)
        for block in blocks:
            first, (depth, point, gamma, beta) = block.convolutions[0], rest.pop(0)
            form = (first.kernel, first.stride, first.dilation)
            shape = WindowSizes.of(images, *size, channels, spec.sources, spec.nodes, *form)
            size = shape.size_out()
            if fresh:
                y = first_x.new_empty(edges, images, chunks, size[0] * size[1], lanes)
                buffers += [y, *(first_x.new_empty(edges, chunks, lanes) for _ in range(2))]
            written = buffers[-3:] if fresh else [kept.pop(0) for _ in range(3)]
            after = _Norm(*written, *(_lanes(one, written[1].shape, channels) for one in (gamma, beta)))
            read = None if steps else x
            steps.append(_Step(shape, read, before, (depth.contiguous(), point.contiguous()), after))
            before = after
        operations.append(steps)
    return operations


class _Compiled(torch.autograd.Function):
    """Separable by separable.c. Saved for the backward pass: x and, for each block, the values before BatchNorm."""

    @staticmethod
    def forward(ctx: Any, spec: Separable, kernel: Kernel, *inputs: Tensor | None) -> Any:
        x, flat = inputs[: spec.sources], inputs[spec.sources :]
        buffers: list[Tensor] = []
        operations = _steps(spec, kernel.lanes, [channels_last(one) for one in x], _blocks(flat), buffers)  # type: ignore[arg-type]
        for step in (step for steps in operations for step in steps):
            kernel.call("forward", step.shape, step.sources, *step.before, *step.weights, *step.after[:3])
        last = operations[0][-1].shape
        size = (last.images, last.channels, *last.size_out())
        # separate tensors, so that hdarts.kernels.pooling can add to them in place
        out = [torch.empty(size, dtype=buffers[0].dtype, memory_format=torch.channels_last) for _ in range(spec.nodes)]
        ends = [list(column) for column in zip(*(steps[-1].after for steps in operations), strict=True)]
        kernel.call("mix", last, len(operations), *ends, out)
        ctx.spec, ctx.kernel = spec, kernel
        ctx.save_for_backward(*inputs, *buffers)
        statistics = [one for i, one in enumerate(buffers) if i % 3]
        ctx.mark_non_differentiable(*statistics)
        return *out, *statistics

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        spec, needed, n = ctx.spec, ctx.needs_input_grad[2:], ctx.spec.sources
        inputs, buffers = ctx.saved_tensors[: len(needed)], list(ctx.saved_tensors[len(needed) :])
        g = grads[: spec.nodes]

        def by_kernel() -> list[Tensor | None]:
            train_convolutions = any(need for i, need in enumerate(needed[n:]) if i % 4 < 2)
            sources, node_grads = [*map(channels_last, inputs[:n])], [*map(channels_last, g)]
            x_grads, block_grads = [torch.zeros_like(one) for one in sources], []
            for steps in _steps(spec, ctx.kernel.lanes, sources, _blocks(inputs[n:]), buffers):
                first = n + len(block_grads)
                inside = any(needed[:n]) or any(needed[first : first + 4 * len(steps) - 2])
                block_grads += _backward(ctx.kernel, steps, node_grads, x_grads, train_convolutions, inside)
            return [*(one.permute(0, 3, 1, 2) for one in x_grads), *block_grads]

        def pytorch(*tensors: Tensor) -> tuple[Tensor, ...]:
            return spec.in_pytorch(tensors[:n], _blocks(tensors[n:]))

        return None, None, *vjp(by_kernel, pytorch, inputs, needed, g)


def _backward(
    kernel: Kernel, steps: list[_Step], g: list[Tensor], x_grads: list[Tensor], train_convolutions: bool, inside: bool
) -> list[Tensor | None]:
    """Add the gradient of an operation to `x_grads` and return those in the weights of its blocks, 4 per block.

    Without `inside`, only the gradients in the scale and offset of the last BatchNorm are computed.
    """
    last, block_grads = steps[-1], []
    sums = torch.empty(2, *last.after.rstd.shape, dtype=torch.float64)
    kernel.call("gradient_sums", last.shape, last.after.values, last.after.mean, g, sums)
    if not inside:
        return [*[None] * (4 * len(steps) - 2), *_norm_grads(last, sums, g[0])]
    incoming: tuple[Any, Any] = (g, None)  # gradients in the nodes, or in the values of the block itself
    for step in reversed(steps):
        values = step.before.values
        values_grad = None if values is None else torch.empty_like(values)
        sums_before = None if values is None else torch.empty_like(sums)
        weight_grads = [torch.empty_like(one) if train_convolutions else None for one in step.weights]
        kernel.call(
            "backward", step.shape, step.sources, *step.before, *step.weights, *step.after[:4], *incoming, sums,
            None if step.sources is None else x_grads, values_grad, sums_before, *weight_grads,
        )  # fmt: skip
        block_grads = [*weight_grads, *_norm_grads(step, sums, g[0]), *block_grads]
        if sums_before is not None:
            incoming, sums = (None, values_grad), sums_before
    return block_grads


def _norm_grads(step: _Step, sums: Tensor, like: Tensor) -> list[Tensor]:
    """Return the gradients in scale and offset of a block's BatchNorm."""
    return [_channels(one.to(like), step.shape.channels) for one in (sums[1] * step.after.rstd, sums[0])]


def _blocks(flat: Any) -> list[BlockWeights]:
    return [BlockWeights(*flat[i : i + 4]) for i in range(0, len(flat), 4)]


def _lanes(of: Tensor | None, shape: torch.Size, channels: int) -> Tensor | None:
    """Return `(edges C,)` as (edges, chunks, lanes), padded with zeros."""
    if of is None:
        return None
    edges, chunks, lanes = shape
    return F.pad(of.detach().view(edges, channels), (0, chunks * lanes - channels)).contiguous()


def _channels(of: Tensor, channels: int) -> Tensor:
    """Return (edges, chunks, lanes) as `(edges C,)`."""
    return of.flatten(1)[:, :channels].flatten()
