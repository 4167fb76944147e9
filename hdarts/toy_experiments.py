"""What notebooks 01 and 02 compute: hypergradients and hypernetworks where the answer is known. Tables out."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from hdarts import hypergradient as methods
from hdarts.bilevel import Hypergradient, Reparametrised
from hdarts.hypernetwork import MLP, Linear
from hdarts.randomness import generator
from hdarts.toys import MicroDARTS, RidgeDiabetes, RidgeDigits, Sine, retrained_loss


def start(toy: Any, seed: int, scale: float = 0.3) -> Tensor:
    """Return an alpha of the toy's shape, `scale` x standard normal, float64."""
    return scale * torch.randn(toy.alpha_shape, generator=generator(seed, "alpha"), dtype=torch.float64)


def curvatures(toy: Any, alpha: Tensor) -> Tensor:
    """Return all eigenvalues of the inner Hessian at w*(alpha), ascending."""
    hessian = torch.func.hessian(toy.inner)(toy.best_response(alpha), alpha, None)
    return torch.linalg.eigvalsh(hessian.reshape(toy.n_w, toy.n_w))


def compare(found: Hypergradient, truth: Hypergradient) -> dict[str, float]:
    """Return relative error and cosine of the totals."""
    a, b = found.total.flatten(), truth.total.flatten()
    return {"relative_error": float((a - b).norm() / b.norm()), "cosine": float(a @ b / (a.norm() * b.norm()))}


def attempt(method: str, toy: Any, w: Tensor, alpha: Tensor, step: float, k: int) -> Hypergradient:
    """Return a method's hypergradient with k steps, terms or iterations; none at all is the direct part alone."""
    if k == 0:
        return methods.direct(toy, w, alpha, None)
    if method == "unrolled":
        return methods.unrolled(toy, w, alpha, [None] * k, None, step)
    if method == "neumann":
        return methods.neumann(toy, w, alpha, None, None, step, k)
    return methods.conjugate_gradient(toy, w, alpha, None, None, k)


def by_terms(toys: Mapping[str, Any], seed: int, most: int) -> pd.DataFrame:
    """Return the error of each method over its number of terms, steps or iterations, at w*(alpha).

    The step size is 1 / kappa_max; `predicted` is the contraction of the slowest direction, (1 - kappa_min
    / kappa_max)^K.
    """
    rows = []
    for name, toy in toys.items():
        alpha = start(toy, seed)
        w, truth, kappa = toy.best_response(alpha), toy.exact_hypergradient(alpha), curvatures(toy, alpha)
        step = 1 / float(kappa[-1])
        counts = sorted({0, *(round(1.5**i) for i in range(40) if 1.5**i <= most)})
        for k in counts:
            for method in ("unrolled", "neumann", "conjugate gradient"):
                begin = time.perf_counter()
                found = attempt(method, toy, w, alpha, step, k)
                seconds = time.perf_counter() - begin
                rows.append({"toy": name, "method": method, "K": k, "seconds": seconds, **compare(found, truth)})
            rows.append(
                {"toy": name, "method": "predicted", "K": k, "relative_error": float((1 - kappa[0] * step) ** k)}
            )
    return pd.DataFrame(rows)


def one_step(seed: int, step_sizes: Sequence[float]) -> pd.DataFrame:
    """Return the relative error of one unrolled step from w*(alpha) over the step size, on the sine: |1 - xi kappa|."""
    toy = Sine(0.3)
    alpha = torch.tensor(0.8, dtype=torch.float64)
    w, truth, rows = toy.best_response(alpha), toy.exact_hypergradient(alpha), []
    for xi in step_sizes:
        found = methods.unrolled(toy, w, alpha, [None], None, xi)
        rows.append({"step size": xi, "method": "one unrolled step", **compare(found, truth)})
        none = methods.direct(toy, w, alpha, None)
        rows.append({"step size": xi, "method": "no response at all", **compare(none, truth)})
    return pd.DataFrame(rows)


