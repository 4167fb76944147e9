"""Every method against the exact hypergradient, on problems that have one (notebook 01)."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import grad, vmap

from hdarts import hypergradient as h
from hdarts.bilevel import BilevelProblem, Hypergradient
from hdarts.randomness import generator
from hdarts.toys import MicroDARTS, retrained_loss


def some_alpha(toy: Any, seed: int, scale: float = 1.0) -> Tensor:
    """Return `scale` x standard normal values of the toy's alpha shape, float64."""
    return scale * torch.randn(toy.alpha_shape, generator=generator(seed, "alpha"), dtype=torch.float64)


def difference(found: Tensor, truth: Tensor) -> dict[str, float]:
    """Return |found - truth| / |truth| and the cosine between both (nan where `found` is 0 and has no direction)."""
    a, b = found.flatten().double(), truth.flatten().double()
    length = a.norm() * b.norm()
    cosine = float(a @ b / length) if length > 0 else math.nan
    return {"relative_error": float((a - b).norm() / b.norm()), "cosine": cosine}


def curvatures(toy: Any, alpha: Tensor) -> Tensor:
    """Return the eigenvalues kappa of the inner Hessian at w*(alpha), `(n_w,)`, ascending."""
    return torch.linalg.eigvalsh(torch.func.hessian(toy.inner)(toy.best_response(alpha), alpha))


class Method(NamedTuple):
    """A way to estimate a hypergradient with `effort` K: steps, terms or iterations.

    `estimate(toy, w, alpha, step_size, K)`; `cost(K)`: gradients and Hessian products it takes.
    """

    estimate: Callable[[Any, Tensor, Tensor, float, int], Hypergradient]
    cost: Callable[[int], tuple[int, int]]


METHODS = {
    "direct only": Method(lambda toy, w, a, xi, k: h.direct(toy, w, a, None), lambda k: (1, 0)),
    "finite difference": Method(
        lambda toy, w, a, xi, k: h.finite_difference(toy, w, a, None, None, xi), lambda k: (4, 0)
    ),
    "unrolled from w = 0": Method(
        lambda toy, w, a, xi, k: h.unrolled(toy, torch.zeros_like(w), a, [None] * k, None, xi),
        lambda k: (2 * k + 1, k),
    ),
    "Neumann": Method(lambda toy, w, a, xi, k: h.neumann(toy, w, a, None, None, xi, k), lambda k: (2, k)),
    "conjugate gradient": Method(
        lambda toy, w, a, xi, k: h.conjugate_gradient(toy, w, a, None, None, k), lambda k: (2, k + 1)
    ),
}
ONCE = ("direct only", "finite difference")  # their cost and their answer do not depend on K


def cost_of(method: str, effort: int) -> int:
    """Return the cost in gradient evaluations; a product with the Hessian counts as two."""
    gradients, products = METHODS[method].cost(effort)
    return gradients + 2 * products


def by_effort(toy: Any, alpha: Tensor, step_size: float, efforts: Iterable[int]) -> pd.DataFrame:
    """Return error, cosine, cost and seconds of every method at w*(alpha), a row for each method and effort.

    Methods without effort have one row, with effort 1. Errors are those of the total.
    """
    w, truth, rows = toy.best_response(alpha), toy.exact_hypergradient(alpha).total, []
    for name, method in METHODS.items():
        for effort in [1] if name in ONCE else efforts:
            found = method.estimate(toy, w, alpha, step_size, effort)
            row = {"method": name, "effort": effort, **difference(found.total, truth)}
            rows.append({**row, "gradient_evaluations": cost_of(name, effort), "seconds": found.info["seconds"]})
    return pd.DataFrame(rows)


# --- where one step helps --------------------------------------------------------------------------------------------


def simplex(side: int, margin: float = 0.01) -> Tensor:
    """Return alphas `(n, 3)` whose softmax weights lie on a triangular grid, `side` + 1 points a side.

    No weight is below `margin`, for alpha is infinite at the border.
    """
    points = [(i, j, side - i - j) for i in range(side + 1) for j in range(side + 1 - i)]
    return (torch.tensor(points, dtype=torch.float64) / side * (1 - 3 * margin) + margin).log()


