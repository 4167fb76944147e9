"""Workers that are jobs of a queue: Slurm, PBS or LSF. Jobs that end are requested again."""

import getpass
import logging
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hdarts.errors import ParameterError
from hdarts.workbook.cluster.file import EXTRA, QUEUES, Cluster

COMMANDS = {"slurm": "sbatch", "pbs": "qsub", "lsf": "bsub"}
UNFINISHED = {  # lists the numbers of a user's jobs that wait or run
    "slurm": "squeue --noheader --format=%A --user={user}",
    "pbs": "qselect -s EHQRSTUW -u {user}",
    "lsf": "bjobs -noheader -o jobid -u {user}",
}
NONE = "No unfinished job found"  # as LSF says it, with an exit code of a failure
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
def queued(settings: Cluster, logs: Path) -> Iterator[Any]:
    """Yield a client of workers that are jobs; they write their logs to `logs`, unless the options say where.

    Raises `ParameterError` with the reason if the queue refuses all jobs, or all end before one has connected.
    """
    from dask import config
    from distributed import Client

    for name in ("tornado.application", "asyncio"):  # they would print the tracebacks of refused jobs
        logging.getLogger(name).setLevel(logging.CRITICAL)
    refused: list[str] = []
    logs = Path(settings.options.get("log_directory", logs))
    ended = threading.Event()
    with config.set({"distributed.scheduler.allowed-failures": RESTARTS}), _jobs(settings, logs, refused) as jobs:
        jobs.scale(jobs=settings.workers)
        print(f"{settings.workers} jobs are requested, with logs in {logs}; runs start with the first", flush=True)
        with Client(jobs) as client:
            look = time.monotonic() + PERIOD / 3
            while not _connected(client):
                fault = f"the queue refuses the jobs: {refused[0]}" if refused else ""
                lost: list[str] = []
                if time.monotonic() > look:
                    look = time.monotonic() + PERIOD
                    lost = _ended(settings.kind, jobs)
                    fault = fault or (lost and _of_log(lost[0], logs))
                if len(refused) + len(lost) >= settings.workers:
                    raise ParameterError(f"`cluster`: kind {settings.kind}: {fault}")
                ended.wait(0.2)
            watch = threading.Thread(target=_watch, args=(settings, client, jobs, logs, refused, ended), daemon=True)
            watch.start()
            try:
                yield client
            finally:
                ended.set()
                watch.join()


def _jobs(settings: Cluster, logs: Path, refused: list[str]) -> Any:
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
            **{**settings.options, "log_directory": str(logs)},
        )
    except (TypeError, ValueError) as error:
        raise ParameterError(f"`cluster`: options: {' '.join(str(error).split())}") from None


def _reason(error: Exception) -> str:
    """Return what the command that submits a job has printed, from the message of dask-jobqueue."""
    text = str(error)
    printed = text.partition("stderr:\n")[2].strip() or text.partition("stdout:\n")[2].partition("stderr:")[0].strip()
    lines = (printed or text).strip().splitlines()
    return lines[-1] if lines else type(error).__name__


def _connected(client: Any) -> set[str]:
    """Return the names of the jobs whose workers have connected."""
    return {str(worker["name"]) for worker in client.scheduler_info(n_workers=-1)["workers"].values()}


def _ended(kind: str, jobs: Any, connected: Collection[str] = ()) -> list[str]:
    """Return the numbers of the submitted jobs that have ended, except those `connected`; [] if the queue is silent."""
    submitted = [job.job_id for name, job in list(jobs.workers.items()) if job.job_id and str(name) not in connected]
    try:
        command = UNFINISHED[kind].format(user=getpass.getuser()).split()
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except (OSError, KeyError, subprocess.SubprocessError):  # KeyError: a user id without a name, before Python 3.13
        return []
    if done.returncode and NONE not in done.stderr:
        return []
    unfinished = set(re.findall(r"^\s*(\d+)", done.stdout, re.MULTILINE))
    return [number for number in submitted if number not in unfinished]


def _of_log(number: str, logs: Path) -> str:
    """Return a sentence on a job that ended early: where its log is, and the last line of it."""
    files = [file for file in logs.glob("*") if number in file.name and file.is_file() and file.stat().st_size]
    where, last = f"it left no log in {logs}", ""
    if files:
        file = max(files, key=lambda file: file.stat().st_mtime)
        lines = file.read_text(errors="replace").strip().splitlines()
        where, last = f"its log is {file}", f", which ends with: {lines[-1]}" if lines else ""
    return f"job {number} ended before its worker connected; {where}{last}"


def _watch(settings: Cluster, client: Any, jobs: Any, logs: Path, refused: list[str], ended: threading.Event) -> None:
    """Request jobs again: those that reached their walltime or were preempted, were refused, or ended early."""
    seen, said, again = set[str](), set[str](), set[str]()

    def request() -> None:
        for name, job in list(jobs.workers.items()):
            if job.job_id is None or job.job_id in again:
                del jobs.workers[name]
        jobs.scale(jobs=settings.workers)

    while not ended.wait(PERIOD):
        seen |= _connected(client)
        again = set(_ended(settings.kind, jobs, seen))
        reasons = [f"the queue refuses a job: {refused[-1]}"] if refused else []
        for reason in [*reasons, *(_of_log(number, logs) for number in again)]:
            if reason not in said:
                print(f"notice: {reason}; it is requested again", flush=True)
            said.add(reason)
        jobs.loop.add_callback(request)
