"""The report page: what stands on it, and how it behaves in a real browser."""

import html.parser
import json
import re
import shutil
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from urllib.parse import quote

import pytest
from helpers.browser import Browser, chromium, needs_chromium
from helpers.small_project import end, finished, plan_study, write_project
from PIL import Image

from hdarts.workbook.page.report import LONG, write_report
from hdarts.workbook.page.report.pdf import write_pdf
from hdarts.workbook.study import Plan, record_plan
from hdarts.workbook.study.runner import outcome_of

RESULTS = "method,accuracy,sd\nhyperdarts-1,97.25,0.5\ndarts-first,9.5,0.25\nrandom,88.125,\n"
FAILURE = {
    "metadata": {"papermill": {"exception": True, "duration": 2.5}},
    "cells": [{"outputs": [{"output_type": "error", "ename": "ParameterError", "evalue": "x = 0: give more"}]}],
}


def write(plan: Plan):
    return write_report(plan, {run.name: outcome_of(run.folder) for run in plan.runs})


def draw(path: Path, width: int = 1500) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.linear_gradient("L").resize((width, width // 2)).save(path)


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    """A study whose runs are done by hand, but for one that failed and one that is missing."""
    monkeypatch.setenv("HDARTS_RUNS", str(tmp_path / "runs"))
    plan = plan_study(write_project(tmp_path))
    record_plan(plan)
    for number, run in enumerate(plan.runs):
        end(run.folder, {"best_accuracy": 90 + number / 8, "all": [1, 2]})
    draw(plan.runs[0].folder / "figures" / "loss.png")
    failed, missing = plan.runs[2].folder, plan.runs[3].folder
    (failed / "result.json").unlink()
    (failed / "notebook.ipynb").write_text(json.dumps(FAILURE))
    shutil.rmtree(missing)
    analysis = plan.runs[-1].folder
    for name in ("alpha", "accuracy", "extra"):
        draw(analysis / "figures" / f"{name}.png")
    (analysis / "captions.json").write_text(json.dumps({"accuracy": "Accuracy & spread", "alpha": "softmax(alpha)"}))
    (analysis / "results.csv").write_text(RESULTS)
    runs = " ".join([plan.runs[0].name, plan.runs[2].name, plan.runs[3].name])
    (analysis / "claims.csv").write_text(f"claim,verdict,runs\nfaster <b>,undecided,{runs}\nslower,not run here,\n")
    (analysis / "tables.json").write_text(json.dumps({"claims": "Claims and verdicts"}))
    return plan


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


def page_of(plan: Plan) -> Page:
    path, _ = write(plan)
    assert path is not None
    return Page(path.read_text())


def test_nothing_is_written_before_a_run_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HDARTS_RUNS", str(tmp_path / "runs"))
    assert write(plan_study(write_project(tmp_path))) == (None, None)
    assert not (tmp_path / "runs").exists()


def test_the_result_table_is_returned_and_comes_first(plan: Plan) -> None:
    path, table = write(plan)
    assert path == plan.folder / "report.html" and table is not None
    assert list(table["method"]) == ["hyperdarts-1", "darts-first", "random"]
    words = page_of(plan).words
    assert words.index("hyperdarts-1") < words.index("Claims and verdicts") < words.index("faster <b>")


def test_figures_of_the_analysis_stand_in_the_order_of_their_captions(plan: Plan) -> None:
    page = page_of(plan)
    assert page.alternatives[:2] == ["Accuracy & spread", "softmax(alpha)"]
    assert len(page.alternatives) == 3 and page.alternatives[2].startswith("loss")  # `extra` has no caption


def test_without_captions_all_figures_and_tables_are_shown(plan: Plan) -> None:
    analysis = plan.runs[-1].folder
    (analysis / "captions.json").unlink()
    (analysis / "tables.json").unlink()
    page = page_of(plan)
    assert page.alternatives[:3] == ["accuracy", "alpha", "extra"]
    assert page.words.index("88.12") < page.words.index("undecided")


def test_a_verdict_links_to_the_runs_it_comes_from(plan: Plan) -> None:
    (plan.runs[2].folder / "notebook.html").unlink()
    first, second = (quote(plan.runs[n].folder.relative_to(plan.folder).as_posix()) for n in (0, 2))
    page = page_of(plan)
    assert page.links.count(f"{first}/notebook.html") == 2  # of the verdict and the stage's row
    assert page.links.count(second) == 1  # without a page of the notebook: the folder
    assert "2 runs" in page.words  # the third one's folder is gone


def test_everything_is_inside_and_every_link_leads_somewhere(plan: Plan) -> None:
    page = page_of(plan)
    assert "default-src 'none'; img-src data:" in (plan.folder / "report.html").read_text()
    assert page.sources and all(source.startswith("data:image/png;base64,") for source in page.sources)
    inner = {link[1:] for link in page.links if link.startswith("#")}
    assert inner <= set(page.ids) and len(set(page.ids)) == len(page.ids)
    for link in page.links:
        assert ":" not in link
        assert link.startswith("#") or (plan.folder / link.replace("%3D", "=")).is_file()


def test_runs_stand_with_labels_results_and_errors(plan: Plan) -> None:
    words = page_of(plan).words
    assert "best accuracy" in words and "90.12" in words
    assert "x = 0: give more" in words and "waiting" in words
    assert f"{len(plan.runs) - 2} of {len(plan.runs)} runs done" in words


def test_every_run_leads_to_its_notebook_parameters_and_provenance(plan: Plan) -> None:
    run = plan.runs[0].folder
    for name in ("params.yaml", "provenance.json"):
        (run / name).write_text("{}")
    links = page_of(plan).links
    folder = quote(run.relative_to(plan.folder).as_posix())
    assert all(f"{folder}/{name}" in links for name in ("notebook.html", "params.yaml", "provenance.json"))


def test_the_question_and_the_results_come_first_then_figures_tables_and_runs(plan: Plan) -> None:
    words = page_of(plan).words.split("</style>")[-1]
    body = words[words.index("Study") :]
    places = [body.index(one) for one in ("hyperdarts-1", "softmax(alpha)", "Claims and verdicts", "best accuracy")]
    assert places == sorted(places)


def test_a_study_without_analysis_says_so(plan: Plan) -> None:
    (plan.runs[-1].folder / "result.json").unlink()
    path, table = write(plan)
    assert path is not None and table is None
    assert "The analysis of this study is not done" in path.read_text()


def test_pictures_of_single_runs_are_made_small(plan: Plan) -> None:
    loss = plan.runs[0].folder / "figures" / "loss.png"
    draw(loss, 4000)
    page = page_of(plan)
    assert len(page.sources[2]) < loss.stat().st_size * 4 / 3


# --- in a browser ----------------------------------------------------------------------------------------------------


@pytest.fixture
def page(plan: Plan, tmp_path: Path) -> Iterator[tuple[Browser, Path]]:
    """The page of the study, not yet open, in a browser that must not complain nor ask the network for anything."""
    file, _ = write(plan)
    assert file is not None
    with chromium(tmp_path) as browser:
        yield browser, file
        assert browser.complaints == []
        assert browser.requests and all(one.startswith(("file:", "data:")) for one in browser.requests)


COLUMN = "[...document.querySelector('table').tBodies[0].rows].map(row => row.cells[0].textContent.trim())"


@needs_chromium
def test_a_click_on_a_head_sorts_and_so_does_a_key(page: tuple[Browser, Path]) -> None:
    browser, file = page
    browser.open(file)
    click = "document.querySelectorAll('table')[0].querySelectorAll('th button')[{}].click()"
    browser.ask(click.format(1))
    assert browser.ask(COLUMN) == ["darts-first", "random", "hyperdarts-1"]
    browser.ask(click.format(2))
    assert browser.ask(COLUMN)[-1] == "random"  # it has no standard deviation: an empty place goes last
    browser.ask("document.querySelector('th button').focus()")
    sorted_by = "[...document.querySelectorAll('th')].slice(0, 3).map(head => head.getAttribute('aria-sort'))"
    browser.press("Enter")
    assert browser.ask(COLUMN) == ["darts-first", "hyperdarts-1", "random"]
    assert browser.ask(sorted_by) == ["ascending", None, None]
    browser.press("Enter")
    assert browser.ask(COLUMN) == ["random", "hyperdarts-1", "darts-first"]
    assert browser.ask(sorted_by) == ["descending", None, None]


@needs_chromium
def test_a_figure_is_enlarged_turned_and_put_back_by_keys(page: tuple[Browser, Path]) -> None:
    browser, file = page
    browser.open(file)
    shown = "[document.querySelector('dialog').open, document.querySelector('dialog p').textContent]"
    larger = "document.querySelector('dialog img').width > document.querySelector('figure img').width"
    browser.ask("document.querySelector('figure a').focus()")
    browser.press("Enter")
    assert browser.becomes(shown, [True, "Accuracy & spread"]) and browser.ask(larger)
    browser.press("ArrowRight")
    assert browser.becomes(shown, [True, "softmax(alpha)"])
    browser.press("ArrowRight")  # the figure of a single run is folded away: round to the first one again
    assert browser.becomes(shown, [True, "Accuracy & spread"])
    browser.press("ArrowLeft")
    browser.press("Escape")
    assert browser.becomes(shown, [False, "softmax(alpha)"])
    assert browser.becomes("document.activeElement.nextElementSibling.textContent", "softmax(alpha)")


@needs_chromium
@pytest.mark.parametrize(
    ("width", "layout", "contents"), [(1280, "grid", True), (390, "block", False), (320, "block", False)]
)
def test_on_a_phone_the_page_is_as_wide_as_the_screen(
    width: int, layout: str, contents: bool, page: tuple[Browser, Path]
) -> None:
    browser, file = page
    browser.open(file, width)
    assert browser.ask("getComputedStyle(document.body).display") == layout
    assert browser.ask("document.querySelector('nav details').open") == contents
    browser.ask("document.querySelectorAll('details').forEach(one => one.open = true)")
    assert browser.ask("document.documentElement.scrollWidth - innerWidth") <= 0
    assert browser.ask(
        "[...document.images].filter(one => one.checkVisibility()).map(one => one.naturalWidth > 0)"
    ) == [
        True,
        True,
        True,
    ]


@needs_chromium
def test_on_a_phone_a_finger_meets_every_link_and_button(page: tuple[Browser, Path]) -> None:
    browser, file = page
    browser.open(file, 390)
    browser.ask("document.querySelectorAll('details').forEach(one => one.open = true)")
    heights = """[...document.querySelectorAll('{} :is(a, button, summary)')].filter(one => one.checkVisibility())
        .map(one => [one.textContent.trim(), one.getBoundingClientRect().height])"""
    found = browser.ask(heights.format("body"))
    browser.ask("document.querySelector('figure a').click()")
    found += browser.ask(heights.format("dialog"))
    assert len(found) > 20
    assert [one for one in found if one[1] < 24] == []  # pixels, as WCAG 2.2 asks for


@needs_chromium
def test_a_link_of_the_contents_opens_what_it_leads_to(page: tuple[Browser, Path]) -> None:
    browser, file = page
    browser.open(file, 360)
    browser.ask("document.querySelectorAll('main details').forEach(one => one.open = false)")
    browser.ask("document.querySelector('nav summary').click()")
    browser.ask("document.querySelector('nav a[href=\"#table-claims\"]').click()")
    browser.ask("new Promise(after => setTimeout(after, 50))")
    assert browser.ask("document.querySelector('#table-claims details').open")
    assert not browser.ask("document.querySelector('nav details').open")


@needs_chromium
def test_a_screen_reader_finds_headings_in_order_and_words_for_pictures(page: tuple[Browser, Path]) -> None:
    browser, file = page
    browser.open(file)
    levels = browser.ask("[...document.querySelectorAll('h1,h2,h3,h4,h5,h6')].map(one => +one.tagName[1])")
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    browser.ask("document.querySelector('figure a').click()")
    assert browser.ask("document.images.length") == 4
    assert browser.ask("[...document.images].every(one => one.alt.trim())")
    assert browser.ask("document.documentElement.lang") == "en" and browser.ask("document.title") == browser.ask(
        "document.querySelector('h1').textContent"
    )
    assert "width=device-width" in browser.ask("document.querySelector('meta[name=viewport]').content")
    assert browser.ask("[...document.querySelectorAll('button')].every(one => one.ariaLabel || one.textContent.trim())")


@needs_chromium
@pytest.mark.parametrize("dark", [False, True])
def test_words_stand_out_in_light_and_in_the_dark(dark: bool, page: tuple[Browser, Path]) -> None:
    browser, file = page
    browser.open(file, dark=dark)
    browser.ask("document.querySelectorAll('details').forEach(one => one.open = true)")
    browser.ask("document.querySelector('figure a').click()")
    paper = colour(browser, "document.body", "backgroundColor")
    assert luminance(paper) < 0.02 if dark else luminance(paper) > 0.9
    written = browser.ask(WRITTEN)
    assert {"TD", "TH", "A", "P", "FIGCAPTION", "H1", "SMALL", "BUTTON"} <= {tag for tag, *_ in written}
    for tag, words, ink, ground in written:
        low, high = sorted(map(luminance, map(rgb, (ink, ground))))
        assert (high + 0.05) / (low + 0.05) >= 4.5, (tag, words)  # the contrast that WCAG asks for
    assert luminance(colour(browser, "document.querySelector('figure img')", "backgroundColor")) == 1


# tag, words, colour and ground of all that has words of its own; a ground that is transparent is its parent's
WRITTEN = """(() => {
  const ground = one => {
    const own = getComputedStyle(one).backgroundColor;
    return own === "rgba(0, 0, 0, 0)" && one.parentElement ? ground(one.parentElement) : own;
  };
  const words = one => [...one.childNodes].filter(n => n.nodeType === 3).map(n => n.data.trim()).join("");
  return [...document.body.querySelectorAll("*")]
    .filter(one => words(one) && one.checkVisibility())
    .map(one => [one.tagName, words(one), getComputedStyle(one).color, ground(one)]);
})()"""


def colour(browser: Browser, element: str, what: str) -> list[float]:
    return rgb(browser.ask(f"getComputedStyle({element}).{what}"))


def rgb(css: str) -> list[float]:
    assert css.startswith("rgb("), f"{css}: is not opaque"
    return [int(one) / 255 for one in re.findall(r"\d+", css)]


def luminance(colour: list[float]) -> float:
    linear = [one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in colour]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@needs_chromium
def test_without_scripts_everything_can_be_read(page: tuple[Browser, Path]) -> None:
    browser, file = page
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    browser.open(file)
    root = browser.call("DOM.getDocument")["root"]["nodeId"]
    assert browser.call("DOM.querySelectorAll", nodeId=root, selector="th button")["nodeIds"] == []
    assert browser.call("DOM.querySelectorAll", nodeId=root, selector="nav details[open]")["nodeIds"] != []
    link = browser.call("DOM.querySelector", nodeId=root, selector="figure a")["nodeId"]
    address = dict(pairwise(browser.call("DOM.getAttributes", nodeId=link)["attributes"]))["href"]
    assert (file.parent / address.replace("%3D", "=")).is_file()


@needs_chromium
def test_the_page_is_printed(plan: Plan, tmp_path: Path) -> None:
    claims = plan.runs[-1].folder / "claims.csv"
    claims.write_text("claim\n" + "\n".join(f"claim {n}" for n in range(LONG + 1)))  # so many are folded
    file, _ = write(plan)
    assert file is not None
    assert write_pdf(file) == file.with_suffix(".pdf") and file.with_suffix(".pdf").read_bytes()[:5] == b"%PDF-"
    with chromium(tmp_path) as browser:
        browser.open(file)
        assert not browser.ask("document.querySelector('#table-claims td').checkVisibility()")
        browser.call("Emulation.setEmulatedMedia", media="print")
        assert browser.ask("document.querySelector('#table-claims td').checkVisibility()")
        assert not browser.ask("document.querySelector('nav').checkVisibility()")


def test_without_a_browser_no_pdf_is_asked_for_in_vain(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    code, out, err = finished("report", plan.path, "--pdf", runs=tmp_path / "runs")
    assert code == 2 and out == "" and len(err.splitlines()) == 1
    assert "neither is installed" in err
    assert not (plan.folder / "report.html").exists()
