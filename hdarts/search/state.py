"""The state of a search and its checkpoints."""

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from hdarts.hypernetwork import ByKind
from hdarts.kernels.bindings import kernels_used
from hdarts.params import SearchParams, identity
from hdarts.runs import checkpoint
from hdarts.runs.checkpoint import CheckpointClock, refuse_unless_finite
from hdarts.runs.memory import peak_memory
from hdarts.runs.randomness import generator
from hdarts.runs.run import Run
from hdarts.search.setup import make_weights
from hdarts.search.weights import Step, Weights
from hdarts.space import DARTS, SearchSpace
from hdarts.supernet import Supernet

SUMS = ("loss", "correct", "images")  # summed over the images of the epoch so far


@dataclass
class State:
    """The state of a search between two steps: what its checkpoints contain."""

    alpha: Tensor
    adam: torch.optim.Adam
    weights: Weights
    epoch: int = 0
    step: int = 0
    seconds: float = 0.0  # that the completed steps of the epoch took
    sums: Tensor = field(default_factory=lambda: torch.zeros(len(SUMS), dtype=torch.float64))
    rate: Tensor = field(default_factory=lambda: torch.zeros((), dtype=torch.float64))  # of the weights' current step
    space: SearchSpace = DARTS
    broken: Tensor = field(default_factory=lambda: torch.tensor(-1))  # first step of the epoch that was not finite

    @classmethod
    def fresh(cls, params: SearchParams, model: Supernet, hypernetwork: ByKind | None, device: torch.device) -> "State":
        """Return the state before the first step: alpha near 0, weights initialised as layers are (thesis 4.8.1)."""
        weights = make_weights(params, model, hypernetwork, device)
        start = torch.randn(model.space.alpha_shape, generator=generator(params.search_seed, "alpha"))
        alpha = params.alpha_scale * start.to(next(iter(weights.tensors().values())))
        betas = (params.alpha_beta1, params.alpha_beta2)
        adam = torch.optim.Adam(
            [alpha],
            lr=params.alpha_learning_rate,
            betas=betas,
            weight_decay=params.alpha_weight_decay,
            capturable=device.type == "cuda",  # the step may be part of a CUDA graph
        )
        state = cls(alpha, adam, weights, space=model.space)
        state.sums, state.rate, state.broken = (one.to(device) for one in (state.sums, state.rate, state.broken))
        return state

    def steps_done(self, steps: int) -> int:
        """Return the number of steps since the start of the search, with `steps` per epoch."""
        return self.epoch * steps + self.step

    def count(self, step: Step, images: int) -> None:
        """Count one step of the epoch and add its results to the sums, without waiting for the device."""
        self.sums += torch.stack([step.loss * images, step.correct, torch.full_like(step.loss, images)])
        finite = torch.isfinite(step.loss + step.norm) & torch.isfinite(self.alpha).all()
        self.broken.masked_fill_((self.broken < 0) & ~finite, self.step)
        self.step += 1

    def check(self) -> None:
        """Raise FloatingPointError if a step of this epoch was not finite; on a GPU the steps do not check."""
        if (step := int(self.broken)) >= 0:
            where = f"epoch {self.epoch + 1}, step {step}"
            raise FloatingPointError(
                f"{where}: loss, gradient or alpha is not finite; the last checkpoint is earlier and finite"
            )

    def start_next_epoch(self) -> None:
        self.epoch, self.step, self.seconds = self.epoch + 1, 0, 0.0
        self.sums.zero_()

    @property
    def where(self) -> str:
        """The epoch, from 1, and the number of steps taken in it."""
        return f"epoch {self.epoch + 1}, step {self.step}"

    def tensors(self) -> dict[str, Tensor]:
        return {"alpha": self.alpha, **self.weights.tensors()}

    def saved(self) -> dict[str, Any]:
        plain = {"epoch": self.epoch, "step": self.step, "seconds": self.seconds}
        plain |= {"sums": dict(zip(SUMS, self.sums.tolist(), strict=True))}
        return {**plain, "alpha": self.alpha, "adam": self.adam.state_dict(), "weights": self.weights.tensors()}

    def restore(self, saved: dict[str, Any] | None) -> None:
        """Copy a saved state into this one; None changes nothing."""
        if saved is None:
            return
        self.epoch, self.step = saved["epoch"], saved["step"]
        self.seconds = saved.get("seconds", math.nan if self.step else 0.0)  # earlier versions did not save it
        self.sums.copy_(torch.tensor([saved["sums"][name] for name in SUMS], dtype=torch.float64))
        self.alpha.copy_(saved["alpha"])
        # depends on this device, not on that of the checkpoint, and so does where the optimiser counts its steps
        saved["adam"]["param_groups"][0]["capturable"] = self.adam.param_groups[0]["capturable"]
        self.adam.load_state_dict(saved["adam"])
        for name, tensor in self.weights.tensors().items():
            tensor.copy_(saved["weights"][name])


def save(run: Run, params: SearchParams, state: State, clock: CheckpointClock, keep: bool = False) -> None:
    """Write the checkpoint of a finite state, after its tables, so that a resumed search has their rows."""
    state.check()
    refuse_unless_finite(state.tensors(), state.where, run.folder)
    run.add_provenance(kernels=kernels_used(), peak_memory_mib=peak_memory(str(state.alpha.device)))
    checkpoint.save(run.folder, state.saved(), identity(params), f"epoch-{state.epoch}" if keep else "")
    clock.saved()
