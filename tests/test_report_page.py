"""The report page: what stands on it, and how it behaves in a real browser (Debian's `chromium`, headless)."""

import html.parser
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from PIL import Image
from small_project import plan, write_project

from hdarts.report_page import words_of, write
from hdarts.study import Plan, record

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="`chromium` is not installed (Debian: apt-get install chromium)"
)
RESULTS = "method,accuracy,sd\nhyperdarts-1,97.25,0.5\ndarts-first,9.5,0.25\nrandom,88.125,\n"
FAILURE = {
    "metadata": {"papermill": {"exception": True, "duration": 2.5}},
    "cells": [{"outputs": [{"output_type": "error", "ename": "ParameterError", "evalue": "x = 0: give more"}]}],
}


def draw(path: Path, width: int = 1500) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.linear_gradient("L").resize((width, width // 2)).save(path)


@pytest.fixture
def planned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    """A study whose runs are done by hand, but for one that failed and one that is missing."""
    monkeypatch.setenv("HDARTS_RUNS", str(tmp_path / "runs"))
    planned = plan(write_project(tmp_path))
    record(planned)
    for number, run in enumerate(planned.runs):
        run.folder.mkdir(parents=True)
        (run.folder / "result.json").write_text(json.dumps({"best_accuracy": 90 + number / 8, "all": [1, 2]}))
        (run.folder / "notebook.html").write_text("<p>executed</p>")
    draw(planned.runs[0].folder / "figures" / "loss.png")
    failed, missing = planned.runs[2].folder, planned.runs[3].folder
    (failed / "result.json").unlink()
    (failed / "notebook.ipynb").write_text(json.dumps(FAILURE))
    shutil.rmtree(missing)
    analysis = planned.runs[-1].folder
    for name in ("alpha", "accuracy", "extra"):
        draw(analysis / "figures" / f"{name}.png")
    (analysis / "captions.json").write_text(json.dumps({"accuracy": "Accuracy & spread", "alpha": "softmax(alpha)"}))
    (analysis / "results.csv").write_text(RESULTS)
    runs = " ".join([planned.runs[0].name, planned.runs[2].name, planned.runs[3].name])
    (analysis / "claims.csv").write_text(f"claim,verdict,runs\nfaster <b>,undecided,{runs}\nslower,not run here,\n")
    (analysis / "tables.json").write_text(json.dumps({"claims": "Claims and verdicts"}))
    return planned


class Page(html.parser.HTMLParser):
    """The addresses, pictures and words of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.alternatives: list[str] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = {name: value or "" for name, value in attrs}
        self.ids += [named["id"]] if "id" in named else []
        self.links += [named["href"]] if "href" in named else []
        self.sources += [named["src"]] if "src" in named else []
        self.alternatives += [named.get("alt", "")] if tag == "img" else []

    def handle_data(self, data: str) -> None:
        self.words += data


def page_of(planned: Plan) -> Page:
    path, _ = write(planned)
    assert path is not None
    return Page(path.read_text())


def test_nothing_is_written_before_a_run_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HDARTS_RUNS", str(tmp_path / "runs"))
    assert write(plan(write_project(tmp_path))) == (None, None)
    assert not (tmp_path / "runs").exists()


def test_the_result_table_is_returned_and_comes_first(planned: Plan) -> None:
    path, table = write(planned)
    assert path == planned.folder / "report.html" and table is not None
    assert list(table["method"]) == ["hyperdarts-1", "darts-first", "random"]
    words = page_of(planned).words
    assert words.index("hyperdarts-1") < words.index("Claims and verdicts") < words.index("faster <b>")


def test_figures_of_the_analysis_stand_in_the_order_of_their_captions(planned: Plan) -> None:
    page = page_of(planned)
    assert page.alternatives[:2] == ["Accuracy & spread", "softmax(alpha)"]
    assert len(page.alternatives) == 3 and page.alternatives[2].startswith("loss")  # `extra` has no caption


def test_without_captions_all_figures_and_tables_are_shown(planned: Plan) -> None:
    analysis = planned.runs[-1].folder
    (analysis / "captions.json").unlink()
    (analysis / "tables.json").unlink()
    page = page_of(planned)
    assert page.alternatives[:3] == ["accuracy", "alpha", "extra"]
    assert page.words.index("88.12") < page.words.index("undecided")


def test_a_verdict_links_to_the_runs_it_comes_from(planned: Plan) -> None:
    (planned.runs[2].folder / "notebook.html").unlink()
    first, second = (quote(planned.runs[n].folder.relative_to(planned.folder).as_posix()) for n in (0, 2))
    page = page_of(planned)
    assert page.links.count(f"{first}/notebook.html") == 3  # of the verdict, the stage's row and its files
    assert page.links.count(second) == 1  # without a page of the notebook: the folder
    assert "2 runs" in page.words  # the third one's folder is gone


def test_everything_is_inside_and_every_link_leads_somewhere(planned: Plan) -> None:
    page = page_of(planned)
    assert "default-src 'none'; img-src data:" in (planned.folder / "report.html").read_text()
    assert page.sources and all(source.startswith("data:image/png;base64,") for source in page.sources)
    inner = {link[1:] for link in page.links if link.startswith("#")}
    assert inner <= set(page.ids) and len(set(page.ids)) == len(page.ids)
    for link in page.links:
        assert ":" not in link
        assert link.startswith("#") or (planned.folder / link.replace("%3D", "=")).is_file()


def test_runs_stand_with_labels_results_and_errors(planned: Plan) -> None:
    words = page_of(planned).words
    assert "best accuracy" in words and "90.12" in words
    assert "x = 0: give more" in words and "waiting" in words
    assert f"{len(planned.runs) - 2} of {len(planned.runs)} runs done" in words


def test_a_study_without_analysis_says_so(planned: Plan) -> None:
    (planned.runs[-1].folder / "result.json").unlink()
    path, table = write(planned)
    assert path is not None and table is None
    assert "The analysis of this study is not done" in path.read_text()


def test_pictures_of_single_runs_are_made_small(planned: Plan) -> None:
    loss = planned.runs[0].folder / "figures" / "loss.png"
    draw(loss, 4000)
    page = page_of(planned)
    assert len(page.sources[2]) < loss.stat().st_size * 4 / 3


def test_numbers_are_told_to_four_digits() -> None:
    assert [words_of(value) for value in (97.25612, 3.0, 7, 1e-5, float("nan"), None, "x", True)] == [
        "97.26",
        "3",
        "7",
        "1e-05",
        "",
        "",
        "x",
        "True",
    ]


# --- in a browser ----------------------------------------------------------------------------------------------------

LOOK = """<script>addEventListener("load", () => {
  const heads = document.querySelectorAll("table.sortable th button");
  const column = n => [...document.querySelectorAll("table.sortable")[0].tBodies[0].rows]
    .map(row => row.cells[n].textContent.trim());
  heads[1].click(); const up = column(0);
  heads[1].click(); const down = column(0);
  heads[2].click(); const blank = column(0);
  document.querySelectorAll("details").forEach(one => one.open = true);
  parent.postMessage({
    up, down, blank,
    pictures: [...document.images].map(image => image.naturalWidth),
    wide: document.documentElement.scrollWidth - document.documentElement.clientWidth,
    sideways: getComputedStyle(document.body).display,
    colour: getComputedStyle(document.body).backgroundColor,
  }, "*");
});</script>"""
FRAME = """<!DOCTYPE html><iframe src="looked.html" style="width:{width}px;height:900px"></iframe>
<script>addEventListener("message", event => document.body.textContent = "@" + JSON.stringify(event.data) + "@");
</script>"""


def chromium(page: Path, *options: str) -> subprocess.CompletedProcess[str]:
    quiet = "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    quiet += " --disable-component-update --disable-sync --disable-dev-shm-usage --virtual-time-budget=4000"
    return subprocess.run(
        [
            str(CHROMIUM),
            "--headless",
            *quiet.split(),
            f"--user-data-dir={page.parent / 'profile'}",
            "--host-resolver-rules=MAP * ~NOTFOUND",  # whatever asked the network would complain
            "--enable-logging=stderr",
            *options,
            page.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )


def looked_at(planned: Plan, width: int, *options: str) -> dict[str, Any]:
    """Open the page in a frame of this width; return what a script inside found. No console message is allowed."""
    path, _ = write(planned)
    assert path is not None
    (path.parent / "looked.html").write_text(path.read_text() + LOOK)
    frame = path.parent / "frame.html"
    frame.write_text(FRAME.format(width=width))
    done = chromium(frame, "--dump-dom", *options)
    assert "CONSOLE" not in done.stderr, done.stderr
    told = re.search("@(.*)@", done.stdout)
    assert told, done.stdout[:2000]
    return json.loads(told[1].replace("&amp;", "&").replace("&lt;", "<").replace("&gt;", ">"))


@needs_chromium
def test_in_a_browser_pictures_load_and_tables_sort(planned: Plan) -> None:
    seen = looked_at(planned, 1200)
    assert len(seen["pictures"]) == 3 and all(width > 0 for width in seen["pictures"])
    assert seen["up"] == ["darts-first", "random", "hyperdarts-1"]
    assert seen["down"] == ["hyperdarts-1", "random", "darts-first"]
    assert seen["blank"][-1] == "random"  # it has no standard deviation: an empty place goes last
    assert seen["sideways"] == "grid" and seen["wide"] <= 0


@needs_chromium
def test_on_a_phone_the_page_is_as_wide_as_the_screen(planned: Plan) -> None:
    seen = looked_at(planned, 390)
    assert seen["wide"] <= 0 and seen["sideways"] == "block"


@needs_chromium
def test_the_page_is_dark_where_the_reader_wants_it_dark(planned: Plan) -> None:
    light = looked_at(planned, 1200)["colour"]
    dark = looked_at(planned, 1200, "--blink-settings=preferredColorScheme=0")["colour"]
    assert sum(map(int, re.findall(r"\d+", light))) > 700
    assert sum(map(int, re.findall(r"\d+", dark))) < 120
