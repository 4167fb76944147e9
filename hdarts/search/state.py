"""The state of a search and its checkpoints."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from hdarts.hypergradient import sampled_columns
from hdarts.hypernetwork import ByKind
from hdarts.kernels.bindings import kernels_used
from hdarts.params import SearchParams, identity
from hdarts.params.schedule import value_at
from hdarts.runs import checkpoint
from hdarts.runs.checkpoint import CheckpointClock, refuse_unless_finite
from hdarts.runs.device import widest_float
from hdarts.runs.memory import peak_memory
from hdarts.runs.processes import SINGLE, Processes
from hdarts.runs.randomness import generator
from hdarts.runs.run import Run
from hdarts.search.alpha_step import alpha_optimiser
from hdarts.search.custom import NAMED, Parts
from hdarts.search.relaxation import Relaxation
from hdarts.search.selection import Selection, selection_of
from hdarts.search.setup import make_weights
from hdarts.search.stages import StagePlan, stages_of
from hdarts.search.weights import Batch, LearnedWeights, Step, Weights
from hdarts.space import Genotype, SearchSpace, strongest
from hdarts.supernet import Supernet

SUMS = ("loss", "correct", "images")  # summed over the images of the epoch so far


@dataclass
class State:
    """The state of a search between two steps: what its checkpoints contain."""

    alpha: Tensor
    optimiser: torch.optim.Optimizer  # of alpha
    weights: Weights
    relaxation: Relaxation
    selection: Selection = strongest
    epoch: int = 0
    step: int = 0
    seconds: float = 0.0  # that the completed steps of the epoch took
    sums: Tensor = field(default_factory=lambda: torch.zeros(len(SUMS), dtype=torch.float64))
    rate: Tensor = field(default_factory=lambda: torch.zeros((), dtype=torch.float64))  # of the weights' current step
    outer_weight: Tensor = field(default_factory=lambda: torch.zeros((), dtype=torch.float64))  # of the outer term
    perturbation: Tensor = field(default_factory=lambda: torch.zeros((), dtype=torch.float64))  # of the mixture weights
    direction: Tensor | None = None  # of that perturbation in the current step, uniform in [-1, 1]
    stage: int = 0
    rollbacks: int = 0  # to before a rise of the eigenvalue, with more weight decay
    processes: Processes = SINGLE
    parts: Parts = NAMED
    broken: Tensor = field(default_factory=lambda: torch.tensor(-1))  # first step of the epoch that was not finite

    @classmethod
    def fresh(
        cls,
        params: SearchParams,
        model: Supernet,
        hypernetwork: ByKind | None,
        device: torch.device,
        relaxation: Relaxation | None = None,
        stage: StagePlan | None = None,
        parts: Parts = NAMED,
    ) -> "State":
        """Return the state before the first step of a stage: alpha near 0, weights initialised as layers are.

        (Thesis 4.8.1.) By default the relaxation is softmax and the stage the first.
        """
        relaxation, stage = relaxation or Relaxation(model.space), stage or stages_of(params)[0]
        purpose = (stage.number,) if stage.number else ()
        rows = math.prod(relaxation.alpha_shape[1:])
        weights = make_weights(params, model, hypernetwork, device, n_alpha=rows, purpose=purpose)
        noise = torch.randn(relaxation.alpha_shape, generator=generator(params.search_seed, "alpha", *purpose))
        alpha = relaxation.start(params.alpha_scale * noise.to(next(iter(weights.tensors().values()))))
        optimiser = parts.alpha_step(alpha) if parts.alpha_step else alpha_optimiser(params, alpha, relaxation)
        selection = parts.selection or selection_of(params)
        state = cls(alpha, optimiser, weights, relaxation, selection, stage.start, stage=stage.number, parts=parts)
        for name in ("sums", "rate", "broken", "outer_weight", "perturbation"):
            value: Tensor = getattr(state, name)
            setattr(state, name, value.to(device, widest_float(device) if value.is_floating_point() else value.dtype))
        if params.neighbourhood != "none" or parts.neighbourhood:
            state.direction = torch.zeros(model.space.alpha_shape).to(alpha)
        return state

    def continue_from(self, before: "State", widen: Callable[[Tensor], Tensor]) -> None:
        """Take over alpha, its optimiser and the weights from the stage before, which `widen` maps to this one."""
        weights = {name: widen(tensor) for name, tensor in before.weights.tensors().items()}
        self.restore(before.saved() | {"epoch": self.epoch, "stage": self.stage, "weights": weights})

    def start_epoch(self, params: SearchParams, stage: StagePlan) -> None:
        """Set the numbers that change by epoch: temperature, weight of the outer term, size of the perturbation."""
        self.relaxation.start_epoch(params, stage, self.epoch)
        at = stage.progress(self.epoch)
        self.outer_weight.fill_(value_at(params.outer_weight, *at))
        self.perturbation.fill_(value_at(params.perturbation, *at))

    def start_step(self, params: SearchParams, rate: float) -> None:
        """Set the numbers that change by step: the learning rate of the weights, and random draws."""
        self.rate.fill_(rate)
        if self.direction is not None:
            source = generator(params.search_seed, "neighbourhood", self.epoch, self.step)
            self.direction.copy_(2 * torch.rand(self.direction.shape, generator=source) - 1)
        if params.method == "nystrom" and isinstance(self.weights, LearnedWeights) and self.weights.columns is not None:
            n_w, at = self.weights.w.numel(), (self.epoch, self.step)
            self.weights.columns.copy_(sampled_columns(n_w, params.rank, params.search_seed, *at))

    def with_draw(self, params: SearchParams, batch: Batch, level: str) -> Batch:
        """Return a batch with the random draw of the mixture for this step, if the parametrisation needs one."""
        draw = self.relaxation.draw(self.alpha, params.search_seed, "mixture", level, self.epoch, self.step)
        return batch if draw is None else (*batch, draw)

    def with_draws(self, params: SearchParams, batch: Batch, more: Sequence[Batch]) -> Batch | list[Batch]:
        """Return the inner batch of a hypergradient with its draw or, if there are `more`, the list of all."""
        first = self.with_draw(params, batch, "inner")
        return [first, *(self.with_draw(params, one, f"term {n}") for n, one in enumerate(more, 1))] if more else first

    @property
    def space(self) -> SearchSpace:
        return self.relaxation.space

    def mean_weights(self) -> Tensor:
        """Return the mean mixture weights, by which operations are pruned."""
        return self.relaxation.mean(self.alpha.to(widest_float(self.alpha.device)))

    def cell(self) -> Genotype:
        """Return the cell derived from alpha."""
        return self.selection(self.relaxation.strength(self.alpha.to(widest_float(self.alpha.device))), self.space)

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
            raise FloatingPointError(
                f"epoch {self.epoch + 1}, step {step}: loss, gradient or alpha is not finite; the last checkpoint is "
                "earlier and finite"
            )

    def start_next_epoch(self) -> None:
        self.epoch, self.step, self.seconds = self.epoch + 1, 0, 0.0
        self.sums.zero_()

    @property
    def position(self) -> str:
        """The epoch, from 1, and the number of steps taken in it, for messages."""
        return f"epoch {self.epoch + 1}, step {self.step}"

    def tensors(self) -> dict[str, Tensor]:
        return {"alpha": self.alpha, **self.weights.tensors()}

    def saved(self) -> dict[str, Any]:
        plain = {"epoch": self.epoch, "step": self.step, "seconds": self.seconds}
        plain |= {"sums": dict(zip(SUMS, self.sums.tolist(), strict=True))}
        if self.stage or self.relaxation.kept is not None:
            plain |= {"stage": self.stage, "kept": self.relaxation.kept}
        if self.rollbacks:
            plain["rollbacks"] = self.rollbacks
        return {**plain, "alpha": self.alpha, "adam": self.optimiser.state_dict(), "weights": self.weights.tensors()}

    def restore(self, saved: dict[str, Any] | None) -> None:
        """Copy a saved state into this one; None changes nothing."""
        if saved is None:
            return
        checkpoint.require_shapes(self.tensors(), {"alpha": saved["alpha"], **saved["weights"]})
        self.epoch, self.step = saved["epoch"], saved["step"]
        self.rollbacks = saved.get("rollbacks", 0)
        self.seconds = saved.get("seconds", math.nan if self.step else 0.0)  # earlier versions did not save it
        self.sums.copy_(torch.tensor([saved["sums"][name] for name in SUMS], dtype=self.sums.dtype))
        self.alpha.copy_(saved["alpha"])
        # depends on this device, not on that of the checkpoint, and so does where the optimiser counts its steps
        if "capturable" in (group := self.optimiser.param_groups[0]):
            saved["adam"]["param_groups"][0]["capturable"] = group["capturable"]
        self.optimiser.load_state_dict(saved["adam"])
        for name, tensor in self.weights.tensors().items():
            tensor.copy_(saved["weights"][name])


def save(run: Run, params: SearchParams, state: State, clock: CheckpointClock, *keep_as: str) -> None:
    """Write the checkpoint of a finite state, after its tables, so that a resumed search has their rows."""
    state.check()
    refuse_unless_finite(state.tensors(), state.position, run.folder)
    run.add_provenance(kernels=kernels_used(), peak_memory_mib=peak_memory(str(state.alpha.device)))
    if state.processes.is_main:
        checkpoint.save(run.folder, state.saved(), identity(params), *keep_as)
    if clock.requested:  # no process exits before the main one has saved
        state.processes.wait()
    clock.saved()
