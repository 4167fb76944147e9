"""No fault loses a result: real processes, signals, full and read-only disks. `make soak` runs longer."""

import os
import random
import re
import shutil
import signal
import time
from pathlib import Path

import nbformat
import pytest
from helpers.faults import (
    COMMAND,
    ROOT,
    WORKERS,
    filled,
    gone,
    kill_points,
    killed_at_a_moment,
    killed_in_a_write,
    remount,
    short_study,
    small_disk,
    start,
    to_the_end,
    wait_for_begin,
    wait_until,
)
from helpers.small_runs import EVALUATION, SEARCH, computed, differences, environment, program
from jupyter_client.manager import start_new_kernel

from hdarts.errors import CannotWrite
from hdarts.runs.atomic import write_atomic

# --- kills -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("what", "moments", "writes"), [("search", 1, 0), ("evaluation", 0, 1)])
def test_killed_anywhere_and_resumed_a_run_equals_an_uninterrupted_one(
    what: str, moments: int, writes: int, tmp_path: Path
) -> None:
    """Both kinds of runs are killed many times in both ways by `make soak`."""
    seed = random.randrange(10**6)
    print(f"kill points drawn with seed {seed}")
    for tried in kill_points(what, tmp_path, moments, writes, draw=random.Random(seed)):
        assert tried.differs == [], tried


@pytest.mark.parametrize("victims", [[COMMAND], pytest.param([COMMAND, *WORKERS], marks=pytest.mark.soak)])
def test_a_study_reports_a_killed_process_and_resumes_with_the_same_command(tmp_path: Path, victims: list[str]) -> None:
    seed = random.randrange(10**6)
    print(f"moments drawn with seed {seed}")
    draw = random.Random(seed)
    study = short_study(tmp_path)
    lasts = to_the_end(study, tmp_path / "whole")
    for victim in victims:
        assert killed_at_a_moment(study, tmp_path / "killed", draw.uniform(0, lasts / 2), victim) == []
    # a kernel that was killed while it waited has been replaced, and the study may have ended
    ended = list(tmp_path.glob("killed/tiny/search/*/result.json"))
    written = tmp_path / ("again" if ended else "killed")
    assert killed_in_a_write(study, written, "result.json", 1, "half"), "its loop has ended"
    assert killed_in_a_write(study, written, "result.json", 1, "after"), "its page is still to come"
    for runs in {written, tmp_path / "killed"}:
        to_the_end(study, runs)
        assert list(runs.glob("tiny/search/*/notebook.html")), "the next start has written it"
        assert differences(tmp_path / "whole", runs) == []


# --- requests to stop ------------------------------------------------------------------------------------------------


def test_a_request_reaches_the_kernel_through_the_command_and_papermill(tmp_path: Path) -> None:
    process = start(short_study(tmp_path, epochs=1000), tmp_path)
    wait_until(lambda: list(tmp_path.glob("tiny/search/*/checkpoint.pt")) or process.poll() is not None)
    process.send_signal(signal.SIGUSR1)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 75
    assert err.splitlines()[-1] == "hdarts: stopped; the same command resumes from here"
    row = next(line for line in out.splitlines() if line.startswith("search "))
    assert "stopped after saving" in row
    gone(tmp_path)


def ended_at_once(study: str, runs: Path, seconds: float) -> bool:
    """Send two signals to a study, `seconds` after its start; return False if it had ended before."""
    process = start(study, runs)
    wait_for_begin(process)
    time.sleep(seconds)
    for number in (signal.SIGSTOP, signal.SIGTERM, signal.SIGUSR1, signal.SIGCONT):  # both arrive together
        process.send_signal(number)
    _, err = process.communicate(timeout=60)
    gone(runs)
    if process.returncode == 0:
        return False
    assert process.returncode in (128 + signal.SIGTERM, 128 + signal.SIGUSR1), "they may come in either order"
    assert "ended at once by SIG" in err and "Traceback" not in err
    return True


def test_a_second_signal_ends_a_study_at_once(tmp_path: Path) -> None:
    assert ended_at_once(short_study(tmp_path), tmp_path / "runs", 0)


@pytest.mark.soak
def test_ended_at_once_repeatedly_a_study_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    seed = random.randrange(10**6)
    print(f"moments drawn with seed {seed}")
    draw, study = random.Random(seed), short_study(tmp_path, epochs=60)
    lasts = to_the_end(study, tmp_path / "whole")
    ended = [ended_at_once(study, tmp_path / "ended", draw.uniform(0, lasts / 4)) for _ in range(4)]
    assert ended[0], "later ones may find it done"
    to_the_end(study, tmp_path / "ended")
    assert differences(tmp_path / "whole", tmp_path / "ended") == []


