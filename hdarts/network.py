"""The evaluation network of a genotype, that of DARTS (thesis section 4.8.2, figure 23) or of NAS-Bench-201.

Stem, cells, global average pooling, classifier, and in training an auxiliary classifier on the maps of the last cell
that halves their size (at 2/3). Unlike the supernet it has affine BatchNorm with running statistics, and no BatchNorm
after pooling. Everything runs in channels-last memory format. Shapes are `(N, C, H, W)`.
"""

import copy
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hdarts.errors import ParameterError
from hdarts.kernels.depthwise import depthwise
from hdarts.kernels.separable import BlockWeights, Separable
from hdarts.space import DARTS, NASBENCH201, RESIDUAL, CellPlan, Genotype, plan
from hdarts.space.layers import stem_widths
from hdarts.space.operations import Block, Convolution, blocks, drop_path, factorised_reduction
from hdarts.supernet.custom import CustomOperation, CustomOperations, Operation, check_operations
from hdarts.supernet.nasbench201 import halved

POINTWISE = Block((Convolution(1),))


class DepthwiseConv2d(nn.Conv2d):
    """nn.Conv2d with one group per channel, padding that keeps the size, and the backward pass of kernels.depthwise."""

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        return depthwise(x, self.weight, self.stride[0], self.dilation[0])


def convolution(spec: Convolution, channels_in: int, channels_out: int) -> nn.Conv2d:
    """Return the module of one convolution; it has no bias, because BatchNorm follows."""
    out, _, kernel, _ = spec.shape(channels_in, channels_out)
    form = (channels_in, out, kernel, spec.stride, spec.padding, spec.dilation)
    return DepthwiseConv2d(*form, channels_in, bias=False) if spec.depthwise else nn.Conv2d(*form, bias=False)


def block(spec: Block, channels_in: int, channels_out: int) -> nn.Module:
    """Return ReLU, convolutions, BatchNorm as one module; two half convolutions are a factorised reduction."""
    if spec.convolutions[0].half:
        return FactorisedReduction(spec, channels_in, channels_out)
    *same, last = spec.convolutions  # only the last one changes the number of channels
    convolutions = [convolution(c, channels_in, channels_in) for c in same]
    convolutions.append(convolution(last, channels_in, channels_out))
    return nn.Sequential(nn.ReLU(), *convolutions, nn.BatchNorm2d(channels_out))


class SeparableConvolutions(nn.Sequential):
    """Blocks of relu, depthwise and pointwise convolution and BatchNorm; trained on the CPU by kernels.separable."""

    def __init__(self, specs: tuple[Block, ...], channels: int):
        super().__init__(*(block(spec, channels, channels) for spec in specs))
        self.separable = Separable(1, 1, (specs,))

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        *_, last = self.modules()
        plain = type(last) is nn.BatchNorm2d  # not synchronised with other processes
        kernel = self.separable.kernel([x]) if self.training and plain else None
        if kernel is None:
            return super().forward(x)
        parts: Any = list(self)
        weights = [BlockWeights(depth.weight, point.weight, n.weight, n.bias) for _, depth, point, n in parts]
        (out,), statistics = self.separable.with_statistics(kernel, [x], weights)
        count = out[:, 0].numel()
        for (*_, norm), (mean, rstd) in zip(parts, statistics, strict=True):
            _update_running(norm, mean, (rstd**-2 - norm.eps) * count / (count - 1))
        return out


@torch.no_grad()
def _update_running(norm: nn.BatchNorm2d, mean: Tensor, variance: Tensor) -> None:
    assert norm.running_mean is not None and norm.running_var is not None and norm.num_batches_tracked is not None
    norm.running_mean.lerp_(mean, norm.momentum or 0.0)
    norm.running_var.lerp_(variance, norm.momentum or 0.0)
    norm.num_batches_tracked += 1


