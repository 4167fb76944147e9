"""The report page of a study: one HTML file with its tables and pictures inside, and links to the files of its runs.

The page shows what the study's analysis run left in its folder (`results.csv` and further tables, named and captioned
by `tables.json`; `figures/*.png`, by `captions.json`), then every run of every stage. It asks the network for nothing,
and is a plain page where scripts are off. `page.html.jinja`, `page.css` and `page.js` are put into one file.
"""

import base64
import io
import json
import math
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
from hdarts.runs.run import read_result

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
RUNS = "runs"  # a column of a table that names runs, a space between them
FIGURE_DPI = 200  # of a picture that does not say it
SMALL = 1000  # pixels; pictures of single runs are kept this wide at most, the file itself is linked
LONG = 12  # rows; longer tables are folded


Cell = str | dict[str, str]  # words, or {name of a run: its address}


@dataclass(frozen=True)
class Table:
    """A table ready to print: words or links, and which columns are numbers."""

    name: str
    caption: str
    columns: list[str]
    numeric: list[bool]
    rows: list[list[Cell]]


@dataclass(frozen=True)
class Figure:
    """A picture as a data address, its words, its file, and its size on the page (96 dots an inch)."""

    name: str
    caption: str
    source: str
    file: str
    width: int
    height: int


@dataclass(frozen=True)
class RunEntry:
    """One run on the page."""

    name: str
    outcome: "Outcome"
    links: dict[str, str]
    figures: list[Figure]


@dataclass(frozen=True)
class StageEntry:
    """All runs of a stage: a table of labels and results whose rows belong to `runs`, in the same order."""

    name: str
    notebook: str
    table: Table
    runs: list[RunEntry]


def write(plan: "Plan", outcomes: "dict[str, Outcome]") -> tuple[Path | None, pd.DataFrame | None]:
    """Write `report.html` into the study's folder; return its path and the result table.

    Nothing is written, and None returned, while no run is done; the table is None while the analysis is not done.
    """
    if not any(outcome.state == "done" for outcome in outcomes.values()):
        return None, None
    analyses = [r for r in plan.runs if r.params.stage == "analysis" and outcomes[r.name].state == "done"]
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
        tables=[_table(*table, plan.folder) for table in tables],
        figures=figures,
        stages=[_stage(name, plan, outcomes) for name in plan.study.stages],
        long=LONG,
        slug=lambda words: "".join(c if c.isalnum() else "-" for c in words.lower()),
    )
    write_atomic(plan.folder / "report.html", page)
    results = [frame for name, _, frame in tables if name == "results"]
    return plan.folder / "report.html", results[0] if results else None


def _stage(name: str, plan: "Plan", outcomes: "dict[str, Outcome]") -> StageEntry:
    runs = [run for run in plan.runs if run.stage == name]
    rows, entries = [], []
    for run in runs:
        outcome = outcomes[run.name]
        result = (read_result(run.folder) or {}) if outcome.state == "done" else {}
        short = {key: value for key, value in result.items() if _is_short(value)}
        rows.append({**(run.labels or {"run": Path(run.name).name}), "state": outcome.state, **short})
        rows[-1] |= {"seconds": outcome.seconds and round(outcome.seconds, 1), "error": outcome.error}
        figures = [] if run.params.stage == "analysis" else _figures(run.folder, plan.folder, SMALL)
        entries.append(RunEntry(run.name, outcome, _links(run, plan), figures))
    frame = pd.DataFrame(rows)
    for name_of_last in ("seconds", "error"):  # whatever results the first run had
        frame[name_of_last] = frame.pop(name_of_last)
    if not any(outcomes[run.name].error for run in runs):
        frame = frame.drop(columns="error")
    return StageEntry(name, plan.study.stages[name].notebook, _table(name, "", frame, plan.folder), entries)


def _is_short(value: Any) -> bool:
    return isinstance(value, bool | int | float) or (isinstance(value, str) and len(value) <= 40)


def _links(run: "PlannedRun", plan: "Plan") -> dict[str, str]:
    return {
        word: quote((run.folder / name).relative_to(plan.folder).as_posix())
        for word, name in FILES.items()
        if (run.folder / name).is_file()
    }


