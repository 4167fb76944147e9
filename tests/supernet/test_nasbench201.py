"""The supernet of NAS-Bench-201 against a plain one in float64, and its skeleton against the benchmark's counts."""

import pytest
import torch
import torch.nn.functional as F
from helpers.agreement import agree, derivatives
from torch import Tensor

from benchmarks.reference_nasbench201 import PlainBenchmarkSupernet, Residual
from hdarts.errors import ParameterError
from hdarts.network import EvaluationNetwork, count_parameters
from hdarts.runs.randomness import generator
from hdarts.space import NASBENCH201, Genotype
from hdarts.supernet import Supernet
from hdarts.supernet.nasbench201 import halved
from hdarts.workbook.analysis.diagnostics.kinks import SmoothActivations

SIZES = [
    # channels, cells per stage, batch, (height, width), image channels
    (4, 1, 4, (8, 8), 1),
    (3, 2, 3, (15, 17), 3),
    (2, 5, 2, (32, 32), 3),
]


class Case:
    def __init__(self, channels, layers, batch, size, image_channels):
        self.net = Supernet(NASBENCH201, channels, layers, 10, image_channels)
        self.plain = PlainBenchmarkSupernet(channels, layers, 10, image_channels).double()
        draw = generator(0)
        self.w = self.net.initial_w(draw).double()
        self.w += 0.1 * torch.randn(len(self.w), generator=draw, dtype=torch.float64)  # no BatchNorm at 1 and 0
        self.alpha = torch.randn(NASBENCH201.alpha_shape, generator=draw, dtype=torch.float64)
        self.x = torch.randn(batch, image_channels, *size, generator=draw, dtype=torch.float64)
        self.y = torch.randint(10, (batch,), generator=draw)

    def plain_logits(self, w: Tensor, weights: Tensor) -> Tensor:
        names = self.plain.layout_names()
        assert names.keys() == set(self.net.layout.names)
        named = {names[name]: value for name, value in self.net.unpack(w).items()}
        return torch.func.functional_call(self.plain, named, (self.x, weights))

    def loss(self, w: Tensor, alpha: Tensor) -> Tensor:
        return F.cross_entropy(self.net(self.x, w, alpha), self.y)

    def plain_loss(self, w: Tensor, alpha: Tensor) -> Tensor:
        return F.cross_entropy(self.plain_logits(w, alpha.softmax(-1)), self.y)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_loss_gradients_and_hessian_products_are_those_of_the_plain_network(size):
    case = Case(*size)
    ours, plain = (derivatives(loss, case.w, case.alpha) for loss in (case.loss, case.plain_loss))
    agree(ours, plain, 1e-10)


def test_pytorchs_operators_alone_give_the_same():
    """They compute second derivatives and, without a compiler, everything."""
    case = Case(*SIZES[1])
    ours = derivatives(case.loss, case.w, case.alpha)
    case.net.compiled = False
    agree(ours, derivatives(case.loss, case.w, case.alpha), 1e-10)


def test_relu_can_be_replaced_by_a_smooth_function():
    case = Case(*SIZES[0])
    case.net.compiled = False
    with SmoothActivations():
        ours, plain = (derivatives(loss, case.w, case.alpha) for loss in (case.loss, case.plain_loss))
    agree(ours, plain, 1e-10)


def one_hot(genotype: Genotype) -> Tensor:
    chosen = torch.tensor([NASBENCH201.operations.index(operation) for operation, _ in genotype.cell])
    return F.one_hot(chosen, 5).double().unsqueeze(0)


@pytest.mark.parametrize(
    "text",
    [
        "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|",
        "|avg_pool_3x3~0|+|none~0|nor_conv_1x1~1|+|none~0|avg_pool_3x3~1|nor_conv_1x1~2|",
        "|skip_connect~0|+|skip_connect~0|skip_connect~1|+|skip_connect~0|skip_connect~1|skip_connect~2|",
        "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|",
    ],
)
def test_one_hot_weights_are_the_network_of_the_cell_itself(text):
    """The evaluation network, given the supernet's weights: its BatchNorms inside cells start at 1 and 0."""
    genotype, case = Genotype.from_string(text), Case(4, 2, 4, (8, 8), 3)
    network = EvaluationNetwork(genotype, 4, 2, 10, auxiliary=False).double()
    state, named = network.state_dict(), case.net.unpack(case.w)
    for name, value in named.items():
        if (place := network_name(name, genotype)) in state:
            state[place] = value
    network.load_state_dict(state)
    expected, _ = network.train()(case.x)
    torch.testing.assert_close(case.net.mixture(case.x, case.w, one_hot(genotype)), expected, rtol=1e-9, atol=1e-9)


