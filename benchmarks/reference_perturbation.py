"""Plain reference: DARTS-PT, which decides the operations of a trained supernet by what it loses without them."""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from benchmarks.reference_search import PlainSearch
from hdarts.data import Splits
from hdarts.runs.randomness import generator
from hdarts.space import NASBENCH201, SPACES


class PlainPerturbation(PlainSearch):
    """A search followed by its tuning; `decided` has the operation of each (kind, edge), None if it is deleted."""

    def __init__(self, *parts: Any, **more: Any):
        super().__init__(*parts, **more)
        self.decided: dict[tuple[int, int], int | None] = {}
        self.removed: tuple[int, int, int | None] | None = None  # kind, edge, operation (None: all)
        self.space = SPACES[self.params.space]
        self.benchmark = self.space == NASBENCH201
        self.tuning: Splits | None = None  # the images, while decisions are made

    def mixture(self, a: Tensor, level: str) -> Tensor:
        weights = [list(rows.softmax(-1).unbind(0)) for rows in a]
        for (kind, edge), operation in self.decided.items():
            row = torch.zeros(len(self.space.operations), dtype=a.dtype)
            if operation is not None:
                row[operation] = 1
            weights[kind][edge] = row
        if self.removed is not None:
            kind, edge, operation = self.removed
            row = weights[kind][edge].clone()
            row[slice(None) if operation is None else operation] = 0
            weights[kind][edge] = row
        return torch.stack([torch.stack(rows) for rows in weights]) + 0 * a.sum()  # also when all are decided

    def tuned(self, data: Splits) -> Iterator[dict[str, float]]:
        """Search, tune and decide; yield the row of each epoch."""
        yield from self.epochs(data)
        params, count = self.params, len(self.space.edges) + (0 if self.benchmark else 3)
        settings: dict[str, Any] = {"momentum": params.momentum, "weight_decay": params.weight_decay}
        self.sgd = torch.optim.SGD(self.trained, params.learning_rate / 10, **settings)
        self.tuning, self.start = data, params.epochs
        self.count = params.tuning_epochs * (count - 1) + (0 if self.benchmark else 1)
        yield from self.epochs(data)

    def rate(self, epoch: float) -> float:
        if self.tuning is None:
            return super().rate(epoch)
        high, low = self.params.learning_rate / 10, self.params.learning_rate_min
        done = (epoch - self.start) / self.count
        return high if self.benchmark else low + (high - low) * (1 + math.cos(math.pi * done)) / 2

    def begin_epoch(self) -> None:
        if self.tuning is None:
            return
        t, count = self.epoch - self.start, len(self.space.edges) + (0 if self.benchmark else 3)
        for number in range(count):
            if t == self.params.tuning_epochs * number or (
                self.benchmark and number == count - 1 and t == self.count - 1
            ):
                for kind in range(len(self.space.kinds)):
                    self.decide(self.tuning, number, kind)

    def without(self, data: Splits, kind: int, edge: int, operation: int | None) -> float:
        self.removed = (kind, edge, operation)
        found = self.validated(data)["validation_accuracy"]
        self.removed = None
        return found

    def decide(self, data: Splits, number: int, kind: int) -> None:
        draw = generator(self.params.search_seed, "decision", number, kind)
        if number < len(self.space.edges):
            open_edges = [e for e in range(len(self.space.edges)) if (kind, e) not in self.decided]
            edge = open_edges[int(torch.randint(len(open_edges), (), generator=draw))]
            best, lowest = -1, math.inf
            for operation, name in enumerate(self.space.operations):
                if name == "none" and not self.benchmark:
                    continue
                accuracy = self.without(data, kind, edge, operation)
                if accuracy < lowest:
                    best, lowest = operation, accuracy
            self.decided[kind, edge] = best
            return
        nodes: list[list[int]] = []
        for node in range(self.space.inputs, self.space.inputs + self.space.nodes):
            into = [e for e, (_, to) in enumerate(self.space.edges) if to == node]
            into = [e for e in into if self.decided[kind, e] is not None]
            nodes += [into] if len(into) > 2 else []
        edges = nodes[int(torch.randint(len(nodes), (), generator=draw))]
        accuracies = {e: self.without(data, kind, e, None) for e in edges}
        while len(edges) > 2:
            worst, highest = -1, -math.inf
            for e in edges:
                if accuracies[e] >= highest:
                    worst, highest = e, accuracies[e]
            edges.remove(worst)
            self.decided[kind, worst] = None

    def cells(self) -> dict[str, list[tuple[str, int]]]:
        """Return the operations and inputs of the edges that are left, by kind of cell."""
        kept: dict[str, list[tuple[str, int]]] = {kind: [] for kind in self.space.kinds}
        for (kind, edge), operation in sorted(self.decided.items(), key=lambda item: item[0]):
            if operation is not None:
                source = self.space.edges[edge][0]
                kept[self.space.kinds[kind]].append((self.space.operations[operation], source))
        return kept
