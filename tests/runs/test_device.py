"""The device of a run: the current one from then on; one that is missing or full is named in a sentence."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from hdarts.errors import OutOfMemory, ParameterError
from hdarts.runs.device import to_device, use_machine
from hdarts.runs.memory import explaining_full_memory

FULL = "CUDA error: out of memory\nCompile with TORCH_USE_CUDA_DSA"


def machine(device: str) -> Any:
    return SimpleNamespace(device=device, threads=0, deterministic=False)


def test_the_device_of_a_run_is_the_current_one(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.setattr(torch, "empty", lambda _, device: SimpleNamespace(device=torch.device(device)))
    assert use_machine(machine("cuda:1")) == torch.device("cuda", 1) and chosen == [torch.device("cuda", 1)]
    assert use_machine(machine("cpu")) == torch.device("cpu") and len(chosen) == 1


@pytest.mark.parametrize(
    ("fault", "error", "message"),
    [
        (RuntimeError("invalid device ordinal"), ParameterError, "cannot be used on this machine, where .* 3 GPUs"),
        (AssertionError("not compiled"), ParameterError, "cannot be used on this machine, where .* 3 GPUs"),
        (torch.OutOfMemoryError(FULL), OutOfMemory, "other processes use all memory of the GPU"),
        (torch.AcceleratorError(FULL), OutOfMemory, "other processes use all memory of the GPU"),
    ],
)
def test_a_missing_and_a_full_gpu_are_named(
    fault: Exception, error: type, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def empty(_: int, device: str) -> None:
        raise fault

    monkeypatch.setattr(torch, "empty", empty)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    with pytest.raises(error, match=f"^parameter `device` = 'cuda:1': {message}$"):
        use_machine(machine("cuda:1"))


def test_full_memory_outside_of_a_step_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (3 << 20, 80 << 30))
    said = r"outside of a step \(3 of 81920 MiB of the GPU are free\): "
    with pytest.raises(OutOfMemory, match=said), explaining_full_memory():
        raise torch.OutOfMemoryError(FULL)
    for error in (OutOfMemory("batch_size 2 fits"), ValueError("another")):
        with pytest.raises(type(error), match=str(error)), explaining_full_memory():
            raise error


@pytest.mark.parametrize(("asked", "used", "said"), [(999, 2, "threads 999: 2 are used"), (2, 2, ""), (1, 1, "")])
def test_threads_are_at_most_the_cores(asked, used, said, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    """A study of a large machine runs on a small one."""
    counts: list[int] = []
    monkeypatch.setattr("hdarts.runs.device.cores", lambda: 2)
    monkeypatch.setattr(torch, "set_num_threads", counts.append)
    use_machine(SimpleNamespace(device="cpu", threads=asked, deterministic=False))  # type: ignore[arg-type]
    assert counts == [used]
    assert capsys.readouterr().err == (f"notice: {said}, the cores of this process\n" if said else "")


def test_parts_with_tensors_are_moved() -> None:
    device = torch.device("meta")
    assert to_device(torch.zeros(2), device).device == device
    assert to_device(torch.nn.Linear(2, 2), device).weight.device == device
    assert to_device(None, device) is None and to_device("linear", device) == "linear"
