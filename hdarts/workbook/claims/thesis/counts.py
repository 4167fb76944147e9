"""Numbers of weights and bytes of the thesis's models, counted from our own supernet and hypernetworks."""

import math
from collections.abc import Callable
from functools import cache

import pandas as pd
import torch

from hdarts.hypernetwork import MLP, ByKind, Chunked, Linear
from hdarts.space import DARTS
from hdarts.supernet import Supernet
from hdarts.workbook.claims.thesis.read import Read, values

MILLION = 1e6
BYTES = 4  # of a float32
COPIES = 3  # of what SGD with momentum updates: weights, gradient, velocity
GPU = 11.0  # GB of a GTX 1080 Ti, from NVIDIA's data sheet
SUBSTANTIAL = 5.0  # per cent of the GPU's memory from which on a share of it is called so


@cache
def _supernet() -> Supernet:
    """The thesis's search network: section 4.8.1."""
    return Supernet(DARTS, channels=16, layers=8, classes=10)


# name: (words, what the thesis says); its 113 million need a perceptron for each of the 1,376 convolutions
MODELS = {
    "darts": ("DARTS", "less than 2 million"),
    "hyperdarts-1": ("hyperDARTS-1, linear", "207 million"),
    "hyperdarts-2": ("hyperDARTS-2, a perceptron a convolution", "113 million"),
    "hyperdarts-2-shared": ("the same, hidden layer shared by a kind", ""),
    "embedding": ("embedding vectors, z = 32", ""),
}


@cache
def _hypernetworks() -> dict[str, int]:
    """Weights of the hypernetworks of each model: with biases, one for each kind of cell."""
    net, n_alpha = _supernet(), SHAPES["n_alpha"]()
    shapes = [net.convolution_shapes(kind) for kind in range(2)]
    sizes = [tuple(math.prod(shape) for shape in kind) for kind in shapes]
    made = {
        "darts": [],
        "hyperdarts-1": [Linear(n_alpha, n) for n in net.n_cell_w],
        "hyperdarts-2": [MLP(n_alpha, kind, n_alpha // 2, shared=False) for kind in sizes],
        "hyperdarts-2-shared": [MLP(n_alpha, kind, n_alpha // 2) for kind in sizes],
        "embedding": [Chunked(n_alpha, tuple(kind), 32) for kind in shapes],
    }
    return {name: ByKind(each).n_phi for name, each in made.items()}


def trained() -> dict[str, int]:
    """Return how many numbers each model trains: the weights outside of cells, and the hypernetworks or the cells."""
    net, n_phi = _supernet(), _hypernetworks()
    outside = net.n_w - sum(net.n_cell_w)
    return {name: n + outside if n else net.n_w for name, n in n_phi.items()}


def model_sizes() -> pd.DataFrame:
    """Return how many numbers the thesis's models train (section 4.8.1), of them its hypernetworks, and what it says.

    Its 207 million need biases, and the factorised reductions of stride-2 identity edges among the generated weights.
    """
    both = zip(trained().items(), _hypernetworks().values(), strict=True)
    rows = [(MODELS[name][0], count, n_phi, MODELS[name][1]) for (name, count), n_phi in both]
    return pd.DataFrame(rows, columns=["model", "trained", "hypernetwork", "thesis"])


@cache
def parameters() -> dict[str, float]:
    """Return numbers of trained weights in millions, and `ratio`, that of hyperDARTS-1 over that of DARTS.

    `formula` is the one in brackets in section 5.3: n_alpha times the cell weights of a kind, summed over kinds.
    """
    normal, reduce = _supernet().n_cell_w
    counts = {**trained(), "normal": normal, "reduce": reduce, "formula": SHAPES["n_alpha"]() * (normal + reduce)}
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

    `hyperdarts-1 48`: from the thesis's value at batch size 32, of which three copies of the weights (themselves, their
    gradient, the velocity) do not grow with the batch. `hyperdarts-2`: from the thesis's three values, linear in the
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
