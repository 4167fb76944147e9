"""Responses that are learned beside the steps of a real search, compared with a long unrolling as it moves."""

import itertools
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from hdarts import hypergradient as hg
from hdarts import search as s
from hdarts.bilevel import Hypergradient
from hdarts.hypergradient.derivatives import gradients, products
from hdarts.params import SearchParams
from hdarts.runs.paths import with_defaults
from hdarts.runs.randomness import generator
from hdarts.runs.run import Run
from hdarts.search.weights import GeneratedWeights
from hdarts.supernet.layout import agreement
from hdarts.workbook.analysis import Row
from hdarts.workbook.analysis.relatives import SMALL
from hdarts.workbook.analysis.response.learners import (
    GRAPH,
    LEARNERS,
    LOW_RANK,
    PERCEPTRON,
    PERCEPTRONS,
    TANGENT,
    TRAJECTORY,
    Structure,
    hold,
)
from hdarts.workbook.analysis.response.methods import AMORTISED, averaged

CURVATURES = (20.0, 100.0, 500.0)  # step sizes are those for these largest curvatures; the best is kept
MEAN = 8  # inner batches
OUTER = 16  # outer batches whose mean slope the second reference takes
FOLLOWED = ("centred, σ = 0.1", "centred, σ = 0.3", TANGENT, LOW_RANK, PERCEPTRON, PERCEPTRONS, GRAPH, TRAJECTORY)
EXTRA = {TANGENT: 2, AMORTISED: 3, TRAJECTORY: 0}  # gradients per iteration beyond those of a first-order search


Responses = dict[tuple[str, float, int], Tensor]  # by method, curvature of its step size, gradients


@dataclass(frozen=True)
class Averaged:
    """A problem whose outer loss, for a list of batches, is the mean over them."""

    problem: Any

    def inner(self, w: Tensor, alpha: Tensor, batch: Any) -> Tensor:
        return self.problem.inner(w, alpha, batch)

    def outer(self, w: Tensor, alpha: Tensor, batch: Any) -> Tensor:
        several = batch if isinstance(batch, list) else [batch]
        return torch.stack([self.problem.outer(w, alpha, one) for one in several]).mean()


