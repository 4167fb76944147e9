"""Start a workbook: copy the notebooks and parameter files of this package into a new folder."""

from pathlib import Path

from hdarts.runs.atomic import write_folder
from hdarts.runs.paths import packaged

KINDS = (".ipynb", ".yaml", ".json", ".txt", ".md")
README = """\
# A workbook of hdarts

Notebooks, parameters and studies of differentiable architecture search, copied by `hdarts init` for you to change.

    hdarts run params/studies/tiny.yaml     three runs in seconds: a search, its selection, its evaluation
    hdarts run params/studies/quick.yaml    the whole workbook on handwritten digits, in minutes
    jupyter lab notebooks                   the same notebooks, one by one

Results are in `runs/`; the report of a study is `runs/<study>/report.html`. `hdarts --help` lists all commands.
"""


def start(folder: Path) -> None:
    """Copy notebooks and parameters into a new or empty folder, all or nothing; refuse any other folder."""
    here = packaged()
    files = {
        path.relative_to(here).as_posix(): path.read_bytes()
        for name in ("notebooks", "params")
        for path in sorted((here / name).rglob("*"))
        if path.suffix in (".ipynb", ".yaml", ".json", ".txt", ".md")
        and not any(part[0] == "." for part in path.parts[-2:])
    }
    write_folder(folder, {"README.md": README, **files})
