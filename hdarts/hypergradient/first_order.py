"""Methods that need first derivatives only: the direct gradient, and the gradient through a hypernetwork."""

from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from hdarts.bilevel import BilevelProblem, Hypergradient, Reparametrised
from hdarts.hypergradient.derivatives import derivatives, gradients, result


@torch.no_grad()
def direct(problem: BilevelProblem, w: Tensor, alpha: Tensor, outer_batch: Any) -> Hypergradient:
    """First-order DARTS: the response of the weights is taken as 0. Cost: one gradient."""
    start = perf_counter()
    _, d = gradients(problem.outer, w, alpha, outer_batch, "the outer loss")
    return result(d, torch.zeros_like(d), start)


@torch.no_grad()
def hypernetwork(reparametrised: Reparametrised, u: Tensor, alpha: Tensor, outer_batch: Any) -> Hypergradient:
    """The hypergradient of w = h(alpha): `direct` at fixed w, response = (dh/d alpha)^T v (thesis, eq. 21 and 22).

    Their sum is plain back-propagation through the composed network. Cost: one gradient, one pass through the
    hypernetwork.
    """
    start = perf_counter()
    with torch.enable_grad():
        a = alpha.detach().requires_grad_()
        w = reparametrised.weights(u.detach(), a)
    v, d = gradients(reparametrised.problem.outer, w, alpha, outer_batch, "the outer loss")
    (response,) = derivatives(w, [a], grad_outputs=v)
    return result(d, response, start)
