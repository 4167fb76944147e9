"""One process at a time per folder: a second one is refused, with an error that names the first.

The lock is that of the operating system on the file `.lock`: it is released when its process ends, also by a kill. The
file `.owner` next to it names the process.

Some network file systems have no such locks. There, a notice says so, and the lock is a file `.lock.held` that only one
process can create: it names host and process, and its time is renewed every few seconds. One that was not renewed for a
minute, or whose process on this host has ended, is replaced.
"""

import contextlib
import errno
import os
import platform
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from hdarts.errors import CannotWrite, ParameterError
from hdarts.runs.atomic import write_atomic

NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP}
RENEWED, STALE = 10.0, 60.0  # seconds
_noticed: set[Path] = set()  # folders whose notice, that they have no locks, was printed


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Lock `folder` for this process, or raise `ParameterError` with the process and host that have locked it."""
    owner = folder / ".owner"
    with contextlib.ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            held = stack.enter_context(locked(folder / ".lock", wait=False))
        except OSError as error:
            way_out = "HDARTS_RUNS names another runs folder"
            raise CannotWrite(f"{folder} cannot be locked: {error.strerror or error}; {way_out}") from None
        if not held:
            raise ParameterError(f"{folder} is in use by {_read(owner)}; wait for its end, or stop it")
        try:
            write_atomic(owner, _this_process())
            yield
        finally:
            owner.unlink(missing_ok=True)


@contextmanager
def locked(file: Path, wait: bool = True) -> Iterator[bool]:
    """Lock a file for this process and yield whether it is locked; without `wait`, it may be by another process."""
    if (release := _by_the_system(file, wait)) is None:
        if file.parent not in _noticed:
            _noticed.add(file.parent)
            print(f"notice: {file.parent} has no file locks; {file.name}.held takes their place", file=sys.stderr)
        release = _by_creation(file.with_name(f"{file.name}.held"), wait)
    try:
        yield release is not _nothing
    finally:
        release()


def _nothing() -> None:
    """Release what is not locked."""


def _by_the_system(file: Path, wait: bool) -> Callable[[], None] | None:
    """Return what releases the lock, `_nothing` if another process has it, or None if there are no locks here."""
    if not _has_locks(file.parent):
        return None
    # a generator inside this context may be closed by another thread than the one that started it
    lock = FileLock(file, timeout=-1 if wait else 0, thread_local=False)
    try:
        lock.acquire()
    except Timeout:
        return _nothing
    return lock.release


def _has_locks(folder: Path) -> bool:
    try:
        import fcntl
    except ImportError:  # Windows has others
        return True
    probe = folder / f".lock.{platform.node()}.{os.getpid()}.{threading.get_ident()}"
    try:
        with probe.open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in NO_LOCKS:
            return False
        raise
    finally:
        probe.unlink(missing_ok=True)
    return True


def _by_creation(file: Path, wait: bool) -> Callable[[], None]:
    """Return what removes the file that only this process could create, `_nothing` if another one has it."""
    mine = f"{_this_process()} {threading.get_ident()} {time.time_ns()}"
    while not _create(file, mine):
        if _is_stale(file):
            continue  # it is gone; another process may be faster
        if not wait:
            return _nothing
        time.sleep(0.1)
    ended = threading.Event()

    def renew() -> None:
        while not ended.wait(RENEWED):
            with contextlib.suppress(OSError):
                os.utime(file)

    threading.Thread(target=renew, daemon=True).start()

    def release() -> None:
        ended.set()
        if _read(file) == mine:
            file.unlink(missing_ok=True)

    return release


def _create(file: Path, content: str) -> bool:
    try:
        with file.open("x", encoding="utf-8") as opened:  # x: only one process can
            opened.write(content)
    except FileExistsError:
        return False
    return True


def _is_stale(file: Path) -> bool:
    """Whether the process that created the file has ended; the file is then removed, unless it is a new one."""
    content = _read(file)
    try:
        age = _now(file.parent) - file.stat().st_mtime
    except FileNotFoundError:
        return True
    words = content.split()
    here = words[:1] == ["process"] and words[3:4] == [platform.node()]
    if age < STALE and not (here and _has_ended(int(words[1]))):
        return False
    taken = file.with_name(f"{file.name}.{os.getpid()}.{threading.get_ident()}")
    try:
        file.rename(taken)  # only one process can
    except FileNotFoundError:
        return True
    if _read(taken) != content and not file.exists():
        taken.rename(file)  # it was replaced meanwhile: give it back
        return False
    taken.unlink(missing_ok=True)
    return True


def _now(folder: Path) -> float:
    """Return the time of the file system, which may differ from that of this host."""
    probe = folder / f".lock.time.{platform.node()}.{os.getpid()}.{threading.get_ident()}"
    try:
        probe.write_text("")
        return probe.stat().st_mtime
    finally:
        probe.unlink(missing_ok=True)


def _has_ended(process: int) -> bool:
    if os.name == "nt":  # where os.kill would end it
        return False
    try:
        os.kill(process, 0)
    except OSError as error:  # or it is of another user
        return isinstance(error, ProcessLookupError)
    return False


def _this_process() -> str:
    return f"process {os.getpid()} on {platform.node()}"


def _read(owner: Path) -> str:
    try:
        return owner.read_text(encoding="utf-8")
    except OSError:  # it is being written or removed
        return "another process"
