"""Execute a study: each run in a separate process, as soon as the runs it needs are done.

Finished runs are never touched, failed ones keep their notebook with the error, those that need a failed run are
blocked, and everything else continues. On a request to stop, the active runs save and exit.

The state of a run is read from its folder, so every process on every host sees the same.
"""

import json
import math
import os
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Executor, Future, wait
from dataclasses import dataclass, replace
from graphlib import TopologicalSorter
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Literal

from hdarts.errors import EXIT_CODES, CannotWrite, Stopped, of_the_disk
from hdarts.params import notebook_defaults
from hdarts.runs.limits import cores
from hdarts.runs.paths import runs_folder
from hdarts.runs.run import Run, read_result
from hdarts.workbook.study import Plan, PlannedRun
from hdarts.workbook.study.gpus import Gpus, Slots, device_of, gpu_count
from hdarts.workbook.study.process import ended, start, stop_all
from hdarts.workbook.study.run_notebook import Task, run_notebook

GRACE = 60  # seconds for a stopped run to finish its step and save


@dataclass(frozen=True)
class Outcome:
    """The state of a run, the seconds its notebook took, the first line of its error, and its exit code."""

    state: Literal["done", "partial", "failed", "stopped", "blocked", "unfinished", "waiting"]
    seconds: float | None = None
    error: str = ""
    code: int = 1  # of `hdarts run`, unless the run is done


def outcome_of(folder: Path) -> Outcome:
    """Return the outcome of a run from its folder: it is done if and only if its result can be read.

    Papermill also notes an end in a notebook whose kernel died, which then gets no page: such a run is unfinished.
    """
    try:
        notebook = json.loads((folder / "notebook.ipynb").read_text(encoding="utf-8"))
        papermill = notebook["metadata"]["papermill"]
    except (OSError, ValueError, LookupError, TypeError):
        notebook, papermill = {}, {}
    seconds = papermill.get("duration")
    if read_result(folder) is not None:
        return Outcome("done", seconds)
    if partial := read_result(folder, "partial.json"):
        return Outcome("partial", seconds, f"without {_listed(partial['without'])}; made again when all are done")
    if papermill.get("exception"):
        return _failure(notebook, seconds)
    if papermill.get("end_time") and (folder / "notebook.html").is_file():
        return Outcome("failed", seconds, "the notebook ended but wrote no result")
    return Outcome("unfinished" if folder.is_dir() else "waiting")


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more runs" if len(names) > 3 else ""
    return f"{', '.join(names[:3])}{more}"


def _failure(notebook: Mapping[str, Any], seconds: float | None) -> Outcome:
    """Return the first error of a notebook; the messages of hdarts' own errors need no class name."""
    outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", [])]
    error = next((output for output in outputs if output.get("output_type") == "error"), None)
    if error is None:
        return Outcome("failed", seconds, "the notebook failed without a message")
    name, message = error["ename"], (error.get("evalue", "").strip().splitlines() or [""])[0]
    if name in ("Stopped", "KeyboardInterrupt"):
        # `hdarts run` passes every request on as SIGTERM, and has said which one it received
        return Outcome("stopped", seconds, message.replace(" by SIGTERM", ""), Stopped.exit_code)
    if name not in EXIT_CODES and name != "ParameterError":
        message = f"{name}: {message}"
    return Outcome("failed", seconds, message, EXIT_CODES.get(name, 1))


def run_one(
    run: PlannedRun,
    root: Path,
    threads: int,
    timeout: float | None = None,
    stop: Callable[[], bool] | None = None,
    variables: Mapping[str, str] | None = None,
    start_timeout: int = 60,
) -> Outcome:
    """Execute one run in a separate process and return its outcome; its output goes to `log.txt` in its folder.

    The process is signalled to save and exit after `timeout` minutes, or once `stop()`, polled every second, is true;
    it is killed `GRACE` seconds after the timeout. `variables` are added to its environment; its kernel may take
    `start_timeout` seconds to start.
    """
    count = os.environ.get("OMP_NUM_THREADS", str(threads))  # a user's setting applies to all libraries
    defaults = {
        **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), count),
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",  # a forked kernel would set it too late
    }
    fixed = {
        "HDARTS_RUNS": str(runs_folder()),
        "HDARTS_PROGRESS": "log",
        "JUPYTER_PREFER_ENV_PATH": "1",  # the kernel of this environment, not one of the same name in the home folder
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    }
    opened = Run.open(run.params)  # refuses a folder of other parameters
    opened.record()
    folder = opened.folder
    for name in ("notebook.ipynb", "notebook.html", "partial.json"):
        (folder / name).unlink(missing_ok=True)  # the state of an earlier start
    task = Task(str(run.notebook), str(folder), str(root), _changed_parameters(run), start_timeout)
    more = {"HDARTS_MISSING": " ".join(run.missing), **(variables or {})}
    process = start(run_notebook, task, {**defaults, **os.environ, **fixed, **more})
    timed_out = _wait(process, timeout, stop)
    outcome, code = outcome_of(folder), process.exitcode
    if outcome.state == "done":
        return outcome
    if timed_out:
        return Outcome("failed", None, f"ran longer than the study's timeout of {timeout:g} minutes and was stopped")
    if code == 0 or code == outcome.code != 1:
        return outcome
    return _unexplained(run, code)


