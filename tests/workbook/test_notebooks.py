"""The notebooks as users run them: by papermill, alone with their defaults, and as the study of three runs."""

import ast
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
from helpers.command import called

from hdarts.runs.paths import notebooks_folder
from hdarts.runs.run import read_result
from hdarts.workbook.init import start as start_workbook

ROOT = notebooks_folder().parent
NAMES = sorted(path.stem for path in notebooks_folder().glob("*.ipynb"))


@pytest.fixture
def environment(tmp_path):
    return {**os.environ, "HDARTS_RUNS": str(tmp_path / "runs"), "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}


def papermill(
    notebook: str, out: Path, *more: str, environment: dict, twice: bool = False
) -> subprocess.CompletedProcess:
    """Execute a notebook; `twice`: with all cells after the parameters cell once more in the same kernel."""
    path = notebooks_folder() / f"{notebook}.ipynb"
    if twice:
        content = nbformat.read(path, as_version=4)
        cells = [cell.source for cell in content.cells if cell.cell_type == "code" and not cell.metadata.get("tags")]
        content.cells += map(nbformat.v4.new_code_cell, cells)
        nbformat.write(content, path := out.with_name(f"{notebook}-twice.ipynb"))
    command = [sys.executable, "-m", "papermill", str(path), str(out), *more, "--no-progress-bar"]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)


def only_run(runs: Path) -> Path:
    (result,) = runs.rglob("result.json")
    return result.parent


def test_there_are_eleven():
    assert [name[:2] for name in NAMES] == ["01", "02", "03", "04", "05", "06", "07", "08", "09", "10", "11"]


@pytest.mark.parametrize("name", NAMES)
def test_the_last_statement_of_a_notebook_writes_its_result(name):
    cells = nbformat.read(notebooks_folder() / f"{name}.ipynb", as_version=4).cells
    last = [cell.source for cell in cells if cell.cell_type == "code"][-1]
    assert re.match(r"(run_folder\.|sections\.|s\.)?finish\(", ast.unparse(ast.parse(last).body[-1]))


# what makes a notebook short; 03 and 06 run below. With their defaults notebooks run in the test after this one
SHORT = {
    "01_toy_bilevel": "most_steps: 8",
    "02_toy_hypernetwork": "steps: 8",
    "04_hypergradients": "reference_steps: 2, terms: 1, batch_size: 16",
    "05_select": "",
    "07_analysis": "",
    "08_relatives": "epochs: 2, preset_epochs: 1, draws: 8",
    "09_price_of_a_response": "steps: 20, budget: 12, supernet_budget: 8, every: 20, unroll: 2",
    "10_interference": "limit: 100, epochs: 2, cells: 2, own_epochs: 1",
    "11_one_step": "",
}


def test_each_notebook_runs_by_itself(tmp_path, environment):
    """In one study, whose runs share a process that has imported everything."""
    assert {*SHORT, "03_search", "06_evaluate"} == {*NAMES}
    stages = [f"  {name}: {{notebook: {name}, parameters: {{{values}}}}}" for name, values in SHORT.items()]
    start_workbook(tmp_path / "mine")
    study = tmp_path / "mine" / "params" / "studies" / "alone.yaml"
    study.write_text("\n".join(["study: alone", "stages:", *stages, ""]))
    done = hdarts("run", str(study), "--jobs", "1", environment=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    for name in SHORT:
        (run,) = (tmp_path / "runs" / "alone" / name).iterdir()
        assert read_result(run) is not None
        if name != "07_analysis":  # which has nothing to draw where no study ran
            assert list((run / "figures").glob("*.png")) and list((run / "figures").glob("*.svg"))


@pytest.mark.soak
@pytest.mark.parametrize("name", NAMES)
def test_the_cells_of_a_notebook_with_its_defaults_can_be_run_again(name, tmp_path, environment):
    done = papermill(name, tmp_path / "out.ipynb", environment=environment, twice=True)
    assert done.returncode == 0, done.stderr[-3000:]


def test_a_preset_finds_a_cell_of_nas_bench_201_that_is_drawn_and_trained(tmp_path, environment):
    """03 with a file of parameters, as it is, and a few others; then 06; the cells of both run twice."""
    small = {"data": "generated", "limit": 80, "channels": 2, "layers": 1, "epochs": 1, "batch_size": 16}
    more = [word for name, value in small.items() for word in ("-p", name, str(value))]
    preset = ("-f", "params/search/hyperdarts-2.yaml", "-p", "search_seed", "20", "-p", "space", "nasbench201")
    done = papermill("03_search", tmp_path / "03.ipynb", *preset, *more, environment=environment, twice=True)
    assert done.returncode == 0, done.stderr[-3000:]
    executed = nbformat.read(tmp_path / "03.ipynb", as_version=4)
    assert "\r" not in "".join(o.get("text", "") for c in executed.cells for o in c.get("outputs", []))
    run = only_run(tmp_path / "runs")
    assert run.parent == tmp_path / "runs" / "interactive" / "search"
    result = read_result(run)
    assert result is not None and result["search_seed"] == 20 and result["method"] == "hypernetwork"
    assert {path.stem for path in (run / "figures").glob("*.png")} >= {"search", "genotype"}
    genotype = ("-p", "genotype", str(run / "genotype.json"))
    done = papermill("06_evaluate", tmp_path / "06.ipynb", *more, *genotype, environment=environment, twice=True)
    assert done.returncode == 0, done.stderr[-3000:]
    (evaluation,) = (tmp_path / "runs" / "interactive" / "evaluate").iterdir()
    assert read_result(evaluation) is not None and list((evaluation / "figures").glob("*.svg"))


def test_a_misspelt_parameter_stops_a_notebook_before_it_does_anything(tmp_path, environment):
    done = papermill("03_search", tmp_path / "out.ipynb", "-p", "chanels", "4", environment=environment)
    assert done.returncode != 0 and "did you mean `channels`?" in done.stderr
    assert not (tmp_path / "runs").exists()


def hdarts(*words: str, environment: dict) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "hdarts", *words]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=1800)


