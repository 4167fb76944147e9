"""Train the network of a genotype from scratch and test it after every epoch (thesis section 4.8.2).

`train` is the whole loop, `train_epoch` its inside. Randomness is a function of (evaluation seed, purpose, epoch,
step), and a checkpoint holds all that a later step depends on: a run that was killed goes on bit for bit where its
last checkpoint stands (CPU, same number of threads).
"""

import math
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hdarts.data import Augmentation, Batches, Images, Splits, in_order
from hdarts.errors import ParameterError
from hdarts.kernels.compiler import compiler
from hdarts.network import count_parameters
from hdarts.params import EvaluateParams, identity
from hdarts.runs import checkpoint
from hdarts.runs.checkpoint import CheckpointClock, last_checkpoint, refuse_unless_finite, tidy
from hdarts.runs.cuda_graph import host_may_read
from hdarts.runs.device import autocast, use_machine
from hdarts.runs.lock import exclusive
from hdarts.runs.memory import naming_a_batch_that_fits, peak_memory
from hdarts.runs.progress import progress
from hdarts.runs.randomness import generator
from hdarts.runs.run import Run
from hdarts.runs.schedule import cosine
from hdarts.runs.tensorboard import Write, event_files, no_events
from hdarts.space import Genotype
from hdarts.train.distributed import SINGLE, Processes, synchronise_batch_norm
from hdarts.train.result import finish as finish_run
from hdarts.train.setup import load_splits, new_network, read_genotype

Row = dict[str, Any]


@dataclass
class Training:
    """What a training works on, and where it stands: whole epochs done, steps done in the next one, rows so far."""

    params: EvaluateParams
    run: Run
    genotype: Genotype
    network: nn.Module
    optimiser: torch.optim.Optimizer
    batches: Batches
    test_images: Images
    clock: CheckpointClock
    processes: Processes
    events: Write
    sums: Tensor  # `tally` of the steps done in this epoch
    epoch: int = 0
    step: int = 0
    rows: list[Row] = field(default_factory=list)


def train(
    params: EvaluateParams,
    run: Run,
    *,
    data: Splits | None = None,
    network: nn.Module | None = None,
    processes: Processes = SINGLE,
    finish: bool = True,
) -> Iterator[Row]:
    """Train a genotype's network on the whole training set; yield one row an epoch, those of earlier starts first.

    A row holds `epoch` (from 1), `train_loss` and `test_loss` (cross entropy of the main classifier, mean over images),
    `train_accuracy` and `test_accuracy` (per cent; training images as augmented, test images plain), `learning_rate`
    and `drop_path`. The loss that is minimised adds `params.auxiliary` times the auxiliary head's cross entropy.

    `data` and `network` (a module called as `EvaluationNetwork` is) replace what the parameters describe. Of several
    `processes` each calls this, and is one part of one training (train.distributed). Writes metrics.csv, timings.csv,
    genotype.json, provenance.json and checkpoints; a run that is done only yields its rows. At the end `finish` writes
    result.json; a notebook that still draws figures passes False and calls `hdarts.train.finish` itself, last. Raises
    `ParameterError` before any work, `FloatingPointError` at the step where loss or gradient is not finite, and
    `Stopped` after a signal asked for an end and the state was saved.
    """
    if run.done:
        yield from run.table("metrics").to_dict(orient="records")
        if processes.is_main:
            tidy(params, run.folder)
        return
    alone = exclusive(run.folder) if processes.is_main else nullcontext()
    events = event_files(run.folder, params.tensorboard and processes.is_main)
    with (
        alone,
        events as write,
        CheckpointClock(params, processes.agree if processes.world > 1 else None).listening() as clock,
    ):
        yield from _train(prepare(params, run, clock, data, network, processes, write))
    if finish and processes.is_main:
        finish_run(params, run)


def _train(training: Training) -> Iterator[Row]:
    params, run = training.params, training.run
    resume(training)
    yield from training.rows

    for epoch in range(training.epoch, params.epochs):
        learning_rate = cosine(params.learning_rate, params.learning_rate_min, epoch, params.epochs)
        drop_path = params.drop_path * epoch / params.epochs

        began, before = time.monotonic(), float(training.sums[2])
        train_epoch(training, learning_rate, drop_path)
        train_loss, train_accuracy, images = means(training.sums)
        speed = (images - before) / (time.monotonic() - began)
        with autocast(training.sums.device, params.precision):
            tested = test_network(training.network, training.test_images, params.batch_size, training.processes)
        test_loss, test_accuracy, _ = means(tested)
        stop_unless_finite(training, train_loss=train_loss, test_loss=test_loss)

        row = {"epoch": epoch + 1, "train_loss": train_loss, "train_accuracy": train_accuracy, "test_loss": test_loss}
        row |= {"test_accuracy": test_accuracy, "learning_rate": learning_rate, "drop_path": drop_path}
        record(training, row, seconds=time.monotonic() - began, images_per_second=speed)
        yield row

    run.add_provenance(peak_memory_mib=peak_memory(str(training.sums.device)))


