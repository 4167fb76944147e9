"""The cells of DARTS in the supernet, as pure functions of named weights.

    node_j = sum_{i < j} sum_o weights[i->j, o] * o(node_i)          (thesis eq. 12 and 13)

The function is computed exactly, with fewer calls and less memory than edge by edge (tests compare the two):

- the separable convolutions of all edges of a wave are computed together (hdarts.kernels.separable);
- pooling and identity of a node are computed once, not once per edge, and mixed for all target nodes
  (hdarts.kernels.pooling);
- the weight of a convolutional operation is the scale of its last BatchNorm;
- tensors are channels-last.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from hdarts.errors import ParameterError
from hdarts.kernels.pooling import Pooling
from hdarts.kernels.separable import BlockWeights, Separable
from hdarts.space import CellPlan, SearchSpace
from hdarts.space.operations import factorised_reduction
from hdarts.supernet.custom import CustomOperations, add_custom, check_operations
from hdarts.supernet.layout import Shape
from hdarts.supernet.mixture import AUXILIARY, Mixture
from hdarts.supernet.waves import Wave

Named = Mapping[str, Tensor]
Active = Mapping[str, Sequence[bool]]  # by operation: the edges that have it


class _Call(NamedTuple):
    """What computes the cells of one kind, besides their inputs."""

    named: Named
    weights: Sequence[Tensor]  # the mixture weights of each edge
    active: Sequence[Sequence[bool]]  # by edge and operation: what is computed
    offsets: Sequence[Tensor]  # of each computed node; empty: 0
    mixture: Mixture
    compiled: bool


class DartsCells:
    """All cells of a supernet of DARTS or a custom space; `waves` has those of each cell."""

    def __init__(
        self,
        space: SearchSpace,
        cells: Sequence[CellPlan],
        waves: Sequence[tuple[Wave, ...]],
        custom: CustomOperations,
    ):
        check_operations(space.operations, custom)
        if not any("conv" in name and name not in custom for name in space.operations):
            raise ParameterError(f"space {space.name}: its supernet needs a separable convolution among operations")
        self.space, self.cells, self.waves, self.custom = space, cells, waves, custom

    def joining_shapes(self) -> Iterator[tuple[str, Shape]]:
        """Yield name and shape of the weights outside the edges: the preprocessing of each cell's two inputs."""
        for k, cell in enumerate(self.cells):
            for i, channels in enumerate((cell.previous_previous, cell.previous)):
                if i == 0 and cell.after_reduction:
                    for j, convolution in enumerate(factorised_reduction().convolutions):
                        yield f"cells.{k}.preprocess0.{j}", convolution.shape(channels, cell.channels)
                else:
                    yield f"cells.{k}.preprocess{i}.0", (cell.channels, channels, 1, 1)

    def __call__(self, x: Tensor, named: Named, mixture: Mixture, compiled: bool) -> Tensor:
        """Return the maps of the last cell for the stem's output `x`.

        `named` has each convolution on all edges of a wave as one tensor, `<cell>.<sources>.<operation>.<i>`.
        """
        calls, active = {}, mixture.active()
        for i, (kind, rows) in enumerate(zip(self.space.kinds, mixture.weights.unbind(0), strict=True)):
            offsets = mixture.offsets_of_nodes(self.space, i)
            calls[kind] = _Call(named, rows.unbind(0), active[i], offsets, mixture, compiled)
        before = last = F.relu(x)  # both inputs of the next cells are read after ReLU
        for k, cell in enumerate(self.cells):
            x = self._cell(k, before, last, calls[cell.kind])
            before, last = last, F.relu(x)
        return x

    def _cell(self, k: int, before: Tensor, last: Tensor, call: _Call) -> Tensor:
        """Return the nodes of cell `k`, concatenated, for the outputs of the two cells before, after ReLU."""
        halves, named = 2 if self.cells[k].after_reduction else 1, call.named
        states = {
            0: _preprocess(before, [named[f"cells.{k}.preprocess0.{j}"] for j in range(halves)]),
            1: _preprocess(last, [named[f"cells.{k}.preprocess1.0"]]),
            **dict(enumerate(call.offsets, self.space.inputs)),
        }
        for wave in self.waves[k]:
            x, onto = [states[source] for source in wave.sources], [states.get(node) for node in wave.nodes]
            states |= zip(wave.nodes, self._wave(wave, x, onto, f"{k}.{wave.sources}.", call), strict=True)
        return torch.cat([states[node] for node in range(self.space.inputs, self.space.inputs + self.space.nodes)], 1)

    def _wave(
        self, wave: Wave, x: list[Tensor], onto: Sequence[Tensor | None], prefix: str, call: _Call
    ) -> tuple[Tensor, ...]:
        """Return `onto` (None: 0) plus the edges' outputs at each target node, for the sources x, `(N, C, H, W)` each.

        Weights of the edges from S sources to m nodes are concatenated: `S m C` channels.
        """
        indices = [self.space.edges.index(edge) for edge in wave.edges]
        mixing = torch.stack([call.weights[i] for i in indices], 1)  # (operations, S m)
        by_operation = zip(*(call.active[i] for i in indices), strict=True)
        active = dict(zip(self.space.operations, by_operation, strict=True))
        # C equal values per edge and operation, contiguous: F.batch_norm gives wrong gradients on the CPU for
        # channels-last input and an expanded (stride 0) weight
        columns = mixing.unsqueeze(-1).expand(-1, -1, x[0].shape[1]).contiguous().flatten(1).unbind(0)
        scales = dict(zip(self.space.operations, columns, strict=True))
        if call.mixture.auxiliary is not None:
            scales[AUXILIARY] = call.mixture.auxiliary.expand(columns[0].shape).contiguous()
            active[AUXILIARY] = (True,) * len(indices)
        if any(any(active[name]) for name, _ in wave.operations(self.space) if name != "skip_connect"):
            nodes = self._convolve(wave, x, prefix, call, scales, active)
        else:
            nodes, onto = _started(onto, x[0], wave.stride), [None] * len(onto)
        if self.custom:
            of_wave = {name.removeprefix(prefix): each for name, each in call.named.items() if name.startswith(prefix)}
            nodes = tuple(add_custom(self.custom, x, wave.stride, of_wave, scales, active, list(nodes)))
        for name in ("skip_connect", AUXILIARY) if wave.stride == 2 else ():
            if name in scales:
                kernels = [call.named[f"{prefix}{name}.{i}"] for i in range(2)]
                nodes = _reduced(x, kernels, scales[name], active[name], nodes)
        nodes = self._pool(wave, x, mixing, active, nodes, call)
        return tuple(node if start is None else start + node for start, node in zip(onto, nodes, strict=True))

    def _convolve(
        self, wave: Wave, x: list[Tensor], prefix: str, call: _Call, scales: Named, active: Active
    ) -> tuple[Tensor, ...]:
        """Return the sum of the separable convolutions at each target node."""
        named = call.named
        operations = [(name, steps) for name, steps in wave.operations(self.space) if name != "skip_connect"]
        weights = [
            BlockWeights(
                named[f"{prefix}{name}.{2 * i}"], named[f"{prefix}{name}.{2 * i + 1}"],
                scales[name] if block is steps[-1] else None,
            )
            for name, steps in operations
            for i, block in enumerate(steps)
        ]  # fmt: skip
        separable = Separable(len(x), len(wave.nodes), tuple(steps for _, steps in operations), call.compiled)
        return separable(x, weights, [active[name] for name, _ in operations])

    def _pool(
        self, wave: Wave, x: list[Tensor], mixing: Tensor, active: Active, nodes: tuple[Tensor, ...], call: _Call
    ) -> tuple[Tensor, ...]:
        """Return `nodes` with pooling and identity added, as far as the space has them."""
        pooling = Pooling(len(x), len(nodes), wave.stride, call.compiled, call.mixture.sparse)
        rows = dict(zip(self.space.operations, mixing.unbind(0), strict=True))
        absent = torch.zeros_like(mixing[0])  # the weight of an operation that a custom space lacks
        of_skip, drop = None, call.mixture.drop
        if wave.stride == 1 and drop is not None:
            of_skip = rows.pop("skip_connect", None)
        if wave.stride == 1 and call.mixture.auxiliary is not None:
            rows["skip_connect"] = rows.get("skip_connect", absent) + call.mixture.auxiliary
            active = {**active, "skip_connect": active[AUXILIARY]}
        if any(any(active.get(name, ())) for name in pooling.operations if name in rows):
            chosen = torch.stack([rows.get(name, absent) for name in pooling.operations])
            nodes = pooling(x, chosen.view(-1, len(x), len(nodes)).permute(2, 0, 1), nodes)
        if of_skip is None or drop is None:
            return nodes
        found = list(nodes)
        for e, (weight, on) in enumerate(zip(of_skip.unbind(0), active["skip_connect"], strict=True)):
            if on:
                source, node = divmod(e, len(nodes))
                found[node] = found[node] + weight * drop(x[source])
        return tuple(found)


