"""Train the network of a genotype from scratch and test it after every epoch (thesis section 4.8.2).

Randomness is a function of (evaluation seed, purpose, epoch, step), and a checkpoint contains all that later steps
depend on: a run that was killed and resumed gives the same bits (CPU, same number of threads).
"""

import time
from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hdarts.data import Images, Splits, in_order
from hdarts.params import EvaluateParams
from hdarts.params.schedule import cosine
from hdarts.runs.checkpoint import CheckpointClock
from hdarts.runs.cuda_graph import host_may_read
from hdarts.runs.device import at_least_float32, autocast, widest_float
from hdarts.runs.lock import exclusive
from hdarts.runs.memory import explaining_full_memory, naming_a_batch_that_fits
from hdarts.runs.processes import SINGLE, Processes
from hdarts.runs.progress import progress
from hdarts.runs.randomness import generator
from hdarts.runs.run import Run, tidy
from hdarts.runs.tensorboard import event_files
from hdarts.train.classes import Counts, class_loss
from hdarts.train.result import finish as finish_run
from hdarts.train.setup import prepare
from hdarts.train.state import Training, resume, save, stop_unless_finite

Row = dict[str, Any]


def train(
    params: EvaluateParams,
    run: Run,
    *,
    data: Splits | None = None,
    network: nn.Module | None = None,
    processes: Processes = SINGLE,
    finish: bool = True,
) -> Iterator[Row]:
    """Train a genotype's network on the whole training set; yield one row per epoch, those of earlier starts first.

    A row has `epoch` (from 1), `train_loss` and `test_loss` (cross entropy of the main classifier, mean over images),
    `train_accuracy` and `test_accuracy` (per cent; training images as augmented, test images plain), `learning_rate`
    and `drop_path`. The loss that is minimised adds `params.auxiliary` times the auxiliary head's cross entropy, and
    with `class_weights` multiplies each image's by the weight of its class. The last test also writes classes.csv,
    confusion.csv and calibration.csv (train.classes).

    `data` and `network` (a module with the signature of `EvaluationNetwork`) replace those of the parameters. With
    several `processes`, each of them calls this for its share of the training (train.distributed). Writes metrics.csv,
    timings.csv, genotype.json, provenance.json and checkpoints; a finished run only yields its rows. At the end,
    `finish` writes result.json; a notebook that still draws figures passes False and calls `hdarts.train.finish` last.

    Raises `ParameterError` before any work, `FloatingPointError` at the step where loss or gradient is not finite, and
    `Stopped` when a signal requested a stop and the state is saved.
    """
    if run.done:
        yield from run.table("metrics").to_dict(orient="records")
        if processes.is_main:
            tidy(params, run.folder)
        return
    clock = CheckpointClock(params, processes.agree if processes.world > 1 else None)
    with (
        exclusive(run.folder) if processes.is_main else nullcontext(),
        event_files(run.folder, params.tensorboard and processes.is_main) as write,
        clock.listening(),
        explaining_full_memory(),
    ):
        yield from _train(prepare(params, run, clock, data, network, processes, write))
        if finish and processes.is_main:
            finish_run(params, run)


def _train(training: Training) -> Iterator[Row]:
    params = training.params
    resume(training)
    yield from training.rows

    for epoch in range(training.epoch, params.epochs):
        learning_rate = cosine(params.learning_rate, params.learning_rate_min, epoch, params.epochs)
        drop_path = params.drop_path * epoch / params.epochs

        train_loss, train_accuracy, images = train_epoch(training, learning_rate, drop_path)
        trained = time.monotonic()
        with autocast(training.sums.device, params.precision):
            counts = Counts(training.classes) if epoch + 1 == params.epochs else None
            of_test = training.test_images, params.batch_size, training.processes
            test_sums = test_network(training.network, *of_test, counts)
        test_loss, test_accuracy, _ = means(test_sums)
        stop_unless_finite(training, train_loss=train_loss, test_loss=test_loss)
        if counts is not None:
            counts.write(training.run, training.processes)

        row = {"epoch": epoch + 1, "train_loss": train_loss, "train_accuracy": train_accuracy, "test_loss": test_loss}
        row |= {"test_accuracy": test_accuracy, "learning_rate": learning_rate, "drop_path": drop_path}
        times = {"seconds": training.seconds, "measuring_seconds": time.monotonic() - trained}
        record(training, row, **times, images_per_second=images / training.seconds)
        yield row


