"""What a hypernetwork learns of the best response depends on the alphas it is trained on (notebook 02)."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import Tensor
from torch.func import grad, jacrev, vmap

from hdarts.bilevel import Hypernetwork, Reparametrised
from hdarts.randomness import generator


@dataclass(frozen=True)
class Fed:
    """A hypernetwork that is fed (alpha - at) / scale instead of the raw alpha: the centred form for scale 1.

    With `Linear` and scale 1, w = b + W (alpha - at): b is the weights at `at`, W their response.
    """

    hypernetwork: Any
    at: Tensor
    scale: float = 1.0

    @property
    def n_phi(self) -> int:
        return self.hypernetwork.n_phi

    def __call__(self, phi: Tensor, alpha: Tensor) -> Tensor:
        return self.hypernetwork(phi, (alpha - self.at) / self.scale)


def still(hypernetwork: Any, seed: int, n_weights: int) -> Tensor:
    """Return a first phi that makes weights 0 at every alpha: output matrix and bias 0, all before as torch starts."""
    phi = hypernetwork.initial_phi(generator(seed, "phi")).double()
    phi[hypernetwork.n_head :] = 0
    assert hypernetwork.n_weights == n_weights
    return phi


def draws(seed: int, steps: int, number: int, shape: tuple[int, ...], antithetic: bool = False) -> Tensor:
    """Return standard normal noise `(steps, number, *shape)`, float64; `antithetic`: half of it is minus the other."""
    half = number // 2 if antithetic else number
    noise = torch.randn(steps, half, *shape, generator=generator(seed, "noise"), dtype=torch.float64)
    return torch.cat([noise, -noise], dim=1) if antithetic else noise


def fit(
    problem: Any,
    hypernetwork: Hypernetwork,
    phi: Tensor,
    alphas: Tensor,
    rate: float,
    momentum: float = 0.9,
    decay: float = 0.0,
) -> Iterator[Tensor]:
    """Train hypernetworks beside each other by SGD and yield all phi `(runs, n_phi)` after each step.

    Step t descends the mean of inner(h(phi, a), a) over the a in alphas[t, run]; `alphas` is `(steps, runs, draws,
    *shape)`. How alpha is drawn is all that tells a global from a local hypernetwork.
    """
    composed = Reparametrised(problem, hypernetwork)

    def loss(own: Tensor, drawn: Tensor) -> Tensor:
        return vmap(lambda a: composed.inner(own, a, None))(drawn).mean()

    gradient, velocity = vmap(grad(loss)), torch.zeros_like(phi)
    problem.inner(hypernetwork(phi[0], alphas[0, 0, 0]), alphas[0, 0, 0], None)  # makes the data, which vmap must not
    for drawn in alphas:
        velocity = momentum * velocity + gradient(phi, drawn) + decay * phi
        phi = phi - rate * velocity
        yield phi


def jacobian(function: Callable[[Tensor], Tensor], alpha: Tensor) -> Tensor:
    """Return the response Jacobian dw/d alpha of `function`, `(n_w, n_alpha)`."""
    return jacrev(function)(alpha).reshape(-1, alpha.numel())


def losses_over_alpha(toy: Any, weights: Callable[[Tensor], Tensor], alphas: Tensor) -> pd.DataFrame:
    """Return inner and outer loss over one alpha, with the weights that `weights` gives for it."""
    rows = []
    for alpha in alphas:
        w = weights(alpha)
        losses = {"training": toy.inner(w, alpha), "validation": toy.outer(w, alpha)}
        rows += [{"alpha": float(alpha), "loss": name, "value": float(value)} for name, value in losses.items()]
    return pd.DataFrame(rows)
