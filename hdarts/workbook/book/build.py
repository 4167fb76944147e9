"""Collect the sources of the book in `build/book-sources`, and let Sphinx make pages of them."""

import importlib.util
import json
import posixpath
import re
import shutil
import subprocess
import sys
from pathlib import Path

import hdarts
from hdarts.errors import ParameterError
from hdarts.workbook.book.api import write_pages
from hdarts.workbook.book.notebooks import shown_runs, write_notebooks
from hdarts.workbook.study import Plan

SHOWN = ("*.md", "*.png", "*.svg")  # of docs/ and results/
# the book has other names for these pages
MOVED = {"README.md": "index.md", "results/quick/README.md": "notebooks/index.md"}
CONTENTS = {
    "Guides": "docs/index",
    "Notebooks": "notebooks/index",
    "Results": "results/index",
    "API": "api/index",
    "Changes": "CHANGELOG",
}


def build(plan: Plan, output: Path) -> Path:
    """Build the pages of the book and return the first one; refuse if Sphinx, the checkout or runs are missing."""
    if not all(map(importlib.util.find_spec, ("sphinx", "myst_nb", "pydata_sphinx_theme"))):
        raise ParameterError("the book needs Sphinx; `make book` installs it, and so does pip install 'hdarts[book]'")
    if not (plan.root / "docs").is_dir():
        raise ParameterError(f"{plan.root} has no docs/; the book is built in a checkout of hdarts")
    shown = shown_runs(plan)
    sources = output.with_name(f"{output.name}-sources")
    shutil.rmtree(sources, ignore_errors=True)
    collect(plan, sources)
    write_notebooks(plan, shown, sources / "notebooks")
    _complete(plan, sources)
    settings = str(Path(__file__).parent)
    subprocess.run([sys.executable, "-m", "sphinx", "-q", "-b", "html", "-c", settings, sources, output], check=True)
    return output / "index.html"


def collect(plan: Plan, sources: Path) -> None:
    """Copy the pages and pictures of the checkout; their links stay relative, as their folders stay the same."""
    files = [plan.root / "README.md", plan.root / "CHANGELOG.md"]
    for folder in ("docs", "results"):
        files += sorted(file for kind in SHOWN for file in (plan.root / folder).rglob(kind))
    for file in files:
        name = file.relative_to(plan.root).as_posix()
        if name.startswith(f"results/{plan.study.study}/"):
            continue  # its notebooks are a section of their own
        target = sources / MOVED.get(name, name)
        target.parent.mkdir(parents=True, exist_ok=True)
        if file.suffix == ".md":
            target.write_text(_with_links(file.read_text(encoding="utf-8"), name), encoding="utf-8")
        else:
            shutil.copyfile(file, target)


def _with_links(text: str, name: str) -> str:
    """Return the page `name` with links to pages that the book names otherwise."""
    folder = posixpath.dirname(name)

    def link(found: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(folder, found[1]))
        return f"]({posixpath.relpath(MOVED[target], folder or '.')}" if target in MOVED else found[0]

    return re.sub(r"\]\(([\w./-]+)", link, text)


def _complete(plan: Plan, sources: Path) -> None:
    """Add the notebooks that the study does not execute, and the pages with the contents of each section."""
    notebooks, originals = sources / "notebooks", plan.root / "notebooks"
    for file in sorted(originals.rglob("[!.]*.ipynb")):  # solutions too
        target = notebooks / file.relative_to(originals)
        if not target.exists() and ".ipynb_checkpoints" not in file.parts:
            notebook = json.loads(file.read_text(encoding="utf-8"))
            note = f"The study `{plan.study.study}` does not execute this notebook; `make lab` opens it."
            notebook["cells"].insert(1, {"id": "not-executed", "cell_type": "markdown", "metadata": {}, "source": note})
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(json.dumps(notebook), encoding="utf-8")
    (notebooks / "README.md").rename(notebooks / "index.md")
    names = sorted(file.relative_to(notebooks).with_suffix("").as_posix() for file in notebooks.rglob("*.ipynb"))
    _list(notebooks / "index.md", "## All notebooks", names, shown=True)
    guides = sorted(file.stem for file in (sources / "docs").glob("*.md"))
    _list(sources / "docs/index.md", "# Guides", sorted(guides, key=lambda name: name != "guide"), shown=True)
    results = sorted(f"{file.parent.name}/README" for file in (sources / "results").glob("*/README.md"))
    _list(sources / "results/index.md", "# Results", results, shown=True)
    _list(sources / "api/index.md", "# API", write_pages(Path(hdarts.__path__[0]), sources / "api"), shown=True)
    _list(sources / "index.md", "", [f"{title} <{page}>" for title, page in CONTENTS.items()])


def _list(page: Path, title: str, entries: list[str], shown: bool = False) -> None:
    """Append the contents of a section to its page, visible or only in the menus."""
    with page.open("a", encoding="utf-8") as file:
        options = ":maxdepth: 1" if shown else ":hidden:"
        file.write("\n".join([title, "", "```{toctree}", options, "", *entries, "```", ""]))
