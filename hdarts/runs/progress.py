"""Progress display for each place: a bar in a terminal, a widget in a notebook, occasional lines in a log."""

import os
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from importlib import import_module
from typing import Literal, TypeVar

T = TypeVar("T")


def place() -> Literal["none", "log", "notebook", "terminal"]:
    """Return where progress is displayed; `$HDARTS_PROGRESS` has precedence.

    It is `log` for the kernels of `hdarts run`, and `none` for all but the main process of a training, and for a loop
    in a thread of a notebook, which belongs to no cell.
    """
    if (setting := os.environ.get("HDARTS_PROGRESS")) in ("none", "log"):
        return setting  # type: ignore[return-value]
    ipython = sys.modules.get("IPython")  # loaded already in a kernel; elsewhere nothing is imported
    shell = ipython.get_ipython() if ipython is not None else None
    if shell is not None and hasattr(shell, "kernel"):
        if threading.current_thread() is not threading.main_thread():
            return "none"
        # papermill and nbclient allow no input: nobody watches, and the saved widget would be incomplete
        return "notebook" if shell.get_parent().get("content", {}).get("allow_stdin") else "log"
    return "terminal" if sys.stderr.isatty() else "log"


def interactive() -> bool:
    """Whether a live notebook is used, so that curves may be redrawn during a loop."""
    return place() == "notebook"


def progress(items: Iterable[T], total: int | None = None, label: str = "", every: float = 15.0) -> Iterator[T]:
    """Yield `items` and show the progress; in a log, as one line at most every `every` seconds and at the end.

    `total` is the number of items if `len(items)` is not defined.
    """
    where = place()
    if total is None and hasattr(items, "__len__"):
        total = len(items)  # type: ignore[arg-type]
    if where == "none":
        yield from items
    elif where == "log":
        yield from _lines(items, total, label, every)
    else:
        bars = import_module("tqdm" if where == "terminal" else "tqdm.notebook")
        yield from bars.tqdm(items, total=total, desc=label, dynamic_ncols=where == "terminal")


def _lines(items: Iterable[T], total: int | None, label: str, every: float) -> Iterator[T]:
    start = printed = time.monotonic()
    count = 0
    for item in items:
        yield item
        count += 1
        if (now := time.monotonic()) - printed >= every and count != total:
            printed = now
            _print_line(label, count, total, now - start)
    _print_line(label, count, total, time.monotonic() - start)


def _print_line(label: str, count: int, total: int | None, seconds: float) -> None:
    left = f", about {seconds / count * (total - count):.0f} s left" if total and 0 < count < total else ""
    of = f"/{total}" if total is not None else ""
    print(f"{label or 'progress'}: {count}{of} in {seconds:.0f} s{left}", file=sys.stderr, flush=True)