def train_epoch(training: Training, learning_rate: float, drop_path: float) -> None:
    """Take the steps of an epoch that are not behind yet, and save whenever `checkpoint_minutes` have passed."""
    params, network, optimiser, epoch = training.params, training.network, training.optimiser, training.epoch
    processes = training.processes
    optimiser.param_groups[0]["lr"] = learning_rate
    network.train()
    steps = training.batches.epoch(params.evaluation_seed, "evaluate", epoch, start=training.step)
    left = len(training.batches) - training.step
    for images, labels in progress(steps, total=left, label=f"{params.slug()} epoch {epoch + 1}/{params.epochs}"):
        attempt = partial(differentiate, training, images, labels, drop_path)
        with naming_a_batch_that_fits(params.batch_size, attempt if processes.world == 1 else None):
            loss, logits = attempt()
        processes.combine(network)
        norm = nn.utils.clip_grad_norm_(network.parameters(), params.clip)
        if host_may_read(loss):  # on a GPU the epoch's end tells
            stop_unless_finite(training, loss=loss.item(), gradient_norm=norm.item())

        optimiser.step()
        training.sums += processes.sum(tally(logits, labels))
        training.step += 1
        training.clock.agree()
        if (training.step < len(training.batches) or training.clock.asked) and training.clock.due_in_epoch():
            save(training)


def differentiate(
    training: Training, images: Tensor, labels: Tensor, drop_path: float, first: int | None = None
) -> tuple[Tensor, Tensor]:
    """Go forward and backward on the (`first`) images: return loss and logits, and leave the gradient of the loss.

    Of several processes each takes its part of the batch: of the masks of drop path, and of the loss.
    """
    params, labels = training.params, labels[:first]
    place, whole = training.batches.place(training.step)
    part = {"among": (place, whole)} if training.processes.world > 1 else {}
    dropping = generator(params.evaluation_seed, "drop path", training.epoch, training.step)
    with autocast(images.device, params.precision):
        logits, auxiliary = training.network(images[:first], drop_path, generator=dropping, **part)
    loss = F.cross_entropy(logits, labels)
    if auxiliary is not None:
        loss = loss + params.auxiliary * F.cross_entropy(auxiliary, labels)
    if part:
        loss = loss * (len(labels) / whole)
    training.optimiser.zero_grad()
    loss.backward()
    return loss, logits


