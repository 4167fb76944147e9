"""One process at a time per folder: a second one is refused, with an error that names the first.

The lock is that of the operating system on the file `.lock`: it ends with its process, however that ends. The file
`.owner` next to it names the process.
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
    """Lock `folder` for this process, or raise `ParameterError` with the process and host that have locked it."""
    folder.mkdir(parents=True, exist_ok=True)
    owner = folder / ".owner"
    # a generator inside this context may be closed by another thread than the one that started it
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
    except OSError:  # it is being written or removed
        return "another process"
