"""`hdarts doctor` shows what is on this machine; a study says once why its kernels are not compiled."""

import shutil

import pytest
import torch
from helpers.command import called

from hdarts.kernels import bindings
from hdarts.params import SearchParams, ToyBilevelParams
from hdarts.runs.paths import notebooks_folder, with_defaults
from hdarts.workbook.study import PlannedRun
from hdarts.workbook.study.preflight import announce_slow_kernels


@pytest.fixture(autouse=True)
def fresh(monkeypatch, tmp_path):
    monkeypatch.setattr(bindings, "_loaded", {})
    monkeypatch.setenv("HDARTS_RUNS", str(tmp_path / "runs"))


def findings(monkeypatch, capsys) -> dict[str, str]:
    assert called(monkeypatch, "doctor") == 0
    return dict(line.split(": ", 1) for line in capsys.readouterr().out.splitlines())


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler here")
def test_doctor_shows_what_is_here(monkeypatch, capsys, tmp_path):
    (tmp_path / "data" / "flowers").mkdir(parents=True)
    monkeypatch.setenv("HDARTS_DATA", str(tmp_path / "data"))
    found = findings(monkeypatch, capsys)
    assert f"torch {torch.__version__.split('+')[0]}" in found["versions"] and "GiB available" in found["memory"]
    assert "separable float" in found["kernels"] and "-O3" in found["kernels"]
    assert found["data folder 1"] == f"{tmp_path / 'data'}: flowers; without the table of NAS-Bench-201"
    assert found["runs folder"] == f"{tmp_path / 'runs'}: not there yet"


def test_doctor_shows_why_kernels_are_not_compiled(monkeypatch, capsys):
    monkeypatch.setenv("CC", "no-such-compiler")
    assert "there is no C compiler 'no-such-compiler'; install gcc" in findings(monkeypatch, capsys)["kernels"]


def test_a_study_says_it_once_and_only_if_it_needs_kernels(monkeypatch, capsys):
    monkeypatch.setenv("CC", "no-such-compiler")
    toy, search = (
        PlannedRun("mine/one", "one", notebooks_folder(), with_defaults(model, {}), {}, ())
        for model in (ToyBilevelParams, SearchParams)
    )
    announce_slow_kernels([toy])
    assert capsys.readouterr().err == ""
    announce_slow_kernels([toy, search, search])
    assert capsys.readouterr().err.count("there is no C compiler") == 1
