"""Nyström's method: the inverse of a damped Hessian that is approximated from some of its columns."""

from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from hdarts.bilevel import BilevelProblem, Hypergradient
from hdarts.hypergradient.derivatives import check, gradients, norm, products, result, warn
from hdarts.runs.cuda_graph import is_capturing
from hdarts.runs.device import widest_float
from hdarts.runs.randomness import generator


def sampled_columns(n_weights: int, rank: int, seed: int, *purpose: str | int) -> Tensor:
    """Return `rank` different indices below `n_weights`, a function of (seed, purpose); ValueError if too many."""
    check(0 < rank <= n_weights, "rank", rank, f"from 1 to {n_weights}, the number of weights")
    return torch.randperm(n_weights, generator=generator(seed, "nystrom", *purpose))[:rank]


@torch.no_grad()
def nystrom(
    problem: BilevelProblem,
    w: Tensor,
    alpha: Tensor,
    inner_batch: Any,
    outer_batch: Any,
    rank: int | Tensor,
    damping: float,
    seed: int = 0,
) -> Hypergradient:
    r"""q = (C W^-1 C^T + damping I)^-1 v with k = `rank` columns C of H and their k rows W (Hataya and Yamada 2023).

    With rho = damping, by Woodbury's identity

    $$ q = \frac{v}{\rho} - C \, (\rho^2 W + \rho \, C^T C)^{-1} C^T v $$

    so it is (H + rho I)^-1 v at full rank. The columns are drawn from `seed`; `rank` may be their indices `(k,)`
    instead. Without damping the approximation is singular, so that has to be above 0. `residual` is ||v - (H + rho I)
    q||, `curvature` the smallest eigenvalue of W: if it is below -rho, H + rho I is indefinite and a
    `HypergradientWarning` names it. In a CUDA graph there is no warning. Cost: two gradients, k + 1 products; memory
    for k vectors.
    """
    start = perf_counter()
    check(damping > 0, "damping", damping, "above 0, because the approximation of H is singular without it")
    chosen = rank if isinstance(rank, Tensor) else sampled_columns(w.numel(), rank, seed).to(w.device)
    v, d = gradients(problem.outer, w, alpha, outer_batch, "the outer loss")
    second = products(problem.inner, w, alpha, inner_batch, "the inner loss")
    c = v.new_empty(len(chosen), v.numel())  # C^T, a row per column of H
    for row, index in zip(c, chosen.split(1), strict=True):
        one = torch.zeros_like(v).flatten().index_fill_(0, index, 1.0)
        row.copy_(second(one.view_as(v))[0].flatten())
    block = c.index_select(1, chosen).to(widest_float(w.device))
    block = (block + block.T) / 2
    system = damping**2 * block + damping * (c @ c.T).to(block)
    smallest = torch.finfo(block.dtype)  # columns may be 0, or depend on each other
    system.diagonal().add_(smallest.eps * system.diagonal().sum() + smallest.tiny)
    x, _ = torch.linalg.solve_ex(system, (c @ v.flatten()).to(block))  # unlike `solve`, does not wait for a GPU
    q = v / damping - (x.to(v) @ c).view_as(v)
    hessian_q, cross_q = second(q)
    info: dict[str, Any] = {}
    if not is_capturing(v):
        info["curvature"] = curvature = torch.linalg.eigvalsh(block)[0].item()
        if curvature < -damping:
            warn(f"the sampled block of the Hessian has eigenvalue {curvature:.4g}, below -damping = {-damping:g}")
    return result(d, -cross_q, start, iterations=len(chosen), residual=norm(v - hessian_q - damping * q), **info)
