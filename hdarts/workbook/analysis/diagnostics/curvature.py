"""Curvature of the inner loss: both ends of the spectrum of its Hessian."""

from typing import Any

from torch import Tensor

from hdarts.bilevel import BilevelProblem
from hdarts.hypergradient.derivatives import products
from hdarts.hypergradient.spectrum import eigenvalues
from hdarts.search import weight_rate
from hdarts.search.weights import Batch
from hdarts.workbook.analysis import Row
from hdarts.workbook.analysis.diagnostics.snapshot import Snapshot


def extreme_eigenvalues(
    problem: BilevelProblem, w: Tensor, alpha: Tensor, batch: Any, seed: int = 0
) -> tuple[float, float]:
    """Return the smallest and the largest eigenvalue of H = d2 inner/dw2 at (w, alpha), to a few per cent.

    `w` has shape (n,) with n > 2. The start vector is a function of `seed`.
    """
    second = products(problem.inner, w, alpha, batch, "the inner loss")
    smallest, largest = eigenvalues(lambda q: second(q)[0], w, 2, "BE", seed)
    return smallest, largest


def sharpness(snapshot: Snapshot, batch: Batch, seed: int = 0) -> list[Row]:
    """Return one row for w and, for generated weights, one for [phi | rest], the variables that SGD updates.

    `rate` is the learning rate of the epoch before the snapshot, for the variables that the search updates (nan for the
    others); on a quadratic, gradient descent with it is stable if rate x largest < 2.
    """
    composed = snapshot.composed()
    problems = {"w": (snapshot.problem, snapshot.w)} | ({} if composed is None else {"phi and rest": composed})
    rate = weight_rate(snapshot.params, max(snapshot.epoch - 1, 0))
    rows = []
    for variables, (problem, x) in problems.items():
        smallest, largest = extreme_eigenvalues(problem, x, snapshot.alpha, batch, seed)
        used = rate if variables == list(problems)[-1] else float("nan")
        plain = {"epoch": snapshot.epoch, "variables": variables, "number": x.numel()}
        rows.append({**plain, "largest": largest, "smallest": smallest, "rate": used, "rate_largest": used * largest})
    return rows
