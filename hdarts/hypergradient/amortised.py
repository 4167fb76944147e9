"""The amortised adjoint: q ~ H^-1 v is kept between steps and moved by one stochastic step in each."""

from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from hdarts.bilevel import BilevelProblem, Hypergradient
from hdarts.hypergradient.derivatives import (
    check,
    check_finite,
    check_step_size,
    dot,
    gradients,
    norm,
    products,
    result,
    warn,
)
from hdarts.kernels.output_layer import Rate
from hdarts.runs.cuda_graph import is_capturing


@torch.no_grad()
def amortised_adjoint(
    problem: BilevelProblem,
    w: Tensor,
    alpha: Tensor,
    inner_batch: Any,
    outer_batch: Any,
    q: Tensor,
    step_size: Rate,
    damping: float = 0.0,
) -> tuple[Hypergradient, Tensor]:
    r"""Return the hypergradient with response -C^T q, and the adjoint q of the next step, both by one product.

    $$ q \leftarrow q - \xi \, ((H + \delta I) \, q - v), \qquad \xi = \mathrm{step\_size}, \;
    \delta = \mathrm{damping} $$

    Called in each step with the q of the step before (0 at first), it costs two gradients and one product (Dagréou et
    al. 2022, SOBA; with several steps a call, Arbel and Mairal 2022, AmIGO). Its fixed point is q = (H + damping I)^-1
    v, as in `exact`, and it converges for fixed w, alpha and batches if 0 < step_size (kappa + damping) < 2 for every
    eigenvalue kappa of H. As ||H q|| / ||q|| is at most the largest |kappa|, a larger `step_size` than 2 ||q|| / ||(H +
    damping I) q|| proves that q will grow and raises a `HypergradientWarning` with that limit; in a CUDA graph there is
    none. `residual` is ||v - (H + damping I) q|| before the step, `curvature` is q^T H q / q^T q.
    """
    start = perf_counter()
    check_step_size(step_size)
    check(damping >= 0, "damping", damping, "a number from 0 on")
    check(q.shape == w.shape, "the shape of q", tuple(q.shape), f"{tuple(w.shape)}, that of w")
    v, d = gradients(problem.outer, w, alpha, outer_batch, "the outer loss")
    hessian_q, cross_q = products(problem.inner, w, alpha, inner_batch, "the inner loss")(q)
    image, size = hessian_q + damping * q, norm(q)
    moved = q - step_size * (image - v)
    info: dict[str, Any] = {"iterations": 1, "residual": norm(v - image)}
    if not is_capturing(v):
        check_finite(moved, f"the adjoint after a step of step_size {float(step_size):g}")
        if size:
            info["curvature"] = dot(q, hessian_q) / size**2
            if step_size * norm(image) > 2 * size:
                limit = float(2 * size / norm(image))
                warn(f"the adjoint diverges: its step_size {float(step_size):g} is above 2 / curvature = {limit:.4g}")
    return result(d, -cross_q, start, **info), moved
