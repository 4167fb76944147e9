"""Linear and low-rank hypernetworks, and what all hypernetworks with a linear output layer share."""

from abc import abstractmethod
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from hdarts.hypernetwork.protocol import Hypernetwork, uniform
from hdarts.kernels.output_layer import Factored, SegmentedLinear


class WithOutputLayer(Hypernetwork):
    """A hypernetwork with a linear last layer: h(phi, alpha) = output(features(trunk, alpha)), phi = [trunk | output].

    A subclass defines `n_trunk`, `output` and `features`. Derivatives keep the gradient of the output layer's matrix
    in factors, see hdarts.kernels.output_layer.
    """

    n_trunk: int  # number of values before the output layer
    output: SegmentedLinear

    @abstractmethod
    def features(self, trunk: Tensor, alpha: Tensor) -> Tensor:
        """Return the input of the output layer, `(segments, width)`."""

    @property
    def n_phi(self) -> int:
        """Number of values in trunk and output layer: n_trunk + n_weights x (width of the layer's input + 1)."""
        return self.n_trunk + self.output.n_parameters

    def initial_phi(self, generator: torch.Generator) -> Tensor:
        """Return all layers, weights and biases, initialised like torch.nn.Linear."""
        trunk = uniform(self.n_trunk, self.n_alpha, generator)
        return torch.cat([trunk, uniform(self.output.n_parameters, self.output.width, generator)])

    def __call__(self, phi: Tensor, alpha: Tensor) -> Tensor:
        return self.output(phi[self.n_trunk :], self.features(phi[: self.n_trunk], alpha))

    @torch.no_grad()
    def generate(self, phi: Tensor, alpha: Tensor, out: Tensor) -> None:
        self.output.write(phi[self.n_trunk :], self.features(phi[: self.n_trunk], alpha), out)

    def response(self, phi: Tensor, alpha: Tensor, g: Tensor) -> Tensor:
        """(dh/dalpha)^T g: through the output layer by W^T g, through the features by autograd."""
        with torch.enable_grad():
            alpha = alpha.detach().requires_grad_()
            z = self.features(phi[: self.n_trunk].detach(), alpha)
        z_grad = self.output.vjp(phi[self.n_trunk :].detach(), g)
        return torch.autograd.grad(z, alpha, z_grad, materialize_grads=True)[0]

    def gradient(self, phi: Tensor, alpha: Tensor, g: Tensor) -> Factored:
        """(dh/dphi)^T g: by autograd for the trunk, in factors for the output layer."""
        with torch.enable_grad():
            trunk = phi[: self.n_trunk].detach().requires_grad_()
            z = self.features(trunk, alpha.detach())
        trunk_grad = torch.zeros_like(trunk)
        if self.n_trunk:
            z_grad = self.output.vjp(phi[self.n_trunk :].detach(), g)
            (trunk_grad,) = torch.autograd.grad(z, trunk, z_grad, materialize_grads=True)
        return Factored(self.output, trunk_grad, g.unsqueeze(0), z.detach().unsqueeze(0))

    def output_layer(self, phi: Tensor) -> tuple[Tensor, Tensor] | None:
        parameters = phi[self.n_trunk :]
        bias = self.output.offset(parameters)
        return None if bias is None else (self.output.matrix(parameters), bias)


@dataclass(frozen=True)
class Linear(WithOutputLayer):
    r"""The hypernetwork of hyperDARTS-1, "1-layer linear" (thesis 4.6).

    $$ w = W \alpha + b $$
    """

    n_alpha: int
    n_weights: int
    bias: bool = True

    n_trunk = 0

    @cached_property
    def output(self) -> SegmentedLinear:
        return SegmentedLinear((self.n_weights,), self.n_alpha, self.bias)

    def features(self, trunk: Tensor, alpha: Tensor) -> Tensor:
        return alpha.reshape(1, -1)


@dataclass(frozen=True)
class LowRank(WithOutputLayer):
    r"""A linear hypernetwork of low rank, with V `(rank, n_alpha)` and U `(n_weights, rank)`.

    $$ w = U V \alpha + b $$
    """

    n_alpha: int
    n_weights: int
    rank: int
    bias: bool = True

    @property
    def n_trunk(self) -> int:
        """Number of values in V."""
        return self.rank * self.n_alpha

    @cached_property
    def output(self) -> SegmentedLinear:
        return SegmentedLinear((self.n_weights,), self.rank, self.bias)

    def features(self, trunk: Tensor, alpha: Tensor) -> Tensor:
        return (trunk.view(self.rank, self.n_alpha) @ alpha.reshape(-1)).unsqueeze(0)
