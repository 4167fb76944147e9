"""The book: its message for a study that has not run, small notebooks, API pages, and the site in a real browser."""

import base64
import importlib.util
import io
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urldefrag

import numpy as np
import pytest
from bs4 import BeautifulSoup
from filelock import FileLock
from helpers import ROOT
from helpers.browser import Browser, chromium
from PIL import Image

from hdarts.workbook.book import api, build
from hdarts.workbook.book.__main__ import main
from hdarts.workbook.book.notebooks import small
from hdarts.workbook.page.notebook import mathml
from hdarts.workbook.study import plan_study

QUICK = ROOT / "params/studies/quick.yaml"
CAPTION = "Losses of w*(alpha) & b"
PAGES = ("index", "docs/guide", "notebooks/index", "notebooks/03_search", "results/response/README",
         "api/hdarts.hypergradient")  # fmt: skip


def picture() -> str:
    noise = np.random.default_rng(0).integers(0, 255, (60, 2000, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "png")
    return base64.b64encode(buffer.getvalue()).decode()


LINK = '<a href="../../search/one">one</a>'  # as notebook 07 has them


def executed(name: str) -> dict[str, Any]:
    """Return a notebook as a run leaves it, with one output of each kind in its last cell."""
    notebook = json.loads((ROOT / f"notebooks/{name}.ipynb").read_text())
    paths = {"input_path": f"{ROOT}/notebooks/{name}.ipynb", "output_path": f"{ROOT}/runs/quick/a/b/notebook.ipynb"}
    notebook["metadata"]["papermill"] = paths
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    given = {"cell_type": "code", "id": "given", "metadata": {"tags": ["injected-parameters"]}, "source": "x = 1"}
    notebook["cells"].insert(2, given | {"outputs": [], "execution_count": 2})
    code[-1]["metadata"]["papermill"] = {"start_time": "2026-01-01T00:00:00"}
    shown = {"output_type": "display_data", "metadata": {}}
    code[-1]["outputs"] = [
        {"output_type": "stream", "name": "stdout", "text": f"\x1b[31mrun folder: {ROOT}/runs/quick/x\x1b[0m\n"},
        {"output_type": "stream", "name": "stdout", "text": "10 %\r100 %\n"},
        shown | {"data": {"application/vnd.jupyter.widget-view+json": {}, "text/plain": "VBox()"}},
        shown | {"data": {"image/png": picture(), "image/svg+xml": "<svg/>", "text/plain": "<Figure>"}},
        shown | {"data": {"text/markdown": f"*{CAPTION.replace('*', chr(92) + '*')}*", "text/plain": "<Markdown>"}},
        shown
        | {
            "data": {"text/html": "<table><tr><td>" + "wide " * 80 + LINK + "</td></tr></table>", "text/plain": "table"}
        },
    ]
    return notebook


def finish_runs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the run folders of the quick study below `folder`."""
    monkeypatch.setenv("HDARTS_RUNS", str(folder))
    runs = plan_study(QUICK).runs
    for run in runs:
        run.folder.mkdir(parents=True)
        (run.folder / "result.json").write_text("{}")
        (run.folder / "notebook.ipynb").write_text(json.dumps(executed(run.notebook.stem)))
    (folder / "quick/study.yaml").write_text("study: quick\n")


# --- without Sphinx --------------------------------------------------------------------------------------------------


def test_a_study_that_has_not_run_is_refused_in_one_sentence(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("HDARTS_RUNS", str(tmp_path))
    assert main([str(QUICK), "--notebooks", str(tmp_path / "here")]) == 2
    error = capsys.readouterr().err
    assert error.endswith("quick.yaml has no finished run yet; run `make workbook` first\n") and error.count("\n") == 1
    assert main([str(ROOT / "params/studies/tiny.yaml"), "--notebooks", str(tmp_path / "here")]) == 2
    assert "run `make workbook STUDY=" in capsys.readouterr().err
    assert main([str(tmp_path / "absent.yaml")]) == 2
    assert not (tmp_path / "here").exists()


def test_notebooks_without_a_finished_run_are_named(tmp_path: Path, monkeypatch, capsys) -> None:
    finish_runs(tmp_path, monkeypatch)
    for file in tmp_path.glob("quick/relatives/*/result.json"):
        file.unlink()
    assert main([str(QUICK), "--notebooks", str(tmp_path / "here")]) == 2
    assert "has no finished run of 08_relatives; run" in capsys.readouterr().err


def test_a_folder_of_executed_notebooks_has_one_run_of_each(tmp_path: Path, monkeypatch) -> None:
    finish_runs(tmp_path / "runs", monkeypatch)
    folder = tmp_path / "notebooks"
    assert main([str(QUICK), "--notebooks", str(folder)]) == 0
    names = {run.notebook.name for run in plan_study(QUICK).runs}
    assert {file.name for file in folder.iterdir()} == names | {"README.md", "results.csv"}
    text = (folder / "README.md").read_text()
    assert all(f"({name})" in text for name in names)
    assert "search/hyperdarts-2-search_seed=2-" in text
    assert not any(str(ROOT) in file.read_text() for file in folder.iterdir())


def test_small_notebooks_have_no_widgets_paths_times_and_escape_sequences() -> None:
    before = executed("03_search")
    before["cells"][0]["source"] = ["x = 1\n", "\n"]  # as papermill ends the cell that it adds
    after = small(before, [str(ROOT)])
    assert after["cells"][0]["source"] == ["x = 1"]
    text = json.dumps(after)
    assert "one</td>" in text and "../../search" not in text
    assert not re.search(r"2026-01|widget-view|u001b|svg\+xml", text) and str(ROOT) not in text
    assert set(after["metadata"]) == {"kernelspec", "language_info"}
    (defaults,) = (cell for cell in after["cells"] if "parameters" in cell["metadata"].get("tags", []))
    assert defaults["metadata"]["tags"] == ["parameters", "hide-input"]
    printed, shown, caption, _ = after["cells"][-2 if after["cells"][-1]["cell_type"] == "markdown" else -1]["outputs"]
    assert printed["text"] == "run folder: runs/quick/x\n100 %\n"
    assert len(shown["data"]["image/png"]) < len(picture()) / 2 and set(shown["data"]) == {"image/png", "text/plain"}
    assert Image.open(io.BytesIO(base64.b64decode(shown["data"]["image/png"]))).size == (2000, 60)
    assert CAPTION.split("*")[0] in caption["data"]["text/markdown"]


def test_executed_notebooks_in_results_are_light_and_name_no_local_folder() -> None:
    files = sorted((ROOT / "results/quick").glob("*"))
    assert {file.name for file in files} == {run.notebook.name for run in plan_study(QUICK).runs} | {
        "README.md",
        "results.csv",
    }
    assert sum(file.stat().st_size for file in files) < 3_000_000
    assert not any(re.search(r"/(home|root|tmp|work|Users)/", file.read_text()) for file in files)


MODULE = '''
"""A module.

>>> 1 + 1
2

Then text.
"""

class Box(Base):
    """A box."""

    width: int = 3  # in metres

    @property
    def area(self) -> float:
        """Its area."""

    def grow(self, by: float = 1.0) -> "Box":
        """Grow."""

def _hidden():
    """Not shown."""

def grow(box: Box, *, by: float) -> Box:
    r"""Grow it.

    $$ a^2 $$
    """
'''


def test_api_pages_name_exported_objects_as_their_package_does(tmp_path: Path) -> None:
    room = tmp_path / "tool/room"
    room.mkdir(parents=True)
    (room / "__init__.py").write_text('"""A room."""\nfrom tool.room.boxes import grow\n__all__ = ["grow"]\n')
    (room / "boxes.py").write_text(MODULE)
    assert api.write_pages(tmp_path / "tool", tmp_path / "pages") == ["tool.room"]
    page = (tmp_path / "pages/tool.room.md").read_text()
    assert page.startswith("# tool.room\n") and "\n## boxes\n" in page
    assert "```pycon\n>>> 1 + 1\n2\n```\n\nThen text." in page
    assert re.search(r"currentmodule\} tool\.room\n```\n\n````\{py:function\} grow\(box: Box, \*, by: float\)", page)
    assert re.search(r"currentmodule\} tool\.room\.boxes\n```\n\n`+\{py:class\} Box\(Base\)", page)
    assert "{py:attribute} width\n:type: int\n:value: 3\n\nin metres\n" in page
    assert "{py:property} area\n" in page and "{py:method} grow(by: float=1.0) -> 'Box'" in page
    assert "_hidden" not in page


def test_every_formula_of_a_docstring_becomes_mathml(tmp_path: Path) -> None:
    api.write_pages(ROOT / "hdarts", tmp_path)
    formulas = [f for page in tmp_path.iterdir() for f in re.findall(r"\$\$(.*?)\$\$", page.read_text(), re.S)]
    assert len(formulas) > 20
    assert [one for one in formulas if not mathml(one.strip(), "block").startswith("<math")] == []


# --- the site --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The book of notebooks that were not really executed, with the API pages of three packages; built once."""
    if not importlib.util.find_spec("sphinx"):
        pytest.skip("Sphinx is not installed (make book installs it)")
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base) / "site"  # for all workers
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            with pytest.MonkeyPatch.context() as patch:
                finish_runs(folder / "runs", patch)
                patch.setattr(build, "write_pages", some_pages)
                assert main([str(QUICK), "--output", str(folder / "book")]) == 0
    return folder / "book"


