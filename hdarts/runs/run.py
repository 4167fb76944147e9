"""The run folder: parameters, tables, figures, result and provenance; all files are written atomically.

    runs/<study>/<stage>/<slug>-<hash>/
        params.yaml  metrics.csv  hypergradients.csv  timings.csv  checkpoint.pt  genotype.json
        notebook.ipynb  figures/*.png|svg  provenance.json  result.json

A run is done if and only if it has a valid `result.json`. Only `timings.csv` and `provenance.json` depend on the clock.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from hdarts.errors import CannotWrite, ParameterError, of_the_disk
from hdarts.params import Parameters, identity, read_yaml
from hdarts.runs.atomic import write_atomic
from hdarts.runs.paths import below_runs, named_run, runs_folder
from hdarts.runs.provenance import provenance, read_starts, refuse_other_images, write_starts

if TYPE_CHECKING:  # slow to import, and most callers write no table
    import pandas as pd


NEWEST, PREVIOUS = "checkpoint.pt", "checkpoint.previous.pt"
MEASURED = "measured"  # name of the checkpoints to which a running search may roll back


@dataclass(frozen=True)
class Run:
    """One run folder and the parameters it belongs to."""

    folder: Path
    params: Parameters

    @classmethod
    def open(cls, params: Parameters) -> "Run":
        """Open the folder of `params`; raise `ParameterError` if it belongs to other parameters.

        `params.yaml` is written before the first other file, so parameters that turn out wrong do not occupy the name.
        """
        name = params.run or named_run(f"interactive/{params.stage}", params.slug(), identity(params))
        run = cls(below_runs(name), params)
        with run._explaining_faults():
            run.folder.mkdir(parents=True, exist_ok=True)
        run._refuse_other_parameters()
        return run

    def record(self) -> None:
        """Write `params.yaml`, the first file of a run, unless it is there."""
        if not (self.folder / "params.yaml").exists():
            with self._explaining_faults():
                write_atomic(self.folder / "params.yaml", yaml.safe_dump(self.params.model_dump(), sort_keys=False))

    @contextmanager
    def _explaining_faults(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if of_the_disk(error):
                reason = f"{self.folder} cannot be written: {error.strerror}" if error.strerror else str(error)
                raise CannotWrite(f"{reason}; HDARTS_RUNS names another runs folder") from None
            raise ParameterError(f"run folder {self.folder} cannot be written: {error.strerror}") from None

    def _refuse_other_parameters(self) -> None:
        """Raise `ParameterError` if the folder belongs to other parameters."""
        if not (self.folder / "params.yaml").exists():
            return
        mine = self.params.identifying(self.params.model_dump())
        theirs = self.params.identifying(read_yaml(self.folder / "params.yaml"))
        if differing := [k for k in sorted(mine.keys() | theirs.keys()) if mine.get(k) != theirs.get(k)]:
            first = ", ".join(f"{k}: {theirs.get(k)!r} there, {mine.get(k)!r} here" for k in differing[:3])
            raise ParameterError(f"run folder {self.name} belongs to other parameters ({first}); name another run")

    @property
    def name(self) -> str:
        """Name of the run: its folder below `runs_folder()`."""
        return self.folder.relative_to(runs_folder().resolve()).as_posix()

    def write_text(self, name: str, text: str | bytes) -> Path:
        self.record()
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
        """Write `result.json`, the last file of a run, which makes it done.

        An analysis of a study in which runs are missing (`$HDARTS_MISSING`) writes `partial.json` in its place, so that
        it is made again when they are there.
        """
        if missing := os.environ.get("HDARTS_MISSING", ""):
            self.write_text("partial.json", json.dumps({**result, "without": missing.split()}, allow_nan=False) + "\n")
            return
        self.write_text("result.json", json.dumps(dict(result), indent=2, sort_keys=True, allow_nan=False) + "\n")

    def write_picture(self, name: str, content: bytes) -> Path:
        """Write a picture as figures/<name>, such as loss.png, and return its path."""
        return self.write_text(f"figures/{name}", content)

    def write_provenance(self, **more: Any) -> None:
        """Add this start to `provenance.json`: versions, machine, git state and what the caller adds.

        Raises `ParameterError` if the file is damaged, or if the run has a checkpoint of other images than those of
        `data` (`Splits.summary()`).
        """
        if "data" in more and any((self.folder / name).exists() for name in (NEWEST, PREVIOUS)):
            refuse_other_images(self.folder, more["data"])
        self.record()
        self._refuse_other_parameters()  # another run of this name may have started meanwhile
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


def read_result(folder: Path, name: str = "result.json") -> dict[str, Any] | None:
    """Return the result in a run folder, or None if there is no valid one."""
    try:
        content = json.loads((folder / name).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def tidy(params: Parameters, folder: Path) -> None:
    """Remove the checkpoints of a run that is done; `keep_checkpoint` keeps the newest and the previous one."""
    kept = getattr(params, "keep_checkpoint", True)
    for path in (*folder.glob(f"checkpoint.{MEASURED}-*.pt"), *(() if kept else (folder / NEWEST, folder / PREVIOUS))):
        path.unlink(missing_ok=True)
