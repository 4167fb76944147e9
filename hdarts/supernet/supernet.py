"""The over-parameterised network: every operation on every edge, as a pure function of one flat weight vector.

BatchNorm uses the statistics of the batch and keeps no buffers, so the output depends on images, `w` and the mixture
weights alone. What the cells compute is in `darts` and `nasbench201`; everything else is common to both spaces.
"""

import math
from collections.abc import Iterator, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from hdarts.errors import ParameterError
from hdarts.space import NASBench201, SearchSpace, check_space, mask_alpha, plan
from hdarts.space.layers import stem_widths
from hdarts.space.operations import Convolution, blocks
from hdarts.supernet.custom import CustomOperations, CustomWeight
from hdarts.supernet.darts import DartsCells
from hdarts.supernet.layout import Layout, Shape
from hdarts.supernet.mixture import AUXILIARY, Mixture
from hdarts.supernet.nasbench201 import BenchmarkCells
from hdarts.supernet.waves import Wave, waves


class Supernet:
    """Supernet of a space: `supernet(images, w, alpha) -> logits`.

    `w` `(n_w,)` is laid out [normal cells | reduction cells | rest] or [cells | rest]; rest = stem, what joins the
    cells (DARTS: preprocessing, NAS-Bench-201: residual blocks, last BatchNorm), classifier. `n_cell_w`: number of
    weights of each kind of cell. In a cell, the weights of one convolution of one operation on all edges of a wave are
    adjacent: one view of `w`. Batch statistics need more than one value per channel: N H W > 1 in the last cell.

    layers: cells of a DARTS network; cells in each of the three stages of NAS-Bench-201.
    custom: custom operations by name; they are computed edge by edge, followed by BatchNorm.
    auxiliary_skip: every edge has one more skip connection, with the weight `Mixture.auxiliary`; at stride 2 it has
    weights in `w`, named `auxiliary_skip`.
    partial_channels: K; the operations work on the first C / K channels of a node (Xu et al., PC-DARTS). The others
    bypass them, times the sum of the edge's weights, at stride 2 after the maximum of 2x2 pixels. Then the K groups of
    channels are shuffled.
    stem: cifar or imagenet (`hdarts.space.layers.stem_widths`).
    """

    def __init__(
        self,
        space: SearchSpace,
        channels: int,
        layers: int,
        classes: int,
        image_channels: int = 3,
        custom: CustomOperations | None = None,
        auxiliary_skip: bool = False,
        partial_channels: int = 1,
        stem: str = "cifar",
    ):
        check_space(space)
        for name, value in (
            ("channels", channels),
            ("classes", classes),
            ("image_channels", image_channels),
            ("partial_channels", partial_channels),
        ):
            if value < 1:
                raise ParameterError(f"{name} = {value}: has to be at least 1")
        if channels % partial_channels:
            raise ParameterError(f"partial_channels = {partial_channels} does not divide channels = {channels}")
        self.space, self.channels, self.classes, self.image_channels = space, channels, classes, image_channels
        self.custom, self.auxiliary_skip = dict(custom or {}), auxiliary_skip
        self.partial_channels = partial_channels
        self.compiled = True  # use kernels where this machine can
        self.stem = stem_widths(stem, channels, space.stem)
        self.cells = plan(channels, layers, space, stem)
        self.waves = [waves(space, cell) for cell in self.cells]
        self._cells = (BenchmarkCells if isinstance(space, NASBench201) else DartsCells)(
            space, self.cells, self.waves, self.custom, partial_channels
        )
        entries = [list(self._cell_entries(kind)) for kind in space.kinds]
        rest = list(self._rest_entries())
        self.layout = Layout.of([entry for kind in entries for entry in kind] + rest)
        self.n_cell_w = [sum(math.prod(shape) for _, shape in kind) for kind in entries]
        # the same vector with the edges of a wave as one tensor: what a forward pass reads
        self._stacked = Layout.of([*self._stacked_entries(), *rest])

    @property
    def n_w(self) -> int:
        return self.layout.total

    def _convolutions(self, kind: str) -> Iterator[tuple[int, Wave, str, Convolution | CustomWeight]]:
        """Yield (cell, wave, operation.i, its convolution) of a kind of cell, in the order of `w`."""
        for k, cell in enumerate(self.cells):
            for wave in self.waves[k] if cell.kind == kind else ():
                auxiliary = ((AUXILIARY, blocks("skip_connect", wave.stride)),) if self.auxiliary_skip else ()
                for operation, steps in (*wave.operations(self.space), *auxiliary):
                    listed = [convolution for block in steps for convolution in block.convolutions]
                    yield from ((k, wave, f"{operation}.{i}", convolution) for i, convolution in enumerate(listed))
                for name, operation in self.custom.items():
                    for i, shape in enumerate(operation.shapes(cell.channels // self.partial_channels, wave.stride)):
                        yield k, wave, f"{name}.{i}", CustomWeight(shape)

    def _inside(self, k: int) -> tuple[int, int]:
        """Return the channels that enter and leave the operations of cell `k`."""
        channels = self.cells[k].channels // self.partial_channels
        return channels, channels

    def _cell_entries(self, kind: str) -> Iterator[tuple[str, Shape]]:
        for k, wave, name, convolution in self._convolutions(kind):
            shape = convolution.shape(*self._inside(k))
            yield from ((f"cells.{k}.{source}-{node}.{name}", shape) for source, node in wave.edges)

    def _stacked_entries(self) -> Iterator[tuple[str, Shape]]:
        for kind in self.space.kinds:
            for k, wave, name, convolution in self._convolutions(kind):
                out, *rest = convolution.shape(*self._inside(k))
                yield f"{k}.{wave.sources}.{name}", (len(wave.edges) * out, *rest)

    def _rest_entries(self) -> Iterator[tuple[str, Shape]]:
        before = self.image_channels
        for i, width in enumerate(self.stem):
            yield f"stem.{2 * i}.weight", (width, before, 3, 3)
            # DARTS's stem has the one affine BatchNorm of its supernet; the count of 1.93 million weights includes it
            yield f"stem.{2 * i + 1}.weight", (width,)
            yield f"stem.{2 * i + 1}.bias", (width,)
            before = width
        yield from self._cells.joining_shapes()
        yield "classifier.weight", (self.classes, self.space.outputs * self.cells[-1].channels)
        yield "classifier.bias", (self.classes,)

    def convolution_shapes(self, kind: int) -> list[Shape]:
        """Return the shapes of the generated convolutions of one kind of cell, in the order of `w`."""
        return [shape for _, shape in self._cell_entries(self.space.kinds[kind])]

    def convolution_edges(self, kind: int) -> list[int]:
        """Return the edge, a row of alpha, of each generated convolution of one kind of cell."""
        return [
            self.space.edges.index(edge)
            for _, wave, _, _ in self._convolutions(self.space.kinds[kind])
            for edge in wave.edges
        ]

    def initial_w(self, generator: torch.Generator) -> Tensor:
        """Return weights initialised like PyTorch's layers: uniform within +-1/sqrt(fan-in); BatchNorm at 1 and 0."""
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
        return self.layout.unpack(w)

    def pack(self, tensors: Mapping[str, Tensor]) -> Tensor:
        return self.layout.pack(tensors)

    def __call__(self, images: Tensor, w: Tensor, alpha: Tensor) -> Tensor:
        """Return logits `(N, classes)` of images `(N, C, H, W)` for architecture parameters `alpha`.

        The mixture weights are softmax(alpha), over the candidates of each edge.
        """
        return self.mixture(images, w, mask_alpha(alpha, self.space.mask).softmax(-1))

    def mixture(self, images: Tensor, w: Tensor, mixture: Tensor | Mixture) -> Tensor:
        """Return logits for mixture weights `(kinds, edges, operations)`; one-hot rows give a discrete network."""
        mixture = mixture if isinstance(mixture, Mixture) else Mixture(mixture)
        mixture.check(self.space, self.auxiliary_skip)
        weights = mixture.weights.to(w.dtype)  # alpha.csv is read as float64, and kernels compute in the type of w
        mixture = mixture._replace(weights=weights, sparse=mixture.sparse or self.space.mask is not None)
        named = self._stacked.unpack(w)
        x = self._cells(*self._stem(images, named), named, mixture.masked(), self.compiled)
        return F.linear(x.mean((2, 3)), named["classifier.weight"], named["classifier.bias"])

    def _stem(self, images: Tensor, named: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return both inputs of the first cell: the outputs of the stem's last two convolutions, or of its only one."""
        outputs = [images.contiguous(memory_format=torch.channels_last)]
        for i in range(len(self.stem)):
            x = F.relu(outputs[-1]) if i else outputs[-1]
            x = F.conv2d(x, named[f"stem.{2 * i}.weight"], stride=1 if len(self.stem) == 1 else 2, padding=1)
            scale, offset = named[f"stem.{2 * i + 1}.weight"], named[f"stem.{2 * i + 1}.bias"]
            outputs.append(F.batch_norm(x, None, None, scale, offset, training=True))
        return outputs[1:][-2:][0], outputs[-1]
