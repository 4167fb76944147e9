"""Loaded at the start of every Python process, kernels too, that has this folder on its path: a death in a write.

$HDARTS_FAULT names a file that holds `NAME COUNT HOW`. The process about to put the COUNT-th file whose name contains
NAME in its place kills itself: with an empty or a half written file beside it (`empty`, `half`), with a whole one that
is not yet in its place (`whole`), or just after it (`after`). The order is removed first: only one process dies.
"""

import os
import signal
import sys
from typing import Any


def obey(order: str) -> None:
    """Wait for the write that the order names; renames are told to audit hooks before they happen."""
    with open(order) as file:  # noqa: PTH123 (as little as possible is imported into every process)
        name, count, how = file.read().split()
    left = int(count)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal left
        if event != "os.rename" or name not in os.path.basename(str(arguments[1])):  # noqa: PTH119
            return
        left -= 1
        if left:
            return
        try:
            os.unlink(order)  # noqa: PTH108
        except FileNotFoundError:  # another process was told the same and was first
            return
        source, target = map(str, arguments[:2])
        if how in ("empty", "half"):
            os.truncate(source, os.path.getsize(source) // 2 if how == "half" else 0)  # noqa: PTH202
        if how == "after":
            os.rename(source, target)  # noqa: PTH104
        os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


if (order := os.environ.get("HDARTS_FAULT")) and os.path.exists(order):  # noqa: PTH110
    obey(order)
