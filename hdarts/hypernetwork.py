"""Hypernetworks: functions `h(phi, alpha) -> weights` that generate the supernet's cell weights (thesis 4.4.2, eq. 18).

Each is a small frozen object; its own weights are one flat vector `phi`. A search asks of it `n_alpha`, `n_weights`,
`n_phi` (their numbers), `initial_phi(generator)` and the call, which is the plain differentiable definition. A search
takes quicker roads: `generate` the weights, and from the gradient in them get the `response` in `alpha` and the
`gradient` in `phi`, in factors where the output layer is linear (kernels.output_layer). The input is the raw `alpha`.

What ends in a linear layer is made of two parts, and phi = [trunk | output]:

    w = output(features(trunk, alpha))
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from hdarts.kernels.output_layer import Dense, Factored, Gradient, SegmentedLinear

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "identity": lambda x: x,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "relu": F.relu,
}


def uniform(count: int, fan_in: int, generator: torch.Generator) -> Tensor:
    """Return values as torch.nn.Linear starts: uniform within +-1/sqrt(fan-in)."""
    bound = 1 / math.sqrt(fan_in)
    return torch.empty(count).uniform_(-bound, bound, generator=generator)


@torch.no_grad()
def generate(hypernetwork: Any, phi: Tensor, alpha: Tensor, out: Tensor) -> None:
    """Write h(phi, alpha) into `out` `(n_weights,)`, without derivatives."""
    if hasattr(hypernetwork, "generate"):
        hypernetwork.generate(phi, alpha, out)
    else:
        out.copy_(hypernetwork(phi, alpha))


def response(hypernetwork: Any, phi: Tensor, alpha: Tensor, g: Tensor) -> Tensor:
    """Return (dh/dalpha)^T g, shaped like `alpha`, for the gradient `g` in the generated weights."""
    if hasattr(hypernetwork, "response"):
        return hypernetwork.response(phi, alpha, g)
    with torch.enable_grad():
        alpha = alpha.detach().requires_grad_()
        return torch.autograd.grad(hypernetwork(phi.detach(), alpha), alpha, g, materialize_grads=True)[0]


def gradient(hypernetwork: Any, phi: Tensor, alpha: Tensor, g: Tensor) -> Gradient:
    """Return (dh/dphi)^T g for the gradient `g` in the generated weights."""
    if hasattr(hypernetwork, "gradient"):
        return hypernetwork.gradient(phi, alpha, g)
    with torch.enable_grad():
        phi = phi.detach().requires_grad_()
        return Dense(torch.autograd.grad(hypernetwork(phi, alpha.detach()), phi, g, materialize_grads=True)[0])


class WithOutputLayer:
    """A hypernetwork whose last layer is linear; it says what feeds that layer, and this the rest."""

    n_alpha: int
    n_trunk: int  # number of values before the output layer
    output: SegmentedLinear
    features: Callable[[Tensor, Tensor], Tensor]  # (trunk, alpha) -> input of the output layer

    @property
    def n_phi(self) -> int:
        """Number of values in trunk and output layer: n_trunk + n_weights x (width of the layer's input + 1)."""
        return self.n_trunk + self.output.n_parameters

    def initial_phi(self, generator: torch.Generator) -> Tensor:
        """Return all layers, weights and biases, as torch.nn.Linear starts."""
        trunk = uniform(self.n_trunk, self.n_alpha, generator)
        return torch.cat([trunk, uniform(self.output.n_parameters, self.output.width, generator)])

    def __call__(self, phi: Tensor, alpha: Tensor) -> Tensor:
        """Return the generated weights `(n_weights,)`."""
        return self.output(phi[self.n_trunk :], self.features(phi[: self.n_trunk], alpha))

    def generate(self, phi: Tensor, alpha: Tensor, out: Tensor) -> None:
        """Write h(phi, alpha) into `out` by the quicker road."""
        self.output.write(phi[self.n_trunk :], self.features(phi[: self.n_trunk], alpha), out)

    def response(self, phi: Tensor, alpha: Tensor, g: Tensor) -> Tensor:
        """(dh/dalpha)^T g: through the output layer by W^T g, through the features by autograd."""
        with torch.enable_grad():
            alpha = alpha.detach().requires_grad_()
            z = self.features(phi[: self.n_trunk].detach(), alpha)
        of_z = self.output.vjp(phi[self.n_trunk :].detach(), g)
        return torch.autograd.grad(z, alpha, of_z, materialize_grads=True)[0]

    def gradient(self, phi: Tensor, alpha: Tensor, g: Tensor) -> Factored:
        """(dh/dphi)^T g: by autograd for the trunk, in factors for the output layer."""
        with torch.enable_grad():
            trunk = phi[: self.n_trunk].detach().requires_grad_()
            z = self.features(trunk, alpha.detach())
        of_trunk = torch.zeros_like(trunk)
        if self.n_trunk:
            of_z = self.output.vjp(phi[self.n_trunk :].detach(), g)
            (of_trunk,) = torch.autograd.grad(z, trunk, of_z, materialize_grads=True)
        return Factored(self.output, of_trunk, g.unsqueeze(0), z.detach().unsqueeze(0))


@dataclass(frozen=True)
class Linear(WithOutputLayer):
    """w = W alpha + b: the hypernetwork of hyperDARTS-1, "1-layer linear" (thesis 4.6)."""

    n_alpha: int
    n_weights: int
    bias: bool = True

    n_trunk = 0

    @cached_property
    def output(self) -> SegmentedLinear:
        """W and b: one segment."""
        return SegmentedLinear((self.n_weights,), self.n_alpha, self.bias)

    def features(self, trunk: Tensor, alpha: Tensor) -> Tensor:
        """Input of the output layer `(1, n_alpha)`: alpha itself."""
        return alpha.reshape(1, -1)


@dataclass(frozen=True)
class LowRank(WithOutputLayer):
    """w = U (V alpha) + b with V `(rank, n_alpha)`, U `(n_weights, rank)`."""

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
        """U and b."""
        return SegmentedLinear((self.n_weights,), self.rank, self.bias)

    def features(self, trunk: Tensor, alpha: Tensor) -> Tensor:
        """V alpha `(1, rank)`."""
        return (trunk.view(self.rank, self.n_alpha) @ alpha.reshape(-1)).unsqueeze(0)


@dataclass(frozen=True)
class MLP(WithOutputLayer):
    """w = W2 f(W1 alpha + b1) + b2, biases everywhere (thesis 4.6: hidden = n_alpha / 2, f = sigmoid in hyperDARTS-2).

    `sizes`: number of weights of each convolution. `shared`: one hidden layer for all of them (104.4 million weights
    with the thesis's settings); otherwise a perceptron for each convolution, which fits the thesis's 113 million.
    """

    n_alpha: int
    sizes: tuple[int, ...]
    hidden: int
    activation: str = "sigmoid"
    shared: bool = True

    def __post_init__(self):
        object.__setattr__(self, "sizes", tuple(int(size) for size in self.sizes))
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"activation {self.activation!r} is not one of {', '.join(ACTIVATIONS)}")

    @property
    def n_weights(self) -> int:
        """Number of generated weights."""
        return sum(self.sizes)

    @property
    def perceptrons(self) -> int:
        """Number of hidden layers side by side."""
        return 1 if self.shared else len(self.sizes)

    @property
    def n_trunk(self) -> int:
        """Number of values in W1 and b1 of all perceptrons."""
        return self.perceptrons * self.hidden * (self.n_alpha + 1)

    @cached_property
    def output(self) -> SegmentedLinear:
        """W2 and b2: a segment for each perceptron."""
        return SegmentedLinear((self.n_weights,) if self.shared else self.sizes, self.hidden)

    def features(self, trunk: Tensor, alpha: Tensor) -> Tensor:
        """f(W1 alpha + b1) of all perceptrons `(perceptrons, hidden)`, one product."""
        rows = self.perceptrons * self.hidden
        first = trunk[: rows * self.n_alpha].view(rows, self.n_alpha) @ alpha.reshape(-1) + trunk[rows * self.n_alpha :]
        return ACTIVATIONS[self.activation](first).view(self.perceptrons, self.hidden)


