"""Kernels of edges (pooling, separable, nasbench201_edges) equal PyTorch: values, derivatives, sizes, threads, nan."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
from helpers.agreement import SIZES, agree, output_grads, same_for_any_number_of_threads, second_derivatives
from torch import Tensor

from hdarts.kernels import nasbench201_edges
from hdarts.kernels.bindings import load_kernel
from hdarts.kernels.pooling import Pooling
from hdarts.kernels.separable import BlockWeights, Separable
from hdarts.runs.randomness import generator
from hdarts.space.operations import blocks

NAMES = ("sep_conv_3x3", "sep_conv_5x5", "dil_conv_3x3", "dil_conv_5x5")
EDGE_SIZES = [
    # channels, nodes, images, (height, width)
    (2, 1, 3, (3, 2)),
    (3, 3, 2, (7, 9)),
    (8, 2, 4, (8, 8)),
    (5, 2, 3, (5, 1)),
    (19, 3, 3, (9, 4)),
    (4, 2, 5, (1, 1)),
    (5, 2, 9, (6, 5)),  # several images at a time, fewer in the last group
    (3, 2, 2, (35, 34)),  # more tiles than one group has
    (33, 2, 2, (6, 6)),
]


class Case(NamedTuple):
    """Two implementations as functions of the inputs and of the nodes that they add to."""

    by_kernel: Callable[[Sequence[Tensor], Sequence[Tensor]], Sequence[Tensor]]
    in_pytorch: Callable[[Sequence[Tensor]], Sequence[Tensor]]
    inputs: list[Tensor]
    nodes: list[Tensor]
    first_source: int

    def both(self) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
        ours = self.by_kernel(self.inputs, [node * 1 for node in self.nodes])  # copies: they may be overwritten
        theirs = self.in_pytorch(self.inputs)
        if self.nodes:
            theirs = [node + more for node, more in zip(self.nodes, theirs, strict=True)]
        return ours, theirs


def normal(draw: torch.Generator, dtype: torch.dtype, *shape: int) -> Tensor:
    values = torch.randn(shape, generator=draw, dtype=dtype)
    return (values.contiguous(memory_format=torch.channels_last) if len(shape) == 4 else values).requires_grad_()


def pooling(channels, sources, nodes, stride, images, size, dtype=torch.float64) -> Case:
    draw, spec = generator(0), Pooling(sources, nodes, stride)
    after = [(length - 1) // stride + 1 for length in size]
    mixing = normal(draw, dtype, nodes, len(spec.operations), sources)
    x = [normal(draw, dtype, images, channels, *size) for _ in range(sources)]
    onto = [normal(draw, dtype, images, channels, *after) for _ in range(nodes)]
    return Case(lambda i, onto: spec(i[1:], i[0], onto), lambda i: spec.in_pytorch(i[1:], i[0]), [mixing, *x], onto, 1)


def split(spec: Separable, inputs: Sequence[Tensor]) -> tuple[list[Tensor], list[BlockWeights]]:
    """Return the sources, and the weights of the blocks."""
    flat = inputs[spec.sources :]
    return list(inputs[: spec.sources]), [BlockWeights(*flat[i : i + 4]) for i in range(0, len(flat), 4)]


def separable_inputs(channels, sources, nodes, stride, images, size, dtype=torch.float64):
    """Return the sources, then convolutions, gamma and beta of each block."""
    draw, edges = generator(0), sources * nodes
    operations = tuple(blocks(name, stride) for name in NAMES)
    inputs = [normal(draw, dtype, images, channels, *size) for _ in range(sources)]
    for block in (block for operation in operations for block in operation):
        for convolution in block.convolutions:
            out, *rest = convolution.shape(channels, channels)
            weight = torch.randn(edges * out, *rest, generator=draw, dtype=dtype) / rest[0] ** 0.5
            inputs.append(weight.requires_grad_())
        for _ in range(2):
            inputs.append((torch.rand(edges * channels, generator=draw, dtype=dtype) + 0.5).requires_grad_())
    return Separable(sources, nodes, operations), inputs


def separable(*size, dtype=torch.float64) -> Case:
    spec, inputs = separable_inputs(*size, dtype=dtype)
    return Case(lambda i, _: spec(*split(spec, i)), lambda i: spec.in_pytorch(*split(spec, i)), inputs, [], 0)


def edges(channels, nodes, images, size, dtype=torch.float64) -> Case:
    draw = generator(0)
    kernels = [(nodes * channels, channels, k, k) for k in (1, 3)]
    weights = normal(draw, dtype, nodes, 5)
    convolutions = [torch.randn(shape, generator=draw, dtype=dtype).requires_grad_() for shape in kernels]
    x = normal(draw, dtype, images, channels, *size)
    onto = [normal(draw, dtype, images, channels, *size) for _ in range(nodes)]
    return Case(
        lambda i, onto: nasbench201_edges.mixed(i[1], i[2:], i[0], onto),
        lambda i: nasbench201_edges.in_pytorch(i[1], i[2:], i[0]),
        [weights, x, *convolutions], onto, 1,
    )  # fmt: skip


KERNELS = {
    "pooling": (pooling, [*SIZES, (8, 2, 1, 1, 5, (1, 1))], [[0], [1], [0, 2]]),
    "separable": (
        separable,
        [*SIZES, (8, 2, 1, 1, 5, (6, 5)), (40, 1, 2, 1, 2, (4, 4)), (5, 1, 2, 1, 2, (3, 27))],  # 27 = 2 * 8 + 2 * 4 + 3
        [[0], [1], [0, 1], [2, 5], [4], [8, 24]],  # 4, 8 and 24: scales of a first and of last blocks
    ),
    "nasbench201_edges": (edges, EDGE_SIZES, [[0], [1], [2], [0, 3], [1, 2]]),
}
SIZED = [(name, size) for name, (_, sizes, _) in KERNELS.items() for size in sizes]
SECOND = [(name, size) for name, (_, sizes, _) in KERNELS.items() for size in sizes[1:4]]
SUBSETS = [(name, needed) for name, (_, _, subsets) in KERNELS.items() for needed in subsets]

every_kernel = pytest.mark.parametrize("name", KERNELS)
adding = pytest.mark.parametrize("name", ["pooling", "nasbench201_edges"])


def case(name: str, index: int) -> Case:
    make, sizes, _ = KERNELS[name]
    return make(*sizes[index])


@pytest.fixture(autouse=True)
def compiler():
    for name in KERNELS:
        if load_kernel(name, 4, torch.zeros(1)) is None:
            pytest.skip("there is no C compiler (with OpenMP) here: PyTorch's implementation is the only one")


@pytest.mark.parametrize(("name", "size"), SIZED, ids=str)
@pytest.mark.parametrize(("dtype", "accuracy"), [(torch.float64, 1e-11), (torch.float32, 1e-4)], ids=str)
def test_values_and_gradients(name, size, dtype, accuracy):
    one = KERNELS[name][0](*size, dtype=dtype)
    ours, theirs = one.both()
    assert "_Compiled" in type(ours[0].grad_fn).__name__
    agree(ours, theirs, accuracy)
    g, free = output_grads(theirs), [*one.inputs, *one.nodes]
    agree(torch.autograd.grad(ours, free, g), torch.autograd.grad(theirs, free, g), accuracy)


@pytest.mark.parametrize(("name", "size"), SECOND, ids=str)
def test_second_derivatives(name, size):
    one = KERNELS[name][0](*size)
    ours, theirs = (second_derivatives(out, one.inputs) for out in one.both())
    agree(ours, theirs, 1e-10)


@pytest.mark.parametrize(("name", "needed"), SUBSETS, ids=str)
def test_gradients_in_some_inputs_alone(name, needed):
    one = case(name, 1)
    for i, tensor in enumerate(one.inputs):
        tensor.requires_grad_(i in needed)
    ours, theirs = one.both()
    some, g = [one.inputs[i] for i in needed], output_grads(ours)
    agree(torch.autograd.grad(ours, some, g), torch.autograd.grad(theirs, some, g), 1e-11)


@pytest.mark.parametrize("whole", [True, False])
@every_kernel
def test_threads_change_only_rounding_and_bits_repeat(name, whole):
    index = 2 if name == "nasbench201_edges" else 3
    one = case(name, index) if whole else without(name, KERNELS[name][1][index], few=False)

    def compute():
        out = one.both()[0]
        return [*out, *torch.autograd.grad(out, one.inputs, output_grads(out))]

    same_for_any_number_of_threads(compute)


@every_kernel
def test_nan_propagates(name):
    one = case(name, 1)
    x = one.inputs[one.first_source] = one.inputs[one.first_source].detach().clone()
    x[0, 0, 0, 0] = float("nan")
    assert all(bool(node.isnan().any()) for node in one.both()[0])


@adding
def test_nodes_that_are_not_channels_last_are_computed_by_pytorch(name):
    one = case(name, 1)
    out = one.by_kernel(one.inputs, [node.contiguous() for node in one.nodes])
    assert "_Compiled" not in type(out[0].grad_fn).__name__


def test_the_first_of_equal_maxima_gets_the_gradient():
    one = case("pooling", 1)
    with torch.no_grad():
        for x in one.inputs[1:]:
            x.copy_(x.round())
    ours, theirs = one.both()
    g = output_grads(theirs)
    agree(torch.autograd.grad(ours, one.inputs, g), torch.autograd.grad(theirs, one.inputs, g), 1e-11)


# --- what is left out ------------------------------------------------------------------------------------------------


def without(name: str, size: tuple, few: bool) -> Case:
    """Return a case in which about half, or one in eight, of the weights of operations are 0 and left out."""
    one, draw = KERNELS[name][0](*size), generator(7)
    which = [0] if name != "separable" else [i for i, t in enumerate(one.inputs) if i >= size[1] and t.dim() == 1]
    masks = {i: torch.rand(one.inputs[i].shape, generator=draw) < (0.125 if few else 0.5) for i in which}
    if name == "pooling":
        spec = Pooling(*size[1:4], sparse=True)
        one = one._replace(by_kernel=lambda i, onto: spec(i[1:], i[0], onto))
    elif name == "nasbench201_edges":
        mixed = nasbench201_edges.mixed
        one = one._replace(by_kernel=lambda i, onto: mixed(i[1], i[2:], i[0], onto, sparse=True))
    else:
        spec, _ = separable_inputs(*size)
        active = torch.rand(len(NAMES), spec.sources * spec.nodes, generator=draw) < (0.125 if few else 0.5)
        each = [row for row, blocks in zip(active, spec.operations, strict=True) for _ in blocks for _ in range(2)]
        masks = {i: row.repeat_interleave(size[0]) for i, row in zip(which, each, strict=True)}
        one = one._replace(by_kernel=lambda i, _: spec(*split(spec, i), active.tolist()))
    with torch.no_grad():
        for i, mask in masks.items():
            one.inputs[i].mul_(mask)
    dense = one.in_pytorch
    return one._replace(in_pytorch=lambda inputs: dense([t * masks.get(i, 1) for i, t in enumerate(inputs)]))


@pytest.mark.parametrize("few", [False, True])
@pytest.mark.parametrize(("name", "size"), SIZED, ids=str)
def test_weights_of_zero(name, size, few):
    one = without(name, size, few)
    ours, theirs = one.both()
    agree(ours, theirs, 1e-11)
    g, free = output_grads(theirs), [*one.inputs, *one.nodes]
    agree(torch.autograd.grad(ours, free, g), torch.autograd.grad(theirs, free, g), 1e-11)


# --- separable alone -------------------------------------------------------------------------------------------------


def test_images_that_are_not_channels_last_and_weights_that_are_views():
    spec, inputs = separable_inputs(*SIZES[1])
    views = [one.detach().flip(0).flip(0).mT.contiguous().mT if one.dim() > 1 else one.detach() for one in inputs]
    x, weights = split(spec, views)
    agree(spec([one.contiguous() for one in x], weights), spec.in_pytorch(*split(spec, inputs)), 1e-11)


def test_blocks_without_gamma_and_beta_and_their_statistics():
    spec, inputs = separable_inputs(*SIZES[2])
    x, weights = split(spec, inputs)
    bare = [BlockWeights(depth, point, None, beta if i % 2 else None)
            for i, (depth, point, _, beta) in enumerate(weights)]  # fmt: skip
    kernel = spec.kernel(x)
    assert kernel is not None
    nodes, statistics = spec.with_statistics(kernel, x, bare)
    agree(nodes, spec.in_pytorch(x, bare), 1e-11)
    needed = [one for block in bare for one in block if one is not None]
    g = output_grads(nodes)
    theirs = torch.autograd.grad(spec.in_pytorch(x, bare), needed, g)
    agree(torch.autograd.grad(nodes, needed, g), theirs, 1e-11)
    each = torch.cat([part for part in map(F.relu, x) for _ in range(2)], 1)
    first = F.conv2d(each, bare[0].depthwise, stride=2, padding=1, groups=16)
    first = F.conv2d(first, bare[0].pointwise, groups=4)
    mean, rstd = statistics[0]
    agree([mean, rstd], [first.mean((0, 2, 3)), (first.var((0, 2, 3), correction=0) + 1e-5).rsqrt()], 1e-11)


def test_other_types_are_computed_by_pytorch():
    spec, inputs = separable_inputs(*SIZES[2])
    halves = [one.detach().bfloat16().requires_grad_() for one in inputs]
    assert "_Compiled" not in type(spec(*split(spec, halves))[0].grad_fn).__name__


def test_one_value_per_channel_has_no_variance_in_either_implementation():
    spec, inputs = separable_inputs(4, 1, 2, 2, 1, (2, 2))
    for compute in (spec, spec.in_pytorch):
        with pytest.raises(ValueError, match="more than 1 value per channel"):
            compute(*split(spec, inputs))
