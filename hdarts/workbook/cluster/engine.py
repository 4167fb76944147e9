"""The engine `dask`: which run goes to a worker when, and what becomes of those that are lost."""

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
from hdarts.workbook.study.runner import Outcome, length, run_all

LOST = "the cluster lost it; the same command goes on from here"


def run_on_cluster(plan: Plan, settings: Cluster) -> Generator[tuple[PlannedRun, Outcome], None, None]:
    """Yield every run of a study with its outcome, computed by the workers of a cluster."""
    with connected(settings) as client:
        print(f"workers: {described(client)}; dashboard: {client.dashboard_link}", flush=True)
        work = WorkerTask.prepare(plan)
        _all_see(client, work)
        offered = offers(client, settings)
        for run in plan.runs:
            required_resources(run, offered)  # refuses before anything starts
        stop = partial(write_atomic, work.stop, "")
        with closing(run_all(plan.runs, Workers(client, offered), work, stop)) as every:
            yield from every


def _all_see(client: Any, work: WorkerTask) -> None:
    """Refuse workers that do not share the folder, or cannot import this package."""
    for address, told in client.run(work.blind, on_error="return").items():
        if isinstance(told, Exception):
            raise ParameterError(f"worker {address} cannot work: {type(told).__name__}: {told}".splitlines()[0])
        if told:
            raise ParameterError(f"worker {address}: {told}")


class Workers(Executor):
    """`submit(work, run)` gives a run to a worker that has what it asks for, the longest of those that wait first.

    Dask itself starts the run of a lost worker on another, three times at most. A run that was short of memory beside
    others is tried once more with a worker to itself.
    """

    def __init__(self, client: Any, offered: Mapping[str, float]):
        self.pool, self.offered = client.get_executor(pure=False), offered

    def submit(self, work: Callable[[PlannedRun], Outcome], run: PlannedRun, /) -> Future[Outcome]:  # type: ignore[override]
        ended: Future[Outcome] = Future()
        ended.set_running_or_notify_cancel()  # a request to stop reaches it on its worker, by the file `.stop`
        asked, together = required_resources(run, self.offered), self.offered.get("runs", 1)

        def pass_on(future: Future[Outcome]) -> None:
            if future.cancelled():
                ended.set_result(Outcome("unfinished", None, LOST, Stopped.exit_code))
            elif error := future.exception():
                ended.set_exception(error)
            elif future is first and together > 1 and future.result().code == OutOfMemory.exit_code:
                self._submit(work, run, {**asked, "runs": together}, f"{run.name} alone").add_done_callback(pass_on)
            else:
                ended.set_result(future.result())

        first = self._submit(work, run, asked, run.name)
        first.add_done_callback(pass_on)
        return ended

    def _submit(self, work: Any, run: PlannedRun, asked: dict[str, float], key: str) -> Future[Outcome]:
        priority = int(min(length(run), 2**62))
        return self.pool.submit(work, run, resources=asked, priority=priority, key=key)


def required_resources(run: PlannedRun, offered: Mapping[str, float]) -> dict[str, float]:
    """Return what a run asks of a worker: a place, a GPU where there is one that it can use, what its stage says."""
    asked = {"runs": 1.0} if "runs" in offered else {}
    if "gpus" in offered and getattr(run.params, "device", "cpu") != "cpu":
        asked["gpus"] = 1.0
    asked |= run.resources
    if short := [name for name, amount in asked.items() if amount > offered.get(name, 0)]:
        most = f"at most {offered[short[0]]:g}" if short[0] in offered else "none"
        raise ParameterError(f"run {run.name} asks for {short[0]}: {asked[short[0]]:g}, workers offer {most}")
    return asked