@dataclass(frozen=True)
class Chunked:
    """Basic kernels from embedding vectors (thesis 5.3.1.1): chunk = W_shape [alpha | z_chunk] + b_shape.

    A weight is dissected into basic kernels of the smallest size among the `shapes` with its kernel size and kind
    (depthwise or pointwise). Each basic kernel has an embedding vector z with `embedding` values; all basic kernels of
    one size come from one linear layer, whose input is alpha and z side by side. All of them are one matrix product
    for each size; the thesis's loop over chunks cost 8 more GPU hours a run.
    """

    n_alpha: int
    shapes: tuple[tuple[int, ...], ...]
    embedding: int

    @cached_property
    def _plan(self) -> tuple[list[tuple[int, int]], list[tuple[int, int, int]]]:
        """(basic size, chunks) of each layer, and for each weight (its layer, first chunk, chunks)."""
        kinds = [(*shape[2:], shape[1] == 1) for shape in self.shapes]  # kernel size, depthwise or not
        basic: dict[tuple, int] = {}
        for kind, shape in zip(kinds, self.shapes, strict=True):
            basic[kind] = math.gcd(basic.get(kind, 0), math.prod(shape))
        names, chunks, order = list(basic), dict.fromkeys(basic, 0), []
        for kind, shape in zip(kinds, self.shapes, strict=True):
            pieces = math.prod(shape) // basic[kind]
            order.append((names.index(kind), chunks[kind], pieces))
            chunks[kind] += pieces
        return [(basic[kind], chunks[kind]) for kind in names], order

    @property
    def n_weights(self) -> int:
        """Number of generated weights."""
        return sum(math.prod(shape) for shape in self.shapes)

    @property
    def n_phi(self) -> int:
        """Sum over the basic sizes of size x (n_alpha + embedding + 1) + chunks x embedding."""
        return sum(size * (self.n_alpha + self.embedding + 1) + n * self.embedding for size, n in self._plan[0])

    def initial_phi(self, generator: torch.Generator) -> Tensor:
        """Return the layers as torch.nn.Linear starts and the embedding vectors as torch.nn.Embedding does: normal."""
        parts, width = [], self.n_alpha + self.embedding
        for size, n in self._plan[0]:
            parts.append(uniform(size * (width + 1), width, generator))
            parts.append(torch.randn(n * self.embedding, generator=generator))
        return torch.cat(parts)

    def __call__(self, phi: Tensor, alpha: Tensor) -> Tensor:
        """Return the generated weights `(n_weights,)`: W_alpha alpha + b once, W_z z for all chunks at once."""
        produced, start, width = [], 0, self.n_alpha + self.embedding
        for size, n in self._plan[0]:
            lengths = [size * width, size, n * self.embedding]
            matrix, offset, z = phi[start : start + sum(lengths)].split(lengths)
            matrix = matrix.view(size, width)
            common = matrix[:, : self.n_alpha] @ alpha.reshape(-1) + offset
            produced.append(z.view(n, self.embedding) @ matrix[:, self.n_alpha :].T + common)
            start += sum(lengths)
        return torch.cat([produced[group][first : first + n].reshape(-1) for group, first, n in self._plan[1]])


