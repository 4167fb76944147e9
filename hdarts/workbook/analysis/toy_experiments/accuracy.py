"""Notebook 01: tables of the error of each method against the exact hypergradient, and of its cost."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from hdarts import hypergradient as methods
from hdarts.bilevel import Hypergradient
from hdarts.runs.randomness import generator
from hdarts.supernet.layout import agreement
from hdarts.toys import MicroDARTS, Quadratic2D, Sine, Toy, retrained_loss
from hdarts.workbook.analysis.toy_experiments.storage import peak_bytes

OPERATIONS = ("identity", "average pool", "max pool")  # of micro-DARTS


def start(toy: Any, seed: int, scale: float = 0.3) -> Tensor:
    """Return an alpha of the toy's shape, `scale` times standard normal, float64."""
    return scale * torch.randn(toy.alpha_shape, generator=generator(seed, "alpha"), dtype=torch.float64)


def curvatures(toy: Any, alpha: Tensor) -> Tensor:
    """Return all eigenvalues kappa of the inner Hessian at w*(alpha), ascending."""
    hessian = torch.func.jacrev(torch.func.grad(toy.inner))(toy.best_response(alpha), alpha, None)
    return torch.linalg.eigvalsh(hessian.reshape(toy.n_w, toy.n_w))


@dataclass(frozen=True)
class Method:
    """`hypergradient(toy, w*, alpha, step size, K)`, and its cost `gradients(K)` in gradients.

    A gradient is one forward and one backward pass. A Hessian-vector product, a backward pass through a gradient,
    counts 2, or 3 in unrolling, which builds its graph anew at every step.
    """

    hypergradient: Callable[[Any, Tensor, Tensor, float, int], Hypergradient]
    gradients: Callable[[int], int]
    fixed: bool = False  # does not depend on K


METHODS = {
    "none (first-order DARTS)": Method(lambda t, w, a, xi, k: methods.direct(t, w, a, None), lambda k: 1, fixed=True),
    "finite difference (DARTS)": Method(
        lambda t, w, a, xi, k: methods.finite_difference(t, w, a, None, None, xi), lambda k: 4, fixed=True
    ),
    "Neumann, K terms": Method(lambda t, w, a, xi, k: methods.neumann(t, w, a, None, None, xi, k), lambda k: 2 + 2 * k),
    "unrolled, K steps from 0": Method(
        lambda t, w, a, xi, k: methods.unrolled(t, torch.zeros_like(w), a, [None] * k, None, xi), lambda k: 1 + 4 * k
    ),
    "conjugate gradient": Method(
        lambda t, w, a, xi, k: methods.conjugate_gradient(t, w, a, None, None, k), lambda k: 4 + 2 * k
    ),
}


def counts_to(most: int) -> list[int]:
    """Return the numbers K for which methods are compared: each about 1.7 times the last one, and `most`."""
    return sorted({round(1.7**i) for i in range(40) if 1.7**i <= most} | {most})


def calls(
    toy: Any, alpha: Tensor, step_size: float, counts: Sequence[int]
) -> dict[tuple[str, int], Callable[[], Hypergradient]]:
    """Return the call of each method at w*(alpha) for each K in `counts`, or only the first if K is not used."""
    w = toy.best_response(alpha)
    return {
        (method, k): partial(how.hypergradient, toy, w, alpha, step_size, k)
        for method, how in METHODS.items()
        for k in (counts[:1] if how.fixed else counts)
    }