def operation(name: str, channels: int, stride: int, custom: Operation | None = None) -> nn.Module:
    """Return the module of an operation, `C` to `C` channels; only an identity is an `nn.Identity`."""
    if custom is not None:
        return CustomOperation(custom, channels, stride)
    if name == "none":
        return Zero(stride)
    if name == "max_pool_3x3":
        return nn.MaxPool2d(3, stride, padding=1)
    if name == "avg_pool_3x3":
        return nn.AvgPool2d(3, stride, padding=1, count_include_pad=False)
    if name == "noise":
        return Noise(stride)
    specs = blocks(name, stride)
    if name == "skip_connect":
        return nn.Sequential(*(block(spec, channels, channels) for spec in specs)) if specs else nn.Identity()
    if name.startswith("nor_conv"):
        return block(specs[0], channels, channels)
    return SeparableConvolutions(specs, channels)


class Zero(nn.Module):
    """An edge that is left out: zeros of the shape that the other operations of this stride return."""

    def __init__(self, stride: int):
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x[:, :, :: self.stride, :: self.stride])


class Noise(Zero):
    """The operation `noise` of space S4: fresh standard normal values in training, their mean 0 in evaluation mode.

    They come from PyTorch's global generator, so a training that is resumed continues with other values.
    """

    def forward(self, x: Tensor) -> Tensor:
        zeros = super().forward(x)
        return torch.randn_like(zeros) if self.training else zeros


class FactorisedReduction(nn.Module):
    """Identity at stride 2: half of the channels from the even pixels, half from the odd ones, then BatchNorm.

    `(N, C, H, W)` to `(N, C', ceil(H/2), ceil(W/2))`; at odd sizes, missing pixels are 0. The pixels are selected
    first and then convolved at stride 1: the weight gradient of a strided 1x1 convolution of 2 to 4 channels,
    channels-last, writes out of bounds when a last row is left over (torch 2.14 on the CPU).
    """

    def __init__(self, spec: Block, channels_in: int, channels_out: int):
        super().__init__()
        halves = (replace(half, stride=1) for half in spec.convolutions)
        self.even, self.odd = (convolution(half, channels_in, channels_out) for half in halves)
        self.normalise = nn.BatchNorm2d(channels_out)

    def forward(self, x: Tensor) -> Tensor:
        pixels = F.relu(x).permute(0, 2, 3, 1)  # selected there, so that the gradients are channels-last too
        even, odd = (pixels[:, i::2, i::2].permute(0, 3, 1, 2) for i in range(2))
        odd = F.pad(odd, (0, x.shape[3] % 2, 0, x.shape[2] % 2))
        return self.normalise(torch.cat([self.even(even), self.odd(odd)], 1))


class Cell(nn.Module):
    """One cell of a DARTS genotype: each node is the sum of two edges; the last ones are concatenated."""

    def __init__(self, genotype: Genotype, cell: CellPlan, custom: CustomOperations):
        super().__init__()
        edges, self.outputs = genotype.cells[cell.kind], genotype.space.outputs
        first = factorised_reduction() if cell.after_reduction else POINTWISE
        self.preprocess0 = block(first, cell.previous_previous, cell.channels)
        self.preprocess1 = block(POINTWISE, cell.previous, cell.channels)
        self.sources = [source for _, source in edges]
        self.edges = nn.ModuleList(
            operation(name, cell.channels, cell.stride if source < DARTS.inputs else 1, custom.get(name))
            for name, source in edges
        )

    def forward(self, previous_previous: Tensor, previous: Tensor, probability: float, keep: Tensor | None) -> Tensor:
        """Return `(N, outputs C, H', W')`; `keep` `(edges, N)` is False where drop path drops a sample on an edge."""
        nodes = [self.preprocess0(previous_previous), self.preprocess1(previous)]
        values: list[Tensor] = []
        for edge, (module, source) in enumerate(zip(self.edges, self.sources, strict=True)):
            values.append(_edge(module, nodes[source], probability, keep, edge))
            if edge % 2:  # the second of a node's two edges
                nodes.append(values[-2] + values[-1])
        return torch.cat(nodes[-self.outputs :], 1)


