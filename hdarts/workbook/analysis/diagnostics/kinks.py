"""Why DARTS's finite difference is not the product it stands for: the kinks of ReLU and max pooling.

The gradient in alpha jumps where a ReLU switches or a maximum moves to another pixel. Between w - eps v and w + eps v
lie many such places. Autograd's C^T v leaves the jumps out; the difference quotient has all of them, divided by
2 eps. As their number is proportional to eps and their signs differ, their sum behaves like eps^(1/2), and the error
like eps^(-1/2), until eps is so small that no unit switches: below what float32 can resolve.
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
    """Within it, each ReLU is a softplus and each max pooling log(mean(exp)) over the window: the network, smooth.

    It reaches what PyTorch's operators compute, so the problem has to be one `without_kernels`.
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
    """Return the relative error of DARTS's difference quotient against the product C^T v it stands for.

    A row for each network and epsilon = ||eps v||: the supernet in float32 and float64, its smooth stand-in in float64.
    C and v are those of a DARTS step of `step_size`; the product is that of the same network in float64.
    """
    single, double = (snapshot.w, snapshot.alpha, inner, outer), _double(snapshot, inner, outer)
    exact, v = _product(snapshot.problem, *double, step_size)
    rows = _errors("supernet, float32", snapshot.problem, single, v.to(snapshot.w), epsilons, exact)
    rows += _errors("supernet, float64", snapshot.problem, double, v, epsilons, exact)
    problem = without_kernels(snapshot.problem)
    with SmoothActivations():
        exact, v = _product(problem, *double, step_size)
        return rows + _errors("smooth stand-in, float64", problem, double, v, epsilons, exact)


def without_kernels(problem: Classification) -> Classification:
    """Return the problem with a supernet that is made of PyTorch's operators alone, nothing compiled."""
    supernet = copy(problem.supernet)
    supernet.compiled = False
    return Classification(supernet)


def square_root_law(rows: list[Row]) -> list[Row]:
    """Return the errors that independent jumps would give, proportional to epsilon^(-1/2), from the largest epsilon."""
    own = [row for row in rows if row["network"] == "supernet, float64"]
    first = max(own, key=lambda row: row["epsilon"])
    return [
        {**row, "network": LAW, "relative_error": first["relative_error"] * (first["epsilon"] / row["epsilon"]) ** 0.5}
        for row in own
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