def test_the_stop_button_of_a_notebook_saves_after_the_current_step(tmp_path: Path) -> None:
    manager, client = start_new_kernel(kernel_name="python3", env=environment(tmp_path, JUPYTER_PREFER_ENV_PATH="1"))
    try:
        lasting = {**EVALUATION, "epochs": 10_000}
        request = client.execute(f"from helpers.small_runs import computed; list(computed({lasting}))")
        wait_until((tmp_path / "run" / "checkpoint.pt").exists, 90)
        manager.interrupt_kernel()
        while (reply := client.get_shell_msg(timeout=60))["parent_header"]["msg_id"] != request:
            pass  # a slow kernel still answers an earlier request
        content = reply["content"]
        assert (content["ename"], content["evalue"].partition(";")[0]) == ("Stopped", "stopped by SIGINT after saving")
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


# --- disks -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def disk(tmp_path: Path):
    """A separate file system of 150 kB; needs the right to mount."""
    try:
        with small_disk(tmp_path / "disk", "150k"):
            yield tmp_path / "disk"
    except PermissionError as error:
        pytest.skip(str(error))


def half_files(runs: Path) -> list[Path]:
    return list(runs.rglob(".*.part"))


def test_a_full_disk_is_reported_in_one_sentence_and_with_more_room_the_run_resumes(disk: Path, tmp_path: Path) -> None:
    process = program(EVALUATION, disk)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 73
    assert "cannot be written: No space left on device" in err.splitlines()[-1] and "Traceback" not in err
    assert half_files(disk) == []
    remount(disk, "size=100m")
    to_the_end("evaluation", disk)
    to_the_end("evaluation", tmp_path / "whole")
    assert differences(tmp_path / "whole", disk) == []


@pytest.mark.soak
def test_a_study_reports_a_full_disk_and_resumes_with_more_room(disk: Path) -> None:
    study = short_study(disk.parent)
    remount(disk, "size=4m")  # the tables fit, the checkpoint does not
    assert filled(study, disk) == []
    to_the_end(study, disk)
    to_the_end(study, disk.parent / "whole")
    assert differences(disk.parent / "whole", disk) == []


def test_a_read_only_folder_is_reported_in_one_sentence(disk: Path) -> None:
    remount(disk, "ro")
    process = start("study", disk)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 73
    assert "runs to do" not in out and err.count("\n") == 1 and "Read-only file system" in err
    process = program(SEARCH, disk)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 73 and "Read-only file system" in err and err.count("\n") == 1


@pytest.mark.parametrize("number", [28, 30, 122, 13, 5])
def test_a_failed_write_leaves_the_old_file_unchanged(tmp_path: Path, monkeypatch, number: int) -> None:
    path = tmp_path / "table.csv"
    write_atomic(path, "old")

    def refused(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refused)
    with pytest.raises(CannotWrite, match=f"table.csv cannot be written: {os.strerror(number)}"):
        write_atomic(path, "new")
    assert path.read_text() == "old" and half_files(tmp_path) == []


# --- memory ----------------------------------------------------------------------------------------------------------

LITTLE_MEMORY = """import resource, psutil
room = psutil.Process().memory_info().vms + 1500 * 2**20
resource.setrlimit(resource.RLIMIT_AS, (room, room))"""
SCARCE = """
study: scarce
title: One of two searches runs out of memory
stages:
  search:
    notebook: 03_search
    parameters: {data: generated, channels: 8, layers: 3, epochs: 1, method: hypernetwork, hypernetwork: linear}
    arms:
      too-large: {parameters: {limit: 2048, image_size: 32, batch_size: 1024}}
      small: {parameters: {limit: 80, batch_size: 16}}
  select: {notebook: 05_select, parameters: {allow_no_skip: true}, each: {stage: search, by: arm, as: searches}}
"""


@pytest.mark.soak
def test_a_run_out_of_memory_names_a_batch_size_and_the_others_continue(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks")
    path = tmp_path / "notebooks" / "03_search.ipynb"
    notebook = nbformat.read(path, 4)
    at = next(number for number, cell in enumerate(notebook.cells) if "s.make_supernet(" in cell.source)
    notebook.cells.insert(at + 1, nbformat.v4.new_code_cell(LITTLE_MEMORY))
    nbformat.write(notebook, path)
    (tmp_path / "scarce.yaml").write_text(SCARCE)
    out, err = (process := start(str(tmp_path / "scarce.yaml"), tmp_path / "runs")).communicate(timeout=300)
    assert process.returncode == 71, out + err
    assert re.search(r"\d failed scarce/search/too-large\S* in .*: out of memory at batch_size 1024: ", out, re.M), out
    assert re.search(r"\d done scarce/search/small", out) and re.search(r"\d done scarce/select/small", out), out
    assert re.search(r"\d blocked scarce/select/too-large", out) and "Traceback" not in err, out + err


def test_a_clock_that_runs_backwards_changes_nothing(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("HDARTS_RUNS", str(tmp_path / "whole"))
    list(computed(EVALUATION))
    monkeypatch.setenv("HDARTS_RUNS", str(tmp_path / "back"))
    now = time.time()

    def back() -> float:
        nonlocal now
        now -= 3600
        return now

    monkeypatch.setattr(time, "time", back)
    list(computed(EVALUATION))
    monkeypatch.undo()
    assert differences(tmp_path / "whole", tmp_path / "back") == []