def over_epsilon(seed: int, epsilons: Sequence[float]) -> pd.DataFrame:
    """Return the error of finite differences against the exact one-step response, on micro-DARTS.

    `wrong formula` divides by 2 and multiplies by eps, as several public codes do.
    """
    rows = []
    for dtype in (torch.float64, torch.float32):
        toy = MicroDARTS(1e-2)
        alpha = start(toy, seed).to(dtype)
        w = torch.randn(toy.n_w, generator=generator(seed, "w"), dtype=torch.float64).to(dtype)
        step = 0.1
        truth = methods.unrolled(toy, w, alpha, [None], None, step).response
        for epsilon in epsilons:
            found = methods.finite_difference(toy, w, alpha, None, None, step, epsilon)
            ahead = w - step * torch.func.grad(toy.inner)(w, alpha, None)
            eps = epsilon / float(torch.func.grad(toy.outer)(ahead, alpha, None).norm())
            variants = {"DARTS": found.response, "wrong formula": found.response * eps**2}
            for name, response in variants.items():
                error = float((response - truth).norm() / truth.norm())
                rows.append({"epsilon": epsilon, "what": f"{name}, {str(dtype)[6:]}", "relative_error": error})
    return pd.DataFrame(rows)


def train(problem: Reparametrised, u: Tensor, draws: Sequence[Tensor], rate: float, adam: bool = True) -> Tensor:
    """Return u after a step for each of `draws`, `(n, ...)` values of alpha, on their mean inner loss.

    Adam for speed; SGD with momentum where it matters that steps stay in the span of the gradients.
    """
    u = u.clone().requires_grad_()
    optimiser = torch.optim.Adam([u], lr=rate) if adam else torch.optim.SGD([u], lr=rate, momentum=0.9)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, len(draws))
    for alphas in draws:
        optimiser.zero_grad()
        torch.stack([problem.inner(u, a, None) for a in alphas]).mean().backward()
        optimiser.step()
        schedule.step()
    return u.detach()


def figure_22(seed: int, steps: int, centre: float = 0.0, sigma: float = 0.5) -> pd.DataFrame:
    """Return outer losses over alpha on ridge regression of digits: retrained, global and local hypernetwork."""
    toy, rows = RidgeDigits(), []
    grid = torch.linspace(-6, 6, 25, dtype=torch.float64)
    makers = {
        "global hypernetwork (MLP)": (
            MLP(1, (toy.n_w,), 20, "tanh"),
            lambda draw: 12 * torch.rand(8, generator=draw) - 6,
        ),
        "local hypernetwork (linear)": (
            Linear(1, toy.n_w),
            lambda draw: centre + sigma * torch.randn(8, generator=draw),
        ),
    }
    for name, (h, distribution) in makers.items():
        problem = Reparametrised(toy, h)
        u = h.initial_phi(generator(seed, name)).double()
        draws = [distribution(generator(seed, name, step)).double() for step in range(steps)]
        u = train(problem, u, draws, 0.03)
        rows += [{"alpha": float(a), "what": name, "outer": float(problem.outer(u, a, None))} for a in grid]
    rows += [{"alpha": float(a), "what": "retrained", "outer": float(retrained_loss(toy, a))} for a in grid]
    return pd.DataFrame(rows)


def bias_over_sigma(sigmas: Sequence[float], alpha: float = 0.8) -> pd.DataFrame:
    """Return the error of a converged local linear hypernetwork on the sine: the best line through r(a), a near alpha.

    inner is quadratic in w, so the converged (W, b) is a least-squares fit over the normal distribution, here its 4,001
    quantiles; the true slope is -cos(alpha), the fitted one -cos(alpha) exp(-sigma^2 / 2): a bias of order sigma^2.
    """
    toy, rows = Sine(0.3), []
    at = torch.tensor(alpha, dtype=torch.float64)
    truth = toy.exact_hypergradient(at)
    ranks = (torch.arange(4001, dtype=torch.float64) + 0.5) / 4001
    normal = torch.special.ndtri(ranks)
    for sigma in sigmas:
        a = at + sigma * normal
        fit = torch.linalg.lstsq(torch.stack([a, torch.ones_like(a)], 1), -torch.sin(a).unsqueeze(1)).solution.flatten()
        found = methods.hypernetwork(Reparametrised(toy, Linear(1, 1)), fit, at, None)
        error = float((found.total - truth.total).norm() / truth.total.norm())
        rows.append({"sigma": sigma, "what": "hypergradient", "relative_error": error})
    return pd.DataFrame(rows)


