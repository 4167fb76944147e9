"""Comparison of two implementations of the same function."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from hdarts.runs.randomness import generator

SIZES = [
    # channels, sources, nodes, stride, images, (height, width)
    (2, 1, 1, 1, 3, (3, 2)),
    (3, 2, 4, 1, 2, (7, 9)),
    (4, 2, 2, 2, 4, (8, 8)),
    (5, 1, 3, 2, 3, (5, 7)),
    (16, 1, 2, 1, 2, (8, 8)),
    (19, 2, 3, 2, 3, (9, 4)),
]


def agree(ours: Iterable[Tensor], theirs: Iterable[Tensor], accuracy: float) -> None:
    """Check that tensors are equal within `accuracy` of their largest value."""
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=accuracy, atol=accuracy * float(other.detach().abs().max()))


def output_grads(out: Iterable[Tensor]) -> list[Tensor]:
    """Return random gradients with respect to the outputs."""
    return [torch.randn(one.shape, generator=generator(i), dtype=one.dtype) for i, one in enumerate(out)]


def derivatives(loss: Callable[[Tensor, Tensor], Tensor], w: Tensor, alpha: Tensor) -> list[Tensor]:
    """Return loss, gradients in w and alpha, and the Hessian times a fixed vector."""
    w, alpha = w.clone().requires_grad_(), alpha.clone().requires_grad_()
    value = loss(w, alpha)
    first = torch.autograd.grad(value, (w, alpha), create_graph=True)
    direction = torch.randn(len(w), generator=generator(1), dtype=w.dtype)
    along = first[0] @ direction + first[1].sum(-1).square().sum()
    return [value.detach(), *(g.detach() for g in first), *torch.autograd.grad(along, (w, alpha))]


def second_derivatives(out: Iterable[Tensor], inputs: list[Tensor]) -> tuple[Tensor, ...]:
    """Return gradients of the sum of squares of the first derivatives."""
    out = list(out)
    first = torch.autograd.grad(out, inputs, output_grads(out), create_graph=True)
    total = torch.stack([one.square().sum() for one in first]).sum()
    return torch.autograd.grad(total, inputs, allow_unused=True, materialize_grads=True)


def same_for_any_number_of_threads(compute: Callable[[], list[Tensor]]) -> None:
    """Check results bit for bit with the same threads, and up to rounding with others (5: more than the images)."""
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 2, 5):
            torch.set_num_threads(threads)
            results.append(compute())
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(one, other) for one, other in zip(results[1], results[2], strict=True))
    agree(results[0], results[1], 1e-12)
    agree(results[0], results[3], 1e-12)
