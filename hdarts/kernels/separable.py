"""Separable convolutions of all edges that leave some nodes, mixed: most of the arithmetic of a network of cells.

    node_j = sum_i sum_o BN(pointwise(depthwise(relu(node_i))))     (thesis eq. 12; BN's scale is the weight of o)

Two roads to one function. In PyTorch the edges are groups of channels of one convolution; it runs anywhere and is
differentiable any number of times. On the CPU, where there is a C compiler, separable.c does the same image by image
in the cache; its second derivatives are those of the first road.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from hdarts.kernels.bindings import MAX_TERMS, Kernel, WindowSizes, channels_last, differentiable_vjp, load_kernel
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
        """Return what each node gets, `(N, C, H', W')`, for the sources x, `(N, C, H, W)` each, best channels-last.

        `weights`: those of each block of the first operation, of the second, and so on.
        """
        kernel = self.kernel(x)
        return self.in_pytorch(x, weights) if kernel is None else self.by(kernel, x, weights)[0]

    def kernel(self, x: Sequence[Tensor]) -> Kernel | None:
        """Return the compiled road, or None where PyTorch's is the one for `x`."""
        if not self.compiled or torch.is_autocast_enabled("cpu"):
            return None
        images, channels, *size = x[0].shape
        stride = self.operations[0][0].convolutions[0].stride
        if images * math.prod(-(-length // stride) for length in size) < 2:  # PyTorch's BatchNorm refuses it
            return None
        convolutions = [block.convolutions for blocks in self.operations for block in blocks]
        usual = all(len(c) == 2 and c[0].depthwise and c[0].kernel in (3, 5) and c[1].kernel == 1 for c in convolutions)
        fits = usual and len(self.operations) * self.sources <= MAX_TERMS
        return load_kernel("separable", channels, x[0]) if fits else None

    def by(
        self, kernel: Kernel, x: Sequence[Tensor], weights: list[BlockWeights]
    ) -> tuple[tuple[Tensor, ...], list[tuple[Tensor, Tensor]]]:
        """Return the nodes by the compiled road, and mean and 1 / sqrt(variance + 1e-5) of each BatchNorm's input."""
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
                (first, _), own = block.convolutions, rest.pop(0)
                term = depthwise(F.relu(term) if i else term, own.depthwise, first.stride, first.dilation)
                term = F.conv2d(term, own.pointwise, groups=self.sources * self.nodes)
                term = F.batch_norm(term, None, None, own.gamma, own.beta, training=True)
            total = term if total is None else total + term
        assert total is not None
        # (N, S m C, H, W) -> m times (N, C, H, W), summed over the sources
        summed = total.permute(0, 2, 3, 1).unflatten(-1, (self.sources, self.nodes, channels)).sum(3)
        return summed.permute(3, 0, 4, 1, 2).unbind(0)


class _Norm(NamedTuple):
    """Values before a BatchNorm, and that BatchNorm: statistics and weights by lanes, (edges, chunks, lanes).

    What is read first are the sources, without a BatchNorm.
    """

    values: Tensor | None
    mean: Any = None
    rstd: Any = None
    gamma: Tensor | None = None
    beta: Tensor | None = None


class _Step(NamedTuple):
    """One block of one operation on all edges: what separable.c reads and writes."""

    shape: WindowSizes
    sources: list[Tensor] | None  # read where there are no values of a block before
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
            first, own = block.convolutions[0], rest.pop(0)
            form = (first.kernel, first.stride, first.dilation)
            shape = WindowSizes.of(images, *size, channels, spec.sources, spec.nodes, *form)
            size = shape.size_out()
            if fresh:
                y = first_x.new_empty(edges, images, chunks, size[0] * size[1], lanes)
                buffers += [y, *(first_x.new_empty(edges, chunks, lanes) for _ in range(2))]
            written = buffers[-3:] if fresh else [kept.pop(0) for _ in range(3)]
            after = _Norm(*written, *(_lanes(one, written[1].shape, channels) for one in (own.gamma, own.beta)))
            read = None if steps else x
            steps.append(_Step(shape, read, before, (own.depthwise.contiguous(), own.pointwise.contiguous()), after))
            before = after
        operations.append(steps)
    return operations


class _Compiled(torch.autograd.Function):
    """Separable by separable.c. Kept for the backward pass: x and, of each block, the values before BatchNorm."""

    @staticmethod
    def forward(ctx: Any, spec: Separable, kernel: Kernel, *inputs: Tensor | None) -> Any:
        x, flat = inputs[: spec.sources], inputs[spec.sources :]
        buffers: list[Tensor] = []
        operations = _steps(spec, kernel.lanes, [channels_last(one) for one in x], _blocks(flat), buffers)  # type: ignore[arg-type]
        for step in (step for steps in operations for step in steps):
            kernel.call("forward", step.shape, step.sources, *step.before, *step.weights, *step.after[:3])
        last = operations[0][-1].shape
        size = (last.images, last.channels, *last.size_out())
        # no views of other tensors, so that more can be added in place (hdarts.kernels.pooling)
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
        spec, kernel, wanted = ctx.spec, ctx.kernel, ctx.needs_input_grad[2:]
        inputs, buffers = ctx.saved_tensors[: len(wanted)], list(ctx.saved_tensors[len(wanted) :])
        x, flat, g = inputs[: spec.sources], inputs[spec.sources :], grads[: spec.nodes]
        if torch.is_grad_enabled():  # a second derivative is wanted
            n = spec.sources
            function = lambda *every: spec.in_pytorch(every[:n], _blocks(every[n:]))  # noqa: E731
            return None, None, *differentiable_vjp(function, inputs, wanted, g)
        # convolutions; else they are constants
        learn = any(want for i, want in enumerate(wanted[spec.sources :]) if i % 4 < 2)
        sources, slopes = [channels_last(one) for one in x], [channels_last(one) for one in g]
        of_x, of_blocks = [torch.zeros_like(one) for one in sources], []
        for steps in _steps(spec, kernel.lanes, sources, _blocks(flat), buffers):
            of_blocks += _backward(kernel, steps, slopes, of_x, learn)
        found = [*(one.permute(0, 3, 1, 2) for one in of_x), *of_blocks]
        return None, None, *(one if want else None for one, want in zip(found, wanted, strict=True))


def _backward(
    kernel: Kernel, steps: list[_Step], g: list[Tensor], of_x: list[Tensor], learn: bool
) -> list[Tensor | None]:
    """Add an operation's gradient to `of_x`, and return those in the weights of its blocks (4 a block)."""
    last, found = steps[-1], []
    after = last.after
    sums = torch.empty(2, *after.rstd.shape, dtype=torch.float64)
    kernel.call("gradient_sums", last.shape, after.values, after.mean, g, sums)
    way: tuple[Any, Any] = (g, None)
    for step in reversed(steps):
        values = step.before.values
        of_before = None if values is None else torch.empty_like(values)
        sums_before = None if values is None else torch.empty_like(sums)
        of_weights = [torch.empty_like(one) for one in step.weights] if learn else [None, None]
        kernel.call(
            "backward", step.shape, step.sources, *step.before, *step.weights, *step.after[:4], *way, sums,
            None if step.sources is None else of_x, of_before, sums_before, *of_weights,
        )  # fmt: skip
        of_norm = (sums[1] * step.after.rstd, sums[0])  # gamma, beta
        found = [*of_weights, *(_channels(one.to(of_x[0]), step.shape.channels) for one in of_norm), *found]
        if sums_before is not None:
            way, sums = (None, of_before), sums_before
    return found


def _blocks(flat: Any) -> list[BlockWeights]:
    return [BlockWeights(*flat[i : i + 4]) for i in range(0, len(flat), 4)]


def _lanes(of: Tensor | None, shape: torch.Size, channels: int) -> Tensor | None:
    """`(edges C,)` as (edges, chunks, lanes), filled up with zeros."""
    if of is None:
        return None
    edges, chunks, lanes = shape
    return F.pad(of.detach().view(edges, channels), (0, chunks * lanes - channels)).contiguous()


def _channels(of: Tensor, channels: int) -> Tensor:
    """(edges, chunks, lanes) as `(edges C,)`."""
    return of.flatten(1)[:, :channels].flatten()