def train_epoch(training: Training, learning_rate: float, drop_path: float) -> tuple[float, float, float]:
    """Take the remaining steps of an epoch and return its `means`.

    Saves a checkpoint every `checkpoint_minutes` or after a signal.
    """
    params, epoch, clock = training.params, training.epoch, training.clock
    training.optimiser.param_groups[0]["lr"] = learning_rate
    training.parallel.train()
    steps = len(training.batches)
    batches = training.batches.epoch(params.evaluation_seed, "evaluate", epoch, start=training.step)
    label = f"{params.slug()} epoch {epoch + 1}/{params.epochs}"
    began = time.monotonic() - training.seconds
    for images, labels in progress(batches, total=steps - training.step, label=label):
        logits = take_step(training, images, labels, drop_path)
        training.sums += training.processes.sum(tally(logits, labels))
        training.step += 1
        training.seconds = time.monotonic() - began
        clock.agree()
        if (training.step < steps or clock.requested) and clock.due_in_epoch():
            save(training)
    epoch_means = means(training.sums)  # waits for a GPU
    training.seconds = time.monotonic() - began
    return epoch_means


def take_step(training: Training, images: Tensor, labels: Tensor, drop_path: float) -> Tensor:
    """Update the weights on one batch: gradient, joint clipping of its norm, SGD; return the logits."""
    params = training.params
    attempt = partial(differentiate, training, images, labels, drop_path)
    with naming_a_batch_that_fits(params.batch_size, attempt if training.processes.world == 1 else None):
        loss, logits = attempt()
    norm = nn.utils.clip_grad_norm_(training.network.parameters(), params.clip)
    if host_may_read(loss):  # on a GPU the mean of the epoch is checked instead
        stop_unless_finite(training, loss=loss.item(), gradient_norm=norm.item())
    training.optimiser.step()
    return logits


def differentiate(
    training: Training, images: Tensor, labels: Tensor, drop_path: float, first: int | None = None
) -> tuple[Tensor, Tensor]:
    """Compute the gradient on the `first` images (None: all); return loss and logits.

    With several processes the images are a share of the batch, which scales the loss and selects the drop-path masks.
    """
    params, labels, world = training.params, labels[:first], training.processes.world
    offset, batch_size = training.batches.offset(training.step)
    share = {"among": (offset, batch_size)} if world > 1 else {}
    masks = generator(params.evaluation_seed, "drop path", training.epoch, training.step)
    with autocast(images.device, params.precision):
        logits, auxiliary = training.parallel(images[:first], drop_path, generator=masks, **share)
    logits = at_least_float32(logits)
    loss = class_loss(logits, labels, training.class_weights)
    if auxiliary is not None:
        loss = loss + params.auxiliary * class_loss(at_least_float32(auxiliary), labels, training.class_weights)
    if world > 1:
        loss = loss * (world * len(labels) / batch_size)  # gradients are averaged over the processes
    training.optimiser.zero_grad()
    loss.backward()
    return loss, logits


@torch.no_grad()
def test_network(
    network: nn.Module, images: Images, batch_size: int, processes: Processes = SINGLE, counts: Counts | None = None
) -> Tensor:
    """Return the `tally` of a network in evaluation mode over all images; batches are divided among the processes.

    `counts` receives the images of this process.
    """
    network.eval()
    processes.broadcast(network.buffers())
    device = images.labels.device
    tallies = torch.zeros(-(-len(images) // batch_size), 3, dtype=widest_float(device), device=device)
    for number, (x, y) in enumerate(in_order(images, batch_size)):
        if number % processes.world == processes.rank:
            logits = at_least_float32(network(x)[0])
            tallies[number] = tally(logits, y)
            if counts is not None:
                counts.add(logits, y)
    return processes.sum(tallies).sum(0)


@torch.no_grad()
def tally(logits: Tensor, labels: Tensor) -> Tensor:
    """Return `(3,)`, float64 where there is that: sum of cross entropies, number of correct predictions, of images."""
    losses = F.cross_entropy(logits, labels, reduction="none").to(widest_float(labels.device))
    correct = (logits.argmax(1) == labels).to(losses)
    return torch.stack([losses, correct, torch.ones_like(losses)]).sum(1)


def means(sums: Tensor) -> tuple[float, float, float]:
    """Return mean cross entropy, accuracy in per cent, and number of images of a `tally`."""
    loss, correct, images = sums.tolist()
    return loss / images, 100 * correct / images, images


def record(training: Training, row: Row, **times: float) -> None:
    """Complete an epoch: write its row and times, and a checkpoint where one is due.

    The tables are written before the checkpoint: a kill in between repeats an epoch and loses none.
    """
    params, run = training.params, training.run
    training.rows.append(row)
    training.epoch, training.step, training.seconds = row["epoch"], 0, 0.0
    training.sums.zero_()
    run.write_table("metrics", training.rows)
    training.events(training.rows)
    earlier = [old for old in run.table("timings").to_dict(orient="records") if old.get("epoch") in range(row["epoch"])]
    run.write_table("timings", [*earlier, {"epoch": row["epoch"], **times}])
    training.clock.agree()
    if training.clock.due_after(training.epoch, params.epochs):
        save(training, *[f"epoch-{training.epoch}"] * (training.epoch in params.keep_epochs))
