"""A project of tiny notebooks without torch, with special parameter models, for the tests of studies."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import Field

from hdarts.params import Parameters
from hdarts.workbook import study as studies
from helpers import ROOT


class Toy(Parameters):
    stage: ClassVar[str] = "toy"
    seed: Annotated[int, Field(ge=0)]
    most_steps: Annotated[int, Field(ge=2)]


class Select(Parameters):
    stage: ClassVar[str] = "select"
    searches: list[str]


class Look(Parameters):
    stage: ClassVar[str] = "look"
    search: str
    seed: int
    batch_size: int


class Analysis(Parameters):
    stage: ClassVar[str] = "analysis"
    study: str


MODELS: dict[str, type[Parameters]] = {"01_toy": Toy, "02_select": Select, "03_look": Look, "04_analysis": Analysis}
CELLS = {
    "01_toy": "run = ''\nseed = 0\nmost_steps = 2",
    "02_select": "run = ''\nsearches = []",
    "03_look": "run = ''\nsearch = ''\nseed = 0\nbatch_size = 2",
    "04_analysis": "run = ''\nstudy = ''",
}
START = """
import json, os, pathlib, time
folder = pathlib.Path(os.environ["HDARTS_RUNS"]) / run
with open(folder.parent.parent / "order.txt", "a") as file:
    print(run, file=file)
"""
FINISH = """
without = os.environ.get("HDARTS_MISSING", "").split()  # as `Run.finish` does
result = {"accuracy": 97.25, "study": globals().get("study", ""), **({"without": without} if without else {})}
(folder / ("partial.json" if without else "result.json")).write_text(json.dumps(result))
"""
STUDY = """
study: tiny
title: A tiny study
stages:
  toy:
    notebook: 01_toy
    arms: {slow: {preset: slow}, fast: {}, random: {}}
    matrix: {seed: [2, 20]}
  select:
    notebook: 02_select
    each: {stage: toy, by: arm, except: {arm: random}, as: searches}
  look:
    notebook: 03_look
    each:
      - {stage: select, as: search}
      - {stage: toy, where: {arm: random, seed: 2}, as: search}
    matrix: {batch_size: [4]}
  analysis: {notebook: 04_analysis, after: everything}
"""


def write_notebook(path: Path, parameters: str, *code: str) -> None:
    """Write a notebook with a title, a cell tagged `parameters` and cells of code."""
    cells: list[dict[str, Any]] = [{"cell_type": "markdown", "id": "title", "metadata": {}, "source": "# Title"}]
    for number, source in enumerate((parameters, *code)):
        metadata = {"tags": ["parameters"]} if number == 0 else {}
        cell = {"cell_type": "code", "id": f"cell-{number}", "metadata": metadata, "source": source}
        cells.append(cell | {"outputs": [], "execution_count": None})
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    book = {"nbformat": 4, "nbformat_minor": 5, "metadata": {"kernelspec": kernel}, "cells": cells}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(book))


def write_project(root: Path, study: str = STUDY, **code: str) -> Path:
    """Write notebooks, a preset and a study below `root`; `code` replaces the working cell of notebooks by name."""
    for name, parameters in CELLS.items():
        work = code.get(name.split("_", 1)[1], "")
        write_notebook(root / "notebooks" / f"{name}.ipynb", parameters, START, work, FINISH)
    (root / "params").mkdir(exist_ok=True)
    (root / "params" / "slow.yaml").write_text("most_steps: 7\n")
    (root / "study.yaml").write_text(study)
    return root / "study.yaml"


def end(folder: Path, result: dict[str, Any]) -> None:
    """Write the files of a finished run."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "result.json").write_text(json.dumps(result))
    (folder / "notebook.ipynb").write_text(json.dumps({"metadata": {"papermill": {"end_time": "then"}}, "cells": []}))
    (folder / "notebook.html").write_text("<p>executed</p>")


def plan_study(path: Path, scale: str = "full") -> studies.Plan:
    """Plan a study with the models of these notebooks."""
    return studies.plan_study(path, MODELS, scale)


COMMAND = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs of a shell ignore Ctrl-C
import helpers.small_project as small_project
from hdarts.workbook import cli, commands
commands.plan_study = small_project.plan_study
cli.main()
"""


def hdarts(*words: str | Path, runs: Path) -> subprocess.Popen[str]:
    """Start the command `hdarts`, its runs folder at `runs`, for the models of these notebooks."""
    here = ROOT / "tests"
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND, *map(str, words)],
        env={**os.environ, "HDARTS_RUNS": str(runs), "PYTHONPATH": f"{here}:{here.parent}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(*words: str | Path, runs: Path) -> tuple[int, str, str]:
    """Run the command `hdarts` to its end; return exit code, standard output and standard error."""
    process = hdarts(*words, runs=runs)
    out, err = process.communicate(timeout=600)
    return process.returncode, out, err
