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
from hdarts.workbook.analysis.response.methods import AMORTISED, LEARNERS, TANGENT, TRAJECTORY, averaged, hold

CURVATURES = (20.0, 100.0, 500.0)  # step sizes are those for these largest curvatures; the best is kept
MEAN = 8  # batches
FOLLOWED = ("centred, σ = 0.1", "centred, σ = 0.3", TANGENT, "MLP, σ = 0.3", TRAJECTORY)
EXTRA = {TANGENT: 2, AMORTISED: 3, TRAJECTORY: 0}  # gradients per iteration beyond those of a first-order search


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
            self.hypernetworks = {(m, k): LEARNERS[m].start(w, n, seed) for m in FOLLOWED for k in CURVATURES}
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
        """Add a row for each response at this step: method, curvature, cosine and relative error."""
        loader = s.batches(self.params, self.data)[0].epoch(self.params.search_seed, "response", self.step)
        batches = list(itertools.islice(itertools.cycle(loader), self.unroll))
        at = (problem, w, alpha)
        reference = hg.unrolled(*at, batches, outer, rate).response
        half = hg.unrolled(*at, batches[: self.unroll // 2], outer, rate).response
        (v,) = gradients(problem.outer, w, alpha, outer, "the outer loss", of=("w",))
        damped = self.damping
        found: dict[tuple[str, float, int], Tensor] = {
            ("half the unrolling", 0.0, 3 * self.unroll // 2): half,
            ("DARTS (finite difference)", 0.0, 3): hg.finite_difference(*at, inner, outer, rate).response,
            ("Neumann, 5 terms", 0.0, 11): hg.neumann(*at, inner, outer, rate, 5).response,
            ("conjugate gradient, 5", 0.0, 13): hg.conjugate_gradient(*at, inner, outer, 5, damping=damped).response,
        }
        for (method, k), one in self.hypernetworks.items():
            hold(one, alpha, w)
            found[method, k, EXTRA.get(method, LEARNERS[method].cost)] = one.response(alpha, v)
        for k, q in self.adjoints.items():
            several = [
                products(problem.inner, w, alpha, one, "the inner loss")(q)[1] for one in [inner, *batches[:MEAN]]
            ]
            found[AMORTISED, k, EXTRA[AMORTISED]] = -several[0]
            mean = torch.stack(several[1:]).mean(0)
            found[averaged(len(several) - 1), k, EXTRA[AMORTISED] + 3 * len(several) - 3] = -mean
        self.rows += [
            {"step": self.step, "method": m, "curvature": k, "gradients": cost, **agreement(one, reference)}
            for (m, k, cost), one in found.items()
        ]


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
    """Return the mean cosine and relative error of each method over the steps, with its best step size by cosine."""
    means: Any = rows.groupby(["method", "gradients", "curvature"], sort=False)[["cosine", "relative_error"]].mean()
    best = means.reset_index().sort_values("cosine", ascending=False).drop_duplicates("method")
    return best.sort_values("cosine", ascending=False, ignore_index=True)
