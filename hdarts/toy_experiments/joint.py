"""Alpha and weights trained together: the loops of the report's algorithms 1 and 2 on a toy, many runs at once.

A way to hold the weights is an object with four functions, all of one run; `joint` runs them for all runs by vmap.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import pandas as pd
import torch
from torch import Tensor
from torch.func import grad, vjp, vmap

from hdarts.bilevel import Reparametrised
from hdarts.randomness import generator
from hdarts.toy_experiments.training import Fed
from hdarts.toys import retrained_loss

PARTS = {"total": (1.0, 1.0), "response": (0.0, 1.0), "direct": (1.0, 0.0)}  # of direct and response part


class Ways(Protocol):
    """How the weights are held; u is what SGD updates."""

    def start(self, seed: int) -> Tensor:
        """Return u before the first step."""
        ...

    def parts(self, u: Tensor, alpha: Tensor) -> tuple[Tensor, Tensor]:
        """Return direct and response part of the hypergradient."""
        ...

    def gradient(self, u: Tensor, alpha: Tensor, noise: Tensor) -> Tensor:
        """Return the gradient of the inner loss in u, the mean over `noise` `(draws, *shape)`."""
        ...

    def moved(self, u: Tensor, change: Tensor) -> Tensor:
        """Return u after alpha moved by `change`."""
        ...


def read_out(seed: int, n_w: int) -> Tensor:
    """Return weights as torch.nn.Linear(64, 10) starts: uniform within +-1/8."""
    return torch.empty(n_w, dtype=torch.float64).uniform_(-1 / 8, 1 / 8, generator=generator(seed, "w"))


@dataclass(frozen=True)
class OwnWeights:
    """DARTS: w on its own; the response is that of one step of `step_size`, exact; 0 is first-order DARTS."""

    toy: Any
    step_size: float

    def start(self, seed: int) -> Tensor:
        return read_out(seed, self.toy.n_w)

    def parts(self, u: Tensor, alpha: Tensor) -> tuple[Tensor, Tensor]:
        ahead, back = vjp(lambda a: u - self.step_size * grad(self.toy.inner)(u, a), alpha)
        v, direct = grad(self.toy.outer, argnums=(0, 1))(ahead, alpha)
        return direct, back(v)[0]

    def gradient(self, u: Tensor, alpha: Tensor, noise: Tensor) -> Tensor:
        return grad(self.toy.inner)(u, alpha)

    def moved(self, u: Tensor, change: Tensor) -> Tensor:
        return u


@dataclass(frozen=True)
class GeneratedWeights:
    """HyperDARTS: w = h(phi, alpha), or h(phi, a - alpha) in the centred form; parts as in report eq. 21 and 22.

    The report's form starts as torch does, the centred one with W = 0 and b = the read-out's own start.
    """

    toy: Any
    hypernetwork: Any
    centred: bool

    def composed(self, alpha: Tensor) -> Reparametrised:
        """Return the problem in phi, as it is while alpha is here."""
        return Reparametrised(self.toy, Fed(self.hypernetwork, alpha if self.centred else torch.zeros_like(alpha)))

    def start(self, seed: int) -> Tensor:
        phi = self.hypernetwork.initial_phi(generator(seed, "phi")).double()
        if self.centred:
            phi[self.hypernetwork.n_head :] = 0
            phi[-self.toy.n_w :] = read_out(seed, self.toy.n_w)
        return phi

    def parts(self, u: Tensor, alpha: Tensor) -> tuple[Tensor, Tensor]:
        composed = self.composed(alpha)
        w, back = vjp(lambda a: composed.weights(u, a), alpha)
        v, direct = grad(self.toy.outer, argnums=(0, 1))(w, alpha)
        return direct, back(v)[0]

    def gradient(self, u: Tensor, alpha: Tensor, noise: Tensor) -> Tensor:
        composed = self.composed(alpha)
        return grad(lambda phi: vmap(lambda n: composed.inner(phi, alpha, None, n))(noise).mean())(u)

    def moved(self, u: Tensor, change: Tensor) -> Tensor:
        if not self.centred:
            return u
        shift = self.hypernetwork(u, change) - self.hypernetwork(u, torch.zeros_like(change))
        return torch.cat([u[: -self.toy.n_w], u[-self.toy.n_w :] + shift])


@dataclass(frozen=True)
class RetrainedWeights:
    """The reference: w*(alpha) at every step, and with it the exact hypergradient; nothing is learned."""

    toy: Any

    def start(self, seed: int) -> Tensor:
        return torch.zeros(1, dtype=torch.float64)

    def parts(self, u: Tensor, alpha: Tensor) -> tuple[Tensor, Tensor]:
        w = self.toy.best_response(alpha)
        direct = grad(lambda a: self.toy.outer(w, a))(alpha)
        return direct, grad(lambda a: retrained_loss(self.toy, a))(alpha) - direct

    def gradient(self, u: Tensor, alpha: Tensor, noise: Tensor) -> Tensor:
        return torch.zeros_like(u)

    def moved(self, u: Tensor, change: Tensor) -> Tensor:
        return u


class Settings(NamedTuple):
    """SGD with momentum on the weights; Adam (0.5, 0.999) on alpha, as in the report; sigma of the noise."""

    steps: int
    rate: float
    alpha_rate: float
    noise: float = 0.0
    antithetic: bool = False
    momentum: float = 0.9


class Course(NamedTuple):
    """Where alpha was before each step and what it descended, `(steps, parts, seeds, n_alpha)`, and where it ended."""

    alphas: Tensor
    hypergradients: Tensor
    end: Tensor


def joint(way: Ways, parts: list[str], seeds: list[int], n_alpha: int, settings: Settings) -> Course:
    """Run alpha step and weight step in turn, for each of `parts` (total, response, direct) and each seed."""
    runs = [(part, seed) for part in parts for seed in seeds]
    mask = torch.tensor([PARTS[part] for part, _ in runs], dtype=torch.float64)
    alpha = torch.stack([_normal(n_alpha, seed, "start") * 1e-3 for _, seed in runs])
    u = torch.stack([way.start(seed) for _, seed in runs])
    noise = _noise(runs, n_alpha, settings)
    first, second, velocity = torch.zeros_like(alpha), torch.zeros_like(alpha), torch.zeros_like(u)
    alphas, hypergradients = [], []
    for step in range(settings.steps):
        direct, response = vmap(way.parts)(u, alpha)
        descended = mask[:, :1] * direct + mask[:, 1:] * response
        alphas.append(alpha)
        hypergradients.append(descended)
        first, second = 0.5 * first + 0.5 * descended, 0.999 * second + 0.001 * descended.square()
        upward = first / (1 - 0.5 ** (step + 1)) / ((second / (1 - 0.999 ** (step + 1))).sqrt() + 1e-8)
        change = -settings.alpha_rate * upward
        alpha, u = alpha + change, vmap(way.moved)(u, change)
        velocity = settings.momentum * velocity + vmap(way.gradient)(u, alpha, noise[step])
        u = u - settings.rate * velocity
    shape = (settings.steps, len(parts), len(seeds), n_alpha)
    return Course(torch.stack(alphas).view(shape), torch.stack(hypergradients).view(shape), alpha.view(shape[1:]))


def _normal(n: int, seed: int, *purpose: str | int) -> Tensor:
    return torch.randn(n, generator=generator(seed, *purpose), dtype=torch.float64)


def _noise(runs: list[tuple[str, int]], n_alpha: int, settings: Settings) -> Tensor:
    """sigma x normal noise `(steps, runs, draws, n_alpha)`; all parts of a seed see the same."""
    shape = (settings.steps, 1, n_alpha)
    seeds = [seed for _, seed in runs]
    own = {seed: _normal(settings.steps * n_alpha, seed, "noise").view(shape) for seed in seeds}
    noise = settings.noise * torch.stack([own[seed] for seed in seeds], dim=1)
    return torch.cat([noise, -noise], dim=2) if settings.antithetic else noise


def judged(toy: Any, course: Course, parts: list[str], seeds: list[int], every: int) -> pd.DataFrame:
    """Return what the course was worth, a row for each part, seed and every `every`-th step.

    retrained_loss: outer(w*(alpha), alpha); relative_error and cosine of what alpha descended to the exact
    hypergradient at the same alpha.
    """
    alphas, found = course.alphas[::every], course.hypergradients[::every]
    flat = alphas.reshape(-1, alphas.shape[-1])
    toy.best_response(flat[0])
    truth = vmap(grad(lambda a: retrained_loss(toy, a)))(flat).view_as(alphas)
    loss = vmap(lambda a: retrained_loss(toy, a))(flat).view(alphas.shape[:-1])
    error = (found - truth).norm(dim=-1) / truth.norm(dim=-1)
    cosine = torch.cosine_similarity(found, truth, dim=-1)
    return pd.DataFrame(
        {
            "part": part,
            "seed": seed,
            "step": step * every,
            "retrained_loss": float(loss[step, i, j]),
            "relative_error": float(error[step, i, j]),
            "cosine": float(cosine[step, i, j]),
        }
        for step in range(len(alphas))
        for i, part in enumerate(parts)
        for j, seed in enumerate(seeds)
    )
