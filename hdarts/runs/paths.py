"""Where things lie: the workbook folder with its notebooks and parameters, and the folder of all runs."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from hdarts.errors import ParameterError
from hdarts.params import MODELS, Parameters, check, notebook_defaults

P = TypeVar("P", bound=Parameters)


def checkout() -> Path | None:
    """Return the root of the checkout this package lies in, or None when it is installed elsewhere."""
    root = Path(__file__).resolve().parents[2]
    return root if (root / "notebooks").is_dir() and (root / "pyproject.toml").is_file() else None


def workbook_folder() -> Path:
    """Return the folder that holds `notebooks/`, `params/` and `runs/`.

    It is the nearest one, from here upwards, with the first two (a checkout, or what `hdarts init` made), else the
    checkout this package lies in, else the one we are in.
    """
    here = Path.cwd()
    own = (folder for folder in (here, *here.parents) if (folder / "notebooks/03_search.ipynb").is_file())
    return next((folder for folder in own if (folder / "params").is_dir()), None) or checkout() or here


def runs_folder() -> Path:
    """Return the folder of all runs: `$HDARTS_RUNS`, else `runs/` of the workbook."""
    if named := os.environ.get("HDARTS_RUNS"):
        return Path(named).resolve()
    return workbook_folder() / "runs"


def notebooks_folder() -> Path:
    """Return the folder of the workbook's notebooks."""
    return workbook_folder() / "notebooks"


def with_defaults(model: type[P], values: Mapping[str, Any]) -> P:
    """Return the parameters of a notebook, checked: its defaults, and `values` in place of them."""
    (name,) = (name for name, own in MODELS.items() if own is model)
    return check(model, notebook_defaults(notebooks_folder() / f"{name}.ipynb") | dict(values))


def below_runs(name: str | Path) -> Path:
    """Return the folder `name` below `runs_folder()`; a name that leads out of it is refused."""
    root = runs_folder().resolve()
    try:
        path = (root / name).resolve()
    except (ValueError, OSError, RuntimeError):  # a character no path can hold, a circle of links
        path = root
    if path == root or not path.is_relative_to(root):
        raise ParameterError(f"run name {str(name)!r} leads out of the runs folder; use a relative name such as my/run")
    return path
