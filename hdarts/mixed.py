"""The edges of NAS-Bench-201 that leave one node, behind their convolutions: mixed for the nodes they lead to.

    node_j += a_j1 x + a_j2 BN(y_j) + a_j3 BN(z_j) + a_j4 mean of 3x3 pixels of x

y and z are the 1x1 and 3x3 convolutions of x, a_j the weights of the edge's operations in the order of the space
(`none` is the first). Two roads to one function, as in hdarts.pooling, with mixed.c where that can be used.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from hdarts.kernels import Kernel, Shape, kernel, rows


def mixed(
    x: Tensor, convolved: Sequence[Tensor], weights: Tensor, onto: Sequence[Tensor], compiled: bool = True
) -> Sequence[Tensor]:
    """Return `onto`, a tensor `(N, C, H, W)` for each of m nodes, with what comes from x, `(N, C, H, W)`, added.

    convolved: y and z, `(N, m C, H, W)`; weights `(m, 5)`. `onto` is given away: it may be written to.
    """
    usable = compiled and not torch.is_autocast_enabled("cpu") and x[:, 0].numel() > 1
    usable = usable and all(one.is_contiguous(memory_format=torch.channels_last) for one in onto)
    made = kernel("mixed", x.shape[1], x) if usable else None
    if made is not None:
        return _Compiled.apply(made, weights, x, *convolved, *onto)  # type: ignore[return-value]
    return [one + more for one, more in zip(onto, in_pytorch(x, convolved, weights), strict=True)]


def in_pytorch(x: Tensor, convolved: Sequence[Tensor], weights: Tensor) -> list[Tensor]:
    """Return what is added, by PyTorch's operators; a BatchNorm has the weight of its operation as its scale."""
    skip, *scales, average = weights.T[1:].unbind(0)
    terms = [
        F.batch_norm(y, None, None, scale.repeat_interleave(x.shape[1]), None, training=True)
        for y, scale in zip(convolved, scales, strict=True)
    ]
    mean = F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
    parts = sum(terms).unflatten(1, (len(weights), -1)).unbind(1)  # pyright: ignore[reportAttributeAccessIssue]
    return [part + x * one + mean * other for part, one, other in zip(parts, skip, average, strict=True)]


class _Compiled(torch.autograd.Function):
    """`mixed` by mixed.c. Kept for the backward pass: the weights, x, its convolutions and their statistics."""

    @staticmethod
    def forward(ctx: Any, kernel: Kernel, weights: Tensor, x: Tensor, y: Tensor, z: Tensor, *onto: Tensor) -> Any:
        chunks = -(-x.shape[1] // kernel.lanes)
        mean, rstd = (x.new_empty(2, len(onto), chunks, kernel.lanes) for _ in range(2))
        read = (rows(x), [rows(y), rows(z)], weights.contiguous())
        kernel.call("forward", _shape(x, len(onto)), *read, mean, rstd, onto)
        ctx.kernel = kernel
        ctx.mark_dirty(*onto)
        ctx.save_for_backward(weights, x, y, z, mean, rstd)
        return onto

    @staticmethod
    def backward(ctx: Any, *g: Any) -> Any:
        wanted = ctx.needs_input_grad[1:5]
        weights, x, y, z, mean, rstd = ctx.saved_tensors
        if not any(wanted):
            return None, *(None for _ in wanted), *g
        if torch.is_grad_enabled():  # a second derivative is wanted
            weights, x, *both = own = [one.view_as(one) for one in (weights, x, y, z)]  # y and z may come from x
            needed = [one for one, want in zip(own, wanted, strict=True) if want]
            made = iter(torch.autograd.grad(in_pytorch(x, both, weights), needed, g, create_graph=True))
            return None, *(next(made) if want else None for want in wanted), *g
        read = (rows(x), [rows(y), rows(z)], weights.contiguous())
        of_weights, of_x, of_y, of_z = (torch.empty_like(one) for one in (read[2], read[0], *read[1]))
        slopes = [rows(one) for one in g]
        ctx.kernel.call("backward", _shape(x, len(g)), *read, mean, rstd, slopes, of_x, [of_y, of_z], of_weights)
        found = [of_weights, *(one.permute(0, 3, 1, 2) for one in (of_x, of_y, of_z))]
        return None, *(one if want else None for one, want in zip(found, wanted, strict=True)), *g


def _shape(x: Tensor, nodes: int) -> Shape:
    images, channels, height, width = x.shape
    return Shape.of(images, height, width, channels, 1, nodes, 3, 1, 1)
