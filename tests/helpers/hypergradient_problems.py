"""Problems with known derivatives, and plain autograd, for the tests of `hdarts.hypergradient`."""

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from hdarts import toys
from hdarts.bilevel import BilevelProblem
from hdarts.runs.randomness import generator

TOYS = [toys.Sine(0.3), toys.Quadratic2D(), toys.RidgeDiabetes(), toys.RidgeDigits(), toys.MicroDARTS(1.0)]
ILL_CONDITIONED = toys.MicroDARTS(1e-4)


def draw(*shape: int, seed: int = 0, purpose: str = "") -> Tensor:
    return torch.randn(shape, generator=generator(seed, "test", purpose), dtype=torch.float64)


def eye(size: int) -> Tensor:
    return torch.eye(size, dtype=torch.float64)


def near(actual: Tensor, truth: Tensor, tolerance: float = 1e-9) -> None:
    torch.testing.assert_close(actual, truth, rtol=tolerance, atol=tolerance)


def setting(toy: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Return alpha, w*(alpha), and weights near w*."""
    alpha = draw(*toy.alpha_shape, purpose="alpha")
    best = toy.best_response(alpha)
    return alpha, best, best + 0.1 * draw(toy.n_w, purpose="w")


@dataclass
class Quadratic:
    """inner = w^T H w / 2 + w^T C alpha, outer = |w - t|^2 / 2 + (sum of alpha) (p^T w)."""

    n_w: int
    alpha_shape: tuple[int, ...]
    seed: int = 0
    indefinite: bool = False

    def __post_init__(self) -> None:
        n_alpha = math.prod(self.alpha_shape)
        kappa = torch.linspace(-0.5 if self.indefinite else 0.5, 2, self.n_w, dtype=torch.float64)
        rotation = torch.linalg.qr(draw(self.n_w, self.n_w, seed=self.seed, purpose="H"))[0]
        self.hessian = rotation @ kappa.diag() @ rotation.T
        self.cross = draw(self.n_w, n_alpha, seed=self.seed, purpose="C")
        self.t, self.p = draw(2, self.n_w, seed=self.seed, purpose="t, p")
        self.w = draw(self.n_w, seed=self.seed, purpose="w")
        self.alpha = draw(*self.alpha_shape, seed=self.seed, purpose="alpha")

    def inner(self, w: Tensor, alpha: Tensor, batch: Any) -> Tensor:
        return w @ self.hessian @ w / 2 + w @ self.cross @ alpha.flatten()

    def outer(self, w: Tensor, alpha: Tensor, batch: Any) -> Tensor:
        return (w - self.t).square().sum() / 2 + alpha.sum() * (w @ self.p)

    @property
    def v(self) -> Tensor:
        return self.w - self.t + self.alpha.sum() * self.p

    def response(self, q: Tensor) -> Tensor:
        return -(self.cross.T @ q).view(self.alpha_shape)


class Curved:
    """A classifier with a convolution, BatchNorm, softmax weights and tanh: its losses are not quadratic."""

    n_w = 3 * 9 + 3 * 2
    alpha_shape = (2, 2)

    def logits(self, w: Tensor, alpha: Tensor, images: Tensor) -> Tensor:
        weights = alpha.softmax(1)
        kernel, head = w[:27].view(3, 1, 3, 3), w[27:].view(2, 3)
        x = F.batch_norm(F.conv2d(images, kernel, padding=1), None, None, training=True)
        x = weights[0, 0] * x.tanh() + weights[0, 1] * F.avg_pool2d(x, 3, 1, 1)
        x = weights[1, 0] * x + weights[1, 1] * F.max_pool2d(x, 3, 1, 1)
        return x.square().mean((2, 3)) @ head.T

    def inner(self, w: Tensor, alpha: Tensor, batch: Any) -> Tensor:
        images, labels = batch
        return F.cross_entropy(self.logits(w, alpha, images), labels)

    outer = inner


def curved_batches(count: int) -> list[tuple[Tensor, Tensor]]:
    labels = torch.tensor([0, 1, 1, 0])
    return [(draw(4, 1, 5, 5, purpose=f"images {i}"), labels) for i in range(count)]


def back_propagated(
    problem: BilevelProblem,
    w: Tensor,
    alpha: Tensor,
    batches: list,
    outer_batch: Any,
    step_size: float,
    keep: int,
    **sgd: Any,
) -> tuple[Tensor, Tensor]:
    """Return direct and response part by backpropagation through the graph of all steps."""
    a = alpha.clone().requires_grad_()
    w = w.clone().requires_grad_()
    velocity = sgd.get("velocity", torch.zeros_like(w))
    for step, batch in enumerate(batches):
        if len(batches) - step == keep:
            w, velocity = w.detach().requires_grad_(), velocity.detach()
        (slope,) = torch.autograd.grad(problem.inner(w, a, batch), w, create_graph=True)
        slope, momentum = slope + sgd.get("weight_decay", 0) * w, sgd.get("momentum", 0)
        velocity = momentum * velocity + slope
        w = w - step_size * (slope + momentum * velocity if sgd.get("nesterov") else velocity)
    (total,) = torch.autograd.grad(problem.outer(w, a, outer_batch), a, retain_graph=True)
    fixed = alpha.clone().requires_grad_()
    value = problem.outer(w.detach(), fixed, outer_batch) + 0 * fixed.sum()
    (direct,) = torch.autograd.grad(value, fixed)
    return direct, total - direct
