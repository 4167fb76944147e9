"""Methods of the implicit function theorem: the response is -C^T q, where q approximates H^-1 v at w."""

import math
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from hdarts.bilevel import BilevelProblem, Hypergradient
from hdarts.hypergradient.derivatives import check, dot, gradients, norm, products, result, warn

DENSE_LIMIT = 10_000  # weights; a dense Hessian of that many takes 0.8 GB in float64


@torch.no_grad()
def neumann(
    problem: BilevelProblem,
    w: Tensor,
    alpha: Tensor,
    inner_batch: Any,
    outer_batch: Any,
    step_size: float,
    terms: int,
) -> Hypergradient:
    """K = `terms` terms of the Neumann series: q = step_size sum_{j < K} (I - step_size H)^j v; response 0 for K = 0.

    K = 1 is the one-step gradient. K -> infinity is exact at w* if 0 < step_size kappa < 2 for every eigenvalue kappa
    of H. As H is symmetric, the ratio of successive terms' norms (`contraction`) can only grow with j, so a ratio above
    1 proves divergence and raises a `HypergradientWarning`. No warning proves nothing: a few terms may not show a
    negative eigenvalue, and never do if v has no part along it. The series stops early once its terms are below
    rounding (`iterations` counts those used). Cost: two gradients, K products.
    """
    start = perf_counter()
    check(step_size > 0, "step_size", step_size, "a number above 0")
    check(terms >= 0, "terms", terms, "an integer from 0 on")
    v, d = gradients(problem.outer, w, alpha, outer_batch, "the outer loss")
    second = products(problem.inner, w, alpha, inner_batch, "the inner loss")
    rounding = torch.finfo(v.dtype).eps
    term, size, response = v, norm(v), torch.zeros_like(d)
    curvature, ratio, negligible = math.inf, 0.0, rounding * size
    info: dict[str, float] = {"iterations": 0, "residual": size}
    for count in range(1, terms + 1):
        if size <= negligible:
            break
        hessian_term, cross_term = second(term)
        response -= step_size * cross_term
        curvature = min(curvature, dot(term, hessian_term) / size**2)
        term = term - step_size * hessian_term
        size, ratio = norm(term), norm(term) / size
        if not math.isfinite(size):
            raise FloatingPointError(f"the Neumann series with step_size {step_size:g} overflowed at term {count}")
        info = {"iterations": count, "residual": size, "curvature": curvature, "contraction": ratio}
    if ratio > 1 + 100 * rounding:
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
    """q = the last iterate of conjugate gradients for (H + damping I) q = v, from q = 0.

    Stops after `iterations`, when the residual is at most `tolerance` ||v|| (or below rounding), or at a direction p
    with p^T (H + damping I) p <= 0, where the method is not defined: then a `HypergradientWarning` gives the
    curvature, and the current iterate is used. `residual` is recomputed from it: ||v - (H + damping I) q||;
    `curvature` is that of H, without damping. Cost: two gradients, `iterations` + 1 products.
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
    info: dict[str, float] = {"iterations": 0}
    for count in range(1, iterations + 1):
        if square <= enough:
            break
        hessian_p, _ = second(p)
        curvature = dot(p, hessian_p) / dot(p, p)
        info["curvature"] = min(info.get("curvature", math.inf), curvature)
        if curvature + damping <= 0:
            warn(f"conjugate gradients met curvature {curvature:.4g} at iteration {count} with damping {damping:g}")
            break
        length = square / ((curvature + damping) * dot(p, p))
        q = q + length * p
        remainder = remainder - length * (hessian_p + damping * p)
        square, before = dot(remainder, remainder), square
        p = remainder + square / before * p
        info["iterations"] = count
    hessian_q, cross_q = second(q)
    return result(d, -cross_q, start, residual=norm(v - hessian_q - damping * q), **info)


@torch.no_grad()
def exact(problem: BilevelProblem, w: Tensor, alpha: Tensor, inner_batch: Any, outer_batch: Any) -> Hypergradient:
    """q = H^-1 v with the dense H, for small problems; exact if w = w*(alpha).

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
