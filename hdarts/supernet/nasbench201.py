r"""The cells of NAS-Bench-201 in the supernet, as pure functions of named weights, and the blocks that join them.

$$ \mathrm{node}_j = \sum_{i < j} \sum_o \mathrm{weights}_{i \to j, \, o} \; o(\mathrm{node}_i), $$

where node 0 is the cell's input and node 3 its output.

Three stages of cells; between them a residual block of stride 2 that doubles the channels; after them BatchNorm, ReLU,
mean over the map and the classifier (Dong and Yang, ICLR 2020, section 2.1). No BatchNorm follows pooling here. All
edges that leave a node are convolved and mixed together (hdarts.kernels.nasbench201_edges).
"""

from collections.abc import Iterator, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from hdarts.errors import ParameterError
from hdarts.kernels.nasbench201_edges import mixed
from hdarts.space import RESIDUAL, CellPlan, SearchSpace
from hdarts.supernet.custom import CustomOperations
from hdarts.supernet.layout import Shape
from hdarts.supernet.mixture import CellMixture, Mixture
from hdarts.supernet.waves import Wave

Named = Mapping[str, Tensor]


class BenchmarkCells:
    """All cells of a supernet of NAS-Bench-201, used like `DartsCells`."""

    def __init__(
        self,
        space: SearchSpace,
        cells: Sequence[CellPlan],
        waves: Sequence[tuple[Wave, ...]],
        custom: CustomOperations,
        groups: int = 1,
    ):
        if custom:
            raise ParameterError(f"space {space.name}: takes no custom operations; spaces like DARTS do")
        self.space, self.cells, self.waves, self.groups = space, cells, waves, groups

    def joining_shapes(self) -> Iterator[tuple[str, Shape]]:
        """Yield name and shape of the weights outside the edges: residual blocks and the last BatchNorm.

        A residual block has two convolutions with BatchNorm, a and b, and a shortcut.
        """
        for k, cell in enumerate(self.cells):
            if cell.kind == RESIDUAL:
                for part, before in (("a", cell.previous), ("b", cell.channels)):
                    yield f"cells.{k}.{part}.0.weight", (cell.channels, before, 3, 3)
                    yield f"cells.{k}.{part}.1.weight", (cell.channels,)
                    yield f"cells.{k}.{part}.1.bias", (cell.channels,)
                yield f"cells.{k}.shortcut.weight", (cell.channels, cell.previous, 1, 1)
        for name in ("last.weight", "last.bias"):
            yield name, (self.cells[-1].channels,)

    def __call__(self, before: Tensor, x: Tensor, named: Named, mixture: Mixture, compiled: bool) -> Tensor:
        """Return the maps before their mean, for the stem's output `x`; `before` is not used.

        `named` has the convolutions of all edges that leave a node as one tensor, `<cell>.(<node>,).<operation>.0`.
        """
        (of_cell,) = mixture.of_kinds(self.space, self.groups)
        for k, cell in enumerate(self.cells):
            x = _residual(k, x, named) if cell.kind == RESIDUAL else self._cell(k, x, named, of_cell, compiled)
        return F.relu(F.batch_norm(x, None, None, named["last.weight"], named["last.bias"], training=True))

    def _cell(self, k: int, x: Tensor, named: Named, mixture: CellMixture, compiled: bool) -> Tensor:
        """Return the last node of cell `k`, for its input."""
        skip, drop, waves = self.space.operations.index("skip_connect"), mixture.drop, self.waves[k]
        (first,), bypass = mixture.split([x], waves[0], compiled)
        sums: Sequence[Tensor] | None = None
        for j, wave in enumerate(waves):  # of the edges that leave node j
            weights = mixture.weights[wave.sources]
            if drop is not None or mixture.auxiliary is not None:
                columns = [*weights.unbind(1)]
                if drop is not None:
                    skips = [weight * drop(first) for weight in columns[skip]]
                    sums = [one + more for one, more in zip(sums, skips, strict=True)] if sums else skips
                    columns[skip] = torch.zeros_like(columns[skip])
                if mixture.auxiliary is not None:
                    columns[skip] = columns[skip] + mixture.auxiliary
                weights = torch.stack(columns, 1)
            active = any(any(mixture.active[self.space.edges.index(edge)][1:]) for edge in wave.edges)
            if mixture.auxiliary is not None or active:  # not `none` alone
                kernels = [named[f"{k}.{wave.sources}.nor_conv_{size}x{size}.0"] for size in (1, 3)]
                sums = mixed(first, kernels, weights, sums, compiled, mixture.sparse)
            sums = sums or [torch.zeros_like(first, memory_format=torch.channels_last) for _ in wave.nodes]
            done, *sums = sums
            x, firsts, bypass = mixture.node(j, done, bypass, waves[j + 1 : j + 2], compiled)
            first = firsts[0] if firsts else x
        return x


def halved(x: Tensor) -> Tensor:
    """Mean of 2x2 pixels (of those in the image at an odd border); the size is that of a stride-2 convolution."""
    return F.avg_pool2d(x, 2, ceil_mode=True, count_include_pad=False)


def _residual(k: int, x: Tensor, named: Named) -> Tensor:
    inside = x
    for part, stride in (("a", 2), ("b", 1)):
        inside = F.conv2d(F.relu(inside), named[f"cells.{k}.{part}.0.weight"], stride=stride, padding=1)
        scale, offset = named[f"cells.{k}.{part}.1.weight"], named[f"cells.{k}.{part}.1.bias"]
        inside = F.batch_norm(inside, None, None, scale, offset, training=True)
    return inside + F.conv2d(halved(x), named[f"cells.{k}.shortcut.weight"])
