"""The tangent form of a centred hypernetwork: its matrix learns the response without noise in the weights."""

from typing import Any

import torch
from torch import Tensor

from hdarts.hypergradient.derivatives import derivatives
from hdarts.hypernetwork import ByKind
from hdarts.kernels.output_layer import Rate, clip_factor, sgd_
from hdarts.runs.cuda_graph import host_may_read
from hdarts.search.weights import Batch, Exploration, GeneratedWeights, SGDSettings, Step, require_finite

BLOW_UP = 1e6  # a residual of the response so much larger than the gradient in the weights proves divergence


class TangentWeights(GeneratedWeights):
    """Centred weights [b + W (a - alpha) | rest] whose W tends to -H^-1 C, for generated weights at fixed rest.

    In each step, with a random unit direction e of n_alpha numbers, H and C those of the batch at w = [b | rest],

        r = H W e + C e + decay W e,   W <- W - response_rate rate r e^T,   [b | rest] <- SGD along the inner gradient

    with momentum, which makes the whole step of W about response_rate rate / (1 - momentum). This is the limit sigma ->
    0 of centred noise of size sigma, whose W has a bias of order sigma^2, divided by sigma^2: r is one product, and W =
    -(H + decay)^-1 C is its fixed point at every step size. The mean of e e^T is I / n_alpha, so that a direction of
    curvature kappa is learned in about n_alpha / (step kappa) steps. A response that diverges raises FloatingPointError
    with the largest stable step size, 2 (1 - momentum) / kappa (where n_alpha is far above 1 / (1 - momentum)). A GPU
    raises none here: there the loss is checked later.
    """

    def __init__(self, hypernetwork: ByKind, phi: Tensor, rest: Tensor, settings: SGDSettings, response_rate: float):
        super().__init__(hypernetwork, phi, rest, settings, Exploration(centred=True))
        self.response_rate = response_rate

    @torch.no_grad()
    def step(self, problem: Any, alpha: Tensor, batch: Batch, rate: Rate, epsilon: Tensor) -> Step:
        """Take one SGD step on [phi | rest]; `epsilon`, standard normal, has the direction e."""
        momentum, decay, nesterov = self.settings.sgd
        direction, zero = epsilon / epsilon.norm(), torch.zeros_like(alpha)
        w = self._at(zero)
        along = self._at(direction) - w  # W e; 0 for the rest
        g, residual, loss, correct = _slopes(problem, w, alpha, batch, along, direction)
        norm, scale = clip_factor([g.square().sum()], self.settings.clip)
        step = require_finite(Step(loss, correct, norm))
        if host_may_read(residual) and not float(residual.norm()) < BLOW_UP * (1 + float(norm)):
            raise FloatingPointError(_divergence(problem, w, alpha, batch, along, self.response_rate, momentum, rate))
        g, r = scale * g + decay * w, self.response_rate * (scale * residual + decay * along)
        one, h = g.new_ones(()), self.hypernetwork
        # b gets (g - r) + r, W gets (g - r) 0^T + r e^T
        parts = zip(self._parts(zero, g - r), self._parts(direction, r), strict=True)
        gradients = [part.gradient(*first).plus(part.gradient(*second)) for (part, *first), (_, *second) in parts]
        for each, phi, velocity in zip(gradients, h.split_phi(self.phi), h.split_phi(self.phi_velocity), strict=True):
            each.step_(phi, velocity, one, rate, momentum, 0.0, nesterov)
        sgd_(self.rest, self.rest_velocity, g[h.n_weights :], one, rate, momentum, 0.0, nesterov)
        return step


def _slopes(
    problem: Any, w: Tensor, alpha: Tensor, batch: Batch, along: Tensor, direction: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the inner gradient in w, its derivative H along + C direction, the loss, and the number of correct."""
    with torch.enable_grad():
        w, alpha = w.detach().requires_grad_(), alpha.detach().requires_grad_()
        loss, correct = problem.outcome(w, alpha, batch)
        g, of_alpha = derivatives(loss, [w, alpha], create_graph=True)
        (residual,) = derivatives((g * along).sum() + (of_alpha * direction).sum(), [w])
    return g.detach(), residual, loss.detach(), correct


def _divergence(
    problem: Any, w: Tensor, alpha: Tensor, batch: Batch, along: Tensor, factor: float, momentum: float, rate: Rate
) -> str:
    """Return the error message, with the largest stable step size, from the curvature along the diverging response."""
    unit = (along / along.abs().max()).nan_to_num()
    _, image, _, _ = _slopes(problem, w, alpha, batch, unit, torch.zeros_like(alpha))
    curvature = float(image.norm() / unit.norm())
    return (
        f"the response diverges: its step size response_rate x learning rate = {factor * float(rate):.3g} has to be "
        f"below 2 (1 - momentum) / curvature = {2 * (1 - momentum) / curvature:.3g}"
    )