@torch.no_grad()
def test_network(network: nn.Module, images: Images, batch_size: int, processes: Processes = SINGLE) -> Tensor:
    """Return the `tally` over all images, with the running statistics of BatchNorm; processes take batches in turn."""
    network.eval()
    tallies = torch.zeros(-(-len(images) // batch_size), 3, dtype=torch.float64, device=images.labels.device)
    for number, (x, y) in enumerate(in_order(images, batch_size)):
        if number % processes.world == processes.rank:
            tallies[number] = tally(network(x)[0], y)
    return processes.sum(tallies).sum(0)


@torch.no_grad()
def tally(logits: Tensor, labels: Tensor) -> Tensor:
    """Return float64 `(3,)`: sum of the cross entropy, number of right answers, number of images."""
    losses = F.cross_entropy(logits, labels, reduction="none").double()
    right = (logits.argmax(1) == labels).double()
    return torch.stack([losses, right, torch.ones_like(losses)]).sum(1)


def means(sums: Tensor) -> tuple[float, float, float]:
    """Return mean cross entropy, accuracy in per cent, and number of images of a `tally`."""
    loss, right, images = sums.tolist()
    return loss / images, 100 * right / images, images


def prepare(
    params: EvaluateParams,
    run: Run,
    clock: CheckpointClock,
    data: Splits | None,
    network: nn.Module | None,
    processes: Processes = SINGLE,
    events: Write = no_events,
) -> Training:
    """Return the training before its first step; what parameters can get wrong is refused before a file is written."""
    processes.check(params.batch_size, params.device)
    device = use_machine(params)
    genotype = read_genotype(params.genotype)
    data = data or load_splits(params)
    if data.test is None:
        raise ParameterError("data has no test part; load it with test=True")
    batches = Batches(
        data.train.to(device),
        params.batch_size,
        Augmentation(params.crop_padding, params.flip, params.cutout),
        # BatchNorm cannot learn from a last batch of one image a process
        drop_last=0 < len(data.train) % params.batch_size < 2 * processes.world,
        share=(processes.rank, processes.world),
    )
    network = network or new_network(params, genotype, data)
    if params.sync_batch_norm and processes.world > 1:
        synchronise_batch_norm(network)
    network = network.to(device)
    optimiser = torch.optim.SGD(
        network.parameters(), params.learning_rate, momentum=params.momentum, weight_decay=params.weight_decay
    )
    describe(run, genotype, data, network, device, processes)
    sums = torch.zeros(3, dtype=torch.float64, device=device)
    test = data.test.to(device)
    return Training(params, run, genotype, network, optimiser, batches, test, clock, processes, events, sums)


def describe(
    run: Run, genotype: Genotype, data: Splits, network: nn.Module, device: torch.device, processes: Processes
) -> None:
    """Write what is trained, on what and where; a run that was started with another genotype is not continued."""
    text = genotype.to_json()
    path = run.folder / "genotype.json"
    if path.exists() and path.read_text(encoding="utf-8") != text:
        raise ParameterError(f"{path}: this run was started with another genotype; name another run")
    run.write_text(path.name, text)
    machine = {"device": str(device), "threads": torch.get_num_threads(), "processes": processes.world}
    run.write_provenance(data=data.summary(), c_compiler=compiler(), **machine, parameters=count_parameters(network))


def record(training: Training, row: Row, **times: float) -> None:
    """End an epoch: write its row and its times, and save where a checkpoint is due.

    The tables are written before the checkpoint: a kill in between repeats an epoch and loses none.
    """
    params, run = training.params, training.run
    training.rows.append(row)
    training.epoch, training.step = row["epoch"], 0
    training.sums.zero_()
    run.write_table("metrics", training.rows)
    training.events(training.rows)
    earlier = [old for old in run.table("timings").to_dict(orient="records") if old.get("epoch") in range(row["epoch"])]
    run.write_table("timings", [*earlier, {"epoch": row["epoch"], **times}])
    training.clock.agree()
    if training.clock.due_after(training.epoch, params.epochs):
        save(training, keep_as=f"epoch-{training.epoch}" if training.epoch in params.keep_epochs else "")


def save(training: Training, keep_as: str = "") -> None:
    """Write a checkpoint of all that later steps depend on, unless a step left something in it that is not finite."""
    network = training.network.state_dict()
    refuse_unless_finite(network, where(training), training.run.folder)
    state = {
        "network": network,
        "optimiser": training.optimiser.state_dict(),
        "epoch": training.epoch,
        "step": training.step,
        "sums": training.sums,
        "rows": training.rows,
    }
    if training.processes.is_main:
        checkpoint.save(training.run.folder, state, identity(training.params), keep_as)
    if training.clock.asked:  # none ends before the first has saved
        training.processes.wait()
    training.clock.saved()


def resume(training: Training) -> None:
    """Put the training where its newest checkpoint stands, if there is one; rows of later epochs are dropped."""
    with training.processes.main_first():
        state = checkpoint.load(training.run.folder, identity(training.params))
    if state is None:
        return
    training.network.load_state_dict(state["network"])
    training.optimiser.load_state_dict(state["optimiser"])
    training.epoch, training.rows = state["epoch"], state["rows"]
    training.step = min(state["step"], len(training.batches))  # more processes may leave out a short last batch
    training.sums.copy_(state["sums"])
    if training.rows:
        training.run.write_table("metrics", training.rows)
        training.events(training.rows)


def stop_unless_finite(training: Training, **values: float) -> None:
    """Raise `FloatingPointError` naming epoch, step and last checkpoint when a value is NaN or infinite."""
    if all(map(math.isfinite, values.values())):
        return
    told = ", ".join(f"{name} {value}" for name, value in values.items())
    raise FloatingPointError(f"{where(training)}: {told} is not finite; {last_checkpoint(training.run.folder)}")


def where(training: Training) -> str:
    """Name the step a training stands at."""
    return f"epoch {training.epoch + 1}, step {training.step}"
