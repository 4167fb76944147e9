"""Kill a run at random moments or in a write, start it again with the same command, and compare the results."""

import contextlib
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import yaml

from helpers import ROOT
from helpers.small_runs import EVALUATION, SEARCH, differences, environment, program

HOOK = ROOT / "tests" / "fault_hook"
WRITES = {
    "search": ["checkpoint.pt", "checkpoint.previous", "checkpoint.epoch-1", "metrics.csv", "hypergradients.csv",
               "alpha.csv", "timings.csv", "params.yaml", "provenance.json", "genotype.json", "result.json"],
    "evaluation": ["checkpoint.pt", "checkpoint.previous", "checkpoint.epoch-1", "metrics.csv", "timings.csv",
                   "params.yaml", "provenance.json", "genotype.json", "result.json"],
    "study": ["study.yaml", "runs.csv", "report.html", "notebook.ipynb", "notebook.html", "search.png", "genotype.svg",
              "result.json", "checkpoint.pt", "metrics.csv", "params.yaml"],
}  # fmt: skip
AGAIN = {"metrics.csv", "hypergradients.csv", "alpha.csv", "timings.csv", "checkpoint.pt", "checkpoint.previous"}
KINDS: dict[str, dict[str, Any]] = {"search": SEARCH, "evaluation": EVALUATION}
COMMAND = "the command"
WORKERS = ["a run's process", "a kernel"]
REPORTED = {"a run's process": "its process was killed by signal 9", "a kernel": "ernel died"}
STUDY = ROOT / "params" / "studies" / "tiny.yaml"


@dataclass(frozen=True)
class Tried:
    """A fault ("kind: place"), and how its run differs at its end from an uninterrupted one (empty: not at all)."""

    what: str
    fault: str
    differs: list[str]


