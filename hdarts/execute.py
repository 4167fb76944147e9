"""One run in a process of its own: `python -m hdarts.execute`, with its task as a line of JSON on standard input.

The task names the notebook, the run folder, the working folder and the parameters. The parent keeps the other end of
that pipe open for as long as it wants the run; once it is closed, and be it because the parent was killed, or on
SIGTERM, the kernel and this process end at once. Nothing is lost thereby: a run goes on from its last checkpoint.
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


def main() -> None:
    """Execute the task on standard input; the exit code is 0 whenever the notebook itself tells how it ended."""
    task = json.loads(_first_line())
    # a folder for the sockets of the kernel; their names must stay below 104 characters
    own = tempfile.mkdtemp(prefix="hdarts-", dir="/tmp" if len(tempfile.gettempdir()) > 60 else None)
    os.environ["IPYTHONDIR"] = f"{own}/ipython"  # no profile and no history shared by kernels side by side
    signal.signal(signal.SIGTERM, lambda *_: _end(own))
    threading.Thread(target=_follow_parent, args=(own,), daemon=True).start()
    try:
        execute(**task, connection=f"{own}/kernel.json")
    finally:
        shutil.rmtree(own, ignore_errors=True)


def execute(notebook: str, folder: str, cwd: str, parameters: dict[str, Any], connection: str) -> None:
    """Run `notebook` by papermill into `folder`/notebook.ipynb, and show it in notebook.html.

    The kernel speaks over IPC. Without a `connection` file of its own jupyter_client would give the sockets of all
    kernels the same names in the working folder, and kernels that start together would take each other's.
    """
    # jsonschema would compile a grammar for a second at import only to check addresses that no notebook holds
    sys.modules["rfc3987_syntax"] = None  # type: ignore[assignment]
    from papermill import PapermillExecutionError, execute_notebook
    from traitlets.config import Config

    output = Path(folder) / "notebook.ipynb"
    try:
        execute_notebook(
            notebook,
            output,
            parameters,
            kernel_name="python3",
            cwd=cwd,
            progress_bar=False,
            stdout_file=sys.stdout,
            stderr_file=sys.stderr,
            config=Config({"KernelManager": {"transport": "ipc", "connection_file": connection}}),
        )
    except PapermillExecutionError:
        pass  # told by the notebook, which keeps it
    finally:
        if output.exists():
            _write_page(output)


def _write_page(notebook: Path) -> None:
    """Write the notebook as a page that a browser can show."""
    from nbconvert.exporters import HTMLExporter

    from hdarts.records import write_atomic

    page, _ = HTMLExporter(require_js_url="").from_filename(str(notebook))
    write_atomic(notebook.with_suffix(".html"), page)


def _first_line() -> bytes:
    """Read unbuffered: a thread that waited in `sys.stdin` would hold its lock when the interpreter ends."""
    with open(0, "rb", buffering=0, closefd=False) as pipe:
        return pipe.readline()


def _follow_parent(own: str) -> None:
    while os.read(0, 4096):
        pass
    _end(own)


def _end(own: str) -> None:
    for child in psutil.Process().children(recursive=True):
        child.kill()
    shutil.rmtree(own, ignore_errors=True)
    os._exit(128 + signal.SIGTERM)


if __name__ == "__main__":
    main()
