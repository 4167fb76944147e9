"""Sizes of the networks that are timed, and the settings of SGD that they share."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchmarks.reference import Named, PlainSupernet
from benchmarks.reference_nasbench201 import PlainBenchmarkSupernet
from hdarts.runs.randomness import generator
from hdarts.search.weights import Batch, SGDSettings
from hdarts.space import DARTS, SPACES, SearchSpace
from hdarts.supernet import Mixture, Supernet

Step = Callable[[], object]

RATE, MOMENTUM, DECAY, CLIP, HIDDEN = 0.025, 0.9, 3e-4, 5.0, 56
SGD = SGDSettings(MOMENTUM, DECAY, CLIP)


@dataclass(frozen=True)
class Setting:
    """Size of a supernet (`cells`: all cells, or cells per stage) and of its batches of square float32 images."""

    channels: int = 16
    cells: int = 8
    batch: int = 16
    size: int = 32
    device: str = "cpu"
    space: str = DARTS.name
    partial_channels: int = 1
    operations: int = 0  # of each edge, drawn anew in each step; 0: all

    @property
    def of(self) -> SearchSpace:
        """Return the search space."""
        return SPACES[self.space]

    def net(self) -> Supernet:
        """Return the supernet of hdarts."""
        return Supernet(self.of, self.channels, self.cells, 10, partial_channels=self.partial_channels)

    def relaxation(self) -> Callable[[Tensor], Mixture] | None:
        """Return what the supernet of hdarts mixes with at alpha; None: softmax(alpha)."""
        draw = generator(0, "operations")

        def few(alpha: Tensor) -> Mixture:
            order = torch.rand(alpha.shape, generator=draw).argsort(-1).to(alpha.device)
            return Mixture(alpha.softmax(-1) * (order < self.operations), sparse=True)

        return few if self.operations else None

    def plain(self) -> Named:
        """Return the plain supernet with the same weights."""
        make = PlainSupernet if self.of is DARTS else PlainBenchmarkSupernet
        net, plain = self.net(), make(self.channels, self.cells, 10)
        plain.load(net.layout, net.initial_w(generator(0, "weights")))
        return plain.to(self.device)

    def data(self) -> tuple[Tensor, Batch, Batch]:
        """Return alpha, an inner batch and an outer batch."""
        draw = generator(0, "data")
        sizes = (self.batch, 3, self.size, self.size)
        inner, outer = (torch.randn(sizes, generator=draw).to(self.device) for _ in range(2))
        labels = torch.arange(self.batch, device=self.device) % 10
        alpha = 1e-3 * torch.randn(self.of.alpha_shape, generator=draw).to(self.device)
        return alpha, (inner, labels), (outer, labels)


def plain_sgd(trained: list[nn.Parameter]) -> torch.optim.SGD:
    """Return SGD as in public codes, with torch's defaults."""
    return torch.optim.SGD(trained, RATE, MOMENTUM, weight_decay=DECAY)
