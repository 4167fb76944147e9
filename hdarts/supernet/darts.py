r"""The cells of DARTS in the supernet, as pure functions of named weights.

$$ \mathrm{node}_j = \sum_{i < j} \sum_o \mathrm{weights}_{i \to j, \, o} \; o(\mathrm{node}_i) \qquad
(\mathrm{thesis, \; eq. \; 12 \; and \; 13}) $$

The function is computed exactly, with fewer calls and less memory than edge by edge (tests compare the two):

- the separable convolutions of all edges of a wave are computed together (hdarts.kernels.separable);
- pooling and identity of a node are computed once, not once per edge, and mixed for all target nodes
  (hdarts.kernels.pooling);
- the weight of a convolutional operation is the scale of its last BatchNorm;
- tensors are channels-last.
"""

from collections.abc import Iterator, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from hdarts.errors import ParameterError
from hdarts.kernels.pooling import Pooling
from hdarts.kernels.separable import BlockWeights, Separable
from hdarts.space import CellPlan, SearchSpace
from hdarts.space.operations import Block, factorised_reduction
from hdarts.supernet.custom import CustomOperations, add_custom, check_operations
from hdarts.supernet.layout import Shape
from hdarts.supernet.mixture import AUXILIARY, CellMixture, Mixture
from hdarts.supernet.waves import Wave

Named = Mapping[str, Tensor]
Active = Mapping[str, Sequence[bool]]  # by operation: the edges that have it


