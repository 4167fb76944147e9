"""The engine `dask`: when each run goes to a worker, and what happens to runs of lost workers."""

import itertools
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import Executor, Future
from contextlib import closing
from functools import partial
from typing import Any

from hdarts.errors import OutOfMemory, ParameterError, Stopped
from hdarts.runs.atomic import write_atomic
from hdarts.workbook.cluster.connect import connected, described, offers
from hdarts.workbook.cluster.file import Cluster
from hdarts.workbook.cluster.worker import WorkerTask
from hdarts.workbook.study import Plan, PlannedRun
from hdarts.workbook.study.runner import Outcome, run_all

LOST = "the cluster lost it; the same command resumes from here"


def run_on_cluster(plan: Plan, settings: Cluster) -> Generator[tuple[PlannedRun, Outcome], None, None]:
    """Yield every run of a study with its outcome, computed by the workers of a cluster."""
    with connected(settings, plan.folder / "jobs") as client:
        print(f"workers: {described(client)}; dashboard: {client.dashboard_link}", flush=True)
        work = WorkerTask.prepare(plan)
        _all_see(client, work)
        offered = offers(client, settings)
        for run in plan.runs:
            required_resources(run, offered)  # raises before any run starts
        stop = partial(write_atomic, work.stop, "")
        with closing(run_all(plan.runs, Workers(client, offered), work, stop)) as every:
            yield from every


def _all_see(client: Any, work: WorkerTask) -> None:
    """Refuse workers that do not share the folder, or cannot import this package."""
    for address, problem in client.run(work.missing_folder, on_error="return").items():
        if isinstance(problem, Exception):
            name = type(problem).__name__
            raise ParameterError(f"worker {address} cannot work: {name}: {problem}".splitlines()[0])
        if problem:
            raise ParameterError(f"worker {address}: {problem}")


class Workers(Executor):
    """`submit(work, run)` gives a run to a worker with the resources it needs.

    Of those that wait, runs with inputs are first, then those submitted first, as in `gpus.Threads`.

    Dask itself restarts the run of a lost worker on another, three times at most. A run that ran out of memory next to
    others is tried once more, alone on a worker.
    """

    def __init__(self, client: Any, offered: Mapping[str, float]):
        self.pool, self.offered, self.places = client.get_executor(pure=False), offered, itertools.count()

    def submit(self, work: Callable[[PlannedRun], Outcome], run: PlannedRun, /) -> Future[Outcome]:  # type: ignore[override]
        result: Future[Outcome] = Future()
        result.set_running_or_notify_cancel()  # the file `.stop` stops it on its worker
        needed, together = required_resources(run, self.offered), self.offered.get("runs", 1)

        def pass_on(future: Future[Outcome]) -> None:
            if future.cancelled():
                result.set_result(Outcome("unfinished", None, LOST, Stopped.exit_code))
            elif error := future.exception():
                result.set_exception(error)
            elif future is first and together > 1 and future.result().code == OutOfMemory.exit_code:
                self._submit(work, run, {**needed, "runs": together}, f"{run.name} alone").add_done_callback(pass_on)
            else:
                result.set_result(future.result())

        first = self._submit(work, run, needed, run.name)
        first.add_done_callback(pass_on)
        return result

    def _submit(self, work: Any, run: PlannedRun, resources: dict[str, float], key: str) -> Future[Outcome]:
        priority = (2**61 if run.needs else 0) - next(self.places)
        return self.pool.submit(work, run, resources=resources, priority=priority, key=key)


def required_resources(run: PlannedRun, offered: Mapping[str, float]) -> dict[str, float]:
    """Return what a run needs of a worker: a slot, a GPU if it can use one, and the resources of its stage."""
    needed = {"runs": 1.0} if "runs" in offered else {}
    if "gpus" in offered and getattr(run.params, "device", "cpu") != "cpu":
        needed["gpus"] = 1.0
    needed |= run.resources
    if short := [name for name, amount in needed.items() if amount > offered.get(name, 0)]:
        most = f"at most {offered[short[0]]:g}" if short[0] in offered else "none"
        raise ParameterError(f"run {run.name} needs {short[0]}: {needed[short[0]]:g}, workers offer {most}")
    return needed
