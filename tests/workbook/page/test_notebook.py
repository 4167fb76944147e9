"""An executed notebook as a page: formulas without scripts, and nothing from the network."""

import re
from pathlib import Path

import nbformat
import pytest
from bs4 import BeautifulSoup
from helpers.browser import chromium

from hdarts.runs.paths import notebooks_folder
from hdarts.workbook.page.notebook import mathml, write_page

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
TEXT = """# A title

Inline $w^*(\\alpha) < 1$, a price of \\$5, and

$$\\frac{d\\,\\mathrm{outer}}{d\\alpha} = \\underbrace{d}_{\\text{direct}} - C^\\top H^{-1} v$$
"""


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """The page of a notebook with formulas and a picture."""
    picture = nbformat.v4.new_output("display_data", {"image/png": PIXEL}, metadata={"image/png": {"alt": 'a "b" & c'}})
    cells = [nbformat.v4.new_markdown_cell(TEXT), nbformat.v4.new_code_cell("show()", outputs=[picture])]
    notebook = tmp_path / "notebook.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells), notebook)
    write_page(notebook)
    return notebook.with_suffix(".html")


def test_formulas_are_mathml_and_nothing_is_loaded(written: Path) -> None:
    page = written.read_text()
    assert page.count("<math") == 2 and "<mfrac>" in page and "$5" in page
    assert not re.findall(r'(?:src|href)="?https?:', page) and "<script" not in page and "@import" not in page


def test_the_parameters_cell_is_folded_and_what_a_run_changed_is_not(tmp_path: Path) -> None:
    cells = [nbformat.v4.new_code_cell(f"{name} = 1", metadata={"tags": [name]} if "p" in name else {})
             for name in ("parameters", "injected-parameters", "other")]  # fmt: skip
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "notebook.ipynb")
    write_page(tmp_path / "notebook.ipynb")
    page = BeautifulSoup((tmp_path / "notebook.html").read_text(), "html.parser")
    (folded,) = page.find_all("details")
    assert folded.summary is not None and folded.summary.get_text() == "The defaults of the parameters cell"
    assert len(page.select(".jp-CodeCell .highlight")) == 3 and len(folded.select(".highlight")) == 1
    assert "open" not in folded.attrs and "parameters = 1" in " ".join(folded.get_text().split())


def test_a_picture_has_its_caption_as_alternative_text(written: Path) -> None:
    (picture,) = BeautifulSoup(written.read_text(), "html.parser").find_all("img")
    assert picture["alt"] == 'a "b" & c'


@pytest.mark.parametrize("formula", [r"\nonsense x", r"\frac{", "", r"\begin{aligned} a &= b \end{aligned}"])
def test_a_formula_that_cannot_be_converted_is_shown_unchanged(formula: str) -> None:
    shown = mathml(formula, "inline")
    assert shown.startswith("<code>") and formula.replace("&", "&amp;") in shown


@pytest.mark.parametrize("notebook", sorted(notebooks_folder().glob("*.ipynb")), ids=lambda path: path.stem)
def test_every_formula_of_the_notebooks_is_converted(notebook: Path) -> None:
    text = "\n".join(c.source for c in nbformat.read(notebook, as_version=4).cells if c.cell_type == "markdown")
    formulas = [one or two for one, two in re.findall(r"\$\$(.+?)\$\$|\$(.+?)\$", text, re.DOTALL)]
    assert [one for one in formulas if not mathml(one, "inline").startswith("<math")] == []


def test_printed_lines_break_between_words_in_a_narrow_window(tmp_path: Path) -> None:
    words = [f"a{'-long' * (n % 4)} word {n}" for n in range(20)]
    printed = nbformat.v4.new_output("stream", name="stdout", text=" ".join([*words, "x" * 200, "end."]))
    notebook = tmp_path / "notebook.ipynb"
    cell = nbformat.v4.new_code_cell("tell()", outputs=[printed])
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), notebook)
    write_page(notebook)
    lines_of_words = """(() => {
        const text = document.querySelector(".jp-OutputArea-output pre").firstChild
        return [...text.data.matchAll(/[^ -]+/g)].map(word => {
            const range = document.createRange()
            range.setStart(text, word.index)
            range.setEnd(text, word.index + word[0].length)
            return range.getClientRects().length
        })
    })()"""
    with chromium(tmp_path) as browser:
        browser.open(notebook.with_suffix(".html"), width=400)
        *lines, long, _ = browser.ask(lines_of_words)
        assert set(lines) == {1} and long > 3, "only a word longer than a line is broken"
        assert browser.ask("document.documentElement.scrollWidth") == 400


def test_a_browser_renders_formulas_offline(written: Path, tmp_path: Path) -> None:
    with chromium(tmp_path) as browser:
        browser.open(written)
        assert browser.ask("document.querySelector('mfrac').getBoundingClientRect().height") > 20
        assert browser.complaints == []
        assert all(one.startswith(("file:", "data:")) for one in browser.requests)
