"""One process at a time on a folder: the second is refused and told who the first is.

The lock is the operating system's own, on the file `.lock`: it goes with its process, however that ends, so the lock
of a dead owner is free. Who holds it stands in `.owner` beside it.
"""

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from hdarts.errors import CannotWrite, ParameterError, of_the_disk
from hdarts.runs.atomic import write_atomic


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Hold `folder` for this process alone, or raise `ParameterError` naming the process and host that hold it."""
    folder.mkdir(parents=True, exist_ok=True)
    owner = folder / ".owner"
    # a generator that holds the lock may be closed by another thread than the one that began it
    lock = FileLock(folder / ".lock", timeout=0, thread_local=False)
    try:
        lock.acquire()
    except Timeout:
        raise ParameterError(f"{folder} is in use by {_read(owner)}; wait for its end, or stop it") from None
    except OSError as error:
        if of_the_disk(error):
            raise CannotWrite(f"{folder} cannot be locked: {error.strerror}") from None
        raise
    try:
        write_atomic(owner, f"process {os.getpid()} on {platform.node()}")
        yield
    finally:
        owner.unlink(missing_ok=True)
        lock.release()


def _read(owner: Path) -> str:
    try:
        return owner.read_text(encoding="utf-8")
    except OSError:  # it is just coming or going
        return "another process"
