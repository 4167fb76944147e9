"""Both implementations of hdarts.kernels.pooling agree: values, gradients, second derivatives, all sizes."""

import pytest
import torch
from helpers.agreement import SIZES, agree, second_derivatives, slopes, the_same_for_any_number_of_threads

from hdarts.kernels.bindings import load_kernel
from hdarts.kernels.pooling import Pooling
from hdarts.runs.randomness import generator

CASES = [*SIZES, (8, 2, 1, 1, 5, (1, 1))]


@pytest.fixture(autouse=True)
def compiler():
    if load_kernel("pooling", 4, torch.zeros(1)) is None:
        pytest.skip("there is no C compiler (with OpenMP) here: PyTorch's road is the only one")


def case(channels, sources, nodes, stride, images, size, dtype=torch.float64):
    """Mixing and sources, and what the nodes hold before."""
    draw, pooling = generator(0), Pooling(sources, nodes, stride)
    after = [(length - 1) // stride + 1 for length in size]
    mixing = torch.randn(nodes, len(pooling.operations), sources, generator=draw, dtype=dtype)
    x = [torch.randn(images, channels, *size, generator=draw, dtype=dtype) for _ in range(sources)]
    onto = [torch.randn(images, channels, *after, generator=draw, dtype=dtype) for _ in range(nodes)]
    x, onto = ([one.contiguous(memory_format=torch.channels_last) for one in many] for many in (x, onto))
    return pooling, [one.requires_grad_() for one in (mixing, *x)], [one.requires_grad_() for one in onto]


def both(pooling, inputs, onto):
    mixing, *x = inputs
    ours = pooling(x, mixing, [one * 1 for one in onto])  # given away: a tensor of its own
    return ours, [one + more for one, more in zip(onto, pooling.in_pytorch(x, mixing), strict=True)]


@pytest.mark.parametrize("of", CASES, ids=str)
@pytest.mark.parametrize(("dtype", "accuracy"), [(torch.float64, 1e-11), (torch.float32, 1e-4)], ids=str)
def test_values_and_gradients(of, dtype, accuracy):
    pooling, inputs, onto = case(*of, dtype=dtype)
    ours, theirs = both(pooling, inputs, onto)
    assert "_Compiled" in type(ours[0].grad_fn).__name__
    agree(ours, theirs, accuracy)
    g = slopes(theirs)
    agree(torch.autograd.grad(ours, inputs + onto, g), torch.autograd.grad(theirs, inputs + onto, g), accuracy)


@pytest.mark.parametrize("of", CASES[1:4], ids=str)
def test_second_derivatives(of):
    pooling, inputs, onto = case(*of)
    ours, theirs = (second_derivatives(out, inputs) for out in both(pooling, inputs, onto))
    agree(ours, theirs, 1e-10)


def test_of_equal_maxima_the_first_has_the_gradient():
    pooling, inputs, onto = case(*CASES[1])
    with torch.no_grad():
        for one in inputs[1:]:
            one.copy_(one.round())
    ours, theirs = both(pooling, inputs, onto)
    g = slopes(theirs)
    agree(torch.autograd.grad(ours, inputs, g), torch.autograd.grad(theirs, inputs, g), 1e-11)


@pytest.mark.parametrize("wanted", [[0], [1], [0, 2]], ids=str)
def test_gradients_in_some_inputs_alone(wanted):
    pooling, inputs, onto = case(*CASES[1])
    for i, one in enumerate(inputs):
        one.requires_grad_(i in wanted)
    ours, theirs = both(pooling, inputs, onto)
    some = [inputs[i] for i in wanted]
    agree(torch.autograd.grad(ours, some, slopes(ours)), torch.autograd.grad(theirs, some, slopes(ours)), 1e-11)


def test_any_number_of_threads_and_the_same_bits_each_time():
    pooling, inputs, onto = case(*CASES[3])

    def compute():
        out, _ = both(pooling, inputs, onto)
        return [*out, *torch.autograd.grad(out, inputs, slopes(out))]

    the_same_for_any_number_of_threads(compute)


def test_nan_comes_through():
    pooling, (mixing, *x), onto = case(*CASES[1])
    x[0] = x[0].detach().clone()
    x[0][0, 0, 0, 0] = float("nan")
    assert all(bool(node.isnan().any()) for node in pooling(x, mixing, [one * 1 for one in onto]))


def test_nodes_that_are_not_channels_last_take_the_road_of_pytorch():
    pooling, (mixing, *x), onto = case(*CASES[1])
    out = pooling(x, mixing, [one.contiguous() for one in onto])
    assert "_Compiled" not in type(out[0].grad_fn).__name__
