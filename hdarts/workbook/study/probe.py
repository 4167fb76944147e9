"""Measure a step of a run on noise, in a separate process: the seconds of its phases, and its peak memory.

A separate process can be killed, and peak memory never falls within a process. Like the process of a run it is a fork
of a server that has computed nothing. The batches grow up to that of the run; if time or memory do not suffice for it,
its cost is extrapolated linearly from the last two.
"""

import contextlib
import io
import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
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
from hdarts.runs.limits import memory_limit
from hdarts.runs.memory import peak_memory
from hdarts.runs.run import Run
from hdarts.search import batches, part_of
from hdarts.search.stages import pruned, stages_of
from hdarts.search.start import Given, start_stage
from hdarts.search.steps import Phases as SearchPhases
from hdarts.search.steps import phases, training_alpha
from hdarts.search.validation import accuracy
from hdarts.space import Genotype
from hdarts.train import prepare, test_network, train_epoch
from hdarts.workbook.study.process import contexts

REPEATS = 3  # of the whole batch; more on a GPU, where graphs are captured at the fourth call
MANY = 8  # operations per edge where a stage has all, to compare stages
SHARE = 0.8  # of the free memory: a step that takes more is killed

Phases = dict[str, Callable[[Splits], object]]


class Probe(NamedTuple):
    """What to measure: the parameters of a run, its images, its cell (evaluations), and CPU threads."""

    params: SearchParams | EvaluateParams
    images: DatasetInfo
    cell: Genotype | None
    threads: int


@dataclass(frozen=True)
class StepCost:
    """The cost of a step: seconds per phase, memory in MiB, and the part of it that each image of the batch adds.

    The phases are `alpha_step` (the hypergradient and the step along it), `weight_step` and `accuracy` (a batch of
    validation or test images). `batch` is the largest batch that was measured.
    """

    seconds: dict[str, float]
    memory: float
    batch: int
    memory_per_image: float = 0.0

    @classmethod
    def of(cls, rows: pd.DataFrame, batch: int) -> "StepCost":
        """Return the cost at `batch`, extrapolated from the medians of `rows` at each batch size."""
        known = rows.groupby("batch").median()
        cost, last = known.iloc[-1], int(known.index[-1])
        before, fewer = (known.iloc[-2], int(known.index[-2])) if len(known) > 1 else (0 * cost, 0)
        per_image = ((cost - before) / (last - fewer)).clip(lower=0)
        cost = cost + (batch - last) * per_image
        return cls(cost.drop("memory").to_dict(), float(cost["memory"]), last, float(per_image["memory"]))


def measure_step(probe: Probe, limit: float) -> StepCost | str:
    """Measure steps of a run for at most `limit` seconds; return their cost, or the reason there is none."""
    context = contexts()[0]
    receiver, sender = context.Pipe(duplex=False)
    free = free_memory() / 2**20
    rows, reason = [], ""
    with tempfile.TemporaryDirectory(prefix="hdarts-") as folder:
        process = context.Process(target=_run, args=(probe, Path(folder), sender), daemon=True)
        process.start()  # the first one waits for the server's imports
        sender.close()
        began = time.monotonic()
        try:
            while not reason:
                if receiver.poll(0.05):
                    message = receiver.recv()
                    rows, reason = (rows, message) if isinstance(message, str) else ([*rows, message], "")
                elif time.monotonic() - began > limit:
                    reason = f"a step takes more than {limit:.0f} s"
                elif (resident := _resident_memory(process.pid)) > SHARE * free:
                    reason = f"a step needs more than {resident / 1024:.1f} GiB"
        except EOFError:  # all rows are here, or the process died
            reason = "its process was killed"
        finally:
            process.kill()
            process.join()
            receiver.close()
    return StepCost.of(pd.DataFrame(rows), probe.params.batch_size) if rows else reason


def free_memory() -> float:
    """Return the bytes of memory that are free: of this host, or of what its control group may use."""
    free, limit = psutil.virtual_memory().available, memory_limit()
    return free if limit is None else max(0, min(free, limit[0] - limit[1]))


def _resident_memory(pid: int | None) -> float:
    try:
        return psutil.Process(pid).memory_info().rss / 2**20
    except psutil.Error:
        return 0.0


