"""The report of a study: what it shows, and how it behaves in a real browser."""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from bs4 import BeautifulSoup
from helpers.browser import Browser, chromium
from helpers.small_project import end, finished, plan_study, write_project
from PIL import Image

from hdarts.workbook.page import write_missing_pages
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
    """A study whose runs are done, except for one that failed and one that is missing."""
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
    (analysis / "claims.csv").write_text(
        f"claim,verdict,runs\nfaster <b>,not decidable here,{runs}\nslower,not run here,\n"
    )
    (analysis / "tables.json").write_text(json.dumps({"claims": "Claims and verdicts"}))
    return plan


class Page:
    """The addresses, pictures and words of the report of a study."""

    def __init__(self, plan: Plan) -> None:
        path, self.results = write(plan)
        assert path is not None and path == plan.folder / "report.html"
        self.text = path.read_text()
        page = BeautifulSoup(self.text, "html.parser")
        tags = page.find_all(True)
        self.sources, self.links, self.ids, self.alternatives = (
            [str(tag[name]) for tag in tags if name in tag.attrs] for name in ("src", "href", "id", "alt")
        )
        self.words = page.get_text()


def test_nothing_is_written_before_a_run_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HDARTS_RUNS", str(tmp_path / "runs"))
    assert write(plan_study(write_project(tmp_path))) == (None, None)
    assert not (tmp_path / "runs").exists()


def test_results_come_first_then_figures_tables_and_runs(plan: Plan) -> None:
    page = Page(plan)
    assert page.results is not None and list(page.results["method"]) == ["hyperdarts-1", "darts-first", "random"]
    body = page.words[page.words.index("Study") :]
    words = ["hyperdarts-1", "softmax(alpha)", "Claims and verdicts", "faster <b>", "best accuracy"]
    places = [body.index(one) for one in words]
    assert places == sorted(places)


def test_head_states_the_tests_and_the_last_epoch_comes_before_the_best_one(plan: Plan) -> None:
    end(plan.runs[0].folder, {"best_test_accuracy": 98.0, "arm": "a", "last_test_accuracy": 97.0})
    end(plan.runs[-1].folder, {"note": "This page makes 3 statistical tests."})
    words = Page(plan).words
    note, results = words.index("This page makes 3 statistical tests."), words.index("hyperdarts-1")
    last, best = (words.index(head) for head in ("test accuracy of the last epoch", "chosen on the test set"))
    assert note < results < last < best


def test_figures_of_the_analysis_are_in_the_order_of_their_captions(plan: Plan) -> None:
    *captioned, single = Page(plan).alternatives
    assert captioned == ["Accuracy & spread", "softmax(alpha)"], "`extra` has no caption"
    assert single.startswith("loss")


def test_without_captions_all_figures_and_tables_are_shown(plan: Plan) -> None:
    for name in ("captions.json", "tables.json"):
        (plan.runs[-1].folder / name).unlink()
    page = Page(plan)
    assert page.alternatives[:3] == ["accuracy", "alpha", "extra"]
    assert page.words.index("88.12") < page.words.index("not decidable here")


def test_a_verdict_links_to_the_runs_it_comes_from(plan: Plan) -> None:
    (plan.runs[2].folder / "notebook.html").unlink()
    first, second = (quote(plan.runs[n].folder.relative_to(plan.folder).as_posix()) for n in (0, 2))
    page = Page(plan)
    assert page.links.count(f"{first}/notebook.html") == 2  # of the verdict and of the stage's row
    assert page.links.count(second) == 1  # the folder, for a notebook without a page
    assert "2 runs" in page.words  # the folder of the third one is gone


def test_report_is_one_file_and_every_link_has_a_target(plan: Plan) -> None:
    page = Page(plan)
    assert "default-src 'none'; img-src data:" in page.text
    assert page.sources and all(source.startswith("data:image/png;base64,") for source in page.sources)
    inner = {link[1:] for link in page.links if link.startswith("#")}
    assert inner <= set(page.ids) and len(set(page.ids)) == len(page.ids)
    for link in page.links:
        assert ":" not in link
        assert link.startswith("#") or (plan.folder / link.replace("%3D", "=")).is_file()


def test_runs_have_labels_results_errors_and_links_to_their_files(plan: Plan) -> None:
    run = plan.runs[0].folder
    for name in ("params.yaml", "provenance.json"):
        (run / name).write_text("{}")
    page = Page(plan)
    for words in ("best accuracy", "90.12", "x = 0: give more", "waiting", f"{len(plan.runs) - 2} of {len(plan.runs)}"):
        assert words in page.words
    folder = quote(run.relative_to(plan.folder).as_posix())
    assert all(f"{folder}/{name}" in page.links for name in ("notebook.html", "params.yaml", "provenance.json"))


