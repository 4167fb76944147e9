"""User-defined objects that do not fit are refused at the door, in one sentence that names the object."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from hdarts.bilevel import Hypergradient
from hdarts.data import Splits, load
from hdarts.errors import ParameterError
from hdarts.hypernetwork import ByKind, Linear
from hdarts.network import EvaluationNetwork
from hdarts.params import SearchParams, check, notebook_defaults
from hdarts.runs.randomness import generator
from hdarts.runs.run import Run
from hdarts.search import Parts, search
from hdarts.search.parametrisation import PARAMETRISATIONS
from hdarts.space import DARTS, NASBENCH201, Genotype
from hdarts.supernet import Mixture, Supernet
from tests.helpers import ROOT

TINY: dict[str, Any] = notebook_defaults(ROOT / "notebooks" / "03_search.ipynb") | {
    **{"data": "generated", "limit": 48, "batch_size": 12, "channels": 2, "epochs": 1, "layers": 1, "crop_padding": 0},
    **{"space": "nasbench201", "method": "darts-first", "run": "one"},
}
DATA = load("generated", limit=48)  # 10 classes, 3 channels
N_ALPHA, SHAPE = NASBENCH201.n_alpha, NASBENCH201.alpha_shape


def supernet(**changes: Any) -> Supernet:
    return Supernet(NASBENCH201, **{"channels": 2, "layers": 1, "classes": 10, **changes})


def part(name: str, **changes: Any) -> Splits:
    """Return images of which one part has other tensors."""
    return replace(DATA, **{name: replace(getattr(DATA, name), **changes)})


@dataclass(frozen=True)
class Fake(Linear):
    """A hypernetwork whose result or initial weights are one number too long."""

    more_weights: int = 0
    more_phi: int = 0

    def initial_phi(self, generator: torch.Generator) -> Tensor:
        return torch.zeros(self.n_phi + self.more_phi)

    def __call__(self, phi: Tensor, alpha: Tensor) -> Tensor:
        return torch.zeros(self.n_weights + self.more_weights)


@dataclass(frozen=True)
class Wrapped:
    """A supernet that changes one thing of another one."""

    more_w: int = 0
    classes_of: int = 10
    space = NASBENCH201

    @property
    def n_w(self) -> int:
        return supernet().n_w

    def initial_w(self, generator: torch.Generator) -> Tensor:
        return torch.zeros(self.n_w + self.more_w)

    def __call__(self, images: Tensor, w: Tensor, alpha: Tensor) -> Tensor:
        return w[: self.classes_of].expand(len(images), -1)


def kinds(count: int = 1, n_alpha: int = N_ALPHA, n_weights: int = 0, **more: int) -> ByKind:
    return ByKind([Fake(n_alpha, n_weights or supernet().n_cell_w[0], True, **more) for _ in range(count)])


def hypergradient(direct: Callable[[Tensor], Tensor]) -> Callable[..., Hypergradient]:
    return lambda problem, weights, alpha, *rest: Hypergradient(direct(alpha), torch.zeros_like(alpha))


def mixing(weights: Callable[[Tensor], Tensor]) -> Parts:
    return Parts(replace(PARAMETRISATIONS["softmax"], weights=lambda a, *rest: Mixture(weights(a.softmax(-1)))))


FIVE = {"stages": [{"epochs": 1}, {"epochs": 1, "operations": 2}], "epochs": 2}
CASES: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "labels of an unknown class": (
        {"data": part("train", labels=DATA.train.labels + 5)},
        {},
        "train part of data generated: labels are 5 to 14 and have to be 0 to 9",
    ),
    "labels of one missing": (
        {"data": part("validation", labels=DATA.train.labels[1:])},
        {},
        r"validation part of data generated: the type and shape of its labels is \(torch.int64, \(23,\)\) and",
    ),
    "labels as numbers with a point": (
        {"data": part("train", labels=DATA.train.labels.double())},
        {},
        r"the type and shape of its labels is \(torch.float64, ",
    ),
    "images as numbers with a point": (
        {"data": part("train", pixels=DATA.train.pixels / 255)},
        {},
        "the type and number of axes \\(N, C, H, W\\) of its pixels is \\(torch.float32, 4\\) and has to be",
    ),
    "grey validation images": (
        {"data": part("validation", pixels=DATA.validation.pixels[:, :1])},  # type: ignore[union-attr]
        {},
        r"validation part of data generated: the shape of an image is \(1, 8, 8\) and has to be \(3, 8, 8\)",
    ),
    "one mean": (
        {"data": part("train", mean=DATA.mean[:1])},
        {},
        r"the shape of its mean is \(1,\) and has to be \(3,\)",
    ),
    "no validation part": (
        {"data": load("generated", limit=48, validation_fraction=0.0)},
        {},
        "data generated: has no validation part; load it with a validation_fraction above 0",
    ),
    "supernet of other classes": (
        {"supernet": supernet(classes=5)},
        {},
        r"supernet: the shape of its output for 2 images is \(2, 5\) and has to be \(2, 10\)",
    ),
    "supernet of grey images": (
        {"supernet": supernet(image_channels=1)},
        {},
        "supernet: does not fit: RuntimeError: .* to have 1 channels, but got 3 channels instead",
    ),
    "no supernet": ({"supernet": torch.nn.Linear(2, 2)}, {}, "supernet: does not fit: AttributeError: 'Linear' object"),
    "supernet with too many weights": (
        {"supernet": Wrapped(more_w=1)},
        {},
        rf"the shape of initial_w is \({supernet().n_w + 1},\) and has to be \({supernet().n_w},\)",
    ),
    "supernet with too few outputs": (
        {"supernet": Wrapped(classes_of=9)},
        {},
        r"supernet: the shape of its output for 2 images is \(2, 9\) and has to be \(2, 10\)",
    ),
    "two hypernetworks for one kind": (
        {"hypernetwork": kinds(2)},
        {"method": "hypernetwork"},
        "hypernetwork: the number of kinds of cells is 2 and has to be 1",
    ),
    "hypernetwork of another space": (
        {"hypernetwork": kinds(n_alpha=112)},
        {"method": "hypernetwork"},
        rf"hypernetwork: n_alpha of its parts is \[112\] and has to be \[{N_ALPHA}\]",
    ),
    "hypernetwork of another supernet": (
        {"hypernetwork": kinds(n_weights=7)},
        {"method": "hypernetwork"},
        rf"hypernetwork: n_weights of its parts is \[7\] and has to be \[{supernet().n_cell_w[0]}\]",
    ),
    "hypernetwork that returns too much": (
        {"hypernetwork": kinds(more_weights=1)},
        {"method": "hypernetwork"},
        "hypernetwork: the shape of its value is",
    ),
    "hypernetwork with too many initial weights": (
        {"hypernetwork": kinds(more_phi=1)},
        {"method": "hypernetwork"},
        "hypernetwork: the shape of initial_phi is",
    ),
    "hypernetwork not by kind": (
        {"hypernetwork": Linear(N_ALPHA, 5)},
        {"method": "hypernetwork"},
        "hypernetwork: its type is Linear and has to be ByKind",
    ),
    "supernet without a graph": (
        {"supernet": Wrapped()},
        {"method": "hypernetwork", "hypernetwork": "graph"},
        "hypernetwork: graph needs a supernet with convolution_shapes and convolution_edges",
    ),
    "rank above the number of weights": (
        {},
        {"method": "nystrom", "rank": 10**6},
        rf"rank: 1000000 is more than the {supernet().n_w} weights of the supernet",
    ),
    "rank above the number of generated weights": (
        {},
        {"method": "hypernetwork", "hypernetwork": "low-rank", "rank": 10**6},
        rf"rank: 1000000 is more than the {supernet().n_cell_w[0]} weights to generate",
    ),
    "hypernetwork that no method uses": ({"hypernetwork": kinds()}, {}, "hypernetwork: is passed, but method: darts-f"),
    "hypergradient of another shape": (
        {"hypergradient": hypergradient(lambda alpha: alpha[0])},
        {},
        rf"hypergradient: the shape of direct is \(6, 5\) and has to be \({', '.join(map(str, SHAPE))}\)",
    ),
    "hypergradient that is a tensor": (
        {"hypergradient": lambda problem, weights, alpha, *rest: alpha},
        {},
        "hypergradient: the type of its value is Tensor and has to be Hypergradient",
    ),
    "optimiser of a copy": (
        {"parts": Parts(alpha_step=lambda alpha: torch.optim.SGD([alpha.clone()], 0.1))},
        {},
        "parts.alpha_step: has to return an optimiser of the one tensor that it receives",
    ),
    "outer term of each edge": (
        {"parts": Parts(outer_term=lambda alpha, weights: weights.sum(-1))},
        {},
        r"parts.outer_term: the shape of its value is \(1, 6\) and has to be \(\)",
    ),
    "neighbourhood of another shape": (
        {"parts": Parts(neighbourhood=lambda p, direction, loss: p[:, :, :4])},
        {},
        "parts.neighbourhood: does not fit: RuntimeError",
    ),
    "parametrisation of another shape": (
        {"parts": mixing(lambda weights: weights[..., 1:])},
        {},
        r"mixture weights of shape \(1, 6, 4\) are not of space nasbench201: \(1, 6, 5\)",
    ),
    "selection of no cell": (
        {"parts": Parts(selection=lambda weights, space: "cell")},  # type: ignore[arg-type, return-value]
        {},
        "parts.selection: the type of its value is str and has to be Genotype",
    ),
    "candidates as numbers": (
        {"parts": Parts(prune=lambda w, kept, stage, space: w)},
        FIVE,
        "parts.prune: the type and shape of its value is",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_an_object_that_does_not_fit_is_refused_before_any_work(name: str, tmp_path: Path, monkeypatch):
    objects, changes, sentence = CASES[name]
    monkeypatch.setenv("HDARTS_RUNS", str(tmp_path))
    run = Run.open(check(SearchParams, TINY | changes))
    with pytest.raises(ParameterError, match=sentence) as refusal:
        next(search(run.params, run, **{"data": DATA, **objects}))  # type: ignore[arg-type]
    assert "\n" not in str(refusal.value)
    written = {path.name for path in run.folder.iterdir()}
    assert not any("metrics" in one or "hypergradients" in one or "checkpoint" in one for one in written), written


def test_a_checkpoint_of_another_supernet_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HDARTS_RUNS", str(tmp_path))
    run = Run.open(check(SearchParams, TINY | {"epochs": 2}))
    next(search(run.params, run, data=DATA, supernet=supernet()))  # type: ignore[arg-type]
    wider = supernet(channels=4)
    with pytest.raises(ParameterError, match=rf"has w of shape \({supernet().n_w},\), and \({wider.n_w},\) is needed"):
        next(search(run.params, run, data=DATA, supernet=wider))  # type: ignore[arg-type]


class Halved:
    """A custom operation that returns half of the channels, which addition would broadcast if that is one."""

    def shapes(self, channels: int, stride: int) -> list[tuple[int, ...]]:
        return []

    def __call__(self, x: Tensor, weights: Any, stride: int) -> Tensor:
        return x[:, : x.shape[1] // 2, ::stride, ::stride]


def test_an_operation_of_another_shape_is_refused_in_both_networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HDARTS_RUNS", str(tmp_path))
    names = ("none", "halved", "skip_connect", "sep_conv_3x3")
    space, custom = replace(DARTS, name="small", operations=names), {"halved": Halved()}
    run = Run.open(check(SearchParams, TINY | {"space": "darts", "layers": 3}))
    model = Supernet(space, 2, 3, 10, custom=custom)
    with pytest.raises(
        ParameterError, match=r"halved: the shape of its value is \(2, 1, 8, 8\) and has to be \(2, 2, 8, 8\)"
    ):
        next(search(run.params, run, data=DATA, supernet=model))  # type: ignore[arg-type]
    cell: Any = [["halved", 0], ["skip_connect", 1]] * 4
    network = EvaluationNetwork(
        Genotype(normal=cell, reduce=cell, custom=space), 2, 3, 10, auxiliary=False, custom=custom
    )
    with pytest.raises(
        ParameterError, match=r"Halved: the shape of its value is \(2, 1, 8, 8\) and has to be \(2, 2, 8, 8\)"
    ):
        network(torch.zeros(2, 3, 8, 8))
    with pytest.raises(ParameterError, match="operation 'halved': has to be callable and to have a method `shapes`"):
        Supernet(space, 2, 3, 10, custom={"halved": torch.relu})  # type: ignore[dict-item]


class Strided:
    """A custom operation: a 1x1 convolution with a stride, and which inputs it saw in rows, by stride."""

    def __init__(self) -> None:
        self.in_rows: dict[int, bool] = {}

    def shapes(self, channels: int, stride: int) -> list[tuple[int, ...]]:
        return [(channels, channels, 1, 1)]

    def __call__(self, x: Tensor, weights: Any, stride: int) -> Tensor:
        first = all(one.stride()[1] >= one.stride()[2] for one in (x, weights[0]))
        self.in_rows[stride] = self.in_rows.get(stride, True) and first
        return torch.nn.functional.conv2d(x, weights[0], stride=stride)


def test_an_operation_with_a_stride_gets_values_whose_gradient_pytorch_computes_safely():
    """Channels-last images of 2 to 6 channels: PyTorch's backward pass writes beyond its memory (`in_rows`)."""
    names = ("none", "strided", "skip_connect", "sep_conv_3x3")
    space, in_search, trained = replace(DARTS, name="small", operations=names), Strided(), Strided()
    model = Supernet(space, 2, 3, 10, custom={"strided": in_search})
    images = torch.randn(2, 3, 8, 8).contiguous(memory_format=torch.channels_last)
    w, alpha = model.initial_w(generator(0, "w")).requires_grad_(), torch.zeros(space.alpha_shape)
    torch.autograd.grad(model(images, w, alpha).sum(), w)
    cell: Any = [["strided", 0], ["skip_connect", 1]] * 4
    genotype = Genotype(normal=cell, reduce=cell, custom=space)
    EvaluationNetwork(genotype, 2, 3, 10, auxiliary=False, custom={"strided": trained})(images)[0].sum().backward()
    assert in_search.in_rows[2] and trained.in_rows[2]
