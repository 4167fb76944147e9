"""CUDA graphs, with the calls of torch.cuda replaced: which calls are captured, replayed, or made as they are."""

import contextlib
from types import SimpleNamespace

import pytest
import torch

from hdarts.runs import cuda_graph
from hdarts.runs.cuda_graph import WARM_UP, CudaGraph


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Pretend that tensors are on a GPU; return the list of what happens there."""
    events: list[str] = []
    stream = SimpleNamespace(wait_stream=lambda _: None)

    @contextlib.contextmanager
    def capture(_):
        events.append("capture")
        yield

    monkeypatch.setattr(cuda_graph, "host_may_read", lambda _: False)
    for name, fake in {
        "Stream": lambda: stream,
        "current_stream": lambda: stream,
        "stream": lambda _: contextlib.nullcontext(),
        "graph": capture,
        "CUDAGraph": lambda: SimpleNamespace(replay=lambda: events.append("replay")),
    }.items():
        monkeypatch.setattr(torch.cuda, name, fake)
    return events


def batch(images: int, value: float = 0.0) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.full((images, 2), value), torch.zeros(images)


def test_the_shape_of_most_steps_is_captured_once_and_others_are_called(log: list[str]) -> None:
    """As in epochs of three whole batches and a short one; a resumed search may begin with the short one."""
    graph = CudaGraph(lambda batch, alpha: log.append(f"call {len(batch[0])}"))
    alpha = torch.zeros(1)
    for images in (3, *[8, 8, 8, 3] * 3):
        graph(batch(images), alpha)
    first, second, third = ["call 3", *["call 8"] * WARM_UP], ["call 3", "capture", "call 8"], ["replay"] * 3
    assert log == [*first, *second, *third, "call 3", *third, "call 3"]


def test_a_replay_reads_the_arguments_of_its_call(log: list[str]) -> None:
    graph = CudaGraph(lambda batch: batch[0].sum())
    for value in range(WARM_UP + 3):
        graph(batch(4, value))
    (x, _), *_ = graph.inputs
    assert float(x[0, 0]) == WARM_UP + 2 and log.count("capture") == 1


def test_a_function_that_cannot_be_captured_is_called(log: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    def function(batch):
        if log[-1:] == ["capture"]:
            log.append("error")
            raise RuntimeError("operation not permitted\n when stream is capturing")
        log.append("call")

    graph = CudaGraph(function)
    for _ in range(WARM_UP + 3):
        graph(batch(4))
    assert log == ["call"] * WARM_UP + ["capture", "error"] + ["call"] * 3
    assert capsys.readouterr().err.count("operation not permitted when stream is capturing") == 1
