"""What relatives of DARTS add to a supernet, against the definition: edge by edge, operation by operation."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from helpers.agreement import agree
from torch import Tensor

from hdarts.errors import ParameterError
from hdarts.runs.randomness import generator
from hdarts.space import DARTS, NASBENCH201, RESIDUAL
from hdarts.space.operations import Block, blocks
from hdarts.supernet import Mixture, Supernet
from hdarts.supernet.nasbench201 import halved

SMALL = replace(
    DARTS, name="small", nodes=2, outputs=2, operations=("none", "sep_conv_3x3", "max_pool_3x3", "dil_conv_5x5")
)
SPACES = pytest.mark.parametrize("space", [DARTS, SMALL, NASBENCH201], ids=lambda space: space.name)


def norm(x: Tensor) -> Tensor:
    return F.batch_norm(x, None, None, training=True)


def convolved(x: Tensor, block: Block, weights: list[Tensor]) -> Tensor:
    """ReLU, the convolutions of a block, BatchNorm."""
    x = F.relu(x)
    if block.convolutions[0].half:
        shifted = F.pad(x, (0, x.shape[3] % 2, 0, x.shape[2] % 2))[:, :, 1:, 1:]
        return norm(torch.cat([F.conv2d(one, weights.pop(0), stride=2) for one in (x, shifted)], 1))
    for c in block.convolutions:
        x = F.conv2d(x, (w := weights.pop(0)), None, c.stride, c.padding, c.dilation, len(w) if c.depthwise else 1)
    return norm(x)


class Plain:
    """The supernet by its definition, with the weights of `net`."""

    def __init__(self, net: Supernet, w: Tensor, mixture: Mixture):
        self.net, self.named, self.mixture, self.space = net, net.unpack(w), mixture, net.space
        self.benchmark = net.space == NASBENCH201

    def weights(self, prefix: str) -> list[Tensor]:
        return [value for name, value in self.named.items() if name.startswith(f"{prefix}.")]

    def operation(self, name: str, x: Tensor, stride: int, prefix: str) -> Tensor:
        if "pool" in name:
            pooled = F.max_pool2d(x, 3, stride, 1) if "max" in name else None
            pooled = F.avg_pool2d(x, 3, stride, 1, count_include_pad=False) if pooled is None else pooled
            return pooled if self.benchmark else norm(pooled)
        weights = self.weights(f"{prefix}.{name}")
        for block in blocks(name.replace("auxiliary_skip", "skip_connect"), stride):
            x = convolved(x, block, weights)
        return x

    def edge(self, x: Tensor, stride: int, prefix: str, rows: Tensor) -> Tensor:
        total = torch.zeros(())
        for name, weight in zip(self.space.operations, rows, strict=True):
            if name != "none":
                out = self.operation(name, x, stride, prefix)
                if self.mixture.drop is not None and name == "skip_connect" and stride == 1:
                    out = self.mixture.drop(out)
                total = total + weight * out
        if self.mixture.auxiliary is not None:
            total = total + self.mixture.auxiliary * self.operation("auxiliary_skip", x, stride, prefix)
        return total

    def partial(self, x: Tensor, stride: int, prefix: str, rows: Tensor) -> Tensor:
        """One edge: operations on the first channels, the others bypass them, shuffle."""
        groups = self.net.partial_channels
        if groups == 1:
            return self.edge(x, stride, prefix, rows)
        size = x.shape[1] // groups
        out, rest = self.edge(x[:, :size], stride, prefix, rows), rows.sum() * x[:, size:]
        if stride == 2:
            rest = F.max_pool2d(rest, 2, ceil_mode=True)  # the weights of the edge are positive
        both = torch.cat([out.expand(len(x), size, *rest.shape[2:]), rest], 1)
        return torch.stack([both[:, c % groups * size + c // groups] for c in range(x.shape[1])], 1)

    def cell(self, k: int, inputs: list[Tensor]) -> list[Tensor]:
        kind, nodes = self.space.kinds.index(self.net.cells[k].kind), dict(enumerate(inputs))
        for e, (source, node) in enumerate(self.space.edges):
            stride = self.net.cells[k].stride if source < self.space.inputs else 1
            out = self.partial(nodes[source], stride, f"cells.{k}.{source}-{node}", self.mixture.weights[kind, e])
            if self.mixture.offsets is not None:
                out = out + self.mixture.offsets[kind, e]
            nodes[node] = nodes[node] + out if node in nodes else out
        return [*nodes.values()]

    def __call__(self, images: Tensor) -> Tensor:
        named = self.named

        def affine(x: Tensor, name: str) -> Tensor:
            return F.batch_norm(x, None, None, named[f"{name}.weight"], named[f"{name}.bias"], training=True)

        before = x = affine(F.conv2d(images, named["stem.0.weight"], padding=1), "stem.1")
        for k, cell in enumerate(self.net.cells):
            if cell.kind == RESIDUAL:
                inside = affine(
                    F.conv2d(F.relu(x), named[f"cells.{k}.a.0.weight"], stride=2, padding=1), f"cells.{k}.a.1"
                )
                inside = affine(F.conv2d(F.relu(inside), named[f"cells.{k}.b.0.weight"], padding=1), f"cells.{k}.b.1")
                x = inside + F.conv2d(halved(x), named[f"cells.{k}.shortcut.weight"])
            elif self.benchmark:
                x = self.cell(k, [x])[-1]
            else:
                first = blocks("skip_connect", 2)[0] if cell.after_reduction else None
                one, two = self.weights(f"cells.{k}.preprocess0"), self.weights(f"cells.{k}.preprocess1")
                inputs = [
                    convolved(before, first, one) if first else norm(F.conv2d(F.relu(before), one[0])),
                    norm(F.conv2d(F.relu(x), two[0])),
                ]
                before, x = x, torch.cat(self.cell(k, inputs)[2:], 1)
        x = F.relu(affine(x, "last")) if self.benchmark else x
        return F.linear(x.mean((2, 3)), named["classifier.weight"], named["classifier.bias"])


def draw(net: Supernet, *parts: str) -> tuple[Tensor, Tensor, Mixture]:
    """Return images, weights and a mixture with these parts, in float64."""
    rng = generator(3)
    w = net.initial_w(rng).double()
    weights = torch.randn(net.space.alpha_shape, generator=rng, dtype=torch.float64).softmax(-1)
    images = torch.randn(3, 2, 9, 10, generator=rng, dtype=torch.float64)
    every: dict = {
        "offsets": torch.randn(weights.shape[:2], generator=rng, dtype=torch.float64),
        "auxiliary": torch.tensor(0.7, dtype=torch.float64),
        "drop": lambda x: x * (x.detach().cos() > 0),  # which values are kept depends on the source alone
    }
    return images, w, Mixture(weights, **{part: every[part] for part in parts})


def gradients(logits: Tensor, inputs: list[Tensor]) -> list[Tensor]:
    """Return logits and the gradients of a function of them; then those of the gradients' squares."""
    upstream = torch.randn(logits.shape, generator=generator(4), dtype=logits.dtype)
    first = torch.autograd.grad((logits * upstream).sum(), inputs, create_graph=True)
    second = torch.autograd.grad(torch.stack([one.square().sum() for one in first]).sum(), inputs)
    return [logits, *first, *second]


