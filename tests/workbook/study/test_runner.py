"""Executing a study: order, failures, blocked and finished runs, and real kernels."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import nbformat
import psutil
import pytest
import yaml
from helpers.faults import gone, processes_of, runs_of, wait_until
from helpers.small_project import STUDY, end, finished, hdarts, plan_study, write_project

from hdarts.workbook.study import Plan, PlannedRun
from hdarts.workbook.study.gpus import Slots
from hdarts.workbook.study.runner import Outcome, outcome_of, run_all, run_one


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HDARTS_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"


def short(run: PlannedRun) -> str:
    """Return a run's stage and arm."""
    return f"{run.stage} {run.labels.get('arm', '')}".strip()


def done(run: PlannedRun) -> Outcome:
    end(run.folder, {})
    return Outcome("done", 1.0)


@pytest.fixture
def plan(tmp_path: Path, runs: Path) -> Plan:
    return plan_study(write_project(tmp_path))


def run_with(plan: Plan, work: Callable[[PlannedRun], Outcome]) -> list[tuple[PlannedRun, Outcome]]:
    """Run a study with `work` instead of kernels."""
    with ThreadPoolExecutor(2) as executor:
        return list(run_all(plan.runs, executor, work, stop=lambda: None))


# --- without kernels -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("finished", [0, 8])
def test_a_run_starts_once_after_all_it_needs_unless_it_is_done(plan: Plan, finished: int) -> None:
    for run in plan.runs[:finished]:
        done(run)
    started: list[PlannedRun] = []

    def work(run: PlannedRun) -> Outcome:
        assert all((plan.folder.parent / need / "result.json").is_file() for need in run.needs)
        started.append(run)
        return done(run)

    assert {outcome.state for _, outcome in run_with(plan, work)} == {"done"}
    assert sorted(run.name for run in started) == sorted(run.name for run in plan.runs[finished:])


def test_a_run_waits_only_for_what_it_needs(plan: Plan) -> None:
    slow_may_end = Event()

    def work(run: PlannedRun) -> Outcome:
        if short(run) == "toy slow" and run.labels["seed"] == 2:
            assert slow_may_end.wait(30)
        if short(run) == "look fast":
            slow_may_end.set()
        return done(run)

    states = {outcome.state for _, outcome in run_with(plan, work)}
    assert states == {"done"}, "the slow one has waited for what comes after the fast one"


def test_a_failure_blocks_what_needs_it_and_nothing_else(plan: Plan) -> None:
    def work(run: PlannedRun) -> Outcome:
        return Outcome("failed", 1.0, "no") if short(run) == "toy slow" and run.labels["seed"] == 20 else done(run)

    by_state: dict[str, set[str]] = {}
    for run, outcome in run_with(plan, work):
        by_state.setdefault(outcome.state, set()).add(short(run))
    assert by_state["failed"] == {"toy slow"}
    assert by_state["blocked"] == {"select slow", "look slow"}
    assert {"toy random", "select fast", "look fast", "look random", "analysis"} <= by_state["done"]


def test_a_run_that_cannot_be_started_fails_like_any_other(plan: Plan) -> None:
    def work(run: PlannedRun) -> Outcome:
        if short(run) == "select fast":
            raise OSError(28, "No space left on device")
        return done(run)

    failed = [outcome for _, outcome in run_with(plan, work) if outcome.state == "failed"]
    assert failed == [Outcome("failed", None, "OSError: [Errno 28] No space left on device", 73)]


def test_giving_up_stops_the_active_runs(plan: Plan) -> None:
    stopped = Event()

    def work(run: PlannedRun) -> Outcome:
        assert short(run) == "toy slow" or stopped.wait(30)
        return done(run)

    with ThreadPoolExecutor(3) as executor:
        ending = run_all(plan.runs, executor, work, stop=stopped.set)
        first, _ = next(ending)
        ending.close()
    assert short(first) == "toy slow" and stopped.is_set()


