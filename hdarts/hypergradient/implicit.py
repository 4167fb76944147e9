"""Methods of the implicit function theorem: the response is -C^T q, where q approximates H^-1 v at w."""

import math
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from hdarts.bilevel import BilevelProblem, Hypergradient
from hdarts.hypergradient.derivatives import check, check_step_size, dot, gradients, norm, products, result, warn
from hdarts.kernels.output_layer import Rate
from hdarts.runs.cuda_graph import is_capturing

DENSE_LIMIT = 10_000  # weights; a dense Hessian of that many takes 0.8 GB in float64


@torch.no_grad()
def neumann(
    problem: BilevelProblem,
    w: Tensor,
    alpha: Tensor,
    inner_batch: Any,
    outer_batch: Any,
    step_size: Rate,
    terms: int,
) -> Hypergradient:
    r"""K = `terms` terms of the Neumann series of H^-1; response 0 for K = 0.

    $$ q = \xi \sum_{j=0}^{K-1} (I - \xi H)^j \, v, \qquad \xi = \mathrm{step\_size} $$

    K = 1 is the one-step gradient. K -> infinity is exact at w* if 0 < step_size kappa < 2 for every eigenvalue kappa
    of H. As H is symmetric, the ratio of successive terms' norms (`contraction`) can only grow with j, so a ratio above
    1 proves divergence and raises a `HypergradientWarning`. No warning proves nothing: a few terms may not show a
    negative eigenvalue, and never do if v has no part along it. The series stops early once its terms are below
    rounding (`iterations` counts those used); in a CUDA graph, where nothing can be read, it has all terms and gives no
    warning. Cost: two gradients, K products.

    `inner_batch` may be a list of at least K batches: then term j and its product H are those of batch j (Zhang et al.,
    iDARTS, ICML 2021), each of which costs a gradient too, and there is no warning, because the ratio is no bound.
    """
    start = perf_counter()
    check_step_size(step_size)
    check(terms >= 0, "terms", terms, "an integer from 0 on")
    v, d = gradients(problem.outer, w, alpha, outer_batch, "the outer loss")
    fresh = isinstance(inner_batch, list)
    check(not fresh or len(inner_batch) >= terms, "inner_batch", "too short a list", f"a list of {terms} batches")
    second = None
    rounding = torch.finfo(v.dtype).eps
    term, size, response, reads = v, norm(v), torch.zeros_like(d), not is_capturing(v)
    curvature, ratio, negligible = torch.full_like(size, math.inf), torch.zeros_like(size), rounding * size
    info: dict[str, Any] = {"iterations": 0, "residual": size}
    for count in range(1, terms + 1):
        if reads and size <= negligible:
            break
        if second is None or fresh:
            batch = inner_batch[count - 1] if fresh else inner_batch
            second = products(problem.inner, w, alpha, batch, "the inner loss")
        hessian_term, cross_term = second(term)
        response -= step_size * cross_term
        curvature = torch.fmin(curvature, dot(term, hessian_term) / size**2)
        term = term - step_size * hessian_term
        size, ratio = norm(term), norm(term) / size
        if reads and not size.isfinite():
            raise FloatingPointError(f"the Neumann series with step_size {step_size:g} overflowed at term {count}")
        info = {"iterations": count, "residual": size, "curvature": curvature, "contraction": ratio}
    if reads and not fresh and ratio > 1 + 100 * rounding:
        where = f"step_size {step_size:g}, smallest curvature met {curvature:.4g}"
        warn(f"the Neumann series diverges: contraction rate {ratio:.6g} is above 1 ({where})")
    return result(d, response, start, **info)


