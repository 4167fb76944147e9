"""The edges of NAS-Bench-201 that leave one node x: convolved, and mixed for their target nodes j.

    node_j += a_j1 x + a_j2 BN(y_j) + a_j3 BN(z_j) + a_j4 mean of 3x3 pixels of x

y and z are the 1x1 and 3x3 convolutions of relu(x), a_j the weights of the edge's operations in the order of the space
(`none` is the first). There are two implementations, as in hdarts.kernels.separable. nasbench201_edges.c keeps an image
in the cache and computes 3x3 convolutions in tiles of 4x4 pixels with 36 products instead of 144 (winograd.h).
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from hdarts.kernels.bindings import Kernel, WindowSizes, channels_last, load_kernel, vjp


def mixed(
    x: Tensor,
    kernels: Sequence[Tensor],
    weights: Tensor,
    onto: Sequence[Tensor] | None = None,
    compiled: bool = True,
    sparse: bool = False,
) -> Sequence[Tensor]:
    """Return `onto` (None: 0), a tensor `(N, C, H, W)` for each of m nodes, plus the edges from x, `(N, C, H, W)`.

    kernels: those of y and z, `(m C, C, 1, 1)` and `(m C, C, 3, 3)`; weights `(m, 5)`. `onto` may be overwritten.
    sparse: the kernel does not compute what has weight 0, and the gradient in that weight is 0.
    """
    usable = compiled and not torch.is_autocast_enabled("cpu") and x[:, 0].numel() > 1
    usable = usable and all(one.is_contiguous(memory_format=torch.channels_last) for one in onto or ())
    kernel = load_kernel("nasbench201_edges", x.shape[1], x) if usable else None
    if kernel is not None:
        return _Compiled.apply(kernel, sparse, weights, x, *kernels, *(onto or ()))  # type: ignore[return-value]
    found = in_pytorch(x, kernels, weights)
    return found if onto is None else [one + more for one, more in zip(onto, found, strict=True)]


def in_pytorch(x: Tensor, kernels: Sequence[Tensor], weights: Tensor) -> list[Tensor]:
    """Return the sum at each node by PyTorch's operators; the scale of a BatchNorm is the weight of its operation."""
    skip, *scales, average = weights.T[1:].unbind(0)
    positive = F.relu(x)
    terms = [
        F.batch_norm(
            F.conv2d(positive, one, padding=one.shape[-1] // 2),
            None, None, scale.repeat_interleave(x.shape[1]), None, training=True,
        )
        for one, scale in zip(kernels, scales, strict=True)
    ]  # fmt: skip
    mean = F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
    parts = sum(terms).unflatten(1, (len(weights), -1)).unbind(1)  # pyright: ignore[reportAttributeAccessIssue]
    return [part + x * one + mean * other for part, one, other in zip(parts, skip, average, strict=True)]


class _Compiled(torch.autograd.Function):
    """`mixed` by nasbench201_edges.c. Saved for the backward pass: its inputs, y and z, and their statistics."""

    @staticmethod
    def forward(
        ctx: Any, kernel: Kernel, sparse: bool, weights: Tensor, x: Tensor, one: Tensor, nine: Tensor, *onto: Tensor
    ) -> Any:
        images, channels, height, width = x.shape
        if start := not onto:
            onto = tuple(torch.empty_like(x, memory_format=torch.channels_last) for _ in weights)
        chunks = -(-channels // kernel.lanes)
        mean, rstd = (x.new_empty(2, len(onto), chunks, kernel.lanes) for _ in range(2))
        many = (weights[:, 2:4] != 0).sum(0).tolist() if sparse else [len(onto)] * 2
        y, z = (x.new_empty(images, height, width, count, chunks, kernel.lanes) for count in many)
        read = (channels_last(x), [one.contiguous(), nine.contiguous()], weights.contiguous())
        kernel.call("forward", _sizes(x, len(onto)), int(sparse), int(start), *read, [y, z], mean, rstd, onto)
        ctx.kernel, ctx.sparse, ctx.start = kernel, sparse, start
        ctx.mark_dirty(*(() if start else onto))
        ctx.save_for_backward(weights, x, one, nine, y, z, mean, rstd)
        return onto

    @staticmethod
    def backward(ctx: Any, *g: Any) -> Any:
        weights, x, one, nine, y, z, mean, rstd = ctx.saved_tensors
        needed = ctx.needs_input_grad[2:6]

        def by_kernel() -> list[Tensor | None]:
            read = (channels_last(x), kernels := [one.contiguous(), nine.contiguous()], weights.contiguous())
            weights_grad = torch.empty_like(read[2]) if needed[0] else None
            x_grad = torch.empty_like(read[0]) if any(needed[1:]) else None
            empty = torch.zeros_like if ctx.sparse else torch.empty_like
            kernel_grads = [empty(each) for each in kernels] if any(needed[2:]) else [None, None]
            grads = ([channels_last(each) for each in g], x_grad, kernel_grads, weights_grad)
            ctx.kernel.call("backward", _sizes(x, len(g)), int(ctx.sparse), *read, [y, z], mean, rstd, *grads)
            return [weights_grad, None if x_grad is None else x_grad.permute(0, 3, 1, 2), *kernel_grads]

        def pytorch(weights: Tensor, x: Tensor, *kernels: Tensor) -> list[Tensor]:
            return in_pytorch(x, kernels, weights)

        return None, None, *vjp(by_kernel, pytorch, (weights, x, one, nine), needed, g), *(() if ctx.start else g)


def _sizes(x: Tensor, nodes: int) -> WindowSizes:
    images, channels, height, width = x.shape
    return WindowSizes.of(images, height, width, channels, 1, nodes, 3, 1, 1)
