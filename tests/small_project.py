"""A project of throw-away notebooks that need no torch, for the tests of studies: parameters of the real models."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

CELLS = {
    "01_toy_bilevel": "run = ''\nseed = 0\nmost_steps = 2",
    "04_hypergradients": (
        "run = ''\nsearch = ''\nseed = 0\nreference_steps = 1\nbatch_size = 2\ndevice = 'cpu'\nthreads = 0"
    ),
    "05_select": "run = ''\nsearches = []\nrequire_skip = True\nallow_no_skip = False",
    "07_analysis": "run = ''\nstudy = ''",
}
START = """
import json, os, pathlib, time
folder = pathlib.Path(os.environ["HDARTS_RUNS"]) / run
with open(folder.parent.parent / "order.txt", "a") as file:
    print(run, file=file)
"""
FINISH = '(folder / "result.json").write_text(json.dumps({"accuracy": 97.25}))'
STUDY = """
study: tiny
title: A tiny study
stages:
  toy:
    notebook: 01_toy_bilevel
    arms: {slow: {preset: slow}, fast: {}, random: {}}
    matrix: {seed: [2, 20]}
  select:
    notebook: 05_select
    each: {stage: toy, by: arm, except: {arm: random}, as: searches}
  look:
    notebook: 04_hypergradients
    each:
      - {stage: select, as: search}
      - {stage: toy, where: {arm: random, seed: 2}, as: search}
    matrix: {batch_size: [4]}
  analysis: {notebook: 07_analysis, parameters: {study: tiny}, after: everything}
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
    """Write notebooks, a preset and a study below `root` and return the study file.

    `code` replaces the working cell of single notebooks: `toy_bilevel="raise ValueError('no')"`.
    """
    for name, parameters in CELLS.items():
        work = code.get(name.split("_", 1)[1], "")
        write_notebook(root / "notebooks" / f"{name}.ipynb", parameters, START, work, FINISH)
    (root / "params").mkdir(exist_ok=True)
    (root / "params" / "slow.yaml").write_text("most_steps: 7\n")
    (root / "study.yaml").write_text(study)
    return root / "study.yaml"


def hdarts(*words: str | Path, runs: Path) -> subprocess.Popen[str]:
    """Start the command `hdarts` with its runs folder at `runs`."""
    return subprocess.Popen(
        [sys.executable, "-m", "hdarts", *map(str, words)],
        env={**os.environ, "HDARTS_RUNS": str(runs)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(*words: str | Path, runs: Path) -> tuple[int, str, str]:
    """Run the command `hdarts` to its end; return exit code, standard output and standard error."""
    process = hdarts(*words, runs=runs)
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err
