"""What a worker does with a run."""

import os
import platform
import secrets
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from hdarts.errors import Stopped
from hdarts.runs.atomic import write_atomic
from hdarts.runs.paths import runs_folder
from hdarts.workbook.study import Plan, PlannedRun
from hdarts.workbook.study.runner import Outcome, outcome_of, run_one


@dataclass(frozen=True)
class WorkerTask:
    """What a worker does with a run, in the folders and the environment of the client."""

    root: Path
    study: Path
    token: str
    timeout: float | None
    environment: dict[str, str]

    @classmethod
    def prepare(cls, plan: Plan) -> "WorkerTask":
        """Write the mark by which a worker knows that it sees the client's folder."""
        folder = plan.folder.resolve()
        kept = {name: value for name, value in os.environ.items() if name.startswith("HDARTS_")}
        kept["HDARTS_RUNS"] = str(runs_folder().resolve())
        work = cls(plan.root.resolve(), folder, secrets.token_hex(8), plan.study.timeout, kept)
        work.stop.unlink(missing_ok=True)
        write_atomic(folder / ".shared", work.token)
        return work

    @property
    def stop(self) -> Path:
        """The file that asks all workers to let their runs save and end."""
        return self.study / ".stop"

    def __call__(self, run: PlannedRun) -> Outcome:
        """Compute a run on this worker, unless it is done."""
        if told := self.blind():
            return Outcome("failed", None, told)
        if self.stop.exists():
            return Outcome("stopped", None, "stopped before it had anything to save", Stopped.exit_code)
        os.environ.update(self.environment)
        run.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(run.folder / ".worker"):  # it may still run for a client that went away
            if (outcome := outcome_of(run.folder)).state == "done":
                return outcome
            return run_one(run, self.root, _threads(), self.timeout, self.stop.exists)

    def blind(self) -> str:
        """Return what this worker's host does not see of the study, "" if it sees all."""
        here = f"the worker on {platform.node()} (process {os.getpid()})"
        try:
            seen = (self.study / ".shared").read_text(encoding="utf-8")
        except OSError:
            seen = ""
        if seen != self.token:
            return f"{here} does not see {self.study}, which all hosts must share"
        return "" if self.root.is_dir() else f"{here} does not see {self.root}, which all hosts must share"


def _threads() -> int:
    """CPU threads of a run: the cores that its worker was started with, shared by the runs it takes at a time."""
    from distributed import get_worker

    state = get_worker().state
    return max(1, int(state.nthreads // state.total_resources.get("runs", state.nthreads)))
