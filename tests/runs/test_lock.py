"""Locks where the file system has none: a file that one process can create takes their place."""

import errno
import fcntl
import os
import platform
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from hdarts.errors import CannotWrite, ParameterError
from hdarts.runs import lock
from hdarts.runs.lock import exclusive, locked


@pytest.fixture(params=[errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def without_locks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(*_: object) -> None:
        raise OSError(request.param, os.strerror(request.param))

    monkeypatch.setattr(fcntl, "flock", flock)


def test_without_locks_a_second_process_is_refused_with_the_name_of_the_first(
    tmp_path: Path, without_locks, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        with exclusive(tmp_path):
            with pytest.raises(ParameterError, match=f"in use by process {os.getpid()} on "), exclusive(tmp_path):
                pass
            assert (tmp_path / ".lock.held").read_text().startswith(f"process {os.getpid()} on {platform.node()}")
        assert [path.name for path in tmp_path.iterdir()] == []
    assert capsys.readouterr().err.count("has no file locks") == 1


def ended() -> int:
    return int(subprocess.check_output([sys.executable, "-c", "import os; print(os.getpid())"]))


@pytest.mark.parametrize(
    ("process", "host", "age", "stale"),
    [
        (ended, platform.node(), 0, True),
        (os.getppid, platform.node(), 0, False),
        (os.getppid, "elsewhere", 20, False),
        (os.getppid, "elsewhere", 80, True),
    ],
)
def test_without_locks_a_process_that_ended_holds_nothing(
    tmp_path: Path, without_locks, process, host: str, age: float, stale: bool
) -> None:
    file = tmp_path / ".lock.held"
    file.write_text(f"process {process()} on {host} 1 2")
    os.utime(file, (time.time() - age, time.time() - age))
    with locked(tmp_path / ".lock", wait=False) as held:
        assert held == stale
    assert file.exists() != stale


def test_without_locks_one_thread_at_a_time_has_the_lock_and_renews_it(
    tmp_path: Path, without_locks, monkeypatch
) -> None:
    monkeypatch.setattr(lock, "RENEWED", 0.01)
    inside, most = [], []

    def work() -> None:
        with locked(tmp_path / ".lock") as held:
            inside.append(held)
            most.append(len(inside))
            before = (tmp_path / ".lock.held").stat().st_mtime_ns
            time.sleep(0.05)
            assert (tmp_path / ".lock.held").stat().st_mtime_ns > before
            inside.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 4


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
def test_a_folder_that_cannot_be_written_is_named_with_the_way_out(tmp_path: Path, monkeypatch, number: int) -> None:
    def mkdir(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "mkdir", mkdir)
    with (
        pytest.raises(CannotWrite, match=r"cannot be locked: .*; HDARTS_RUNS names another"),
        exclusive(tmp_path / "x"),
    ):
        pass
