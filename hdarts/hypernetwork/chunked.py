"""The hypernetwork that generates kernels in chunks, each from an embedding vector."""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from hdarts.hypernetwork.protocol import Hypernetwork, uniform


@dataclass(frozen=True)
class Chunked(Hypernetwork):
    r"""Basic kernels from embedding vectors (thesis 5.3.1.1).

    $$ w_{\mathrm{chunk}} = W_{\mathrm{shape}} \, [\alpha \, | \, z_{\mathrm{chunk}}] + b_{\mathrm{shape}} $$

    A weight is cut into basic kernels of the smallest size among the `shapes` with its kernel size and kind (depthwise
    or pointwise). Each basic kernel has an embedding vector z with `embedding` values; all basic kernels of one size
    come from one linear layer, whose input is alpha and z concatenated. Each size takes one matrix product or, if
    `sequential`, each basic kernel does, one after another: the same weights, as the thesis computed and timed them.
    """

    n_alpha: int
    shapes: tuple[tuple[int, ...], ...]
    embedding: int
    sequential: bool = False

    @cached_property
    def _chunks(self) -> tuple[list[tuple[int, int]], list[tuple[int, int, int]]]:
        """(basic size, chunks) of each layer, and for each weight (its layer, first chunk, chunks)."""
        kinds = [(*shape[2:], shape[1] == 1) for shape in self.shapes]  # kernel size, depthwise or not
        basic: dict[tuple, int] = {}
        for kind, shape in zip(kinds, self.shapes, strict=True):
            basic[kind] = math.gcd(basic.get(kind, 0), math.prod(shape))
        names, chunks, order = list(basic), dict.fromkeys(basic, 0), []
        for kind, shape in zip(kinds, self.shapes, strict=True):
            count = math.prod(shape) // basic[kind]
            order.append((names.index(kind), chunks[kind], count))
            chunks[kind] += count
        return [(basic[kind], chunks[kind]) for kind in names], order

    @property
    def n_weights(self) -> int:
        return sum(math.prod(shape) for shape in self.shapes)

    @property
    def n_phi(self) -> int:
        """Sum over the basic sizes of size x (n_alpha + embedding + 1) + chunks x embedding."""
        return sum(size * (self.n_alpha + self.embedding + 1) + n * self.embedding for size, n in self._chunks[0])

    def initial_phi(self, generator: torch.Generator) -> Tensor:
        """Return layers initialised like torch.nn.Linear and embedding vectors like torch.nn.Embedding (normal)."""
        parts, width = [], self.n_alpha + self.embedding
        for size, n in self._chunks[0]:
            parts.append(uniform(size * (width + 1), width, generator))
            parts.append(torch.randn(n * self.embedding, generator=generator))
        return torch.cat(parts)

    def __call__(self, phi: Tensor, alpha: Tensor) -> Tensor:
        """Return the generated weights `(n_weights,)`; unless sequential, W_alpha alpha + b is computed once."""
        outputs, rest, width = [], phi, self.n_alpha + self.embedding
        for size, n in self._chunks[0]:
            lengths = [size * width, size, n * self.embedding]
            matrix, offset, z, rest = rest.split([*lengths, len(rest) - sum(lengths)])
            of_alpha, of_z = matrix.view(size, width).split([self.n_alpha, self.embedding], 1)
            each = z.view(n, self.embedding).split(1 if self.sequential else n)
            parts = [part @ of_z.T + (of_alpha @ alpha.reshape(-1) + offset) for part in each]
            outputs.append(torch.cat(parts) if len(parts) > 1 else parts[0])  # cat would copy all weights
        return torch.cat([outputs[layer][first : first + n].reshape(-1) for layer, first, n in self._chunks[1]])
