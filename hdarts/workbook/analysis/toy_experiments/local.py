"""Notebook 02: what a hypernetwork knows of the best response: everywhere, near one alpha, along one line."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.func import grad, vmap

from hdarts import hypergradient as methods
from hdarts.bilevel import Centred, Reparametrised
from hdarts.hypernetwork import MLP, Linear
from hdarts.runs.randomness import generator
from hdarts.supernet.layout import agreement
from hdarts.toys import MicroDARTS, RidgeDiabetes, RidgeDigits, Sine
from hdarts.workbook.analysis.toy_experiments.joint import noises


def train(problem: Reparametrised, u: Tensor, draws: Iterable[Tensor], rate: float) -> Tensor:
    """Return u after a step of Adam, its rate falling to 0 as a cosine, for each of `draws`: n alphas each."""
    u, draws = u.clone().requires_grad_(), list(draws)
    optimiser = torch.optim.Adam([u], lr=rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, len(draws))
    for alphas in draws:
        optimiser.zero_grad()
        vmap(lambda a: problem.inner(u, a, None))(alphas).mean().backward()
        optimiser.step()
        schedule.step()
    return u.detach()


def figure_22(
    seed: int, steps: int, wide: tuple[float, float], narrow: Sequence[tuple[float, float]], grid: Tensor
) -> pd.DataFrame:
    """Return inner and outer loss over alpha on ridge regression of digits, at the weights that hypernetworks make.

    `wide` and `narrow`: mean and standard deviation of the alphas that a hypernetwork is to serve. Linear ones are
    `converged`, for each of them; an MLP, for `wide`, is trained from zero output. `retrained` is at w*(alpha).
    """
    toy, h = RidgeDigits(), MLP(1, (640,), 16, "tanh")
    mean, spread = wide
    draws = mean + spread * torch.randn(steps, 16, generator=generator(seed, "alphas"), dtype=torch.float64)
    phi = h.initial_phi(generator(seed, "phi")).double()
    phi[h.n_trunk :] = 0.0
    mlp, rows = Reparametrised(toy, h), []
    phi, linear = train(mlp, phi, draws, 0.03), Linear(1, toy.n_w)
    arms = [("global, MLP", wide, lambda a: mlp.weights(phi, a)), ("retrained", wide, toy.best_response)]
    for kind, where in [("global, linear", wide), *(("local, linear", one) for one in narrow)]:
        at = torch.tensor(where[0], dtype=torch.float64)
        fit = converged(toy, at, where[1])
        arms.append((kind, where, lambda a, at=at, fit=fit: linear(fit, a - at)))
    for kind, where, weights in arms:
        for a in grid:
            losses = {"inner": float(toy.inner(weights(a), a)), "outer": float(toy.outer(weights(a), a))}
            rows.append({"kind": kind, "mean": where[0], "spread": where[1], "alpha": float(a), **losses})
    return pd.DataFrame(rows)


def normal(n_alpha: int, nodes: int = 9) -> tuple[Tensor, Tensor]:
    """Return points eps `(nodes^n_alpha, n_alpha)` and weights of Gauss-Hermite quadrature for a standard normal."""
    points, weights = (torch.from_numpy(x) for x in np.polynomial.hermite_e.hermegauss(nodes))
    grid = torch.cartesian_prod(*[points] * n_alpha).view(-1, n_alpha)
    mass = torch.cartesian_prod(*[weights / weights.sum()] * n_alpha).view(-1, n_alpha).prod(1)
    return grid, mass


def quadratic(toy: Sine | RidgeDigits | MicroDARTS, alphas: Tensor) -> tuple[Tensor, Tensor]:
    """Return gram `(n, k, k)` and cross `(n, k, m)` with inner = tr(W^T gram W) / 2 - tr(W^T cross) + constant."""
    if isinstance(toy, Sine):
        return torch.ones(len(alphas), 1, 1, dtype=torch.float64), -alphas.view(-1, 1, 1).sin()
    if isinstance(toy, RidgeDigits):
        x, y = toy.data[0]
        y = y.to(x)
        eye = torch.eye(x.shape[1]).to(x)
        return x.T @ x / len(y) + alphas.exp().view(-1, 1, 1) * eye, (x.T @ y / len(y)).expand(len(alphas), -1, -1)
    outputs, y = toy.data[0][0], toy.data[1][0]
    x = torch.einsum("no,orp->nrp", alphas.softmax(1), outputs)
    return x.mT @ x / len(y) + toy.l2 * torch.eye(x.shape[2]).to(x), x.mT @ y / len(y)


def converged(toy: Sine | RidgeDigits | MicroDARTS, alpha: Tensor, sigma: float) -> Tensor:
    """Return phi of the (centred) Linear that minimises the mean of inner over a = alpha + sigma eps, exactly.

    inner is quadratic in w and w = b + W sigma eps linear in (W, b), so it is one linear solve; the mean over eps is a
    quadrature.
    """
    eps, mass = normal(alpha.numel(), 9 if alpha.numel() == 1 else 5)
    gram, cross = quadratic(toy, alpha.reshape(-1) + sigma * eps)
    z = torch.cat([eps, torch.ones(len(eps), 1, dtype=torch.float64)], 1)
    left = torch.einsum("n,nz,ny,nkl->zkyl", mass, z, z, gram)
    right = torch.einsum("n,nz,nko->zko", mass, z, cross)
    width = left.shape[0] * left.shape[1]
    found = torch.linalg.solve(left.reshape(width, width), right.reshape(width, -1)).reshape(len(left), -1)
    h = Linear(alpha.numel(), toy.n_w)
    phi = torch.zeros(h.n_phi, dtype=torch.float64)
    h.output.matrix(phi).copy_(found[:-1].T / sigma)
    phi[-toy.n_w :] = found[-1]  # the bias
    return phi


def response_jacobian(toy: Any, alpha: Tensor) -> Tensor:
    """Return dw*/dalpha at `alpha`, (n_w, n_alpha)."""
    return torch.func.jacrev(toy.best_response)(alpha).reshape(toy.n_w, -1)


def knows(toy: Any, alpha: Tensor, phi: Tensor, jacobian: Tensor) -> dict[str, float]:
    """Return the relative errors of a centred Linear's hypergradient (parts summed) and of its response Jacobian."""
    h = Linear(alpha.numel(), toy.n_w)
    found = methods.hypernetwork(Reparametrised(toy, Centred(h, alpha)), phi, alpha, None)
    errors = agreement(found.total, toy.exact_hypergradient(alpha).total)
    return {**errors, "jacobian_error": agreement(h.output.matrix(phi), jacobian)["relative_error"]}