def some_pages(package: Path, pages: Path) -> list[str]:
    """Write the API pages of three packages only, which takes a third of the time."""
    kept = ("hdarts.bilevel", "hdarts.hypergradient", "hdarts.toys")
    written = api.write_pages(package, pages)
    for name in set(written) - set(kept):
        (pages / f"{name}.md").unlink()
    return [name for name in written if name in kept]


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, BeautifulSoup]:
    return {file: BeautifulSoup(file.read_text(), "html.parser") for file in sorted(site.rglob("*.html"))}


def test_every_link_and_anchor_of_the_book_resolves(site: Path, pages: dict[Path, BeautifulSoup]) -> None:
    assert {f"{name}.html" for name in PAGES} <= {file.relative_to(site).as_posix() for file in pages}
    ids = {file: {str(tag["id"]) for tag in page.find_all(id=True)} for file, page in pages.items()}
    broken, links = [], 0
    for file, page in pages.items():
        for tag in page.find_all("a", href=True):
            target, anchor = urldefrag(unquote(str(tag["href"])))
            if target.startswith(("https://", "http://")):
                continue
            links += 1
            place = (file.parent / target).resolve() if target else file
            if not place.is_file() or (anchor and anchor not in ids.get(place, {anchor})):
                broken.append(f"{file.relative_to(site)}: {tag['href']}")
    assert links > 1000 and broken == []


