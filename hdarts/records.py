"""The run folder: parameters, tables, figures, result and provenance; written so that a kill leaves no half file.

    runs/<study>/<stage>/<slug>-<hash>/
        params.yaml  metrics.csv  hypergradients.csv  timings.csv  checkpoint.pt  genotype.json
        notebook.ipynb  figures/*.png|svg  provenance.json  result.json

A run is done when `result.json` is there and valid. What depends on the clock lives only in `timings.csv` and
`provenance.json`.
"""

import contextlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import yaml

from hdarts.compiled import compiler
from hdarts.faults import CannotWrite, of_the_disk
from hdarts.params import MODELS, ParameterError, Parameters, check, identity, notebook_defaults, read_yaml

if TYPE_CHECKING:  # pandas takes longer to import than all else here, and few who write a file write a table
    import pandas as pd

P = TypeVar("P", bound=Parameters)


def checkout() -> Path | None:
    """Return the root of the checkout this package lies in, or None when it is installed elsewhere."""
    root = Path(__file__).resolve().parent.parent
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


def write_atomic(path: Path, content: bytes | str) -> None:
    """Write a file so that a reader, or the next start after a kill, sees the old one or the new one, whole.

    Raises `CannotWrite` where the disk is full or read-only; the old file is then still there.
    """
    data = content.encode() if isinstance(content, str) else content
    try:
        _replace(path, data)
    except OSError as error:
        if of_the_disk(error):
            raise CannotWrite(f"{path} cannot be written: {error.strerror}") from None
        raise
    with contextlib.suppress(OSError):  # a file system that cannot sync folders still has the file's own sync
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _replace(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with beside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):  # on a read-only disk it cannot be removed, and was never there
            beside.unlink(missing_ok=True)
        raise


def write_folder(target: Path, files: Mapping[str, bytes | str]) -> None:
    """Write a new folder of files, named by their paths in it, whole or not at all.

    Raises `ParameterError` for one that is there already and not empty, `CannotWrite` for a full or read-only disk.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ParameterError(f"{target}: is there already; name a folder that is new or empty")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as error:
        fault = CannotWrite if of_the_disk(error) else ParameterError
        raise fault(f"{target} cannot be written: {error.strerror}") from None
    try:
        for name, content in files.items():
            write_atomic(beside / name, content)
        beside.chmod(0o755)
        beside.rename(target)  # onto nothing, or an empty folder
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise


@dataclass(frozen=True)
class Run:
    """One run folder and the parameters it belongs to."""

    folder: Path
    params: Parameters

    @classmethod
    def open(cls, params: Parameters) -> "Run":
        """Open, or make, the folder of `params`; a folder that belongs to other parameters is refused."""
        name = params.run or f"interactive/{params.stage}/{params.slug()}-{identity(params)}"
        run = cls(below_runs(name), params)
        mine = params.identifying(params.model_dump())
        try:
            if not (run.folder / "params.yaml").exists():
                run.write_text("params.yaml", yaml.safe_dump(params.model_dump(), sort_keys=False))
        except CannotWrite:
            raise
        except OSError as error:
            raise ParameterError(f"run folder {run.folder} cannot be written: {error.strerror}") from None
        theirs = params.identifying(read_yaml(run.folder / "params.yaml"))
        if differing := [k for k in sorted(mine.keys() | theirs.keys()) if mine.get(k) != theirs.get(k)]:
            told = ", ".join(f"{k}: {theirs.get(k)!r} there, {mine.get(k)!r} asked" for k in differing[:3])
            raise ParameterError(f"run folder {name} belongs to other parameters ({told}); name another run")
        return run

    @property
    def name(self) -> str:
        """Name of the run: its folder below `runs_folder()`."""
        return self.folder.relative_to(runs_folder().resolve()).as_posix()

    def write_text(self, name: str, text: str) -> Path:
        """Write a text file of the run and return its path."""
        write_atomic(self.folder / name, text)
        return self.folder / name

    def table(self, name: str) -> "pd.DataFrame":
        """Return the table `<name>.csv`, empty when it is not there yet."""
        return read_table(self.folder, name)

    def write_table(self, name: str, rows: "pd.DataFrame | Sequence[Mapping[str, Any]]") -> None:
        """Write the whole table `<name>.csv`; tables are small, so a row costs one whole atomic file."""
        import pandas as pd

        frame = rows if isinstance(rows, pd.DataFrame) else pd.DataFrame(rows)
        self.write_text(f"{name}.csv", frame.to_csv(index=False))

    @property
    def result(self) -> dict[str, Any] | None:
        """The content of `result.json`, or None while the run is not done."""
        return read_result(self.folder)

    @property
    def done(self) -> bool:
        """Whether the run has ended with a valid result."""
        return self.result is not None

    def finish(self, result: Mapping[str, Any]) -> None:
        """Write `result.json`, the last file of a run."""
        self.write_text("result.json", json.dumps(dict(result), indent=2, sort_keys=True, allow_nan=False) + "\n")

    def write_picture(self, name: str, content: bytes) -> Path:
        """Write a picture as figures/<name>, such as loss.png, and return its path."""
        write_atomic(self.folder / "figures" / name, content)
        return self.folder / "figures" / name

    def write_provenance(self, **more: Any) -> None:
        """Write `provenance.json`: versions, machine, git state, command and what the caller adds."""
        self.write_text("provenance.json", json.dumps({**provenance(), **more}, indent=2, default=str) + "\n")

    def add_provenance(self, **more: Any) -> None:
        """Add to `provenance.json` what is known at the end only, such as the most memory that was held."""
        before = json.loads((self.folder / "provenance.json").read_text(encoding="utf-8"))
        self.write_text("provenance.json", json.dumps({**before, **more}, indent=2, default=str) + "\n")


def read_table(folder: Path, name: str) -> "pd.DataFrame":
    """Return the table `<name>.csv` of a run folder, empty where there is none; a damaged one is a `ParameterError`."""
    import pandas as pd

    path = folder / f"{name}.csv"
    # what is read back and written again is the same text, so a resumed table equals an unbroken one: numbers are
    # read exactly (pandas 3.1 on), and only the empty field is a missing one (the word "None" stays a word)
    try:
        return pd.read_csv(path, keep_default_na=False, na_values=[""])
    except (FileNotFoundError, pd.errors.EmptyDataError):
        return pd.DataFrame()
    except ValueError as error:
        raise ParameterError(f"{path}: cannot be read as a table: {' '.join(str(error).split())}") from None


def read_json(path: Path) -> dict[str, Any] | None:
    """Return the object in a JSON file, or None when there is none that can be read."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def read_result(folder: Path) -> dict[str, Any] | None:
    """Return the result in a run folder, or None when there is none that can be read."""
    return read_json(folder / "result.json")


def provenance() -> dict[str, Any]:
    """Return where a run is computed: package versions, processor, operating system, git commit, time."""
    packages = {}
    for package in ("hdarts", "torch", "torchvision", "numpy", "scipy", "scikit-learn", "pandas", "papermill"):
        with contextlib.suppress(PackageNotFoundError):
            packages[package] = version(package)
    return {
        "written": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "python": sys.version.split()[0],
        "packages": packages,
        "machine": {"system": platform.platform(), "processor": platform.machine(), "cores": os.cpu_count()},
        "c_compiler": compiler(),
        "git": _git_state(),
    }


def _git_state() -> str | None:
    root = checkout()
    if root is None:
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