def bias_over_sigma(toys: Mapping[str, Any], alphas: Mapping[str, Tensor], sigmas: Sequence[float]) -> pd.DataFrame:
    """Return the errors of the converged local hypernetwork over its noise: a bias of order sigma^2."""
    rows = []
    for name, toy in toys.items():
        alpha, jacobian = alphas[name], response_jacobian(toy, alphas[name])
        for sigma in sigmas:
            errors = knows(toy, alpha, converged(toy, alpha, sigma), jacobian)
            rows.append({"toy": name, "sigma": sigma, **errors})
    return pd.DataFrame(rows)


def learned_over_sigma(
    toy: MicroDARTS, alpha: Tensor, sigmas: Sequence[float], steps: int, seed: int, rate: float = 0.02
) -> pd.DataFrame:
    """Return the errors of a centred Linear after `steps` steps of SGD (momentum 0.9) at a fixed alpha.

    It starts from W = 0 and b = w*(alpha): the weights are trained, the response is not. A step sees one antithetic
    pair, or two independent draws, which cost the same.
    """
    h, jacobian, rows = Linear(3, toy.n_w), response_jacobian(toy, alpha), []
    problem = Reparametrised(toy, Centred(h, alpha))
    slope = vmap(grad(lambda phi, draws: vmap(lambda noise: problem.inner(phi, alpha, None, noise))(draws).mean()))
    for name, antithetic in (("antithetic pair", True), ("two draws", False)):
        phi = torch.zeros(len(sigmas), h.n_phi, dtype=torch.float64)
        phi[:, -toy.n_w :] = toy.best_response(alpha)
        velocity, scale = torch.zeros_like(phi), torch.tensor(sigmas, dtype=torch.float64)[:, None, None]
        for step in range(steps):
            draws = noises(1.0, seed, 2 * step, antithetic)
            if not antithetic:
                draws = torch.cat([draws, noises(1.0, seed, 2 * step + 1, antithetic)])
            velocity = 0.9 * velocity + slope(phi, scale * draws)
            phi = phi - rate * velocity
        rows += [
            {"draws": name, "sigma": s, **knows(toy, alpha, p, jacobian)} for s, p in zip(sigmas, phi, strict=True)
        ]
    return pd.DataFrame(rows)


