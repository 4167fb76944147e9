"""The over-parameterised network: every operation on every edge, as a pure function of one flat weight vector.

    node_j = sum_{i < j} sum_o weights[i->j, o] * o(node_i)          (thesis eq. 12 and 13, weights = softmax(alpha))

BatchNorm uses the statistics of the batch and keeps no buffers, so nothing but `w` and `weights` enters. What follows
keeps the function exactly and only saves calls and memory (tests hold it against a plain version, edge by edge):

- a *wave* is all edges that leave the nodes known at one time: first both inputs of the cell, then each of its own
  nodes. The k edges of a wave go through their separable convolutions together (hdarts.kernels.separable);
- pooling and identity of a node are computed once, not once for each edge that leaves it, and mixed for all nodes they
  lead to (hdarts.kernels.pooling);
- the weight of a convolutional operation is the scale of its last BatchNorm;
- tensors are channels-last.

That is DARTS's cell; that of NAS-Bench-201 is in hdarts.supernet.nasbench201. All else is common to both spaces.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from hdarts.errors import ParameterError
from hdarts.kernels.pooling import Pooling
from hdarts.kernels.separable import BlockWeights, Separable
from hdarts.space import NASBENCH201, RESIDUAL, CellPlan, SearchSpace, check_space, plan
from hdarts.space.operations import Block, Convolution, blocks, factorised_reduction
from hdarts.supernet import nasbench201
from hdarts.supernet.custom import CustomOperations, CustomWeight, add_custom, check_operations
from hdarts.supernet.layout import Layout, Shape


@dataclass(frozen=True)
class Wave:
    """The edges that leave `sources`, nodes known at one time, ordered by source, then node; all have one stride."""

    sources: tuple[int, ...]
    nodes: tuple[int, ...]  # where the edges of each source lead to
    stride: int

    @property
    def edges(self) -> list[tuple[int, int]]:
        """(source, node) of all its edges."""
        return [(source, node) for source in self.sources for node in self.nodes]

    def operations(self, space: SearchSpace) -> Iterator[tuple[int, str, tuple[Block, ...]]]:
        """Yield number, name and blocks of the operations that have convolutions."""
        for o, operation in enumerate(space.operations):
            if steps := blocks(operation, self.stride):
                yield o, operation, steps


def waves(space: SearchSpace, stride: int) -> tuple[Wave, ...]:
    """Return the waves of a cell: its inputs together, then one node after the other."""
    end = space.inputs + space.nodes
    first = Wave(tuple(range(space.inputs)), tuple(range(space.inputs, end)), stride)
    return first, *(Wave((node,), tuple(range(node + 1, end)), 1) for node in range(space.inputs, end - 1))


class Supernet:
    """Supernet of a space: `supernet(images, w, alpha) -> logits`.

    `layers`: cells of a DARTS network; cells in each of the three stages of NAS-Bench-201. `w` `(n_w,)` is laid out
    [normal cells | reduction cells | rest] or [cells | rest]; rest = stem, what joins the cells (DARTS: preprocessing,
    NAS-Bench-201: residual blocks, last BatchNorm), classifier. `n_cell_w` has one number a kind. In a cell, the
    weights of one convolution of one operation on all edges of a wave lie side by side, one view of `w`. Batch
    statistics need more than one value a channel: N H W > 1 in the last cell. `custom`: custom operations by name
    in the space; they are computed edge by edge, followed by BatchNorm.
    """

    def __init__(
        self,
        space: SearchSpace,
        channels: int,
        layers: int,
        classes: int,
        image_channels: int = 3,
        custom: CustomOperations | None = None,
    ):
        check_space(space)
        self.custom = dict(custom or {})
        if space is NASBENCH201 and self.custom:
            raise ParameterError("space nasbench201: takes no custom operations; a space with cells like DARTS's does")
        if space is not NASBENCH201:
            check_operations(space.operations, self.custom)
            if not any("conv" in name and name not in self.custom for name in space.operations):
                raise ParameterError(f"space {space.name}: its supernet needs a separable convolution among operations")
        for name, value in (("channels", channels), ("classes", classes), ("image_channels", image_channels)):
            if value < 1:
                raise ParameterError(f"{name} = {value}: has to be at least 1")
        self.space, self.channels, self.classes, self.image_channels = space, channels, classes, image_channels
        self.compiled = True  # where this machine can: hdarts.kernels.bindings
        self.cells = plan(channels, layers, space)
        self.waves: list[tuple[Wave, ...]] = [
            () if cell.kind == RESIDUAL else waves(space, cell.stride) for cell in self.cells
        ]
        entries = [list(self._cell_entries(kind)) for kind in space.kinds]
        rest = list(self._rest_entries())
        self.layout = Layout.of([entry for kind in entries for entry in kind] + rest)
        self.n_cell_w = [sum(math.prod(shape) for _, shape in kind) for kind in entries]
        # the same vector with the edges of a wave as one tensor: what a forward pass reads
        stacks = [(f"{k}.{wave.sources}.{name}", shape) for k, wave, name, shape in self._stacks()]
        self._stacked = Layout.of([*stacks, *rest])
        self._rows = {
            wave: torch.tensor([space.edges.index(edge) for edge in wave.edges]) for of in self.waves for wave in of
        }

    @property
    def n_w(self) -> int:
        """Number of weights."""
        return self.layout.total

    def _convolutions(self, kind: str) -> Iterator[tuple[int, Wave, str, Convolution | CustomWeight]]:
        """Yield (cell, wave, operation.i, what has its shape) of a kind of cell, in the order of `w`."""
        for k, cell in enumerate(self.cells):
            for wave in self.waves[k] if cell.kind == kind else ():
                for _, operation, steps in wave.operations(self.space):
                    listed = [convolution for block in steps for convolution in block.convolutions]
                    yield from ((k, wave, f"{operation}.{i}", convolution) for i, convolution in enumerate(listed))
                for name, operation in self.custom.items():
                    for i, shape in enumerate(operation.shapes(cell.channels, wave.stride)):
                        yield k, wave, f"{name}.{i}", CustomWeight(shape)

    def _cell_entries(self, kind: str) -> Iterator[tuple[str, Shape]]:
        for k, wave, name, convolution in self._convolutions(kind):
            shape = convolution.shape(self.cells[k].channels, self.cells[k].channels)
            yield from ((f"cells.{k}.{source}-{node}.{name}", shape) for source, node in wave.edges)

    def _stacks(self) -> Iterator[tuple[int, Wave, str, Shape]]:
        for kind in self.space.kinds:
            for k, wave, name, convolution in self._convolutions(kind):
                out, *one = convolution.shape(self.cells[k].channels, self.cells[k].channels)
                yield k, wave, name, (len(wave.edges) * out, *one)

    def _rest_entries(self) -> Iterator[tuple[str, Shape]]:
        stem = self.space.stem * self.channels
        yield "stem.0.weight", (stem, self.image_channels, 3, 3)
        # DARTS's stem has the one affine BatchNorm of its supernet; the count of 1.93 million weights includes it
        yield "stem.1.weight", (stem,)
        yield "stem.1.bias", (stem,)
        features = self.space.outputs * self.cells[-1].channels
        for k, cell in enumerate(self.cells):
            if self.space is NASBENCH201:
                yield from nasbench201.residual_shapes(k, cell) if cell.kind == RESIDUAL else ()
            else:
                yield from _preprocess_shapes(k, cell)
        if self.space is NASBENCH201:
            yield "last.weight", (features,)
            yield "last.bias", (features,)
        yield "classifier.weight", (self.classes, features)
        yield "classifier.bias", (self.classes,)

    def convolution_shapes(self, kind: int) -> list[Shape]:
        """Return the shapes of the generated convolutions of one kind of cell, in the order they lie in `w`."""
        return [shape for _, shape in self._cell_entries(self.space.kinds[kind])]

    def initial_w(self, generator: torch.Generator) -> Tensor:
        """Return weights as PyTorch's layers start: uniform within +-1/sqrt(fan-in); BatchNorm at 1 and 0."""
        values = {}
        for name, shape in zip(self.layout.names, self.layout.shapes, strict=True):
            if len(shape) == 1 and name != "classifier.bias":
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
        named = self._stacked.unpack(w)
        x = F.conv2d(images.contiguous(memory_format=torch.channels_last), named["stem.0.weight"], padding=1)
        x = F.batch_norm(x, None, None, named["stem.1.weight"], named["stem.1.bias"], training=True)
        if self.space is NASBENCH201:
            x = nasbench201.stages(self.cells, x, named, weights[0], self.compiled)
        else:
            x = self._darts(x, named, dict(zip(self.space.kinds, weights, strict=True)))
        return F.linear(x.mean((2, 3)), named["classifier.weight"], named["classifier.bias"])

    def _darts(self, x: Tensor, named: dict[str, Tensor], by_kind: dict[str, Tensor]) -> Tensor:
        """Return the last cell's maps: each cell is given the outputs of the two before it."""
        before = last = F.relu(x)  # the next two cells read it so
        for k, cell in enumerate(self.cells):
            x = self._cell(k, cell, before, last, named, by_kind[cell.kind])
            before, last = last, F.relu(x)
        return x

    def _cell(
        self, k: int, cell: CellPlan, before: Tensor, last: Tensor, named: dict[str, Tensor], weights: Tensor
    ) -> Tensor:
        """Return the output of cell `k`, its own nodes side by side, for what the two cells before gave, after ReLU."""
        halves = 2 if cell.after_reduction else 1
        states = {
            0: _preprocess(before, [named[f"cells.{k}.preprocess0.{j}"] for j in range(halves)]),
            1: _preprocess(last, [named[f"cells.{k}.preprocess1.0"]]),
        }
        for wave in self.waves[k]:
            x = [states[source] for source in wave.sources]
            prefix = f"{k}.{wave.sources}."
            for node, part in zip(wave.nodes, self._wave(wave, x, prefix, named, weights), strict=True):
                states[node] = states[node] + part if node in states else part
        return torch.cat([states[node] for node in range(self.space.inputs, self.space.inputs + self.space.nodes)], 1)

    def _wave(
        self, wave: Wave, x: list[Tensor], prefix: str, named: dict[str, Tensor], weights: Tensor
    ) -> tuple[Tensor, ...]:
        """Return what the edges of a wave add to each node they lead to, for the sources x, `(N, C, H, W)` each.

        Weights of the edges of S sources to m nodes lie side by side: `S m C` channels.
        """
        sources, nodes = len(wave.sources), len(wave.nodes)
        mine = weights.index_select(0, self._rows[wave].to(weights.device))  # (S m, operations)
        convolved = [(o, name, steps) for o, name, steps in wave.operations(self.space) if name != "skip_connect"]
        channels = x[0].shape[1]
        # C equal values for each edge and operation, contiguous: F.batch_norm gives wrong gradients on the CPU for
        # channels-last input and an expanded (stride 0) weight
        scales = mine.T.unsqueeze(-1).expand(-1, -1, channels).contiguous().flatten(1).unbind(0)
        own = [
            BlockWeights(
                named[f"{prefix}{name}.{2 * i}"], named[f"{prefix}{name}.{2 * i + 1}"],
                scales[o] if block is steps[-1] else None,
            )
            for o, name, steps in convolved
            for i, block in enumerate(steps)
        ]  # fmt: skip
        parts = Separable(sources, nodes, tuple(steps for _, _, steps in convolved), self.compiled)(x, own)
        named_at = {operation: o for o, operation in enumerate(self.space.operations)}
        if self.custom:
            mine_only = {at.removeprefix(prefix): weight for at, weight in named.items() if at.startswith(prefix)}
            by_name = {name: scales[named_at[name]] for name in self.custom}
            parts = tuple(add_custom(self.custom, x, wave.stride, mine_only, by_name, list(parts)))
        if wave.stride == 2 and "skip_connect" in named_at:
            halves = _halves(F.relu(torch.cat(x, 1)), [named[f"{prefix}skip_connect.{i}"] for i in range(2)], sources)
            term = _normalise(halves, scales[named_at["skip_connect"]])
            summed = term.permute(0, 2, 3, 1).unflatten(-1, (sources, nodes, -1)).sum(3).permute(3, 0, 4, 1, 2)
            parts = tuple(part + more for part, more in zip(parts, summed, strict=True))
        pooling = Pooling(sources, nodes, wave.stride, self.compiled)
        columns = [named_at.get(operation, -1) for operation in pooling.operations]
        if set(columns) == {-1}:
            return parts
        mine = F.pad(mine, (0, 1)) if -1 in columns else mine  # what a space of one's own lacks has the weight 0
        return pooling(x, mine.view(sources, nodes, -1)[:, :, columns].permute(1, 2, 0), parts)


