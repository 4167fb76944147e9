"""`hdarts init`, and the package as a wheel: it works outside the checkout, and states its version once."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from helpers import ROOT
from helpers.command import called

from hdarts.errors import ParameterError
from hdarts.runs import paths
from hdarts.runs.atomic import write_folder
from hdarts.runs.paths import notebooks_folder, runs_folder
from hdarts.workbook.init import start

VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def sources() -> set[str]:
    """Return all notebooks and parameter files of the checkout."""
    return {f"{name}/{file}" for name in ("notebooks", "params") for file in names(ROOT / name) if "/." not in file}


def test_a_workbook_has_all_notebooks_and_parameters_and_says_how_to_start(tmp_path, monkeypatch, capsys):
    assert called(monkeypatch, "init", tmp_path / "mine") == 0
    assert "hdarts run params/studies/tiny.yaml" in capsys.readouterr().out
    assert names(tmp_path / "mine") == sources() | {"README.md"}
    for name in sources():
        assert (tmp_path / "mine" / name).read_bytes() == (ROOT / name).read_bytes()
    assert not any(path.is_symlink() for path in (tmp_path / "mine").rglob("*"))
    named = re.findall(r"params/\S+\.yaml", (tmp_path / "mine" / "README.md").read_text())
    assert len(named) == 2 and all((ROOT / path).is_file() for path in named)


def test_an_empty_folder_is_accepted_and_one_with_content_is_refused_unchanged(tmp_path, monkeypatch, capsys):
    (tmp_path / "empty").mkdir()
    start(tmp_path / "empty")
    before = names(tmp_path)
    assert called(monkeypatch, "init", tmp_path / "empty") == 2
    assert "already exists; name a folder that is new or empty" in capsys.readouterr().err
    (tmp_path / "file").touch()
    with pytest.raises(ParameterError, match="already exists"):
        start(tmp_path / "file")
    with pytest.raises(ParameterError, match="cannot be written"):
        start(tmp_path / "file" / "below")
    monkeypatch.setattr("tempfile.mkdtemp", lambda **_: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
    assert called(monkeypatch, "init", tmp_path / "empty2") == 73
    assert capsys.readouterr().err == f"hdarts: {tmp_path / 'empty2'} cannot be written: Permission denied\n"
    assert names(tmp_path) == before | {"file"}


def test_a_folder_is_written_completely_or_not_at_all(tmp_path):
    with pytest.raises(TypeError):
        write_folder(tmp_path / "new", {"a": "1", "b": 2})  # type: ignore[dict-item]
    assert list(tmp_path.iterdir()) == []


def test_runs_and_notebooks_belong_to_the_current_workbook(tmp_path, monkeypatch):
    monkeypatch.delenv("HDARTS_RUNS", raising=False)
    start(tmp_path / "mine")
    for inside in ("", "notebooks", "params/studies"):
        monkeypatch.chdir(tmp_path / "mine" / inside)
        assert runs_folder() == tmp_path / "mine" / "runs"
        assert notebooks_folder() == tmp_path / "mine" / "notebooks"
    monkeypatch.chdir(tmp_path)
    assert notebooks_folder() == ROOT / "notebooks"
    monkeypatch.setattr(paths, "checkout", lambda: None)
    assert runs_folder() == tmp_path / "runs"


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """A folder with the wheel of this checkout installed, built without network."""
    tree, wheels, target = (tmp_path_factory.mktemp(name) for name in ("tree", "wheels", "target"))
    for name in ("hdarts", "notebooks", "params"):
        shutil.copytree(ROOT / name, tree / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "README.md"):
        shutil.copy(ROOT / name, tree)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    offline = ["--no-deps", "--no-index"]
    build = ["wheel", *offline, "--no-build-isolation", "-w", str(wheels), str(tree)]
    subprocess.run([*pip, *build], check=True, capture_output=True, timeout=300)
    (wheel,) = wheels.glob("*.whl")
    install = ["install", *offline, "--target", str(target), str(wheel)]
    subprocess.run([*pip, *install], check=True, capture_output=True, timeout=300)
    return target


def hdarts(installed: Path, cwd: Path, *words: str) -> str:
    """Return the output of the installed command in a folder outside the checkout."""
    around = {name: value for name, value in os.environ.items() if name != "HDARTS_RUNS"}
    around |= {"PYTHONPATH": str(installed), "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-m", "hdarts", *words]
    done = subprocess.run(command, cwd=cwd, env=around, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_installed_command_prints_help_and_starts_a_workbook(installed, tmp_path):
    output = hdarts(installed, tmp_path, "--help")
    for verb in ("run", "status", "report", "batch-size", "init", "export", "predict"):
        assert re.search(rf"^  {verb} ", output, re.MULTILINE), verb
    hdarts(installed, tmp_path, "init", "mine")
    assert names(tmp_path / "mine") == sources() | {"README.md"}
    listed = hdarts(installed, tmp_path / "mine", "status", "params/studies/tiny.yaml")
    assert listed.count("waiting") == 4, "three runs, and the head of the table"


def test_the_wheel_has_all_files_of_the_package(installed):
    ignored = ("__pycache__", ".pyc")
    assert not any(path.is_symlink() for path in (ROOT / "hdarts").rglob("*")), "Windows has none"
    ours = {name for name in names(ROOT / "hdarts") if not any(word in name for word in ignored)}
    assert ours <= names(installed / "hdarts")


def test_the_version_is_stated_once_and_heads_the_changes(installed, tmp_path):
    assert hdarts(installed, tmp_path, "--version") == f"hdarts {VERSION}\n"
    changes = re.findall(r"^## (\S+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert changes[0] == VERSION
    assert not [path for path in (ROOT / "hdarts").rglob("*.py") if VERSION in path.read_text()]


@pytest.mark.soak
def test_a_study_runs_in_a_workbook_of_an_installed_package(installed, tmp_path):
    hdarts(installed, tmp_path, "init", "mine")
    output = hdarts(installed, tmp_path / "mine", "run", "params/studies/tiny.yaml", "--jobs", "1")
    assert "report: " in output
    assert (tmp_path / "mine/runs/tiny/report.html").is_file()
    assert not (tmp_path / "runs").exists()
