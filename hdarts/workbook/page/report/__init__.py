"""The report of a study: one HTML file with its tables and figures, and links to the files of its runs.

It shows the files of the study's analysis run (`results.csv` and further tables, named and captioned by `tables.json`;
`figures/*.png`, captioned by `captions.json`), then every run of every stage. It loads nothing from the network and can
be read without scripts. `page.html.jinja`, `page.css` and `page.js` become one file.
"""

import base64
import io
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import jinja2
import pandas as pd
from PIL import Image

from hdarts.runs.atomic import write_atomic
from hdarts.runs.paths import below_runs
from hdarts.runs.provenance import provenance
from hdarts.runs.run import read_result, read_table
from hdarts.workbook.formatting import format_column

if TYPE_CHECKING:
    from hdarts.workbook.study import Plan, PlannedRun
    from hdarts.workbook.study.runner import Outcome

FILES = {
    "notebook": "notebook.html",
    "ipynb": "notebook.ipynb",
    "parameters": "params.yaml",
    "provenance": "provenance.json",
    "log": "log.txt",
}
# columns of results with names that say more
HEADS = {
    "last_test_accuracy": "test accuracy of the last epoch",
    "best_test_accuracy": "best epoch's test accuracy (chosen on the test set)",
}
RUNS = "runs"  # a column of a table that names runs, separated by spaces
FIGURE_DPI = 200  # of a picture that does not state it
SMALL = 1000  # pixels; figures of single runs are at most this wide, and link to the full size
LONG = 12  # rows; longer tables are folded

Cell = str | dict[str, str]  # words, or {name of a run: its address}


@dataclass(frozen=True)
class PageTable:
    """A table of the page: text or links, and which columns are numbers."""

    name: str
    caption: str
    columns: list[str]
    numeric: list[bool]
    rows: list[list[Cell]]


@dataclass(frozen=True)
class PageFigure:
    """A figure of the page: data address, caption, file, and size in CSS pixels (96 per inch)."""

    name: str
    caption: str
    source: str
    file: str
    width: int
    height: int


@dataclass(frozen=True)
class PageRun:
    """One run of the page."""

    name: str
    outcome: "Outcome"
    links: dict[str, str]
    figures: list[PageFigure]


@dataclass(frozen=True)
class PageStage:
    """All runs of a stage, and a table of their labels and results with one row per run, in the same order."""

    name: str
    notebook: str
    table: PageTable
    runs: list[PageRun]


