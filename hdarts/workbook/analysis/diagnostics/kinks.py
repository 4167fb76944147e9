"""Why DARTS's finite difference differs from the product that it approximates: the kinks of ReLU and max pooling.

The gradient in alpha jumps where a ReLU switches or a maximum moves to another pixel. There are many such points
between w - eps v and w + eps v. Autograd's C^T v does not contain the jumps; the difference quotient contains all of
them, divided by 2 eps. As their number is proportional to eps and their signs differ, their sum behaves like eps^(1/2),
and the error like eps^(-1/2), until eps is so small that no unit switches: too small for float32.
"""

from copy import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from hdarts.hypergradient.derivatives import gradients, norm, products
from hdarts.search.weights import Batch, Classification
from hdarts.supernet.layout import agreement
from hdarts.workbook.analysis import Row
from hdarts.workbook.analysis.diagnostics.snapshot import Snapshot

LAW = "proportional to 1/√epsilon"


class SmoothActivations(TorchFunctionMode):
    """Context in which each ReLU is a softplus and each max pooling log(mean(exp)) over the window: a smooth network.

    It replaces PyTorch's operators only, so the problem has to be one `without_kernels`.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is F.relu:
            return F.softplus(args[0], beta=4.0)
        if func in (F.max_pool2d, torch.max_pool2d):
            return _soft_maximum(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _soft_maximum(x: Tensor, kernel_size: int, stride: int, padding: int, *_: Any, **__: Any) -> Tensor:
    return F.avg_pool2d(x.exp(), kernel_size, stride, padding, count_include_pad=False).log()


def epsilon_errors(
    snapshot: Snapshot, inner: Batch, outer: Batch, step_size: float, epsilons: list[float]
) -> list[Row]:
    """Return the relative error of DARTS's difference quotient against the product C^T v that it approximates.

    One row per network and epsilon = ||eps v||: the supernet in float32 and in float64, and its smooth version in
    float64. C and v are those of a DARTS step of `step_size`; the product is that of the same network in float64.
    """
    single, double = (snapshot.w, snapshot.alpha, inner, outer), _double(snapshot, inner, outer)
    exact, v = _product(snapshot.problem, *double, step_size)
    rows = _errors("supernet, float32", snapshot.problem, single, v.to(snapshot.w), epsilons, exact)
    rows += _errors("supernet, float64", snapshot.problem, double, v, epsilons, exact)
    problem = without_kernels(snapshot.problem)
    with SmoothActivations():
        exact, v = _product(problem, *double, step_size)
        return rows + _errors("smooth supernet, float64", problem, double, v, epsilons, exact)


def without_kernels(problem: Classification) -> Classification:
    """Return the problem with a supernet that uses PyTorch's operators only, no compiled kernels."""
    supernet = copy(problem.supernet)
    supernet.compiled = False
    return Classification(supernet)


def square_root_law(rows: list[Row]) -> list[Row]:
    """Return the errors of independent jumps, proportional to epsilon^(-1/2) and equal at the largest epsilon."""
    double = [row for row in rows if row["network"] == "supernet, float64"]
    first = max(double, key=lambda row: row["epsilon"])
    return [
        {**row, "network": LAW, "relative_error": first["relative_error"] * (first["epsilon"] / row["epsilon"]) ** 0.5}
        for row in double
    ]


def _product(
    problem: Any, w: Tensor, alpha: Tensor, inner: Batch, outer: Batch, step_size: float
) -> tuple[Tensor, Tensor]:
    """Return C^T v and v, the gradient of the outer loss in w after one step."""
    (slope,) = gradients(problem.inner, w, alpha, inner, "the inner loss", of=("w",))
    (v,) = gradients(problem.outer, w - step_size * slope, alpha, outer, "the outer loss", of=("w",))
    return products(problem.inner, w, alpha, inner, "the inner loss")(v)[1], v


def _errors(
    name: str, problem: Any, at: tuple[Tensor, Tensor, Batch, Batch], v: Tensor, epsilons: list[float], exact: Tensor
) -> list[Row]:
    rows, (w, alpha, inner, _) = [], at
    for epsilon in epsilons:
        eps = epsilon / norm(v)
        plus, minus = (
            gradients(problem.inner, w + side * v, alpha, inner, "the inner loss", of=("alpha",))[0].double()
            for side in (eps, -eps)
        )
        rows.append({"network": name, "epsilon": epsilon, **agreement((plus - minus) / (2 * eps), exact)})
    return rows


def _double(snapshot: Snapshot, *batches: Batch) -> tuple[Tensor, Tensor, Batch, Batch]:
    inner, outer = ((x.double(), y) for x, y in batches)
    return snapshot.w.double(), snapshot.alpha.double(), inner, outer
