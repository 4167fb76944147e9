"""The solutions of the exercises: one notebook for each notebook, executed as a run is, with small parameters."""

import json
import os
import re
from pathlib import Path

import pytest

from hdarts.runs.paths import notebooks_folder
from hdarts.workbook.study.process import ended, start
from hdarts.workbook.study.run_notebook import Task, run_notebook

FOLDER = notebooks_folder() / "solutions"
NAMES = sorted(path.stem for path in notebooks_folder().glob("*.ipynb"))
QUICK = {"space": "nasbench201", "method": "hypernetwork", "channels": 2, "layers": 1, "limit": 160}
SMALL = {  # what makes a solution short; the others take seconds with their defaults
    "02_toy_hypernetwork": {"steps": 30},
    "03_search": {"limit": 160, "epochs": 1},
    "04_hypergradients": {"search": QUICK, "reference_steps": 2, "batch_size": 8},
    "05_select": {"limit": 160},
    "06_evaluate": {"limit": 160, "epochs": 1},  # half of the images fill a batch
    "08_relatives": {"limit": 160, "epochs": 1},
    "09_price_of_a_response": {"steps": 200},
    "10_interference": {"epochs": 1, "cells": 5, "own_epochs": 1},
}


def words_of(path: Path, kind: str = "markdown") -> str:
    cells = json.loads(path.read_text())["cells"]
    return "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == kind)


def test_each_notebook_has_solutions():
    assert sorted(path.stem for path in FOLDER.glob("*.ipynb")) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_each_exercise_has_a_prediction_and_what_one_learns(name: str):
    exercises = words_of(notebooks_folder() / f"{name}.ipynb").partition("**Exercises.**")[2]
    assert f"`solutions/{name}.ipynb`" in exercises
    asked = re.findall(r"(?:^|\s)\((\d)\)\s", exercises)
    assert asked == [str(n + 1) for n in range(len(asked))] and 2 <= len(asked) <= 4
    answers = words_of(FOLDER / f"{name}.ipynb")
    assert re.findall(r"^## \((\d)\) ", answers, re.MULTILINE) == asked
    assert answers.count("**Prediction.**") == answers.count("**What one learns.**") == len(asked)
    assert f"(../{name}.ipynb)" in answers


@pytest.mark.parametrize("path", [notebooks_folder() / f"{name}.ipynb" for name in NAMES], ids=lambda path: path.stem)
def test_a_notebook_and_its_solutions_say_first_how_long_they_take_and_what_they_need(path: Path):
    for one in (path, FOLDER / path.name):
        first = "".join(json.loads(one.read_text())["cells"][0]["source"])
        time, _, needs = first.partition("**Time.**")[2].partition("**Needs**")
        assert "to run" in time and "to read" in time and needs.strip(), one.name


@pytest.mark.parametrize("name", NAMES)
def test_solutions_have_a_parameters_cell_that_sets_what_the_test_makes_short(name: str):
    cells = json.loads((FOLDER / f"{name}.ipynb").read_text())["cells"]
    (parameters,) = (cell for cell in cells if cell["metadata"].get("tags") == ["parameters"])
    assert {*SMALL.get(name, {})} <= {*re.findall(r"^(\w+) = ", "".join(parameters["source"]), re.MULTILINE)}


@pytest.mark.parametrize("name", NAMES)
def test_solutions_run(name: str, tmp_path: Path):
    environment = {**os.environ, "HDARTS_RUNS": str(tmp_path / "runs"), "OMP_NUM_THREADS": "1"}
    task = Task(str(FOLDER / f"{name}.ipynb"), str(tmp_path), str(FOLDER), SMALL.get(name, {}))
    process = start(run_notebook, task, environment)
    assert ended(process, 300)
    assert process.exitcode == 0, (tmp_path / "log.txt").read_text()[-3000:]
    cells = json.loads((tmp_path / "notebook.ipynb").read_text())["cells"]
    assert not [output for cell in cells for output in cell.get("outputs", []) if output["output_type"] == "error"]
    assert (tmp_path / "notebook.html").is_file()
