"""Workers that are jobs of a queue: Slurm, PBS or LSF. Jobs that end are requested again."""

import logging
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hdarts.errors import ParameterError
from hdarts.workbook.cluster.file import EXTRA, QUEUES, Cluster

COMMANDS = {"slurm": "sbatch", "pbs": "qsub", "lsf": "bsub"}
PERIOD = 15  # seconds between two looks at the jobs
RESTARTS = 100  # of a run whose jobs reach their walltime: it resumes each time


def require_queue(settings: Cluster) -> None:
    """Raise `ParameterError` if the command that submits jobs to a queue is not on this host."""
    command = COMMANDS.get(settings.kind, "")
    if command and shutil.which(command) is None:
        raise ParameterError(
            f"`cluster`: kind {settings.kind}: this host has no command `{command}`; start the study where jobs are "
            "submitted (a login node), or leave out --engine dask to compute here"
        )


@contextmanager
def queued(settings: Cluster) -> Iterator[Any]:
    """Yield a client of workers that are jobs; raise `ParameterError` with the reason if the queue refuses all."""
    from dask import config
    from distributed import Client

    for name in ("tornado.application", "asyncio"):  # they would print the tracebacks of refused jobs
        logging.getLogger(name).setLevel(logging.CRITICAL)
    refused: list[str] = []
    ended = threading.Event()
    with config.set({"distributed.scheduler.allowed-failures": RESTARTS}), _jobs(settings, refused) as jobs:
        jobs.scale(jobs=settings.workers)
        print(f"{settings.workers} jobs are requested; runs start with the first", flush=True)
        with Client(jobs) as client:
            while not client.scheduler_info(n_workers=-1)["workers"]:
                if len(refused) >= settings.workers:
                    raise ParameterError(f"`cluster`: kind {settings.kind}: the queue refuses the jobs: {refused[0]}")
                ended.wait(0.2)
            watch = threading.Thread(target=_request_again, args=(jobs, settings.workers, refused, ended), daemon=True)
            watch.start()
            try:
                yield client
            finally:
                ended.set()
                watch.join()


def _jobs(settings: Cluster, refused: list[str]) -> Any:
    """Return the cluster of dask-jobqueue, which adds the reasons of its refused jobs to `refused`."""
    try:
        import dask_jobqueue
        from distributed.core import Status
    except ImportError:
        raise ParameterError(EXTRA) from None
    cluster = getattr(dask_jobqueue, QUEUES[settings.kind])

    class Job(cluster.job_cls):
        async def start(self) -> None:
            try:
                await super().start()
            except Exception as error:
                refused.append(_reason(error))
                raise

        async def close(self) -> None:
            if self.job_id is None:  # it was refused
                self.status = Status.closed
            else:
                await super().close()

    offered = " ".join(f"{name}={amount:g}" for name, amount in settings.offered.items())
    try:
        return cluster(
            cores=settings.cores,
            processes=1,
            memory=f"{settings.memory}GiB",
            worker_extra_args=["--resources", f"'{offered}'"],
            job_cls=Job,
            **settings.options,
        )
    except (TypeError, ValueError) as error:
        raise ParameterError(f"`cluster`: options: {' '.join(str(error).split())}") from None


def _reason(error: Exception) -> str:
    """Return what the command that submits a job has printed, from the message of dask-jobqueue."""
    text = str(error)
    printed = text.partition("stderr:\n")[2].strip() or text.partition("stdout:\n")[2].partition("stderr:")[0].strip()
    lines = (printed or text).strip().splitlines()
    return lines[-1] if lines else type(error).__name__


def _request_again(jobs: Any, count: int, refused: list[str], ended: threading.Event) -> None:
    """Keep `count` jobs requested: those that reached their walltime or were preempted, and those refused before."""

    def request() -> None:
        for name, job in list(jobs.workers.items()):
            if job.job_id is None:
                del jobs.workers[name]
        jobs.scale(jobs=count)

    said = ""
    while not ended.wait(PERIOD):
        if refused and refused[-1] != said:
            said = refused[-1]
            print(f"notice: the queue refuses a job, which is requested again: {said}", flush=True)
        jobs.loop.add_callback(request)