class BenchmarkCell(nn.Module):
    """One cell of a NAS-Bench-201 genotype, called like `Cell`; `none` is left out, a node without inputs is 0."""

    def __init__(self, genotype: Genotype, cell: CellPlan, custom: CustomOperations):
        super().__init__()
        chosen = [name for name, _ in genotype.cell]
        self.edges = nn.ModuleDict(
            {str(e): operation(name, cell.channels, 1) for e, name in enumerate(chosen) if name != "none"}
        )

    def forward(self, previous_previous: Tensor, previous: Tensor, probability: float, keep: Tensor | None) -> Tensor:
        """Return `(N, C, H, W)`; `keep` `(6, N)` is False where drop path drops a sample on an edge."""
        nodes = {0: previous}
        for name, module in self.edges.items():
            source, node = NASBENCH201.edges[int(name)]
            if source in nodes:
                value = _edge(module, nodes[source], probability, keep, int(name))
                nodes[node] = nodes[node] + value if node in nodes else value
        return nodes.get(NASBENCH201.nodes, torch.zeros_like(previous))


def _edge(module: nn.Module, x: Tensor, probability: float, keep: Tensor | None, edge: int) -> Tensor:
    """Return the output of an edge, with drop path unless it is an identity."""
    value = module(x)
    return value if keep is None or isinstance(module, nn.Identity) else drop_path(value, probability, keep[edge])


class ResidualBlock(nn.Module):
    """Block between two stages of NAS-Bench-201, `(N, C, H, W)` to `(N, 2 C, H/2, W/2)`; called like `Cell`."""

    def __init__(self, genotype: Genotype, cell: CellPlan, custom: CustomOperations):
        super().__init__()
        self.a = block(Block((Convolution(3, stride=2),)), cell.previous, cell.channels)
        self.b = block(Block((Convolution(3),)), cell.channels, cell.channels)
        self.shortcut = nn.Conv2d(cell.previous, cell.channels, 1, bias=False)

    def forward(self, previous_previous: Tensor, previous: Tensor, probability: float, keep: Tensor | None) -> Tensor:
        return self.b(self.a(previous)) + self.shortcut(halved(previous))


class Stem(nn.Sequential):
    """Convolutions of a stem, each with BatchNorm and with ReLU in between; returns both inputs of the first cell."""

    def __init__(self, image_channels: int, widths: tuple[int, ...]):
        layers: list[nn.Module] = []
        for before, width in zip((image_channels, *widths), widths, strict=False):
            stride = 1 if len(widths) == 1 else 2
            layers += [nn.Conv2d(before, width, 3, stride, padding=1, bias=False), nn.BatchNorm2d(width)]
        super().__init__(*layers)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        layers, outputs = list(self), []
        for convolution, norm in zip(layers[::2], layers[1::2], strict=True):
            outputs.append(norm(convolution(F.relu(outputs[-1]) if outputs else x)))
        return outputs[-2:][0], outputs[-1]


