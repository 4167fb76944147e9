"""All separable convolutions that leave some nodes, mixed: most of the arithmetic of a supernet.

    node_j = sum_i sum_o scale[o, i->j] * BN(pointwise(depthwise(relu(...)))(node_i))         (report eq. 12)

Two roads to one function. In PyTorch the edges are groups of channels of one convolution; it runs anywhere and is
differentiable any number of times. On the CPU, where there is a C compiler, separable.c does the same image by image
in the cache; its second derivatives are those of the first road.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from hdarts.depthwise import depthwise
from hdarts.kernels import MOST, Kernel, Shape, kernel, rows
from hdarts.operations import Block


@dataclass(frozen=True)
class Separable:
    """Edges from each of `sources` to each of `nodes` (ordered by source, then node), and their operations."""

    sources: int
    nodes: int
    operations: tuple[tuple[Block, ...], ...]
    compiled: bool = True

    def __call__(self, x: Tensor, scales: Tensor, weights: list[Tensor]) -> tuple[Tensor, ...]:
        """Return what each node gets, `(N, C, H', W')`.

        x `(N, sources C, H, W)`, channels-last; scales `(operations, edges)`; weights: depthwise `(edges C, 1, k, k)`
        and pointwise `(edges C, C, 1, 1)`, block by block.
        """
        possible = self.compiled and self._fits_the_kernel() and not torch.is_autocast_enabled("cpu")
        if possible and (made := kernel("separable", x.shape[1] // self.sources, x)):
            return _Compiled.apply(self, made, x, scales, *weights)  # type: ignore[return-value]
        return self.in_pytorch(x, scales, weights)

    def _fits_the_kernel(self) -> bool:
        """Whether each block is a 3x3 or 5x5 depthwise convolution and a pointwise one, and there are not too many."""
        convolutions = [block.convolutions for blocks in self.operations for block in blocks]
        usual = all(len(c) == 2 and c[0].depthwise and c[0].kernel in (3, 5) and c[1].kernel == 1 for c in convolutions)
        return usual and len(self.operations) * self.sources <= MOST

    def in_pytorch(self, x: Tensor, scales: Tensor, weights: list[Tensor]) -> tuple[Tensor, ...]:
        """Return the same by PyTorch's operators, the edges as groups of channels."""
        channels = x.shape[1] // self.sources
        # C equal values for each edge and operation, contiguous: F.batch_norm gives wrong gradients on the CPU for
        # channels-last input and an expanded (stride 0) weight
        wide = scales.unsqueeze(-1).expand(-1, -1, channels).contiguous().flatten(1)
        rectified = F.relu(x)
        each = torch.cat([part for part in rectified.split(channels, 1) for _ in range(self.nodes)], 1)
        rest, total = list(weights), None
        for blocks, scale in zip(self.operations, wide, strict=True):
            term = each
            for i, block in enumerate(blocks):
                term = F.relu(term) if i else term
                term = depthwise(term, rest.pop(0), block.convolutions[0].stride, block.convolutions[0].dilation)
                term = F.conv2d(term, rest.pop(0), groups=self.sources * self.nodes)
                term = F.batch_norm(term, None, None, scale if block is blocks[-1] else None, None, training=True)
            total = term if total is None else total + term
        assert total is not None
        # (N, S m C, H, W) -> m times (N, C, H, W), summed over the sources
        summed = total.permute(0, 2, 3, 1).unflatten(-1, (self.sources, self.nodes, channels)).sum(3)
        return summed.permute(3, 0, 4, 1, 2).unbind(0)


@dataclass(frozen=True)
class _Step:
    """One block of one operation on all edges: what separable.c reads and writes.

    `before` and `after` are (values, mean, 1 / sqrt(variance + eps)); the first block reads x, which has no BatchNorm.
    """

    shape: Shape
    before: tuple[Tensor | None, ...]
    weights: tuple[Tensor, Tensor]
    after: tuple[Tensor, ...]


