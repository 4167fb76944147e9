"""Plain reference: a DARTS supernet with one module per operation and edge, and hyperDARTS on top of it.

It is written as in public codes: NCHW, `nn.Module`s, torch's defaults, a Python `sum` over operations and edges. The
tests compare the supernet of hdarts with it, and `python -m benchmarks` times hdarts against it.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hdarts.space import DARTS, CellPlan, plan
from hdarts.supernet.layout import Layout

EDGES = DARTS.edges
OPERATIONS = DARTS.operations


def batch_norm(channels: int, affine: bool = False) -> nn.BatchNorm2d:
    """BatchNorm with the statistics of the batch, no buffers (thesis 4.8.1)."""
    return nn.BatchNorm2d(channels, affine=affine, track_running_stats=False)


class Zero(nn.Module):
    """`none`: zeros of the right size."""

    def __init__(self, stride: int):
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, :: self.stride, :: self.stride] * 0.0


class FactorisedReduction(nn.Module):
    """Identity at stride 2: one 1x1 convolution on the even pixels, one on the odd ones (zeros beyond the border)."""

    def __init__(self, channels_in: int, channels_out: int):
        super().__init__()
        self.relu = nn.ReLU()
        self.even = nn.Conv2d(channels_in, channels_out // 2, 1, stride=2, bias=False)
        self.odd = nn.Conv2d(channels_in, channels_out // 2, 1, stride=2, bias=False)
        self.norm = batch_norm(channels_out)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(x)
        shifted = F.pad(x, (0, x.shape[3] % 2, 0, x.shape[2] % 2))[:, :, 1:, 1:]
        return self.norm(torch.cat([self.even(x), self.odd(shifted)], 1))


def separable(channels: int, kernel: int, stride: int, dilation: int = 1) -> list[nn.Module]:
    """ReLU, depthwise convolution, pointwise convolution, BatchNorm."""
    padding = dilation * (kernel // 2)
    return [
        nn.ReLU(),
        nn.Conv2d(channels, channels, kernel, stride, padding, dilation, groups=channels, bias=False),
        nn.Conv2d(channels, channels, 1, bias=False),
        batch_norm(channels),
    ]


def operation(name: str, channels: int, stride: int) -> nn.Module:
    """One candidate operation of DARTS."""
    makers: dict[str, Callable[[], nn.Module]] = {
        "none": lambda: Zero(stride),
        "max_pool_3x3": lambda: nn.Sequential(nn.MaxPool2d(3, stride, 1), batch_norm(channels)),
        "avg_pool_3x3": lambda: nn.Sequential(
            nn.AvgPool2d(3, stride, 1, count_include_pad=False), batch_norm(channels)
        ),
        "skip_connect": lambda: nn.Identity() if stride == 1 else FactorisedReduction(channels, channels),
        "sep_conv_3x3": lambda: nn.Sequential(*separable(channels, 3, stride), *separable(channels, 3, 1)),
        "sep_conv_5x5": lambda: nn.Sequential(*separable(channels, 5, stride), *separable(channels, 5, 1)),
        "dil_conv_3x3": lambda: nn.Sequential(*separable(channels, 3, stride, dilation=2)),
        "dil_conv_5x5": lambda: nn.Sequential(*separable(channels, 5, stride, dilation=2)),
    }
    return makers[name]()


class MixedOperation(nn.Module):
    """All operations of one edge, weighted and summed (thesis eq. 12)."""

    def __init__(self, channels: int, stride: int):
        super().__init__()
        self.operations = nn.ModuleList(operation(name, channels, stride) for name in OPERATIONS)

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        return sum(weight * operation(x) for weight, operation in zip(weights, self.operations, strict=True))  # pyright: ignore[reportReturnType]


class Cell(nn.Module):
    """A cell: preprocessing of its two inputs, 14 mixed edges, concatenation of its four nodes (thesis eq. 13)."""

    def __init__(self, cell: CellPlan):
        super().__init__()
        if cell.after_reduction:
            self.preprocess0: nn.Module = FactorisedReduction(cell.previous_previous, cell.channels)
        else:
            self.preprocess0 = self.pointwise(cell.previous_previous, cell.channels)
        self.preprocess1 = self.pointwise(cell.previous, cell.channels)
        self.edges = nn.ModuleList(
            MixedOperation(cell.channels, cell.stride if source < DARTS.inputs else 1) for source, _ in EDGES
        )

    def parts(self) -> dict[str, nn.Module]:
        """Return modules with weights by their names in the layout: preprocess<0|1>, <source>-<node>.<operation>."""
        parts: dict[str, nn.Module] = {"preprocess0": self.preprocess0, "preprocess1": self.preprocess1}
        for (source, node), edge in zip(EDGES, self.edges, strict=True):
            assert isinstance(edge, MixedOperation)
            parts |= {f"{source}-{node}.{o}": op for o, op in zip(OPERATIONS, edge.operations, strict=True)}
        return parts

    @staticmethod
    def pointwise(channels_in: int, channels_out: int) -> nn.Module:
        return nn.Sequential(nn.ReLU(), nn.Conv2d(channels_in, channels_out, 1, bias=False), batch_norm(channels_out))

    def forward(self, before: Tensor, last: Tensor, weights: Tensor) -> Tensor:
        states = [self.preprocess0(before), self.preprocess1(last)]
        for node in range(DARTS.inputs, DARTS.inputs + DARTS.nodes):
            incoming = [(edge, source) for edge, (source, target) in enumerate(EDGES) if target == node]
            states.append(sum(self.edges[edge](states[source], weights[edge]) for edge, source in incoming))
        return torch.cat(states[DARTS.inputs :], 1)


class Named(nn.Module, ABC):
    """A plain network that maps the names of weights in the supernet of hdarts to its own."""

    @abstractmethod
    def layout_names(self) -> dict[str, str]:
        """Name in `Supernet.layout` -> name of the module's parameter."""

    @torch.no_grad()
    def load(self, layout: Layout, w: Tensor) -> None:
        """Copy the flat weights `w` into the modules."""
        parameters, names = dict(self.named_parameters()), self.layout_names()
        for name, value in layout.unpack(w).items():
            parameters[names[name]].copy_(value)

    def flat(self, layout: Layout, gradient: bool = False) -> Tensor:
        """Return the weights, or their gradients, as one flat vector."""
        parameters, names = dict(self.named_parameters()), self.layout_names()
        found = {}
        for name in layout.names:
            value = parameters[names[name]].grad if gradient else parameters[names[name]].detach()
            assert value is not None, f"{name} has no gradient yet"
            found[name] = value
        return layout.pack(found)


