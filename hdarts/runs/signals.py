"""Signals that request a stop: Ctrl-C, SIGTERM, and SIGUSR1, which clusters send before they reclaim a machine.

Windows has no SIGUSR1.

After the first request a loop saves after the current step and exits; after the second it exits at once.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

REQUESTS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name))
Handler = Callable[[int, Any], Any]


@contextmanager
def on_request(first: Callable[[signal.Signals], None], second: Handler | None = None) -> Iterator[None]:
    """Inside, call `first` at the first request, and `second`, or the previous handler, at the next.

    A signal that is ignored stays ignored (shells start background jobs that way). Nothing changes outside the main
    thread, where Python handles no signals.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in REQUESTS}
    before = {number: handler for number, handler in before.items() if handler not in (signal.SIG_IGN, None)}

    def handle(number: int, frame: Any) -> None:
        for each, handler in before.items():
            signal.signal(each, second or handler)
        first(signal.Signals(number))

    for number in before:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def orphans_stop() -> Iterator[None]:
    """Inside, a notebook's kernel sends itself SIGTERM once the program that started it has exited.

    Papermill passes no signals on: it exits, and ipykernel kills the kernel within a second. A step that takes less
    time is saved. Outside of a kernel nothing changes: a job may outlive its shell.
    """
    parent, left = os.getppid(), threading.Event()

    def watch() -> None:
        while not left.wait(0.1):
            if os.getppid() != parent:
                return os.kill(os.getpid(), signal.SIGTERM)

    if os.environ.get("JPY_PARENT_PID") != str(parent):  # set by jupyter_client
        yield
        return
    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        left.set()


def end_at_once(number: int, frame: Any = None) -> None:
    """Exit now, with the exit code that shells use for a process killed by this signal."""
    write_stderr(f"hdarts: ended at once by {signal.Signals(number).name}")
    os._exit(128 + number)


def write_stderr(line: str) -> None:
    """Write a line to standard error without its buffer, which the signal may have interrupted."""
    os.write(2, f"{line}\n".encode())