def write_report(plan: "Plan", outcomes: "dict[str, Outcome]") -> tuple[Path | None, pd.DataFrame | None]:
    """Write `report.html` into the study's folder; return its path and the result table.

    Before a run is done nothing is written and None is returned; before the analysis is done the table is None.
    """
    if not any(outcome.state == "done" for outcome in outcomes.values()):
        return None, None
    shown = ("done", "partial")
    analyses = [r for r in plan.runs if r.params.stage == "analysis" and outcomes[r.name].state in shown]
    tables = [table for run in analyses for table in _tables(run.folder)]
    figures = [figure for run in analyses for figure in _figures(run.folder, plan.folder, None)]
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("hdarts.workbook.page.report", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("page.html.jinja").render(
        study=plan.study,
        command=f"hdarts run {plan.path}" + (f" --scale {plan.scale}" if plan.scale != "full" else ""),
        written=time.strftime("%Y-%m-%d %H:%M"),
        made_with=provenance(),
        outcomes=outcomes,
        analysed=bool(analyses),
        found=[sentence for run in analyses for sentence in _result(run.folder).get("found", [])],
        notes=[note for run in analyses for note in _notes(run.folder)],
        tables=[_table(*table, plan.folder) for table in tables],
        figures=figures,
        stages=[_stage(name, plan, outcomes) for name in plan.study.stages],
        long=LONG,
        slug=lambda words: "".join(c if c.isalnum() else "-" for c in words.lower()),
    )
    write_atomic(plan.folder / "report.html", page)
    results = [frame for name, _, frame in tables if name == "results"]
    return plan.folder / "report.html", results[0] if results else None


def _result(folder: Path) -> dict[str, Any]:
    """Return the result of an analysis, or what it has so far."""
    return read_result(folder) or read_result(folder, "partial.json") or {}


def _notes(folder: Path) -> list[str]:
    """Return the sentences at the head of the page: whose runs it shows, what they could show, the number of tests."""
    result = _result(folder)
    source = [f"Tables and figures are those of the runs of study {result['study']}."] if "study" in result else []
    if without := result.get("without"):
        source += [f"Runs that are missing from them, as they are not done: {', '.join(without)}."]
    return [*source, *result.get("checks", []), *([result["note"]] if "note" in result else [])]


def _stage(name: str, plan: "Plan", outcomes: "dict[str, Outcome]") -> PageStage:
    runs = [run for run in plan.runs if run.stage == name]
    rows, entries = [], []
    for run in runs:
        outcome = outcomes[run.name]
        result = (read_result(run.folder) or {}) if outcome.state == "done" else {}
        first = {key: result[key] for key in HEADS if key in result}
        short = {HEADS.get(key, key): value for key, value in {**first, **result}.items() if _is_short(value)}
        rows.append({**(run.labels or {"run": Path(run.name).name}), "state": outcome.state, **short})
        rows[-1] |= {"seconds": outcome.seconds and round(outcome.seconds, 1), "error": outcome.error}
        figures = [] if run.params.stage == "analysis" else _figures(run.folder, plan.folder, SMALL)
        entries.append(PageRun(run.name, outcome, _links(run, plan), figures))
    frame = pd.DataFrame(rows)
    for last in ("seconds", "error"):  # after the results of all runs
        frame[last] = frame.pop(last)
    if not any(outcomes[run.name].error for run in runs):
        frame = frame.drop(columns="error")
    return PageStage(name, plan.study.stages[name].notebook, _table(name, "", frame, plan.folder), entries)


def _is_short(value: Any) -> bool:
    return isinstance(value, bool | int | float) or (isinstance(value, str) and len(value) <= 40)


def _links(run: "PlannedRun", plan: "Plan") -> dict[str, str]:
    return {
        word: quote((run.folder / name).relative_to(plan.folder).as_posix())
        for word, name in FILES.items()
        if (run.folder / name).is_file()
    }


def _captions(file: Path, names: list[str]) -> dict[str, str]:
    """Return the captions in a JSON file {name: caption}, in its order; without the file, one for each name."""
    try:
        captions = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {name: name.replace("_", " ") for name in names}
    return {Path(name).stem: caption for name, caption in captions.items() if Path(name).stem in names}


def _tables(folder: Path) -> list[tuple[str, str, pd.DataFrame]]:
    """Return the tables of the analysis run, the result table first."""
    names = sorted(path.stem for path in folder.glob("*.csv"))
    captions = {"results": "Results"} if "results" in names else {}
    captions |= _captions(folder / "tables.json", names)
    tables = [(name, caption, read_table(folder, name)) for name, caption in captions.items()]
    return [table for table in tables if len(table[2])]


def _figures(folder: Path, page_folder: Path, width: int | None) -> list[PageFigure]:
    """Return the figures of a run, those wider than `width` pixels made smaller."""
    names = sorted(path.stem for path in (folder / "figures").glob("*.png"))
    figures = []
    for name, caption in _captions(folder / "captions.json", names).items():
        path = folder / "figures" / f"{name}.png"
        with Image.open(path) as picture:
            content = path.read_bytes() if width is None or picture.width <= width else _smaller(picture, width)
            # at the size it was drawn for, all figures have letters of the same size
            scale = 96 / picture.info.get("dpi", (FIGURE_DPI,))[0]
            size = round(picture.width * scale), round(picture.height * scale)
        source = f"data:image/png;base64,{base64.b64encode(content).decode()}"
        figures.append(PageFigure(name, caption, source, quote(path.relative_to(page_folder).as_posix()), *size))
    return figures


def _smaller(picture: Image.Image, width: int) -> bytes:
    size = (width, round(picture.height * width / picture.width))
    buffer = io.BytesIO()
    # 256 colours are enough for a plot this small and make it a third as large
    picture.convert("RGB").resize(size, Image.Resampling.LANCZOS).quantize(256).save(buffer, "PNG")
    return buffer.getvalue()


def _table(name: str, caption: str, frame: pd.DataFrame, page_folder: Path) -> PageTable:
    numeric = [pd.api.types.is_numeric_dtype(frame[c]) and frame[c].dtype != bool for c in frame.columns]
    columns: list[list[Cell]] = [
        [_run_links(words, page_folder) if c == RUNS else words for words in format_column(list(frame[c]))]
        for c in frame
    ]
    rows = [list(row) for row in zip(*columns, strict=True)]
    return PageTable(name, caption, [str(c).replace("_", " ") for c in frame.columns], numeric, rows)


def _run_links(names: str, page_folder: Path) -> dict[str, str]:
    """Map the last part of each run's name to the page of its notebook, else to its folder; skip missing runs."""
    folders = [folder for name in names.split() if (folder := below_runs(name)).is_dir()]
    files = [page if (page := folder / "notebook.html").is_file() else folder for folder in folders]
    return {folder.name: quote(os.path.relpath(file, page_folder)) for folder, file in zip(folders, files, strict=True)}