def start(what: str, runs: Path, **more: str) -> subprocess.Popen[str]:
    """Start a search, an evaluation, the tiny study or that of a file, in a separate process."""
    if what in KINDS:
        return program(KINDS[what], runs, **more)
    return subprocess.Popen(
        [sys.executable, "-m", "hdarts", "run", str(STUDY if what == "study" else what), "--jobs", "1"],
        cwd=ROOT,
        env=environment(runs, **more),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_begin(process: subprocess.Popen[str]) -> None:
    """Read what a program prints until it says that its loop, or the first run of its study, begins."""
    assert process.stdout is not None
    while (line := process.stdout.readline()) and line.startswith(("runs folder:", "images of ", "stage ")):
        pass


def short_study(folder: Path, **parameters: Any) -> str:
    """Write a study of a single search, with some parameters changed, and return its file."""
    whole = yaml.safe_load(STUDY.read_text())
    whole["stages"]["search"]["parameters"] |= parameters
    file = folder / "short.yaml"
    file.write_text(yaml.safe_dump({**whole, "stages": {"search": whole["stages"]["search"]}}))
    return str(file)


def to_the_end(what: str, runs: Path) -> float:
    """Compute what is missing; return the seconds after the first printed line."""
    process = start(what, runs)
    wait_for_begin(process)
    began = time.monotonic()
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return time.monotonic() - began


def killed_at_a_moment(what: str, runs: Path, seconds: float, victim: str = COMMAND) -> list[str]:
    """Kill the command, or a process of its runs, `seconds` after the start; return what it failed to report."""
    process = start(what, runs)
    wait_for_begin(process)
    time.sleep(seconds)
    if victim == COMMAND:
        process.kill()
    while victim != COMMAND and process.poll() is None and not killed_below(process.pid, victim):
        time.sleep(0.01)  # between two runs
    out, err = process.communicate(timeout=300)
    gone(runs)
    reported = victim == COMMAND or process.returncode == 0 or (process.returncode == 1 and REPORTED[victim] in out)
    return [] if reported else [f"exit code {process.returncode} without a reason: {out}{err}"]


def killed_below(command: int, victim: str) -> bool:
    """Kill the process of a run of a command, or its kernel; return whether there was one."""
    with contextlib.suppress(psutil.NoSuchProcess):
        for run in runs_of(psutil.Process(command)):
            for process in [run] if victim == "a run's process" else run.children():
                process.kill()
                return True
    return False


def runs_of(command: psutil.Process) -> list[psutil.Process]:
    """Return the processes of runs: the children of the command's fork server."""
    servers = [child for child in command.children() if "multiprocessing.forkserver" in " ".join(child.cmdline())]
    return [run for server in servers for run in server.children()]


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[None]:
    """Mount a small file system at `folder`; raise `PermissionError` without the right to mount."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if not shutil.which("mount") or os.geteuid() != 0 or subprocess.run(mount, check=False).returncode:
        raise PermissionError("no right to mount a small disk")
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


def remount(disk: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", disk], check=True)


def filled(what: str, disk: Path) -> list[str]:
    """Run a study until the disk is full, give it more room, and return what the study failed to report."""
    process = start(what, disk)
    out, err = process.communicate(timeout=300)
    gone(disk)
    halves = [str(path) for path in disk.rglob(".*.part")]
    remount(disk, "size=1g")
    reported = process.returncode == 73 and "Traceback" not in err and "annot be written" in out + err
    return halves if reported else [f"exit code {process.returncode}: {out}{err}"]


def killed_in_a_write(what: str, runs: Path, name: str, count: int, how: str) -> bool:
    """Kill in the `count`-th write of a file (fault_hook); return whether there was such a write."""
    order = runs.parent / f"{runs.name}.order"
    order.write_text(f"{name} {count} {how}")
    path = f"{HOOK}:{ROOT / 'tests'}:{ROOT}"
    start(what, runs, HDARTS_FAULT=str(order), PYTHONPATH=path).communicate(timeout=300)
    gone(runs)
    died = not order.exists()
    order.unlink(missing_ok=True)
    return died


def wait_until(condition: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"still false after {seconds} s"
        time.sleep(0.02)


def processes_of(runs: Path) -> list[psutil.Process]:
    """Return the live processes that were started for a runs folder."""

    def belongs(process: psutil.Process) -> bool:
        try:
            return process.status() != psutil.STATUS_ZOMBIE and process.environ().get("HDARTS_RUNS") == str(runs)
        except psutil.Error:
            return False

    return [process for process in psutil.process_iter() if process.pid != os.getpid() and belongs(process)]


def gone(runs: Path, servers: bool = True) -> None:
    """Wait until no process of a runs folder is left: runs end with their command.

    Without `servers`, the fork server of a worker that is still alive may stay, but no run that it has forked.
    """
    wait_until(lambda: not [one for one in processes_of(runs) if servers or not serves(one)], 30)


def serves(process: psutil.Process) -> bool:
    """Whether a process is a fork server or a resource tracker, and not a run: runs are below a fork server."""
    try:
        parent = process.parent()
        words, above = " ".join(process.cmdline()), " ".join(parent.cmdline()) if parent else ""
    except psutil.Error:
        return True  # it has ended
    return ("forkserver" in words or "resource_tracker" in words) and "forkserver" not in above


def kill_points(what: str, folder: Path, moments: int, writes: int, draw: random.Random) -> Iterator[Tried]:
    """Yield random kills, each compared with the uninterrupted run, which is computed first."""
    whole = folder / f"{what}-uninterrupted"
    lasts = to_the_end(what, whole)
    victims = [COMMAND, *WORKERS] if what == "study" else [COMMAND]
    for number in range(moments + writes):
        runs, unreported = folder / f"{what}-{number}", []
        if number < moments:
            victim = victims[number % len(victims)]
            unreported = killed_at_a_moment(what, runs, draw.uniform(0, lasts), victim)
            fault = f"SIGKILL to {victim} at a random moment" if what == "study" else "SIGKILL at a random moment"
        else:
            name, how = draw.choice(WRITES[what]), draw.choice(["empty", "half", "whole", "after"])
            how = "after" if name == "checkpoint.previous" else how  # only renamed, not written
            count = draw.randint(1, 2) if name in AGAIN else 1
            died = killed_in_a_write(what, runs, name, count, how)
            fault = f"SIGKILL in a write: {name}, {how}" if died else f"none, it ended before: {count}. {name}"
        to_the_end(what, runs)
        yield Tried(what, fault, [*unreported, *differences(whole, runs)])
