r"""The interface between problems and methods: inner(w, alpha, batch) and outer(w, alpha, batch).

$$ \alpha^* = \underset{\alpha}{\mathrm{argmin}} \; \mathrm{outer}(w^*(\alpha), \alpha), \qquad
w^*(\alpha) = \underset{w}{\mathrm{argmin}} \; \mathrm{inner}(w, \alpha) $$

A toy, a supernet and a supernet with weights from a hypernetwork are all a `BilevelProblem`; a method that computes
the `Hypergradient` d outer/d alpha needs to know nothing else about them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

from torch import Tensor, cat


class BilevelProblem(Protocol):
    """Two scalar losses of a flat vector of weights `w` and of architecture parameters `alpha` of any shape.

    Both are pure functions. `batch` is whatever the problem needs (None: nothing).
    """

    def inner(self, w: Tensor, alpha: Tensor, batch: Any, /) -> Tensor:
        """Lower-level loss (L_train), a scalar."""
        ...

    def outer(self, w: Tensor, alpha: Tensor, batch: Any, /) -> Tensor:
        """Upper-level loss (L_val), a scalar."""
        ...


class WeightMap(Protocol):
    """A map (phi, alpha) -> weights, differentiable in both, such as a hypernetwork; phi has shape (n_phi,)."""

    @property
    def n_phi(self) -> int: ...

    def __call__(self, phi: Tensor, alpha: Tensor, /) -> Tensor: ...


class Hypergradient(NamedTuple):
    """d outer/d alpha in its two parts, both shaped like `alpha` (thesis, eq. 21).

    `direct` is the derivative at fixed weights, `response` the derivative through the weights. The keys of `info`
    depend on the method: seconds; iterations; residual = norm of v - A q for the linear system A q = v that a method
    solves, v = d outer/dw; curvature = smallest q^T H q / q^T q; contraction = factor by which a term shrinks.
    """

    direct: Tensor
    response: Tensor
    info: Mapping[str, float] = MappingProxyType({})

    @property
    def total(self) -> Tensor:
        """The hypergradient: direct + response."""
        return self.direct + self.response


@dataclass(frozen=True)
class Centred:
    """A hypernetwork with input alpha - centre: if it is linear, w = b + W (alpha - centre), and W is its Jacobian."""

    hypernetwork: WeightMap
    centre: Tensor

    @property
    def n_phi(self) -> int:
        return self.hypernetwork.n_phi

    def __call__(self, phi: Tensor, alpha: Tensor) -> Tensor:
        return self.hypernetwork(phi, alpha - self.centre)


@dataclass(frozen=True)
class Reparametrised:
    """The problem in u = [phi | rest] instead of w = [h(phi, alpha) | rest]: a hypernetwork is a change of variables.

    The last `n_rest` weights (stem, preprocessing, classifier) are not generated. The hypergradient of a hypernetwork
    method is the *direct* gradient of this problem. Raises ValueError where sizes do not match.
    """

    problem: BilevelProblem
    hypernetwork: WeightMap
    n_rest: int = 0

    def weights(self, u: Tensor, alpha: Tensor) -> Tensor:
        """w = [h(phi, alpha) | rest], shape (n_w,)."""
        n_phi = self.hypernetwork.n_phi
        if u.shape != (n_phi + self.n_rest,):
            raise ValueError(f"u has shape {tuple(u.shape)}, but [phi | rest] is ({n_phi} + {self.n_rest},)")
        return cat([self.hypernetwork(u[:n_phi], alpha), u[n_phi:]])

    def inner(self, u: Tensor, alpha: Tensor, batch: Any, noise: Tensor | None = None) -> Tensor:
        """inner(w(u, a), a, batch) with a = alpha + noise: the same noisy `a` makes the weights and enters the loss."""
        if noise is not None and noise.shape != alpha.shape:
            raise ValueError(f"noise has shape {tuple(noise.shape)}, but alpha has shape {tuple(alpha.shape)}")
        a = alpha if noise is None else alpha + noise
        return self.problem.inner(self.weights(u, a), a, batch)

    def outer(self, u: Tensor, alpha: Tensor, batch: Any) -> Tensor:
        """outer(w(u, alpha), alpha, batch), without noise."""
        return self.problem.outer(self.weights(u, alpha), alpha, batch)
