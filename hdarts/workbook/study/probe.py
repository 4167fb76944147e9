"""The parts of a step measured on noise, in a process of its own: their seconds, and the most memory that they held.

A process of its own, because what one has held at most is never less again, and because it can be ended. It is forked
from a server that has imported PyTorch already and computed nothing. The batches grow up to that of the run; where the
time does not suffice for it, what the last two took is carried on in a straight line.
"""

import contextlib
import io
import multiprocessing
import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import psutil
import torch

from hdarts.data import Batches, DatasetInfo, Images, Splits
from hdarts.params import EvaluateParams, SearchParams
from hdarts.runs.checkpoint import CheckpointClock
from hdarts.runs.device import use_machine
from hdarts.runs.memory import peak_memory
from hdarts.runs.run import Run
from hdarts.search import batches, make_supernet, method_hypergradient, part_of
from hdarts.search.loop import phases, training_alpha
from hdarts.search.state import State
from hdarts.search.validation import accuracy
from hdarts.search.weights import Classification
from hdarts.space import Genotype
from hdarts.train import prepare, test_network, train_epoch

REPEATS = 3  # of the whole batch; on a GPU so many more, for graphs are captured at the fourth call
SHARE = 0.8  # of the memory that is free: a step that holds more is ended

Parts = dict[str, Callable[[Splits], object]]


class Probe(NamedTuple):
    """What is measured: a run, the outline of its images, the cell of an evaluation, and CPU threads."""

    params: SearchParams | EvaluateParams
    images: DatasetInfo
    cell: Genotype
    threads: int


@dataclass(frozen=True)
class StepCost:
    """What a step takes: `seconds` of each part, and MiB of memory.

    The parts are `find` (the hypergradient, and alpha's step along it), `learn` (a step of the weights) and `look` (a
    batch of validation or test images). `batch` is the largest that was measured.
    """

    seconds: dict[str, float]
    memory: float
    batch: int

    @classmethod
    def of(cls, rows: pd.DataFrame, batch: int) -> "StepCost":
        """Make it from rows of `batch`, `memory` and seconds a part, medians taken and the last two carried on."""
        known = rows.groupby("batch").median()
        at, last = known.iloc[-1], int(known.index[-1])
        if last < batch:
            before, fewer = (known.iloc[-2], int(known.index[-2])) if len(known) > 1 else (0 * at, 0)
            at = at + (batch - last) * ((at - before) / (last - fewer)).clip(lower=0)
        return cls(at.drop("memory").to_dict(), float(at["memory"]), last)


def measure_step(probe: Probe, limit: float) -> StepCost | str:
    """Take a few steps of a run, for at most `limit` seconds; return what they took, or why that is not known."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "torch._dynamo"])  # which optimisers import
    receiver, sender = context.Pipe(duplex=False)
    free = psutil.virtual_memory().available / 2**20
    rows, ended = [], ""
    with tempfile.TemporaryDirectory(prefix="hdarts-") as folder:
        process = context.Process(target=_run, args=(probe, Path(folder), sender), daemon=True)
        process.start()  # the first one waits for the server's imports
        sender.close()
        began = time.monotonic()
        try:
            while not ended:
                if receiver.poll(0.05):
                    told = receiver.recv()
                    rows, ended = (rows, told) if isinstance(told, str) else ([*rows, told], "")
                elif time.monotonic() - began > limit:
                    ended = f"a step takes more than {limit:.0f} s"
                elif (held := _held(process.pid)) > SHARE * free:
                    ended = f"a step needs more than {held / 1024:.1f} GiB"
        except EOFError:  # it has come to its end
            ended = "its process was killed"
        finally:
            process.kill()
            process.join()
            receiver.close()
    return StepCost.of(pd.DataFrame(rows), probe.params.batch_size) if rows else ended


def _held(pid: int | None) -> float:
    try:
        return psutil.Process(pid).memory_info().rss / 2**20
    except psutil.Error:
        return 0.0


def _run(probe: Probe, folder: Path, pipe: Connection) -> None:
    """Measure, in the process of its own: send a row a step, or the sentence of an error."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends this process
    os.environ["HDARTS_PROGRESS"] = "log"
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            for row in steps(probe, folder):
                pipe.send(row)
    except Exception as error:
        pipe.send(" ".join(f"{type(error).__name__}: {error}".split())[:200])


def steps(probe: Probe, folder: Path) -> Iterator[dict[str, float]]:
    """Yield `batch`, `memory` (MiB, peak) and the seconds of each part, for batches of growing size."""
    torch.set_num_threads(probe.threads)
    params, device = probe.params, use_machine(probe.params)
    whole = params.batch_size
    sizes = [2, *(2**n for n in range(1, whole.bit_length()) if 2**n < whole), *[whole] * REPEATS]
    if device.type == "cuda":
        sizes = [whole] * (3 + REPEATS)
    data = noise(probe.images, whole, device)
    parts = _search(params, data, device) if isinstance(params, SearchParams) else _training(probe, data, folder)
    for number, size in enumerate(sizes):
        batch = noise(probe.images, size, device)
        row = {name: _seconds(part, batch, device) for name, part in parts.items()}
        if number:  # the first one warms up
            yield {"batch": size, "memory": peak_memory(str(device)), **row}


def _seconds(part: Callable[[Splits], object], data: Splits, device: torch.device) -> float:
    began = time.perf_counter()
    part(data)
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


def noise(images: DatasetInfo, count: int, device: torch.device) -> Splits:
    """Return splits of `count` images of uniform noise, the same in all parts."""
    grey = torch.full((images.shape[0],), 0.5)
    pixels = torch.randint(256, (count, *images.shape), dtype=torch.uint8)
    part = Images(pixels, torch.arange(count) % images.classes, grey, grey / 2).to(device)
    return Splits("noise", tuple(map(str, range(images.classes))), part, part, part, "")


def _search(params: SearchParams, data: Splits, device: torch.device) -> Parts:
    """The phases of a search's step."""
    problem = Classification(make_supernet(params, data), params.precision)
    state = State.fresh(params, problem.supernet, None, device)
    phase = phases(problem, state, partial(method_hypergradient, params), params.learning_rate)

    def one(data: Splits, level: int):
        every = batches(params.model_copy(update={"batch_size": len(data.train)}), data)
        return next(every[level].epoch(0, "probe", 0))

    def take_alpha_step(data: Splits) -> None:
        phase.alpha_step(part_of(phase.hypergradient(one(data, 0), one(data, 1)), params.part))

    def take_weight_step(data: Splits) -> None:
        state.count(phase.weight_step(one(data, 0), *training_alpha(params, state)), len(data.train))

    def look(data: Splits) -> None:
        accuracy(problem, state.weights.value(state.alpha), state.alpha, data.validation, len(data.train))

    return {"find": take_alpha_step, "learn": take_weight_step, "look": look}


def _training(probe: Probe, data: Splits, folder: Path) -> Parts:
    """A step of a training, as an epoch of one batch, and a batch of its test."""
    file = folder / "cell.json"
    file.write_text(probe.cell.to_json())
    params = probe.params.model_copy(update={"genotype": str(file)})
    assert isinstance(params, EvaluateParams)
    training = prepare(params, Run(folder, params), CheckpointClock(params), data, None)

    def take_step(data: Splits) -> None:
        one = Batches(data.train, len(data.train), training.batches.augmentation)
        train_epoch(replace(training, batches=one), params.learning_rate, params.drop_path)

    def look(data: Splits) -> None:
        test_network(training.network, data.train, len(data.train))

    return {"learn": take_step, "look": look}
