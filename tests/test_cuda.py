"""Searches and trainings on a GPU: the numbers of the CPU, captured graphs, resuming. Never run yet: none was at hand.

`pytest -m cuda` runs them alone.
"""

import signal
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from helpers import small_runs
from torch import Tensor

from hdarts.errors import Stopped
from hdarts.params import SearchParams, identity
from hdarts.runs import checkpoint, cuda_graph
from hdarts.runs.run import Run
from hdarts.search import search, steps
from hdarts.space import SPACES
from hdarts.supernet import Supernet

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch finds no GPU on this machine"),
]
METHODS: dict[str, dict[str, Any]] = {
    "first order": {"method": "darts-first", "noise": 0.0},
    "second order": {"method": "darts-second", "noise": 0.0},
    "unrolled": {"method": "unrolled", "steps": 2, "noise": 0.0},
    "neumann": {"method": "neumann", "terms": 2, "noise": 0.0},
    "conjugate gradient": {"method": "conjugate-gradient", "iterations": 2, "damping": 1.0, "noise": 0.0},
    "nystrom": {"method": "nystrom", "rank": 2, "damping": 1.0, "noise": 0.0},
    "sama": {"method": "sama", "noise": 0.0},
    "amortised adjoint": {"method": "amortised-adjoint", "noise": 0.0},
    "shared weights": {"method": "shared-weights", "candidates": 2, "noise": 0.0},
    "linear": {"hypernetwork": "linear", "antithetic": True, "centred": True},
    "low rank": {"hypernetwork": "low-rank"},
    "perceptrons": {"hypernetwork": "mlp", "hidden": "per_convolution"},
    "chunked": {"hypernetwork": "chunked"},
    "graph": {"hypernetwork": "graph"},
    "global": {"hypernetwork_input": "softmax", "global_epochs": 1},
}
STEPS = 6  # of an epoch; from the fourth on, each phase is a replay


class Double(Supernet):
    """A supernet in float64, in which the whole search is then computed."""

    def initial_w(self, generator: torch.Generator) -> Tensor:
        return super().initial_w(generator).double()

    def __call__(self, images: Tensor, w: Tensor, alpha: Tensor) -> Tensor:
        return super().__call__(images.double(), w, alpha)


def opened(name: str, device: str, space: str, **changes: Any) -> tuple[SearchParams, Run]:
    layers = 3 if space == "darts" else 1
    common = {"run": name, "device": device, "space": space, "layers": layers, "epochs": 2, "limit": 2 * 16 * STEPS}
    params = small_runs.params({**small_runs.SEARCH, **common, **changes})
    assert isinstance(params, SearchParams)
    return params, Run.open(params)


def searched(name: str, device: str, space: str, **changes: Any) -> dict[str, Tensor]:
    """Search, and return alpha and the weights at the end."""
    params, run = opened(name, device, space, **changes)
    list(search(params, run, supernet=Double(SPACES[space], 2, params.layers, 10)))
    return state_of(params, run)


def state_of(params: SearchParams, run: Run) -> dict[str, Tensor]:
    saved = checkpoint.load(run.folder, identity(params))
    assert saved is not None and run.done
    return {name: one.cpu() for name, one in {"alpha": saved["alpha"], **saved["weights"]}.items()}


def near(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-8, atol=1e-9, msg=lambda text, n=name: f"{n}: {text}")


@pytest.fixture(autouse=True)
def runs(tmp_path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("HDARTS_RUNS", str(tmp_path))
    deterministic = torch.are_deterministic_algorithms_enabled()
    yield
    torch.use_deterministic_algorithms(deterministic)


@pytest.mark.filterwarnings("ignore::hdarts.hypergradient.HypergradientWarning")  # negative curvature
@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("changes", METHODS.values(), ids=METHODS)
def test_a_captured_search_has_the_numbers_of_the_cpu_and_of_calls(
    changes: dict[str, Any], space: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    graphs: list[cuda_graph.CudaGraph] = []

    class Recorded(cuda_graph.CudaGraph):
        def __init__(self, function: Any):
            super().__init__(function)
            graphs.append(self)

    monkeypatch.setattr(steps, "CudaGraph", Recorded)
    found = searched("captured", "cuda", space, **changes)
    used = [graph for graph in graphs if graph.calls]
    assert used and all(graph.graph is not None for graph in used if max(graph.calls.values()) > cuda_graph.WARM_UP)
    assert "cannot be captured" not in capsys.readouterr().err
    monkeypatch.setattr(cuda_graph, "WARM_UP", 10**9)
    near(found, searched("called", "cuda", space, **changes))
    near(found, searched("cpu", "cpu", space, **changes))


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_search_that_was_stopped_goes_on_to_the_same_end(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bit for bit on the same device; one begun on the CPU ends nearby."""
    changes: dict[str, Any] = {"hypernetwork": "mlp", "deterministic": True}
    whole = searched("whole", "cuda", "nasbench201", **changes)
    params, run = opened("stopped", device, "nasbench201", **changes)
    supernet = Double(SPACES["nasbench201"], 2, 1, 10)
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        small_runs.signal_at(patch, 2, 3, signal.SIGTERM)
        list(search(params, run, supernet=supernet))
    found = searched("stopped", "cuda", "nasbench201", **changes)
    if device == "cuda":
        assert all(torch.equal(found[name], value) for name, value in whole.items())
    near(found, whole)


@pytest.mark.parametrize("space", SPACES)
def test_a_search_in_bfloat16_ends(space: str) -> None:
    params, run = opened("bfloat16", "cuda", space, precision="bfloat16")
    rows = list(search(params, run))
    assert run.done and all(torch.isfinite(torch.tensor(row["train_loss"])) for row in rows)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_training_has_the_losses_of_the_cpu(precision: str) -> None:
    rows = {}
    for device in ("cpu", "cuda"):
        changes = {"run": device, "device": device, "precision": precision, "auxiliary": 0.4, "drop_path": 0.2}
        genotype = {"genotype": "params/genotypes/darts-v2.json"}
        rows[device] = list(small_runs.computed({**small_runs.EVALUATION, **genotype, **changes}))
    for one, other in zip(rows["cuda"], rows["cpu"], strict=True):
        assert one["train_loss"] == pytest.approx(other["train_loss"], rel=1e-2 if precision == "float32" else 0.1)
