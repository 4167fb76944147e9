"""The sentence that every method shares: inner(w, alpha, batch) and outer(w, alpha, batch).

    alpha* = argmin over alpha of outer(w*(alpha), alpha)   where   w*(alpha) = argmin over w of inner(w, alpha)

A toy, a supernet and a supernet whose weights a hypernetwork makes are all a `BilevelProblem`, so a method that steps
`alpha` along a hypergradient d outer/d alpha (a `Hypergradient`) needs to know nothing else about them.
"""

from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor, cat


class BilevelProblem(Protocol):
    """Two scalar losses of a flat vector of weights `w` and of architecture parameters `alpha` of any shape.

    Both are pure: the same arguments give the same value, and nothing is changed. `batch` is whatever the problem
    needs (None: nothing).
    """

    def inner(self, w: Tensor, alpha: Tensor, batch: Any, /) -> Tensor:
        """Lower-level loss (L_train), a scalar."""
        ...

    def outer(self, w: Tensor, alpha: Tensor, batch: Any, /) -> Tensor:
        """Upper-level loss (L_val), a scalar."""
        ...


class Hypernetwork(Protocol):
    """A map (phi, alpha) -> weights, differentiable in both; phi (n_phi,) and the weights are vectors."""

    @property
    def n_phi(self) -> int: ...

    def __call__(self, phi: Tensor, alpha: Tensor, /) -> Tensor: ...


@dataclass(frozen=True)
class Hypergradient:
    """d outer/d alpha in its two parts, both shaped like `alpha` (thesis, eq. 21).

    `direct` is the derivative at fixed weights, `response` what comes through the weights. `info` tells how it was
    found; which of the keys there are depends on the method: seconds; iterations; residual = norm of v - A q for the
    linear system A q = v that a method solves, v = d outer/dw; curvature = smallest q^T H q / q^T q met; contraction
    = factor by which a term shrinks.
    """

    direct: Tensor
    response: Tensor
    info: dict[str, float] = field(default_factory=dict)

    @property
    def total(self) -> Tensor:
        return self.direct + self.response


@dataclass(frozen=True)
class Centred:
    """The hypernetwork fed a - centre: for a linear one w = b + W (a - centre), so that W is the response there."""

    hypernetwork: Hypernetwork
    centre: Tensor

    @property
    def n_phi(self) -> int:
        """That of the hypernetwork."""
        return self.hypernetwork.n_phi

    def __call__(self, phi: Tensor, alpha: Tensor) -> Tensor:
        """Return h(phi, alpha - centre)."""
        return self.hypernetwork(phi, alpha - self.centre)


@dataclass(frozen=True)
class Reparametrised:
    """The problem in u = [phi | rest] instead of w = [h(phi, alpha) | rest]: a hypernetwork is a change of variables.

    The last `n_rest` weights (stem, preprocessing, classifier) are not made by the hypernetwork and stay ordinary.
    The hypergradient of a hypernetwork method is the *direct* gradient of this problem. Raises ValueError where sizes
    do not fit.
    """

    problem: BilevelProblem
    hypernetwork: Hypernetwork
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