def _normalise(x: Tensor, scale: Tensor | None = None) -> Tensor:
    return F.batch_norm(x, None, None, scale, None, training=True)


def _preprocess(x: Tensor, weights: list[Tensor]) -> Tensor:
    return _normalise(F.conv2d(x, weights[0]) if len(weights) == 1 else _halves(x, weights))


def _started(onto: Sequence[Tensor | None], x: Tensor, stride: int) -> tuple[Tensor, ...]:
    """Return what the nodes of a wave start from, as whole maps."""
    found, (height, width) = [], (-(-length // stride) for length in x.shape[2:])
    for one in onto:
        if one is None or one.dim() == 0:  # 0, or an offset
            empty = torch.zeros_like(x[:, :, :height, :width], memory_format=torch.channels_last)
            one = empty if one is None else empty + one
        found.append(one)
    return tuple(found)


def _reduced(
    x: list[Tensor], kernels: list[Tensor], scale: Tensor, active: Sequence[bool], nodes: tuple[Tensor, ...]
) -> tuple[Tensor, ...]:
    """Return `nodes` with the factorised reductions of the edges that have them added."""
    if all(active):
        halves = _halves(F.relu(torch.cat(x, 1)), kernels, len(x), len(x) * len(nodes))
        terms = _normalise(halves, scale).permute(0, 2, 3, 1)
        sums = terms.unflatten(-1, (len(x), len(nodes), -1)).sum(3).permute(3, 0, 4, 1, 2)
        return tuple(node + more for node, more in zip(nodes, sums, strict=True))
    found = list(nodes)
    of_edges = zip(active, *(one.chunk(len(active)) for one in (scale, *kernels)), strict=True)
    for e, (on, factor, *weights) in enumerate(of_edges):
        source, node = divmod(e, len(nodes))
        if on:
            found[node] = found[node] + _normalise(_halves(F.relu(x[source]), weights), factor)
    return tuple(found)


def _halves(x: Tensor, weights: list[Tensor], sources: int = 1, results: int = 1) -> Tensor:
    """Convolve even pixels with the first 1x1 convolution, odd ones with the second (zeros beyond an odd border).

    x `(N, sources C, H, W)`; the `results` of the factorised reductions, ordered by source, are concatenated, each as
    the half of its channels from the even pixels, then the half from the odd ones.
    """
    height, width = x.shape[2:]
    both = x, F.pad(x, (0, width % 2, 0, height % 2))
    # pixels are selected in (N, H, W, C), so that the gradients are channels-last too
    halves = [one.permute(0, 2, 3, 1)[:, i::2, i::2].permute(0, 3, 1, 2) for i, one in enumerate(both)]
    even, odd = (F.conv2d(half, weight, groups=sources) for half, weight in zip(halves, weights, strict=True))
    return torch.cat(
        [half for pair in zip(even.chunk(results, 1), odd.chunk(results, 1), strict=True) for half in pair], 1
    )
