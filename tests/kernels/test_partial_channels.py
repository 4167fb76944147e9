"""The kernel of partial channels equals PyTorch: values, derivatives, groups, threads."""

import pytest
import torch
from helpers.agreement import agree, output_grads, same_for_any_number_of_threads, second_derivatives
from torch import Tensor

from hdarts.kernels.partial_channels import joined, split
from hdarts.runs.randomness import generator

SIZES = [
    # channels, groups, sources, nodes, images, (height, width)
    (2, 2, 1, 1, 3, (3, 2)),
    (15, 5, 2, 4, 2, (7, 9)),
    (16, 4, 2, 1, 5, (5, 6)),
    (6, 6, 1, 3, 1, (1, 1)),
]


def inputs(channels, groups, sources, nodes, images, size) -> tuple[list[Tensor], Tensor, list[Tensor], list[Tensor]]:
    """Return sources, weights, sums to add to, and for each node its first channels."""
    draw = generator(0)

    def maps(count: int, of: int) -> list[Tensor]:
        drawn = [torch.randn(images, of, *size, generator=draw, dtype=torch.float64) for _ in range(count)]
        return [one.contiguous(memory_format=torch.channels_last).requires_grad_() for one in drawn]

    weights = torch.randn(sources, nodes, generator=draw, dtype=torch.float64).T.requires_grad_()  # not contiguous
    return maps(sources, channels), weights, maps(nodes, channels), maps(nodes, channels // groups)


def both_uses(size: tuple, compiled: bool) -> tuple[list[Tensor], list[Tensor]]:
    """Return what operations work on and the nodes, and the inputs."""
    x, weights, onto, mixed = inputs(*size)
    first, sums = split(x, size[1], weights, (), compiled)
    other, more = split(x, size[1], weights, [one * 1 for one in onto], compiled)  # copies: they may be overwritten
    none, out = split(x, size[1], weights, (), compiled, first=False)
    assert not none
    out = [*first, *other, *(one[:, size[0] // size[1] :] for one in out)]
    for one, rest in zip([*mixed, *mixed], [*sums, *more], strict=True):
        node, _, _ = joined(one, rest, weights[:0, :1], (), compiled)
        assert compiled == ("_Compiled" in type(node.grad_fn).__name__)
        # the second time, the node is of no use but for what is made of it
        for onto_sums, used in (((), True), ([one * 1 for one in onto[1:]], False)):
            node, firsts, later = joined(one, rest, weights[1:, :1], onto_sums, compiled)
            out += [node] * used + firsts + [one[:, size[0] // size[1] :] for one in later]
    return out, [*x, weights, *onto, *mixed]


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_values_and_derivatives(size):
    results = []
    for compiled in (True, False):
        out, given = both_uses(size, compiled)
        first = torch.autograd.grad(out, given, output_grads(out), retain_graph=True)
        squares = [one.square() for one in out]
        results.append([*out, *first, *second_derivatives(squares, given)])
    agree(results[0], results[1], 1e-11)


def test_any_number_of_threads():
    def compute() -> list[Tensor]:
        out, given = both_uses(SIZES[1], True)
        return [*out, *torch.autograd.grad(out, given, output_grads(out))]

    same_for_any_number_of_threads(compute)
