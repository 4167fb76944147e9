"""The hypergradient of one snapshot by every method, and by the references that they are compared with.

The reference is the exact derivative of further training: T steps of plain SGD on the supernet's weights, with alpha
fixed, from the snapshot on, each on the next batch of a fixed sequence; then the outer loss of a fixed batch. It is not
the response at an inner minimum, which is many more steps away, and it depends on T and on the batches. How much it
depends on them is measured: `half the reference` uses the first T/2 batches, `half, other batches` the last T/2.
Conjugate gradients on the damped Hessian at the snapshot's weights are another, local reference.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hdarts import hypergradient as hg
from hdarts.bilevel import Hypergradient
from hdarts.hypergradient.derivatives import gradients
from hdarts.params import HypergradientParams
from hdarts.search.weights import Batch
from hdarts.space import DARTS, SearchSpace
from hdarts.supernet.layout import agreement
from hdarts.workbook.analysis.diagnostics.snapshot import Snapshot

EPSILON = 0.01  # of DARTS's finite difference
REFERENCE, HALF, OTHER = "reference", "half the reference", "half, other batches"
REFERENCES = (REFERENCE, HALF, OTHER)
DIRECT, DIFFERENCE, ONE_STEP = "first order", "DARTS (finite difference)", "one step, exact"
SECOND, HYPERNETWORK = "conjugate gradient", "hypernetwork"
SMALLEST_DAMPING = 0.01  # of Nyström's method, which is not defined without
ADAM: dict[str, Any] = {"step_size": 1e-3, "betas": (0.9, 0.999), "epsilon": 1e-8}  # PyTorch's defaults


class Estimate(NamedTuple):
    """A hypergradient, its cost in gradients and Hessian-vector products, and the method's warnings (`note`)."""

    hypergradient: Hypergradient
    gradients: int
    note: str = ""

    def part(self, name: str) -> Tensor:
        """Return the part `total`, `direct` or `response`, shaped like alpha."""
        return getattr(self.hypergradient, name)


@dataclass(frozen=True)
class Comparison:
    """All estimates of the hypergradient at one snapshot, by method; the references are among them."""

    epoch: int
    estimates: dict[str, Estimate]
    space: SearchSpace = DARTS

    def agreement(self, method: str, part: str, reference: str = REFERENCE) -> dict[str, float]:
        """Return `cosine` and `relative_error` of a method's part, compared with that of a reference."""
        return agreement(self.estimates[method].part(part), self.estimates[reference].part(part))


def compare_methods(snapshot: Snapshot, params: HypergradientParams, damping: float) -> Comparison:
    """Return the hypergradient of a snapshot by every method and by the references, all on the same outer batch.

    Methods with one inner batch use the first of the sequence; iterative ones take `params.terms` steps, terms or
    iterations, k columns for Nyström and k moments for SAMA. `damping` is that of conjugate gradients, Nyström's method
    and the amortised adjoint, which starts at 0 and has its own inner batch in each step.
    """
    inner = snapshot.batches("inner", params.batch_size, max(params.reference_steps, params.terms + 1), params.seed)
    (outer,) = snapshot.batches("outer", params.batch_size, 1, params.seed)
    calls = _methods(snapshot, params, inner, outer, damping) | _references(snapshot, params, inner, outer)
    estimates = {name: _run(method, cost) for name, (method, cost) in calls.items()}
    return Comparison(snapshot.epoch, estimates, snapshot.space)


Call = tuple[Callable[[], Hypergradient], int]  # with its cost without one product per iteration


def _methods(
    snapshot: Snapshot, params: HypergradientParams, inner: list[Batch], outer: Batch, damping: float
) -> dict[str, Call]:
    at: tuple[Any, Tensor, Tensor] = (snapshot.problem, snapshot.w, snapshot.alpha)
    first, k, step_size = inner[0], params.terms, params.step_size
    calls: dict[str, Call] = {
        DIRECT: (lambda: hg.direct(*at, outer), 1),
        DIFFERENCE: (lambda: hg.finite_difference(*at, first, outer, step_size, EPSILON), 4),
        ONE_STEP: (lambda: hg.unrolled(*at, [first], outer, step_size), 3),
        f"unrolled, {k} steps": (lambda: hg.unrolled(*at, inner[:k], outer, step_size), 2 * k + 1),
        f"Neumann, {k} terms": (lambda: hg.neumann(*at, first, outer, step_size, k), 2),
        SECOND: (lambda: hg.conjugate_gradient(*at, first, outer, k, damping=damping), 3),
    }
    calls[f"Nyström, {k} columns"] = (
        lambda: hg.nystrom(*at, first, outer, k, max(damping, SMALLEST_DAMPING), params.seed), 3
    )  # fmt: skip
    calls["SAMA, Adam's diagonal"] = lambda: _sama(at, inner[:k], outer), k + 2
    calls[f"amortised adjoint, {k} steps"] = lambda: _adjoint(at, inner[: k + 1], outer, step_size, damping), 3 * k + 2
    if (composed := snapshot.composed()) is not None:
        calls[HYPERNETWORK] = (lambda: hg.hypernetwork(*composed, snapshot.alpha, outer), 1)
    return calls


def _sama(at: tuple[Any, Tensor, Tensor], inner: list[Batch], outer: Batch) -> Hypergradient:
    """SAMA for Adam, had its moments been the means over these batches."""
    problem, w, alpha = at
    slopes = torch.stack([gradients(problem.inner, w, alpha, one, "the inner loss", of=("w",))[0] for one in inner])
    diagonal = hg.adam_diagonal(slopes[0], slopes.mean(0), slopes.square().mean(0), **ADAM)
    return hg.sama(*at, inner[0], outer, diagonal)


def _adjoint(
    at: tuple[Any, Tensor, Tensor], inner: list[Batch], outer: Batch, step_size: float, damping: float
) -> Hypergradient:
    """The amortised adjoint after a step from 0 on each batch but the last; problem, w and alpha do not change."""
    q = torch.zeros_like(at[1])
    for batch in inner:
        found, q = hg.amortised_adjoint(*at, batch, outer, q, step_size, damping)
    return found


def _references(snapshot: Snapshot, params: HypergradientParams, inner: list[Batch], outer: Batch) -> dict[str, Call]:
    at = (snapshot.problem, snapshot.w, snapshot.alpha)

    def steps(batches: list[Batch]) -> Call:
        return lambda: hg.unrolled(*at, batches, outer, params.step_size), 2 * len(batches) + 1

    inner, half = inner[: params.reference_steps], params.reference_steps // 2
    return {REFERENCE: steps(inner), HALF: steps(inner[:half]), OTHER: steps(inner[-half:])}


def _run(method: Callable[[], Hypergradient], cost: int) -> Estimate:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", hg.HypergradientWarning)
        hypergradient = method()
    notes = [str(w.message) for w in caught if issubclass(w.category, hg.HypergradientWarning)]
    for w in caught:  # all other warnings are shown
        if not issubclass(w.category, hg.HypergradientWarning):
            warnings.warn_explicit(w.message, w.category, w.filename, w.lineno)
    return Estimate(hypergradient, cost + int(hypergradient.info.get("iterations", 0)), "; ".join(notes))