def by_steps(toys: Mapping[str, Any], seed: int, most: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the error of each method over its number K of terms, steps or iterations, and its time in seconds.

    All start at w*(alpha), except the unrolled one, which trains from w = 0. The step size xi is 1 / (2 kappa_max).
    `predicted` is the error of no response times (1 - xi kappa_min)^K: the slowest direction decides.
    """
    rows, clock, counts = [], [], counts_to(most)
    for name, toy in toys.items():
        alpha = start(toy, seed)
        w, truth, kappa = toy.best_response(alpha), toy.exact_hypergradient(alpha).total, curvatures(toy, alpha)
        xi = 0.5 / float(kappa[-1])
        results = {key: call() for key, call in calls(toy, alpha, xi, counts).items()}
        for method, how in METHODS.items():
            for k in counts:  # methods without K are horizontal lines
                total = results[method, counts[0] if how.fixed else k].total
                errors = {"gradients": how.gradients(k), **agreement(total, truth)}
                rows.append({"toy": name, "method": method, "K": k, **errors})
        clock += [{"toy": name, "method": m, "K": k, "seconds": one.info["seconds"]} for (m, k), one in results.items()]
        none = agreement(methods.direct(toy, w, alpha, None).total, truth)["relative_error"]
        slowest = 1 - xi * float(kappa[0])
        rows += [{"toy": name, "method": "predicted", "K": k, "relative_error": none * slowest**k} for k in counts]
    return pd.DataFrame(rows), pd.DataFrame(clock)


def memory(toys: Mapping[str, Any], seed: int, most: int) -> pd.DataFrame:
    """Return the `kilobytes` (1000 bytes) of each method over K: `peak_bytes` of the calls of `by_steps`."""
    rows = []
    for name, toy in toys.items():
        alpha = start(toy, seed)
        xi = 0.5 / float(curvatures(toy, alpha)[-1])
        for (method, k), call in calls(toy, alpha, xi, counts_to(most)).items():
            rows.append({"toy": name, "method": method, "K": k, "kilobytes": peak_bytes(call) / 1000})
    return pd.DataFrame(rows)


def over_step_size(step_sizes: Sequence[float], counts: Sequence[int]) -> pd.DataFrame:
    """Return the error of K unrolled steps from w* over the step size, on the sine: |1 - xi kappa|^K with kappa = 1."""
    toy, alpha = Sine(0.3), torch.tensor(0.8, dtype=torch.float64)
    w, truth = toy.best_response(alpha), toy.exact_hypergradient(alpha).total
    none = agreement(methods.direct(toy, w, alpha, None).total, truth)["relative_error"]
    rows = []
    for xi in step_sizes:
        rows.append({"step_size": xi, "method": "none", "relative_error": none})
        for k in counts:
            error = agreement(methods.unrolled(toy, w, alpha, [None] * k, None, xi).total, truth)["relative_error"]
            rows.append({"step_size": xi, "method": f"K = {k}", "relative_error": error})
    return pd.DataFrame(rows)


COMPONENTS = ("d outer / d alpha 1", "d outer / d alpha 2")


def approach(shares: Sequence[float], most: int, seed: int) -> tuple[pd.DataFrame, tuple[float, float]]:
    """Return the hypergradient of the quadratic by K = 0 (no response) to `most` Neumann terms, and the exact one.

    `shares` are step sizes times the largest curvature: above 2 the series diverges.
    """
    toy = Quadratic2D()
    alpha, rows = start(toy, seed), []
    w, largest = toy.best_response(alpha), float(curvatures(toy, alpha)[-1])
    for share in shares:
        for k in range(most + 1):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", methods.HypergradientWarning)
                total = methods.neumann(toy, w, alpha, None, None, share / largest, k).total
            rows.append({"share": share, "K": k, **dict(zip(COMPONENTS, total.tolist(), strict=True))})
    one, other = toy.exact_hypergradient(alpha).total.tolist()
    return pd.DataFrame(rows), (one, other)


def simplex(side: int, margin: float = 0.01) -> Tensor:
    """Return a triangular grid of alphas (rows, 3) whose softmax is at least `margin` everywhere."""
    points = [(i, j, side - i - j) for i in range(side + 1) for j in range(side + 1 - i)]
    shares = torch.tensor(points, dtype=torch.float64) / side
    return (margin + (1 - 3 * margin) * shares).log()


def over_the_simplex(toy: MicroDARTS, step_size: float, side: int = 20) -> pd.DataFrame:
    """Return, for alphas over the whole simplex, the retrained loss and the errors of no response and of one step.

    All points are computed at once, at w*, by the closed forms: d, and d - xi C^T v. `worse` is the error of one step
    divided by that of no response.
    """

    def at(alpha: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        w = toy.best_response(alpha)
        v, d = torch.func.grad(toy.outer, argnums=(0, 1))(w, alpha, None)
        cross = torch.func.grad(lambda a: torch.func.grad(toy.inner)(w, a, None) @ v)(alpha)
        slope, loss = torch.func.grad_and_value(lambda a: retrained_loss(toy, a))(alpha)
        return slope, d, d - step_size * cross, loss

    alphas, rows = simplex(side), []
    for alpha, truth, none, one, loss in zip(alphas, *torch.func.vmap(at)(alphas), strict=True):
        shares = dict(zip(OPERATIONS, alpha.softmax(0).tolist(), strict=True))
        first, second = agreement(none, truth), agreement(one, truth)
        errors = {"none": first["relative_error"], "one step": second["relative_error"]}
        cosines = {"cosine of none": first["cosine"], "cosine of one step": second["cosine"]}
        worse = errors["one step"] / errors["none"]
        rows.append({**shares, **errors, **cosines, "worse": worse, "retrained": float(loss)})
    return pd.DataFrame(rows)


@dataclass(frozen=True)
class CrossEntropy:
    """Micro-DARTS with cross entropy instead of squares: not quadratic in w, and without a closed form."""

    toy: MicroDARTS

    def _loss(self, w: Tensor, alpha: Tensor, part: int) -> Tensor:
        outputs, y = (tensor[part].to(w) for tensor in self.toy.data)
        x = torch.einsum("o,onp->np", alpha.softmax(0), outputs)
        return F.cross_entropy(x @ w.view(x.shape[1], y.shape[1]), y)

    def inner(self, w: Tensor, alpha: Tensor, batch: None = None) -> Tensor:
        """Return mean cross entropy + l2 |W|^2 / 2."""
        return self._loss(w, alpha, 0) + self.toy.l2 * w.square().sum() / 2

    def outer(self, w: Tensor, alpha: Tensor, batch: None = None) -> Tensor:
        """Return mean cross entropy."""
        return self._loss(w, alpha, 1)


def over_epsilon(problems: Mapping[str, Any], seed: int, epsilons: Sequence[float]) -> pd.DataFrame:
    """Return the error of DARTS's difference quotient against the exact one-step response in float64.

    Problems have the shapes of micro-DARTS. `wrong formula` divides by 2 and multiplies by eps, as several public
    codes do, which makes the response eps^2 times as large.
    """
    rows, xi = [], 0.1
    alpha = torch.randn(3, generator=generator(seed, "alpha"), dtype=torch.float64)
    for name, problem in problems.items():
        w = 0.1 * torch.randn(MicroDARTS.n_w, generator=generator(seed, "w"), dtype=torch.float64)
        for _ in range(50):  # somewhat trained
            w = w - xi * torch.func.grad(problem.inner)(w, alpha, None)
        truth = methods.unrolled(problem, w, alpha, [None], None, xi).response
        ahead = w - xi * torch.func.grad(problem.inner)(w, alpha, None)
        v = float(torch.func.grad(problem.outer)(ahead, alpha, None).norm())
        for epsilon in epsilons:
            responses = {}
            for dtype in (torch.float64, torch.float32):
                one = methods.finite_difference(problem, w.to(dtype), alpha.to(dtype), None, None, xi, epsilon)
                responses[str(dtype)[6:]] = one.response
            responses["wrong formula, float64"] = responses["float64"] * (epsilon / v) ** 2
            for what, response in responses.items():
                error = agreement(response, truth)["relative_error"]
                rows.append({"problem": name, "what": what, "epsilon": epsilon, "relative_error": error})
    return pd.DataFrame(rows)


def descend(
    toy: Toy, hypergradient: Callable[[Tensor, Tensor], Hypergradient], alpha: Tensor, steps: int, rate: float
) -> list[Tensor]:
    """Return the alphas of `steps` steps of Adam along `hypergradient(w*(alpha), alpha)`, w retrained at each step."""
    alpha = alpha.clone()
    optimiser, path = torch.optim.Adam([alpha], lr=rate, betas=(0.5, 0.999)), [alpha.clone()]
    for _ in range(steps):
        alpha.grad = hypergradient(toy.best_response(alpha), alpha).total
        optimiser.step()
        path.append(alpha.clone())
    return path