class PlainSupernet(Named):
    """The supernet of DARTS as a module: `net(images, weights)` with weights `(2, 14, 8)` = softmax(alpha)."""

    def __init__(self, channels: int, layers: int, classes: int, image_channels: int = 3):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(image_channels, 3 * channels, 3, padding=1, bias=False), batch_norm(3 * channels, affine=True)
        )
        self.plan = plan(channels, layers)
        self.cells = nn.ModuleList(Cell(cell) for cell in self.plan)
        self.classifier = nn.Linear(DARTS.nodes * self.plan[-1].channels, classes)

    def forward(self, images: Tensor, weights: Tensor) -> Tensor:
        before = last = self.stem(images)
        for cell, module in zip(self.plan, self.cells, strict=True):
            before, last = last, module(before, last, weights[DARTS.kinds.index(cell.kind)])
        return self.classifier(F.adaptive_avg_pool2d(last, 1).flatten(1))

    def layout_names(self) -> dict[str, str]:
        parameter_names = {parameter: name for name, parameter in self.named_parameters()}
        found = {}
        for k, cell in enumerate(self.cells):
            assert isinstance(cell, Cell)
            for part, module in cell.parts().items():
                for i, parameter in enumerate(module.parameters()):
                    found[f"cells.{k}.{part}.{i}"] = parameter_names[parameter]
        return found | {name: name for name in parameter_names.values() if not name.startswith("cells.")}


class PlainHyperdarts(nn.Module):
    """Plain hyperDARTS on the plain supernet (thesis 4.6): `nn.Linear`s generate the cell weights in each call.

    Without `hidden` there is one linear layer per kind of cell (hyperDARTS-1), otherwise one sigmoid perceptron with
    `hidden` units per convolution (hyperDARTS-2). `n_alpha`: architecture parameters of one kind of cell.
    """

    def __init__(self, net: Named, layout: Layout, n_alpha: int, kinds: list[list[tuple[int, ...]]], hidden: int = 0):
        super().__init__()
        self.net = net
        names = net.layout_names()
        made = sum(len(shapes) for shapes in kinds)
        self.made = [(names[name], shape) for name, shape in zip(layout.names[:made], layout.shapes, strict=False)]
        self.rest_names = [names[name] for name in layout.names[made:]]
        parameters = dict(net.named_parameters())
        self.rest = nn.ParameterList(parameters[name] for name in self.rest_names)
        sizes = [[math.prod(shape) for shape in shapes] for shapes in kinds]
        if hidden:
            made_by = [nn.ModuleList(perceptron(n_alpha, size, hidden) for size in of_kind) for of_kind in sizes]
        else:
            made_by = [nn.ModuleList([nn.Linear(n_alpha, sum(of_kind))]) for of_kind in sizes]
        self.made_by, self.hypernetworks = made_by, nn.ModuleList(made_by)

    def trained(self) -> list[nn.Parameter]:
        """Return what SGD updates: the hypernetworks and the weights that they do not generate."""
        return [*self.hypernetworks.parameters(), *self.rest]

    def forward(self, images: Tensor, alpha: Tensor) -> Tensor:
        made = torch.cat([h(a.flatten()) for hs, a in zip(self.made_by, alpha, strict=True) for h in hs])
        values = made.split([math.prod(shape) for _, shape in self.made])
        named = {name: value.view(shape) for (name, shape), value in zip(self.made, values, strict=True)}
        rest = dict(zip(self.rest_names, self.rest, strict=True))
        return torch.func.functional_call(self.net, named | rest, (images, alpha.softmax(-1)))


def perceptron(n_alpha: int, n_weights: int, hidden: int) -> nn.Module:
    """Return two linear layers with a sigmoid in between."""
    return nn.Sequential(nn.Linear(n_alpha, hidden), nn.Sigmoid(), nn.Linear(hidden, n_weights))
