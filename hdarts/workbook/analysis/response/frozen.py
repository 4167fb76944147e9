"""A supernet that is held at a checkpoint while its response is learned on fresh batches."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from hdarts import hypergradient as hg
from hdarts.bilevel import BilevelProblem
from hdarts.hypergradient.derivatives import gradients
from hdarts.params import HypergradientParams, check
from hdarts.runs.randomness import generator
from hdarts.runs.run import Run
from hdarts.workbook.analysis import Row
from hdarts.workbook.analysis.diagnostics.curvature import extreme_eigenvalues
from hdarts.workbook.analysis.diagnostics.snapshot import Snapshot, snapshots
from hdarts.workbook.analysis.response.learners import TANGENT, Structure
from hdarts.workbook.analysis.response.methods import Held, learned, solved

POOL = 8  # inner batches; the exact response is that of their mean loss
ENOUGH = 60  # iterations of conjugate gradients for it
SUPERNETS: dict[str, Row] = {  # held ones by their space: what changes in a small search; 30 and 224 alphas
    "nasbench201": {"space": "nasbench201", "channels": 2},
    "darts": {"space": "darts", "channels": 2, "layers": 3},
}
MACHINE: Row = {"device": "cpu", "threads": 0, "deterministic": False}
OF_SNAPSHOTS: Row = {"run": "", "search": "", "epochs": [], "step_size": 1.0, "reference_steps": 2, "terms": 1}


@dataclass(frozen=True)
class Tilted:
    """A problem whose mean inner loss has its minimum at the weights `at`, without a change of the mixed derivatives.

    inner(w, alpha, b) - <tilt, w> + damping |w - at|^2 / 2, where `tilt` is the mean inner gradient at `at`: then w*
    there is `at`, and the response -C^T (H + damping)^-1 v. A batch may be a list: the mean over its batches.
    """

    problem: BilevelProblem
    at: Tensor
    tilt: Tensor
    damping: float = 0.0
    outer: Any = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "outer", self.problem.outer)

    def inner(self, w: Tensor, alpha: Tensor, batch: Any) -> Tensor:
        several = batch if isinstance(batch, list) else [batch]
        loss = sum((self.problem.inner(w, alpha, one) for one in several), torch.zeros(())) / len(several)
        return loss - self.tilt @ w + self.damping * (w - self.at).square().sum() / 2


@dataclass(frozen=True)
class Some:
    """A problem in the entries `chosen` of alpha, a flat vector; the others stay as they are in `alpha`."""

    problem: BilevelProblem
    alpha: Tensor
    chosen: Tensor

    def _all(self, some: Tensor) -> Tensor:
        return self.alpha.flatten().index_copy(0, self.chosen, some.flatten()).view_as(self.alpha)

    def inner(self, w: Tensor, alpha: Tensor, batch: Any) -> Tensor:
        return self.problem.inner(w, self._all(alpha), batch)

    def outer(self, w: Tensor, alpha: Tensor, batch: Any) -> Tensor:
        return self.problem.outer(w, self._all(alpha), batch)


def read_snapshot(run: Run, seed: int, batch_size: int) -> Snapshot:
    """Return the last kept state of a search."""
    values = {**OF_SNAPSHOTS, **MACHINE, "seed": seed, "batch_size": batch_size}
    return list(snapshots(run, check(HypergradientParams, values)))[-1]


def frozen_supernet(run: Run, seed: int, batch_size: int = 32) -> tuple[Held, Row]:
    """Return the last kept state of a search as a problem with a known response, and its numbers.

    The damping is twice the magnitude of the most negative eigenvalue of the mean Hessian, as in notebook 04 (at least
    1 % of the largest); `residual` is that of the linear system, relative.
    """
    snapshot = read_snapshot(run, seed, batch_size)
    w, alpha = snapshot.w, snapshot.alpha
    pool, (outer,) = (snapshot.batches(level, batch_size, n, seed) for level, n in (("inner", POOL), ("outer", 1)))
    plain = Tilted(snapshot.problem, w, torch.zeros_like(w))
    smallest, largest = extreme_eigenvalues(plain, w, alpha, pool, seed)
    damping = max(-2 * smallest, 0.01 * largest)
    (tilt,) = gradients(plain.inner, w, alpha, pool, "the inner loss", of=("w",))
    undamped = Tilted(snapshot.problem, w, tilt)
    problem = Tilted(snapshot.problem, w, tilt, damping)
    exact = hg.conjugate_gradient(problem, w, alpha, pool, outer, ENOUGH, tolerance=1e-5)
    v = gradients(problem.outer, w, alpha, outer, "the outer loss", of=("w",))[0]
    numbers: Row = {"weights": w.numel(), "n_alpha": alpha.numel(), "smallest": smallest, "largest": largest}
    numbers |= {"damping": damping, "residual": exact.info["residual"] / float(v.norm())}

    def batch(step: int) -> Any:
        return pool[step % len(pool)]

    at = Structure.of(snapshot.problem.supernet)  # type: ignore[attr-defined]
    held = Held(problem, w, alpha, exact.response, batch, outer, largest + damping, undamped, damping, seed, at)
    return held, numbers


def on_a_frozen_supernet(held: Held, budget: int) -> pd.DataFrame:
    """Return the errors of the response by every method over its cost, as `over_cost`, with the problem's name."""
    pool = [held.batch(step) for step in range(POOL)]
    rows = pd.DataFrame(learned(held, budget) + solved(held, budget, pool))
    return rows.assign(problem=f"supernet, {held.alpha.numel()} alphas", n_alpha=held.alpha.numel())


def over_some_alphas(held: Held, n_alphas: Iterable[int], rows: pd.DataFrame) -> pd.DataFrame:
    """Return the errors of the tangent form over its steps where some of the alphas vary and the others stay.

    `rows`: those of all methods where all vary. For each of `n_alphas` below their number: a random subset, which the
    next larger one contains. The exact response to some alphas is that part of the exact response. Columns: alphas,
    steps, measure, cosine_or_relative_error.
    """
    order = torch.randperm(held.alpha.numel(), generator=generator(held.seed, "some alphas"))
    whole: Any = rows[(rows["method"] == TANGENT) & (rows["n_alpha"] == held.alpha.numel())]
    found = []
    for n in n_alphas:
        if n < held.alpha.numel():
            chosen = order[:n]
            alpha, truth = (one.flatten()[chosen].view(1, n) for one in (held.alpha, held.truth))
            part = replace(held, problem=Some(held.problem, held.alpha, chosen), alpha=alpha, truth=truth)
            found += learned(replace(part, structure=None), int(whole["gradients"].max()), [TANGENT], n_alpha=n)
    every = pd.concat([pd.DataFrame(found), whole])
    every["alphas"] = every["n_alpha"].astype(str) + " alphas"
    measures = ["cosine", "relative_error"]
    long = every.melt(["alphas", "steps"], measures, "measure", "cosine_or_relative_error")
    return long.assign(measure=long["measure"].str.replace("_", " "))
