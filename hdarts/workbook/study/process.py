"""The process of a run: forked from a server that has imported what runs use, or a new interpreter.

A new interpreter spends ten seconds on imports (torch, pandas, matplotlib, papermill), a fork none. The server is
multiprocessing's; it starts with the first run and ends with the process that started it. Forking after such imports
is safe on Linux only.
"""

import multiprocessing
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing import connection
from pathlib import Path
from typing import Any

# what runs and their kernels import; an import that starts threads or uses a GPU must not be here
PRELOADED = [
    *("hdarts.search", "hdarts.train", "hdarts.toys", "hdarts.plots", "hdarts.plots.statistical"),
    *("hdarts.workbook.analysis.diagnostics", "hdarts.workbook.claims", "hdarts.workbook.page.notebook"),
    *("torch._dynamo", "torchvision.datasets", "sklearn.datasets", "scipy.stats", "scipy.optimize"),
    *("papermill", "nbclient", "ipykernel.kernelapp", "matplotlib.figure"),  # pyplot's backend needs a kernel
    "hdarts.workbook.study.probe",
    "hdarts.workbook.cli",  # the main module of `hdarts run`, which multiprocessing imports into each process
]
_lock = threading.Lock()
_contexts: list[Any] = []
_running: set[Any] = set()  # and not yet signalled to stop


def start(target: Callable[..., None], task: Any, environment: Mapping[str, str]) -> Any:
    """Start a process that calls `target(task, environment)`; return it, a multiprocessing.Process."""
    # multiprocessing lets a daemon, such as a worker of Dask, have no children; ours end with their parent
    multiprocessing.current_process()._config["daemon"] = False  # type: ignore[attr-defined]
    with _lock, _environment(environment):
        if not _contexts:
            _contexts.extend(contexts())
        failure: Exception | None = None
        for way in [_contexts[0], *_contexts]:  # the first one twice: a server that was killed starts again
            process = way.Process(target=target, args=(task, dict(environment)))
            try:
                process.start()
            except (OSError, EOFError) as error:
                failure = error
                continue
            if way is not _contexts[0]:
                print(f"notice: the fork server failed ({failure!r}); runs start slowly", file=sys.stderr, flush=True)
                _contexts[:] = [way]
            _running.add(process)
            return process
        assert failure is not None
        raise failure


def ended(process: Any, timeout: float | None) -> bool:
    """Wait until a process has ended, at most `timeout` seconds, and return whether it has."""
    if not connection.wait([process.sentinel], timeout):
        return False
    with _lock:  # `start` reads the exit codes of all processes too, and only the first reader gets one
        process.join()
    _running.discard(process)
    return True


def stop_all() -> None:
    """Signal each running process to save and exit, but only once: a second signal would end it at once."""
    while _running:
        _running.pop().terminate()


def contexts() -> list[Any]:
    """Return multiprocessing's ways to start a process, the fastest first."""
    spawn = multiprocessing.get_context("spawn")
    if sys.platform != "linux":
        return [spawn]
    fork = multiprocessing.get_context("forkserver")
    fork.set_forkserver_preload(PRELOADED)
    return [fork, spawn]


@contextmanager
def _environment(environment: Mapping[str, str]) -> Iterator[None]:
    """Inside, a process that is started has this environment."""
    before = dict(os.environ)
    try:
        _replace(environment)
        yield
    finally:
        _replace(before)


def _replace(environment: Mapping[str, str]) -> None:
    for name in os.environ.keys() - environment.keys():
        del os.environ[name]
    os.environ.update(environment)


def enter(environment: Mapping[str, str], log: Path) -> None:
    """In a new process: start a session, apply the environment, and append all output to `log`."""
    if hasattr(os, "setsid"):
        os.setsid()  # Ctrl-C in a terminal reaches only `hdarts run`, which passes it on
    _replace(environment)  # that of the server is older
    if "torch" in sys.modules:  # it has read the number of threads already
        sys.modules["torch"].set_num_threads(int(environment["OMP_NUM_THREADS"]))
    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
