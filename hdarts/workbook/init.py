"""A workbook of one's own: notebooks and parameter files, as this package brings them along, in a new folder.

`notebooks` and `params` beside this file are links to those of the checkout; a wheel holds the files themselves.
"""

from pathlib import Path

from hdarts.runs.atomic import write_folder

README = """\
# A workbook of hdarts

Notebooks, parameters and studies of differentiable architecture search, copied by `hdarts init`: they are yours.

    hdarts run params/studies/tiny.yaml     three runs in seconds: a search, its selection, its evaluation
    hdarts run params/studies/quick.yaml    the whole workbook on handwritten digits, in minutes
    jupyter lab notebooks                   the same notebooks, one by one

Results come into `runs/`; a study's page is `runs/<study>/report.html`. `hdarts --help` says what else there is.
"""


def start(folder: Path) -> None:
    """Copy notebooks and parameters into a new or empty folder, whole or not at all; another is refused."""
    here = Path(__file__).parent
    files = {
        path.relative_to(here).as_posix(): path.read_bytes()
        for name in ("notebooks", "params")
        for path in sorted((here / name).rglob("*"))
        if path.suffix in (".ipynb", ".yaml", ".json") and not any(part[0] == "." for part in path.parts[-2:])
    }
    write_folder(folder, {"README.md": README, **files})
