"""Asked to stop, loops save at the next step and end; asked twice, they end at once; folders belong to one process."""

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
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job may be deaf to it
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


# --- the signals -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", REQUESTS)
def test_the_first_request_is_handed_over_and_the_second_has_its_former_effect(number):
    asked, former = [], []
    signal.signal(number, lambda *_: former.append(number))
    with on_request(asked.append):
        os.kill(os.getpid(), number)
        assert (asked, former) == ([number], [])
        os.kill(os.getpid(), number)
        assert (asked, former) == ([number], [number])
    os.kill(os.getpid(), number)
    assert former == [number, number]


def test_ctrl_c_twice_is_a_keyboard_interrupt():
    with pytest.raises(KeyboardInterrupt), on_request(lambda number: None):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)


def test_a_second_request_can_be_given_another_effect():
    told = []
    with on_request(told.append, lambda number, frame: told.append(-number)):
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGUSR1)
    assert told == [signal.SIGTERM, -signal.SIGUSR1]


def test_a_background_job_stays_deaf_to_ctrl_c():
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
def test_a_notebook_shows_what_a_user_can_act_on_without_a_traceback(error, capsys):
    def cell():
        raise error

    shell = InteractiveShell()
    try:
        cell()
    except BaseException:
        shell.showtraceback()
    assert capsys.readouterr().out.strip() == str(error)


# --- the loops -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [SEARCH, EVALUATION], ids=["search", "evaluation"])
def test_a_loop_that_is_asked_to_stop_saves_at_the_next_step_and_goes_on_to_the_same_end(tmp_path, monkeypatch, kind):
    """The three signals one after the other, in the first, a middle and the last step of an epoch (5 steps)."""
    monkeypatch.setenv("HDARTS_RUNS", str(tmp_path / "whole"))
    list(computed(kind))
    monkeypatch.setenv("HDARTS_RUNS", str(tmp_path / "asked"))
    last = 4
    for number, epoch, step in zip(REQUESTS, (1, 2, 3), (0, 2, last), strict=True):
        signal_at(monkeypatch, epoch, step, number)
        with pytest.raises(Stopped, match=f"stopped by {number.name} after saving"):
            list(computed(kind))
        monkeypatch.undo()
        monkeypatch.setenv("HDARTS_RUNS", str(tmp_path / "asked"))
        saved = checkpoint.read(tmp_path / "asked" / "run" / checkpoint.NEWEST)
        assert (saved["epoch"] + 1, saved["step"]) == (epoch, step + 1)
    list(computed(kind))
    assert differences(tmp_path / "whole", tmp_path / "asked") == []


def test_a_loop_that_is_asked_twice_ends_at_once_and_still_ends_the_same(tmp_path, monkeypatch):
    monkeypatch.setenv("HDARTS_RUNS", str(tmp_path / "whole"))
    list(computed(EVALUATION))
    monkeypatch.setenv("HDARTS_RUNS", str(tmp_path / "asked"))
    signal_at(monkeypatch, 2, 2, signal.SIGINT, times=2)
    with pytest.raises(KeyboardInterrupt) as ended:
        list(computed(EVALUATION))
    assert not isinstance(ended.value, Stopped)
    monkeypatch.undo()
    monkeypatch.setenv("HDARTS_RUNS", str(tmp_path / "asked"))
    list(computed(EVALUATION))
    assert differences(tmp_path / "whole", tmp_path / "asked") == []


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
    """Compute `kind` in a process whose starter, a kernel's unless `parent` says another, dies on the way.

    Return what it told until its end, which is that of its pipes.
    """
    command = [sys.executable, "-c", STARTER, PROGRAM, json.dumps(kind), runs / "run" / checkpoint.NEWEST, parent]
    return subprocess.run(command, capture_output=True, text=True, env=environment(runs), timeout=120).stderr


def test_a_kernel_whose_starter_is_gone_saves_at_the_next_step_and_goes_on_to_the_same_end(tmp_path, monkeypatch):
    lasting = {**EVALUATION, "epochs": 12}
    assert "stopped by SIGTERM after saving" in orphan(tmp_path / "orphan", lasting)
    for runs in ("orphan", "whole"):
        monkeypatch.setenv("HDARTS_RUNS", str(tmp_path / runs))
        list(computed(lasting))
    assert differences(tmp_path / "whole", tmp_path / "orphan") == []


def test_what_is_no_kernel_outlives_its_starter(tmp_path):
    assert "stopped" not in orphan(tmp_path, EVALUATION, parent="1")
    assert (tmp_path / "run" / "result.json").exists()


# --- the lock --------------------------------------------------------------------------------------------------------

HOLDER = """
import sys, time
from pathlib import Path
from hdarts.runs.lock import exclusive
with exclusive(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_the_second_process_is_refused_and_told_who_the_first_is_until_that_is_dead(tmp_path: Path):
    first = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE)
    try:
        assert first.stdout is not None and first.stdout.readline() == b"held\n"
        with pytest.raises(ParameterError, match=f"in use by process {first.pid} on "), exclusive(tmp_path):
            pass
    finally:
        first.kill()
        first.communicate()
    assert (tmp_path / ".owner").exists()  # it had no time to tidy up
    with exclusive(tmp_path):
        assert (tmp_path / ".owner").read_text().startswith(f"process {os.getpid()} on ")
    with exclusive(tmp_path):
        pass
    assert not (tmp_path / ".owner").exists()
