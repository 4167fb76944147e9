"""The run folder: parameters, tables, figures, result and provenance; all files are written atomically.

    runs/<study>/<stage>/<slug>-<hash>/
        params.yaml  metrics.csv  hypergradients.csv  timings.csv  checkpoint.pt  genotype.json
        notebook.ipynb  figures/*.png|svg  provenance.json  result.json

A run is done if and only if it has a valid `result.json`. Only `timings.csv` and `provenance.json` depend on the clock.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from hdarts.errors import CannotWrite, ParameterError
from hdarts.params import Parameters, identity, read_yaml
from hdarts.runs.atomic import write_atomic
from hdarts.runs.paths import below_runs, runs_folder
from hdarts.runs.provenance import provenance, read_starts, refuse_other_images, write_starts

if TYPE_CHECKING:  # slow to import, and most callers write no table
    import pandas as pd


NEWEST, BEFORE = "checkpoint.pt", "checkpoint.previous.pt"


@dataclass(frozen=True)
class Run:
    """One run folder and the parameters it belongs to."""

    folder: Path
    params: Parameters

    @classmethod
    def open(cls, params: Parameters) -> "Run":
        """Open or create the folder of `params`; raise `ParameterError` if it belongs to other parameters."""
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
            first = ", ".join(f"{k}: {theirs.get(k)!r} there, {mine.get(k)!r} here" for k in differing[:3])
            raise ParameterError(f"run folder {name} belongs to other parameters ({first}); name another run")
        return run

    @property
    def name(self) -> str:
        """Name of the run: its folder below `runs_folder()`."""
        return self.folder.relative_to(runs_folder().resolve()).as_posix()

    def write_text(self, name: str, text: str) -> Path:
        write_atomic(self.folder / name, text)
        return self.folder / name

    def table(self, name: str) -> "pd.DataFrame":
        """Return the table `<name>.csv`, empty if it does not exist yet."""
        return read_table(self.folder, name)

    def write_table(self, name: str, rows: "pd.DataFrame | Sequence[Mapping[str, Any]]") -> None:
        """Write the whole table `<name>.csv` atomically, also when it has only one new row: tables are small."""
        import pandas as pd

        frame = rows if isinstance(rows, pd.DataFrame) else pd.DataFrame(rows)
        self.write_text(f"{name}.csv", frame.to_csv(index=False))

    @property
    def result(self) -> dict[str, Any] | None:
        """The content of `result.json`, or None if the run is not done."""
        return read_result(self.folder)

    @property
    def done(self) -> bool:
        return self.result is not None

    def finish(self, result: Mapping[str, Any]) -> None:
        """Write `result.json`, the last file of a run, which makes it done."""
        self.write_text("result.json", json.dumps(dict(result), indent=2, sort_keys=True, allow_nan=False) + "\n")

    def write_picture(self, name: str, content: bytes) -> Path:
        """Write a picture as figures/<name>, such as loss.png, and return its path."""
        write_atomic(self.folder / "figures" / name, content)
        return self.folder / "figures" / name

    def write_provenance(self, **more: Any) -> None:
        """Add this start to `provenance.json`: versions, machine, git state and what the caller adds.

        Raises `ParameterError` if the file is damaged, or if the run has a checkpoint of other images than those of
        `data` (`Splits.summary()`).
        """
        if "data" in more and any((self.folder / name).exists() for name in (NEWEST, BEFORE)):
            refuse_other_images(self.folder, more["data"])
        write_starts(self.folder, [*read_starts(self.folder), {**provenance(), **more}])

    def add_provenance(self, **more: Any) -> None:
        """Add to this start what is known later, such as the peak memory and the kernels that ran."""
        write_starts(self.folder, [*read_starts(self.folder)[:-1], {**self.provenance, **more}])

    @property
    def provenance(self) -> dict[str, Any]:
        """The last start in `provenance.json`; a missing or damaged file raises `ParameterError`."""
        if not (starts := read_starts(self.folder)):
            raise ParameterError(f"{self.folder / 'provenance.json'}: is missing; start the run again to write it")
        return starts[-1]


def read_table(folder: Path, name: str) -> "pd.DataFrame":
    """Return the table `<name>.csv` of a run folder, empty if there is none; `ParameterError` if it is damaged."""
    import pandas as pd

    path = folder / f"{name}.csv"
    # reading and writing again gives the same text, so that a resumed table equals an uninterrupted one: numbers are
    # read exactly (since pandas 3.1), and only an empty field is a missing value (the word "None" is not)
    try:
        return pd.read_csv(path, keep_default_na=False, na_values=[""])
    except (FileNotFoundError, pd.errors.EmptyDataError):
        return pd.DataFrame()
    except ValueError as error:
        raise ParameterError(f"{path}: cannot be read as a table: {' '.join(str(error).split())}") from None


def read_result(folder: Path) -> dict[str, Any] | None:
    """Return the result in a run folder, or None if there is no valid one."""
    try:
        content = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def tidy(params: Parameters, folder: Path) -> None:
    """Remove the newest and previous checkpoint of a run that is done, unless `keep_checkpoint` is set."""
    if not getattr(params, "keep_checkpoint", True):
        for name in (NEWEST, BEFORE):
            (folder / name).unlink(missing_ok=True)