def _preprocess_shapes(k: int, cell: CellPlan) -> Iterator[tuple[str, Shape]]:
    for i, channels in enumerate((cell.previous_previous, cell.previous)):
        if i == 0 and cell.after_reduction:
            for j, convolution in enumerate(factorised_reduction().convolutions):
                yield f"cells.{k}.preprocess0.{j}", convolution.shape(channels, cell.channels)
        else:
            yield f"cells.{k}.preprocess{i}.0", (cell.channels, channels, 1, 1)


def _normalise(x: Tensor, scale: Tensor | None = None) -> Tensor:
    return F.batch_norm(x, None, None, scale, None, training=True)


def _preprocess(x: Tensor, weights: list[Tensor]) -> Tensor:
    return _normalise(F.conv2d(x, weights[0]) if len(weights) == 1 else _halves(x, weights))


def _halves(x: Tensor, weights: list[Tensor], sources: int = 1) -> Tensor:
    """Even pixels through the first 1x1 convolution, odd ones through the second (zeros beyond an odd border).

    The halves of an edge stand side by side: each has as many channels of the result as an edge of the input.
    """
    height, width = x.shape[2:]
    channels = x.shape[1] // sources
    even = F.conv2d(x[:, :, ::2, ::2], weights[0], groups=sources)
    odd = F.pad(x, (0, width % 2, 0, height % 2))[:, :, 1::2, 1::2]
    odd = F.conv2d(odd, weights[1], groups=sources)
    if sources == 1 and even.shape[1] < channels:
        return torch.cat([even, odd], 1)
    half = channels // 2
    return torch.cat([p for pair in zip(even.split(half, 1), odd.split(half, 1), strict=True) for p in pair], 1)
