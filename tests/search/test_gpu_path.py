"""A step on a GPU, which no machine of these tests has: nothing in it waits for the device or copies from the host."""

import contextlib
from dataclasses import replace
from typing import Any

import pytest
import torch
from helpers import small_runs
from helpers.host_watch import DEVICE, HostWatch

from hdarts.search import batches, load_splits, steps
from hdarts.search.state import State
from hdarts.search.weights import Classification
from hdarts.space import DARTS, NASBENCH201, SearchSpace
from hdarts.supernet import Supernet

# the operations of DARTS without repetitions: steps on `meta` take a millisecond for each of their many calls
SMALL = replace(
    DARTS, name="small", nodes=1, outputs=1, operations=("none", "avg_pool_3x3", "skip_connect", "dil_conv_3x3")
)
SEARCHES: dict[str, dict[str, Any]] = {
    "first order": {"method": "darts-first"},
    "second order": {"method": "darts-second"},
    "unrolled": {"method": "unrolled", "steps": 1},
    "neumann": {"method": "neumann", "terms": 1},
    "conjugate gradient": {"method": "conjugate-gradient", "iterations": 1, "damping": 1.0},
    "nystrom": {"method": "nystrom", "rank": 1, "damping": 1.0},
    "sama": {"method": "sama", "nesterov": True},
    "amortised adjoint": {"method": "amortised-adjoint"},
    "shared weights": {"method": "shared-weights", "candidates": 2},
    "linear": {"hypernetwork": "linear", "antithetic": True, "centred": True},
    "tangent": {"hypernetwork": "linear", "centred": True, "response_update": "tangent", "noise": 0.0},
    "low rank": {"hypernetwork": "low-rank"},
    "one perceptron": {"hypernetwork": "mlp", "hidden": "shared", "rest": "generated"},
    "perceptrons": {"hypernetwork": "mlp", "hidden": "per_convolution", "antithetic": True},
    "chunked": {"hypernetwork": "chunked"},
    "graph": {"hypernetwork": "graph", "hidden_size": 4},
    "global": {"hypernetwork_input": "softmax", "global_epochs": 1},
}
EVERY = [pytest.param(space, name, marks=pytest.mark.soak) for space in (DARTS, NASBENCH201) for name in SEARCHES]
QUICK = [(SMALL, name) for name in SEARCHES] + [(NASBENCH201, "linear"), (NASBENCH201, "second order")]


class Half(Supernet):
    """A supernet in bfloat16, as under autocast, which `meta` does not have."""

    def __call__(self, images: torch.Tensor, w: torch.Tensor, alpha: torch.Tensor) -> torch.Tensor:
        return super().__call__(images.bfloat16(), w.bfloat16(), alpha.bfloat16())


def watched(kind: type[Supernet], space: SearchSpace, name: str, monkeypatch: pytest.MonkeyPatch) -> HostWatch:
    """Take a step of each phase, as it is captured as a CUDA graph."""
    monkeypatch.setattr("hdarts.search.weights.autocast", lambda *_: contextlib.nullcontext())  # `meta` has none
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    changes = {"space": space.name if space is NASBENCH201 else "darts", **SEARCHES[name]}
    params: Any = small_runs.params({**small_runs.SEARCH, **({"noise": 0.0} if "method" in changes else {}), **changes})
    supernet = kind(space, channels=2, layers=1 if space is NASBENCH201 else 3, classes=10)
    state = State.fresh(params, supernet, None, DEVICE)
    monkeypatch.setattr(state.optimiser, "step", lambda: None)  # capturable on GPUs only
    phase = steps.phases(params, Classification(supernet), state)
    batch = (torch.zeros(4, 3, 8, 8, device=DEVICE), torch.zeros(4, dtype=torch.int64, device=DEVICE))
    noise = torch.zeros_like(state.alpha)
    with HostWatch() as watch:
        hypergradient = phase.hypergradient.function(batch, batch)
        phase.alpha_step.function(hypergradient.total)
        for weight_step in (phase.weight_step, phase.loss):
            state.count(weight_step.function(batch, state.alpha, noise), len(batch[1]))
    return watch


@pytest.mark.parametrize(("space", "name"), QUICK + EVERY, ids=lambda value: getattr(value, "name", value))
def test_no_step_of_a_search_waits_for_the_device(
    space: SearchSpace, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = watched(Supernet, space, name, monkeypatch)
    assert not watch.copies and not watch.reads


@pytest.mark.parametrize("space", [SMALL, NASBENCH201], ids=lambda space: space.name)
def test_no_step_in_bfloat16_waits_for_the_device(space: SearchSpace, monkeypatch: pytest.MonkeyPatch) -> None:
    watch = watched(Half, space, "first order", monkeypatch)
    assert not watch.copies and not watch.reads


@pytest.mark.parametrize("name", ["second order", "nystrom", "linear"])
def test_a_device_without_float64_is_not_asked_for_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if name == "linear":
        assert watched(Supernet, SMALL, name, monkeypatch).doubles, "sums are float64 where they can be"
    monkeypatch.setattr("hdarts.runs.device.WITHOUT_FLOAT64", {"meta"})
    assert not watched(Supernet, SMALL, name, monkeypatch).doubles


@pytest.mark.parametrize(
    ("changes", "copies"),
    [({"method": "darts-first", "noise": 0.0}, 0), ({"noise": 0.1}, 1), ({"noise": 0.1, "global_epochs": 1}, 2)],
)
def test_the_batches_of_an_epoch_and_the_noise_of_a_step_are_copied(changes: dict[str, Any], copies: int) -> None:
    """The order and augmentation of all images at once; in each step the noise and a random alpha, if there are any."""
    params: Any = small_runs.params({**small_runs.SEARCH, "crop_padding": 2, "flip": True, "cutout": 4, **changes})
    data = load_splits(params, torch.device("cpu")).to(DEVICE)
    state = State.fresh(params, Supernet(DARTS, 2, 3, 10), None, DEVICE)
    with HostWatch() as watch:
        assert len(list(batches(params, data)[0].epoch(0, "inner", 0))) == 5
    assert len(watch.copies) == 2 and not watch.reads
    with HostWatch() as watch:
        steps.training_alpha(params, state)
    assert len(watch.copies) == copies and not watch.reads


def test_copies_and_reads_are_found() -> None:
    """Also those that leave no trace on `meta`: an index as a list, a tensor of numbers from Python."""
    x = torch.zeros(3, device=DEVICE)
    with HostWatch() as watch:
        _ = x[[0, 1]], x.new_tensor([1.0]), torch.tensor(1.0, device=DEVICE)
        _ = torch.zeros(()).to(DEVICE), x + torch.zeros(()), x.index_select(0, torch.zeros(1, dtype=torch.int64))
    assert (len(watch.copies), len(watch.reads)) == (6, 0)
    with HostWatch() as watch:
        assert float(x.sum()) == 1 and bool(x.isfinite().all()) and x[0].item() == 1
    assert (len(watch.copies), len(watch.reads)) == (0, 3)
    for call in (lambda: x[x > 0], lambda: x.nonzero(), lambda: x.unique(), lambda: x.masked_select(x > 0)):
        with HostWatch() as watch, contextlib.suppress(RuntimeError):
            call()
        assert watch.reads