PARTS = [("offsets",), ("auxiliary",), ("drop",), ("offsets", "auxiliary", "drop")]


@SPACES
@pytest.mark.parametrize("parts", PARTS, ids=" and ".join)
def test_each_part_is_that_of_the_definition(space, parts):
    layers = 2 if space == NASBENCH201 else 4
    net = Supernet(space, 4, layers, 3, 2, auxiliary_skip="auxiliary" in parts)
    images, w, mixture = draw(net, *parts)
    given = [
        value.requires_grad_()
        for value in (w, mixture.weights, mixture.offsets, mixture.auxiliary)
        if value is not None
    ]
    agree(gradients(net.mixture(images, w, mixture), given), gradients(Plain(net, w, mixture)(images), given), 1e-10)


@SPACES
@pytest.mark.parametrize("groups", [2, 4])
@pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "pytorch"])
def test_partial_channels_are_those_of_the_definition(space, groups, compiled):
    """With all other parts."""
    net = Supernet(space, 4, 1 if space == NASBENCH201 else 3, 3, 2, auxiliary_skip=True, partial_channels=groups)
    net.compiled = compiled
    images, w, mixture = draw(net, "offsets", "auxiliary", "drop")
    mixture = mixture._replace(weights=mixture.weights * torch.linspace(0.5, 2, mixture.weights.shape[1])[:, None])
    assert mixture.offsets is not None
    given = [w.requires_grad_(), mixture.weights.requires_grad_(), mixture.offsets.requires_grad_()]
    agree(gradients(net.mixture(images, w, mixture), given), gradients(Plain(net, w, mixture)(images), given), 1e-10)
    shapes = [shape for kind in range(len(space.kinds)) for shape in net.convolution_shapes(kind)]
    assert shapes == list(net.layout.shapes[: len(shapes)]) and max(shape[0] for shape in shapes) == 16 // groups


@SPACES
def test_parts_that_are_absent_change_neither_w_nor_a_bit_of_the_result(space):
    layers = 1 if space == NASBENCH201 else 3
    plain, more = (Supernet(space, 4, layers, 3, 2, auxiliary_skip=on) for on in (False, True))
    images, w, mixture = draw(plain)
    expected = plain.mixture(images, w, mixture.weights)
    assert torch.equal(plain.mixture(images, w, mixture), expected)
    named = more.unpack(more.initial_w(generator(3)).double())
    extra = {name: value for name, value in named.items() if ".auxiliary_skip." in name}
    assert len(extra) == (0 if space == NASBENCH201 else 2 * 2 * space.inputs * space.nodes)
    more_cells = sum(more.n_cell_w) - sum(plain.n_cell_w)
    assert more.n_w - plain.n_w == more_cells == sum(each.numel() for each in extra.values())
    both = more.pack({**extra, **plain.unpack(w)})
    assert torch.equal(more.mixture(images, both, mixture), expected)


def test_a_mixture_that_does_not_fit_the_supernet_is_refused():
    net = Supernet(NASBENCH201, 2, 1, 3, 2)
    images, w, mixture = draw(net)
    with pytest.raises(ParameterError, match="make it with auxiliary_skip=True"):
        net.mixture(images, w, mixture._replace(auxiliary=torch.tensor(1.0)))
    with pytest.raises(ParameterError, match="partial_channels = 3 does not divide channels = 4"):
        Supernet(DARTS, 4, 3, 3, partial_channels=3)
    with pytest.raises(ParameterError, match="partial_channels = 0: has to be at least 1"):
        Supernet(DARTS, 4, 3, 3, partial_channels=0)
    with pytest.raises(ParameterError, match=r"offsets of shape \(6,\): space nasbench201 has \(1, 6\)"):
        net.mixture(images, w, mixture._replace(offsets=torch.zeros(6)))
