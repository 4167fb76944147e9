"""Plain reference: searches by the relatives of DARTS, whose formulas are those of benchmarks.reference_formulas.

Nothing of `hdarts.search` is used, but random numbers come from the same seeds. The tests compare `hdarts.search` with
it.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from benchmarks import reference, reference_nasbench201
from benchmarks.reference import EDGES, MixedOperation, Named, PlainSupernet
from benchmarks.reference_formulas import At, Relative
from benchmarks.reference_nasbench201 import PlainBenchmarkSupernet
from benchmarks.reference_search import Batch, PlainSearch
from hdarts.data import Splits
from hdarts.runs.randomness import generator
from hdarts.space import CellPlan, SearchSpace


@dataclass
class Parts:
    """What the edges of a network have besides their operations and weights; numbers change by epoch."""

    relative: Relative
    auxiliary: float = 0.0
    dropout: float = 0.0
    masks: torch.Generator | None = None  # of the dropout of the current forward pass


def mixed(x: Tensor, row: Tensor, operations: Sequence[nn.Module], auxiliary: nn.Module | None, parts: Parts) -> Tensor:
    """Return the output of an edge for its row [p, b]."""
    (*p, b), k = row.unbind(), parts.relative.groups
    first, rest = x.split([x.shape[1] // k, x.shape[1] - x.shape[1] // k], 1)
    total: Any = 0.0
    for weight, operation in zip(p, operations, strict=True):
        if float(weight.detach()) != 0 or parts.relative.attack is not None:
            out = operation(first)
            if isinstance(operation, nn.Identity) and parts.dropout and parts.masks is not None:
                out = out * (torch.rand(out.shape, generator=parts.masks) >= parts.dropout) / (1 - parts.dropout)
            total = total + weight * out
        elif parts.relative.numbers:
            total = total + weight
    if auxiliary is not None:
        total = total + parts.auxiliary * auxiliary(first)
    if k > 1:
        rest = rest if total.shape[2] == x.shape[2] else F.max_pool2d(rest, 2, ceil_mode=True)
        total = torch.cat([total, rest], 1)
        total = total.unflatten(1, (k, -1)).transpose(1, 2).flatten(1, 2)
    return b * total


class Edge(MixedOperation):
    """An edge of DARTS, with what `Parts` has."""

    def __init__(self, channels: int, stride: int, parts: Parts):
        super().__init__(channels := channels // parts.relative.groups, stride)
        self.parts = parts
        self.auxiliary = reference.operation("skip_connect", channels, stride) if parts.relative.auxiliary else None

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        return mixed(x, weights, list(self.operations), self.auxiliary, self.parts)


class Cell(reference.Cell):
    """A cell of DARTS that computes its edges by source, then node."""

    def __init__(self, cell: CellPlan, parts: Parts):
        super().__init__(cell)
        self.edges = nn.ModuleList(Edge(cell.channels, cell.stride if i < 2 else 1, parts) for i, _ in EDGES)

    def parts(self) -> dict[str, nn.Module]:
        more = {f"{i}-{j}.auxiliary_skip": edge.auxiliary for (i, j), edge in zip(EDGES, self.edges, strict=True)}
        return super().parts() | {name: one for name, one in more.items() if isinstance(one, nn.Module)}

    def forward(self, before: Tensor, last: Tensor, weights: Tensor) -> Tensor:
        states: list[Any] = [self.preprocess0(before), self.preprocess1(last), 0.0, 0.0, 0.0, 0.0]
        for source in range(5):
            for e, (i, j) in enumerate(EDGES):
                if i == source:
                    states[j] = states[j] + self.edges[e](states[i], weights[e])
        return torch.cat(states[2:], 1)


class BenchmarkCell(reference_nasbench201.Cell):
    """A cell of NAS-Bench-201, with what `Parts` has."""

    def __init__(self, channels: int, parts: Parts):
        super().__init__(channels // parts.relative.groups)
        self.parts, self.auxiliary = parts, nn.Identity() if parts.relative.auxiliary else None

    def edge(self, e: int, x: Tensor, weights: Tensor) -> Tensor:
        source, node = reference_nasbench201.EDGES[e]
        operations = list(self.edges[f"{source}-{node}"].children())[: len(reference_nasbench201.OPERATIONS)]
        return mixed(x, weights, operations, self.auxiliary, self.parts)


def network(space: str, channels: int, layers: int, classes: int, parts: Parts) -> Named:
    """Return the plain supernet of a space, whose cells have `parts`."""
    if space == "darts":
        net = PlainSupernet(channels, layers, classes)
        net.cells = nn.ModuleList(Cell(cell, parts) for cell in net.plan)
        return net
    benchmark = PlainBenchmarkSupernet(channels, layers, classes)
    for k, cell in enumerate(benchmark.cells):
        if isinstance(cell, reference_nasbench201.Cell):
            benchmark.cells[k] = BenchmarkCell(channels * 2 ** (k // (layers + 1)), parts)
    return benchmark


class RelativeSearch(PlainSearch):
    """A plain search by a relative of DARTS, or one stage of it, in a network with these parts."""

    def __init__(self, parts: Parts, space: SearchSpace, *given: Any, kept: Tensor | None = None, **named: Any):
        super().__init__(*given, **named)
        self.parts, self.relative, self.space = parts, parts.relative, space
        self.kept = torch.ones(space.alpha_shape, dtype=torch.bool) if kept is None else kept

    @property
    def t(self) -> int:
        return self.epoch - self.start

    def begin_epoch(self) -> None:
        """Set the weight of the auxiliary skip connection and, as P-DARTS does, the dropout of skip connections."""
        relative, t = self.relative, self.t
        self.parts.auxiliary = relative.auxiliary(t, self.count) if relative.auxiliary else 0.0
        falling, again = (self.count - 1 - t) / self.count, math.exp(-0.2 * (t - relative.warmup))
        self.parts.dropout = relative.skip_dropout * (falling if t < relative.warmup else again)

    def pairs(self, data: Splits, epoch: int) -> Iterator[tuple[Batch, Batch]]:
        if not self.relative.one_level:
            yield from super().pairs(data, epoch)
            return
        half, other = data.train, data.validation
        assert other is not None
        pixels, labels = torch.cat([half.pixels, other.pixels]), torch.cat([half.labels, other.labels])  # type: ignore[list-item]
        both = replace(half, pixels=pixels, labels=labels)
        for batch, _ in super().pairs(replace(data, train=both, validation=both), epoch):
            yield batch, batch

    def mixture(self, a: Tensor, level: str) -> Tensor:
        """Return `(kinds, edges, operations + 1)`: weights of operations, then of edges."""
        source = generator(self.params.search_seed, "mixture", level, self.epoch, self.step) if level else None
        self.parts.masks = None
        if source and self.parts.dropout:
            self.parts.masks = torch.Generator().manual_seed(int(torch.randint(2**62, (), generator=source)))
        temperature = self.relative.temperature(self.t, self.count)
        p, b = self.relative.mixture(a, At(self.space, temperature, source, self.kept))
        return torch.cat([p, b[..., None]], -1)

    def iterate(self, training: Batch, validation: Batch) -> float:
        if self.t < self.relative.warmup:
            return self.step_weights(training)
        if not self.relative.one_level:
            return super().iterate(training, validation)
        (w,), alpha = self.trained, self.alpha  # one backward pass gives both gradients, then both step
        loss = self.loss(w, alpha, training)
        w.grad, alpha.grad = torch.autograd.grad(loss, (w, alpha))
        clip_grad_norm_([w], self.params.clip)
        self.sgd.step()
        self.move_alpha()
        return float(loss.detach())

    def hypergradient(self, training: Batch, validation: Batch) -> Tensor:
        """Return the hypergradient, with the gradient of the term, which depends on the operations' alpha alone."""
        found, m = super().hypergradient(training, validation), len(self.space.operations)
        if self.relative.term is not None:
            term = self.relative.term(self.alpha.detach()[..., :m])
            found[..., :m] += self.relative.term_weight(self.t, self.count) * term
        return found

    @torch.no_grad()
    def move_alpha(self) -> None:
        assert self.alpha.grad is not None
        if self.params.alpha_clip:
            clip_grad_norm_([self.alpha], self.params.alpha_clip)
        if not self.relative.exponentiated:
            self.adam.step()
            return
        theta = self.alpha * torch.exp(-self.params.alpha_learning_rate * self.alpha.grad)
        m = len(self.space.operations)
        operations = theta[..., :m].clamp(min=1e-5)
        self.alpha[..., :m] = operations / operations.sum(-1, keepdim=True)
        if theta.shape[-1] > m:
            for edges in At(self.space, 1.0, None, self.kept).nodes():
                self.alpha[:, edges, m] = theta[:, edges, m] / theta[:, edges, m].sum(-1, keepdim=True)

    def step_weights(self, batch: Batch) -> float:
        if self.relative.attack is None:
            return super().step_weights(batch)
        q = self.perturbed(self.alpha.detach().softmax(-1), batch)
        return self.descend(self.loss_at(q, batch))

    def loss_at(self, q: Tensor, batch: Batch) -> Tensor:
        """Return the loss at mixture weights q."""
        weights = torch.cat([q, torch.ones_like(q[..., :1])], -1)
        return F.cross_entropy(self.logits(self.trained[0], weights, batch[0]), batch[1])

    def perturbed(self, p: Tensor, batch: Batch) -> Tensor:
        """Return SDARTS's mixture weights near p: by chance, then by sign steps up the loss on the batch."""
        eps, steps = self.relative.radius(self.t, self.count), self.relative.attack
        draw = torch.rand(p.shape, generator=generator(self.params.search_seed, "neighbourhood", self.epoch, self.step))
        q = clipped(p + eps * (2 * draw.to(p) - 1))
        if not steps:
            return q
        for _ in range(steps):
            q.requires_grad_()
            (gradient,) = torch.autograd.grad(self.loss_at(q, batch), q)
            q = q.detach() + 2 * eps / steps * gradient.sign()
            q = clipped(p + (q - p).clamp(-eps, eps))
        return p if self.loss_at(q, batch) < self.loss_at(p, batch) else q


def clipped(q: Tensor) -> Tensor:
    """Clamp to [0, 1]; in a row of sum 0 put 1 at its former largest; divide each row by its sum."""
    out = q.clamp(0, 1)
    for row, before in zip(out.flatten(0, 1), q.flatten(0, 1), strict=True):
        if row.sum() == 0:
            row[before.argmax()] = 1
    return out / out.sum(-1, keepdim=True)
