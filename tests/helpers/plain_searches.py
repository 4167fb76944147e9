"""Searches in float64 on a few random images, and the start of the plain search that they are compared with."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmarks.reference_search import PlainSearch, matrices
from hdarts.data import Images, Splits
from hdarts.params import SearchParams, identity
from hdarts.runs import checkpoint
from hdarts.runs.randomness import generator
from hdarts.runs.run import Run
from hdarts.search import make_hypernetwork, search
from hdarts.space import Genotype
from hdarts.supernet import Supernet

CLASSES = 3
COMMON: dict[str, Any] = {
    "run": "run",
    "device": "cpu",
    "threads": 1,
    "keep_checkpoint": True,
    "channels": 2,
    "epochs": 2,
    "batch_size": 8,
    "crop_padding": 1,
    "flip": True,
    "learning_rate": 0.02,
    "learning_rate_min": 0.001,
    "weight_decay": 0.01,
    "alpha_learning_rate": 0.1,
    "alpha_weight_decay": 0.01,
    "alpha_scale": 0.1,
    "clip": 1.0,
    "log_every": 3,
    "discretise_epochs": 0,
}


class Double(Supernet):
    """A supernet with weights in float64, in which the whole search is then computed."""

    def initial_w(self, generator: torch.Generator) -> Tensor:
        return super().initial_w(generator).double()

    def mixture(self, images: Tensor, w: Tensor, mixture: Any) -> Tensor:
        return super().mixture(images.double(), w, mixture)


def random_images(purpose: str, count: int) -> Images:
    draw = generator(0, purpose)
    pixels = torch.randint(256, (count, 3, 6, 6), generator=draw, dtype=torch.uint8)
    labels = torch.randint(CLASSES, (count,), generator=draw)
    return Images(pixels, labels, torch.full((3,), 0.5), torch.full((3,), 0.3))


DATA = Splits("random", ("a", "b", "c"), random_images("train", 20), random_images("validation", 12), None, "digest")


def start(params: SearchParams, model: Supernet, columns: int, stage: int = 0) -> dict[str, Any]:
    """Return the arguments of a plain search: alpha, weights and sizes of hypernetworks as a stage starts.

    `columns`: of alpha, in each row.
    """
    seed, purpose = params.search_seed, (stage,) if stage else ()
    shape = (*model.space.alpha_shape[:2], columns)
    alpha = params.alpha_scale * torch.randn(shape, generator=generator(seed, "alpha", *purpose)).double()
    w = model.initial_w(generator(seed, "weights", *purpose))
    if params.method != "hypernetwork":
        return {"alpha": alpha, "trained": [w]}
    kinds = [[math.prod(s) for s in model.convolution_shapes(kind)] for kind in range(len(model.space.kinds))]
    n_alpha = alpha[0].numel()
    phi = make_hypernetwork(params, model, n_alpha).initial_phi(generator(seed, "hypernetwork")).double()
    hidden = params.hidden_size if params.hypernetwork == "mlp" else 0
    parts = matrices(phi, kinds, n_alpha, hidden)
    return {"alpha": alpha, "trained": [*parts, w[sum(map(sum, kinds)) :]], "kinds": kinds}


def near(found: Any, expected: Any, name: str) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9, msg=lambda text: f"{name}: {text}")


def compare(
    params: SearchParams,
    data: Splits,
    supernet: Supernet | None,
    plain: Callable[[], tuple[list[dict[str, float]], PlainSearch, Genotype]],
) -> None:
    """Compare a search of `supernet`, or that of its parameters, with a plain one.

    `plain()` returns the row of each epoch, the search at its end, and the cell.
    """
    run = Run.open(params)
    rows = list(search(params, run, data=data, supernet=supernet))
    expected_rows, ended, cell = plain()
    for row, expected in zip(rows, expected_rows, strict=True):
        for name, value in expected.items():
            near(row[name], value, f"{name} of epoch {row['epoch']}")
    saved = checkpoint.load(run.folder, identity(params))
    assert saved is not None
    near(saved["alpha"], ended.alpha.detach(), "alpha")
    found = torch.cat([saved["weights"][name] for name in ("w", "phi", "rest") if name in saved["weights"]])
    near(found, torch.cat([each.detach().flatten() for each in ended.trained]), "weights")
    found = Genotype.from_json((run.folder / "genotype.json").read_text())
    assert edges(found) == edges(cell)


def edges(cell: Genotype) -> dict[str, list[tuple[int, int, str]]]:
    """Return (node, source, operation) of each edge of each kind of cell, in order."""
    return {
        kind: sorted((node, source, name) for node, (name, source) in zip(cell.space.targets, listed, strict=True))
        for kind, listed in cell.cells.items()
    }
