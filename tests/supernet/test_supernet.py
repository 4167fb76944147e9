"""The supernet is the plain network, edge by edge and operation by operation (benchmarks/reference.py), only faster."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from helpers.agreement import agree, derivatives
from torch import Tensor, nn

from benchmarks.reference import PlainSupernet
from hdarts.errors import ParameterError
from hdarts.network import Cell, EvaluationNetwork
from hdarts.runs.randomness import generator
from hdarts.space import DARTS, NASBENCH201, SPACES, CellPlan, Genotype, SearchSpace, discretise, one_hot_alpha
from hdarts.supernet import Supernet

SIZES = [
    # channels, layers, batch, (height, width), image channels
    (4, 3, 4, (8, 8), 1),
    (2, 5, 3, (15, 17), 3),
    (3, 4, 3, (7, 9), 3),
    (2, 8, 2, (32, 32), 3),
]


class Case:
    def __init__(self, channels, layers, batch, size, image_channels, dtype=torch.float64, compiled=True):
        self.net = Supernet(DARTS, channels, layers, 10, image_channels)
        self.net.compiled = compiled
        draw = generator(0)
        self.w = self.net.initial_w(draw).to(dtype)
        self.alpha = torch.randn(DARTS.alpha_shape, generator=draw, dtype=dtype)
        self.x = torch.randn(batch, image_channels, *size, generator=draw, dtype=dtype)
        self.y = torch.randint(10, (batch,), generator=draw)
        self.plain = PlainSupernet(channels, layers, 10, image_channels).to(dtype)
        self.plain.load(self.net.layout, self.w)

    def loss(self, w: Tensor, alpha: Tensor) -> Tensor:
        return F.cross_entropy(self.net(self.x, w, alpha), self.y)

    def plain_loss(self, w: Tensor, alpha: Tensor) -> Tensor:
        names = self.plain.layout_names()
        named = {names[name]: value for name, value in self.net.unpack(w).items()}
        logits = torch.func.functional_call(self.plain, named, (self.x, alpha.softmax(-1)))
        return F.cross_entropy(logits, self.y)


both_implementations = pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "pytorch"])


@both_implementations
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_loss_gradients_and_hessian_products_are_those_of_the_plain_network(size, compiled):
    case = Case(*size, compiled=compiled)
    ours, plain = (derivatives(loss, case.w, case.alpha) for loss in (case.loss, case.plain_loss))
    agree(ours, plain, 1e-10)


@both_implementations
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_gradients_alone_are_those_of_the_plain_network(size, compiled):
    """Without a graph for second derivatives, as in every step of a search."""
    case = Case(*size, compiled=compiled)
    w, alpha = case.w.requires_grad_(), case.alpha.requires_grad_()
    pairs = [torch.autograd.grad(loss(w, alpha), (w, alpha)) for loss in (case.loss, case.plain_loss)]
    for ours, plain in zip(*pairs, strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-10, atol=1e-10 * float(plain.abs().max()))


@both_implementations
@pytest.mark.parametrize("size", SIZES[:2], ids=str)
def test_single_precision_agrees_to_four_digits(size, compiled):
    case = Case(*size, dtype=torch.float32, compiled=compiled)
    w, alpha = case.w.requires_grad_(), case.alpha.requires_grad_()
    ours = torch.autograd.grad(case.loss(w, alpha), (w, alpha))
    plain = torch.autograd.grad(case.plain_loss(w, alpha), (w, alpha))
    for one, other in zip(ours, plain, strict=True):
        assert (one - other).norm() < 1e-4 * other.norm()


@pytest.mark.parametrize(
    ("channels", "nodes", "stem"),
    [
        *((c, n, "cifar") for c in range(1, 8) for n in range(1, 6)),
        (2, 2, "imagenet"),
        (6, 4, "imagenet"),
        (3, 8, "cifar"),
    ],
)
@both_implementations
def test_one_hot_weights_are_the_evaluation_network_of_the_cell(channels, nodes, stem, compiled):
    """With the supernet's weights, and its BatchNorm after pooling."""
    named = {4: DARTS, 8: SPACES["single-cell"]}
    space = named[nodes] if nodes in named else replace(DARTS, name="other", nodes=nodes, outputs=nodes)
    net, draw = Supernet(space, channels, 4, 10, stem=stem), generator(nodes, channels)
    net.compiled = compiled
    w = net.initial_w(draw).double()
    cell = discretise(torch.randn(space.alpha_shape, generator=draw), space)
    network = EvaluationNetwork(cell, channels, 4, 10, auxiliary=False, stem=stem)
    take_weights(network, net.unpack(w), net.cells, cell)
    size = (13, 16) if stem == "cifar" else (61, 75)
    images = torch.randn(3, 3, *size, generator=draw, dtype=torch.float64)
    expected = network.double().train()(images)[0]
    torch.testing.assert_close(net(images, w, one_hot_alpha(cell).double()), expected, rtol=1e-9, atol=1e-9)


