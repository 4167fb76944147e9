"""Named tensors to and from one flat vector, and how far two vectors agree."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Layout:
    """Names and shapes of tensors that are concatenated to one flat vector.

    >>> layout = Layout.of([("matrix", (2, 2)), ("offset", (2,))])
    >>> layout.unpack(torch.arange(6.0))["offset"]
    tensor([4., 5.])
    """

    names: tuple[str, ...]
    shapes: tuple[Shape, ...]

    @classmethod
    def of(cls, entries: Iterable[tuple[str, Shape]]) -> "Layout":
        names, shapes = zip(*entries, strict=True)
        return cls(tuple(names), tuple(shapes))

    @property
    def sizes(self) -> list[int]:
        return [math.prod(shape) for shape in self.shapes]

    @property
    def total(self) -> int:
        """Length of the flat vector."""
        return sum(self.sizes)

    def unpack(self, vector: Tensor) -> dict[str, Tensor]:
        """Return the named tensors as views of `vector`; one `split`, so that its backward pass is one `cat`."""
        if vector.shape != (self.total,):
            raise ValueError(f"vector of shape {tuple(vector.shape)} does not fit the layout: ({self.total},)")
        parts = vector.split(self.sizes)
        return {name: part.view(shape) for name, part, shape in zip(self.names, parts, self.shapes, strict=True)}

    def pack(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """Return the flat vector of named tensors; names and shapes have to be those of the layout."""
        if tensors.keys() != set(self.names):
            wrong = sorted(tensors.keys() ^ set(self.names))[:3]
            raise ValueError(f"names differ from the layout's, first at {', '.join(wrong)}")
        for name, shape in zip(self.names, self.shapes, strict=True):
            if tuple(tensors[name].shape) != tuple(shape):
                raise ValueError(f"{name} has shape {tuple(tensors[name].shape)}, the layout says {tuple(shape)}")
        return torch.cat([tensors[name].reshape(-1) for name in self.names])


def agreement(found: Tensor, truth: Tensor) -> dict[str, float]:
    """Return cosine and relative error ||found - truth|| / ||truth||; nan where one of them is 0."""
    a, b = found.detach().double().flatten(), truth.detach().double().flatten()
    lengths = float(a.norm()), float(b.norm())
    cosine = float(a @ b) / (lengths[0] * lengths[1]) if min(lengths) > 0 else float("nan")
    return {"cosine": cosine, "relative_error": float((a - b).norm()) / lengths[1] if lengths[1] > 0 else float("nan")}