@torch.no_grad()
def conjugate_gradient(
    problem: BilevelProblem,
    w: Tensor,
    alpha: Tensor,
    inner_batch: Any,
    outer_batch: Any,
    iterations: int,
    tolerance: float = 0.0,
    damping: float = 0.0,
) -> Hypergradient:
    r"""q = the last iterate of conjugate gradients for a damped linear system, from q = 0.

    $$ (H + \delta I) \, q = v, \qquad \delta = \mathrm{damping} $$

    Stops after `iterations`, when the residual is at most `tolerance` ||v|| (or below rounding), or at a direction p
    with p^T (H + damping I) p <= 0, where the method is not defined: then a `HypergradientWarning` gives the
    curvature, and the current iterate is used. In a CUDA graph, where nothing can be read, the iterations after the
    stop are computed too, change nothing, and there is no warning. `residual` is recomputed from the last iterate:
    ||v - (H + damping I) q||; `curvature` is that of H, without damping. Cost: two gradients, `iterations` + 1
    products.
    """
    start = perf_counter()
    check(iterations >= 0, "iterations", iterations, "an integer from 0 on")
    check(tolerance >= 0, "tolerance", tolerance, "a number from 0 on")
    check(damping >= 0, "damping", damping, "a number from 0 on")
    v, d = gradients(problem.outer, w, alpha, outer_batch, "the outer loss")
    second = products(problem.inner, w, alpha, inner_batch, "the inner loss")
    q, remainder, p = torch.zeros_like(v), v, v
    square = dot(v, v)
    enough = max(tolerance, torch.finfo(v.dtype).eps) ** 2 * square
    going, reads = square > enough, not is_capturing(v)
    info: dict[str, Any] = {"iterations": 0}
    for count in range(1, iterations + 1):
        if reads and not going:
            break
        hessian_p, _ = second(p)
        curvature = dot(p, hessian_p) / dot(p, p)
        info["curvature"] = torch.fmin(curvature, info.get("curvature", curvature))
        going = going & (curvature + damping > 0)
        if reads and not going:
            warn(f"conjugate gradients met curvature {curvature:.4g} at iteration {count} with damping {damping:g}")
            break
        length = (square / ((curvature + damping) * dot(p, p))).masked_fill(~going, 0)
        q = q + length * p
        remainder = remainder - length * (hessian_p + damping * p)
        square, before = dot(remainder, remainder), square
        p = torch.where(going, remainder + square / before * p, p)
        going = going & (square > enough)
        info["iterations"] = count
    hessian_q, cross_q = second(q)
    return result(d, -cross_q, start, residual=norm(v - hessian_q - damping * q), **info)


@torch.no_grad()
def exact(problem: BilevelProblem, w: Tensor, alpha: Tensor, inner_batch: Any, outer_batch: Any) -> Hypergradient:
    r"""q = H^-1 v with the dense H, for small problems; exact if w = w*(alpha).

    $$ \frac{d\,\mathrm{outer}}{d\alpha} = \frac{\partial\,\mathrm{outer}}{\partial\alpha} - C^T H^{-1} v $$

    Raises ValueError for more than `DENSE_LIMIT` weights, and if H is not positive definite (then w is no strict
    minimum, and the response is not defined). `curvature` is the smallest eigenvalue of H. Cost: two gradients, n_w +
    1 products, n_w^3 operations.
    """
    start = perf_counter()
    check(w.numel() <= DENSE_LIMIT, "the number of weights", w.numel(), f"at most {DENSE_LIMIT} for a dense Hessian")
    v, d = gradients(problem.outer, w, alpha, outer_batch, "the outer loss")
    second = products(problem.inner, w, alpha, inner_batch, "the inner loss")
    basis = torch.eye(w.numel(), dtype=v.dtype, device=v.device)
    # float64 on the CPU, so that a float32 problem loses nothing in the solve and devices without float64 can do it
    rows = torch.stack([second(e.view_as(w))[0].flatten() for e in basis]).cpu().double()
    hessian = (rows + rows.T) / 2
    eigenvalues = torch.linalg.eigvalsh(hessian)
    smallest, largest = eigenvalues[0].item(), eigenvalues.abs().max().item()
    if not smallest > torch.finfo(v.dtype).eps * largest:
        raise ValueError(
            f"the Hessian is not positive definite: smallest eigenvalue {smallest:.6g}, largest {largest:.6g}"
        )
    q = torch.linalg.solve(hessian, v.flatten().cpu().double()).to(v).view_as(w)
    hessian_q, cross_q = second(q)
    return result(d, -cross_q, start, residual=norm(v - hessian_q), curvature=smallest)