@pytest.mark.soak
def test_a_killed_and_resumed_study_equals_an_uninterrupted_one(tmp_path, environment):
    """The whole process group is killed while the search runs."""
    study = "params/studies/tiny.yaml"
    done = hdarts("run", study, environment=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "runs" / "tiny" / "report.html").exists()

    killed = {**environment, "HDARTS_RUNS": str(tmp_path / "killed")}
    command = [sys.executable, "-m", "hdarts", "run", study]
    process = subprocess.Popen(command, cwd=ROOT, env=killed, start_new_session=True, stdout=subprocess.DEVNULL)
    waited = time.monotonic() + 120
    while not list((tmp_path / "killed").rglob("params.yaml")) and time.monotonic() < waited:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not list((tmp_path / "killed").rglob("tiny/evaluate/*/result.json"))
    again = hdarts("run", study, environment=killed)
    assert again.returncode == 0, again.stdout + again.stderr

    exact = ("params.yaml", "metrics.csv", "hypergradients.csv", "alpha.csv", "genotype.json", "result.json")
    files = [p.relative_to(tmp_path / "runs") for p in (tmp_path / "runs" / "tiny").rglob("*") if p.name in exact]
    assert len(files) == 13
    for file in files:
        assert (tmp_path / "runs" / file).read_bytes() == (tmp_path / "killed" / file).read_bytes(), file

    untouched = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs" / "tiny").rglob("result.json")}
    assert hdarts("run", study, environment=environment).returncode == 0
    assert untouched == {path: path.stat().st_mtime_ns for path in untouched}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("channels: 2, layers: 3, epochs: 2", "chanels: 2, layers: 3, epochs: 2", "did you mean `channels`"),
        ("channels: 2, layers: 3, epochs: 2", "channels: 0, layers: 3, epochs: 2", "`channels` = 0"),
        ("channels: 2, layers: 3, epochs: 2", "channels: 2, layers: 2, epochs: 2", "`layers` = 2"),
        ("channels: 2, layers: 3, epochs: 2", "channels: two, layers: 3, epochs: 2", "`channels` = 'two'"),
        ("batch_size: 16", "batch_size: 64", "`batch_size` = 64: larger than the 40 images"),
        ("data: generated", "data: cifar11", "data set 'cifar11' is unknown"),
        ("data: generated", "device: mps, data: generated", "`device` = 'mps': PyTorch finds no Apple GPU"),
        ("data: generated", "device: 'cuda:7', data: generated", "`device` = 'cuda:7': PyTorch finds"),
        ("layers: 3, epochs: 2", "layers: 3, epochs: 2, layers: 4", "layers is given twice"),
        ("notebook: 03_search", "notebook: 03_serch", "03_serch"),
        ("each: {stage: select, as: genotype}", "after: [search]", "genotype"),
    ],
)
def test_bad_input_is_one_sentence_and_nothing_is_written(old, new, message, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HDARTS_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    text = (ROOT / "params" / "studies" / "tiny.yaml").read_text()
    assert old in text
    study = ROOT / "params" / "studies" / f".bad-{os.getpid()}.yaml"
    study.write_text(text.replace(old, new))
    try:
        if new.startswith("after"):
            study.write_text(study.read_text().replace("cutout: 0}", "cutout: 0, genotype: no-such-file.json}"))
        for more in ((), ("--dry-run",)):
            assert called(monkeypatch, "run", study, *more) == 2
            err = capsys.readouterr().err
            assert message in err and len(err.strip().splitlines()) == 1 and "Traceback" not in err
    finally:
        study.unlink()
    assert not (tmp_path / "runs").exists()