class AuxiliaryHead(nn.Module):
    """The second classifier of DARTS, which feeds gradient into the middle of a deep network.

    DARTS pools maps to 2x2 with windows of 5x5: those of 8x8 with stride 3, behind its ImageNet stem those of 7x7 with
    stride 2, where its second convolution has no BatchNorm. Maps of other sizes are pooled to 2x2 adaptively.
    """

    def __init__(self, channels: int, classes: int, stem: str):
        super().__init__()
        self.length, self.stride = (7, 2) if stem == "imagenet" else (8, 3)
        self.features = nn.Sequential(
            nn.Conv2d(channels, 128, 1, bias=False),
            nn.BatchNorm2d(128),
            nn.ReLU(),
            nn.Conv2d(128, 768, 2, bias=False),
            nn.Identity() if stem == "imagenet" else nn.BatchNorm2d(768),
            nn.ReLU(),
        )
        self.classifier = nn.Linear(768, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(x)
        known = x.shape[2:] == (self.length, self.length)
        x = F.avg_pool2d(x, 5, self.stride) if known else F.adaptive_avg_pool2d(x, 2)
        return self.classifier(self.features(x).flatten(1))


class EvaluationNetwork(nn.Module):
    """The network of a genotype for images `(N, image_channels, H, W)` of any size.

    DARTS: `channels` is C of the first cell (the stem has 3 C), doubled in the reduction cells at 1/3 and 2/3 of
    `layers` cells. NAS-Bench-201: three stages of `layers` cells, 16 channels and 5 cells in the benchmark; after them
    BatchNorm and ReLU. With `auxiliary`, a second classifier follows the last halving of the maps in training mode (the
    benchmark has none). `custom`: custom operations by their names in the space. `stem`: cifar, or imagenet, which
    makes the maps of the first cell an eighth as wide and high. Raises `ParameterError` for impossible sizes.

    For CIFAR-10, 36 channels and 20 cells the cells of DARTS have 3,169,414 (V1) and 3,349,342 (V2) parameters,
    auxiliary head not counted (`count_parameters`). For ImageNet, 48 channels and 14 cells V2 has 4,718,752 parameters
    and 529.9 million multiply-adds (`count_multiply_adds`). Its paper says 574, which no public counter confirms.
    """

    def __init__(
        self,
        genotype: Genotype,
        channels: int,
        layers: int,
        classes: int,
        auxiliary: bool,
        image_channels: int = 3,
        custom: CustomOperations | None = None,
        stem: str = "cifar",
    ):
        super().__init__()
        for name, size in (("channels", channels), ("classes", classes), ("image_channels", image_channels)):
            if size < 1:
                raise ParameterError(f"{name} = {size}: a network needs at least 1")
        space, cells = genotype.space, plan(channels, layers, genotype.space, stem)
        benchmark = space == NASBENCH201
        if not benchmark:
            check_operations(space.operations, custom or {})
        self.stem = Stem(image_channels, stem_widths(stem, channels, space.stem))
        make_cell = BenchmarkCell if benchmark else Cell
        self.cells = nn.ModuleList(
            (ResidualBlock if cell.kind == RESIDUAL else make_cell)(genotype, cell, custom or {}) for cell in cells
        )
        features = space.outputs * cells[-1].channels
        self.last = nn.BatchNorm2d(features) if benchmark else None
        self.classifier = nn.Linear(features, classes)
        self.edges = max(map(len, genotype.cells.values()))
        self.auxiliary_after = max((k for k, cell in enumerate(cells) if cell.reduces), default=-1)
        if auxiliary and self.auxiliary_after < 0:
            raise ParameterError(f"auxiliary: its head follows a reduction cell, and space {space.name} has none")
        width = space.outputs * cells[self.auxiliary_after].channels
        # created last: the rest starts from the same weights with and without it
        self.auxiliary = AuxiliaryHead(width, classes, stem) if auxiliary else None
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(
        self,
        images: Tensor,
        drop_path: float = 0.0,
        generator: torch.Generator | None = None,
        among: tuple[int, int] | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Return logits `(N, classes)` and in training mode those of the auxiliary head (else None).

        In training, each edge except identities is dropped for a sample with probability `drop_path`. The masks come
        from the CPU `generator`, so that they are the same on every device. `among` (first, whole): the images are
        those from `first` on in a batch of `whole` images, for which the masks are drawn.
        """
        keep = None
        if self.training and drop_path > 0:
            first, whole = among or (0, len(images))
            uniform = torch.rand(len(self.cells), self.edges, whole, generator=generator)
            keep = (uniform[..., first : first + len(images)] >= drop_path).to(images.device, non_blocking=True)
        auxiliary = None
        previous, x = self.stem(images.contiguous(memory_format=torch.channels_last))
        for layer, cell in enumerate(self.cells):
            previous, x = x, cell(previous, x, drop_path, None if keep is None else keep[layer])
            if layer == self.auxiliary_after and self.auxiliary is not None and self.training:
                auxiliary = self.auxiliary(x)
        if self.last is not None:
            x = F.relu(self.last(x))
        return self.classifier(x.mean((2, 3))), auxiliary


def count_parameters(network: nn.Module) -> int:
    """Return the number of trained values in a network without its auxiliary head, as published tables count them."""
    return sum(p.numel() for name, p in network.named_parameters() if not name.startswith("auxiliary."))


def count_multiply_adds(network: nn.Module, shape: tuple[int, int, int]) -> int:
    """Return the multiply-adds of one image `(C, H, W)` in convolutions and classifier, as published tables do.

    They are counted in evaluation mode on the CPU, with weights of any value. (On the device `meta`, whose operators
    are written in Python, this takes seven times as long.)
    """
    from torch.utils.flop_counter import FlopCounterMode

    copied = copy.deepcopy(network).to_empty(device="cpu").eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        copied(torch.zeros(1, *shape))
    return counter.get_total_flops() // 2  # it counts a multiplication and an addition as two