def test_a_waiting_run_with_inputs_starts_before_those_without(plan: Plan) -> None:
    toys = [run for run in plan.runs if not run.needs][:3]
    look = next(run for run in plan.runs if run.needs)
    may_start, started = Event(), list[str]()

    def work(run: PlannedRun) -> str:
        assert may_start.wait(30)
        started.append(run.name)
        return run.name

    slots = Slots(1, 0)
    futures = [slots.submit(work, run) for run in (*toys, look)]
    assert futures[2].cancel()
    may_start.set()
    assert [future.result(30) for future in (*futures[:2], futures[3])] == [toys[0].name, toys[1].name, look.name]
    assert started == [toys[0].name, look.name, toys[1].name]
    slots.shutdown()


def written(folder: Path, papermill: dict, *outputs: dict) -> Path:
    folder.mkdir()
    book = {"metadata": {"papermill": papermill}, "cells": [{"outputs": list(outputs)}]}
    (folder / "notebook.ipynb").write_text(json.dumps(book))
    (folder / "notebook.html").write_text("page")
    return folder


RAISED = {"exception": True, "duration": 2.5}
ENDED = {"end_time": "now", "duration": 2.5}


@pytest.mark.parametrize(
    ("papermill", "name", "value", "outcome"),
    [
        ({"end_time": None}, "", "", Outcome("unfinished")),
        (ENDED, "", "", Outcome("failed", 2.5, "the notebook ended but wrote no result")),
        (RAISED, "KeyError", "'x'\nmore", Outcome("failed", 2.5, "KeyError: 'x'")),
        (RAISED, "ParameterError", "x = 0: above 0", Outcome("failed", 2.5, "x = 0: above 0")),
        (RAISED, "OutOfMemory", "batch_size 8 fits", Outcome("failed", 2.5, "batch_size 8 fits", 71)),
        (RAISED, "Stopped", "stopped after saving", Outcome("stopped", 2.5, "stopped after saving", 75)),
    ],
)
def test_only_a_valid_result_makes_a_run_done(tmp_path: Path, papermill, name, value, outcome) -> None:
    folder = written(tmp_path / "run", papermill, {"output_type": "error", "ename": name, "evalue": value})
    assert outcome_of(folder) == outcome
    (folder / "result.json").write_text('{"accuracy": ')
    assert outcome_of(folder) == outcome, "its result is damaged"
    (folder / "result.json").write_text('{"accuracy": 1}')
    assert outcome_of(folder) == Outcome("done", papermill.get("duration"))


def test_a_run_whose_kernel_died_is_unfinished(tmp_path: Path) -> None:
    folder = written(tmp_path / "run", ENDED)
    (folder / "notebook.html").unlink()
    assert outcome_of(folder) == Outcome("unfinished")


def test_a_run_without_a_notebook_is_waiting_unfinished_or_done(tmp_path: Path) -> None:
    assert outcome_of(tmp_path / "run") == Outcome("waiting")
    (tmp_path / "run").mkdir()
    assert outcome_of(tmp_path / "run") == Outcome("unfinished")
    (tmp_path / "run" / "result.json").write_text('{"accuracy": 1}')
    assert outcome_of(tmp_path / "run") == Outcome("done"), "as `hdarts evaluate` leaves it"


# --- with kernels ----------------------------------------------------------------------------------------------------


def first_run(root: Path, code: str) -> PlannedRun:
    return plan_study(write_project(root, toy=code)).runs[0]


