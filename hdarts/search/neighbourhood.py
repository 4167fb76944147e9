"""At which mixture weights the weights of the network learn: the current ones p, or others near them.

SmoothDARTS (Chen and Hsieh, ICML 2020) perturbs the mixture weights, not alpha, in the weight step only. BatchNorm uses
the statistics of the batch here; the published attack uses running ones.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from hdarts.params import SearchParams
from hdarts.search.state import State
from hdarts.search.weights import Batch, Classification

Loss = Callable[[Tensor], Tensor]  # the inner loss of mixture weights, on the batch of the step


def on_simplex(q: Tensor) -> Tensor:
    """Clamp to [0, 1] and divide each row by its sum; a row without positive weight becomes one-hot at its largest."""
    kept = q.clamp(0, 1)
    one_hot = torch.zeros_like(q).scatter_(-1, q.argmax(-1, keepdim=True), 1.0)
    kept = torch.where(kept.sum(-1, keepdim=True) > 0, kept, one_hot)
    return kept / kept.sum(-1, keepdim=True)


@torch.no_grad()
def uniform(p: Tensor, size: Tensor, draw: Tensor) -> Tensor:
    """SDARTS-RS: p + size U with U uniform in [-1, 1] (`draw`), put on the simplex."""
    return on_simplex(p + size.to(p.dtype) * draw)


@torch.no_grad()
def adversarial(p: Tensor, size: Tensor, draw: Tensor, loss: Loss, steps: int) -> Tensor:
    """SDARTS-ADV: `steps` sign steps of 2 size / steps up the inner loss from `uniform`, each projected.

    A step is projected on the box of half-width `size` around p, then put on the simplex, which may leave the box. If
    the loss is then lower than at p, p is returned.
    """
    size = size.to(p.dtype)
    q = uniform(p, size, draw)
    for _ in range(steps):
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(loss(at := q.detach().requires_grad_()), at)
        q = q + 2 * size / steps * gradient.sign()
        q = on_simplex(p + torch.maximum(torch.minimum(q - p, size), -size))
    return torch.where(loss(q) < loss(p), p, q)


def neighbouring_problem(
    params: SearchParams, problem: Classification, state: State, alpha: Tensor, batch: Batch
) -> Classification:
    """Return the problem whose mixture weights are those at which the weights learn in this step."""
    custom = state.parts.neighbourhood
    if params.neighbourhood == "none" and custom is None:
        return problem
    assert problem.relaxation is not None and state.direction is not None
    mixture, w = problem.relaxation(alpha), state.weights.value(alpha)
    p, size, kept = mixture.weights.detach(), state.perturbation, state.relaxation.kept
    kept = torch.ones_like(p) if kept is None else kept.to(p)  # operations that are pruned stay at 0

    def loss(q: Tensor) -> Tensor:
        return problem.at(mixture._replace(weights=q * kept, sparse=False)).outcome(w, alpha, batch)[0]

    if custom is not None:
        q = custom(p, state.direction, loss).detach() * kept
    elif params.neighbourhood == "uniform":
        q = uniform(p, size, state.direction * kept)
    else:
        q = adversarial(p, size, state.direction * kept, loss, params.attack_steps)
    return problem.at(mixture._replace(weights=q, sparse=False))
