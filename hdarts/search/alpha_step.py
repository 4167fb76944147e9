"""How a hypergradient moves `alpha`: optimisers for the one tensor."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from hdarts.params import SearchParams
from hdarts.search.relaxation import Relaxation


class Exponentiated(torch.optim.Optimizer):
    """The exponentiated-gradient step on weights theta on the simplex (Li et al., GAEA, ICLR 2021).

    theta <- normalise(theta exp(-lr g)). It is a step of -lr g on logits, with g the gradient in the mixture weights. A
    weight of 0 (a pruned operation) stays 0.
    """

    def __init__(self, tensors: list[Tensor], lr: float, normalise: Callable[[Tensor], Tensor]):
        super().__init__(tensors, {"lr": lr})
        self.normalise = normalise

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for theta in group["params"]:
                theta.copy_(self.normalise(theta * torch.exp(-group["lr"] * theta.grad)))


def alpha_optimiser(params: SearchParams, alpha: Tensor, relaxation: Relaxation) -> torch.optim.Optimizer:
    """Return the optimiser of alpha; its state is part of the checkpoint."""
    rate, decay = params.alpha_learning_rate, params.alpha_weight_decay
    if params.alpha_step == "exponentiated":
        return Exponentiated([alpha], rate, relaxation.normalised)
    if params.alpha_step == "sgd":
        return torch.optim.SGD([alpha], rate, weight_decay=decay)
    return torch.optim.Adam(
        [alpha],
        lr=rate,
        betas=(params.alpha_beta1, params.alpha_beta2),
        eps=params.alpha_epsilon,
        weight_decay=decay,
        capturable=alpha.device.type == "cuda",  # the step may be part of a CUDA graph
    )