def _changed_parameters(run: PlannedRun) -> dict[str, Any]:
    """Return the parameters that differ from the notebook's defaults; its page then shows only these."""
    fields = type(run.params).model_fields
    optional = {name: field.default for name, field in fields.items() if not field.is_required()}
    defaults = optional | notebook_defaults(run.notebook)
    return {name: v for name, v in run.params.model_dump().items() if name not in defaults or v != defaults[name]}


def _wait(process: Any, timeout: float | None, stop: Callable[[], bool] | None) -> bool:
    """Wait until a process ends, and end it after `timeout` minutes; return whether that was necessary."""
    ends = math.inf if timeout is None else time.monotonic() + 60 * timeout
    while (left := ends - time.monotonic()) > 0:
        if ended(process, min(left, 1) if stop else None if left == math.inf else left):
            return False
        if stop and stop():
            process.terminate()
            stop = None  # a second signal would end it at once
    process.terminate()
    if not ended(process, GRACE):
        process.terminate()
        ended(process, None)
    return True


def _unexplained(run: PlannedRun, code: int) -> Outcome:
    """Return the outcome, from exit code or log, of a run whose notebook does not explain how it ended."""
    if code == Stopped.exit_code:
        return Outcome("stopped", None, "stopped before it had anything to save", code)
    if code == CannotWrite.exit_code:
        return Outcome("failed", None, f"{run.folder} cannot be written: the disk is full or read-only", code)
    if code < 0:
        return Outcome("failed", None, f"its process was killed by signal {-code}")
    log = run.folder / "log.txt"
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() if log.is_file() else []
    return Outcome("failed", None, lines[-1] if lines else f"its process ended with code {code}")


def run_all(
    runs: Sequence[PlannedRun],
    executor: Executor,
    execute_one: Callable[[PlannedRun], Outcome],
    stop: Callable[[], None],
) -> Generator[tuple[PlannedRun, Outcome], None, None]:
    """Yield every run with its outcome, as runs end; `stop` ends the active ones if the caller gives up (Ctrl-C)."""
    by_name, order = {run.name: run for run in runs}, starting_order(runs)
    graph = TopologicalSorter({run.name: run.needs for run in runs})
    graph.prepare()
    outcomes: dict[str, Outcome] = {}
    futures: dict[Future[Outcome], str] = {}
    ready: SimpleQueue[Future[Outcome]] = SimpleQueue()
    try:
        while graph.is_active():
            settled: dict[str, Outcome] = {}
            for name in sorted(graph.get_ready(), key=order.__getitem__):
                run = by_name[name]
                missing = [need for need in run.needs if outcomes[need].state != "done"]
                if (outcome := outcome_of(run.folder)).state == "done":
                    settled[name] = outcome
                elif missing and not (run.shows_what_there_is and any(o.state == "done" for o in outcomes.values())):
                    settled[name] = Outcome("blocked", None, f"needs {missing[0]}")
                else:
                    run = replace(run, missing=tuple(missing)) if missing else run
                    futures[future := executor.submit(execute_one, run)] = name
                    future.add_done_callback(ready.put)  # repeated `wait` on all of them would be quadratic
            if not settled:
                future = ready.get()
                settled[futures.pop(future)] = _result(future)
            for name, outcome in settled.items():
                outcomes[name] = outcome
                graph.done(name)
                yield by_name[name], outcome
    finally:
        for future in futures:
            future.cancel()
        while wait(futures, timeout=0.2).not_done:
            stop()


def starting_order(runs: Sequence[PlannedRun]) -> dict[str, int]:
    """Return the place of each run, by name: the stage of the longest run first; in a stage, as the study has them."""
    longest: dict[str, float] = {}
    for run in runs:
        longest[run.stage] = max(length(run), longest.get(run.stage, 0.0))
    ordered = sorted(runs, key=lambda run: -longest[run.stage])
    return {run.name: place for place, run in enumerate(ordered)}


def length(run: PlannedRun) -> float:
    """Return the relative length of a run: images seen times network size."""
    defaults = {"epochs": 1, "limit": 50_000, "layers": 1, "channels": 1}
    return math.prod(float(getattr(run.params, name, 0) or default) for name, default in defaults.items())


def _result(future: Future[Outcome]) -> Outcome:
    """Return the outcome of a future; a run that could not be started (disk full, no process) has failed."""
    if (error := future.exception()) is None:
        return future.result()
    code = CannotWrite.exit_code if of_the_disk(error) else 1
    return Outcome("failed", None, f"{type(error).__name__}: {error}".splitlines()[0], code)


def run_locally(plan: Plan, jobs: int, per_gpu: int = 1) -> Generator[tuple[PlannedRun, Outcome], None, None]:
    """Yield every run of a study with its outcome, `jobs` of them at a time, which share the cores.

    Of the runs that may use a GPU, `per_gpu` are on each at a time, if this host has any.
    """
    count = gpu_count(plan.runs)
    gpus, on_gpus = Gpus(count, per_gpu), min(jobs, count * per_gpu)

    def work(run: PlannedRun) -> Outcome:
        at_once = on_gpus if on_gpus and device_of(run) != "cpu" else jobs
        with gpus.lent(run) as variables:
            limits = {"timeout": plan.study.timeout, "start_timeout": plan.study.start_timeout}
            return run_one(run, plan.root, max(1, cores() // at_once), variables=variables, **limits)

    with Slots(jobs, on_gpus) as executor:
        yield from run_all(plan.runs, executor, work, stop_all)
