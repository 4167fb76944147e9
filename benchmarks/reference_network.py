"""Plain reference: DARTS's evaluation network, written as in public codes.

The tests compare the network of hdarts with it, and `python -m benchmarks` times a training step against it.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hdarts.space import Genotype


class PlainReduction(nn.Module):
    """Identity at stride 2: one 1x1 convolution on the even pixels, one on the odd ones."""

    def __init__(self, c_in: int, c: int):
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, c // 2, 1, 2, bias=False)
        self.conv2 = nn.Conv2d(c_in, c // 2, 1, 2, bias=False)
        self.bn = nn.BatchNorm2d(c)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(x)
        x = F.pad(x, (0, x.shape[3] % 2, 0, x.shape[2] % 2))
        return self.bn(torch.cat([self.conv1(x), self.conv2(x[:, :, 1:, 1:])], 1))


def plain_relu_conv_bn(c_in: int, c: int) -> nn.Module:
    """Return ReLU, a pointwise convolution and BatchNorm."""
    return nn.Sequential(nn.ReLU(), nn.Conv2d(c_in, c, 1, bias=False), nn.BatchNorm2d(c))


def plain_depthwise(c: int, kernel: int, stride: int, padding: int, dilation: int) -> nn.Module:
    """Return a depthwise, then a pointwise convolution."""
    return nn.Sequential(
        nn.ReLU(),
        nn.Conv2d(c, c, kernel, stride, padding, dilation, groups=c, bias=False),
        nn.Conv2d(c, c, 1, bias=False),
        nn.BatchNorm2d(c),
    )


PLAIN: dict[str, Callable[[int, int], nn.Module]] = {
    "max_pool_3x3": lambda c, s: nn.MaxPool2d(3, s, 1),
    "avg_pool_3x3": lambda c, s: nn.AvgPool2d(3, s, 1, count_include_pad=False),
    "skip_connect": lambda c, s: nn.Identity() if s == 1 else PlainReduction(c, c),
    "sep_conv_3x3": lambda c, s: nn.Sequential(plain_depthwise(c, 3, s, 1, 1), plain_depthwise(c, 3, 1, 1, 1)),
    "sep_conv_5x5": lambda c, s: nn.Sequential(plain_depthwise(c, 5, s, 2, 1), plain_depthwise(c, 5, 1, 2, 1)),
    "dil_conv_3x3": lambda c, s: plain_depthwise(c, 3, s, 2, 2),
    "dil_conv_5x5": lambda c, s: plain_depthwise(c, 5, s, 4, 2),
}


def plain_stem(c_in: int, c: int, stride: int) -> nn.Sequential:
    """Return a convolution of 3x3 and BatchNorm."""
    return nn.Sequential(nn.Conv2d(c_in, c, 3, stride, padding=1, bias=False), nn.BatchNorm2d(c))


def plain_stems(c: int) -> tuple[nn.Module, nn.Module]:
    """Return stem0 and stem1 of DARTS for ImageNet."""
    first = nn.Sequential(*plain_stem(3, c // 2, 2), nn.ReLU(), *plain_stem(c // 2, c, 2))
    return first, nn.Sequential(nn.ReLU(), *plain_stem(c, c, 2))


class PlainNetwork(nn.Module):
    """DARTS's evaluation network, one module per operation, default memory format."""

    def __init__(self, genotype: Genotype, c: int, layers: int, classes: int, auxiliary: bool, imagenet: bool = False):
        super().__init__()
        self.genotype, self.third, self.imagenet = genotype, 2 * layers // 3, imagenet
        self.stem, self.stem1 = plain_stems(c) if imagenet else (plain_stem(3, 3 * c, 1), nn.Identity())
        self.cells = nn.ModuleList()
        before = last = c if imagenet else 3 * c
        reduced, width = imagenet, 0
        for layer in range(layers):
            reduces = layer in (layers // 3, 2 * layers // 3)
            c = 2 * c if reduces else c
            edges = genotype.reduce if reduces else genotype.normal
            cell = nn.ModuleList([PlainReduction(before, c) if reduced else plain_relu_conv_bn(before, c)])
            cell.append(plain_relu_conv_bn(last, c))
            cell.extend(PLAIN[name](c, 2 if reduces and source < 2 else 1) for name, source in edges)
            self.cells.append(cell)
            before, last, reduced = last, 4 * c, reduces
            width = 4 * c if layer == self.third else width
        self.classifier = nn.Linear(last, classes)
        convolutions = nn.Conv2d(width, 128, 1, bias=False), nn.Conv2d(128, 768, 2, bias=False)
        norms = nn.BatchNorm2d(128), nn.BatchNorm2d(768)
        head = [convolutions[0], norms[0], nn.ReLU(), convolutions[1], norms[1], nn.ReLU(), nn.Flatten()]
        if imagenet:
            del head[4]  # as in the experiments of the paper
        self.auxiliary = nn.Sequential(*head, nn.Linear(768, classes)) if auxiliary else None

    def forward(self, images: Tensor, p: float = 0.0, keep: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        before = self.stem(images)
        last = self.stem1(before)
        auxiliary = None
        for layer, cell in enumerate(self.cells.children()):
            first, second, *edges = cell.children()
            reduces = layer in (len(self.cells) // 3, self.third)
            states = [first(before), second(last)]
            for node in range(4):
                pair = []
                for k in (2 * node, 2 * node + 1):
                    source = (self.genotype.reduce if reduces else self.genotype.normal)[k][1]
                    value = edges[k](states[source])
                    if keep is not None and not isinstance(edges[k], nn.Identity):
                        value = value / (1 - p) * keep[layer, k].view(-1, 1, 1, 1)
                    pair.append(value)
                states.append(pair[0] + pair[1])
            before, last = last, torch.cat(states[2:], 1)
            if layer == self.third and self.auxiliary is not None and self.training:
                pooled = F.relu(last)
                known = pooled.shape[2:] == ((7, 7) if self.imagenet else (8, 8))
                stride = 2 if self.imagenet else 3
                pool = nn.AvgPool2d(5, stride, count_include_pad=False) if known else nn.AdaptiveAvgPool2d(2)
                auxiliary = self.auxiliary(pool(pooled))
        return self.classifier(last.mean((2, 3))), auxiliary