def _captions(file: Path, found: list[str]) -> dict[str, str]:
    """The captions in a JSON file {name: caption}, in its order; without the file, all that was found."""
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {name: name.replace("_", " ") for name in found}
    return {Path(name).stem: caption for name, caption in told.items() if Path(name).stem in found}


def _tables(folder: Path) -> list[tuple[str, str, pd.DataFrame]]:
    """The analysis run's tables, the result table first."""
    found = sorted(path.stem for path in folder.glob("*.csv"))
    captions = {"results": "Results"} if "results" in found else {}
    captions |= _captions(folder / "tables.json", found)
    return [(name, caption, pd.read_csv(folder / f"{name}.csv")) for name, caption in captions.items()]


def _figures(folder: Path, page_folder: Path, width: int | None) -> list[Figure]:
    """The pictures of a run, those wider than `width` pixels made smaller."""
    found = sorted(path.stem for path in (folder / "figures").glob("*.png"))
    figures = []
    for name, caption in _captions(folder / "captions.json", found).items():
        path = folder / "figures" / f"{name}.png"
        with Image.open(path) as picture:
            content = path.read_bytes() if width is None or picture.width <= width else _smaller(picture, width)
            # at the size it was drawn for, letters are as large in every figure
            scale = 96 / picture.info.get("dpi", (FIGURE_DPI,))[0]
            size = round(picture.width * scale), round(picture.height * scale)
        source = f"data:image/png;base64,{base64.b64encode(content).decode()}"
        figures.append(Figure(name, caption, source, quote(path.relative_to(page_folder).as_posix()), *size))
    return figures


def _smaller(picture: Image.Image, width: int) -> bytes:
    size = (width, round(picture.height * width / picture.width))
    buffer = io.BytesIO()
    # 256 colours are enough for a plot this small and make it a third as large
    picture.convert("RGB").resize(size, Image.Resampling.LANCZOS).quantize(256).save(buffer, "PNG")
    return buffer.getvalue()


def _table(name: str, caption: str, frame: pd.DataFrame, page_folder: Path) -> Table:
    numeric = [pd.api.types.is_numeric_dtype(frame[c]) and frame[c].dtype != bool for c in frame.columns]
    columns: list[list[Cell]] = [
        [_run_links(words, page_folder) if c == RUNS else words for words in column_words(list(frame[c]))]
        for c in frame
    ]
    rows = [list(row) for row in zip(*columns, strict=True)]
    return Table(name, caption, [str(c).replace("_", " ") for c in frame.columns], numeric, rows)


def _run_links(names: str, page_folder: Path) -> dict[str, str]:
    """{last part of a run's name: address of its notebook's page, or of its folder}; one that is gone is left out."""
    folders = [folder for name in names.split() if (folder := below_runs(name)).is_dir()]
    files = [page if (page := folder / "notebook.html").is_file() else folder for folder in folders]
    return {folder.name: quote(os.path.relpath(file, page_folder)) for folder, file in zip(folders, files, strict=True)}


def column_words(values: list[Any]) -> list[str]:
    """The values of a column as a table shows them: numbers of similar size with the same number of decimals."""
    words = [words_of(value) for value in values]
    sizes = [abs(value) for value in values if isinstance(value, float) and value and math.isfinite(value)]
    decimals = max((len(one.partition(".")[2]) for one in words if "e" not in one), default=0)
    if not sizes or not decimals or not all(isinstance(value, float) for value in values):
        return words
    if max(sizes) > 1000 * min(sizes):  # the small ones would lose their digits
        return words
    decimals = min(decimals, max(0, 3 - math.floor(math.log10(max(sizes)))))
    return [word and f"{value:.{decimals}f}" for value, word in zip(values, words, strict=True)]


def words_of(value: Any) -> str:
    """A value as a table shows it: numbers to four digits, nothing for what is missing."""
    if value is None or (isinstance(value, float) and value != value):
        return ""
    if isinstance(value, float):
        return f"{value:.0f}" if value.is_integer() and abs(value) < 1e15 else f"{value:.4g}"
    return str(value)
