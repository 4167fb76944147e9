"""Partial channels (Xu et al., PC-DARTS, ICLR 2020): operations work on the first of K groups of a node's channels.

    node_j = shuffle(mixed_j, sum_i b_ij rest(node_i)),    shuffle: channel c of group g becomes channel c K + g

`mixed` has the first group; the others bypass the operations, times the weight b_ij of the edge. `split` makes both
from a source, `shuffled` the node. There are two implementations, as in hdarts.kernels.separable.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from hdarts.kernels.bindings import Kernel, WindowSizes, channels_last, load_kernel, vjp


def split(
    x: Sequence[Tensor], groups: int, weights: Tensor, onto: Sequence[Tensor] = (), compiled: bool = True
) -> tuple[list[Tensor], list[Tensor]]:
    """Return the first channels of the sources `(N, C, H, W)`, and the sums of the sources for each of m nodes.

    weights `(m, sources)`: those of the edges; `onto`: sums to which they are added, which may be overwritten. Of the
    sums `(N, C, H, W)` the first C / K channels have no meaning.
    """
    kernel = _kernel(x[0], compiled)
    if kernel is None:
        out = _split_in_pytorch(x, groups, weights)
        sums = [one + more for one, more in zip(onto, out[len(x) :], strict=True)] if onto else out[len(x) :]
    else:
        out = _Split.apply(kernel, groups, len(x), weights, *x, *onto)
        sums = out[len(x) :]  # type: ignore[index]
    return list(out[: len(x)]), list(sums)  # type: ignore[index]


def shuffled(mixed: Tensor, rest: Tensor, compiled: bool = True) -> Tensor:
    """Return the node `(N, C, H, W)` for `mixed` `(N, C / K, H, W)` and the sum `rest` `(N, C, H, W)`."""
    kernel = _kernel(rest, compiled)
    return _shuffled_in_pytorch(mixed, rest) if kernel is None else _Shuffled.apply(kernel, mixed, rest)  # type: ignore[return-value]


def _kernel(x: Tensor, compiled: bool) -> Kernel | None:
    usable = compiled and not torch.is_autocast_enabled("cpu")
    return load_kernel("partial_channels", x.shape[1], x) if usable else None


def _split_in_pytorch(x: Sequence[Tensor], groups: int, weights: Tensor) -> list[Tensor]:
    first = [one[:, : one.shape[1] // groups].contiguous(memory_format=torch.channels_last) for one in x]
    sums = [sum((w * one for w, one in zip(row, x, strict=True)), torch.zeros_like(x[0])) for row in weights]
    return first + sums


def _shuffled_in_pytorch(mixed: Tensor, rest: Tensor) -> Tensor:
    size = mixed.shape[1]
    groups = torch.cat([mixed, rest[:, size:]], 1).permute(0, 2, 3, 1).unflatten(-1, (-1, size))
    return groups.transpose(-1, -2).flatten(3).permute(0, 3, 1, 2)


class _Split(torch.autograd.Function):
    """`split` by partial_channels.c. Saved for the backward pass: sources and weights."""

    @staticmethod
    def forward(ctx: Any, kernel: Kernel, groups: int, sources: int, weights: Tensor, *tensors: Tensor) -> Any:
        x, onto = tensors[:sources], tensors[sources:]
        first = [torch.empty_like(one[:, : one.shape[1] // groups], memory_format=torch.channels_last) for one in x]
        sums = onto or [torch.empty_like(x[0], memory_format=torch.channels_last) for _ in weights]
        arguments = (groups, [*map(channels_last, x)], weights.contiguous(), int(bool(onto)), first, sums)
        kernel.call("split", _sizes(x, len(weights)), *arguments)
        ctx.kernel, ctx.groups, ctx.onto = kernel, groups, len(onto)
        ctx.mark_dirty(*onto)
        ctx.save_for_backward(weights, *x)
        return *first, *sums

    @staticmethod
    def backward(ctx: Any, *g: Any) -> Any:
        weights, *x = ctx.saved_tensors
        needed, of_sums = ctx.needs_input_grad[3 : 4 + len(x)], g[len(x) :]

        def by_kernel() -> list[Tensor | None]:
            factors, read = weights.contiguous(), [channels_last(one) for one in x]
            weights_grad = torch.empty_like(factors)
            x_grads = [torch.empty_like(one) for one in read]
            grads = [channels_last(one) for one in g]
            arguments = (ctx.groups, read, factors, grads[: len(x)], grads[len(x) :], x_grads)
            ctx.kernel.call("split_back", _sizes(x, len(weights)), *arguments, weights_grad if needed[0] else None)
            return [weights_grad, *(one.permute(0, 3, 1, 2) for one in x_grads)]

        def pytorch(weights: Tensor, *x: Tensor) -> list[Tensor]:
            return _split_in_pytorch(x, ctx.groups, weights)

        return None, None, None, *vjp(by_kernel, pytorch, (weights, *x), needed, g), *of_sums[: ctx.onto]


class _Shuffled(torch.autograd.Function):
    """`shuffled` by partial_channels.c; it is linear, so nothing is saved."""

    @staticmethod
    def forward(ctx: Any, kernel: Kernel, mixed: Tensor, rest: Tensor) -> Any:
        out = torch.empty_like(rest, memory_format=torch.channels_last)
        ctx.kernel, ctx.groups = kernel, rest.shape[1] // mixed.shape[1]
        kernel.call("shuffle", _sizes([rest], 1), ctx.groups, channels_last(mixed), channels_last(rest), out)
        return out

    @staticmethod
    def backward(ctx: Any, *g: Any) -> Any:
        return None, *_Unshuffled.apply(ctx.kernel, ctx.groups, g[0])  # type: ignore[misc]


class _Unshuffled(torch.autograd.Function):
    """The transpose of `_Shuffled`: gradients in `mixed` and `rest`, 0 in the first channels of the latter."""

    @staticmethod
    def forward(ctx: Any, kernel: Kernel, groups: int, g: Tensor) -> Any:
        ctx.kernel = kernel
        rest = torch.empty_like(g, memory_format=torch.channels_last)
        mixed = torch.empty_like(g[:, : g.shape[1] // groups], memory_format=torch.channels_last)
        kernel.call("unshuffle", _sizes([g], 1), groups, channels_last(g), mixed, rest)
        return mixed, rest

    @staticmethod
    def backward(ctx: Any, *g: Any) -> Any:
        return None, None, _Shuffled.apply(ctx.kernel, *g)


def _sizes(x: Sequence[Tensor], nodes: int) -> WindowSizes:
    images, channels, height, width = x[0].shape
    return WindowSizes.of(images, height, width, channels, len(x), nodes, 1, 1, 1)
