"""Both implementations of hdarts.kernels.separable agree: values, gradients, second derivatives, all sizes."""

import pytest
import torch
import torch.nn.functional as F
from helpers.agreement import SIZES, agree, second_derivatives, slopes, the_same_for_any_number_of_threads

from hdarts.kernels.bindings import load_kernel
from hdarts.kernels.separable import BlockWeights, Separable
from hdarts.runs.randomness import generator
from hdarts.space.operations import blocks

NAMES = ("sep_conv_3x3", "sep_conv_5x5", "dil_conv_3x3", "dil_conv_5x5")
CASES = [*SIZES, (8, 2, 1, 1, 5, (6, 5)), (40, 1, 2, 1, 2, (4, 4))]


@pytest.fixture(autouse=True)
def compiler():
    if load_kernel("separable", 4, torch.zeros(1)) is None:
        pytest.skip("there is no C compiler (with OpenMP) here: PyTorch's road is the only one")


def case(
    channels: int, sources: int, nodes: int, stride: int, images: int, size: tuple[int, int], dtype=torch.float64
) -> tuple[Separable, list[torch.Tensor]]:
    """The sources, then for each block its convolutions, gamma and beta."""
    draw, edges = generator(0), sources * nodes
    operations = tuple(blocks(name, stride) for name in NAMES)
    x = [torch.randn(images, channels, *size, generator=draw, dtype=dtype) for _ in range(sources)]
    inputs = [one.contiguous(memory_format=torch.channels_last) for one in x]
    for block in (block for operation in operations for block in operation):
        for convolution in block.convolutions:
            out, *rest = convolution.shape(channels, channels)
            inputs.append(torch.randn(edges * out, *rest, generator=draw, dtype=dtype) / rest[0] ** 0.5)
        inputs += [torch.rand(edges * channels, generator=draw, dtype=dtype) + 0.5 for _ in range(2)]
    return Separable(sources, nodes, operations), [one.requires_grad_() for one in inputs]


def parts(separable, inputs):
    """The sources, and the weights of the blocks."""
    x, flat = inputs[: separable.sources], inputs[separable.sources :]
    return x, [BlockWeights(*flat[i : i + 4]) for i in range(0, len(flat), 4)]


def both(separable, inputs):
    return separable(*parts(separable, inputs)), separable.in_pytorch(*parts(separable, inputs))


@pytest.mark.parametrize("of", CASES, ids=str)
@pytest.mark.parametrize(("dtype", "accuracy"), [(torch.float64, 1e-11), (torch.float32, 1e-4)], ids=str)
def test_values_and_gradients(of, dtype, accuracy):
    separable, inputs = case(*of, dtype=dtype)
    ours, theirs = both(separable, inputs)
    assert "_Compiled" in type(ours[0].grad_fn).__name__
    agree(ours, theirs, accuracy)
    g = slopes(theirs)
    agree(torch.autograd.grad(ours, inputs, g), torch.autograd.grad(theirs, inputs, g), accuracy)


@pytest.mark.parametrize("of", CASES[1:4], ids=str)
def test_second_derivatives(of):
    separable, inputs = case(*of)
    ours, theirs = (second_derivatives(out, inputs) for out in both(separable, inputs))
    agree(ours, theirs, 1e-10)


@pytest.mark.parametrize("wanted", [[0], [1], [0, 1], [2, 5]], ids=str)
def test_gradients_in_some_inputs_alone(wanted):
    separable, inputs = case(*CASES[1])
    for i, one in enumerate(inputs):
        one.requires_grad_(i in wanted)
    ours, theirs = both(separable, inputs)
    some = [inputs[i] for i in wanted]
    agree(torch.autograd.grad(ours, some, slopes(ours)), torch.autograd.grad(theirs, some, slopes(ours)), 1e-11)


def test_any_number_of_threads_and_the_same_bits_each_time():
    separable, inputs = case(*CASES[3])

    def compute():
        out = separable(*parts(separable, inputs))
        return [*out, *torch.autograd.grad(out, inputs, slopes(out))]

    the_same_for_any_number_of_threads(compute)


def test_nan_comes_through_relu():
    separable, inputs = case(*CASES[1])
    inputs[0] = inputs[0].detach().clone()
    inputs[0][0, 0, 0, 0] = float("nan")
    assert all(bool(node.isnan().any()) for node in separable(*parts(separable, inputs)))


def test_images_that_are_not_channels_last_and_weights_that_are_views():
    separable, inputs = case(*CASES[1])
    views = [one.detach().flip(0).flip(0).mT.contiguous().mT if one.dim() > 1 else one.detach() for one in inputs]
    x, weights = parts(separable, views)
    ours = separable([one.contiguous() for one in x], weights)
    agree(ours, separable.in_pytorch(*parts(separable, inputs)), 1e-11)


def test_blocks_without_gamma_and_beta_and_their_statistics():
    separable, inputs = case(*CASES[2])
    x, weights = parts(separable, inputs)
    bare = [BlockWeights(own.depthwise, own.pointwise, None, own.beta if i % 2 else None)
            for i, own in enumerate(weights)]  # fmt: skip
    made = separable.kernel(x)
    assert made is not None
    nodes, statistics = separable.by(made, x, bare)
    agree(nodes, separable.in_pytorch(x, bare), 1e-11)
    needed = [one for own in bare for one in own if one is not None]
    g = slopes(nodes)
    theirs = torch.autograd.grad(separable.in_pytorch(x, bare), needed, g)
    agree(torch.autograd.grad(nodes, needed, g), theirs, 1e-11)
    each = torch.cat([part for part in map(F.relu, x) for _ in range(2)], 1)
    first = F.conv2d(each, bare[0].depthwise, stride=2, padding=1, groups=16)
    first = F.conv2d(first, bare[0].pointwise, groups=4)
    mean, rstd = statistics[0]
    agree([mean, rstd], [first.mean((0, 2, 3)), (first.var((0, 2, 3), correction=0) + 1e-5).rsqrt()], 1e-11)


def test_other_numbers_take_the_road_of_pytorch():
    separable, inputs = case(*CASES[2])
    halves = [one.detach().bfloat16().requires_grad_() for one in inputs]
    out = separable(*parts(separable, halves))
    assert "_Compiled" not in type(out[0].grad_fn).__name__


def test_one_value_a_channel_has_no_variance_on_either_road():
    separable, inputs = case(4, 1, 2, 2, 1, (2, 2))
    for compute in (separable, separable.in_pytorch):
        with pytest.raises(ValueError, match="more than 1 value per channel"):
            compute(*parts(separable, inputs))