def _run(probe: Probe, folder: Path, pipe: Connection) -> None:
    """Measure in the separate process: send one row per step, or an error message."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which kills this process
    os.environ["HDARTS_PROGRESS"] = "log"
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            for row in steps(probe, folder):
                pipe.send(row)
    except Exception as error:
        pipe.send(" ".join(f"{type(error).__name__}: {error}".split())[:200])


def steps(probe: Probe, folder: Path) -> Iterator[dict[str, float]]:
    """Yield `batch`, `memory` (MiB, peak) and the seconds of each phase, for batches of growing size."""
    torch.set_num_threads(probe.threads)
    params, device = probe.params, use_machine(probe.params)
    whole = params.batch_size
    repeats = 3 + 2 * REPEATS if device.type == "cuda" else REPEATS
    sizes = [2, *(2**n for n in range(1, whole.bit_length()) if 2**n < whole), *[whole] * repeats]
    data = noise(probe.images, whole, device)
    timed = _search(params, data, device) if isinstance(params, SearchParams) else _training(probe, data, folder)
    for number, size in enumerate(sizes):
        batch = noise(probe.images, size, device)
        row = {name: _seconds(phase, batch, device) for name, phase in timed.items()}
        if number:  # the first one warms up
            yield {"batch": size, "memory": peak_memory(str(device)), **row}


def _seconds(phase: Callable[[Splits], object], data: Splits, device: torch.device) -> float:
    began = time.perf_counter()
    phase(data)
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


def noise(images: DatasetInfo, count: int, device: torch.device) -> Splits:
    """Return splits of `count` images of uniform noise, the same in all parts."""
    grey = torch.full((images.shape[0],), 0.5)
    pixels = torch.randint(256, (count, *images.shape), dtype=torch.uint8)
    part = Images(pixels, torch.arange(count) % images.classes, grey, grey / 2).to(device)
    return Splits("noise", tuple(map(str, range(images.classes))), part, part, part, "")


def _search(params: SearchParams, data: Splits, device: torch.device) -> Phases:
    """Return the phases of a search step."""
    stage = max(stages_of(params), key=lambda stage: stage.layers * (stage.operations or MANY))  # the costliest
    problem, state = start_stage(params, stage, data, Given(device))
    some = torch.rand(state.space.alpha_shape, device=device)  # any candidates: only their number matters
    state.relaxation.kept = pruned(some, state.relaxation.kept, stage, state.space)
    state.start_epoch(params, stage)
    state.start_step(params, params.learning_rate)

    @cache
    def of_size(size: int) -> SearchPhases:  # a CUDA graph takes batches of one size
        return phases(params, problem, state)

    def one(data: Splits, level: int):
        every = batches(params.model_copy(update={"batch_size": len(data.train)}), data)
        return state.with_draw(params, next(every[level].epoch(0, "probe", 0)), "inner")

    def take_alpha_step(data: Splits) -> None:
        phase = of_size(len(data.train))
        phase.alpha_step(part_of(phase.hypergradient(one(data, 0), one(data, 1)), params.part))

    def take_weight_step(data: Splits) -> None:
        size = len(data.train)
        state.count(of_size(size).weight_step(one(data, 0), *training_alpha(params, state)), size)

    def measure_accuracy(data: Splits) -> None:
        accuracy(problem, state.weights.value(state.alpha), state.alpha, data.validation, len(data.train))

    return {"alpha_step": take_alpha_step, "weight_step": take_weight_step, "accuracy": measure_accuracy}


def _training(probe: Probe, data: Splits, folder: Path) -> Phases:
    """Return the phases of an evaluation: a training step (an epoch of one batch) and a test batch."""
    assert probe.cell is not None
    file = folder / "cell.json"
    file.write_text(probe.cell.to_json())
    params = probe.params.model_copy(update={"genotype": str(file)})
    assert isinstance(params, EvaluateParams)
    training = prepare(params, Run(folder, params), CheckpointClock(params), data, None)

    def take_weight_step(data: Splits) -> None:
        one = Batches(data.train, len(data.train), training.batches.augmentation)
        train_epoch(replace(training, batches=one), params.learning_rate, params.drop_path)

    def measure_accuracy(data: Splits) -> None:
        test_network(training.network, data.train, len(data.train))

    return {"weight_step": take_weight_step, "accuracy": measure_accuracy}
