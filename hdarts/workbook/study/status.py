"""The progress of a study's runs, read from their folders: the table of `hdarts run` and of `hdarts status`.

If a terminal has too few lines for all runs, the active ones are shown and all are counted by state. Only active runs
are read every two seconds; reading thousands of folders would take too long.
"""

import csv
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from hdarts.runs.signals import write_stderr
from hdarts.workbook.formatting import format_table, format_value
from hdarts.workbook.study import Plan, PlannedRun
from hdarts.workbook.study.runner import Outcome

INTERVAL = 2.0  # seconds between two readings of the folders
MOST = 40  # rows of `hdarts status`; the live table has as many as fit into its terminal
ACTIVE = ("running", "unfinished")
FIRST = (*ACTIVE, "failed", "stopped")  # states whose runs are shown if not all fit


@dataclass(frozen=True)
class RunProgress:
    """The progress of a run: epochs done, epochs in all, accuracy after the last one, seconds left; None if unknown.

    Accuracy, in per cent, is on search-validation or test images; `left` assumes the mean time of the last five epochs.
    """

    epoch: int | None = None
    epochs: int | None = None
    accuracy: float | None = None
    left: float | None = None

    @classmethod
    def of(cls, run: PlannedRun) -> "RunProgress":
        """Read the progress of a run from its metrics.csv and timings.csv."""
        epochs = getattr(run.params, "all_epochs", getattr(run.params, "epochs", None))
        if not isinstance(epochs, int):
            return cls()
        try:
            last = _rows(run.folder / "metrics.csv")[-1]
            times = _rows(run.folder / "timings.csv")[-5:]
            seconds = [float(row["seconds"] or 0) + float(row.get("measuring_seconds") or 0) for row in times]
            accuracy = float(last.get("validation_accuracy") or last["test_accuracy"])
            left = (epochs - int(last["epoch"])) * sum(seconds) / len(seconds)
        except (OSError, ValueError, LookupError, ArithmeticError, csv.Error):
            return cls()
        return cls(int(last["epoch"]), epochs, accuracy, left)


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def view(plan: Plan, states: Mapping[str, str], most: int = MOST) -> Group:
    """Return a table of at most `most` runs, the active ones first if not all fit, and the counts of all states."""
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
    more = [Text(f"... and {left_out} more runs")] if left_out else []
    return Group(table, *more, Text(), Text(format_table(counts(plan, states))))


def _words(state: str, run: PlannedRun) -> tuple[str, str, str, str]:
    if state in ("waiting", "blocked"):
        return state, "", "", ""
    progress = RunProgress.of(run)
    if progress.epoch is None:
        return state, "", "", ""
    left = _duration(progress.left) if state in ACTIVE else ""
    return state, f"{progress.epoch}/{progress.epochs}", format_value(progress.accuracy), left


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return ""
    unit, size = next(((u, s) for u, s in (("h", 3600), ("min", 60)) if seconds >= 2 * s), ("s", 1))
    return f"{seconds / size:.0f} {unit}" if size < 3600 else f"{seconds / size:.1f} {unit}"


def counts(plan: Plan, states: Mapping[str, str]) -> list[dict[str, Any]]:
    """Count the runs of each stage by state."""
    found = Counter((run.stage, states[run.name]) for run in plan.runs)
    names = sorted(set(states.values()))
    return [
        {"stage": stage, "runs": sum(counted.values()), **counted}
        for stage in plan.study.stages
        for counted in [{name: found[stage, name] for name in names}]
    ]


def show(plan: Plan, states: Mapping[str, str]) -> None:
    """Print the progress of all runs; lines in a file or a pipe are not cut."""
    Console(width=None if Console().is_terminal else 1000).print(view(plan, states), highlight=False)


class LiveTable:
    """The live table of a study that is running; it shows nothing if standard output is no terminal."""

    def __init__(self, plan: Plan, before: Mapping[str, Outcome]):
        self.plan, self.console, self.note = plan, Console(), ""
        self.ended = {name: outcome.state for name, outcome in before.items() if outcome.state == "done"}
        self.stages = {run.name.rpartition("/")[0]: run.folder.parent for run in plan.runs}
        # an unfinished run of an earlier start is running again once its folder has changed
        self.left = {r.name: _changed(r.folder) for r in plan.runs if before[r.name].state not in ("done", "waiting")}
        self.live = self.console.is_terminal and os.environ.get("HDARTS_PROGRESS") not in ("none", "log")

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Within this context, show the table below the printed lines."""
        if not self.live:
            yield
            return
        options = {"refresh_per_second": 1 / INTERVAL, "transient": True}
        with Live(console=self.console, get_renderable=self._render, **options):  # type: ignore[arg-type]
            self.console.show_cursor()  # a killed process leaves the terminal as it was
            try:
                yield
            finally:
                self.live = False

    def end(self, run: PlannedRun, outcome: Outcome) -> None:
        self.ended[run.name] = outcome.state

    def announce(self, line: str) -> None:
        """Show a line of a signal handler: below the table, which would overwrite it, or on standard error."""
        if self.live:
            self.note = line
        else:
            write_stderr(line)

    def states(self) -> dict[str, str]:
        """Return the state of each run; those that have not ended are running or waiting."""
        present = {f"{stage}/{name}" for stage, folder in self.stages.items() for name in _inside(folder)}
        ended = dict(self.ended)
        return {
            run.name: ended.get(run.name) or ("running" if run.name in present and self._began(run) else "waiting")
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
