"""A quadratic whose spectrum and response are known, and how fast its response is learned or solved for."""

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import pandas as pd
import torch
from torch import Tensor

from hdarts import hypergradient as hg
from hdarts.runs.randomness import generator
from hdarts.supernet.layout import agreement
from hdarts.workbook.analysis import Row
from hdarts.workbook.analysis.response.learners import TANGENT
from hdarts.workbook.analysis.response.methods import NEUMANN, Held, counts_to, learned, solved

N_W = 40
SMALLEST = 0.05  # eigenvalue of H; the largest is 1
ENOUGH = 0.9  # cosine that counts as learned
STEP_SIZES = (0.25, 0.5, 1.0, 1.5, 1.9)  # of the tangent form, whose limit is 2 / largest eigenvalue = 2


@dataclass(frozen=True)
class KnownSpectrum:
    """inner = u^T K u / 2 + u^T C sin(alpha), outer = |u - t|^2 / 2 with u = Q^T w; K diagonal, Q a fixed rotation.

    40 weights, eigenvalues evenly from 0.05 to 1. u* = -K^-1 C sin(alpha), and its Jacobian -K^-1 C diag(cos alpha) is
    learned. The bend in alpha gives noise of size sigma a bias: it learns exp(-sigma^2 / 2) times that.
    """

    n_alpha: int
    seed: int = 0
    n_w = N_W

    @property
    def alpha_shape(self) -> tuple[int, int]:
        return (1, self.n_alpha)

    @cached_property
    def constants(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Diagonal of K `(n_w,)`, C `(n_w, n_alpha)`, t `(n_w,)`, Q `(n_w, n_w)`."""
        source = generator(self.seed, "known spectrum", self.n_alpha)
        c, t, q = (torch.randn(N_W, n, generator=source, dtype=torch.float64) for n in (self.n_alpha, 1, N_W))
        return torch.linspace(SMALLEST, 1, N_W, dtype=torch.float64), c, t.flatten(), torch.linalg.qr(q).Q

    def inner(self, w: Tensor, alpha: Tensor, batch: object = None) -> Tensor:
        kappa, c, _, q = self.constants
        u = w @ q
        return (kappa * u.square()).sum() / 2 + u @ (c @ alpha.flatten().sin())

    def outer(self, w: Tensor, alpha: Tensor, batch: object = None) -> Tensor:
        _, _, t, q = self.constants
        return (w @ q - t).square().sum() / 2

    def best_response(self, alpha: Tensor) -> Tensor:
        """w*, `(n_w,)`."""
        kappa, c, _, q = self.constants
        return -q @ ((c @ alpha.flatten().sin()) / kappa)

    def jacobian(self, alpha: Tensor) -> Tensor:
        """du*/dalpha, `(n_w, n_alpha)`."""
        kappa, c, *_ = self.constants
        return -(c / kappa[:, None]) * alpha.flatten().cos()

    def slope(self, alpha: Tensor) -> Tensor:
        """d outer/du at u*(alpha), `(n_w,)`."""
        return self.best_response(alpha) @ self.constants[3] - self.constants[2]

    @property
    def alpha(self) -> Tensor:
        """The alpha at which everything is measured, small as those of a search are, `(1, n_alpha)`."""
        return 0.1 * torch.randn(self.alpha_shape, generator=generator(self.seed, "alpha"), dtype=torch.float64)


def tangent_steps(toy: KnownSpectrum, step_sizes: Sequence[float], steps: int, seed: int) -> Tensor:
    """Return the errors W - J of the tangent form after `counts_to(steps)` steps, with each step size.

    Shape `(marks, step sizes, n_w, n_alpha)`, weights in u. From W = 0, with w held at w*(alpha): X <- X - eta H X e
    e^T, e uniform on the unit sphere. All step sizes have the same directions. This is `hdarts.search.tangent` without
    momentum and decay.
    """
    kappa, rates = toy.constants[0][:, None], torch.tensor(step_sizes, dtype=torch.float64)[:, None, None]
    x = (-toy.jacobian(toy.alpha)).repeat(len(step_sizes), 1, 1)
    source, marks, kept = generator(seed, "directions", toy.n_alpha), set(counts_to(steps)), []
    for step in range(1, steps + 1):
        e = torch.randn(toy.n_alpha, 1, generator=source, dtype=torch.float64)
        e = e / e.norm()
        x = x - rates * (kappa * (x @ e)) @ e.T
        if step in marks:
            kept.append(x.clone())
    return torch.stack(kept)


def tangent_curve(toy: KnownSpectrum, step_size: float, counts: Iterable[int]) -> list[float]:
    """Return the predicted relative error of W after each number of steps: the root of the mean square.

    A step shrinks the mean square along an eigenvector by 1 - (2 eta kappa - (eta kappa)^2) / n_alpha.
    """
    kappa = toy.constants[0]
    share = toy.jacobian(toy.alpha).square().sum(1)
    product = step_size * kappa
    factor = 1 - (2 * product - product.square()) / toy.n_alpha
    return [math.sqrt(float((share / share.sum()) @ factor**count)) for count in counts]


def over_n_alpha(n_alphas: Sequence[int], steps: int, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the errors of the tangent form over its steps, and the steps to cosine 0.9 over n_alpha.

    First table: n_alpha, `step_size`, steps, cosine and relative_error of W, and `predicted`. Second: `step_size`, the
    best one, for unit directions; `normal_step_size`, for standard normal ones; the `steps` it takes (nan: more than
    were run); and `adjoint`: gradient steps on H q = v from 0, step size 1, to the same cosine.
    """
    rows, best, counts = [], [], counts_to(steps)
    for n_alpha in n_alphas:
        toy, reached = KnownSpectrum(n_alpha, seed), []
        truth, errors = toy.jacobian(toy.alpha), tangent_steps(toy, STEP_SIZES, steps, seed)
        for i, step_size in enumerate(STEP_SIZES):
            found = [agreement(truth + one[i], truth) for one in errors]
            predicted = tangent_curve(toy, step_size, counts)
            plain = {"n_alpha": n_alpha, "step_size": step_size}
            rows += [
                {**plain, "steps": k, **one, "predicted": p} for k, one, p in zip(counts, found, predicted, strict=True)
            ]
            enough = [k for k, one in zip(counts, found, strict=True) if one["cosine"] >= ENOUGH]
            reached.append((min(enough, default=math.inf), step_size))
        least, step_size = min(reached)
        plain = {"n_alpha": n_alpha, "step_size": step_size, "normal_step_size": step_size / n_alpha}
        best.append({**plain, "steps": least if least < math.inf else math.nan, "adjoint": _adjoint(toy)})
    return pd.DataFrame(rows), pd.DataFrame(best)


def _adjoint(toy: KnownSpectrum) -> int:
    """Number of gradient steps on the linear system, from 0, until the response has cosine 0.9 with the exact one."""
    kappa, v, jacobian = toy.constants[0], toy.slope(toy.alpha), toy.jacobian(toy.alpha)
    truth = jacobian.T @ v

    def cosine(k: int) -> float:
        return agreement(jacobian.T @ ((1 - (1 - kappa) ** k) * v), truth)["cosine"]

    return next(k for k in itertools.count(1) if cosine(k) >= ENOUGH)


def in_place_of_inverse(steps: int, damping: float, seed: int = 0) -> pd.DataFrame:
    """Return what solvers of (H + damping) q = v have in place of 1 / kappa: curvature, factor, `solver`.

    On `KnownSpectrum(3)`, whose v it is. Neumann series of `steps` terms with step size 1 / largest curvature:
    (1 - (1 - xi (kappa + damping))^K) / (kappa + damping). Conjugate gradients after as many iterations: q / v.
    """
    toy = KnownSpectrum(3, seed)
    kappa, v = toy.constants[0], toy.slope(toy.alpha)
    damped, xi, zero = kappa + damping, 1 / (1 + damping), torch.zeros_like(v)
    found = hg.conjugate_gradient(_Diagonal(kappa, v), zero, zero, None, None, steps, damping=damping)
    factors = {
        "exact, no damping": 1 / kappa,
        "exact, damped": 1 / damped,
        "Neumann series": (1 - (1 - xi * damped) ** steps) / damped,
        "conjugate gradient": found.response / v,
    }
    columns = {"curvature": kappa.tolist()}
    return pd.concat(pd.DataFrame({**columns, "factor": one.tolist(), "solver": name}) for name, one in factors.items())


@dataclass(frozen=True)
class _Diagonal:
    """inner = w^T diag(kappa) w / 2 - w^T alpha, outer = w^T v: C = -I, so the response of a method is its q."""

    kappa: Tensor
    v: Tensor

    def inner(self, w: Tensor, alpha: Tensor, batch: object = None) -> Tensor:
        return (self.kappa * w.square()).sum() / 2 - w @ alpha

    def outer(self, w: Tensor, alpha: Tensor, batch: object = None) -> Tensor:
        return w @ self.v


def over_cost(n_alphas: Sequence[int], budget: int, seed: int) -> pd.DataFrame:
    """Return the error of the response -C^T H^-1 v by every method over its cost, up to `budget` gradients.

    Columns: n_alpha, method, gradients, steps, step_size (the best of three), cosine, relative_error. Rows `...,
    predicted` are those of the tangent form and of the Neumann series.
    """
    rows: list[Row] = []
    for n_alpha in n_alphas:
        toy = KnownSpectrum(n_alpha, seed)
        alpha, w = toy.alpha, toy.best_response(toy.alpha)
        v = toy.slope(alpha)
        truth = (toy.jacobian(alpha).T @ v).view_as(alpha)
        held = Held(toy, w, alpha, truth, lambda step: None, None, 1.0, toy, 0.0, seed)
        found = learned(held, budget) + solved(held, budget)
        tangent = [row for row in found if row["method"] == TANGENT]
        curves = {TANGENT: _projected(toy, v, [(row["steps"], row["step_size"]) for row in tangent])}
        neumann = [row for row in found if row["method"] == NEUMANN]
        curves[NEUMANN] = [_remaining(toy, v, row["steps"], row["step_size"]) for row in neumann]
        for measured in (tangent, neumann):
            for row, error in zip(measured, curves[measured[0]["method"]], strict=True):
                plain = {"method": f"{row['method']}, predicted", "gradients": row["gradients"]}
                found.append({**plain, "relative_error": error})
        rows += [{"n_alpha": n_alpha, **row} for row in found]
    return pd.DataFrame(rows)


def _projected(toy: KnownSpectrum, v: Tensor, steps: Iterable[tuple[int, float]]) -> list[float]:
    """Return the predicted root mean square of the relative error of W^T v after (steps, step size).

    With Y the mean of X X^T, a step gives Y <- Y - (eta / n)(H Y + Y H) + (eta^2 / n) H Y H.
    """
    kappa, jacobian = toy.constants[0], toy.jacobian(toy.alpha)
    y = (v[:, None] * v) * (jacobian @ jacobian.T)
    errors = []
    for count, step_size in steps:
        product = step_size * kappa
        factor = 1 - (product[:, None] + product - product[:, None] * product) / toy.n_alpha
        errors.append(math.sqrt(max(0.0, float((y * factor**count).sum() / y.sum()))))
    return errors


def _remaining(toy: KnownSpectrum, v: Tensor, terms: int, step_size: float) -> float:
    """Relative error of the Neumann series: that of C^T H^-1 (I - xi H)^K v."""
    kappa, jacobian = toy.constants[0], toy.jacobian(toy.alpha)
    return float((jacobian.T @ ((1 - step_size * kappa) ** terms * v)).norm() / (jacobian.T @ v).norm())
