"""The processes of runs: forks of a server, or new interpreters."""

import json
import multiprocessing
import os
import subprocess
import sys
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import psutil
import pytest
from helpers.faults import wait_until
from helpers.small_project import plan_study, write_project

from hdarts.workbook.study import PlannedRun, process
from hdarts.workbook.study.runner import run_one

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="runs are forks only on Linux")
SHOW = """
import sys
import matplotlib.pyplot as plt
plt.plot([0, 1])
plt.show()
print("kernel", os.getppid(), "torch" in sys.modules, int(os.environ["OMP_NUM_THREADS"]), flush=True)
"""


def first_run(root: Path, monkeypatch: pytest.MonkeyPatch, code: str) -> PlannedRun:
    monkeypatch.setenv("HDARTS_RUNS", str(root / "runs"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return plan_study(write_project(root, toy=code)).runs[0]


@LINUX
def test_what_is_imported_before_a_fork_starts_no_thread_and_no_gpu() -> None:
    code = f"""
import importlib, pathlib, torch
for name in {process.PRELOADED}:
    importlib.import_module(name)
names = [file.read_text().strip() for file in pathlib.Path("/proc/self/task").glob("*/comm")]
print(len(names) - names.count("jemalloc_bg_thd"), torch.cuda.is_initialized())  # jemalloc, of pyarrow, allows forks
"""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    out = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert out.stdout.split() == ["1", "False"]


class Broken:
    """A way to start processes that fails, as the fork server does when memory is short."""

    class Process:
        def __init__(self, **_: Any) -> None: ...

        def start(self) -> None:
            raise EOFError("unexpected EOF")


@LINUX
def test_a_run_is_a_fork_and_without_a_fork_server_a_new_interpreter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = first_run(tmp_path, monkeypatch, SHOW)
    forkserver._forkserver._stop()  # type: ignore[attr-defined]  # one of another test may have imported less
    logs = []
    for ways in (process.contexts(), [Broken, *process.contexts()[1:]]):
        monkeypatch.setattr(process, "_contexts", ways)
        assert run_one(run, tmp_path, threads=1).state == "done"
        (run.folder / "result.json").unlink()
        cells = json.loads((run.folder / "notebook.ipynb").read_text())["cells"]
        shown = [output.get("data", {}) for cell in cells for output in cell.get("outputs", [])]
        assert any("image/png" in data for data in shown), "pyplot shows its figures in the notebook"
        lines = (run.folder / "log.txt").read_text().splitlines()  # the last may be of a kernel that is being ended
        logs.append(next(line.split() for line in lines if line.startswith("kernel ")))
        (run.folder / "log.txt").unlink()
    (_, parent, *forked), (_, other, *new) = logs
    assert parent != other and forked == ["True", "1"] and new == ["False", "1"]
    assert capsys.readouterr().err.count("runs start slowly") == 1
    assert multiprocessing.active_children() == []


@LINUX
def test_a_run_ends_with_its_fork_server_and_the_next_one_gets_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = first_run(tmp_path, monkeypatch, "time.sleep(60) if not (folder / 'again').exists() else None")
    killed: list[psutil.Process] = []

    def kill_the_server() -> bool:
        server = psutil.Process(forkserver._forkserver._forkserver_pid)  # type: ignore[attr-defined]
        if len(below := server.children(recursive=True)) == 2:  # the run's process and its kernel
            killed.extend(below)
            server.kill()
        return False

    outcome = run_one(run, tmp_path, threads=1, stop=kill_the_server)
    assert outcome.state == "failed" and killed
    wait_until(lambda: not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in killed))
    (run.folder / "again").touch()
    assert run_one(run, tmp_path, threads=1).state == "done"