@dataclass
class Followers:
    """What learns a response at the weights and alpha of a search, without changing them; a hypergradient of `search`.

    Every `every` steps the responses are compared with those of an unrolling of `unroll` steps on further batches.
    """

    data: Any
    params: SearchParams
    every: int
    unroll: int
    damping: float
    step: int = 0
    hypernetworks: dict[tuple[str, float], GeneratedWeights] = field(default_factory=dict)
    adjoints: dict[float, Tensor] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)

    def __call__(self, problem: Any, weights: Any, alpha: Tensor, inner: Any, outer: Any, rate: Any) -> Hypergradient:
        w, seed, n = weights.value(alpha), self.params.search_seed, alpha.numel()
        draw = torch.randn(alpha.shape, generator=generator(seed, "probe", self.step)).to(alpha)
        if not self.hypernetworks:
            at = Structure.of(problem.supernet)
            self.hypernetworks = {(m, k): LEARNERS[m].start(w, at, seed) for m in FOLLOWED for k in CURVATURES}
            self.adjoints = {k: torch.zeros_like(w) for k in CURVATURES}
        for (method, curvature), one in self.hypernetworks.items():
            hold(one, alpha, w)
            one.step(problem, alpha, inner, LEARNERS[method].largest(n) / curvature, draw)
        self.step += 1
        if self.step % self.every == 0:
            self.compare(problem, w, alpha, inner, outer, float(rate))
        for curvature, q in self.adjoints.items():
            moved = hg.amortised_adjoint(problem, w, alpha, inner, outer, q, 1 / curvature, self.damping)[1]
            q.copy_(moved)
        return hg.direct(problem, w, alpha, outer)

    def compare(self, problem: Any, w: Tensor, alpha: Tensor, inner: Any, outer: Any, rate: float) -> None:
        """Add a row for each response at this step and each slope: method, curvature, cosine and relative error.

        `slope`: that of the outer batch of this step, or of the mean of `OUTER` batches, for the reference and for all
        methods alike but the kept adjoint, which has averaged over the slopes of its steps and is what it is.
        """
        levels = s.batches(self.params, self.data)
        inners, outers = (
            list(itertools.islice(itertools.cycle(level.epoch(self.params.search_seed, "response", self.step)), n))
            for level, n in zip(levels, (self.unroll, OUTER), strict=True)
        )
        adjoints = self.of_adjoints(problem, w, alpha, [inner, *inners[:MEAN]])
        for slope, of in (("one batch", outer), (f"mean of {OUTER} batches", outers)):
            at = (Averaged(problem), w, alpha)
            reference = hg.unrolled(*at, inners, of, rate).response
            found = adjoints | self.of_slope(at, inner, inners, of, rate)
            self.rows += [
                {"step": self.step, "slope": slope, "method": m, "curvature": k, "gradients": cost}
                | agreement(one, reference)
                for (m, k, cost), one in found.items()
            ]

    def of_slope(
        self, at: tuple[Any, Tensor, Tensor], inner: Any, inners: list[Any], outer: Any, rate: float
    ) -> Responses:
        """Return the responses of all methods that take the slope of `outer`."""
        problem, w, alpha = at
        (v,) = gradients(problem.outer, w, alpha, outer, "the outer loss", of=("w",))
        found: Responses = {
            ("half the unrolling", 0.0, 3 * self.unroll // 2): hg.unrolled(
                *at, inners[: self.unroll // 2], outer, rate
            ).response,
            ("DARTS (finite difference)", 0.0, 3): hg.finite_difference(*at, inner, outer, rate).response,
            ("Neumann, 5 terms", 0.0, 11): hg.neumann(*at, inner, outer, rate, 5).response,
            ("conjugate gradient, 5", 0.0, 13): hg.conjugate_gradient(
                *at, inner, outer, 5, damping=self.damping
            ).response,
        }
        for (method, k), one in self.hypernetworks.items():
            hold(one, alpha, w)
            found[method, k, EXTRA.get(method, LEARNERS[method].cost)] = one.response(alpha, v)
        return found

    def of_adjoints(self, problem: Any, w: Tensor, alpha: Tensor, batches: list[Any]) -> Responses:
        """Return -C^T q of the kept adjoints, with the C of the first batch and with the mean C of the others."""
        found: Responses = {}
        for k, q in self.adjoints.items():
            first, *several = (-products(problem.inner, w, alpha, one, "the inner loss")(q)[1] for one in batches)
            found[AMORTISED, k, EXTRA[AMORTISED]] = first
            cost = EXTRA[AMORTISED] + 3 * len(several)
            found[averaged(len(several)), k, cost] = torch.stack(several).mean(0)
        return found


def beside_a_search(
    name: str, changes: Mapping[str, Any], every: int, unroll: int, damping: float
) -> tuple[pd.DataFrame, Run]:
    """Return the rows of `Followers` beside a first-order search in the run folder `name`, and the search.

    Rows of a method whose step size diverged are left out.
    """
    run = Run.open(with_defaults(SearchParams, {**SMALL, **changes, "run": name}))
    params: Any = run.params
    data = s.load_splits(params, torch.device("cpu"))
    followers = Followers(data, params, every, unroll, damping)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", hg.HypergradientWarning)
        for _ in s.search(params, run, data=data, hypergradient=followers):
            pass
    return pd.DataFrame(followers.rows), run


def mean_agreement(rows: pd.DataFrame) -> pd.DataFrame:
    """Return mean cosine and relative error of each method over the steps by slope, with its best step size by cosine.

    `cosine_error`: the standard error of the mean cosine, as if the comparisons were independent.
    """
    groups: Any = rows.groupby(["slope", "method", "gradients", "curvature"], sort=False)
    means = groups[["cosine", "relative_error"]].mean().assign(cosine_error=groups["cosine"].sem())
    best = means.reset_index().sort_values("cosine", ascending=False).drop_duplicates(["slope", "method"])
    return best.sort_values(["slope", "cosine"], ascending=[False, False], ignore_index=True)
