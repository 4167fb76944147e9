"""Learners of a response and solvers of its adjoint, at weights and alpha that are held, by their cost.

Costs are in gradients, one forward and one backward pass: a product with the Hessian counts 2, as in notebook 01, and a
step of the tangent form 3, a gradient and such a product.
"""

import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hdarts import hypergradient as hg
from hdarts.bilevel import BilevelProblem
from hdarts.hypergradient.derivatives import gradients, products
from hdarts.runs.randomness import generator
from hdarts.supernet.layout import agreement
from hdarts.workbook.analysis import Row
from hdarts.workbook.analysis.response.learners import FACTORS, LEARNERS, Learner, Structure, hold

AMORTISED = "amortised adjoint"
NEUMANN, FRESH = "Neumann", "Neumann, fresh batches"
DIVERGED = 1e6  # relative error at which a learner has
DRIFT = 0.003  # steps of alpha for the learner that sees its trajectory only: a learning rate of Adam
RANKS = 40  # most columns of Nyström's method


@dataclass(frozen=True)
class Held:
    """A problem at weights `w` and an `alpha`, with the exact response part, and what the methods need.

    `batch(step)`: inner batches; `largest`: curvature; `undamped`, `damping`: the problem whose Hessian, plus damping,
    is that of `problem` (Nyström's method adds its damping itself); `structure`: None for a problem without cells.
    """

    problem: BilevelProblem
    w: Tensor
    alpha: Tensor
    truth: Tensor
    batch: Callable[[int], Any]
    outer: Any
    largest: float
    undamped: BilevelProblem
    damping: float
    seed: int
    structure: Structure | None = None

    def outcome(self, w: Tensor, alpha: Tensor, batch: Any) -> tuple[Tensor, Tensor]:
        """The inner loss as the outcome of a search's problem, for an alpha of this shape or flat."""
        return self.problem.inner(w, alpha.view_as(self.alpha), batch), torch.zeros(())

    def row(self, method: str, cost: int, steps: int, step_size: float, response: Tensor) -> Row:
        """One row of a table: the cosine and the relative error of a response, and what it cost."""
        plain = {"method": method, "gradients": cost, "steps": steps, "step_size": step_size}
        return {**plain, **agreement(response, self.truth)}


def counts_to(most: int, factor: float = 1.3) -> list[int]:
    """Return numbers of steps, each `factor` times the last one, and `most`."""
    return sorted({round(factor**i) for i in range(80) if factor**i <= most} | {most})


