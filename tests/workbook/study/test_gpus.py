"""Runs and the GPUs of a host, of which none exists here: their number is replaced."""

import threading
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from hdarts.errors import ParameterError
from hdarts.workbook.study import runner
from hdarts.workbook.study.gpus import gpu_count


def run(folder: Path, name: str, device: str | None) -> Any:
    params = SimpleNamespace() if device is None else SimpleNamespace(device=device)
    return SimpleNamespace(name=name, stage="search", params=params, folder=folder / name, needs=())


def executed(
    tmp_path: Path, patch: pytest.MonkeyPatch, gpus: int, devices: list[str | None], **options: int
) -> tuple[dict[str, str], Counter[str], int]:
    """Return the GPU that each run saw, the most runs at a time on each, and the most at a time in all."""
    seen: dict[str, str] = {}
    now, most, lock, at_once = Counter[str](), Counter[str](), threading.Lock(), 0

    def run_one(run: Any, root: Any, threads: int, variables: dict[str, str], **_: Any) -> runner.Outcome:
        nonlocal at_once
        named = run.params.device[5:] if ":" in getattr(run.params, "device", "") else ""
        place = named or variables.get("CUDA_VISIBLE_DEVICES", "cpu")
        with lock:
            seen[run.name] = place
            now[place] += 1
            most[place], at_once = max(most[place], now[place]), max(at_once, now.total())
        time.sleep(0.02)
        with lock:
            now[place] -= 1
        return runner.Outcome("done")

    patch.setattr(torch.cuda, "device_count", lambda: gpus)
    patch.setattr(runner, "run_one", run_one)
    runs = [run(tmp_path, str(number), device) for number, device in enumerate(devices)]
    plan: Any = SimpleNamespace(runs=runs, root=tmp_path, study=SimpleNamespace(timeout=None, start_timeout=60))
    assert len(list(runner.run_locally(plan, 6, **options))) == len(runs)
    return seen, most, at_once


def test_each_gpu_has_one_run_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    seen, most, _ = executed(tmp_path, monkeypatch, 2, [*["auto", "cuda"] * 5, "cuda:1", "cuda:1", "cpu", None])
    assert most["0"] == most["1"] == 1 and set(seen.values()) == {"0", "1", "cpu"}
    assert (seen["10"], seen["11"], seen["12"], seen["13"]) == ("1", "1", "cpu", "cpu")


def test_more_per_gpu_are_run_if_that_is_wanted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")  # two of this host's are for this user
    seen, most, at_once = executed(tmp_path, monkeypatch, 2, ["auto"] * 12, per_gpu=3)
    assert set(seen.values()) == {"4", "7"} and max(most.values()) == 3 and at_once == 6


def test_without_a_gpu_all_cores_are_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen, _, at_once = executed(tmp_path, monkeypatch, 0, ["auto"] * 12)
    assert set(seen.values()) == {"cpu"} and at_once > 1


def test_cuda_is_not_started_and_runs_on_the_cpu_need_no_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: pytest.fail("not needed"))
    assert gpu_count([run(tmp_path, "one", "cpu"), run(tmp_path, "two", None)]) == 0
    monkeypatch.undo()
    assert gpu_count([run(tmp_path, "one", "auto")]) == torch.cuda.device_count()
    assert not torch.cuda.is_initialized()


def test_a_gpu_that_is_not_here_is_refused_unless_the_run_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ParameterError, match=r"^run one: parameter `device` = 'cuda:2': PyTorch finds 2 GPUs here$"):
        gpu_count([run(tmp_path, "one", "cuda:2")])
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "result.json").write_text("{}")
    assert gpu_count([run(tmp_path, "one", "cuda:2")]) == 0
