"""Methods that need first derivatives only: the direct gradient, and the gradient through a hypernetwork."""

from collections.abc import Callable
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from hdarts.bilevel import BilevelProblem, Hypergradient, Reparametrised
from hdarts.hypergradient.derivatives import derivatives, gradients, result


@torch.no_grad()
def through_weights(
    problem: BilevelProblem, w: Tensor, alpha: Tensor, outer_batch: Any, vjp: Callable[[Tensor], Tensor]
) -> Hypergradient:
    """The hypergradient of weights w = w(alpha) that are differentiable in alpha: response = (dw/d alpha)^T v.

    `vjp(v)` returns that product, shaped like `alpha`. Cost: one gradient, one call of `vjp`.
    """
    start = perf_counter()
    v, d = gradients(problem.outer, w, alpha, outer_batch, "the outer loss")
    return result(d, vjp(v), start)


@torch.no_grad()
def direct(problem: BilevelProblem, w: Tensor, alpha: Tensor, outer_batch: Any) -> Hypergradient:
    r"""First-order DARTS: the response of the weights is taken as 0. Cost: one gradient, in alpha only.

    $$ \frac{d\,\mathrm{outer}}{d\alpha} \approx \frac{\partial\,\mathrm{outer}}{\partial\alpha} (w, \alpha) $$
    """
    start = perf_counter()
    (d,) = gradients(problem.outer, w, alpha, outer_batch, "the outer loss", of=("alpha",))
    return result(d, torch.zeros_like(d), start)


def hypernetwork(reparametrised: Reparametrised, u: Tensor, alpha: Tensor, outer_batch: Any) -> Hypergradient:
    r"""The hypergradient of w = h(alpha): `direct` at fixed w, and a response by the chain rule (thesis, eq. 21, 22).

    $$ \frac{d\,\mathrm{outer}}{d\alpha} = \frac{\partial\,\mathrm{outer}}{\partial\alpha}
    + \left(\frac{\partial h}{\partial\alpha}\right)^T v, \qquad v = \frac{\partial\,\mathrm{outer}}{\partial w} $$

    Their sum is plain back-propagation through the composed network. Cost: one gradient, one pass through the
    hypernetwork.
    """
    with torch.enable_grad():
        a = alpha.detach().requires_grad_()
        w = reparametrised.weights(u.detach(), a)
    return through_weights(
        reparametrised.problem, w, alpha, outer_batch, lambda v: derivatives(w, [a], grad_outputs=v)[0]
    )
