"""The GPUs of this host, and which run uses which: by default each has one run at a time."""

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from threading import Condition
from typing import Any

from hdarts.errors import ParameterError
from hdarts.runs.run import read_result
from hdarts.workbook.study import PlannedRun

Queue = deque[tuple[Future[Any], Callable[..., Any], PlannedRun]]


def gpu_count(runs: Sequence[PlannedRun]) -> int:
    """Return the number of GPUs here if a run may use one, else 0; CUDA starts in the processes of the runs only.

    Raises ParameterError for a run that is not done and names a device that is not here.
    """
    devices = {run.name: device_of(run) for run in runs if read_result(run.folder) is None}
    if set(devices.values()) <= {"cpu"}:
        return 0
    import torch

    count = torch.cuda.device_count()  # asks the driver, and makes no context
    for name, device in devices.items():
        if device.startswith("cuda") and int(device.partition(":")[2] or 0) >= count:
            raise ParameterError(f"run {name}: parameter `device` = {device!r}: PyTorch finds {count} GPUs here")
        if device == "mps" and not torch.backends.mps.is_available():
            raise ParameterError(f"run {name}: parameter `device` = 'mps': PyTorch finds no Apple GPU (MPS) here")
    return count


def device_of(run: PlannedRun) -> str:
    """Return the parameter `device` of a run; notebooks without it use the CPU."""
    return getattr(run.params, "device", "cpu")


class Gpus:
    """GPUs by number; each serves at most `each` runs at a time, and the one with the fewest is next."""

    def __init__(self, count: int, each: int = 1):
        self.users, self.each, self.changed = dict.fromkeys(range(count), 0), each, Condition()

    @contextmanager
    def lent(self, run: PlannedRun) -> Iterator[dict[str, str]]:
        """Wait for a GPU if the run may use one; yield the variables by which its process sees no other."""
        device = device_of(run)
        if device == "cpu" or not self.users:
            yield {}
            return
        named = device.partition(":")[2]
        possible = [int(named)] if named else list(self.users)
        with self.changed:
            self.changed.wait_for(lambda: min(self.users[number] for number in possible) < self.each)
            number = min(possible, key=lambda number: self.users[number])
            self.users[number] += 1
        try:
            yield {} if named else {"CUDA_VISIBLE_DEVICES": _visible(number)}
        finally:
            with self.changed:
                self.users[number] -= 1
                self.changed.notify_all()


def _visible(number: int) -> str:
    """Return the name of a GPU for CUDA_VISIBLE_DEVICES, which may already select some."""
    selected = os.environ.get("CUDA_VISIBLE_DEVICES")
    return selected.split(",")[number] if selected else str(number)


class Slots(Executor):
    """Threads for runs on the CPU, and others for those that may use a GPU: neither wait for the other."""

    def __init__(self, cpu: int, gpu: int):
        self.cpu = Threads(cpu)
        self.gpu = Threads(gpu) if gpu else self.cpu

    def submit(self, work: Callable[..., Any], run: PlannedRun, /) -> Future[Any]:  # type: ignore[override]
        return (self.cpu if device_of(run) == "cpu" else self.gpu).submit(work, run)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        for threads in (self.cpu, self.gpu):
            threads.shutdown(wait, cancel_futures=cancel_futures)


class Threads(Executor):
    """Threads that take a run with inputs, which are done by then, before one without; else in the order submitted.

    A study that is stopped has then finished what it began: comparisons of its first searches, for example, and not
    the searches alone.
    """

    def __init__(self, count: int):
        self.pool = ThreadPoolExecutor(count)
        self.waiting: tuple[Queue, Queue] = deque(), deque()  # with inputs, without

    def submit(self, work: Callable[..., Any], run: PlannedRun, /) -> Future[Any]:  # type: ignore[override]
        future: Future[Any] = Future()
        self.waiting[0 if run.needs else 1].append((future, work, run))
        self.pool.submit(self._next)
        return future

    def _next(self) -> None:
        """Execute one waiting run; there are as many calls as runs were submitted, so there is one for each."""
        try:
            future, work, run = self.waiting[0].popleft()
        except IndexError:
            future, work, run = self.waiting[1].popleft()
        if not future.set_running_or_notify_cancel():
            return
        try:
            future.set_result(work(run))
        except BaseException as error:
            future.set_exception(error)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self.pool.shutdown(wait, cancel_futures=cancel_futures)
