"""Plain reference: the supernet of NAS-Bench-201 with one module per operation and edge."""

import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.reference import Named, Zero, batch_norm
from hdarts.space import NASBENCH201

EDGES = NASBENCH201.edges
OPERATIONS = NASBENCH201.operations


def relu_conv_norm(before: int, channels: int, kernel: int, stride: int = 1, affine: bool = False) -> nn.Module:
    """Return ReLU, a convolution that keeps the size at stride 1, and BatchNorm."""
    convolution = nn.Conv2d(before, channels, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(nn.ReLU(), convolution, batch_norm(channels, affine))


def operation(name: str, channels: int) -> nn.Module:
    """One candidate operation."""
    if name.startswith("nor_conv"):
        return relu_conv_norm(channels, channels, int(name[-1]))
    return {
        "none": Zero(1),
        "skip_connect": nn.Identity(),
        "avg_pool_3x3": nn.AvgPool2d(3, 1, 1, count_include_pad=False),
    }[name]


class Cell(nn.Module):
    """A cell: four nodes, an edge from each to each later one, all five operations on every edge."""

    def __init__(self, channels: int):
        super().__init__()
        self.edges = nn.ModuleDict(
            {f"{i}-{j}": nn.ModuleDict({name: operation(name, channels) for name in OPERATIONS}) for i, j in EDGES}
        )

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        nodes = [x]
        for node in range(1, 4):
            incoming = [(e, source) for e, (source, target) in enumerate(EDGES) if target == node]
            nodes.append(sum(self.edge(e, nodes[source], weights[e]) for e, source in incoming))  # pyright: ignore[reportArgumentType]
        return nodes[3]

    def edge(self, e: int, x: Tensor, weights: Tensor) -> Tensor:
        """All operations of one edge, weighted and summed."""
        source, node = EDGES[e]
        operations = dict(self.edges[f"{source}-{node}"].named_children())
        return sum(weight * operations[name](x) for weight, name in zip(weights, OPERATIONS, strict=True))  # pyright: ignore[reportReturnType]


class Residual(nn.Module):
    """The residual block between stages: two convolutions, plus the mean of 2x2 pixels and a 1x1 convolution."""

    def __init__(self, before: int, channels: int):
        super().__init__()
        self.a = relu_conv_norm(before, channels, 3, stride=2, affine=True)
        self.b = relu_conv_norm(channels, channels, 3, affine=True)
        self.pool = nn.AvgPool2d(2, 2)
        self.shortcut = nn.Conv2d(before, channels, 1, bias=False)

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        even = F.pad(
            x, (0, x.shape[3] % 2, 0, x.shape[2] % 2), mode="replicate"
        )  # so that the mean is over existing pixels
        return self.shortcut(self.pool(even)) + self.b(self.a(x))


class PlainBenchmarkSupernet(Named):
    """`net(images, weights)`, weights `(1, 6, 5)` = softmax(alpha)."""

    def __init__(self, channels: int, layers: int, classes: int, image_channels: int = 3):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(image_channels, channels, 3, padding=1, bias=False), batch_norm(channels, True)
        )
        self.cells = nn.ModuleList()
        for stage in range(3):
            width = channels * 2**stage
            if stage:
                self.cells.append(Residual(width // 2, width))
            self.cells.extend(Cell(width) for _ in range(layers))
        self.last = batch_norm(4 * channels, True)
        self.classifier = nn.Linear(4 * channels, classes)

    def forward(self, images: Tensor, weights: Tensor) -> Tensor:
        x = self.stem(images)
        for cell in self.cells:
            x = cell(x, weights[0])
        return self.classifier(F.adaptive_avg_pool2d(F.relu(self.last(x)), 1).flatten(1))

    def layout_names(self) -> dict[str, str]:
        found = {}
        for name, _ in self.named_parameters():
            if ".edges." in name:  # cells.0.edges.0-1.nor_conv_3x3.1.weight: the convolution of a relu_conv_norm
                found[name.replace(".edges.", ".").removesuffix(".1.weight") + ".0"] = name
            elif {"a", "b"} & set(name.split(".")):  # cells.5.a.1.weight: here the numbers count the ReLU
                *block, i, kind = name.split(".")
                found[".".join((*block, str(int(i) - 1), kind))] = name
            else:
                found[name] = name
        return found
