"""The progress of a study's runs: one table for the terminal of `hdarts run` and for `hdarts status`."""

import io
import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers import ROOT
from helpers.command import called
from helpers.small_project import COMMAND, end, plan_study, write_project
from helpers.small_runs import EVALUATION, SEARCH, params
from rich.console import Console

from hdarts.workbook import commands
from hdarts.workbook.study import Plan, PlannedRun
from hdarts.workbook.study.runner import Outcome, outcome_of
from hdarts.workbook.study.status import LiveTable, RunProgress, view


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HDARTS_RUNS", str(tmp_path / "runs"))
    monkeypatch.delenv("HDARTS_PROGRESS", raising=False)
    return tmp_path / "runs"


def planned(kind: dict, name: str = "tiny/search/one") -> PlannedRun:
    return PlannedRun(name, name.split("/")[1], Path("notebook.ipynb"), params(kind), {}, ())


def written(run: PlannedRun, metrics: str, timings: str) -> PlannedRun:
    run.folder.mkdir(parents=True)
    (run.folder / "metrics.csv").write_text(metrics)
    (run.folder / "timings.csv").write_text(timings)
    return run


def printed(planned: Plan, states: dict[str, str], most: int = 40) -> list[str]:
    screen = io.StringIO()
    Console(file=screen, width=200).print(view(planned, states, most), highlight=False)
    return [line.rstrip() for line in screen.getvalue().splitlines()]


def test_the_progress_of_a_run_is_read_from_its_tables(runs: Path) -> None:
    search = written(
        planned(SEARCH), "epoch,train_accuracy,validation_accuracy\n1,9,40\n2,9,35.5\n", "epoch,seconds\n1,10\n2,20\n"
    )
    assert RunProgress.of(search) == RunProgress(2, 3, 35.5, 15.0)
    evaluation = written(
        planned(EVALUATION, "tiny/evaluate/one"),
        "epoch,test_accuracy\n1,70\n",
        "epoch,seconds,images_per_second\n1,4,9\n",
    )
    assert RunProgress.of(evaluation) == RunProgress(1, 3, 70.0, 8.0)


@pytest.mark.parametrize("metrics", ["", "epoch,validation_accuracy\n", "epoch,x\n1,2\n", "epoch,test_accuracy\nx,\n"])
def test_a_run_without_a_finished_epoch_has_no_numbers(runs: Path, metrics: str) -> None:
    assert RunProgress.of(written(planned(SEARCH), metrics, "epoch,seconds\n1,2\n")) == RunProgress()


def test_all_runs_are_shown_if_they_fit(tmp_path: Path, runs: Path) -> None:
    whole = plan_study(write_project(tmp_path))
    states = {run.name: "waiting" for run in whole.runs} | {whole.runs[0].name: "done"}
    lines = printed(whole, states)
    assert lines[0].split() == ["run", "state", "epoch", "accuracy", "%", "time", "left"]
    assert [line.split()[:2] for line in lines[1:13]] == [
        [run.name.removeprefix("tiny/"), states[run.name]] for run in whole.runs
    ]
    assert lines[14:16] == ["stage     runs  done  waiting", "toy          6     1        5"]


def test_of_thousands_the_active_runs_are_shown_and_all_counted(tmp_path: Path, runs: Path) -> None:
    seeds = ",".join(map(str, range(2000)))
    whole = plan_study(
        write_project(tmp_path, f"study: s\nstages: {{toy: {{notebook: 01_toy, matrix: {{seed: [{seeds}]}}}}}}")
    )
    states = {run.name: "done" if n < 990 else "waiting" for n, run in enumerate(whole.runs)}
    states |= {run.name: "running" for run in whole.runs[990:993]} | {whole.runs[5].name: "failed"}
    lines = printed(whole, states)
    assert [line.split()[1] for line in lines[1:5]] == ["running"] * 3 + ["failed"]
    assert lines[5] == "... and 1996 more runs"
    assert lines[7:] == ["stage  runs  done  failed  running  waiting", "toy    2000   989       1        3     1007"]
    assert len(printed(whole, states, most=2)) == 2 + len(lines) - 4