def test_the_book_loads_nothing_from_the_network(site: Path, pages: dict[Path, BeautifulSoup]) -> None:
    for file, page in pages.items():
        loaded = [tag.get("src") for tag in page.find_all(src=True)]
        loaded += [tag["href"] for tag in page.find_all("link", href=True)]
        assert [address for address in loaded if "//" in str(address)] == [], file
    styles = [file.read_text() for file in site.rglob("*.css")]
    assert styles and not any(re.search(r"(@import|url\() *[\"']?(https?:)?//", text) for text in styles)


def by_name(pages: dict[Path, BeautifulSoup]) -> dict[str, BeautifulSoup]:
    """Return the pages by the names of their files, without solutions, which have the names of their notebooks."""
    return {file.stem: page for file, page in pages.items() if file.parent.name != "solutions"}


def test_every_picture_has_an_alternative_text(pages: dict[Path, BeautifulSoup]) -> None:
    pictures = {name: page.find_all("img") for name, page in by_name(pages).items()}
    assert [file for file, tags in pictures.items() if not all(tag.get("alt") for tag in tags)] == []
    assert [tag["alt"] for tag in pictures["03_search"]] == [CAPTION]
    assert len(pictures["guide"]) >= 7


def test_formulas_are_mathml(pages: dict[Path, BeautifulSoup]) -> None:
    shown = by_name(pages)
    assert len(shown["03_search"].find_all("math")) >= 5
    assert not any(page.find_all("script", src=re.compile("mathjax", re.I)) for page in pages.values())


def test_notebooks_that_the_study_does_not_execute_say_so(pages: dict[Path, BeautifulSoup]) -> None:
    words = {name: page.get_text() for name, page in by_name(pages).items()}
    assert "does not execute this notebook" in words["10_interference"]
    assert "does not execute this notebook" not in words["03_search"]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("browser")) as page:
        yield page


def complaints(page: Browser) -> list[Any]:
    """Return what the browser and the pages report as a warning or an error."""
    return [one for one in page.complaints if one.get("type") not in ("log", "info", "debug")]


@pytest.mark.parametrize("name", PAGES)
def test_pages_fit_a_phone_and_have_a_dark_side(site: Path, page: Browser, tmp_path: Path, name: str) -> None:
    page.complaints.clear()
    page.requests.clear()
    light = {}
    for width, dark in ((1280, False), (1280, True), (390, False)):
        page.open(site / f"{name}.html", width, dark=dark)
        assert page.becomes("document.documentElement.dataset.theme", "dark" if dark else "light")
        assert page.ask("document.documentElement.scrollWidth <= window.innerWidth"), f"{width} pixels"
        page.picture(tmp_path / "page.png")
        light[width, dark] = np.asarray(Image.open(tmp_path / "page.png").convert("L")).mean()
    assert light[1280, True] < 100 < 180 < light[1280, False]
    assert complaints(page) == []
    assert page.requests and all(one.startswith(("file:", "data:")) for one in page.requests)


def test_a_search_in_the_book_finds_a_page(site: Path, page: Browser) -> None:
    page.open(f"{(site / 'search.html').as_uri()}?q=neumann")
    found = "[...document.querySelectorAll('#search-results a')].some(a => a.href.includes('hdarts.hypergradient'))"
    assert page.becomes(found, True)
    page.complaints.clear()
    page.open(f"{(site / 'search.html').as_uri()}?q=xyzzyx")
    assert page.becomes("document.querySelectorAll('#search-results a').length", 0)
    assert complaints(page) == []