def test_a_kernel_gets_parameters_threads_and_a_separate_folder(tmp_path: Path, runs: Path) -> None:
    code = """
from hdarts.runs.progress import place
print("place", place(), most_steps, os.getcwd(), os.environ["OMP_NUM_THREADS"])
"""
    run = first_run(tmp_path, code)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("OMP_NUM_THREADS", raising=False)
        assert run_one(run, tmp_path, threads=3).state == "done"
    assert f"place log 7 {tmp_path} 3" in (run.folder / "log.txt").read_text()
    page = (run.folder / "notebook.html").read_text()
    assert "place log 7" in page and "most_steps" in page
    assert yaml.safe_load((run.folder / "params.yaml").read_text()) == run.params.model_dump()
    injected = nbformat.read(run.folder / "notebook.ipynb", 4).metadata["papermill"]["parameters"]
    assert injected == {"run": run.name, "most_steps": 7, "seed": 2}, "only what differs from the defaults"
    assert not list(tmp_path.glob("kernel*"))  # its sockets lie elsewhere, and are gone


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("from hdarts.params import ParameterError; raise ParameterError('seed = 2: take another')", "seed = 2: take"),
        ("raise SystemExit(0)", "SystemExit: 0"),
        ("os.kill(os.getpid(), 9)", "the kernel died: killed from outside"),
    ],
)
def test_a_failed_notebook_stays_with_its_error(tmp_path: Path, runs: Path, code: str, message: str) -> None:
    run = first_run(tmp_path, code)
    outcome = run_one(run, tmp_path, threads=1)
    assert outcome.state == "failed" and message in outcome.error
    assert "START" not in outcome.error and (run.folder / "notebook.ipynb").is_file()


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ('{"argv": ["/nowhere/python", "-m", "ipykernel_launcher", "-f", "{connection_file}"]}', "/nowhere/python"),
        ("{", ""),
    ],
    ids=["another interpreter", "damaged"],
)
def test_a_kernel_that_cannot_be_started_is_explained(tmp_path: Path, runs: Path, monkeypatch, spec, message) -> None:
    description = tmp_path / "jupyter" / "kernels" / "python3"
    description.mkdir(parents=True)
    (description / "kernel.json").write_text(spec)
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    outcome = run_one(first_run(tmp_path, ""), tmp_path, threads=1)
    assert outcome.state == "failed" and "the kernel 'python3' cannot be started" in outcome.error, outcome
    assert message in outcome.error and str(description) in outcome.error and "ipykernel install" in outcome.error


