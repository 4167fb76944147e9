"""A real JupyterLab: sliders are moved, a search is paused and resumed by its button and by the stop button."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from helpers.browser import Browser, chromium
from nbformat.v4 import new_code_cell, new_notebook

from hdarts.runs.paths import notebooks_folder

pytestmark = pytest.mark.soak

SLIDER = """\
from hdarts import plots
from hdarts.plots.style import new_figure

def draw(value):
    figure = new_figure(1.0, 2.0)
    figure.suptitle(f"value {value}")
    return figure

plots.slide(draw, "value", [1, 2, 3], 2)"""
SMALL = {"channels": 2, "limit": 80, "batch_size": 20, "epochs": 500, "run": "'lab/search'", "threads": 1}
OUTPUT = "[...document.querySelectorAll('.jp-OutputArea-output')].map(one => one.innerText).join('\\n')"
FIRST_PROMPT = "document.querySelector('.jp-Notebook .jp-CodeCell .jp-InputPrompt')"


class Lab:
    """JupyterLab in a separate folder, on a free port."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        kinds = ("RUNTIME", "CONFIG", "DATA")
        private = {f"JUPYTER_{kind}_DIR": str(folder / "jupyter" / kind.lower()) for kind in kinds}
        private |= {f"JUPYTERLAB_{kind}_DIR": str(folder / "lab" / kind.lower()) for kind in ("SETTINGS", "WORKSPACES")}
        private |= {"IPYTHONDIR": str(folder / "ipython"), "HDARTS_RUNS": str(folder / "runs")}
        command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1", "--port=0"]
        with (folder / "lab.log").open("w") as log:
            self.process = subprocess.Popen(
                [*command, f"--ServerApp.root_dir={folder}"], env=os.environ | private, stdout=log, stderr=log
            )

    def address(self) -> tuple[str, str]:
        """Wait for the server and return its address and token."""
        until = time.monotonic() + 120
        while time.monotonic() < until and self.process.poll() is None:
            for file in (self.folder / "jupyter" / "runtime").glob("jpserver-*.json"):
                server = json.loads(file.read_text())
                return server["url"], server["token"]
            time.sleep(0.2)
        raise TimeoutError((self.folder / "lab.log").read_text())


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    lab = Lab(tmp_path)
    yield lab
    lab.process.terminate()  # it ends its kernels
    lab.process.wait(timeout=60)


def wait(browser: Browser, expression: str) -> None:
    until = time.monotonic() + 180
    while not browser.ask(f"!!({expression})"):
        assert time.monotonic() < until, (expression, browser.ask(OUTPUT))
        time.sleep(0.2)


def click(browser: Browser, element: str) -> None:
    browser.ask(f"{element}.scrollIntoView({{block: 'center'}})")
    x, y = browser.ask(f"(box => [box.x + box.width / 2, box.y + box.height / 2])({element}.getBoundingClientRect())")
    for what in ("mousePressed", "mouseReleased"):
        browser.call("Input.dispatchMouseEvent", type=what, x=x, y=y, button="left", clickCount=1)


