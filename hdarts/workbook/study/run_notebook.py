"""One run in its own process: `python -m hdarts.workbook.study.run_notebook`, its task on standard input.

The task names the notebook, the run folder, the working folder and the parameters. The parent keeps the other end of
that pipe open for as long as it wants the run; once it is closed, and be it because the parent was killed, the kernel
and this process end at once. Nothing is lost thereby: a run goes on from its last checkpoint.

A signal that asks for an end is passed on to the kernel, which papermill would not do: a loop there saves at its next
step, and where none is under way the kernel ends. Asked twice, all end at once.
"""

import json
import os
import shutil
import signal
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import psutil

from hdarts.errors import EXIT_CODES, CannotWrite, Stopped, of_the_disk
from hdarts.runs.atomic import write_atomic
from hdarts.runs.signals import on_request


def main() -> None:
    """Execute the task on standard input.

    The exit code is that of hdarts.errors where one of them befell the run, else 0 if the notebook tells how it ended.
    """
    task = json.loads(_first_line())
    # a folder for the sockets of the kernel; their names must stay below 104 characters
    own = tempfile.mkdtemp(prefix="hdarts-", dir="/tmp" if len(tempfile.gettempdir()) > 60 else None)
    os.environ["IPYTHONDIR"] = f"{own}/ipython"  # no profile and no history shared by kernels side by side
    threading.Thread(target=_follow_parent, args=(own,), daemon=True).start()
    asked: list[int] = []

    def pass_on(number: int) -> None:
        asked.append(number)
        kernel = psutil.Process().children()
        if not kernel:  # not yet or no longer there
            _end(own, Stopped.exit_code)
        for process in kernel:
            process.terminate()

    code = 1
    try:
        with on_request(pass_on, lambda number, _: _end(own, 128 + number)):
            code = execute(**task, connection=f"{own}/kernel.json")
    except Exception as error:
        if of_the_disk(error):
            code = CannotWrite.exit_code
        elif not asked:
            raise
    finally:
        shutil.rmtree(own, ignore_errors=True)
    sys.exit(Stopped.exit_code if asked else code)


def execute(notebook: str, folder: str, cwd: str, parameters: dict[str, Any], connection: str) -> int:
    """Run `notebook` by papermill into `folder`/notebook.ipynb, show it in notebook.html, and return the exit code.

    The kernel speaks over IPC. Without a `connection` file of its own jupyter_client would give the sockets of all
    kernels the same names in the working folder, and kernels that start together would take each other's.
    """
    # jsonschema would compile a grammar for a second at import only to check addresses that no notebook holds
    sys.modules["rfc3987_syntax"] = None  # type: ignore[assignment]
    from nbclient.exceptions import DeadKernelError
    from papermill import PapermillExecutionError, execute_notebook
    from papermill.iorw import papermill_io
    from traitlets.config import Config

    from hdarts.workbook.page.notebook import write_page

    output = Path(folder) / "notebook.ipynb"
    papermill_io.register(str(output), WholeFiles)
    try:
        execute_notebook(
            notebook,
            str(output),
            parameters,
            kernel_name="python3",
            cwd=cwd,
            progress_bar=False,
            stdout_file=sys.stdout,
            stderr_file=sys.stderr,
            config=Config({"KernelManager": {"transport": "ipc", "connection_file": connection}}),
        )
        code = 0
    except PapermillExecutionError as error:  # told by the notebook, which keeps it
        code = EXIT_CODES.get(error.ename, 0)
    except DeadKernelError:  # of which the notebook says nothing: without its page it is not taken to have ended
        print("the kernel died: killed from outside, or by the system for want of memory", flush=True)
        return 1
    write_page(output)
    return code


class WholeFiles:
    """How papermill writes its notebook: a reader, or the next start after a kill, sees the old one or the new one."""

    @staticmethod
    def write(text: str, path: str) -> None:
        write_atomic(Path(path), text)

    @staticmethod
    def pretty_path(path: str) -> str:
        return path


def _first_line() -> bytes:
    """Read unbuffered: a thread that waited in `sys.stdin` would hold its lock when the interpreter ends."""
    with open(0, "rb", buffering=0, closefd=False) as pipe:
        return pipe.readline()


def _follow_parent(own: str) -> None:
    while os.read(0, 4096):
        pass
    _end(own)


def _end(own: str, code: int = 128 + signal.SIGTERM) -> None:
    for child in psutil.Process().children(recursive=True):
        child.kill()
    shutil.rmtree(own, ignore_errors=True)
    os._exit(code)


if __name__ == "__main__":
    main()