def learned(held: Held, budget: int, names: Iterable[str] = tuple(LEARNERS), **more: int) -> list[Row]:
    """Return the errors of the response of the learners named over their cost, up to `budget` gradients.

    `more`: further columns, the same in all rows.
    """
    v = gradients(held.problem.outer, held.w, held.alpha, held.outer, "the outer loss", of=("w",))[0]
    rows = []
    for name in names:
        one = LEARNERS[name]
        most = one.largest(held.alpha.numel()) / held.largest
        paths = [_path(name, one, held, v, factor * most, max(1, budget // one.cost)) for factor in one.factors]
        rows += min(filter(None, paths), key=lambda path: path[-1]["relative_error"], default=[])
    return [more | row for row in rows]


def _path(name: str, learner: Learner, held: Held, v: Tensor, step_size: float, steps: int) -> list[Row]:
    """Return the rows of one learner with one step size; none if it diverged."""
    w, marks, rows = held.w, set(counts_to(steps)), []
    start = alpha = held.alpha if learner.by_kind else held.alpha.reshape(1, -1)
    weights = learner.start(w, held.structure or Structure.plain(len(w), alpha.numel()), held.seed)
    hold(weights, alpha, w)
    for step in range(1, steps + 1):
        draw = torch.randn(alpha.shape, generator=generator(held.seed, "probe", step)).to(alpha)
        alpha = alpha + DRIFT * draw.sign() * learner.walks
        try:
            weights.step(held, alpha, held.batch(step), step_size, draw)
        except FloatingPointError:
            return []
        hold(weights, alpha, w)
        if step in marks:
            rows.append(held.row(name, learner.cost * step, step, step_size, weights.response(start, v)))
    return rows if all(row["relative_error"] < DIVERGED for row in rows) else []


def solved(held: Held, budget: int, pool: list[Any] | None = None) -> list[Row]:
    """Return the errors of the response of each solver of the adjoint over its cost, up to `budget` gradients.

    Neumann series and amortised adjoint have the step sizes `FACTORS` / curvature, as the learners. `..., fresh
    batches` and the amortised adjoint take another inner batch in each step, the others one; with a `pool`, conjugate
    gradients are also run on the mean of its batches, at so many times the cost.
    """
    rows, most, one = [], max(1, (budget - 4) // 2), held.batch(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", hg.HypergradientWarning)
        rows += _best(lambda step_size: _amortised(held, step_size, max(1, budget // 4), pool), held)
        rows += _best(lambda step_size: _neumann(held, NEUMANN, most, step_size, fresh=False), held)
        if pool is not None:
            rows += _best(lambda step_size: _neumann(held, FRESH, most // 2, step_size, fresh=True), held)
        rows += _conjugate_gradient(held, "conjugate gradient", most, one, 1)
        if pool is not None:
            n = len(pool)
            rows += _conjugate_gradient(held, f"conjugate gradient, {n} batches", most // n, pool, n)
        for k in counts_to(min(RANKS, held.w.numel(), most), 2):
            at = (held.undamped, held.w, held.alpha, one, held.outer)
            found = hg.nystrom(*at, k, held.damping or 0.01 * held.largest, held.seed)
            rows.append(held.row("Nyström", 4 + 2 * k, k, 0.0, found.response))
    return rows


def _best(run: Callable[[float], list[Row]], held: Held) -> list[Row]:
    """Return the rows of the step size with the smallest final error; one that diverged has none."""
    paths = [run(factor / held.largest) for factor in FACTORS]
    return min(filter(None, paths), key=lambda path: path[-1]["relative_error"], default=[])


def _neumann(held: Held, name: str, most: int, step_size: float, fresh: bool) -> list[Row]:
    """Return the errors of the series over its terms, which cost 2, or 3 with a fresh batch each."""
    rows, cost = [], 3 if fresh else 2
    for k in counts_to(max(1, most), 2):
        batch = [held.batch(j) for j in range(1, k + 1)] if fresh else held.batch(1)
        try:
            found = hg.neumann(held.problem, held.w, held.alpha, batch, held.outer, step_size, k)
        except FloatingPointError:
            return []
        rows.append(held.row(name, 2 + cost * k, k, step_size, found.response))
    return rows


def _conjugate_gradient(held: Held, name: str, most: int, batch: Any, batches: int) -> list[Row]:
    """Return the errors of conjugate gradients, until they converge or meet negative curvature."""
    rows = []
    for k in counts_to(max(1, most), 2):
        found = hg.conjugate_gradient(held.problem, held.w, held.alpha, batch, held.outer, k)
        rows.append(held.row(name, 2 + 2 * batches * (k + 1), k, 0.0, found.response))
        if found.info["iterations"] < k:
            break
    return rows


def _amortised(held: Held, step_size: float, steps: int, pool: list[Any] | None) -> list[Row]:
    """Return the errors of the amortised adjoint from 0, whose steps cost 4: two gradients and a product.

    With a `pool` its response -C^T q is also taken with the C of the mean of these batches, at their cost: what remains
    is the error of q, without that of the C of one batch.
    """
    q, marks, rows = torch.zeros_like(held.w), set(counts_to(steps)), []
    mean = products(held.problem.inner, held.w, held.alpha, pool, "the inner loss") if pool else None
    for step in range(steps + 1):
        at = (held.problem, held.w, held.alpha, held.batch(step + 1), held.outer)
        found, moved = hg.amortised_adjoint(*at, q, step_size)
        if step in marks:  # the response is that of the adjoint before the step
            rows.append(held.row(AMORTISED, 4 * step, step, step_size, found.response))
            if pool and mean is not None:
                cost = 4 * step + 3 * len(pool)
                rows.append(held.row(averaged(len(pool)), cost, step, step_size, -mean(q)[1]))
        q = moved
    return rows


def averaged(batches: int) -> str:
    """The name of an amortised adjoint whose C is the mean over so many batches."""
    return f"{AMORTISED}, C of {batches} batches"