def test_a_study_without_analysis_says_so(plan: Plan) -> None:
    (plan.runs[-1].folder / "result.json").unlink()
    page = Page(plan)
    assert page.results is None and "The analysis of this study is not done" in page.text


def test_pictures_of_single_runs_are_made_small(plan: Plan) -> None:
    loss = plan.runs[0].folder / "figures" / "loss.png"
    draw(loss, 4000)
    assert len(Page(plan).sources[2]) < loss.stat().st_size * 4 / 3


def test_a_notebook_without_a_page_gets_one_and_the_others_are_left_alone(plan: Plan) -> None:
    first, second = (run.folder / "notebook.html" for run in plan.runs[:2])
    first.unlink()
    book = {"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": []}
    first.with_suffix(".ipynb").write_text(json.dumps(book))
    write_missing_pages([first.parent, second.parent, plan.folder])
    assert "<html" in first.read_text() and second.read_text() == "<p>executed</p>"


# --- in a browser ----------------------------------------------------------------------------------------------------


OpenPage = Callable[..., Browser]


@pytest.fixture
def open_page(plan: Plan, tmp_path: Path) -> Iterator[OpenPage]:
    """Opens the report in a browser, which must neither complain nor load anything from the network."""
    file, _ = write(plan)
    assert file is not None
    with chromium(tmp_path) as browser:

        def opened(unfold: bool = False, **window: Any) -> Browser:
            browser.open(file, **window)
            if unfold:
                browser.ask("document.querySelectorAll('details').forEach(one => one.open = true)")
            return browser

        yield opened
        assert browser.complaints == []
        assert browser.requests and all(one.startswith(("file:", "data:")) for one in browser.requests)


COLUMN = "[...document.querySelector('table').tBodies[0].rows].map(row => row.cells[0].textContent.trim())"


def test_click_and_key_on_a_column_head_sort_the_table(open_page: OpenPage) -> None:
    browser = open_page()
    click = "document.querySelectorAll('table')[0].querySelectorAll('th button')[{}].click()"
    browser.ask(click.format(1))
    assert browser.ask(COLUMN) == ["darts-first", "random", "hyperdarts-1"]
    browser.ask(click.format(2))
    assert browser.ask(COLUMN)[-1] == "random"  # it has no standard deviation: empty values go last
    browser.ask("document.querySelector('th button').focus()")
    sorted_by = "[...document.querySelectorAll('th')].slice(0, 3).map(head => head.getAttribute('aria-sort'))"
    browser.press("Enter")
    assert browser.ask(COLUMN) == ["darts-first", "hyperdarts-1", "random"]
    assert browser.ask(sorted_by) == ["ascending", None, None]
    browser.press("Enter")
    assert browser.ask(COLUMN) == ["random", "hyperdarts-1", "darts-first"]
    assert browser.ask(sorted_by) == ["descending", None, None]


def test_keys_enlarge_a_figure_show_the_next_and_close_it(open_page: OpenPage) -> None:
    browser = open_page()
    shown = "[document.querySelector('dialog').open, document.querySelector('dialog p').textContent]"
    larger = "document.querySelector('dialog img').width > document.querySelector('figure img').width"
    browser.ask("document.querySelector('figure a').focus()")
    browser.press("Enter")
    assert browser.becomes(shown, [True, "Accuracy & spread"]) and browser.ask(larger)
    browser.press("ArrowRight")
    assert browser.becomes(shown, [True, "softmax(alpha)"])
    browser.press("ArrowRight")  # the figure of a single run is folded: back to the first
    assert browser.becomes(shown, [True, "Accuracy & spread"])
    browser.press("ArrowLeft")
    browser.press("Escape")
    assert browser.becomes(shown, [False, "softmax(alpha)"])
    assert browser.becomes("document.activeElement.nextElementSibling.textContent", "softmax(alpha)")


@pytest.mark.parametrize(
    ("width", "layout", "contents"), [(1280, "grid", True), (390, "block", False), (320, "block", False)]
)
def test_page_is_as_wide_as_the_screen(width: int, layout: str, contents: bool, open_page: OpenPage) -> None:
    browser = open_page(width=width)
    assert browser.ask("getComputedStyle(document.body).display") == layout
    assert browser.ask("document.querySelector('nav details').open") == contents
    browser.ask("document.querySelectorAll('details').forEach(one => one.open = true)")
    assert browser.ask("document.documentElement.scrollWidth - innerWidth") <= 0
    drawn = "[...document.images].filter(one => one.checkVisibility()).map(one => one.naturalWidth > 0)"
    assert browser.ask(drawn) == [True] * 3


def test_on_a_phone_links_and_buttons_are_large_enough_for_a_finger(open_page: OpenPage) -> None:
    browser = open_page(unfold=True, width=390)
    heights = """[...document.querySelectorAll('{} :is(a, button, summary)')].filter(one => one.checkVisibility())
        .map(one => [one.textContent.trim(), one.getBoundingClientRect().height])"""
    found = browser.ask(heights.format("body"))
    browser.ask("document.querySelector('figure a').click()")
    found += browser.ask(heights.format("dialog"))
    assert len(found) > 20
    assert [one for one in found if one[1] < 24] == []  # pixels, as WCAG 2.2 requires


