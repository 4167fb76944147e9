"""What the two loops, search and training, share: the machine, the learning rate, and when a checkpoint is due."""

import math
import time
from dataclasses import dataclass, field

import torch

from hdarts.params import Checkpoints, Machine, ParameterError, Precision


def use_machine(params: Machine) -> torch.device:
    """Set the number of CPU threads and return the device to compute on; `auto` is the GPU where there is one."""
    if params.threads:
        torch.set_num_threads(params.threads)
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
    """Tells when to save: every `checkpoint_epochs` epochs, and inside one when `checkpoint_minutes` have passed."""

    params: Checkpoints
    last: float = field(default_factory=time.monotonic)

    def due_in_epoch(self) -> bool:
        """Whether the minutes have passed since the last save."""
        return time.monotonic() - self.last >= 60 * self.params.checkpoint_minutes

    def due_after(self, epoch: int, epochs: int) -> bool:
        """Whether to save at the end of `epoch` (1 is the first)."""
        by_count = epoch % self.params.checkpoint_epochs == 0 or epoch in self.params.keep_epochs
        return by_count or epoch == epochs or self.due_in_epoch()

    def saved(self) -> None:
        """Start the minutes anew."""
        self.last = time.monotonic()
