"""The interface of hypernetworks. Subclass `Hypernetwork` to write one; methods with a body are defaults."""

import math
from typing import Protocol

import torch
from torch import Tensor

from hdarts.kernels.output_layer import Dense, Gradient


class Hypernetwork(Protocol):
    """A function h(phi, alpha) -> weights, differentiable in both arguments.

    `n_alpha`, `n_weights` and `n_phi` are the lengths of its input, its output and its weights `phi`.
    """

    n_alpha: int
    n_weights: int
    n_phi: int

    def initial_phi(self, generator: torch.Generator) -> Tensor:
        """Return phi `(n_phi,)` before training."""
        ...

    def __call__(self, phi: Tensor, alpha: Tensor) -> Tensor:
        """Return the generated weights `(n_weights,)`."""
        ...

    @torch.no_grad()
    def generate(self, phi: Tensor, alpha: Tensor, out: Tensor) -> None:
        """Write h(phi, alpha) into `out` `(n_weights,)`, without derivatives."""
        out.copy_(self(phi, alpha))

    def response(self, phi: Tensor, alpha: Tensor, g: Tensor) -> Tensor:
        """Return (dh/dalpha)^T g, shaped like `alpha`, for the gradient `g` in the generated weights."""
        with torch.enable_grad():
            alpha = alpha.detach().requires_grad_()
            return torch.autograd.grad(self(phi.detach(), alpha), alpha, g, materialize_grads=True)[0]

    def gradient(self, phi: Tensor, alpha: Tensor, g: Tensor) -> Gradient:
        """Return (dh/dphi)^T g for the gradient `g` in the generated weights."""
        with torch.enable_grad():
            phi = phi.detach().requires_grad_()
            return Dense(torch.autograd.grad(self(phi, alpha.detach()), phi, g, materialize_grads=True)[0])

    def output_layer(self, phi: Tensor) -> tuple[Tensor, Tensor] | None:
        """Return views of W and b where the generated weights are W z + b, or None where they are not."""
        return None


def uniform(count: int, fan_in: int, generator: torch.Generator) -> Tensor:
    """Return initial values like those of torch.nn.Linear: uniform within +-1/sqrt(fan-in)."""
    bound = 1 / math.sqrt(fan_in)
    return torch.empty(count).uniform_(-bound, bound, generator=generator)
