"""The execution of a run on a worker."""

import os
import platform
import secrets
from dataclasses import dataclass
from pathlib import Path

from hdarts.errors import Stopped
from hdarts.runs.atomic import write_atomic
from hdarts.runs.lock import locked
from hdarts.runs.paths import runs_folder
from hdarts.workbook.study import Plan, PlannedRun
from hdarts.workbook.study.runner import Outcome, outcome_of, run_one


@dataclass(frozen=True)
class WorkerTask:
    """Executes a run on a worker, in the folders and the environment of the client."""

    root: Path
    study: Path
    token: str
    timeout: float | None
    start_timeout: int
    environment: dict[str, str]

    @classmethod
    def prepare(cls, plan: Plan) -> "WorkerTask":
        """Write the token by which a worker checks that it sees the client's folder."""
        folder = plan.folder.resolve()
        variables = {name: value for name, value in os.environ.items() if name.startswith("HDARTS_")}
        variables["HDARTS_RUNS"] = str(runs_folder().resolve())
        work = cls(
            plan.root.resolve(), folder, secrets.token_hex(8), plan.study.timeout, plan.study.start_timeout, variables
        )
        work.stop.unlink(missing_ok=True)
        write_atomic(folder / ".shared", work.token)
        return work

    @property
    def stop(self) -> Path:
        """The file that makes all workers stop: their runs save and exit."""
        return self.study / ".stop"

    def __call__(self, run: PlannedRun) -> Outcome:
        """Execute a run on this worker, unless it is done."""
        if problem := self.missing_folder():
            return Outcome("failed", None, problem)
        if self.stop.exists():
            return Outcome("stopped", None, "stopped before it had anything to save", Stopped.exit_code)
        os.environ.update(self.environment)
        run.folder.mkdir(parents=True, exist_ok=True)
        with locked(run.folder / ".worker"):  # it may still be running for an earlier client
            if (outcome := outcome_of(run.folder)).state == "done":
                return outcome
            return run_one(run, self.root, _threads(), self.timeout, self.stop.exists, start_timeout=self.start_timeout)

    def missing_folder(self) -> str:
        """Return an error if this worker's host does not see all folders of the study, else ""."""
        here = f"the worker on {platform.node()} (process {os.getpid()})"
        try:
            token = (self.study / ".shared").read_text(encoding="utf-8")
        except OSError:
            token = ""
        if token != self.token:
            return f"{here} does not see {self.study}, which all hosts must share"
        return "" if self.root.is_dir() else f"{here} does not see {self.root}, which all hosts must share"


def _threads() -> int:
    """Return the CPU threads of a run: the cores of its worker, shared by the runs it executes at a time."""
    from distributed import get_worker

    state = get_worker().state
    return max(1, int(state.nthreads // state.total_resources.get("runs", state.nthreads)))
