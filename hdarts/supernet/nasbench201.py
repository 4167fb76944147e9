"""The supernet of NAS-Bench-201 as pure functions of named weights: cells with all operations, and what joins them.

    node_j = sum_{i < j} sum_o weights[i->j, o] * o(node_i),   node_0 the cell's input, node_3 its output

Three stages of cells; between them a residual block of stride 2 that doubles the channels; behind them BatchNorm, ReLU,
mean over the map and the classifier (Dong and Yang, ICLR 2020, section 2.1). Pooling has no BatchNorm behind it here.
All edges that leave a node are convolved and mixed together (hdarts.kernels.nasbench201_edges).
"""

from collections.abc import Iterator, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from hdarts.kernels.nasbench201_edges import mixed
from hdarts.space import NASBENCH201, RESIDUAL, CellPlan
from hdarts.supernet.layout import Shape

Named = Mapping[str, Tensor]


def residual_shapes(k: int, cell: CellPlan) -> Iterator[tuple[str, Shape]]:
    """Yield name and shape of the weights of the residual block that is cell `k`: convolutions a and b, shortcut."""
    for part, before in (("a", cell.previous), ("b", cell.channels)):
        yield f"cells.{k}.{part}.0.weight", (cell.channels, before, 3, 3)
        yield f"cells.{k}.{part}.1.weight", (cell.channels,)
        yield f"cells.{k}.{part}.1.bias", (cell.channels,)
    yield f"cells.{k}.shortcut.weight", (cell.channels, cell.previous, 1, 1)


def stages(cells: Sequence[CellPlan], x: Tensor, named: Named, weights: Tensor, compiled: bool = True) -> Tensor:
    """Return the maps before their mean, for the stem's output x `(N, C, H, W)` and operation weights `(6, 5)`.

    `named` has the convolutions of all edges that leave a node as one tensor, `<cell>.(<node>,).<operation>.0`.
    """
    for k, cell in enumerate(cells):
        x = _residual(k, x, named) if cell.kind == RESIDUAL else _cell(k, x, named, weights, compiled)
    return F.relu(F.batch_norm(x, None, None, named["last.weight"], named["last.bias"], training=True))


def halved(x: Tensor) -> Tensor:
    """Mean of 2x2 pixels; where a size is odd, of those that there are, so that it fits a convolution of stride 2."""
    return F.avg_pool2d(x, 2, ceil_mode=True, count_include_pad=False)


def _residual(k: int, x: Tensor, named: Named) -> Tensor:
    inside = x
    for part, stride in (("a", 2), ("b", 1)):
        inside = F.conv2d(F.relu(inside), named[f"cells.{k}.{part}.0.weight"], stride=stride, padding=1)
        scale, offset = named[f"cells.{k}.{part}.1.weight"], named[f"cells.{k}.{part}.1.bias"]
        inside = F.batch_norm(inside, None, None, scale, offset, training=True)
    return inside + F.conv2d(halved(x), named[f"cells.{k}.shortcut.weight"])


def _cell(k: int, x: Tensor, named: Named, weights: Tensor, compiled: bool) -> Tensor:
    empty = [torch.zeros_like(x, memory_format=torch.channels_last) for _ in range(NASBENCH201.nodes)]
    states = [x, *empty]
    for source in range(NASBENCH201.nodes):
        leaving = [e for e, (start, _) in enumerate(NASBENCH201.edges) if start == source]  # to nodes source + 1, ...
        kernels = [named[f"{k}.{(source,)}.nor_conv_{size}x{size}.0"] for size in (1, 3)]
        rows = torch.stack([weights[e] for e in leaving])
        states[source + 1 :] = mixed(states[source], kernels, rows, states[source + 1 :], compiled)
    return states[-1]