def parts_at(toy: Any, alphas: Tensor, step_size: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return direct part, response part and one-step response at w*(alpha) for many alphas `(n, *shape)`.

    By differentiation through the closed form, all alphas at once; the one-step response is -step_size C^T v.
    """

    def at(alpha: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        w = toy.best_response(alpha)
        v, direct = grad(toy.outer, argnums=(0, 1))(w, alpha)
        total = grad(lambda a: retrained_loss(toy, a))(alpha)
        one_step = -step_size * grad(lambda a: (grad(toy.inner)(w, a) * v).sum())(alpha)
        return direct, total - direct, one_step

    toy.best_response(alphas[0])  # makes the toy's data, which vmap must not
    return vmap(at)(alphas)


def descend(toy: Any, alpha: Tensor, ways: Tensor, step_size: float, rate: float, steps: int) -> Tensor:
    """Return alphas `(steps + 1, n, *shape)` of gradient descent on the retrained loss, weights at w* throughout.

    `ways` `(n, 3)`: how much of direct part, response part and one-step response each run descends.
    """
    path = [alpha.expand(len(ways), *alpha.shape)]
    for _ in range(steps):
        parts = torch.stack(parts_at(toy, path[-1], step_size), dim=1)
        path.append(path[-1] - rate * torch.einsum("np,np...->n...", ways, parts))
    return torch.stack(path)


def responses_by_curvature(toy: Any, alpha: Tensor, step_size: float) -> pd.DataFrame:
    """Return how much each eigendirection of the inner Hessian adds to the response, and to one step's.

    Along the true response r, with eigenvectors e_i and curvatures kappa_i, the part of direction i is

        -(C^T e_i) . r / |r|^2  (e_i . v)  times  1 / kappa_i (sums to 1)  or  step_size.
    """
    w, truth = toy.best_response(alpha), toy.exact_hypergradient(alpha).response
    kappa, directions = torch.linalg.eigh(torch.func.hessian(toy.inner)(w, alpha))
    cross = torch.func.jacfwd(grad(toy.inner), argnums=1)(w, alpha).reshape(len(w), -1)
    v = grad(toy.outer)(w, alpha)
    each = -(directions.T @ cross @ truth.flatten()) * (directions.T @ v) / truth.square().sum()
    return pd.DataFrame({"kappa": kappa, "exact": each / kappa, "one step": each * step_size})


# --- finite differences ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ClassifyingMicroDARTS:
    """Micro-DARTS with cross-entropy in place of the squared error, which makes the inner loss not quadratic in w.

    No closed form: it serves to hold a finite difference against the exact product. `batch` is always None.
    """

    toy: MicroDARTS

    def inner(self, w: Tensor, alpha: Tensor, batch: None = None) -> Tensor:
        return self._cross_entropy(w, alpha, 0) + self.toy.l2 * w.square().sum() / 2

    def outer(self, w: Tensor, alpha: Tensor, batch: None = None) -> Tensor:
        return self._cross_entropy(w, alpha, 1)

    def _cross_entropy(self, w: Tensor, alpha: Tensor, part: int) -> Tensor:
        outputs, y = (tensor[part].to(w) for tensor in self.toy.data)
        return F.cross_entropy(torch.einsum("o,onp->np", alpha.softmax(0), outputs) @ w.view(64, 10), y)


def finite_difference_errors(
    problem: BilevelProblem, w: Tensor, alpha: Tensor, step_size: float, epsilons: Sequence[float]
) -> pd.DataFrame:
    """Return the relative error of DARTS's response over epsilon, against the exact one-step response in float64.

    Both in float64 and float32, with the right formula and with the one that divides by 2 and multiplies by eps
    (eps = epsilon / |v|), which gives eps^2 times as much.
    """
    truth = h.unrolled(problem, w, alpha, [None], None, step_size).response
    w_look = w - step_size * grad(problem.inner)(w, alpha, None)
    length = float(grad(problem.outer)(w_look, alpha, None).norm())
    rows = []
    for dtype, epsilon in ((d, e) for d in (torch.float64, torch.float32) for e in epsilons):
        found = h.finite_difference(problem, w.to(dtype), alpha.to(dtype), None, None, step_size, epsilon).response
        for formula, response in (("right", found), ("wrong", found * (epsilon / length) ** 2)):
            row = {"precision": str(dtype).removeprefix("torch."), "formula": formula, "epsilon": epsilon}
            rows.append({**row, "relative_error": difference(response, truth)["relative_error"]})
    return pd.DataFrame(rows)