def test_a_kernel_that_starts_slowly_names_the_entry_that_gives_it_time(tmp_path: Path, runs: Path) -> None:
    plan = plan_study(write_project(tmp_path, STUDY.replace("title:", "start_timeout: 1\ntitle:")))
    assert plan.study.start_timeout == 1
    spec = tmp_path / "jupyter" / "kernels" / "python3"
    spec.mkdir(parents=True)
    (spec / "kernel.json").write_text(
        json.dumps(
            {"argv": [sys.executable, "-c", "import time; time.sleep(60)"], "display_name": "x", "language": "python"}
        )
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
        outcome = run_one(plan.runs[0], tmp_path, 1, start_timeout=1)
    assert outcome.state == "failed" and "did not start within 1 s: give it more with `start_timeout`" in outcome.error


def test_a_notebook_that_hangs_is_stopped_after_the_timeout_of_its_study(tmp_path: Path, runs: Path) -> None:
    study = STUDY.replace("title:", "timeout: 0.05\ntitle:")
    plan = plan_study(write_project(tmp_path, study, toy="time.sleep(60)"))
    assert plan.study.timeout == 0.05
    outcome = run_one(plan.runs[0], tmp_path, 1, plan.study.timeout)
    assert (outcome.state, outcome.error) == (
        "failed",
        "ran longer than the study's timeout of 0.05 minutes and was stopped",
    )
    gone(runs)


def test_a_second_command_on_a_study_is_refused(tmp_path: Path, runs: Path) -> None:
    path = write_project(tmp_path, TWO, toy="time.sleep(3)")
    first = hdarts("run", path, "--jobs", "1", runs=runs)
    wait_until((runs / "two" / "runs.csv").exists)
    code, _, err = finished("run", path, runs=runs)
    assert code == 2 and f"in use by process {first.pid} on " in err and err.count("\n") == 1
    first.send_signal(signal.SIGTERM)
    first.communicate()
    assert first.returncode == 75


def mtimes(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


SHORT = """
study: short
stages:
  toy: {notebook: 01_toy, arms: {good: {}, bad: {parameters: {seed: 1}}}}
  look: {notebook: 03_look, each: {stage: toy, as: search}}
  analysis: {notebook: 04_analysis, after: everything}
"""


def test_a_study_continues_after_a_failure_and_later_does_only_what_is_missing(tmp_path: Path, runs: Path) -> None:
    path = write_project(tmp_path, SHORT, toy="if seed == 1: raise ValueError('not today')")
    code, out, err = finished("run", path, "--jobs", "2", runs=runs)
    assert (code, err) == (1, "")
    table = {line.split()[0] + " " + line.split()[1].rsplit("-", 1)[0]: line for line in out.splitlines()[-6:-1]}
    assert "done" in table["toy good"] and "done" in table["look good"]
    assert "failed" in table["toy bad"] and table["toy bad"].endswith("ValueError: not today")
    assert "blocked" in table["look bad"] and "needs short/toy/bad" in table["look bad"]
    assert "partial" in table["analysis analysis"] and "without short/toy/bad-" in table["analysis analysis"]
    assert "report.html" in out
    page = (runs / "short" / "report.html").read_text()
    assert "those of the runs of study short" in page and "as they are not done: short/toy/bad-" in page

    before = {folder: mtimes(folder) for folder in runs.glob("short/*/good-*")}
    write_project(tmp_path, SHORT)
    code, out, err = finished("run", path, runs=runs)
    assert (code, err) == (0, "")
    assert "3 of 5 runs to do" in out
    (analysis,) = runs.glob("short/analysis/*")
    assert (analysis / "result.json").is_file() and not (analysis / "partial.json").exists()
    assert "as they are not done" not in (runs / "short" / "report.html").read_text()
    assert len(before) == 2 and all(mtimes(folder) == files for folder, files in before.items())


HALTING = """
while (folder.parent.parent / "halt").exists() and seed == 20:
    time.sleep(0.05)
"""
TWO = """
study: two
stages:
  toy: {notebook: 01_toy, matrix: {seed: [2, 20, 21]}}
  analysis: {notebook: 04_analysis, after: everything}
"""


def halted(path: Path, runs: Path, number: signal.Signals) -> subprocess.Popen[str]:
    """Start the study `two`, send a signal during its second run, and wait for all processes to end."""
    first, second, *_ = plan_study(path).runs
    order = runs / "two" / "order.txt"
    process = hdarts("run", path, "--jobs", "1", runs=runs)
    wait_until((runs / "two" / "study.yaml").exists)
    (runs / "two" / "halt").touch()
    wait_until(lambda: outcome_of(first.folder).state == "done" and second.name in order.read_text())
    (run,) = runs_of(psutil.Process(process.pid))
    assert len(run.children()) == 1 and len(processes_of(runs)) == 5  # also the command, its fork server and tracker
    process.send_signal(number)
    process.wait(30)
    gone(runs)
    (runs / "two" / "halt").unlink()
    return process


@pytest.mark.soak  # tests/runs/test_faults.py kills a study and compares its files
def test_a_killed_study_resumes_with_the_same_command(tmp_path: Path, runs: Path) -> None:
    path = write_project(tmp_path, TWO, toy=HALTING)
    halted(path, runs, signal.SIGKILL).communicate()
    code, _, err = finished("run", path, runs=runs)
    assert (code, err) == (0, "")
    started = [line.split("/")[-1].rsplit("-", 1)[0] for line in (runs / "two" / "order.txt").read_text().split()]
    assert started[:2] == ["seed=2", "seed=20"]
    assert sorted(started[2:]) == ["analysis", "seed=20", "seed=21"]


def test_ctrl_c_ends_all_processes_and_says_how_to_resume(tmp_path: Path, runs: Path) -> None:
    process = halted(write_project(tmp_path, TWO, toy=HALTING), runs, signal.SIGINT)
    _, err = process.communicate()
    assert process.returncode == 75
    assert err.splitlines()[-1] == "hdarts: stopped; the same command resumes from here"


@pytest.mark.soak
def test_kernels_that_start_together_do_not_interfere(tmp_path: Path, runs: Path) -> None:
    plan = plan_study(write_project(tmp_path, STUDY.replace("seed: [2, 20]", "seed: [1, 2]")))
    with ThreadPoolExecutor(4) as executor:
        outcomes = list(executor.map(lambda run: run_one(run, tmp_path, threads=1), plan.runs[:4]))
    assert [outcome.state for outcome in outcomes] == ["done"] * 4
