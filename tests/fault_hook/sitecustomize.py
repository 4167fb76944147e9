"""Kill a process in a write; loaded by every Python process, also kernels, that has this folder on its path.

$HDARTS_FAULT names a file with `NAME COUNT HOW`. The process that is about to rename the COUNT-th file whose name
contains NAME kills itself: with an empty or half written file (`empty`, `half`), with a complete one that is not yet
renamed (`whole`), or just after it (`after`). The order is removed first, so that only one process dies.
"""

import os
import signal
import sys
from typing import Any


def obey(order: str) -> None:
    """Wait for the write that the order names; audit hooks see renames before they happen."""
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
        except FileNotFoundError:  # another process was first
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
