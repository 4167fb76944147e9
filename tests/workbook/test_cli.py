"""The command `hdarts`: output, exit codes, and one sentence for bad input."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from helpers import ROOT
from helpers.command import called
from helpers.small_project import COMMAND, STUDY, end, plan_study, write_project

from hdarts.workbook import commands


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HDARTS_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr(commands, "plan_study", plan_study)
    return write_project(tmp_path)


def finish(study: Path, number: int) -> None:
    """Write the files of the first runs of the study, as if they were done."""
    for run in plan_study(study).runs[:number]:
        end(run.folder, {"accuracy": 97.5})
    (plan_folder := study.parent / "runs" / "tiny").mkdir(parents=True, exist_ok=True)
    (plan_folder / "study.yaml").write_text(study.read_text())


def test_a_dry_run_lists_all_runs_and_counts_and_writes_nothing(study: Path, monkeypatch, capsys) -> None:
    assert called(monkeypatch, "run", study, "--dry-run") == 0
    out = capsys.readouterr().out
    for run in plan_study(study).runs:
        assert f"waiting     {run.name}\n" in out
    counts = [
        "stage     runs  waiting",
        "toy          6        6",
        "select       2        2",
        "look         3        3",
        "analysis     1        1",
    ]
    assert "\n".join(["", *counts, ""]) in out
    assert "about 0.067 hours of computing" in out, "12 kernels and nothing to measure"
    assert not (study.parent / "runs").exists()


def test_status_counts_states_and_names_failures(study: Path, monkeypatch, capsys) -> None:
    finish(study, 5)
    failed = plan_study(study).runs[5].folder
    failed.mkdir()
    error = {"output_type": "error", "ename": "KeyError", "evalue": "'x'"}
    book = {"metadata": {"papermill": {"exception": True}}, "cells": [{"outputs": [error]}]}
    (failed / "notebook.ipynb").write_text(json.dumps(book))
    assert called(monkeypatch, "status", study) == 0
    out = capsys.readouterr().out
    assert "stage     runs  done  failed  waiting\ntoy          6     5       1        0\n" in out
    assert out.splitlines()[-1] == f"failed: {plan_study(study).runs[5].name}: KeyError: 'x'"


def test_a_study_that_is_done_runs_nothing_and_prints_its_results(study: Path, monkeypatch, capsys) -> None:
    finish(study, 12)
    (plan_study(study).runs[-1].folder / "results.csv").write_text("method,accuracy\nrandom,97.25\n")
    assert called(monkeypatch, "run", study) == 0
    out = capsys.readouterr().out
    assert "0 of 12 runs to do" in out
    assert "method  accuracy\nrandom     97.25\n" in out
    assert out.splitlines()[-1] == f"report: {study.parent / 'runs' / 'tiny' / 'report.html'}"


def test_a_study_that_is_done_needs_no_torch(study: Path) -> None:
    finish(study, 12)
    program = "import sys\n" + COMMAND.replace(
        "cli.main()",
        "try: cli.main()\nexcept SystemExit as end: print(end.code, {'torch', 'papermill'} & set(sys.modules))",
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "run", str(study)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'tests'}:{ROOT}"},
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "0 set()"


def test_a_report_can_be_written_at_any_time(study: Path, monkeypatch, capsys) -> None:
    assert called(monkeypatch, "report", study) == 0
    where = f"runs folder: {study.parent / 'runs'}\n"
    assert capsys.readouterr().out == f"{where}no run is done yet, so there is no report\n"
    finish(study, 3)
    assert called(monkeypatch, "report", study) == 0
    assert (study.parent / "runs" / "tiny" / "report.html").is_file()


@pytest.mark.parametrize("verb", ["run", "status", "report"])
@pytest.mark.parametrize(
    ("text", "message"),
    [
        (STUDY.replace("seed: [2, 20]", "sead: [2, 20]"), "did you mean `seed`?"),
        (STUDY.replace("preset: slow", "preset: none"), "none.yaml: no such file"),
        ("", "is not a mapping"),
    ],
)
def test_bad_studies_end_with_code_2_and_one_line(
    study: Path, monkeypatch, capsys, verb: str, text: str, message: str
) -> None:
    study.write_text(text)
    assert called(monkeypatch, verb, study) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("hdarts: ") and message in err and err.count("\n") == 1
    assert not (study.parent / "runs").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "none.yaml"], "none.yaml: no such file"),
        (["run"], "STUDY.yaml"),
        (["run", "{study}", "--jobs", "-1"], "--jobs -1"),
        (["run", "{study}", "--jobs", "many"], "valid integer"),
        (["run", "{study}", "--job", "2"], "--jobs"),
        (["walk", "{study}"], "walk"),
    ],
)
def test_a_wrong_call_ends_with_code_2_and_one_line(
    study: Path, monkeypatch, capsys, words: list[str], message: str
) -> None:
    assert called(monkeypatch, *[word.format(study=study) for word in words]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("hdarts: ") and message in err and err.count("\n") == 1
    assert not (study.parent / "runs").exists()


@pytest.mark.parametrize("kept", [True, False])
def test_only_checkpoints_that_a_run_was_not_to_keep_are_removed(tmp_path: Path, kept: bool) -> None:
    (tmp_path / "checkpoint.pt").write_bytes(b"weights")
    (tmp_path / "params.yaml").write_text(f"keep_checkpoint: {str(kept).lower()}\n")
    run: Any = SimpleNamespace(folder=tmp_path, params=SimpleNamespace(keep_checkpoint=False))
    commands._remove_left_checkpoints(run)
    assert (tmp_path / "checkpoint.pt").exists() == kept