@dataclass(frozen=True)
class ByKind:
    """One hypernetwork for each kind of cell, fed the alpha of that kind; phi = [phi_normal | phi_reduce | phi_rest].

    `rest`, where given, is a further hypernetwork fed all of alpha: the weights outside the cells (method 2 of the
    thesis's experiment 1.1).
    """

    hypernetworks: Sequence[Any]
    rest: Any = None

    @property
    def parts(self) -> list[Any]:
        """All hypernetworks, in the order their weights lie in phi and in w."""
        return [*self.hypernetworks, *([] if self.rest is None else [self.rest])]

    @property
    def n_weights(self) -> int:
        """Number of generated weights."""
        return sum(h.n_weights for h in self.parts)

    @property
    def n_phi(self) -> int:
        """Number of weights of all hypernetworks together."""
        return sum(h.n_phi for h in self.parts)

    def initial_phi(self, generator: torch.Generator) -> Tensor:
        """Return the weights of all hypernetworks, one after the other."""
        return torch.cat([h.initial_phi(generator) for h in self.parts])

    def split_phi(self, phi: Tensor) -> list[Tensor]:
        """Return phi of each hypernetwork, as views."""
        return list(phi.split([h.n_phi for h in self.parts]))

    def inputs(self, alpha: Tensor) -> list[Tensor]:
        """Return what each hypernetwork is fed, flat: alpha of its kind, and all of alpha for `rest`."""
        return [*(rows.reshape(-1) for rows in alpha), *([] if self.rest is None else [alpha.reshape(-1)])]

    def __call__(self, phi: Tensor, alpha: Tensor) -> Tensor:
        """Return the generated weights [normal | reduce (| rest)] for alpha `(kinds, edges, operations)`."""
        parts = zip(self.parts, self.split_phi(phi), self.inputs(alpha), strict=True)
        return torch.cat([h(p, a) for h, p, a in parts])

    def generate(self, phi: Tensor, alpha: Tensor, out: Tensor) -> None:
        """Write the same into `out` by the roads of each, without derivatives."""
        parts = out.split([h.n_weights for h in self.parts])
        for h, p, a, part in zip(self.parts, self.split_phi(phi), self.inputs(alpha), parts, strict=True):
            generate(h, p, a, part)
