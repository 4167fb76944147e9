"""Pooling and identity of the sources of a wave of edges, mixed for each target node.

    node_j += sum_i a_ij BN(max pool(node_i)) + b_ij BN(average pool(node_i)) + c_ij node_i       (thesis eq. 12)

Each source is pooled once for all its edges. There are two implementations, as in hdarts.kernels.separable.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from hdarts.kernels.bindings import Kernel, WindowSizes, channels_last, load_kernel, vjp


@dataclass(frozen=True)
class Pooling:
    """Maximum and average of 3x3 pixels, and at stride 1 identity, from each of `sources` to each of `nodes`.

    sparse: kernels do not compute what has weight 0, and the gradient in that weight is 0.
    """

    sources: int
    nodes: int
    stride: int
    compiled: bool = True
    sparse: bool = False

    @property
    def operations(self) -> tuple[str, ...]:
        """Names of the operations, in the order of `mixing`."""
        return ("max_pool_3x3", "avg_pool_3x3", "skip_connect")[: 3 if self.stride == 1 else 2]

    def __call__(self, x: Sequence[Tensor], mixing: Tensor, onto: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return `onto`, one tensor `(N, C, H', W')` per node, with the mixture of the sources `(N, C, H, W)` added.

        mixing `(nodes, operations, sources)`. `onto` may be overwritten: that saves a copy.
        """
        kernel = self._kernel(x, onto)
        if kernel is None:
            return tuple(one + more for one, more in zip(onto, self.in_pytorch(x, mixing), strict=True))
        return _Compiled.apply(self, kernel, mixing, *x, *onto)  # type: ignore[return-value]

    def _kernel(self, x: Sequence[Tensor], onto: Sequence[Tensor]) -> Kernel | None:
        if not self.compiled or torch.is_autocast_enabled("cpu") or onto[0][:, 0].numel() < 2:
            return None
        in_place = all(one.permute(0, 2, 3, 1).is_contiguous() and one._base is None for one in onto)
        return load_kernel("pooling", x[0].shape[1], x[0]) if in_place else None

    def in_pytorch(self, x: Sequence[Tensor], mixing: Tensor) -> tuple[Tensor, ...]:
        """Return the mixture at each node by PyTorch's operators: one matrix product for all edges."""
        largest = [F.max_pool2d(one, 3, self.stride, 1) for one in x]
        average = [F.avg_pool2d(one, 3, self.stride, 1, count_include_pad=False) for one in x]
        parts = [F.batch_norm(pool, None, None, training=True) for pool in largest + average]
        parts += x if self.stride == 1 else []
        stacked = torch.stack([part.permute(0, 2, 3, 1) for part in parts])  # (operations S, N, H, W, C)
        mixed = (mixing.flatten(1) @ stacked.flatten(1)).view(self.nodes, *stacked.shape[1:])
        return mixed.permute(0, 1, 4, 2, 3).unbind(0)

    def sizes(self, x: Sequence[Tensor]) -> WindowSizes:
        images, channels, height, width = x[0].shape
        return WindowSizes.of(images, height, width, channels, self.sources, self.nodes, 3, self.stride, 1)


class _Compiled(torch.autograd.Function):
    """Pooling by pooling.c. Saved for the backward pass: the sources, mixing and the statistics."""

    @staticmethod
    def forward(ctx: Any, spec: Pooling, kernel: Kernel, mixing: Tensor, *tensors: Tensor) -> Any:
        x, onto = tensors[: spec.sources], tensors[spec.sources :]
        chunks = -(-x[0].shape[1] // kernel.lanes)
        mean, rstd = (x[0].new_empty(2, spec.sources, chunks, kernel.lanes) for _ in range(2))
        sources = [channels_last(one) for one in x]
        count, weights = mixing.shape[1], mixing.contiguous()
        kernel.call("forward", spec.sizes(x), count, int(spec.sparse), sources, weights, mean, rstd, onto)
        ctx.spec, ctx.kernel = spec, kernel
        ctx.mark_dirty(*onto)
        ctx.save_for_backward(mixing, *x, mean, rstd)
        return onto

    @staticmethod
    def backward(ctx: Any, *g: Any) -> Any:
        spec, kernel = ctx.spec, ctx.kernel
        mixing, *x, mean, rstd = ctx.saved_tensors
        g = tuple(one.contiguous(memory_format=torch.channels_last) for one in g)  # also for what `onto` comes from

        def by_kernel() -> list[Tensor | None]:
            sources, node_grads, weights = [*map(channels_last, x)], [*map(channels_last, g)], mixing.contiguous()
            mixing_grad = torch.empty_like(weights)
            x_grads = [torch.empty_like(one) for one in sources] if any(needed[1:]) else None
            read = (mixing.shape[1], int(spec.sparse), sources, weights, mean, rstd, node_grads)
            kernel.call("backward", spec.sizes(x), *read, x_grads, mixing_grad)
            return [
                mixing_grad,
                *([None] * len(x) if x_grads is None else [one.permute(0, 3, 1, 2) for one in x_grads]),
            ]

        needed = ctx.needs_input_grad[2 : 3 + spec.sources]
        return None, None, *vjp(by_kernel, lambda a, *x: spec.in_pytorch(x, a), (mixing, *x), needed, g), *g
