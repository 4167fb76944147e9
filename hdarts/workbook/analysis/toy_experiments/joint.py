"""Notebook 02: joint training of alpha and weights on micro-DARTS (thesis algorithm 2 in small), many runs at once.

All methods of `Weights` are pure, so that torch.func.vmap steps all seeds and all parts at once.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pandas as pd
import torch
from torch import Tensor
from torch.func import grad, vjp, vmap

from hdarts.bilevel import Centred, Reparametrised
from hdarts.hypernetwork import Linear
from hdarts.runs.randomness import generator
from hdarts.toys import MicroDARTS, retrained_loss
from hdarts.workbook.analysis import Row
from hdarts.workbook.analysis.toy_experiments.accuracy import OPERATIONS

PARTS = {"total": (1.0, 1.0), "response": (0.0, 1.0), "direct": (1.0, 0.0)}  # weights of direct and response part


def read_out(seed: int) -> Tensor:
    """Return initial read-out weights as those of torch.nn.Linear(64, 10), float64 `(640,)`."""
    return torch.empty(640, dtype=torch.float64).uniform_(-1 / 8, 1 / 8, generator=generator(seed, "w"))


class Weights(Protocol):
    """How the weights w of micro-DARTS follow from a vector u that is trained jointly with alpha."""

    toy: MicroDARTS

    def start(self, seed: int) -> Tensor:
        """Return the initial u."""
        return read_out(seed)

    def parts(self, u: Tensor, alpha: Tensor) -> tuple[Tensor, Tensor]:
        """Return the direct part and the response of the hypergradient."""
        ...

    def slope(self, u: Tensor, alpha: Tensor, noises: Tensor) -> Tensor:
        """Return the gradient of the inner loss in u, the mean over `noises` of alpha."""
        return torch.zeros_like(u)

    def follow_alpha(self, u: Tensor, change: Tensor) -> Tensor:
        """Return u after alpha changed by `change`."""
        return u


def _through(toy: MicroDARTS, weights: Callable[[Tensor], Tensor], alpha: Tensor) -> tuple[Tensor, Tensor]:
    """Return the direct part and J^T v of w = weights(alpha)."""
    w, transposed, *_ = vjp(weights, alpha)
    v, direct = grad(toy.outer, argnums=(0, 1))(w, alpha, None)
    return direct, transposed(v)[0]


@dataclass(frozen=True)
class LearnedWeights(Weights):
    """u = w: first-order DARTS (`step_size` 0), or second-order DARTS with the exact product C^T v."""

    toy: MicroDARTS
    step_size: float = 0.0

    def parts(self, u: Tensor, alpha: Tensor) -> tuple[Tensor, Tensor]:
        return _through(self.toy, lambda a: u - self.step_size * grad(self.toy.inner)(u, a, None), alpha)

    def slope(self, u: Tensor, alpha: Tensor, noises: Tensor) -> Tensor:
        return grad(self.toy.inner)(u, alpha, None)


@dataclass(frozen=True)
class RetrainedWeights(Weights):
    """The exact hypergradient: w = w*(alpha) at every step, and u is not used."""

    toy: MicroDARTS

    def parts(self, u: Tensor, alpha: Tensor) -> tuple[Tensor, Tensor]:
        w = self.toy.best_response(alpha)
        direct = grad(self.toy.outer, argnums=1)(w, alpha, None)
        return direct, grad(lambda a: retrained_loss(self.toy, a))(alpha) - direct


@dataclass(frozen=True)
class GeneratedWeights(Weights):
    """u = phi and w = h(phi, alpha), plain or centred; `zero_response`: initially W = 0, and the bias is `read_out`."""

    toy: MicroDARTS
    hypernetwork: Any
    centred: bool = False
    zero_response: bool = False

    def problem(self, alpha: Tensor) -> Reparametrised:
        return Reparametrised(self.toy, Centred(self.hypernetwork, alpha) if self.centred else self.hypernetwork)

    def start(self, seed: int) -> Tensor:
        phi = self.hypernetwork.initial_phi(generator(seed, "phi")).double()
        if self.zero_response:
            phi = torch.zeros_like(phi)
            phi[-self.toy.n_w :] = read_out(seed)
        return phi

    def parts(self, u: Tensor, alpha: Tensor) -> tuple[Tensor, Tensor]:
        problem = self.problem(alpha)
        return _through(self.toy, lambda a: problem.weights(u, a), alpha)

    def slope(self, u: Tensor, alpha: Tensor, noises: Tensor) -> Tensor:
        problem = self.problem(alpha)
        return grad(lambda phi: vmap(lambda noise: problem.inner(phi, alpha, None, noise))(noises).mean())(u)

    def follow_alpha(self, u: Tensor, change: Tensor) -> Tensor:
        """Return u with which a centred h generates the same weights at the new alpha: b <- b + h(change) - h(0)."""
        if not self.centred:
            return u
        shift = self.hypernetwork(u, change) - self.hypernetwork(u, torch.zeros_like(change))
        n = self.hypernetwork.n_weights
        return torch.cat([u[:-n], u[-n:] + shift])


def noises(sigma: float, seed: int, step: int, antithetic: bool) -> Tensor:
    """Return the noise sigma eps of a step, (draws, 3): one draw, or an antithetic pair."""
    if not sigma:
        return torch.zeros(1, 3, dtype=torch.float64)
    draw = sigma * torch.randn(1, 3, generator=generator(seed, "noise", step), dtype=torch.float64)
    return torch.cat([draw, -draw]) if antithetic else draw


@dataclass(frozen=True)
class Rates:
    """SGD with momentum on u, Adam (as DARTS has it) on alpha."""

    inner: float = 0.02
    momentum: float = 0.9
    alpha: float = 0.02
    beta1: float = 0.5
    beta2: float = 0.999


def run_jointly(
    weights: Weights,
    parts: Sequence[str],
    seeds: Sequence[int],
    steps: int,
    sigma: float = 0.0,
    antithetic: bool = False,
) -> pd.DataFrame:
    """Return the path of every run: operation weights, retrained outer loss, and the error of the hypergradient.

    A step changes alpha along the given parts of the hypergradient at the current u, then u along the inner gradient at
    the noisy alpha. About 20 rows per run; relative error and cosine compare with the exact hypergradient at alpha.
    """
    runs, rates = [(part, seed) for part in parts for seed in seeds], Rates()
    mask = torch.tensor([PARTS[part] for part, _ in runs], dtype=torch.float64)
    starts = [1e-3 * torch.randn(3, generator=generator(s, "alpha"), dtype=torch.float64) for _, s in runs]
    alpha, u = torch.stack(starts), torch.stack([weights.start(seed) for _, seed in runs])
    velocity, m1, m2, rows = torch.zeros_like(u), torch.zeros_like(alpha), torch.zeros_like(alpha), []
    both_parts, slope, follow_alpha = vmap(weights.parts), vmap(weights.slope), vmap(weights.follow_alpha)
    truth = vmap(torch.func.grad_and_value(lambda a: retrained_loss(weights.toy, a)))
    for step in range(steps + 1):
        hypergradient = torch.stack(both_parts(u, alpha), 1).mul(mask[:, :, None]).sum(1)
        if step % max(1, steps // 20) == 0 or step == steps:
            exact, loss = truth(alpha)
            rows += _rows(runs, step, alpha, hypergradient, exact, loss)
        m1 = rates.beta1 * m1 + (1 - rates.beta1) * hypergradient
        m2 = rates.beta2 * m2 + (1 - rates.beta2) * hypergradient.square()
        scale = (m2 / (1 - rates.beta2 ** (step + 1))).sqrt() + 1e-8
        change = -rates.alpha * m1 / (1 - rates.beta1 ** (step + 1)) / scale
        u, alpha = follow_alpha(u, change), alpha + change
        draws = torch.stack([noises(sigma, seed, step, antithetic) for _, seed in runs])
        velocity = rates.momentum * velocity + slope(u, alpha, draws)
        u = u - rates.inner * velocity
    return pd.DataFrame(rows)


def compare_joint_runs(toy: MicroDARTS, sigma: float, seeds: Sequence[int], steps: int) -> pd.DataFrame:
    """Return `run_jointly` for DARTS, for a linear hypernetwork in four settings and for the exact hypergradient.

    Column `method`: the name of the arm. DARTS and the exact hypergradient have only the part `total`.
    """
    h, every = Linear(3, toy.n_w), tuple(PARTS)
    arms: list[tuple[str, Weights, Sequence[str], float, bool]] = [
        ("exact", RetrainedWeights(toy), every[:1], 0.0, False),
        ("DARTS, first order", LearnedWeights(toy), every[:1], 0.0, False),
        ("DARTS, second order", LearnedWeights(toy, Rates().inner), every[:1], 0.0, False),
        ("hypernetwork, as in the thesis", GeneratedWeights(toy, h), every, 0.0, False),
        ("+ zero response at the start", GeneratedWeights(toy, h, zero_response=True), every, 0.0, False),
        ("+ noise", GeneratedWeights(toy, h, zero_response=True), every, sigma, False),
        ("+ centred, antithetic", GeneratedWeights(toy, h, centred=True, zero_response=True), every, sigma, True),
    ]
    runs = [
        run_jointly(weights, parts, seeds, steps, spread, antithetic).assign(method=name)
        for name, weights, parts, spread, antithetic in arms
    ]
    return pd.concat(runs, ignore_index=True)


def _rows(
    runs: Sequence[tuple[str, int]], step: int, alpha: Tensor, hypergradient: Tensor, exact: Tensor, loss: Tensor
) -> list[Row]:
    error = (hypergradient - exact).norm(dim=1) / exact.norm(dim=1)
    columns = {
        **dict(zip(OPERATIONS, alpha.softmax(1).T, strict=True)),
        "retrained": loss,
        "relative_error": error,
        "cosine": torch.cosine_similarity(hypergradient, exact),
    }
    values = {name: column.tolist() for name, column in columns.items()}
    return [
        {"part": part, "seed": seed, "step": step, **{name: column[i] for name, column in values.items()}}
        for i, (part, seed) in enumerate(runs)
    ]