def _steps(spec: Separable, lanes: int, x: Tensor, weights: list[Tensor], made: list[Tensor]) -> list[list[_Step]]:
    """Return the steps of each operation, for x `(N, H, W, sources C)`; `made`, the tensors of `after`, is filled."""
    images, *_, wide = x.shape
    channels, edges = wide // spec.sources, spec.sources * spec.nodes
    chunks, fresh, rest, kept, operations = -(-channels // lanes), not made, list(weights), list(made), []
    for blocks in spec.operations:
        steps, before, size = [], (x, None, None), tuple(x.shape[1:3])
        for block in blocks:
            first = block.convolutions[0]
            form = (first.kernel, first.stride, first.dilation)
            shape = Shape.of(images, *size, channels, spec.sources, spec.nodes, *form)
            size = shape.size_out()
            if fresh:
                y = x.new_empty(edges, images, chunks, size[0] * size[1], lanes)
                made += [y, x.new_empty(edges, chunks, lanes), x.new_empty(edges, chunks, lanes)]
            after = tuple(made[-3:]) if fresh else tuple(kept.pop(0) for _ in range(3))
            steps.append(_Step(shape, before, (rest.pop(0), rest.pop(0)), after))
            before = after
        operations.append(steps)
    return operations


class _Compiled(torch.autograd.Function):
    """Separable by separable.c. Kept for the backward pass: x and, of each block, the values before BatchNorm."""

    @staticmethod
    def forward(ctx: Any, spec: Separable, kernel: Kernel, x: Tensor, scales: Tensor, *weights: Tensor) -> Any:
        made: list[Tensor] = []
        operations = _steps(spec, kernel.lanes, rows(x), [weight.contiguous() for weight in weights], made)
        for step in (step for steps in operations for step in steps):
            kernel.call("forward", step.shape, *step.before, *step.weights, *step.after)
        last = [steps[-1] for steps in operations]
        shape = operations[0][0].shape
        out = [x.new_empty(len(x), *shape.size_out(), shape.channels) for _ in range(spec.nodes)]
        of_last = [list(column) for column in zip(*(step.after for step in last), strict=True)]
        kernel.call("mix", shape, len(last), *of_last, list(scales.contiguous()), out)
        ctx.spec, ctx.kernel = spec, kernel
        ctx.save_for_backward(x, scales, *weights, *made)
        return tuple(node.permute(0, 3, 1, 2) for node in out)

    @staticmethod
    def backward(ctx: Any, *g: Any) -> Any:
        x, scales, *rest = ctx.saved_tensors
        count = len(ctx.needs_input_grad) - 4
        inputs, made = [x, scales, *rest[:count]], rest[count:]
        if torch.is_grad_enabled():  # a second derivative is wanted
            needed = [one for one, wanted in zip(inputs, ctx.needs_input_grad[2:], strict=True) if wanted]
            found = iter(torch.autograd.grad(ctx.spec.in_pytorch(x, scales, inputs[2:]), needed, g, create_graph=True))
            return None, None, *(next(found) if wanted else None for wanted in ctx.needs_input_grad[2:])
        weights = [weight.contiguous() for weight in inputs[2:]]
        slopes = [rows(one) for one in g]
        of_x, of_scales = torch.zeros_like(rows(x)), torch.zeros_like(scales)
        of_weights = [torch.empty_like(weight) for weight in weights] if any(ctx.needs_input_grad[4:]) else []
        free = list(of_weights)
        for o, steps in enumerate(_steps(ctx.spec, ctx.kernel.lanes, rows(x), weights, made)):
            mine = [(free.pop(0), free.pop(0)) if free else (None, None) for _ in steps]
            of_scales[o] = _step_back(ctx.kernel, steps, scales[o].contiguous(), slopes, of_x, mine)
        return None, None, of_x.permute(0, 3, 1, 2), of_scales, *(of_weights or [None] * count)


def _step_back(
    kernel: Kernel, steps: list[_Step], scale: Tensor, g: list[Tensor], of_x: Tensor, of_weights: list[Any]
) -> Tensor:
    """Add an operation's gradient to `of_x`, write those of its weights, return that of `scale` `(edges,)`."""
    last = steps[-1]
    last_sums = torch.empty(2, *last.after[2].shape, dtype=torch.float64)
    kernel.call("gradient_sums", last.shape, *last.after[:2], g, last_sums)
    inner, sums = None, last_sums
    for i, step in reversed(list(enumerate(steps))):
        values, first = step.before[0], i == 0
        assert values is not None
        of_before, sums_before = (of_x, None) if first else (torch.empty_like(values), torch.empty_like(last_sums))
        way = (scale, g, None) if step is last else (None, None, inner)
        kernel.call(
            "backward", step.shape, *step.before, *step.weights, *step.after, *way, sums, of_before, sums_before,
            *of_weights[i],
        )  # fmt: skip
        inner, sums = of_before, sums_before
    return (last_sums[1] * last.after[2]).sum((1, 2))