def drag(browser: Browser, element: str, right: int) -> None:
    """Drag an element with the mouse, so many pixels to the right."""
    browser.ask(f"{element}.scrollIntoView({{block: 'center'}})")
    x, y = browser.ask(f"(box => [box.x + box.width / 2, box.y + box.height / 2])({element}.getBoundingClientRect())")
    moves = (("mousePressed", 0), ("mouseMoved", right // 2), ("mouseMoved", right), ("mouseReleased", right))
    for what, by in moves:
        browser.call("Input.dispatchMouseEvent", type=what, x=x + by, y=y, button="left", buttons=1, clickCount=1)


def cells_of_search() -> tuple[list[str], int]:
    """Return the code cells of notebook 03 with a small search, and the number of the one with the button."""
    cells = nbformat.read(notebooks_folder() / "03_search.ipynb", 4).cells
    sources = [cell.source for cell in cells if cell.cell_type == "code"]
    sources.insert(1, "\n".join(f"{name} = {value}" for name, value in SMALL.items()))
    return sources, next(number for number, source in enumerate(sources) if "pausable(search" in source)


def open_and_run(browser: Browser, lab: Lab, cells: list[str]) -> None:
    """Open a notebook of these cells and run all of them by key events."""
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}  # or a dialog asks which
    nbformat.write(new_notebook(cells=list(map(new_code_cell, cells)), metadata=kernel), lab.folder / "mine.ipynb")
    url, token = lab.address()
    browser.open(f"{url}lab/tree/mine.ipynb?token={token}&reset")
    wait(browser, FIRST_PROMPT)
    wait(browser, "document.querySelector('.jp-Notebook-ExecutionIndicator')?.dataset.status === 'idle'")
    until = time.monotonic() + 60
    while not browser.ask(f"/[*0-9]/.test({FIRST_PROMPT}.innerText)"):  # a key that comes too early is lost
        assert time.monotonic() < until
        click(browser, FIRST_PROMPT)
        run_cell(browser)
        time.sleep(1)
    for _ in cells[1:]:
        run_cell(browser)


def run_cell(browser: Browser) -> None:
    enter = {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13, "modifiers": 8}  # with Shift
    browser.call("Input.dispatchKeyEvent", type="keyDown", text="\r", **enter)
    browser.call("Input.dispatchKeyEvent", type="keyUp", **enter)


def test_an_arrow_key_on_a_slider_draws_its_figure_anew(lab: Lab, tmp_path: Path) -> None:
    with chromium(tmp_path) as browser:
        open_and_run(browser, lab, [SLIDER])
        wait(browser, "document.querySelector('img.widget-image')?.naturalWidth")
        words, source = (
            "document.querySelector('.widget-hslider').innerText",
            "document.querySelector('img.widget-image').src",
        )
        before = browser.ask(source)
        assert browser.ask(words).split() == ["value", "2"]
        click(browser, "document.querySelector('.widget-hslider .noUi-handle')")
        browser.press("ArrowRight")
        wait(browser, f"{source} != {json.dumps(before)}")
        assert browser.ask(words).split() == ["value", "3"]


def test_dragging_a_slider_draws_its_figure_anew(lab: Lab, tmp_path: Path) -> None:
    with chromium(tmp_path) as browser:
        open_and_run(browser, lab, [SLIDER])
        wait(browser, "document.querySelector('img.widget-image')?.naturalWidth")
        before = browser.ask("document.querySelector('img.widget-image').src")
        drag(browser, "document.querySelector('.widget-hslider .noUi-handle')", 500)
        wait(browser, f"document.querySelector('img.widget-image').src != {json.dumps(before)}")
        assert browser.ask("document.querySelector('.widget-hslider').innerText").split() == ["value", "3"]


def test_a_button_starts_pauses_and_resumes_a_search_and_cells_run_meanwhile(lab: Lab, tmp_path: Path) -> None:
    cells, last = cells_of_search()
    with chromium(tmp_path) as browser:
        open_and_run(browser, lab, [*cells[: last + 1], "print('epochs', len(run_folder.table('metrics')))"])
        wait(browser, f"/epochs 0/.test({OUTPUT})")
        button = "document.querySelector('.jp-OutputArea button.widget-button')"
        words = "document.querySelector('.jp-OutputArea .widget-html')?.innerText"
        assert browser.ask(f"{button}.innerText").strip() == "Search"
        click(browser, button)
        wait(browser, f"/epoch [2-9] of 500/.test({words}) && document.querySelector('img.widget-image').naturalWidth")
        click(browser, f"[...document.querySelectorAll('.jp-Notebook .jp-CodeCell .jp-InputPrompt')].at({last + 1})")
        run_cell(browser)
        wait(browser, f"/epochs [1-9]/.test({OUTPUT})")
        browser.picture(tmp_path / "running.png")
        click(browser, button)
        wait(browser, f"/Paused: the state is saved/.test({words})")
        assert browser.ask(f"{button}.innerText").strip() == "Resume"
        browser.picture(tmp_path / "paused.png")
        run = tmp_path / "runs" / "lab" / "search"
        saved = (run / "metrics.csv").read_text()
        assert (run / "checkpoint.pt").is_file() and not (run / "result.json").exists()
        time.sleep(2)
        assert (run / "metrics.csv").read_text() == saved, "a paused search rests"
        click(browser, button)
        wait(browser, f"/epoch [0-9]+ of 500/.test({words})")
        assert (run / "metrics.csv").read_text().startswith(saved), "saved rows stay, and the next epoch follows them"
        click(browser, button)
        wait(browser, f"/Paused/.test({words})")


def test_the_stop_button_saves_a_search_which_the_same_cell_resumes(lab: Lab, tmp_path: Path) -> None:
    cells, last = cells_of_search()
    last += 1  # the cell without a button
    with chromium(tmp_path) as browser:
        open_and_run(browser, lab, cells[: last + 1])
        wait(browser, f"/epoch 2: search-validation/.test({OUTPUT})")
        click(browser, "document.querySelector('[data-command=\"notebook:interrupt-kernel\"]')")
        wait(browser, f"/stopped by SIGINT after saving/.test({OUTPUT})")
        run = tmp_path / "runs" / "lab" / "search"
        saved = (run / "metrics.csv").read_text()
        assert (run / "checkpoint.pt").is_file() and not (run / "result.json").exists()
        click(browser, f"[...document.querySelectorAll('.jp-Notebook .jp-CodeCell .jp-InputPrompt')].at({last})")
        run_cell(browser)
        wait(browser, f"!/stopped by SIGINT/.test({OUTPUT}) && /epoch [0-9]+: search-validation/.test({OUTPUT})")
        assert (run / "metrics.csv").read_text().startswith(saved), "saved rows stay, and the next epoch follows them"
