"""One run in a separate process, which executes its notebook in a kernel.

The process ends with the one that started it, the kernel with it; the run can resume from its last checkpoint.

Unlike papermill, this process forwards a stop signal to the kernel: a loop there saves after its current step, and
without one the kernel ends. A second signal ends everything at once.
"""

import logging
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Mapping
from multiprocessing import connection
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from hdarts.errors import EXIT_CODES, CannotWrite, Stopped, of_the_disk
from hdarts.runs.atomic import write_atomic
from hdarts.runs.signals import on_request
from hdarts.workbook.study.process import enter

KERNEL = "python3"


class Task(NamedTuple):
    """A notebook to execute: file, run folder, working folder, changed parameters, seconds for the kernel's start."""

    notebook: str
    folder: str
    cwd: str
    parameters: dict[str, Any]
    start_timeout: int = 60


def run_notebook(task: Task, environment: Mapping[str, str]) -> None:
    """Execute the task; exit with the code of an error of hdarts.errors, 0 or 1. Output goes to log.txt."""
    enter(environment, Path(task.folder) / "log.txt")
    kernel = _forked_kernel()
    # a folder for the sockets of the kernel, whose names must be shorter than 104 characters
    long = len(tempfile.gettempdir()) > 60 and transport() == "ipc"
    private = tempfile.mkdtemp(prefix="hdarts-", dir="/tmp" if long else None)
    os.environ["IPYTHONDIR"] = f"{private}/ipython"  # concurrent kernels share no profile and no history
    threading.Thread(target=_follow_parent, args=(private,), daemon=True).start()
    signals: list[int] = []

    def pass_on(number: int) -> None:
        signals.append(number)
        kernels = psutil.Process().children()
        if not kernels or (kernel is not None and not kernel.launched):  # not started yet, or ended
            _end(private, Stopped.exit_code)
        for process in kernels:
            process.terminate()

    code = 1
    try:
        with on_request(pass_on, lambda number, _: _end(private, 128 + number)):
            code = execute(task, f"{private}/kernel.json")
    except Exception as error:
        if of_the_disk(error):
            code = CannotWrite.exit_code
        elif not signals:
            raise
    finally:
        if kernel is not None and not kernel.launched:
            kernel.kill()  # at its end this process waits for its children
        shutil.rmtree(private, ignore_errors=True)
    sys.exit(Stopped.exit_code if signals else code)


def _forked_kernel() -> Any:
    """Return a kernel that waits, if this process is a fork that has what a kernel imports, else None."""
    if "ipykernel.kernelapp" not in sys.modules or not hasattr(os, "fork"):
        return None
    from hdarts.workbook.study.forked_kernel import ForkedKernel, launch_forked

    kernel = ForkedKernel()
    launch_forked(kernel)
    return kernel


def execute(task: Task, connection_file: str) -> int:
    """Execute the notebook into the run folder, convert it to notebook.html, and return the exit code.

    The kernel communicates over IPC. Without a separate connection file, jupyter_client would give the sockets of all
    kernels the same names in the working folder, and kernels that start together would use each other's.
    """
    # jsonschema would spend a second at import on a grammar for addresses that no notebook contains
    sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[assignment]
    from jupyter_client.kernelspec import NoSuchKernel
    from nbclient.exceptions import DeadKernelError
    from papermill import PapermillExecutionError, execute_notebook
    from papermill.iorw import papermill_io
    from traitlets.config import Config

    from hdarts.workbook.page.notebook import write_page

    output = Path(task.folder) / "notebook.ipynb"
    papermill_io.register(str(output), WholeFiles)
    # of names that the parameters cell does not set; those of a study have been checked
    logging.getLogger("papermill").addFilter(lambda record: "Passed unknown parameter" not in record.getMessage())
    try:
        execute_notebook(
            task.notebook,
            str(output),
            task.parameters,
            kernel_name=KERNEL,
            cwd=task.cwd,
            progress_bar=False,
            stdout_file=sys.stdout,
            stderr_file=sys.stderr,
            start_timeout=task.start_timeout,
            config=Config({"KernelManager": {"transport": transport(), "connection_file": connection_file}}),
        )
        code = 0
    except PapermillExecutionError as error:  # shown in the notebook
        code = EXIT_CODES.get(error.ename, 0)
    except DeadKernelError:  # the notebook does not show it
        print("the kernel died: killed from outside, or by the system because memory ran out", flush=True)
        return 1
    except (NoSuchKernel, OSError, ValueError, RuntimeError) as error:
        ours = isinstance(error, OSError) and of_the_disk(error)
        if ours or (isinstance(error, RuntimeError) and not str(error).startswith(("Kernel d", "No such kernel"))):
            raise
        print(_why_it_did_not_start(error, task.start_timeout), flush=True)
        return 1
    write_page(output)
    return code


def transport() -> str:
    """Return how to talk to a kernel: by sockets of the file system, or of this host where there are no such."""
    import zmq

    return "ipc" if zmq.has("ipc") and sys.platform != "win32" else "tcp"


def _why_it_did_not_start(error: Exception, start_timeout: int) -> str:
    if isinstance(error, RuntimeError) and "didn't respond" in str(error):
        return (
            f"the kernel did not start within {start_timeout} s: give it more with `start_timeout` in the study, "
            "or look for what is slow (a network file system, other processes)"
        )
    from jupyter_client.kernelspec import KernelSpecManager

    place = KernelSpecManager().find_kernel_specs().get(KERNEL, "no folder of Jupyter")
    reason = " ".join(str(error).split()) or type(error).__name__
    return (
        f"the kernel {KERNEL!r} cannot be started ({type(error).__name__}: {reason}): its description is in {place}; "
        f"remove it, or write it again with `{sys.executable} -m ipykernel install --sys-prefix`"
    )


class WholeFiles:
    """Let papermill write its notebook atomically: no reader sees half a file, even after a kill."""

    @staticmethod
    def write(text: str, path: str) -> None:
        write_atomic(Path(path), text)

    @staticmethod
    def pretty_path(path: str) -> str:
        return path


def _follow_parent(private: str) -> None:
    """End this process when the one that started it, or the server that it is a fork of, has ended."""
    started, server = multiprocessing.parent_process(), os.getppid()
    assert started is not None
    while not connection.wait([started.sentinel], timeout=1) and os.getppid() == server:
        pass
    _end(private)


def _end(private: str, code: int = 128 + signal.SIGTERM) -> None:
    for child in psutil.Process().children(recursive=True):
        child.kill()
    shutil.rmtree(private, ignore_errors=True)
    os._exit(code)
