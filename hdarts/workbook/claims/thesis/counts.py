"""Numbers of weights and bytes of the thesis's models, counted from our supernet and hypernetworks."""

import math
from functools import cache

import pandas as pd
import torch

from hdarts.hypernetwork import MLP, ByKind, Chunked, Linear
from hdarts.space import DARTS
from hdarts.supernet import Supernet
from hdarts.workbook.claims.thesis.read import Tables

MILLION = 1e6
BYTES = 4  # of a float32
COPIES = 3  # of what SGD with momentum updates: weights, gradient, velocity
GPU = 11.0  # GB of a GTX 1080 Ti, from NVIDIA's data sheet
SUBSTANTIAL = 5.0  # per cent of the GPU's memory from which on a share of it counts as substantial
_, EDGES, OPERATIONS = DARTS.alpha_shape
N_ALPHA = EDGES * OPERATIONS  # of a kind of cell
HIDDEN = N_ALPHA // 2


@cache
def _supernet() -> Supernet:
    """The thesis's search network: section 4.8.1."""
    return Supernet(DARTS, channels=16, layers=8, classes=10)


# name: (description, number that the thesis states); 113 million need one perceptron for each of 1,376 convolutions
MODELS = {
    "darts": ("DARTS", "less than 2 million"),
    "hyperdarts-1": ("hyperDARTS-1, linear", "207 million"),
    "hyperdarts-2": ("hyperDARTS-2, one perceptron per convolution", "113 million"),
    "hyperdarts-2-shared": ("the same, one hidden layer per kind of cell", ""),
    "embedding": ("embedding vectors, z = 32", ""),
}


@cache
def _hypernetworks() -> dict[str, int]:
    """Weights of the hypernetworks of each model: with biases, one for each kind of cell."""
    net = _supernet()
    shapes = [net.convolution_shapes(kind) for kind in range(2)]
    sizes = [tuple(math.prod(shape) for shape in kind) for kind in shapes]
    hypernetworks = {
        "darts": [],
        "hyperdarts-1": [Linear(N_ALPHA, n) for n in net.n_cell_w],
        "hyperdarts-2": [MLP(N_ALPHA, kind, HIDDEN, shared=False) for kind in sizes],
        "hyperdarts-2-shared": [MLP(N_ALPHA, kind, HIDDEN) for kind in sizes],
        "embedding": [Chunked(N_ALPHA, tuple(kind), 32) for kind in shapes],
    }
    return {name: ByKind(each).n_phi for name, each in hypernetworks.items()}


def trained() -> dict[str, int]:
    """Return how many numbers each model trains: those outside the cells, and the hypernetworks' or the cells'."""
    net, n_phi = _supernet(), _hypernetworks()
    outside = net.n_w - sum(net.n_cell_w)
    return {name: n + outside if n else net.n_w for name, n in n_phi.items()}


def model_sizes() -> pd.DataFrame:
    """Return how many numbers the thesis's models train (section 4.8.1), how many in hypernetworks, and what it states.

    Its 207 million include biases, and weights generated for the factorised reductions of stride-2 identity edges.
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
    counts = {**trained(), "normal": normal, "reduce": reduce, "formula": N_ALPHA * (normal + reduce)}
    return {name: n / MILLION for name, n in counts.items()} | {"ratio": counts["hyperdarts-1"] / counts["darts"]}


def stem_channels() -> int:
    """Return the channels that the stem outputs: rows of its convolution."""
    net = _supernet()
    return next(w.shape[0] for name, w in net.unpack(torch.zeros(net.n_w)).items() if name.startswith("stem."))


def per_cent_of_gpu(millions: float) -> float:
    """Return the memory of the copies of `millions` of weights that SGD keeps, in per cent of the GPU's memory."""
    return 100 * COPIES * BYTES * MILLION / (GPU * 2**30) * millions


def memory_of_inner_step() -> str:
    """Return "substantial" if three copies of the weights of DARTS are, else their per cent of the GPU's memory."""
    share = per_cent_of_gpu(parameters()["darts"])
    return "substantial" if share >= SUBSTANTIAL else f"{share:.1f} %"


def memory_of_hyperdarts_1(t: Tables, batch_size: float) -> float:
    """Return the memory of hyperDARTS-1 in per cent of the GPU's, from the thesis's value at batch size 32.

    Three copies of the weights (themselves, their gradient, the velocity) do not grow with the batch.
    """
    _, small, _ = t.column("memory", "percent")
    _, of_small, _ = t.column("memory", "batch_size")
    fixed = per_cent_of_gpu(parameters()["hyperdarts-1"])
    return fixed + (small - fixed) * batch_size / of_small


def memory_of_hyperdarts_2(t: Tables) -> float:
    """Return the memory of hyperDARTS-2 at batch size 64 in per cent of the GPU's, from the thesis's three values.

    Linear in the batch size, with the same slope for all models, and linear in the number of weights.
    """
    counts = parameters()
    darts, small, large = t.column("memory", "percent")
    of_darts, of_small, of_large = t.column("memory", "batch_size")
    slope = (large - small) / (of_large - of_small)
    share = (counts["hyperdarts-2"] - counts["darts"]) / (counts["hyperdarts-1"] - counts["darts"])
    return darts + share * (small - slope * of_small - (darts - slope * of_darts))
