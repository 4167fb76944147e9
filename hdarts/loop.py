"""What the two loops, search and training, share: the machine, the learning rate, and when a checkpoint is due."""

import math
import os
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from hdarts import checkpoint
from hdarts.distributed import ALONE, Processes
from hdarts.faults import Stopped
from hdarts.params import Checkpoints, Machine, ParameterError, Precision
from hdarts.stopping import on_request, orphans_are_asked, tell


def use_machine(params: Machine) -> torch.device:
    """Set the number of CPU threads and return the device to compute on; `auto` is the GPU where there is one.

    `deterministic` lets PyTorch refuse what has no fixed order of sums on a GPU, and cuBLAS keep to one workspace.
    """
    if params.threads:
        torch.set_num_threads(params.threads)
    if params.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA starts
        torch.backends.cudnn.benchmark = False
    if params.deterministic != torch.are_deterministic_algorithms_enabled():  # to set it imports torch's compiler
        torch.use_deterministic_algorithms(params.deterministic)
    if params.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=params.device).device
    except (RuntimeError, AssertionError):
        raise ParameterError(f"parameter `device` = {params.device!r}: cannot be used on this machine") from None


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """Return the context in which a network computes at a precision; float32 is as its tensors are."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")


def cosine(highest: float, lowest: float, epoch: int, epochs: int) -> float:
    """Return the learning rate of `epoch` (0 is the first of `epochs`): half a cosine from `highest` to `lowest`."""
    return lowest + (highest - lowest) * (1 + math.cos(math.pi * epoch / epochs)) / 2


@dataclass
class CheckpointClock:
    """Tells when to save: every `checkpoint_epochs` epochs, after `checkpoint_minutes`, and when asked to stop.

    Of several processes all have to end at the same step: what one has `heard` they are `asked` once they `agree`.
    """

    params: Checkpoints
    processes: Processes = ALONE
    last: float = field(default_factory=time.monotonic)
    asked: signal.Signals | None = None
    heard: signal.Signals | None = None

    @contextmanager
    def listening(self) -> Iterator["CheckpointClock"]:
        """Inside, a signal that asks for an end is kept until the next step, which saves and ends."""
        with on_request(self._ask), orphans_are_asked():
            yield self

    def _ask(self, number: signal.Signals) -> None:
        self.heard = number
        if self.processes.world == 1:
            self.asked = number
        tell(f"{number.name}: saves at the next step and ends; once more ends at once")

    def agree(self) -> None:
        """Let all processes know what any of them has heard; each calls this at the same places of its loop."""
        self.asked = self.processes.agreed(self.heard)

    def due_in_epoch(self) -> bool:
        """Whether the minutes have passed since the last save, or a signal has asked for an end."""
        return self.asked is not None or time.monotonic() - self.last >= 60 * self.params.checkpoint_minutes

    def due_after(self, epoch: int, epochs: int) -> bool:
        """Whether to save at the end of `epoch` (1 is the first)."""
        by_count = epoch % self.params.checkpoint_epochs == 0 or epoch in self.params.keep_epochs
        return by_count or epoch == epochs or self.due_in_epoch()

    def saved(self) -> None:
        """Start the minutes anew; raise `Stopped` where a signal has asked for an end."""
        self.last = time.monotonic()
        if self.asked is not None:
            raise Stopped(f"stopped by {self.asked.name} after saving; the same command goes on from here")


def refuse_unless_finite(tensors: Mapping[str, Tensor], where: str, folder: Path) -> None:
    """Raise `FloatingPointError` for the first tensor that is not finite, before it is saved over what is good.

    A step that is too large shows in the next loss only.
    """
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise FloatingPointError(f"{where}: {name} is not finite after the step; {last_checkpoint(folder)}")


def tidy(params: Checkpoints, folder: Path, processes: Processes = ALONE) -> None:
    """Remove the large checkpoints of a run that is done, unless they are to be kept."""
    if processes.first and not params.keep_checkpoint:
        checkpoint.prune(folder)


def last_checkpoint(folder: Path) -> str:
    """Say which checkpoint a run goes on from; all that is in it is finite."""
    path = folder / checkpoint.NEWEST
    return f"the last checkpoint is {path}" if path.exists() else "no checkpoint had been saved yet"
