"""Partial channels (Xu et al., PC-DARTS, ICLR 2020): operations work on the first of K groups of a node's channels.

    node_j = shuffle(mixed_j, sum_i b_ij rest(node_i)),    shuffle: channel c of group g becomes channel c K + g

`mixed` has the first group; the others bypass the operations, times the weight b_ij of the edge. `split` makes both
from a source, `joined` the node and both from it, in one pass. There are two implementations, as in
hdarts.kernels.separable.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hdarts.kernels.bindings import Kernel, WindowSizes, channels_last, load_kernel, vjp


class Form(NamedTuple):
    """K; the sources, or 0 for one that is joined of `mixed` and `rest`; whether first channels are wanted."""

    groups: int
    sources: int
    first: bool


def split(
    x: Sequence[Tensor],
    groups: int,
    weights: Tensor,
    onto: Sequence[Tensor] = (),
    compiled: bool = True,
    first: bool = True,
) -> tuple[list[Tensor], list[Tensor]]:
    """Return the first channels of the sources `(N, C, H, W)`, and the sums of the sources for each of m nodes.

    weights `(m, sources)`: those of the edges; `onto`: sums to which they are added, which may be overwritten. Of the
    sums `(N, C, H, W)` the first C / K channels have no meaning. first: whether the first channels are wanted.
    """
    form = Form(groups, len(x), first)
    kernel = _kernel(x[0], compiled)
    out = _in_pytorch(form, weights, x, onto) if kernel is None else _Compiled.apply(kernel, form, weights, *x, *onto)
    many = len(x) * first
    return list(out[:many]), list(out[many:])  # type: ignore[index]


def joined(
    mixed: Tensor, rest: Tensor, weights: Tensor, onto: Sequence[Tensor] = (), compiled: bool = True
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """Return the node `(N, C, H, W)` for `mixed` `(N, C / K, H, W)` and the sum `rest` `(N, C, H, W)`, and its `split`.

    Weights `(m, 1)`; without nodes, m = 0, there are no first channels.
    """
    form = Form(rest.shape[1] // mixed.shape[1], 0, len(weights) > 0)
    kernel = _kernel(rest, compiled)
    if kernel is None:
        node = _shuffled(mixed, rest)
        out = [node, *_in_pytorch(form, weights, [node], onto)]
    else:
        out = _Compiled.apply(kernel, form, weights, mixed, rest, *onto)
    many = 1 + form.first
    return out[0], list(out[1:many]), list(out[many:])  # type: ignore[index]


def _kernel(x: Tensor, compiled: bool) -> Kernel | None:
    usable = compiled and not torch.is_autocast_enabled("cpu")
    return load_kernel("partial_channels", x.shape[1], x) if usable else None


def _in_pytorch(form: Form, weights: Tensor, x: Sequence[Tensor], onto: Sequence[Tensor] = ()) -> list[Tensor]:
    size = x[0].shape[1] // form.groups
    first = [one[:, :size].contiguous(memory_format=torch.channels_last) for one in x if form.first]
    start = onto or [torch.zeros_like(x[0])] * len(weights)
    return first + [
        sum((w * one for w, one in zip(row, x, strict=True)), at) for row, at in zip(weights, start, strict=True)
    ]


def _shuffled(mixed: Tensor, rest: Tensor) -> Tensor:
    size = mixed.shape[1]
    groups = torch.cat([mixed, rest[:, size:]], 1).permute(0, 2, 3, 1).unflatten(-1, (-1, size))
    return groups.transpose(-1, -2).flatten(3).permute(0, 3, 1, 2)


def _unshuffled(g: Tensor, groups: int) -> list[Tensor]:
    """Return the gradients in `mixed` and `rest` for that in the node."""
    parts = g.permute(0, 2, 3, 1).unflatten(-1, (-1, groups)).unbind(-1)
    mixed, *rest = (one.permute(0, 3, 1, 2) for one in parts)
    return [mixed, torch.cat([torch.zeros_like(mixed), *rest], 1)]


class _Compiled(torch.autograd.Function):
    """`split` or `joined` by partial_channels.c. Saved for the backward pass: weights, and the sources or the node."""

    @staticmethod
    def forward(ctx: Any, kernel: Kernel, form: Form, weights: Tensor, *tensors: Tensor) -> Any:
        many = form.sources or 2
        given, onto = tensors[:many], tensors[many:]
        whole = given[-1]
        node = [] if form.sources else [_empty(whole, None)]
        parts, x = ((None, None), [*map(channels_last, given)]) if form.sources else (map(channels_last, given), node)
        first = [_empty(whole, form) for _ in x if form.first]
        sums = onto or [_empty(whole, None) for _ in weights]
        arguments = (form.groups, int(bool(onto)), *parts, x, weights.contiguous(), first or None, sums)
        kernel.call("forward", _sizes(whole, len(x), len(weights)), *arguments)
        ctx.kernel, ctx.form, ctx.onto = kernel, form, len(onto)
        ctx.mark_dirty(*onto)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(weights, *(node or given))
        return *node, *first, *sums

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        weights, *x = ctx.saved_tensors
        form, many = ctx.form, len(x) * ctx.form.first
        node_grad, *g = grads if form.sources == 0 else (None, *grads)
        g = [one if one is not None else _empty(x[0], form if i < many else None).zero_() for i, one in enumerate(g)]

        def by_kernel() -> list[Tensor | None]:
            read, factors = [*map(channels_last, x)], weights.contiguous()
            weights_grad = torch.empty_like(factors) if ctx.needs_input_grad[2] else None
            x_grads, parts = [torch.empty_like(one) for one in read if form.sources], [None, None]
            if not form.sources:
                parts = [channels_last(_empty(x[0], form)), torch.empty_like(read[0])]
            flat = [*map(channels_last, g)]
            of_node = None if node_grad is None else channels_last(node_grad)
            arguments = (form.groups, read, factors, of_node, flat[:many] or None, flat[many:], x_grads, *parts)
            ctx.kernel.call("backward", _sizes(x[0], len(x), len(weights)), *arguments, weights_grad)
            return [weights_grad, *(one.permute(0, 3, 1, 2) for one in x_grads or parts if one is not None)]

        def with_graph() -> list[Tensor | None]:
            needed = (ctx.needs_input_grad[2], *(True for _ in x))
            found: list[Tensor | None] = [None, None]
            if g:
                found = vjp(by_kernel, lambda w, *x: _in_pytorch(form, w, x), (weights, *x), needed, g)
            if form.sources:
                return found
            terms = [one for one in (found[1], node_grad) if one is not None]
            return [found[0], *_unshuffled(sum(terms[1:], terms[0]), form.groups)]

        found = with_graph() if torch.is_grad_enabled() else by_kernel()
        return None, None, *found, *g[len(g) - ctx.onto :]


def _empty(x: Tensor, form: Form | None) -> Tensor:
    """Return memory for a map like `x`, or, for a form, like the first of its groups of channels."""
    part = x if form is None else x[:, : x.shape[1] // form.groups]
    return torch.empty_like(part, memory_format=torch.channels_last)


def _sizes(x: Tensor, sources: int, nodes: int) -> WindowSizes:
    images, channels, height, width = x.shape
    return WindowSizes.of(images, height, width, channels, sources, nodes, 1, 1, 1)
