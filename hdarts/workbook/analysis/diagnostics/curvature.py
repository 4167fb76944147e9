"""How curved the inner loss is: both ends of the spectrum of its Hessian."""

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
    """Return a row for w and, where a hypernetwork makes the weights, one for [phi | rest], what SGD really updates.

    `rate` is the learning rate of the epoch that had just ended, for the variables that the search updates (nan for
    the others); gradient descent with it is stable on a quadratic where rate x largest < 2.
    """
    composed = snapshot.composed()
    problems = {"w": (snapshot.problem, snapshot.w)} | ({} if composed is None else {"phi and rest": composed})
    rate = weight_rate(snapshot.params, max(snapshot.epoch - 1, 0))
    rows = []
    for variables, (problem, x) in problems.items():
        smallest, largest = extreme_eigenvalues(problem, x, snapshot.alpha, batch, seed)
        own = rate if variables == list(problems)[-1] else float("nan")
        plain = {"epoch": snapshot.epoch, "variables": variables, "number": x.numel()}
        rows.append({**plain, "largest": largest, "smallest": smallest, "rate": own, "rate_largest": own * largest})
    return rows
