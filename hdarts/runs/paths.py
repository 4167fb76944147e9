"""Paths: the workbook folder with its notebooks and parameters, and the folder of all runs."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from hdarts.errors import ParameterError
from hdarts.params import MODELS, Parameters, check, notebook_defaults

P = TypeVar("P", bound=Parameters)


def checkout() -> Path | None:
    """Return the root of the checkout that contains this package, or None if it is installed elsewhere."""
    root = Path(__file__).resolve().parents[2]
    return root if (root / "notebooks").is_dir() and (root / "pyproject.toml").is_file() else None


def workbook_folder() -> Path:
    """Return the folder that contains `notebooks/`, `params/` and `runs/`.

    It is the nearest one with the first two, from the working folder upwards (a checkout, or a folder that
    `hdarts init` made), else the checkout that contains this package, else the working folder.
    """
    here = Path.cwd()
    workbooks = (folder for folder in (here, *here.parents) if (folder / "notebooks/03_search.ipynb").is_file())
    return next((folder for folder in workbooks if (folder / "params").is_dir()), None) or checkout() or here


def runs_folder() -> Path:
    """Return the folder of all runs: `$HDARTS_RUNS`, else `runs/` of the workbook."""
    if named := os.environ.get("HDARTS_RUNS"):
        return Path(named).resolve()
    return workbook_folder() / "runs"


def notebooks_folder() -> Path:
    """Return the folder of the workbook's notebooks."""
    return workbook_folder() / "notebooks"


def with_defaults(model: type[P], values: Mapping[str, Any]) -> P:
    """Return the checked parameters of a notebook: its defaults, replaced by `values`."""
    (name,) = (name for name, other in MODELS.items() if other is model)
    return check(model, notebook_defaults(notebooks_folder() / f"{name}.ipynb") | dict(values))


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
