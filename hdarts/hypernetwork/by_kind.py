"""One hypernetwork per kind of cell."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hdarts.hypernetwork.protocol import Hypernetwork


@dataclass(frozen=True)
class ByKind(Hypernetwork):
    """One hypernetwork per kind of cell, given the alpha of that kind; phi = [phi_normal | phi_reduce | phi_rest].

    `rest`, if not None, generates the weights outside the cells from all of alpha (thesis experiment 1.1, method 2).
    """

    hypernetworks: Sequence[Hypernetwork]
    rest: Hypernetwork | None = None

    @property
    def parts(self) -> list[Hypernetwork]:
        """All hypernetworks, in the order of their weights in phi and in w."""
        return [*self.hypernetworks, *([] if self.rest is None else [self.rest])]

    @property
    def n_alpha(self) -> int:
        return sum(h.n_alpha for h in self.hypernetworks)

    @property
    def n_weights(self) -> int:
        return sum(h.n_weights for h in self.parts)

    @property
    def n_phi(self) -> int:
        return sum(h.n_phi for h in self.parts)

    def initial_phi(self, generator: torch.Generator) -> Tensor:
        return torch.cat([h.initial_phi(generator) for h in self.parts])

    def split_phi(self, phi: Tensor) -> list[Tensor]:
        """Return phi of each hypernetwork, as views."""
        return list(phi.split([h.n_phi for h in self.parts]))

    def inputs(self, alpha: Tensor) -> list[Tensor]:
        """Return the flat input of each hypernetwork: alpha of its kind, and all of alpha for `rest`."""
        return [*(rows.reshape(-1) for rows in alpha), *([] if self.rest is None else [alpha.reshape(-1)])]

    def __call__(self, phi: Tensor, alpha: Tensor) -> Tensor:
        """Return the generated weights [normal | reduce (| rest)] for alpha `(kinds, edges, operations)`."""
        parts = zip(self.parts, self.split_phi(phi), self.inputs(alpha), strict=True)
        return torch.cat([h(p, a) for h, p, a in parts])

    @torch.no_grad()
    def generate(self, phi: Tensor, alpha: Tensor, out: Tensor) -> None:
        """Write the generated weights into `out` by the `generate` of each hypernetwork."""
        outs = out.split([h.n_weights for h in self.parts])
        for h, p, a, part in zip(self.parts, self.split_phi(phi), self.inputs(alpha), outs, strict=True):
            h.generate(p, a, part)
