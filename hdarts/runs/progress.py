"""Progress that suits where it is read: a bar in a terminal, a widget in a notebook, a line now and then in a log."""

import os
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Literal, TypeVar

T = TypeVar("T")


def place() -> Literal["none", "log", "notebook", "terminal"]:
    """Return where progress is read; `$HDARTS_PROGRESS` decides first.

    It is `log` for the kernels of `hdarts run`, and `none` for processes beside the first of one training.
    """
    if (told := os.environ.get("HDARTS_PROGRESS")) in ("none", "log"):
        return told  # type: ignore[return-value]
    ipython = sys.modules.get("IPython")  # a kernel has loaded it already; outside of one this imports nothing
    shell = ipython.get_ipython() if ipython is not None else None
    if shell is not None and hasattr(shell, "kernel"):
        # papermill and nbclient allow no input: nobody sits there, and a widget would be left behind half-way
        return "notebook" if shell.get_parent().get("content", {}).get("allow_stdin") else "log"
    return "terminal" if sys.stderr.isatty() else "log"


def interactive() -> bool:
    """Whether someone watches a live notebook, so that curves may be redrawn while a loop runs."""
    return place() == "notebook"


def progress(items: Iterable[T], total: int | None = None, label: str = "", every: float = 15.0) -> Iterator[T]:
    """Yield `items` and tell how far they are; in a log, one plain line at most every `every` seconds and at the end.

    `total` is the number of items where `len(items)` does not tell it.
    """
    where = place()
    if total is None and hasattr(items, "__len__"):
        total = len(items)  # type: ignore[arg-type]
    if where == "none":
        yield from items
    elif where == "log":
        yield from _lines(items, total, label, every)
    elif where == "terminal":
        from tqdm import tqdm

        yield from tqdm(items, total=total, desc=label, dynamic_ncols=True)
    else:
        from tqdm.notebook import tqdm as widget

        yield from widget(items, total=total, desc=label)


def _lines(items: Iterable[T], total: int | None, label: str, every: float) -> Iterator[T]:
    start = told = time.monotonic()
    count = 0
    for item in items:
        yield item
        count += 1
        if (now := time.monotonic()) - told >= every and count != total:
            told = now
            _tell(label, count, total, now - start)
    _tell(label, count, total, time.monotonic() - start)


def _tell(label: str, count: int, total: int | None, seconds: float) -> None:
    left = f", about {seconds / count * (total - count):.0f} s left" if total and 0 < count < total else ""
    of = f"/{total}" if total is not None else ""
    print(f"{label or 'progress'}: {count}{of} in {seconds:.0f} s{left}", file=sys.stderr, flush=True)
