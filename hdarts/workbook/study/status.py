"""Where the runs of a study stand, read from their folders: the table of `hdarts run` and of `hdarts status`.

A few hundred lines of a terminal cannot show thousands of runs, nor should so many folders be read every other second:
where not all rows have room, those under way are shown, and of all runs how many are in which state.
"""

import csv
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from hdarts.runs.signals import write_stderr
from hdarts.workbook.page.report import words_of
from hdarts.workbook.study import Plan, PlannedRun
from hdarts.workbook.study.runner import Outcome

EVERY = 2.0  # seconds between two looks at the folders
MOST = 40  # rows of `hdarts status`; the live table has those of its terminal
UNDER_WAY = ("running", "unfinished")
FIRST = (*UNDER_WAY, "failed", "stopped")  # states whose runs are shown where not all have room


@dataclass(frozen=True)
class RunProgress:
    """How far a run is: whole epochs done, of how many, accuracy in per cent after the last, seconds left.

    The accuracy is that of the search-validation or the test images. The time left is that of the epochs left, at the
    mean of the last five. None is what a run does not have, or not yet.
    """

    epoch: int | None = None
    epochs: int | None = None
    accuracy: float | None = None
    left: float | None = None

    @classmethod
    def of(cls, run: PlannedRun) -> "RunProgress":
        """Read how far a run is from its metrics.csv and timings.csv."""
        epochs = getattr(run.params, "epochs", None)
        if not isinstance(epochs, int):
            return cls()
        try:
            last = _rows(run.folder / "metrics.csv")[-1]
            seconds = [float(row["seconds"]) for row in _rows(run.folder / "timings.csv")[-5:]]
            accuracy = float(last.get("validation_accuracy") or last["test_accuracy"])
            left = (epochs - int(last["epoch"])) * sum(seconds) / len(seconds)
        except (OSError, ValueError, LookupError, ArithmeticError, csv.Error):
            return cls()
        return cls(int(last["epoch"]), epochs, accuracy, left)


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def view(plan: Plan, states: Mapping[str, str], most: int = MOST) -> Group:
    """Return a table of at most so many runs, those under way first where not all have room, and counts of states."""
    chosen = plan.runs
    if len(chosen) > most:
        chosen = [run for state in FIRST for run in plan.runs if states[run.name] == state][:most]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("run", no_wrap=True, overflow="ellipsis")
    table.add_column("state", no_wrap=True)
    for name in ("epoch", "accuracy %", "time left"):
        table.add_column(name, justify="right", no_wrap=True)
    for run in chosen:
        table.add_row(run.name.partition("/")[2], *_words(states[run.name], run))
    left_out = len(plan.runs) - len(chosen)
    more = [Text(f"... and {left_out} runs more")] if left_out else []
    return Group(table, *more, Text(), Text(aligned(counts(plan, states))))


def _words(state: str, run: PlannedRun) -> tuple[str, str, str, str]:
    if state in ("waiting", "blocked"):
        return state, "", "", ""
    stands = RunProgress.of(run)
    if stands.epoch is None:
        return state, "", "", ""
    left = _duration(stands.left) if state in UNDER_WAY else ""
    return state, f"{stands.epoch}/{stands.epochs}", words_of(stands.accuracy), left


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return ""
    unit, size = next(((u, s) for u, s in (("h", 3600), ("min", 60)) if seconds >= 2 * s), ("s", 1))
    return f"{seconds / size:.0f} {unit}" if size < 3600 else f"{seconds / size:.1f} {unit}"


def counts(plan: Plan, states: Mapping[str, str]) -> pd.DataFrame:
    """Return how many runs of each stage are in which state."""
    frame = pd.DataFrame({"stage": [run.stage for run in plan.runs], "state": [states[r.name] for r in plan.runs]})
    table = pd.crosstab(frame["stage"], frame["state"]).reindex(list(plan.study.stages))
    table.insert(0, "runs", table.sum(axis=1))
    return table.reset_index()


def aligned(frame: pd.DataFrame) -> str:
    """A table as text: numbers to the right, words to the left."""
    columns = []
    for name in frame.columns:
        words = [str(name), *map(words_of, frame[name])]
        width = max(map(len, words))
        numeric = pd.api.types.is_numeric_dtype(frame[name])
        columns.append([word.rjust(width) if numeric else word.ljust(width) for word in words])
    return "\n".join("  ".join(line).rstrip() for line in zip(*columns, strict=True))


def show(plan: Plan, states: Mapping[str, str]) -> None:
    """Print where the runs stand; into a file or a pipe with no line cut."""
    Console(width=None if Console().is_terminal else 1000).print(view(plan, states), highlight=False)


class LiveTable:
    """The live table of a study that is run; where standard output is no terminal it shows nothing."""

    def __init__(self, plan: Plan, before: Mapping[str, Outcome]):
        self.plan, self.console, self.note = plan, Console(), ""
        self.ended = {name: outcome.state for name, outcome in before.items() if outcome.state == "done"}
        self.stages = {run.name.rpartition("/")[0]: run.folder.parent for run in plan.runs}
        # what an earlier start left unfinished is under way once something in its folder has changed
        self.left = {r.name: _changed(r.folder) for r in plan.runs if before[r.name].state not in ("done", "waiting")}
        self.live = self.console.is_terminal and os.environ.get("HDARTS_PROGRESS") not in ("none", "log")

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Inside, the table stands below what is printed."""
        if not self.live:
            yield
            return
        options = {"refresh_per_second": 1 / EVERY, "transient": True}
        with Live(console=self.console, get_renderable=self._render, **options):  # type: ignore[arg-type]
            self.console.show_cursor()  # whoever is killed leaves the terminal as it was
            try:
                yield
            finally:
                self.live = False

    def end(self, run: PlannedRun, outcome: Outcome) -> None:
        """Note that a run has ended."""
        self.ended[run.name] = outcome.state

    def tell(self, line: str) -> None:
        """Tell a line from a signal's handler: below the table, which would overwrite it, or on standard error."""
        if self.live:
            self.note = line
        else:
            write_stderr(line)

    def states(self) -> dict[str, str]:
        """Return the state of each run: of those that have not ended, which are under way.

        One listing a stage tells which folders are there.
        """
        there = {f"{stage}/{name}" for stage, folder in self.stages.items() for name in _inside(folder)}
        ended = dict(self.ended)
        return {
            run.name: ended.get(run.name) or ("running" if run.name in there and self._began(run) else "waiting")
            for run in self.plan.runs
        }

    def _began(self, run: PlannedRun) -> bool:
        return run.name not in self.left or _changed(run.folder) != self.left[run.name]

    def _render(self) -> Group:
        room = self.console.height - len(self.plan.study.stages) - 5
        return Group(view(self.plan, self.states(), max(room, 3)), *([Text(self.note)] if self.note else []))


def _inside(folder: Path) -> list[str]:
    try:
        return [path.name for path in folder.iterdir()]
    except OSError:  # not there yet
        return []


def _changed(folder: Path) -> int:
    try:
        return folder.stat().st_mtime_ns
    except OSError:
        return 0
