"""SAMA: the inverse Hessian is replaced by the diagonal of the inner optimiser (Choe et al., NeurIPS 2023)."""

from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from hdarts.bilevel import BilevelProblem, Hypergradient
from hdarts.hypergradient.derivatives import check, check_finite, check_step_size, gradients, norm, products, result
from hdarts.kernels.output_layer import Rate


@torch.no_grad()
def sama(
    problem: BilevelProblem, w: Tensor, alpha: Tensor, inner_batch: Any, outer_batch: Any, diagonal: Rate
) -> Hypergradient:
    """q = D v, where D = d step / d gradient is diagonal: how the inner optimiser's next step follows its gradient.

    `diagonal` is D, shaped like `w`, or a scalar: the step size for plain SGD, with which this is one term of the
    Neumann series; `adam_diagonal` has that of Adam. The publication takes C^T q by a central difference, this function
    exactly. `residual` is ||v - H q||. Cost: two gradients, one product.
    """
    start = perf_counter()
    if isinstance(diagonal, Tensor) and diagonal.ndim:
        check(diagonal.shape == w.shape, "the shape of diagonal", tuple(diagonal.shape), f"{tuple(w.shape)}, that of w")
        check_finite(diagonal, "the diagonal of the inner optimiser")
    else:
        check_step_size(diagonal)
    v, d = gradients(problem.outer, w, alpha, outer_batch, "the outer loss")
    q = diagonal * v
    hessian_q, cross_q = products(problem.inner, w, alpha, inner_batch, "the inner loss")(q)
    return result(d, -cross_q, start, iterations=1, residual=norm(v - hessian_q))


def adam_diagonal(
    gradient: Tensor, first: Tensor, second: Tensor, step_size: float, betas: tuple[float, float], epsilon: float
) -> Tensor:
    r"""Return the derivative of Adam's next step in its gradient g, elementwise.

    Without bias correction, as in the publication, the step is

    $$ \xi \, \frac{m}{\sqrt{s} + \epsilon}, \qquad m = \beta_1 \, \mathrm{first} + (1 - \beta_1) \, g, \qquad
    s = \beta_2 \, \mathrm{second} + (1 - \beta_2) \, g^2. $$
    """
    (one, two), s = betas, betas[1] * second + (1 - betas[1]) * gradient.square()
    root, m = s.sqrt(), one * first + (1 - one) * gradient
    below = root + epsilon
    bend = (1 - two) * m * (gradient / root.clamp(min=torch.finfo(s.dtype).tiny)) / below  # 0 where all gradients were
    return step_size * ((1 - one) - bend) / below