def network_name(name: str, genotype: Genotype) -> str:
    """Name in the evaluation network of a weight of the supernet; "" for an operation that was not chosen."""
    parts = name.split(".")
    if parts[0] != "cells":
        return name
    if "-" in parts[2]:
        edge = [f"{source}-{node}" for source, node in NASBENCH201.edges].index(parts[2])
        return f"cells.{parts[1]}.edges.{edge}.1.weight" if genotype.cell[edge][0] == parts[3] else ""
    if parts[2] == "shortcut":
        return name
    return ".".join((*parts[:3], str(int(parts[3]) + 1), parts[4]))


def test_counts_are_those_of_the_benchmark():
    # the largest cell, 3x3 convolutions everywhere: 1.531546 million weights in NATS-Bench
    largest = Genotype(cell=[("nor_conv_3x3", source) for source, _ in NASBENCH201.edges])
    assert count_parameters(EvaluationNetwork(largest, 16, 5, 10, auxiliary=False)) == 1_531_546
    net = Supernet(NASBENCH201, 16, 5, 10)
    inside = 5 * 6 * 2 * (16 + 32 + 64)  # scales and offsets of BatchNorm, which a supernet's cells do not have
    pointwise = net.n_cell_w[0] // 10
    assert net.n_w == 1_531_546 - inside + pointwise


def test_w_is_cells_then_rest_and_each_weight_is_a_view():
    net = Supernet(NASBENCH201, 4, 2, 10)
    assert [cell.kind for cell in net.cells] == ["cell", "cell", "residual"] * 2 + ["cell", "cell"]
    assert [cell.channels for cell in net.cells] == [4, 4, 8, 8, 8, 16, 16, 16]
    shapes = net.convolution_shapes(0)
    assert shapes == list(net.layout.shapes[: len(shapes)])
    assert len(shapes) == 6 * 6 * 2
    named = net.unpack(torch.arange(net.n_w, dtype=torch.float64))
    assert named["cells.3.1-2.nor_conv_3x3.0"].shape == (8, 8, 3, 3)
    assert all(value.is_contiguous() for value in named.values())
    outside = {name.split(".")[0] for name in net.layout.names[len(shapes) :]}
    assert outside == {"stem", "cells", "last", "classifier"}
    assert not any("-" in name for name in net.layout.names[len(shapes) :])


def test_batch_norms_start_at_one_and_zero():
    named = (net := Supernet(NASBENCH201, 4, 1, 10)).unpack(net.initial_w(generator(0)))
    for name in ("stem.1", "cells.1.a.1", "cells.1.b.1", "last"):
        assert (named[f"{name}.weight"] == 1).all() and not named[f"{name}.bias"].any()
    assert named["classifier.bias"].any()


def test_at_even_sizes_the_shortcut_pools_as_the_benchmark_does():
    x = torch.randn(2, 3, 6, 8, generator=generator(0))
    assert torch.equal(halved(x), Residual(3, 6).pool(x))


def test_the_weight_of_none_changes_nothing():
    case = Case(*SIZES[0])
    weights = torch.rand(1, 6, 5, generator=generator(2), dtype=torch.float64)
    without = weights.clone()
    without[..., 0] = 0
    assert torch.equal(case.net.mixture(case.x, case.w, weights), case.net.mixture(case.x, case.w, without))


def test_wrong_input_is_refused():
    with pytest.raises(
        ParameterError, match="layers = 0: a network of space nasbench201 needs at least 1 cell per stage"
    ):
        Supernet(NASBENCH201, 4, 0, 10)
    net = Supernet(NASBENCH201, 2, 1, 10, 1)
    with pytest.raises(ParameterError, match=r"mixture weights of shape \(2, 14, 8\) are not of space nasbench201"):
        net.mixture(torch.zeros(2, 1, 8, 8), net.initial_w(generator(0)), torch.zeros(2, 14, 8))
