"""The over-parameterised network: every operation on every edge, as a pure function of one flat weight vector.

    node_j = sum_{i < j} sum_o weights[i->j, o] * o(node_i)          (report eq. 12 and 13, weights = softmax(alpha))

BatchNorm uses the statistics of the batch and keeps no buffers, so nothing but `w` and `weights` enters. What follows
keeps the function exactly and only saves work (tests hold it against a plain version, edge by edge):
pooling and ReLU of a node are computed once, not once for each edge that leaves it; the weight of a convolutional
operation is the scale of its last BatchNorm; tensors are channels-last.
"""

import math
from collections.abc import Iterator, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from hdarts.operations import Block, blocks, factorised_reduction
from hdarts.params import ParameterError
from hdarts.space import DARTS, CellPlan, SearchSpace, plan
from hdarts.vectors import Layout

Shape = tuple[int, ...]


class Supernet:
    """Supernet of a space: `supernet(images, w, alpha) -> logits`.

    `w` `(n_w,)` is laid out [normal cells | reduction cells | rest]; rest = stem, preprocessing of the cells,
    classifier. `n_cell_w` has one number a kind. Inside a cell, the weights of one operation on all edges that leave
    one node lie side by side. Batch statistics need more than one value a channel: N H W > 1 in the last cell.
    """

    def __init__(self, space: SearchSpace, channels: int, layers: int, classes: int, image_channels: int = 3):
        if space is not DARTS:
            raise ParameterError(f"supernet: space {space.name} is not built in this release; there is {DARTS.name}")
        for name, value in (("channels", channels), ("classes", classes), ("image_channels", image_channels)):
            if value < 1:
                raise ParameterError(f"{name} = {value}: has to be at least 1")
        if channels % 2:
            raise ParameterError(f"channels = {channels}: has to be even, factorised reduction halves them")
        self.space, self.channels, self.classes, self.image_channels = space, channels, classes, image_channels
        self.cells = plan(channels, layers)
        entries = [list(self._cell_entries(kind)) for kind in space.kinds]
        self.layout = Layout.of([entry for kind in entries for entry in kind] + list(self._rest_entries()))
        self.n_cell_w = [sum(math.prod(shape) for _, shape in kind) for kind in entries]

    @property
    def n_w(self) -> int:
        """Number of weights."""
        return self.layout.total

    def _cell_entries(self, kind: str) -> Iterator[tuple[str, Shape]]:
        for k, cell in enumerate(self.cells):
            if cell.kind != kind:
                continue
            for source in range(self.space.inputs + self.space.nodes - 1):
                nodes = self._targets(source)
                for operation in self.space.operations:
                    i = 0
                    for block in blocks(operation, self._stride(cell, source)):
                        for convolution in block.convolutions:
                            shape = convolution.shape(cell.channels, cell.channels)
                            yield from ((f"cells.{k}.{source}-{node}.{operation}.{i}", shape) for node in nodes)
                            i += 1

    def _rest_entries(self) -> Iterator[tuple[str, Shape]]:
        stem = 3 * self.channels
        yield "stem.0.weight", (stem, self.image_channels, 3, 3)
        # DARTS's stem has the one affine BatchNorm of its supernet; the count of 1.93 million weights includes it
        yield "stem.1.weight", (stem,)
        yield "stem.1.bias", (stem,)
        for k, cell in enumerate(self.cells):
            for i, channels in enumerate((cell.previous_previous, cell.previous)):
                if i == 0 and cell.after_reduction:
                    for j, convolution in enumerate(factorised_reduction().convolutions):
                        yield f"cells.{k}.preprocess0.{j}", convolution.shape(channels, cell.channels)
                else:
                    yield f"cells.{k}.preprocess{i}.0", (cell.channels, channels, 1, 1)
        yield "classifier.weight", (self.classes, self.space.nodes * self.cells[-1].channels)
        yield "classifier.bias", (self.classes,)

    def _targets(self, source: int) -> range:
        return range(max(source + 1, self.space.inputs), self.space.inputs + self.space.nodes)

    def _stride(self, cell: CellPlan, source: int) -> int:
        return cell.stride if source < self.space.inputs else 1

    def convolution_shapes(self, kind: int) -> list[Shape]:
        """Return the shapes of the generated convolutions of one kind of cell, in the order they lie in `w`."""
        of_kind = {k for k, cell in enumerate(self.cells) if cell.kind == self.space.kinds[kind]}
        return [
            shape
            for name, shape in zip(self.layout.names, self.layout.shapes, strict=True)
            if name.startswith("cells.") and int(name.split(".")[1]) in of_kind and "preprocess" not in name
        ]

    def initial_w(self, generator: torch.Generator) -> Tensor:
        """Return weights as PyTorch's layers start: uniform within +-1/sqrt(fan-in); BatchNorm at 1 and 0."""
        values = {}
        for name, shape in zip(self.layout.names, self.layout.shapes, strict=True):
            if name.startswith("stem.1"):
                values[name] = torch.full(shape, 1.0 if name.endswith("weight") else 0.0)
            else:
                fan_in = self.layout.shapes[self.layout.names.index("classifier.weight")][1:]
                fan_in = math.prod(fan_in if name == "classifier.bias" else shape[1:])
                values[name] = (2 * torch.rand(shape, generator=generator) - 1) / math.sqrt(fan_in)
        return self.pack(values)

    def unpack(self, w: Tensor) -> dict[str, Tensor]:
        """Return the named weights as views of `w`."""
        return self.layout.unpack(w)

    def pack(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """Return the flat vector of named weights."""
        return self.layout.pack(tensors)

    def __call__(self, images: Tensor, w: Tensor, alpha: Tensor) -> Tensor:
        """Return logits `(N, classes)` of images `(N, C, H, W)` for architecture parameters `alpha`."""
        return self.mixture(images, w, alpha.softmax(-1))

    def mixture(self, images: Tensor, w: Tensor, weights: Tensor) -> Tensor:
        """Return logits for operation weights `(kinds, edges, operations)`; one-hot rows give a discrete network."""
        if tuple(weights.shape) != self.space.alpha_shape:
            raise ParameterError(
                f"operation weights of shape {tuple(weights.shape)} are not of space {self.space.name}: "
                f"{self.space.alpha_shape}"
            )
        named = self.unpack(w)
        x = F.conv2d(images.contiguous(memory_format=torch.channels_last), named["stem.0.weight"], padding=1)
        x = F.batch_norm(x, None, None, named["stem.1.weight"], named["stem.1.bias"], training=True)
        by_kind = dict(zip(self.space.kinds, weights, strict=True))
        before, last = x, x
        for k, cell in enumerate(self.cells):
            before, last = last, self._cell(k, cell, before, last, named, by_kind[cell.kind])
        return F.linear(last.mean((2, 3)), named["classifier.weight"], named["classifier.bias"])

    def _cell(
        self, k: int, cell: CellPlan, before: Tensor, last: Tensor, named: dict[str, Tensor], weights: Tensor
    ) -> Tensor:
        """Return the output of cell `k`: its own nodes, concatenated over channels."""
        states = [
            _preprocess([named[f"cells.{k}.preprocess{i}.{j}"] for j in range(1 + halves)], x)
            for i, (x, halves) in enumerate(((before, int(cell.after_reduction)), (last, 0)))
        ]
        sums: dict[int, Tensor] = {}
        # one contiguous row of C equal values for each (edge, operation): the scale of a BatchNorm. F.batch_norm gives
        # wrong gradients on the CPU for channels-last input and an expanded (stride 0) weight
        scales = weights.unsqueeze(-1).expand(-1, -1, cell.channels).contiguous()
        for source in range(self.space.inputs + self.space.nodes - 1):
            x = states[source] if source < self.space.inputs else sums[source]
            stride = self._stride(cell, source)
            shared = _shared_operations(x, stride)
            rectified = F.relu(x)
            for node in self._targets(source):
                edge = self.space.edges.index((source, node))
                total = sums.get(node)
                for o, operation in enumerate(self.space.operations):
                    if operation in shared:
                        term = weights[edge, o] * shared[operation]
                    elif steps := blocks(operation, stride):
                        prefix = f"cells.{k}.{source}-{node}.{operation}"
                        term = _convolve(rectified, steps, prefix, named, scales[edge, o])
                    else:
                        continue  # none
                    total = term if total is None else total + term
                assert total is not None
                sums[node] = total
        return torch.cat([sums[node] for node in sorted(sums)], 1)


def _normalise(x: Tensor, scale: Tensor | None = None) -> Tensor:
    return F.batch_norm(x, None, None, scale, None, training=True)


def _preprocess(weights: list[Tensor], x: Tensor) -> Tensor:
    x = F.relu(x)
    return _normalise(F.conv2d(x, weights[0]) if len(weights) == 1 else _halves(x, weights))


def _halves(x: Tensor, weights: list[Tensor]) -> Tensor:
    """Even pixels through the first 1x1 convolution, odd ones through the second (zeros beyond an odd border)."""
    even = F.conv2d(x, weights[0], stride=2)
    height, width = x.shape[2:]
    odd = F.pad(x, (0, width % 2, 0, height % 2))[:, :, 1:, 1:]
    return torch.cat([even, F.conv2d(odd, weights[1], stride=2)], 1)


def _shared_operations(x: Tensor, stride: int) -> dict[str, Tensor]:
    """Operations without weights of their own: one result serves every edge that leaves the node."""
    shared = {
        "max_pool_3x3": _normalise(F.max_pool2d(x, 3, stride, 1)),
        "avg_pool_3x3": _normalise(F.avg_pool2d(x, 3, stride, 1, count_include_pad=False)),
    }
    return shared | ({"skip_connect": x} if stride == 1 else {})


def _convolve(rectified: Tensor, steps: tuple[Block, ...], prefix: str, named: dict[str, Tensor], scale: Tensor):
    x, i = rectified, 0
    for block in steps:
        x = x if i == 0 else F.relu(x)
        if block.convolutions[0].half:
            x = _halves(x, [named[f"{prefix}.{j}"] for j in range(2)])
        else:
            for convolution in block.convolutions:
                weight = named[f"{prefix}.{i}"]
                groups = weight.shape[0] if convolution.depthwise else 1
                padding, dilation = convolution.padding, convolution.dilation
                x = F.conv2d(x, weight, None, convolution.stride, padding, dilation, groups)
                i += 1
        x = _normalise(x, scale if block is steps[-1] else None)
    return x
