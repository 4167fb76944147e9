"""Both implementations of hdarts.kernels.nasbench201_edges agree: values, gradients, second derivatives, all sizes."""

import pytest
import torch
from helpers.agreement import agree, second_derivatives, slopes, the_same_for_any_number_of_threads

from hdarts.kernels.bindings import load_kernel
from hdarts.kernels.nasbench201_edges import in_pytorch, mixed
from hdarts.runs.randomness import generator

SIZES = [
    # channels, nodes, images, (height, width)
    (2, 1, 3, (3, 2)),
    (3, 3, 2, (7, 9)),
    (8, 2, 4, (8, 8)),
    (5, 2, 3, (5, 1)),
    (19, 3, 3, (9, 4)),
    (4, 2, 5, (1, 1)),
    (5, 2, 9, (6, 5)),  # several images at a time, the last few fewer
    (3, 2, 2, (21, 18)),  # more tiles than go together
    (33, 2, 2, (6, 6)),
]


@pytest.fixture(autouse=True)
def compiler():
    if load_kernel("nasbench201_edges", 4, torch.zeros(1)) is None:
        pytest.skip("there is no C compiler (with OpenMP) here: PyTorch's road is the only one")


def case(channels, nodes, images, size, dtype=torch.float64):
    """Weights, x and its two convolutions; and what the nodes hold before."""
    draw = generator(0)

    def maps(width):
        made = torch.randn(images, width, *size, generator=draw, dtype=dtype)
        return made.contiguous(memory_format=torch.channels_last).requires_grad_()

    weights = torch.randn(nodes, 5, generator=draw, dtype=dtype).requires_grad_()
    kernels = [
        torch.randn(nodes * channels, channels, size, size, generator=draw, dtype=dtype).requires_grad_()
        for size in (1, 3)
    ]
    inputs = [weights, maps(channels), *kernels]
    return inputs, [maps(channels) for _ in range(nodes)]


def both(inputs, onto):
    weights, x, *convolved = inputs
    ours = mixed(x, convolved, weights, [one * 1 for one in onto])  # given away: a tensor of its own
    return ours, [one + more for one, more in zip(onto, in_pytorch(x, convolved, weights), strict=True)]


@pytest.mark.parametrize("of", SIZES, ids=str)
@pytest.mark.parametrize(("dtype", "accuracy"), [(torch.float64, 1e-11), (torch.float32, 1e-4)], ids=str)
def test_values_and_gradients(of, dtype, accuracy):
    inputs, onto = case(*of, dtype=dtype)
    ours, theirs = both(inputs, onto)
    assert "_Compiled" in type(ours[0].grad_fn).__name__
    agree(ours, theirs, accuracy)
    g = slopes(theirs)
    agree(torch.autograd.grad(ours, inputs + onto, g), torch.autograd.grad(theirs, inputs + onto, g), accuracy)


@pytest.mark.parametrize("of", SIZES[1:4], ids=str)
def test_second_derivatives(of):
    inputs, onto = case(*of)
    ours, theirs = (second_derivatives(out, inputs) for out in both(inputs, onto))
    agree(ours, theirs, 1e-10)


@pytest.mark.parametrize("wanted", [[0], [1], [2], [0, 3], [1, 2]], ids=str)
def test_gradients_in_some_inputs_alone(wanted):
    inputs, onto = case(*SIZES[1])
    for i, one in enumerate(inputs):
        one.requires_grad_(i in wanted)
    ours, theirs = both(inputs, onto)
    some = [inputs[i] for i in wanted]
    agree(torch.autograd.grad(ours, some, slopes(ours)), torch.autograd.grad(theirs, some, slopes(ours)), 1e-11)


def test_any_number_of_threads_and_the_same_bits_each_time():
    inputs, onto = case(*SIZES[2])

    def compute():
        out, _ = both(inputs, onto)
        return [*out, *torch.autograd.grad(out, inputs, slopes(out))]

    the_same_for_any_number_of_threads(compute)


def test_nan_comes_through():
    (weights, x, *convolved), onto = case(*SIZES[1])
    x = x.detach().clone()
    x[0, 0, 0, 0] = float("nan")
    assert all(bool(node.isnan().any()) for node in mixed(x, convolved, weights, [one * 1 for one in onto]))


def test_nodes_that_are_not_channels_last_take_the_road_of_pytorch():
    (weights, x, *convolved), onto = case(*SIZES[1])
    out = mixed(x, convolved, weights, [one.contiguous() for one in onto])
    assert "_Compiled" not in type(out[0].grad_fn).__name__