def test_a_link_of_the_contents_opens_what_it_leads_to(open_page: OpenPage) -> None:
    browser = open_page(width=360)
    browser.ask("document.querySelectorAll('main details').forEach(one => one.open = false)")
    browser.ask("document.querySelector('nav summary').click()")
    browser.ask("document.querySelector('nav a[href=\"#table-claims\"]').click()")
    browser.ask("new Promise(after => setTimeout(after, 50))")
    assert browser.ask("document.querySelector('#table-claims details').open")
    assert not browser.ask("document.querySelector('nav details').open")


def test_a_screen_reader_finds_headings_in_order_and_words_for_pictures(open_page: OpenPage) -> None:
    browser = open_page()
    levels = browser.ask("[...document.querySelectorAll('h1,h2,h3,h4,h5,h6')].map(one => +one.tagName[1])")
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    browser.ask("document.querySelector('figure a').click()")
    assert browser.ask("document.images.length") == 4
    assert browser.ask("[...document.images].every(one => one.alt.trim())")
    assert browser.ask("document.documentElement.lang") == "en"
    assert browser.ask("document.title === document.querySelector('h1').textContent")
    assert "width=device-width" in browser.ask("document.querySelector('meta[name=viewport]').content")
    assert browser.ask("[...document.querySelectorAll('button')].every(one => one.ariaLabel || one.textContent.trim())")


@pytest.mark.parametrize("dark", [False, True])
def test_text_has_enough_contrast_in_light_and_dark_mode(dark: bool, open_page: OpenPage) -> None:
    browser = open_page(unfold=True, dark=dark)
    browser.ask("document.querySelector('figure a').click()")
    paper = colour(browser, "document.body", "backgroundColor")
    assert luminance(paper) < 0.02 if dark else luminance(paper) > 0.9
    written = browser.ask(WRITTEN)
    assert {"TD", "TH", "A", "P", "FIGCAPTION", "H1", "SMALL", "BUTTON"} <= {tag for tag, *_ in written}
    for tag, words, ink, ground in written:
        low, high = sorted(map(luminance, map(rgb, (ink, ground))))
        assert (high + 0.05) / (low + 0.05) >= 4.5, (tag, words)  # the contrast that WCAG requires
    assert luminance(colour(browser, "document.querySelector('figure img')", "backgroundColor")) == 1


# tag, words, colour and background of every element with text; a transparent background is that of the parent
WRITTEN = """(() => {
  const ground = one => {
    const filled = getComputedStyle(one).backgroundColor;
    return filled === "rgba(0, 0, 0, 0)" && one.parentElement ? ground(one.parentElement) : filled;
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


def test_without_scripts_everything_can_be_read(plan: Plan, open_page: OpenPage) -> None:
    open_page().call("Emulation.setScriptExecutionDisabled", value=True)
    browser = open_page()
    root = browser.call("DOM.getDocument")["root"]["nodeId"]
    assert browser.call("DOM.querySelectorAll", nodeId=root, selector="th button")["nodeIds"] == []
    assert browser.call("DOM.querySelectorAll", nodeId=root, selector="nav details[open]")["nodeIds"] != []
    link = browser.call("DOM.querySelector", nodeId=root, selector="figure a")["nodeId"]
    address = dict(pairwise(browser.call("DOM.getAttributes", nodeId=link)["attributes"]))["href"]
    assert (plan.folder / address.replace("%3D", "=")).is_file()


def test_the_page_is_printed(plan: Plan, tmp_path: Path) -> None:
    claims = plan.runs[-1].folder / "claims.csv"
    claims.write_text("claim\n" + "\n".join(f"claim {n}" for n in range(LONG + 1)))  # long enough to be folded
    file, _ = write(plan)
    assert file is not None
    assert write_pdf(file) == file.with_suffix(".pdf") and file.with_suffix(".pdf").read_bytes()[:5] == b"%PDF-"
    with chromium(tmp_path) as browser:
        browser.open(file)
        assert not browser.ask("document.querySelector('#table-claims td').checkVisibility()")
        browser.call("Emulation.setEmulatedMedia", media="print")
        assert browser.ask("document.querySelector('#table-claims td').checkVisibility()")
        assert not browser.ask("document.querySelector('nav').checkVisibility()")


def test_a_pdf_without_a_browser_is_refused_before_anything_is_written(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    code, out, err = finished("report", plan.path, "--pdf", runs=tmp_path / "runs")
    assert code == 2 and out == "" and len(err.splitlines()) == 1
    assert "neither is installed" in err
    assert not (plan.folder / "report.html").exists()