def what_a_trajectory_teaches(seed: int, steps: int, sigma: float) -> pd.DataFrame:
    """Return how much of the true response Jacobian a linear hypernetwork knows, along a line of alpha and across it.

    Ridge regression of diabetes, one log-L2 weight a feature. Without noise alpha visits one line only; the gradient of
    the matrix is g z^T, so all other directions keep their initialisation (0 here).
    """
    toy = RidgeDiabetes()
    alpha = start(toy, seed)
    line = torch.randn(toy.alpha_shape, generator=generator(seed, "line"), dtype=torch.float64)
    line /= line.norm()
    jacobian = torch.func.jacrev(toy.best_response)(alpha).reshape(toy.n_w, -1)
    h, rows = Linear(alpha.numel(), toy.n_w), []
    problem = Reparametrised(_Shifted(toy, alpha), h)
    for name, noise in (("no noise", 0.0), (f"noise {sigma}", sigma)):
        visited = []
        for step in range(steps):
            draw = generator(seed, "visit", step)
            along = 0.3 * torch.randn(8, 1, generator=draw, dtype=torch.float64) * line
            visited.append(along + noise * torch.randn(8, *toy.alpha_shape, generator=draw, dtype=torch.float64))
        u = torch.cat([torch.zeros(h.n_phi - toy.n_w, dtype=torch.float64), toy.best_response(alpha).flatten()])
        rate = 0.3 / float(curvatures(toy, alpha)[-1])
        matrix = h.output.matrix(train(problem, u, visited, rate, adam=False))
        across = torch.eye(len(line), dtype=torch.float64) - torch.outer(line, line)
        for where, project in (("along the line", torch.outer(line, line)), ("across it", across)):
            error = (matrix - jacobian) @ project
            rows.append(
                {"training": name, "direction": where, "error": float(error.norm() / (jacobian @ project).norm())}
            )
    return pd.DataFrame(rows)


class _Shifted:
    """A toy seen from `origin`: alpha 0 is there."""

    def __init__(self, toy: Any, origin: Tensor):
        self.toy, self.origin = toy, origin

    def inner(self, w: Tensor, alpha: Tensor, batch: Any) -> Tensor:
        return self.toy.inner(w, self.origin + alpha, batch)

    def outer(self, w: Tensor, alpha: Tensor, batch: Any) -> Tensor:
        return self.toy.outer(w, self.origin + alpha, batch)


def joint_runs(seed: int, steps: int, sigma: float, l2: float = 1e-2) -> pd.DataFrame:
    """Return where joint training of alpha and a linear hypernetwork ends on micro-DARTS: report algorithm 2 in small.

    `part` is what steps alpha. The outer loss is taken at the retrained weights w*(alpha), not at the generated ones.
    """
    toy = MicroDARTS(l2)
    names = ("identity", "average pool", "max pool")
    h = Linear(3, toy.n_w)
    problem, rows = Reparametrised(toy, h), []
    for part in ("total", "direct", "response"):
        for noise in (0.0, sigma):
            alpha = 0.001 * torch.randn(3, generator=generator(seed, "alpha"), dtype=torch.float64)
            u = h.initial_phi(generator(seed, "phi")).double().requires_grad_()
            inner = torch.optim.Adam([u], lr=0.01)
            outer = torch.optim.Adam([alpha], lr=0.02)
            for step in range(steps):
                found = methods.hypernetwork(problem, u.detach(), alpha, None)
                alpha.grad = getattr(found, part)
                outer.step()
                inner.zero_grad()
                eps = noise * torch.randn(3, generator=generator(seed, "noise", step), dtype=torch.float64)
                problem.inner(u, alpha, None, eps).backward()
                inner.step()
            row = {"part": part, "noise": noise, "retrained outer loss": float(retrained_loss(toy, alpha))}
            shares = dict(zip(names, alpha.softmax(0).tolist(), strict=True))
            rows.append({**row, "winner": max(shares, key=shares.__getitem__), **shares})
    return pd.DataFrame(rows)
