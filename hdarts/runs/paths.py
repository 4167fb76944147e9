"""Paths: the workbook folder with its notebooks and parameters, and the folder of all runs."""

import difflib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from hdarts.errors import ParameterError
from hdarts.params import MODELS, Parameters, check, notebook_defaults, read_yaml

P = TypeVar("P", bound=Parameters)


def checkout() -> Path | None:
    """Return the root of the checkout that contains this package, or None if it is installed elsewhere."""
    root = Path(__file__).resolve().parents[2]
    return root if (root / "notebooks").is_dir() and (root / "pyproject.toml").is_file() else None


def workbook_folder() -> Path:
    """Return the folder whose `runs/` is written and to which paths in a study are relative.

    It is `$HDARTS_WORKBOOK`, else the nearest workbook from the working folder upwards, else the working folder.
    """
    if named := os.environ.get("HDARTS_WORKBOOK"):
        return Path(named).resolve()
    return workbook_above(Path.cwd()) or Path.cwd()


@contextmanager
def in_workbook(folder: Path) -> Iterator[None]:
    """Inside, `workbook_folder()` is `folder`, in this process and those that it starts."""
    before = os.environ.get("HDARTS_WORKBOOK", "")
    os.environ["HDARTS_WORKBOOK"] = str(folder)
    try:
        yield
    finally:
        os.environ["HDARTS_WORKBOOK"] = before


def workbook_of(file: Path) -> Path:
    """Return the workbook that a file is in; for a file in no workbook it is the folder of the file."""
    folder = file.parent.resolve()
    return workbook_above(folder) or folder


def workbook_above(folder: Path) -> Path | None:
    """Return the nearest workbook from a folder upwards, or None."""
    return next((each for each in (folder, *folder.parents) if _is_workbook(each)), None)


def _is_workbook(folder: Path) -> bool:
    """Whether it is a checkout, or a folder like one that `hdarts init` made."""
    return (folder / "params").is_dir() and any((folder / "notebooks").glob("*.ipynb"))


def templates(workbook: Path) -> Path:
    """Return the folder of the `notebooks/` and `params/` of a workbook; a plain folder uses those of this package."""
    return workbook if _is_workbook(workbook) else packaged()


def packaged() -> Path:
    """Return the folder of the `notebooks/` and `params/` that belong to this package: in the checkout or the wheel."""
    return checkout() or Path(__file__).resolve().parents[1] / "workbook"


def runs_folder() -> Path:
    """Return the folder of all runs: `$HDARTS_RUNS`, else `runs/` of the workbook; refuse a file of that name."""
    named = os.environ.get("HDARTS_RUNS", "")
    folder = Path(named).resolve() if named else workbook_folder() / "runs"
    if folder.exists() and not folder.is_dir():
        raise ParameterError(f"{folder}: is a file, not the folder of all runs; HDARTS_RUNS names a folder")
    return folder


def notebooks_folder() -> Path:
    """Return the folder of the workbook's notebooks."""
    return templates(workbook_folder()) / "notebooks"


def places(name: str) -> list[Path]:
    """Return where a relative path is searched for: in the working folder, then in the workbook."""
    path = Path(name).expanduser()
    return list(dict.fromkeys((Path.cwd() / path, workbook_folder() / path)))


def with_defaults(model: type[P], values: Mapping[str, Any]) -> P:
    """Return the checked parameters of a notebook: its defaults, replaced by `values`."""
    (name,) = (name for name, other in MODELS.items() if other is model)
    return check(model, notebook_defaults(notebooks_folder() / f"{name}.ipynb") | dict(values))


def preset_values(name: str) -> dict[str, Any]:
    """Return the parameters in params/<name>.yaml of the workbook, such as search/darts-second; "" has none."""
    folder = templates(workbook_folder()) / "params"
    known = sorted(f"{file.parent.name}/{file.stem}" for file in folder.glob("*/*.yaml"))
    if name and name not in known:
        near = ", ".join(difflib.get_close_matches(name, known, n=3) or known)
        raise ParameterError(f"preset: {name!r} is not a file of {folder}; did you mean one of {near}?")
    return read_yaml(folder / f"{name}.yaml") if name else {}


def named_run(folder: str, slug: str, digest: str) -> str:
    """Return the name of a run in a folder below `runs/`; an existing run keeps its name, whatever its slug was."""
    there = sorted(path.name for path in below_runs(folder).glob(f"*-{digest}"))
    return f"{folder}/{there[0] if there else f'{slug}-{digest}'}"


def below_runs(name: str | Path) -> Path:
    """Return the folder `name` below `runs_folder()`; raise `ParameterError` for a name that leads out of it."""
    root = runs_folder().resolve()
    try:
        path = (root / name).resolve()
    except (ValueError, OSError, RuntimeError):  # an invalid character, or a cycle of links
        path = root
    if path == root or not path.is_relative_to(root):
        raise ParameterError(f"run name {str(name)!r} leads out of the runs folder; use a relative name such as my/run")
    return path