@torch.no_grad()
def take_weights(network: EvaluationNetwork, named: dict[str, Tensor], plans: list[CellPlan], cell: Genotype) -> None:
    """Copy the weights of a supernet into the network of a cell."""
    for part in (name for name in named if name.startswith(("stem.", "classifier."))):
        network.get_parameter(part).copy_(named[part])
    for k, (module, plan) in enumerate(zip(network.cells, plans, strict=True)):
        assert isinstance(module, Cell)
        parts: dict[str, nn.Module] = {f"preprocess{i}": getattr(module, f"preprocess{i}") for i in (0, 1)}
        for e, ((operation, source), node) in enumerate(zip(cell.cells[plan.kind], cell.space.targets, strict=True)):
            parts[f"{source}-{node}.{operation}"] = module.edges[e]
            if "pool" in operation:
                module.edges[e] = nn.Sequential(module.edges[e], nn.BatchNorm2d(plan.channels))
        for part, inside in parts.items():
            kernels = (weight for weight in inside.parameters() if weight.dim() == 4)
            for i, kernel in enumerate(kernels):
                kernel.copy_(named[f"cells.{k}.{part}.{i}"])


@pytest.mark.parametrize("compiled", [True, False])
def test_alpha_of_higher_precision_than_the_weights_is_rounded(compiled):
    net = Supernet(NASBENCH201, 4, 1, 10, 1)
    net.compiled = compiled
    w, images = net.initial_w(generator(0, "w")), torch.randn(4, 1, 8, 8, generator=generator(0, "images"))
    alpha = torch.randn(NASBENCH201.alpha_shape, generator=generator(0, "alpha"))
    assert torch.allclose(net(images, w, alpha.double()), net(images, w, alpha), rtol=1e-5, atol=1e-6)


def test_counts_are_those_of_the_thesis():
    net = Supernet(DARTS, 16, 8, 10)
    assert net.n_w == 1_930_618 and net.n_cell_w == [1_223_040, 608_128]
    assert [len(net.convolution_shapes(kind)) for kind in (0, 1)] == [1008, 368]
    # one hypernetwork per kind with biases, and the weights outside the cells: the thesis's 207 million
    assert 113 * sum(net.n_cell_w) + net.n_w - sum(net.n_cell_w) == 207_021_434


def test_w_is_normal_cells_reduction_cells_rest():
    net = Supernet(DARTS, 4, 6, 10)
    kinds = [net.cells[int(n.split(".")[1])].kind for n in net.layout.names if n[:5] == "cells" and "pre" not in n]
    assert kinds == sorted(kinds) and set(kinds) == {"normal", "reduce"}
    named = net.unpack(torch.arange(net.n_w, dtype=torch.float64))
    assert torch.equal(net.pack(named), torch.arange(net.n_w, dtype=torch.float64))
    assert named["cells.0.0-2.sep_conv_3x3.1"].shape == (4, 4, 1, 1)
    assert named["cells.2.0-2.skip_connect.0"].shape == (4, 8, 1, 1)
    outside = {n.split(".")[0] if n[:5] != "cells" else "preprocess" for n in net.layout.names[len(kinds) :]}
    assert outside == {"stem", "preprocess", "classifier"}
    # each generated weight is a contiguous view, and shapes come in the order of w
    shapes = [shape for kind in (0, 1) for shape in net.convolution_shapes(kind)]
    assert shapes == list(net.layout.shapes[: len(kinds)]) and all(t.is_contiguous() for t in named.values())


def test_weights_are_initialised_like_layers_of_torch():
    net = Supernet(DARTS, 8, 3, 10)
    named = net.unpack(net.initial_w(generator(0)))
    for name, bound in (("cells.0.0-2.sep_conv_5x5.0", 1 / 5), ("cells.0.0-2.sep_conv_5x5.1", 8**-0.5)):
        assert 0.8 * bound < named[name].abs().max() <= bound
    assert (named["stem.1.weight"] == 1).all() and not named["stem.1.bias"].any()


def test_wrong_input_is_refused():
    with pytest.raises(ParameterError, match="layers = 2"):
        Supernet(DARTS, 4, 2, 10)
    with pytest.raises(ParameterError, match="channels = 0"):
        Supernet(DARTS, 0, 3, 10)
    with pytest.raises(ParameterError, match="space other: kinds has to be"):
        Supernet(SearchSpace("other", ("cell",), 1, 3, ("none", "skip_connect"), 1, 1), 4, 3, 10)
    net = Supernet(DARTS, 2, 3, 10, 1)
    w = net.initial_w(generator(0))
    with pytest.raises(ParameterError, match="mixture weights of shape"):
        net.mixture(torch.zeros(2, 1, 8, 8), w, torch.zeros(1, 6, 5))
    with pytest.raises(ValueError, match="does not fit the layout"):
        net(torch.zeros(2, 1, 8, 8), w[:-1], torch.zeros(DARTS.alpha_shape))
