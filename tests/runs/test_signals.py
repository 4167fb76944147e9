"""A signal makes a loop save and exit, a second one exit at once; a run folder is locked by one process."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from helpers.small_runs import EVALUATION, PROGRAM, SEARCH, computed, differences, environment, signal_at
from IPython.core.interactiveshell import InteractiveShell

from hdarts.errors import ParameterError, Stopped
from hdarts.runs import checkpoint
from hdarts.runs.lock import exclusive
from hdarts.runs.signals import REQUESTS, on_request


@pytest.fixture(autouse=True)
def handlers():
    before = {number: signal.getsignal(number) for number in REQUESTS}
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job may ignore it
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", REQUESTS)
def test_the_first_request_is_passed_on_and_the_second_has_its_previous_effect(number):
    requests, former = [], []
    signal.signal(number, lambda *_: former.append(number))
    with on_request(requests.append):
        os.kill(os.getpid(), number)
        assert (requests, former) == ([number], [])
        os.kill(os.getpid(), number)
        assert (requests, former) == ([number], [number])
    os.kill(os.getpid(), number)
    assert former == [number, number]


def test_ctrl_c_twice_is_a_keyboard_interrupt():
    with pytest.raises(KeyboardInterrupt), on_request(lambda number: None):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)


def test_a_second_request_can_have_another_handler():
    received = []
    with on_request(received.append, lambda number, frame: received.append(-number)):
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGUSR1)
    assert received == [signal.SIGTERM, -signal.SIGUSR1]


def test_a_background_job_still_ignores_ctrl_c():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with on_request(lambda number: pytest.fail("heard")):
        os.kill(os.getpid(), signal.SIGINT)


def test_outside_of_the_main_thread_nothing_changes():
    seen = []

    def work():
        with on_request(seen.append):
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGTERM)]


@pytest.mark.parametrize("error", [Stopped("stopped by SIGINT"), ParameterError("x = 0: give more")])
def test_a_notebook_shows_these_errors_without_a_traceback(error, capsys):
    def cell():
        raise error

    shell = InteractiveShell()
    try:
        cell()
    except BaseException:
        shell.showtraceback()
    assert capsys.readouterr().out.strip() == str(error)


@pytest.mark.parametrize("kind", [SEARCH, EVALUATION], ids=["search", "evaluation"])
def test_a_loop_saves_after_the_current_step_and_a_resumed_one_ends_the_same(tmp_path, monkeypatch, kind):
    """The three signals one after the other, in the first, a middle and the last step of an epoch (5 steps)."""
    monkeypatch.setenv("HDARTS_RUNS", str(tmp_path / "whole"))
    list(computed(kind))
    monkeypatch.setenv("HDARTS_RUNS", str(tmp_path / "stopped"))
    last = 4
    for number, epoch, step in zip(REQUESTS, (1, 2, 3), (0, 2, last), strict=True):
        signal_at(monkeypatch, epoch, step, number)
        with pytest.raises(Stopped, match=f"stopped by {number.name} after saving"):
            list(computed(kind))
        monkeypatch.undo()
        monkeypatch.setenv("HDARTS_RUNS", str(tmp_path / "stopped"))
        saved = checkpoint.read(tmp_path / "stopped" / "run" / checkpoint.NEWEST)
        assert (saved["epoch"] + 1, saved["step"]) == (epoch, step + 1)
    list(computed(kind))
    assert differences(tmp_path / "whole", tmp_path / "stopped") == []


def test_a_loop_exits_at_once_after_two_requests_and_a_resumed_one_ends_the_same(tmp_path, monkeypatch):
    monkeypatch.setenv("HDARTS_RUNS", str(tmp_path / "whole"))
    list(computed(EVALUATION))
    monkeypatch.setenv("HDARTS_RUNS", str(tmp_path / "stopped"))
    signal_at(monkeypatch, 2, 2, signal.SIGINT, times=2)
    with pytest.raises(KeyboardInterrupt) as ended:
        list(computed(EVALUATION))
    assert not isinstance(ended.value, Stopped)
    monkeypatch.undo()
    monkeypatch.setenv("HDARTS_RUNS", str(tmp_path / "stopped"))
    list(computed(EVALUATION))
    assert differences(tmp_path / "whole", tmp_path / "stopped") == []


STARTER = """
import os, signal, subprocess, sys, time
program, kind, checkpoint, parent = sys.argv[1:]
os.environ["JPY_PARENT_PID"] = parent or str(os.getpid())
subprocess.Popen([sys.executable, "-c", program, kind])
while not os.path.exists(checkpoint):
    time.sleep(0.01)
os.kill(os.getpid(), signal.SIGKILL)
"""


def orphan(runs: Path, kind: dict, parent: str = "") -> str:
    """Compute `kind` in a process whose parent dies meanwhile; return its standard error.

    It is a kernel of that parent, unless `parent` is the id of another process.
    """
    command = [sys.executable, "-c", STARTER, PROGRAM, json.dumps(kind), runs / "run" / checkpoint.NEWEST, parent]
    return subprocess.run(command, capture_output=True, text=True, env=environment(runs), timeout=120).stderr


def test_a_kernel_whose_parent_died_saves_and_a_resumed_one_ends_the_same(tmp_path, monkeypatch):
    lasting = {**EVALUATION, "epochs": 12}
    assert "stopped by SIGTERM after saving" in orphan(tmp_path / "orphan", lasting)
    for runs in ("orphan", "whole"):
        monkeypatch.setenv("HDARTS_RUNS", str(tmp_path / runs))
        list(computed(lasting))
    assert differences(tmp_path / "whole", tmp_path / "orphan") == []


def test_a_process_that_is_no_kernel_outlives_its_parent(tmp_path):
    assert "stopped" not in orphan(tmp_path, EVALUATION, parent="1")
    assert (tmp_path / "run" / "result.json").exists()


HOLDER = """
import sys, time
from pathlib import Path
from hdarts.runs.lock import exclusive
with exclusive(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_process_is_refused_with_the_name_of_the_first_until_that_ends(tmp_path: Path):
    first = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE)
    try:
        assert first.stdout is not None and first.stdout.readline() == b"held\n"
        with pytest.raises(ParameterError, match=f"in use by process {first.pid} on "), exclusive(tmp_path):
            pass
    finally:
        first.kill()
        first.communicate()
    assert (tmp_path / ".owner").exists()  # the killed process could not remove it
    with exclusive(tmp_path):
        assert (tmp_path / ".owner").read_text().startswith(f"process {os.getpid()} on ")
    with exclusive(tmp_path):
        pass
    assert not (tmp_path / ".owner").exists()