class DartsCells:
    """All cells of a supernet of DARTS or a custom space; `waves` has those of each cell."""

    def __init__(
        self,
        space: SearchSpace,
        cells: Sequence[CellPlan],
        waves: Sequence[tuple[Wave, ...]],
        custom: CustomOperations,
        groups: int = 1,
    ):
        check_operations(space.operations, custom)
        if not any("conv" in name and name not in custom for name in space.operations):
            raise ParameterError(f"space {space.name}: its supernet needs a separable convolution among operations")
        self.space, self.cells, self.waves, self.custom, self.groups = space, cells, waves, custom, groups

    def joining_shapes(self) -> Iterator[tuple[str, Shape]]:
        """Yield name and shape of the weights outside the edges: the preprocessing of each cell's two inputs."""
        for k, cell in enumerate(self.cells):
            for i, channels in enumerate((cell.previous_previous, cell.previous)):
                if i == 0 and cell.after_reduction:
                    for j, convolution in enumerate(factorised_reduction().convolutions):
                        yield f"cells.{k}.preprocess0.{j}", convolution.shape(channels, cell.channels)
                else:
                    yield f"cells.{k}.preprocess{i}.0", (cell.channels, channels, 1, 1)

    def __call__(self, before: Tensor, x: Tensor, named: Named, mixture: Mixture, compiled: bool) -> Tensor:
        """Return the maps of the last cell for the two inputs of the first cell, which come from the stem.

        `named` has each convolution on all edges of a wave as one tensor, `<cell>.<sources>.<operation>.<i>`.
        """
        mixtures = dict(zip(self.space.kinds, mixture.of_kinds(self.space, self.groups), strict=True))
        last = F.relu(x)  # both inputs of the next cells are read after ReLU
        before = last if before is x else F.relu(before)
        for k, cell in enumerate(self.cells):
            x = self._cell(k, before, last, named, mixtures[cell.kind], compiled)
            before, last = last, F.relu(x)
        return x

    def _cell(self, k: int, before: Tensor, last: Tensor, named: Named, mixture: CellMixture, compiled: bool) -> Tensor:
        """Return the output nodes of cell `k`, concatenated, for the outputs of the two cells before, after ReLU."""
        halves = 2 if self.cells[k].after_reduction else 1
        nodes = [
            _preprocess(before, [named[f"cells.{k}.preprocess0.{j}"] for j in range(halves)]),
            _preprocess(last, [named[f"cells.{k}.preprocess1.0"]]),
        ]
        sums: dict[int, Tensor] = {}
        waves = self.waves[k]
        x, bypass = mixture.split(nodes, waves[0], compiled)
        for j, wave in enumerate(waves):
            onto = [sums.get(node) for node in wave.nodes]
            sums |= zip(
                wave.nodes, self._wave(wave, x, onto, f"{k}.{wave.sources}.", named, mixture, compiled), strict=True
            )
            done = sums.pop(len(nodes))  # all its edges are added now
            node, x, bypass = mixture.node(j, done, bypass, waves[j + 1 : j + 2], compiled)
            nodes.append(node)
        return torch.cat(nodes[-self.space.outputs :], 1)

    def _wave(
        self, wave: Wave, x: Sequence[Tensor], onto: Sequence[Tensor | None], prefix: str, named: Named,
        mixture: CellMixture, compiled: bool,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        """Return `onto` (None: 0) plus the edges' outputs at each target node, for the sources x, `(N, C, H, W)` each.

        Weights of the edges from S sources to m nodes are concatenated: `S m C` channels.
        """
        indices = [self.space.edges.index(edge) for edge in wave.edges]
        mixing = mixture.weights[wave.sources].T  # (operations, S m)
        by_operation = zip(*(mixture.active[i] for i in indices), strict=True)
        active = dict(zip(self.space.operations, by_operation, strict=True))
        # C equal values per edge and operation, contiguous: F.batch_norm gives wrong gradients on the CPU for
        # channels-last input and an expanded (stride 0) weight
        columns = mixing.unsqueeze(-1).expand(-1, -1, x[0].shape[1]).contiguous().flatten(1).unbind(0)
        scales = dict(zip(self.space.operations, columns, strict=True))
        if mixture.auxiliary is not None:
            scales[AUXILIARY] = mixture.auxiliary.expand(columns[0].shape).contiguous()
            active[AUXILIARY] = (True,) * len(indices)
        convolutions = [
            (o, steps) for o, steps in wave.operations(self.space) if o != "skip_connect" and any(active[o])
        ]
        if convolutions:
            weights = [_block_weights(named, f"{prefix}{o}", steps, scales[o]) for o, steps in convolutions]
            separable = Separable(len(x), len(onto), tuple(steps for _, steps in convolutions), compiled)
            nodes = separable(x, [one for blocks in weights for one in blocks], [active[o] for o, _ in convolutions])
        else:
            nodes, onto = _started(onto, x[0], wave.stride), [None] * len(onto)
        if self.custom:
            of_wave = {name.removeprefix(prefix): each for name, each in named.items() if name.startswith(prefix)}
            nodes = tuple(add_custom(self.custom, x, wave.stride, of_wave, scales, active, list(nodes)))
        if mixture.noise is not None and "noise" in active:
            more = [*nodes]
            for e, weight in enumerate(mixing[self.space.operations.index("noise")].unbind(0)):
                if active["noise"][e]:
                    more[e % len(more)] = more[e % len(more)] + weight * mixture.noise(nodes[0])
            nodes = tuple(more)
        for name in ("skip_connect", AUXILIARY) if wave.stride == 2 else ():
            if name in scales:
                kernels = [named[f"{prefix}{name}.{i}"] for i in range(2)]
                nodes = _reduced(x, kernels, scales[name], active[name], nodes)
        nodes = self._pool(wave, x, mixing, active, nodes, mixture, compiled)
        return tuple(node if start is None else start + node for start, node in zip(onto, nodes, strict=True))

    def _pool(
        self, wave: Wave, x: Sequence[Tensor], mixing: Tensor, active: Active, nodes: tuple[Tensor, ...],
        mixture: CellMixture, compiled: bool,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        """Return `nodes` with pooling and identity added, as far as the space has them."""
        pooling = Pooling(len(x), len(nodes), wave.stride, compiled, mixture.sparse)
        rows = dict(zip(self.space.operations, mixing.unbind(0), strict=True))
        absent = torch.zeros_like(mixing[0])  # the weight of an operation that a custom space lacks
        of_skip, drop = None, mixture.drop
        if wave.stride == 1 and drop is not None:
            of_skip = rows.pop("skip_connect", None)
        if wave.stride == 1 and mixture.auxiliary is not None:
            rows["skip_connect"] = rows.get("skip_connect", absent) + mixture.auxiliary
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


def _block_weights(named: Named, prefix: str, steps: Sequence[Block], scale: Tensor) -> list[BlockWeights]:
    """Return the weights of the blocks of an operation; `scale` is that of its last BatchNorm."""
    return [
        BlockWeights(named[f"{prefix}.{2 * i}"], named[f"{prefix}.{2 * i + 1}"], scale if i + 1 == len(steps) else None)
        for i in range(len(steps))
    ]


def _normalise(x: Tensor, scale: Tensor | None = None) -> Tensor:
    return F.batch_norm(x, None, None, scale, None, training=True)


def _preprocess(x: Tensor, weights: list[Tensor]) -> Tensor:
    return _normalise(F.conv2d(x, weights[0]) if len(weights) == 1 else _halves(x, weights))


def _started(onto: Sequence[Tensor | None], x: Tensor, stride: int) -> tuple[Tensor, ...]:
    """Return the sums to which a wave adds at each of its nodes: those of earlier waves, or maps of zeros."""
    height, width = (-(-length // stride) for length in x.shape[2:])
    empty = x[:, :, :height, :width]
    return tuple(torch.zeros_like(empty, memory_format=torch.channels_last) if one is None else one for one in onto)


def _reduced(
    x: Sequence[Tensor], kernels: list[Tensor], scale: Tensor, active: Sequence[bool], nodes: tuple[Tensor, ...]
) -> tuple[Tensor, ...]:
    """Return `nodes` with the factorised reductions of the edges that have them added."""
    if all(active):
        halves = _halves(F.relu(torch.cat([*x], 1)), kernels, len(x), len(x) * len(nodes))
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
