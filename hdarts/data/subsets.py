"""Class-balanced subsets and splits: rows as functions of the labels and a generator only."""

import torch
from torch import Tensor


def balanced_subset(labels: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Return `count` ascending rows with equally many of each class, as far as the classes reach.

    A smaller `count` with the same generator state gives a subset of the larger one.
    """
    rank, _ = _ranks(labels, generator)
    return torch.argsort(rank, stable=True)[:count].sort().values


def stratified_split(labels: Tensor, fraction: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return ascending rows `(rest, chosen)`; `chosen` is `fraction` of all rows and, to within one, of each class."""
    rank, size = _ranks(labels, generator)
    order = torch.argsort((rank + 0.5) / size, stable=True)
    count = round(fraction * len(labels))
    return order[count:].sort().values, order[:count].sort().values


def _ranks(labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return for each row its random position `0, 1, ...` among the rows of its class, and the size of that class."""
    shuffled = torch.randperm(len(labels), generator=generator)
    by_class = shuffled[torch.argsort(labels[shuffled], stable=True)]
    size = torch.bincount(labels)
    first = size.cumsum(0) - size
    rank = torch.empty_like(labels)
    rank[by_class] = torch.arange(len(labels)) - first[labels[by_class]]
    return rank, size[labels].double()
