"""Whole searches against a plain one in float64: explicit loops, torch.optim and autograd (benchmarks)."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.reference import Named, PlainSupernet
from benchmarks.reference_nasbench201 import PlainBenchmarkSupernet
from benchmarks.reference_search import PlainSearch, matrices
from hdarts.data import Images, Splits
from hdarts.params import SearchParams, identity
from hdarts.runs import checkpoint
from hdarts.runs.paths import with_defaults
from hdarts.runs.randomness import generator
from hdarts.runs.run import Run
from hdarts.search import make_hypernetwork, search
from hdarts.space import SPACES, Genotype, discretise
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
METHODS: dict[str, dict[str, Any]] = {
    "darts-first": {"method": "darts-first"},
    "darts-second": {"method": "darts-second"},
    "hyperdarts-1": {"hypernetwork": "linear"},
    "hyperdarts-2": {"hypernetwork": "mlp", "hidden_size": 3},
}
OFFICIAL = {"order": "weights-first", "nesterov": True, "schedule": "step"}
SMALL = {"space": "nasbench201", "layers": 1}
CASES = {
    **{name: SMALL | changes for name, changes in METHODS.items()},
    "noise": SMALL | {"hypernetwork": "linear", "noise": 0.1},
    "centred": SMALL | {"hypernetwork": "linear", "noise": 0.1, "centred": True, "antithetic": True},
    "response": SMALL | {"hypernetwork": "linear", "part": "response"},
    "direct": SMALL | {"method": "darts-second", "part": "direct"},
    "darts-second, official": SMALL | OFFICIAL | METHODS["darts-second"],
    "hyperdarts-1, official": SMALL | OFFICIAL | METHODS["hyperdarts-1"],
    "drop_last": SMALL | {"method": "darts-first", "drop_last": True},
    **{f"{name} in DARTS": {"space": "darts", "layers": 3, **changes} for name, changes in METHODS.items()},
}


class Double(Supernet):
    """A supernet with weights in float64, in which the whole search is then computed."""

    def initial_w(self, generator: torch.Generator) -> Tensor:
        return super().initial_w(generator).double()

    def __call__(self, images: Tensor, w: Tensor, alpha: Tensor) -> Tensor:
        return super().__call__(images.double(), w, alpha)


def random_images(purpose: str, count: int) -> Images:
    draw = generator(0, purpose)
    pixels = torch.randint(256, (count, 3, 6, 6), generator=draw, dtype=torch.uint8)
    labels = torch.randint(CLASSES, (count,), generator=draw)
    return Images(pixels, labels, torch.full((3,), 0.5), torch.full((3,), 0.3))


DATA = Splits("random", ("a", "b", "c"), random_images("train", 20), random_images("validation", 12), None, "digest")


def plain_search(params: SearchParams, model: Supernet) -> PlainSearch:
    """The plain search from the same start."""
    seed, sizes = params.search_seed, (params.channels, params.layers, CLASSES)
    net: Named = PlainSupernet(*sizes) if params.space == "darts" else PlainBenchmarkSupernet(*sizes)
    alpha = params.alpha_scale * torch.randn(model.space.alpha_shape, generator=generator(seed, "alpha")).double()
    w = model.initial_w(generator(seed, "weights"))
    if params.method != "hypernetwork":
        return PlainSearch(params, net, model.layout, alpha, [w])
    kinds = [[math.prod(s) for s in model.convolution_shapes(kind)] for kind in range(len(model.space.kinds))]
    phi = make_hypernetwork(params, model).initial_phi(generator(seed, "hypernetwork")).double()
    hidden = params.hidden_size if params.hypernetwork == "mlp" else 0
    parts = matrices(phi, kinds, model.space.n_alpha, hidden)
    return PlainSearch(params, net, model.layout, alpha, [*parts, w[sum(map(sum, kinds)) :]], kinds)


def near(found: Any, expected: Any, name: str) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9, msg=lambda text: f"{name}: {text}")


@pytest.mark.parametrize("changes", CASES.values(), ids=CASES)
def test_a_search_is_the_plain_search(changes: dict[str, Any], tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("HDARTS_RUNS", str(tmp_path))
    params = with_defaults(SearchParams, COMMON | changes)
    model = Double(SPACES[params.space], params.channels, params.layers, CLASSES)
    run = Run.open(params)
    rows = list(search(params, run, data=DATA, supernet=model))
    plain = plain_search(params, model)
    for row, expected in zip(rows, plain.epochs(DATA), strict=True):
        for name, value in expected.items():
            near(row[name], value, f"{name} of epoch {row['epoch']}")
    assert Genotype.from_json((run.folder / "genotype.json").read_text()) == discretise(plain.alpha, model.space)
    saved = checkpoint.load(run.folder, identity(params))
    assert saved is not None
    near(saved["alpha"], plain.alpha.detach(), "alpha")
    found = torch.cat([saved["weights"][name] for name in ("w", "phi", "rest") if name in saved["weights"]])
    near(found, torch.cat([each.detach().flatten() for each in plain.trained]), "weights")
