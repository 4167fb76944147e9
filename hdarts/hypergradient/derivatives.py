"""First and second derivatives of a loss(w, alpha, batch), detached and checked, for all methods."""

import math
import warnings
from collections.abc import Callable
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from hdarts.bilevel import Hypergradient
from hdarts.kernels.output_layer import Rate
from hdarts.runs.cuda_graph import is_capturing
from hdarts.runs.device import widest_float

Loss = Callable[[Tensor, Tensor, Any], Tensor]


class HypergradientWarning(UserWarning):
    """A hypergradient was computed, but its series diverges or the Hessian has negative curvature."""


def gradients(
    loss: Loss, w: Tensor, alpha: Tensor, batch: Any, name: str, of: tuple[str, ...] = ("w", "alpha")
) -> list[Tensor]:
    """Return the gradients in the variables named in `of` only; `name` is that of the loss in error messages."""
    variables = {"w": w.detach(), "alpha": alpha.detach()}
    selected = [variables[key].requires_grad_() for key in of]
    with torch.enable_grad():
        value = _value(loss, variables["w"], variables["alpha"], batch, name)
    results = derivatives(value, selected)
    for key, gradient in zip(of, results, strict=True):
        check_finite(gradient, f"the gradient of {name} in {key}")
    return results


def products(loss: Loss, w: Tensor, alpha: Tensor, batch: Any, name: str) -> Callable[[Tensor], list[Tensor]]:
    """Return the function q -> [H q, C^T q] at (w, alpha), with H = d2 loss/dw2 and C = d2 loss/dw d alpha.

    Both are derivatives of <d loss/dw, q>. The function keeps the graph of d loss/dw; each call costs one backward
    pass through it.
    """
    w, alpha = w.detach().requires_grad_(), alpha.detach().requires_grad_()
    with torch.enable_grad():
        (slope,) = derivatives(_value(loss, w, alpha, batch, name), [w], create_graph=True)
    check_finite(slope, f"the gradient of {name} in w")

    def of(q: Tensor) -> list[Tensor]:
        both = derivatives(slope, [w, alpha], grad_outputs=q, retain_graph=True)
        for key, product in zip(("w", "alpha"), both, strict=True):
            check_finite(product, f"the second derivative of {name} in (w, {key})")
        return both

    return of


def derivatives(value: Tensor, variables: list[Tensor], **options: Any) -> list[Tensor]:
    """Call torch.autograd.grad, with zeros for a variable that `value` does not depend on."""
    if not value.requires_grad:
        return [torch.zeros_like(variable) for variable in variables]
    return list(torch.autograd.grad(value, variables, allow_unused=True, materialize_grads=True, **options))


def _value(loss: Loss, w: Tensor, alpha: Tensor, batch: Any, name: str) -> Tensor:
    """Return the loss, a finite scalar. Errors get a note with the shapes, which show an alpha of another space."""
    try:
        value = loss(w, alpha, batch)
    except Exception as error:
        error.add_note(f"in {name}, with w of shape {tuple(w.shape)} and alpha of shape {tuple(alpha.shape)}")
        raise
    check(value.numel() == 1, name, f"a tensor of shape {tuple(value.shape)}", "a scalar")
    if not is_capturing(value) and not math.isfinite(value.item()):
        where = f"||w|| = {norm(w):.4g} and ||alpha|| = {norm(alpha):.4g}"
        raise FloatingPointError(f"{name} is {value.item()}, where {where}")
    return value.reshape(())


def norm(x: Tensor) -> Tensor:
    """Euclidean norm of all entries, a scalar on their device, in float64 if it has that."""
    return torch.linalg.vector_norm(x).to(widest_float(x.device))


def dot(x: Tensor, y: Tensor) -> Tensor:
    """Inner product of two tensors of the same shape, a scalar on their device, in float64 if it has that."""
    return (x * y).sum().to(widest_float(x.device))


def result(direct: Tensor, response: Tensor, start: float, **info: float | Tensor) -> Hypergradient:
    """Return a finite hypergradient with the seconds since `start`; the check has waited for the device.

    While a CUDA graph is captured, nothing is checked or read, and `info` is empty.
    """
    if is_capturing(response):
        return Hypergradient(direct, response)
    check_finite(response, "the response part of the hypergradient")
    numbers = {name: one.item() if isinstance(one, Tensor) else one for name, one in info.items()}
    return Hypergradient(direct, response, {**numbers, "seconds": perf_counter() - start})


def check(fits: bool, name: str, value: Any, allowed: str) -> None:
    """Raise ValueError, naming the value and what is allowed, unless it `fits`."""
    if not fits:
        raise ValueError(f"{name} is {value}, but must be {allowed}")


def check_step_size(step_size: Rate) -> None:
    """Raise ValueError unless a step size is above 0; one that the host cannot read now is not checked."""
    if not (isinstance(step_size, Tensor) and is_capturing(step_size)):
        check(bool(step_size > 0), "step_size", step_size, "a number above 0")


def check_finite(x: Tensor, name: str) -> None:
    """Raise FloatingPointError, with the count, if `x` contains nan or infinity."""
    if not is_capturing(x) and not (finite := torch.isfinite(x)).all():
        raise FloatingPointError(f"{name} is nan or infinite in {int((~finite).sum())} of {x.numel()} entries")


def warn(message: str) -> None:
    """Warn at the line that called the method, above its no_grad wrapper."""
    warnings.warn(message, HypergradientWarning, stacklevel=4)
