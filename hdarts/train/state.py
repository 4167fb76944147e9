"""The state of a training, and its checkpoints."""

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from hdarts.data import Batches, Images
from hdarts.kernels.bindings import kernels_used
from hdarts.params import EvaluateParams, identity
from hdarts.runs import checkpoint
from hdarts.runs.checkpoint import CheckpointClock, last_checkpoint, refuse_unless_finite
from hdarts.runs.memory import peak_memory
from hdarts.runs.processes import Processes
from hdarts.runs.run import Run
from hdarts.runs.tensorboard import Write


@dataclass
class Training:
    """The parts of a training and its progress."""

    params: EvaluateParams
    run: Run
    network: nn.Module
    parallel: nn.Module  # `network`, as several processes train it
    optimiser: torch.optim.Optimizer
    batches: Batches
    test_images: Images
    clock: CheckpointClock
    processes: Processes
    events: Write
    sums: Tensor  # `tally` of the completed steps of the current epoch
    classes: tuple[str, ...] = ()
    class_weights: Tensor | None = None  # in the loss; None: all 1
    epoch: int = 0  # completed epochs
    step: int = 0  # completed steps of the current epoch
    seconds: float = 0.0  # that they took
    rows: list[dict[str, Any]] = field(default_factory=list)  # one per completed epoch

    @property
    def position(self) -> str:
        """The current epoch and step, for messages."""
        return f"epoch {self.epoch + 1}, step {self.step}"


def save(training: Training, *keep_as: str) -> None:
    """Write a checkpoint of all that later steps depend on; raise `FloatingPointError` where it is not finite."""
    network = training.network.state_dict()
    refuse_unless_finite(network, training.position, training.run.folder)
    state = {
        "network": network,
        "optimiser": training.optimiser.state_dict(),
        "epoch": training.epoch,
        "step": training.step,
        "seconds": training.seconds,
        "sums": training.sums,
        "rows": training.rows,
    }
    if training.processes.is_main:
        training.run.add_provenance(kernels=kernels_used(), peak_memory_mib=peak_memory(str(training.sums.device)))
        checkpoint.save(training.run.folder, state, identity(training.params), *keep_as)
    if training.clock.requested:  # no process exits before the main one has saved
        training.processes.wait()
    training.clock.saved()


def resume(training: Training) -> None:
    """Continue from the newest checkpoint, if there is one; rows of later epochs are dropped."""
    with training.processes.main_first():
        state = checkpoint.load(training.run.folder, identity(training.params))
    if state is None:
        return
    checkpoint.require_shapes(training.network.state_dict(), state["network"])
    training.network.load_state_dict(state["network"])
    training.optimiser.load_state_dict(state["optimiser"])
    training.epoch, training.rows = state["epoch"], state["rows"]
    training.step = min(state["step"], len(training.batches))  # with more processes a short last batch may be left out
    training.seconds = state.get("seconds", math.nan if training.step else 0.0)  # earlier versions did not save it
    training.sums.copy_(state["sums"])
    if training.rows:
        training.run.write_table("metrics", training.rows)
        training.events(training.rows)


def stop_unless_finite(training: Training, **values: float) -> None:
    """Raise `FloatingPointError` naming epoch, step and last checkpoint when a value is NaN or infinite."""
    if not all(map(math.isfinite, values.values())):
        listed = ", ".join(f"{name} {value}" for name, value in values.items())
        last = last_checkpoint(training.run.folder)
        raise FloatingPointError(f"{training.position}: {listed} is not finite; {last}")
