"""HTML pages: an executed notebook, and the report of a study."""

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path


def write_missing_pages(folders: Iterable[Path]) -> None:
    """Write the page of each notebook without one: its run was killed between its result and its page."""
    for folder in folders:
        notebook = folder / "notebook.ipynb"
        if notebook.is_file() and not notebook.with_suffix(".html").is_file():
            from hdarts.workbook.page.notebook import write_page  # imports nbconvert

            with suppress(ValueError):  # not a notebook
                write_page(notebook)