def chords(sigmas: Sequence[float], steps: int, seed: int, at: float = 0.8, rate: float = 0.02) -> pd.DataFrame:
    """Return lines through the sine's best response at alpha = `at`: `sigma`, `line`, `alpha`, `weight`.

    Its tangent; what a centred Linear converges to, a chord; and what it is after `steps` steps of SGD (momentum 0.9,
    antithetic pairs) from W = 0, b = w*(at).
    """
    toy, h, alpha = Sine(0.3), Linear(1, 1), torch.tensor([at], dtype=torch.float64)
    slope = grad(lambda u, eps: vmap(lambda noise: problem.inner(u, alpha, None, noise))(eps).mean())
    problem, places, rows = Reparametrised(toy, Centred(h, alpha)), torch.linspace(-1, 2.6, 61).double(), []
    tangent = torch.cat([response_jacobian(toy, alpha).reshape(1), toy.best_response(alpha)])
    for sigma in sigmas:
        learned, velocity = torch.stack([torch.zeros(()).double(), tangent[1]]), torch.zeros(2).double()
        for step in range(steps):
            eps = sigma * torch.randn(1, 1, generator=generator(seed, "noise", step), dtype=torch.float64)
            velocity = 0.9 * velocity + slope(learned, torch.cat([eps, -eps]))
            learned = learned - rate * velocity
        lines = {"tangent": tangent, "converged": converged(toy, alpha, sigma), f"{steps} steps": learned}
        drawn = {"w*(alpha)": -places.sin()} | {n: b + m * (places - at) for n, (m, b) in lines.items()}
        rows += [
            {"sigma": sigma, "line": name, "alpha": a, "weight": w}
            for name, weights in drawn.items()
            for a, w in zip(places.tolist(), weights.tolist(), strict=True)
        ]
    return pd.DataFrame(rows)


def along_a_line(
    seed: int, sigma: float, steps: int, rate: float = 0.03, decay: float = 3e-4, swings: float = 5
) -> dict[str, Tensor]:
    """Return response Jacobians (10, 10) on ridge regression of diabetes; the first column is the line of alpha.

    Linear is trained by SGD (momentum 0.9, weight decay) from torch's default start while alpha stays on a line through
    0: it walks, `swings` times to +-0.5 and back; or it jumps to a random place of the same swing at every step; or it
    walks and the hypernetwork sees noise around it; or that in the centred form, from W = 0 and the same bias. `start`
    is the common start and `truth` the exact Jacobian at alpha = 0.
    """
    toy, h = RidgeDiabetes(), Linear(10, 10)
    turn = torch.linalg.qr(torch.randn(10, 10, generator=generator(seed, "line"), dtype=torch.float64)).Q
    phases = torch.arange(steps, dtype=torch.float64) / steps
    jumps = torch.rand(steps, generator=generator(seed, "jumps"), dtype=torch.float64)
    phi = h.initial_phi(generator(seed, "phi")).double()
    zero = torch.zeros(10, dtype=torch.float64)
    found = {"truth": response_jacobian(toy, zero) @ turn, "start": h.output.matrix(phi) @ turn}
    arms = [("walk", phases, 0.0, False), ("jumps", jumps, 0.0, False)]
    arms += [("walk + noise", phases, sigma, False), ("walk + noise, centred", phases, sigma, True)]
    for name, places, spread, centred in arms:
        path = (2 * torch.pi * swings * places).sin()[:, None] / 2 * turn[:, 0]
        u = torch.cat([torch.zeros(100), phi[100:]]) if centred else phi
        found[name] = _follow(h, toy, u, path, centred, spread, seed, rate, decay) @ turn
    return found


def _follow(
    h: Linear, toy: Any, u: Tensor, path: Tensor, centred: bool, spread: float, seed: int, rate: float, decay: float
) -> Tensor:
    """W after a step of SGD at every alpha of `path`."""
    velocity, matrix = torch.zeros_like(u), h.output.matrix
    for step, alpha in enumerate(path):
        if centred and step:  # b moves with alpha
            u = torch.cat([u[: -h.n_weights], u[-h.n_weights :] + matrix(u) @ (alpha - path[step - 1])])
        problem = Reparametrised(toy, Centred(h, alpha) if centred else h)
        noise = spread * torch.randn(len(alpha), generator=generator(seed, "noise", step), dtype=torch.float64)
        velocity = 0.9 * velocity + grad(problem.inner)(u, alpha, None, noise) + decay * u
        u = u - rate * velocity
    return matrix(u)


def shrinkage(steps: int, rate: float, decay: float, momentum: float = 0.9) -> float:
    """Return the factor by which SGD with weight decay alone shrinks a weight in `steps` steps."""
    value, velocity = 1.0, 0.0
    for _ in range(steps):
        velocity = momentum * velocity + decay * value
        value -= rate * velocity
    return value
