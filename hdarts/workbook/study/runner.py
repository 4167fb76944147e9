"""Executing a study: every run in a process of its own, as soon as the runs it needs are done.

What is done is never touched, what fails keeps its notebook with the error, what needs a failed run is blocked, and
everything else goes on. Asked to stop, the runs under way save and end.

The state of a run is read from its folder, so any process on any host sees the same.
"""

import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from graphlib import TopologicalSorter
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Literal

import psutil

from hdarts.errors import EXIT_CODES, CannotWrite, Stopped, of_the_disk
from hdarts.runs.paths import runs_folder
from hdarts.runs.run import read_result
from hdarts.workbook.study import Plan, PlannedRun

PAGE = "notebook.html"  # written after the notebook has ended
GRACE = 60  # seconds for the step that is under way when a run is asked to stop


@dataclass(frozen=True)
class Outcome:
    """The state of a run, the seconds its notebook took, the first line of its error, and the exit code it asks for."""

    state: Literal["done", "failed", "stopped", "blocked", "unfinished", "waiting"]
    seconds: float | None = None
    error: str = ""
    code: int = 1  # of `hdarts run`, where the run is not done


def cores() -> int:
    """Return the number of processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def outcome_of(folder: Path) -> Outcome:
    """Return the state of a run as its folder tells it.

    Its notebook has come to its end when it is shown as a page (papermill says so of one whose kernel died, too): a run
    that is killed after its result still lacks figures, and is executed once more.
    """
    try:
        notebook = json.loads((folder / "notebook.ipynb").read_text(encoding="utf-8"))
        told = notebook["metadata"]["papermill"]
    except (OSError, ValueError, KeyError):
        notebook, told = None, {}
    seconds = told.get("duration")
    if notebook is None:
        return Outcome("unfinished" if folder.is_dir() else "waiting")
    if told.get("exception"):
        return _failure(notebook, seconds)
    if not told.get("end_time") or not (folder / PAGE).is_file():
        return Outcome("unfinished")
    if read_result(folder) is None:
        return Outcome("failed", seconds, "the notebook ended but wrote no result")
    return Outcome("done", seconds)


def _failure(notebook: Mapping[str, Any], seconds: float | None) -> Outcome:
    """What the first error in a notebook says; our own errors are sentences that need not be called by their names."""
    outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", [])]
    error = next((output for output in outputs if output.get("output_type") == "error"), None)
    if error is None:
        return Outcome("failed", seconds, "the notebook failed without a message")
    name, told = error["ename"], (error.get("evalue", "").strip().splitlines() or [""])[0]
    if name in ("Stopped", "KeyboardInterrupt"):
        return Outcome("stopped", seconds, told, Stopped.exit_code)
    own = name in EXIT_CODES or name == "ParameterError"
    return Outcome("failed", seconds, told if own else f"{name}: {told}", EXIT_CODES.get(name, 1))


def run_one(
    run: PlannedRun, root: Path, threads: int, timeout: float | None = None, stop: Callable[[], bool] | None = None
) -> Outcome:
    """Execute one run in a process of its own and return how it ended; the log goes to `log.txt` in its folder.

    After `timeout` minutes it is asked to save and end, and `GRACE` seconds later made to. It is asked as well as soon
    as `stop()`, looked at every second, is true.
    """
    count = os.environ.get("OMP_NUM_THREADS", str(threads))  # who says how many is heard by all libraries
    counts = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), count)
    ours = {
        "HDARTS_RUNS": str(runs_folder()),
        "HDARTS_PROGRESS": "log",
        "JUPYTER_PREFER_ENV_PATH": "1",  # the kernel of this environment, not a namesake in the home folder
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    }
    task = {
        "notebook": str(run.notebook),
        "folder": str(run.folder),
        "cwd": str(root),
        "parameters": run.params.model_dump(),
    }
    run.folder.mkdir(parents=True, exist_ok=True)
    for name in ("notebook.ipynb", PAGE):
        (run.folder / name).unlink(missing_ok=True)  # an earlier error or end is no longer the state of this run
    with (
        (run.folder / "log.txt").open("ab") as log,
        subprocess.Popen(
            [sys.executable, "-m", "hdarts.workbook.study.run_notebook"],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            env={**counts, **os.environ, **ours},
            start_new_session=True,  # Ctrl-C reaches `hdarts run` alone, which passes it on itself
        ) as process,
    ):
        assert process.stdin is not None
        process.stdin.write(json.dumps(task).encode() + b"\n")
        process.stdin.flush()
        late = _wait(process, timeout, stop)
    outcome, code = outcome_of(run.folder), process.returncode
    if outcome.state == "done":
        return outcome
    if late:
        return Outcome("failed", None, f"ran longer than the study's timeout of {timeout:g} minutes and was stopped")
    if code == 0 or code == outcome.code != 1:
        return outcome
    return _unexplained(run, code)


def _wait(process: subprocess.Popen, timeout: float | None, stop: Callable[[], bool] | None) -> bool:
    """Wait for the end of a process, and see to it after `timeout` minutes; return whether that was needed."""
    ends = math.inf if timeout is None else time.monotonic() + 60 * timeout
    while (left := ends - time.monotonic()) > 0:
        try:
            process.wait(min(left, 1) if stop else None if left == math.inf else left)
            return False
        except subprocess.TimeoutExpired:
            if stop and stop():
                process.terminate()
                stop = None  # asked twice, it would end at once
    process.terminate()
    try:
        process.wait(GRACE)
    except subprocess.TimeoutExpired:
        process.terminate()
    return True


def _unexplained(run: PlannedRun, code: int) -> Outcome:
    """How a run ended whose notebook does not tell it."""
    if code == Stopped.exit_code:
        return Outcome("stopped", None, "stopped before it had anything to save", code)
    if code == CannotWrite.exit_code:
        return Outcome("failed", None, f"{run.folder} cannot be written: the disk is full or read-only", code)
    if code < 0:
        return Outcome("failed", None, f"its process was killed by signal {-code}")
    lines = (run.folder / "log.txt").read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return Outcome("failed", None, lines[-1] if lines else f"its process ended with code {code}")


def run_all(
    runs: Sequence[PlannedRun],
    executor: Executor,
    execute_one: Callable[[PlannedRun], Outcome],
    stop: Callable[[], None],
) -> Generator[tuple[PlannedRun, Outcome], None, None]:
    """Yield every run with its outcome, as runs end; `stop` ends those under way when the caller gives up (Ctrl-C)."""
    named = {run.name: run for run in runs}
    graph = TopologicalSorter({run.name: run.needs for run in runs})
    graph.prepare()
    ended: dict[str, Outcome] = {}
    futures: dict[Future[Outcome], str] = {}
    ends: SimpleQueue[Future[Outcome]] = SimpleQueue()
    try:
        while graph.is_active():
            settled: dict[str, Outcome] = {}
            for name in sorted(graph.get_ready(), key=lambda name: -length(named[name])):
                missing = [need for need in named[name].needs if ended[need].state != "done"]
                if (seen := outcome_of(named[name].folder)).state == "done":
                    settled[name] = seen
                elif missing:
                    settled[name] = Outcome("blocked", None, f"needs {missing[0]}")
                else:
                    futures[future := executor.submit(execute_one, named[name])] = name
                    future.add_done_callback(ends.put)  # waiting for all of them anew would be quadratic
            if not settled:
                future = ends.get()
                settled[futures.pop(future)] = _outcome(future)
            for name, outcome in settled.items():
                ended[name] = outcome
                graph.done(name)
                yield named[name], outcome
    finally:
        for future in futures:
            future.cancel()
        while wait(futures, timeout=0.2).not_done:
            stop()


def length(run: PlannedRun) -> float:
    """Return by what runs are compared that could start, the longest first: images seen, times the network's size."""
    usual = {"epochs": 1, "limit": 50_000, "layers": 1, "channels": 1}
    return math.prod(float(getattr(run.params, name, 0) or amount) for name, amount in usual.items())


def _outcome(future: Future[Outcome]) -> Outcome:
    """A run that could not even be started (no space, no process) fails like any other; the rest goes on."""
    if (error := future.exception()) is None:
        return future.result()
    code = CannotWrite.exit_code if of_the_disk(error) else 1
    return Outcome("failed", None, f"{type(error).__name__}: {error}".splitlines()[0], code)


def run_locally(plan: Plan, jobs: int) -> Generator[tuple[PlannedRun, Outcome], None, None]:
    """Yield every run of a study with its outcome, `jobs` of them at a time, the cores shared out among them."""
    with ThreadPoolExecutor(jobs) as executor:
        threads = max(1, cores() // jobs)
        work = partial(run_one, root=plan.root, threads=threads, timeout=plan.study.timeout)
        yield from run_all(plan.runs, executor, work, partial(_stop_children, set()))


def _stop_children(told: set[int]) -> None:
    """Ask each process under way once to save and end: asked twice, it would end at once."""
    for child in psutil.Process().children():
        if child.pid not in told:
            told.add(child.pid)
            child.terminate()
