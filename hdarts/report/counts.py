"""Numbers of weights and bytes of the report's models, counted from our own supernet and hypernetworks."""

import math
from collections.abc import Callable
from functools import cache

import torch

from hdarts.hypernetwork import MLP, ByKind, Linear
from hdarts.report.read import Read, values
from hdarts.space import DARTS
from hdarts.supernet import Supernet

MILLION = 1e6
BYTES = 4  # of a float32
COPIES = 3  # of what SGD with momentum updates: weights, gradient, velocity
GPU = 11.0  # GB of a GTX 1080 Ti, from NVIDIA's data sheet
SUBSTANTIAL = 5.0  # per cent of the GPU's memory from which on a share of it is called so


@cache
def _supernet() -> Supernet:
    """The report's search network: section 4.8.1."""
    return Supernet(DARTS, channels=16, layers=8, classes=10)


@cache
def parameters() -> dict[str, float]:
    """Return numbers of trained weights in millions, and `ratio`, that of hyperDARTS-1 over that of DARTS.

    `formula` is the one in brackets in section 5.3: n_alpha times the cell weights of a kind, summed over kinds.
    """
    net = _supernet()
    n_alpha = SHAPES["n_alpha"]()
    outside = net.n_w - sum(net.n_cell_w)
    sizes = [tuple(math.prod(shape) for shape in net.convolution_shapes(kind)) for kind in range(2)]
    linear = ByKind([Linear(n_alpha, n) for n in net.n_cell_w])
    mlp = [ByKind([MLP(n_alpha, kind, n_alpha // 2, shared=shared) for kind in sizes]) for shared in (False, True)]
    counts = {
        "darts": net.n_w,
        "normal": net.n_cell_w[0],
        "reduce": net.n_cell_w[1],
        "formula": n_alpha * sum(net.n_cell_w),
        "hyperdarts-1": linear.n_phi + outside,
        "hyperdarts-2": mlp[0].n_phi + outside,
        "hyperdarts-2-shared": mlp[1].n_phi + outside,
    }
    return {name: n / MILLION for name, n in counts.items()} | {"ratio": counts["hyperdarts-1"] / counts["darts"]}


def _stem() -> int:
    """Channels that the stem makes: rows of its convolution."""
    net = _supernet()
    return next(w.shape[0] for name, w in net.unpack(torch.zeros(net.n_w)).items() if name.startswith("stem."))


SHAPES: dict[str, Callable[[], int]] = {
    "n_alpha": lambda: math.prod(DARTS.alpha_shape[1:]),
    "hidden": lambda: math.prod(DARTS.alpha_shape[1:]) // 2,
    "operations": lambda: DARTS.alpha_shape[2],
    "stem": _stem,
}


def memory(read: Read, name: str, batch_size: str = "") -> float | str:
    """Return memory in per cent of the GPU, or the GPU's memory in GB (`gpu`).

    `hyperdarts-1 48`: from the report's value at batch size 32, of which three copies of the weights (themselves, their
    gradient, the velocity) do not grow with the batch. `hyperdarts-2`: from the report's three values, linear in the
    batch size with one slope, and in the number of weights. `inner-step`: three more copies of the weights of DARTS.
    """
    if name == "gpu":
        return GPU
    per_million = 100 * COPIES * BYTES * MILLION / (GPU * 2**30)
    counts = parameters()
    if name == "inner-step":
        share = per_million * counts["darts"]
        return "substantial" if share >= SUBSTANTIAL else f"{share:.1f} %"
    darts, small, large = values(read, "memory.percent")
    of_darts, of_small, of_large = values(read, "memory.batch_size")
    if name == "hyperdarts-1":
        fixed = per_million * counts["hyperdarts-1"]
        return fixed + (small - fixed) * float(batch_size) / of_small
    slope = (large - small) / (of_large - of_small)
    share = (counts["hyperdarts-2"] - counts["darts"]) / (counts["hyperdarts-1"] - counts["darts"])
    return darts + share * (small - slope * of_small - (darts - slope * of_darts))
