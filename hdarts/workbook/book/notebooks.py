"""Executed notebooks of a study for readers: one run per notebook, without what depends on the machine."""

import base64
import io
import json
import os
import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from hdarts.errors import ParameterError
from hdarts.runs.atomic import write_atomic
from hdarts.workbook.study import Plan, PlannedRun
from hdarts.workbook.study.runner import outcome_of

# of several runs of a notebook, that of this arm is shown: the quick study compares its hypergradients in notebook 04
ARM = "hyperdarts-2"
COLOURS = 48  # of a picture's palette
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
TO_RUNS = re.compile(r'<a href="\.\./[^"]*">(.*?)</a>', re.DOTALL)  # from a run folder to another: not in the book
WIDGET = "application/vnd.jupyter.widget-view+json"
# folders of this machine that output may name, and what readers know them by
PLACES = {"HDARTS_RUNS": "runs", "HDARTS_DATA": "$HDARTS_DATA", "HDARTS_CACHE": "$HDARTS_CACHE", "HOME": "~"}


def shown_runs(plan: Plan) -> dict[str, PlannedRun]:
    """Return one finished run for each notebook of a study, by the notebook's name; refuse a study that has not run."""
    shown: dict[str, PlannedRun] = {}
    for run in sorted(plan.runs, key=lambda run: run.labels.get("arm", ARM) != ARM):
        if run.notebook.stem not in shown and outcome_of(run.folder).state == "done":
            shown[run.notebook.stem] = run
    if missing := sorted({run.notebook.stem for run in plan.runs} - shown.keys()):
        study = "" if plan.study.study == "quick" else f" STUDY={plan.path}"
        names = f"of {', '.join(missing)}" if shown else "yet"
        raise ParameterError(f"{plan.path} has no finished run {names}; run `make workbook{study}` first")
    return dict(sorted(shown.items()))


def write_notebooks(plan: Plan, shown: dict[str, PlannedRun], folder: Path) -> None:
    """Write the notebooks of these runs into a folder, and a README that lists them with the run of each."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, run in shown.items():
        notebook = json.loads((run.folder / "notebook.ipynb").read_text(encoding="utf-8"))
        text = json.dumps(small(notebook, _roots(notebook, run)), indent=1, ensure_ascii=False)
        write_atomic(folder / f"{name}.ipynb", text + "\n")
    write_atomic(folder / "README.md", _readme(plan, shown))


def _readme(plan: Plan, shown: dict[str, PlannedRun]) -> str:
    path = plan.path.as_posix()
    rows = [f"| [{name}]({name}.ipynb) | `{run.name}` |" for name, run in shown.items()]
    return "\n".join(
        [
            f"# Executed notebooks of the study `{plan.study.study}`",
            "",
            textwrap.fill(plan.study.about or plan.study.title, 119),
            "",
            f"    hdarts run {path}",
            f"    python -m hdarts.workbook.book {path} --notebooks results/{plan.study.study} --table README.md",
            "",
            "The second command wrote these pages, one run of each notebook with pictures of fewer colours, and the",
            "result table in the README of hdarts.",
            "",
            "| notebook | run |",
            "| --- | --- |",
            *rows,
            "",
        ]
    )


def _roots(notebook: dict[str, Any], run: PlannedRun) -> list[str]:
    """Return the folders of the workbook and of `runs/` when the run was executed, from what papermill recorded."""
    recorded = notebook["metadata"].get("papermill", {})
    source, target = (Path(recorded.get(key) or ".") for key in ("input_path", "output_path"))
    roots = [source.parents[1:2], target.parents[run.name.count("/") + 2 :][:1]]
    return [str(root[0]) for root in roots if root]


def small(notebook: dict[str, Any], roots: Sequence[str]) -> dict[str, Any]:
    """Return an executed notebook with small pictures, and without widgets, escape sequences, times and local paths.

    Paths below the folders `roots` become relative to them.
    """
    metadata = {name: notebook["metadata"][name] for name in ("kernelspec", "language_info")}
    cells = [_cell(cell, roots) for cell in notebook["cells"]]
    if any("injected-parameters" in _tags(cell) for cell in cells):  # then the defaults are folded
        for cell in cells:
            if "parameters" in _tags(cell):
                cell["metadata"]["tags"] = [*_tags(cell), "hide-input"]
    return {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}


def _cell(cell: dict[str, Any], roots: Sequence[str]) -> dict[str, Any]:
    tags = _tags(cell)
    kept = {key: cell[key] for key in ("id", "cell_type") if key in cell}
    kept["source"] = "".join(cell["source"]).rstrip().splitlines(keepends=True)  # papermill's ends in an empty line
    kept["metadata"] = {"tags": tags} if tags else {}
    if cell["cell_type"] == "code":
        kept["execution_count"] = cell["execution_count"]
        kept["outputs"] = list(_outputs(cell["outputs"], roots))
    return kept


def _tags(cell: dict[str, Any]) -> list[str]:
    return cell["metadata"].get("tags", [])


def _outputs(outputs: Iterable[dict[str, Any]], roots: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield what a page can show; printed lines that follow each other become one output."""
    printed: dict[str, Any] | None = None
    for output in outputs:
        if output["output_type"] == "stream":
            text = _clean("".join(output["text"]), roots)
            if printed is not None and printed["name"] == output["name"]:
                printed["text"] += text
            else:
                printed = {"output_type": "stream", "name": output["name"], "text": text}
                yield printed
            continue
        printed = None
        data = output.get("data", {})
        if WIDGET not in data and output["output_type"] in ("display_data", "execute_result"):
            kept = {kind: _content(kind, content, roots) for kind, content in data.items() if kind != "image/svg+xml"}
            yield {**output, "data": kept}


def _content(kind: str, content: Any, roots: Sequence[str]) -> Any:
    if kind == "image/png":
        return _few_colours(content)
    if kind == "text/html":
        content = TO_RUNS.sub(r"\1", "".join(content))
    return _clean("".join(content), roots) if kind.startswith("text/") else content


def _few_colours(png: str) -> str:
    """Return a picture in base64 with a palette, which takes a quarter of the space; unchanged if that is larger."""
    before = base64.b64decode(png)
    buffer = io.BytesIO()
    picture = Image.open(io.BytesIO(before)).convert("RGB")
    picture.quantize(COLOURS, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(buffer, "png", optimize=True)
    return base64.b64encode(min(before, buffer.getvalue(), key=len)).decode()


def _clean(text: str, roots: Sequence[str]) -> str:
    """Remove escape sequences, and what a carriage return overwrites; make paths relative."""
    text = ESCAPES.sub("", text)
    text = re.sub(r"[^\n]*\r(?!\n)", "", text)
    for root in roots:
        text = text.replace(f"{root}{os.sep}", "")
    for variable, name in PLACES.items():
        if place := os.environ.get(variable, "").rstrip(os.sep):
            text = text.replace(place + os.sep, f"{name}/")
    return text
