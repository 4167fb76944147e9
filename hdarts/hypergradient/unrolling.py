"""Methods that differentiate the inner optimiser: one step by finite differences (DARTS), or T steps of SGD exactly."""

from collections.abc import Iterable
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from hdarts.bilevel import BilevelProblem, Hypergradient
from hdarts.hypergradient.derivatives import check, check_step_size, gradients, norm, products, result
from hdarts.kernels.output_layer import Rate
from hdarts.runs.cuda_graph import is_capturing


@torch.no_grad()
def finite_difference(
    problem: BilevelProblem,
    w: Tensor,
    alpha: Tensor,
    inner_batch: Any,
    outer_batch: Any,
    step_size: Rate,
    epsilon: float = 0.01,
    *,
    momentum: float = 0.0,
    velocity: Tensor | None = None,
    weight_decay: float = 0.0,
    nesterov: bool = False,
) -> Hypergradient:
    r"""Second-order DARTS: one look-ahead step, and a difference quotient instead of the product C^T v.

    $$ w' = w - \xi \, (\mu \, \mathrm{velocity} + \nabla_w \mathrm{inner}(w) + \lambda w), \qquad
    \mathrm{direct} = \nabla_\alpha \mathrm{outer}(w'), \qquad v = \nabla_w \mathrm{outer}(w') $$

    $$ \mathrm{response} = - \xi \, \frac{\nabla_\alpha \mathrm{inner}(w + \epsilon v)
    - \nabla_\alpha \mathrm{inner}(w - \epsilon v)}{2 \epsilon}, \qquad \epsilon = \mathrm{epsilon} / \|v\| $$

    Here ξ is `step_size`, μ `momentum`, λ `weight_decay`, and w' is one step of `unrolled`.

    Several public codes divide by 2 and multiply by eps, instead of dividing by 2 eps; their response is eps^2 times as
    large. With `nesterov`, the look-ahead is such a step, and the response 1 + momentum times as large. v = 0 gives
    response 0. Cost: four gradients, two of them in alpha only.
    """
    start = perf_counter()
    _check_step(step_size, momentum, velocity, weight_decay, w)
    check(epsilon > 0, "epsilon", epsilon, "a number above 0")
    (slope,) = gradients(problem.inner, w, alpha, inner_batch, "the inner loss", of=("w",))
    w_look, _ = _sgd_step(w, velocity, slope, step_size, momentum, weight_decay, nesterov)
    v, d = gradients(problem.outer, w_look, alpha, outer_batch, "the outer loss at the look-ahead weights")
    eps = epsilon / torch.linalg.vector_norm(v).clamp(min=torch.finfo(v.dtype).tiny / epsilon)  # v = 0: plus = minus
    (plus,) = gradients(problem.inner, w + eps * v, alpha, inner_batch, "the inner loss at w + eps v", of=("alpha",))
    (minus,) = gradients(problem.inner, w - eps * v, alpha, inner_batch, "the inner loss at w - eps v", of=("alpha",))
    response = -step_size * (plus - minus) / (2 * eps)
    return result(d, (1 + momentum) * response if nesterov else response, start)


@torch.no_grad()
def unrolled(
    problem: BilevelProblem,
    w: Tensor,
    alpha: Tensor,
    inner_batches: Iterable[Any],
    outer_batch: Any,
    step_size: Rate,
    truncate: int | None = None,
    *,
    momentum: float = 0.0,
    velocity: Tensor | None = None,
    weight_decay: float = 0.0,
    nesterov: bool = False,
) -> Hypergradient:
    r"""Exact derivative of T = len(inner_batches) steps of SGD, back-propagated through the last K = `truncate` (or T).

    $$ b \leftarrow \mu \, b + \nabla_w \mathrm{inner}(w) + \lambda w, \qquad w \leftarrow w - \xi \, b $$

    with ξ = `step_size`, μ = `momentum`, λ = `weight_decay`, and b = `velocity` (None: 0) at first. The backward pass,
    with p = d outer/dw and s = d outer/db (0 at first), does for each step

    $$ s \leftarrow s - \xi \, p, \qquad \mathrm{response} \leftarrow \mathrm{response} + C^T s, \qquad
    p \leftarrow p + H s + \lambda s, \qquad s \leftarrow \mu \, s $$

    (`nesterov`: w <- w - step_size (d inner/dw + weight_decay w + momentum b), s <- s - momentum step_size p, and q = s
    - step_size p in place of s in the two products and the decay) at the weights before that step. Those are stored (K
    vectors); graphs are rebuilt one by one, so their memory does not grow with K. K = 0 gives response 0, and no p.
    Cost: T + K + 1 gradients and K products. `residual` is the final norm of p, which steps further back would
    propagate; `contraction` is the factor by which it shrinks per step (geometric mean).
    """
    start = perf_counter()
    _check_step(step_size, momentum, velocity, weight_decay, w)
    batches = list(inner_batches)
    steps = len(batches)
    kept = steps if truncate is None else truncate
    check(0 <= kept <= steps, "truncate", truncate, f"from 0 to {steps}, the number of inner batches")
    path = []
    for step, batch in enumerate(batches, start=1):
        if step > steps - kept:
            path.append((w, batch))
        (slope,) = gradients(problem.inner, w, alpha, batch, f"the inner loss at step {step} of {steps}", of=("w",))
        w, velocity = _sgd_step(w, velocity, slope, step_size, momentum, weight_decay, nesterov)

    of = ("w", "alpha") if kept else ("alpha",)
    *ends, d = gradients(problem.outer, w, alpha, outer_batch, f"the outer loss after {steps} steps", of)
    if not ends:
        return result(d, torch.zeros_like(d), start, iterations=0)
    p = ends[0]
    s, response, length = torch.zeros_like(p), torch.zeros_like(d), norm(p)
    for w_before, batch in reversed(path):
        s = s - (momentum if nesterov else 1) * step_size * p
        q = s - step_size * p if nesterov else s
        hessian_q, cross_q = products(problem.inner, w_before, alpha, batch, "the inner loss")(q)  # its graph ends here
        response += cross_q
        p = p + hessian_q + weight_decay * q
        s = momentum * s
    info: dict[str, Any] = {"iterations": kept, "residual": norm(p)}
    if not is_capturing(p) and length:
        info["contraction"] = (norm(p) / length) ** (1 / kept)
    return result(d, response, start, **info)


def _sgd_step(
    w: Tensor,
    velocity: Tensor | None,
    slope: Tensor,
    step_size: Rate,
    momentum: float,
    weight_decay: float,
    nesterov: bool,
) -> tuple[Tensor, Tensor]:
    """Return weights and velocity after one step of SGD as in torch.optim, with coupled weight decay."""
    decayed = slope + weight_decay * w
    velocity = decayed if velocity is None else momentum * velocity + decayed
    return w - step_size * (decayed + momentum * velocity if nesterov else velocity), velocity


def _check_step(step_size: Rate, momentum: float, velocity: Tensor | None, weight_decay: float, w: Tensor) -> None:
    check_step_size(step_size)
    check(0 <= momentum < 1, "momentum", momentum, "from 0 on and below 1")
    check(weight_decay >= 0, "weight_decay", weight_decay, "a number from 0 on")
    if velocity is not None:
        check(velocity.shape == w.shape, "the shape of velocity", tuple(velocity.shape), f"{tuple(w.shape)}, that of w")