def test_a_run_is_running_once_its_folder_exists_or_has_changed(tmp_path: Path, runs: Path) -> None:
    whole = plan_study(write_project(tmp_path))
    left, fresh, ended, *others = whole.runs
    left.folder.mkdir(parents=True)
    watch = LiveTable(whole, {run.name: outcome_of(run.folder) for run in whole.runs})
    assert set(watch.states().values()) == {"waiting"}
    for run in (fresh, ended):
        run.folder.mkdir(parents=True)
    assert {name for name, state in watch.states().items() if state == "running"} == {fresh.name, ended.name}
    os.utime(left.folder, ns=(0, 0))
    watch.end(ended, Outcome("failed"))
    states = watch.states()
    assert [states[run.name] for run in (left, fresh, ended)] == ["running", "running", "failed"]
    assert {states[run.name] for run in others} == {"waiting"}


def test_without_a_terminal_no_table_is_shown(tmp_path: Path, runs: Path, capfd) -> None:
    watch = LiveTable(
        whole := plan_study(write_project(tmp_path)), {run.name: Outcome("waiting") for run in whole.runs}
    )
    with watch.shown():
        watch.announce("stopping")
    assert capfd.readouterr() == ("", "stopping\n")


def in_a_terminal(study: Path, runs: Path, until: bytes) -> bytes:
    """Run a study in a separate terminal to its end; return its output, which has to contain `until`."""
    here, (master, slave) = ROOT / "tests", pty.openpty()
    around = {**os.environ, "HDARTS_RUNS": str(runs), "PYTHONPATH": f"{here}:{here.parent}", "TERM": "xterm"}
    command = [sys.executable, "-c", COMMAND, "run", str(study)]
    with subprocess.Popen(command, env=around, stdout=slave, stderr=slave) as process:
        os.close(slave)
        seen, patience = b"", time.monotonic() + 600
        while process.poll() is None or select.select([master], [], [], 0)[0]:
            assert time.monotonic() < patience
            if select.select([master], [], [], 0.1)[0]:
                try:
                    seen += os.read(master, 65536)
                except OSError:  # its last process has closed it
                    break
            if until in seen:
                (runs / "go").touch()
        process.kill() if until not in seen else process.wait(60)
    os.close(master)
    return seen


WAITS = "while seed == 20 and not (folder.parent.parent.parent / 'go').exists():\n    time.sleep(0.05)"
TWO = "study: two\nstages: {toy: {notebook: 01_toy, matrix: {seed: [2, 20]}}}"


def test_a_terminal_shows_a_live_table_below_the_lines(tmp_path: Path, runs: Path) -> None:
    """The second run waits until the table has shown it next to the first, which is done."""
    seen = in_a_terminal(write_project(tmp_path, TWO, toy=WAITS), runs, b"toy       2     1        1")
    assert (runs / "go").exists(), seen.decode()
    assert b"1/2 done two/toy/seed=2-" in seen and b"2/2 done two/toy/seed=20-" in seen
    assert seen.count(b"\x1b[?25h") > 0 and seen.rstrip().endswith(b"report.html")
    assert all(outcome_of(run.folder).state == "done" for run in plan_study(tmp_path / "study.yaml").runs)


def test_status_prints_the_same_table_and_cuts_no_line_in_a_pipe(
    tmp_path: Path, runs: Path, monkeypatch, capsys
) -> None:
    monkeypatch.setattr(commands, "plan_study", plan_study)
    path = write_project(tmp_path)
    first, *_ = plan_study(path).runs
    end(first.folder, {})
    (runs / "tiny" / "study.yaml").write_text(path.read_text())
    assert called(monkeypatch, "status", path) == 0
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == f"runs folder: {runs}"
    assert lines[1:] == printed(
        plan_study(path), {run.name: outcome_of(run.folder).state for run in plan_study(path).runs}
    )
