"""Where runs and relative paths are: the workbook that a file is in, from wherever a command is started."""

import json
from pathlib import Path

import pytest
from helpers.command import called
from helpers.images import write_images
from helpers.small_project import end, plan_study, write_project

from hdarts.errors import ParameterError
from hdarts.params import read_yaml
from hdarts.runs.paths import runs_folder
from hdarts.train import read_genotype
from hdarts.workbook import commands
from hdarts.workbook.init import start

EVALUATION = (
    "{data: generated, limit: 40, test_limit: 20, batch_size: 16, channels: 2, epochs: 1, run: mine, threads: 1}"
)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a plain folder, without settings."""
    monkeypatch.delenv("HDARTS_RUNS", raising=False)
    monkeypatch.setenv("HDARTS_PROGRESS", "none")
    (folder := tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize("place", ["params/studies", ""])
def test_a_study_has_the_same_runs_from_every_folder(
    tmp_path: Path, elsewhere: Path, monkeypatch: pytest.MonkeyPatch, capsys, place: str
) -> None:
    monkeypatch.setattr(commands, "plan_study", plan_study)
    study = write_project(tmp_path / "mine")
    (folder := tmp_path / "mine" / place).mkdir(exist_ok=True, parents=True)
    study = study.rename(folder / "tiny.yaml")
    monkeypatch.setenv("HDARTS_RUNS", str(tmp_path / "mine" / "runs"))
    end(plan_study(study).runs[0].folder, {})
    (tmp_path / "mine" / "runs" / "tiny" / "study.yaml").write_text(study.read_text())
    monkeypatch.delenv("HDARTS_RUNS")
    for cwd in (elsewhere, tmp_path / "mine", folder):
        monkeypatch.chdir(cwd)
        assert called(monkeypatch, "status", study) == 0
        out = capsys.readouterr().out
        assert out.startswith(f"runs folder: {tmp_path / 'mine' / 'runs'}\n") and " done " in out
        assert Path.cwd() == cwd and runs_folder() == (cwd if cwd == elsewhere else tmp_path / "mine") / "runs"


def test_paths_of_a_study_are_relative_to_its_workbook(tmp_path: Path, elsewhere: Path, monkeypatch, capsys) -> None:
    start(tmp_path / "mine")
    study = tmp_path / "mine" / "params" / "studies" / "tiny.yaml"
    text = study.read_text().replace("data: generated, limit: 80", "data: my/images, limit: 40")
    study.write_text(text.replace("test_limit: 40", "test_limit: 8"))
    write_images(elsewhere / "my" / "images" / "train", 1)
    assert called(monkeypatch, "run", study) == 2
    err = capsys.readouterr().err
    assert "my/images" in err and str(tmp_path / "mine" / "my" / "images") in err and str(elsewhere) not in err
    assert not (tmp_path / "mine" / "runs").exists()


def test_a_refused_evaluation_leaves_its_name_free_and_a_finished_one_says_so(
    tmp_path: Path, elsewhere: Path, monkeypatch, capsys
) -> None:
    start(tmp_path / "mine")
    (file := tmp_path / "mine" / "mine.yaml").write_text(EVALUATION)
    for name, value in (("data", "nowhere"), ("genotype", "none.json"), ("batch_size", "64"), ("device", "cuda:99")):
        assert called(monkeypatch, "evaluate", file, "-p", name, value) == 2
        capsys.readouterr()
    assert not (tmp_path / "mine" / "runs").exists()
    outputs = []
    for _ in range(2):
        assert called(monkeypatch, "evaluate", file) == 0
        outputs.append(capsys.readouterr().out.splitlines())
    folder = tmp_path / "mine" / "runs" / "mine"
    result = json.loads((folder / "result.json").read_text())
    assert outputs[0][0] == f"run folder: {folder}, one process" and outputs[1][0].endswith(", is done already")
    for out in outputs:
        assert f"test accuracy of the last epoch {result['last_test_accuracy']:.2f} %" in out[-3]
        assert out[-2] == f"folder: {folder}" and out[-1].startswith("next: ")
    assert read_yaml(folder / "params.yaml")["genotype"] == "params/genotypes/darts-v2.json"
    assert list(elsewhere.iterdir()) == []


def test_a_path_that_is_nowhere_names_all_places(tmp_path: Path, elsewhere: Path, monkeypatch) -> None:
    start(tmp_path / "mine")
    monkeypatch.setenv("HDARTS_WORKBOOK", str(tmp_path / "mine"))
    with pytest.raises(ParameterError) as refused:
        read_genotype("my/cell.json")
    assert str(elsewhere / "my/cell.json") in str(refused.value)
    assert str(tmp_path / "mine" / "my/cell.json") in str(refused.value)


@pytest.mark.parametrize("verb", ["run", "status", "report"])
def test_a_runs_folder_that_is_a_file_is_one_sentence(tmp_path: Path, monkeypatch, capsys, verb: str) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("HDARTS_RUNS", str(tmp_path / "file"))
    monkeypatch.setattr(commands, "plan_study", plan_study)
    assert called(monkeypatch, verb, write_project(tmp_path / "mine")) == 2
    out, err = capsys.readouterr()
    assert out == "" and "is a file, not the folder of all runs; HDARTS_RUNS" in err and err.count("\n") == 1


def test_a_runs_folder_below_a_file_is_one_sentence(tmp_path: Path, monkeypatch, capsys) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("HDARTS_RUNS", str(tmp_path / "file" / "runs"))
    monkeypatch.setattr(commands, "plan_study", plan_study)
    assert called(monkeypatch, "run", write_project(tmp_path / "mine")) == 73
    err = capsys.readouterr().err
    assert "file/runs/tiny cannot be locked: Not a directory; HDARTS_RUNS names another" in err and err.count("\n") == 1
