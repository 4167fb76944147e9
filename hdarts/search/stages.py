"""The stages of a search: which epochs they have, and what is pruned between them."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from hdarts.params import SearchParams
from hdarts.params.parts import ParametrisationName, Stage
from hdarts.params.schedule import Schedule
from hdarts.search.parametrisation import groups_of
from hdarts.space import SearchSpace


@dataclass(frozen=True)
class StagePlan:
    """One stage; what `stages` leaves out has the value of the search. Epochs count from the start of the search."""

    number: int
    start: int
    epochs: int
    layers: int
    operations: int  # candidates per edge; 0: all
    partial_channels: int
    prune: str
    restart: bool
    warmup_epochs: int
    parametrisation: ParametrisationName
    temperature: Schedule
    levels: str
    skip_dropout: float
    tuning: bool = False  # selection perturbation decides the operations

    @property
    def end(self) -> int:
        return self.start + self.epochs

    def progress(self, epoch: int) -> tuple[int, int]:
        """Return the epoch in the stage and its length, for schedules; in tuning those of the last epoch before it."""
        return (self.start - 1, self.start) if self.tuning else (epoch - self.start, self.epochs)

    def dropout(self, epoch: int) -> float:
        """Return the probability of dropout on skip connections in an epoch (Chen et al., P-DARTS, as published).

        While alpha is frozen it falls linearly, p0 (T - 1 - t) / T; then it starts again at p0 and falls by exp(-0.2)
        per epoch.
        """
        t = epoch - self.start
        if t < self.warmup_epochs:
            return self.skip_dropout * (self.epochs - 1 - t) / self.epochs
        return self.skip_dropout * math.exp(-0.2 * (t - self.warmup_epochs))


def stages_of(params: SearchParams) -> list[StagePlan]:
    """Return the stages of a search; without `stages` it is one, and selection perturbation adds its tuning."""
    plans: list[StagePlan] = []
    for number, stage in enumerate(params.stages or [Stage(epochs=params.epochs)]):
        plans.append(
            StagePlan(
                number=number,
                start=plans[-1].end if plans else 0,
                epochs=stage.epochs,
                layers=stage.layers or params.layers,
                operations=stage.operations,
                partial_channels=stage.partial_channels or params.partial_channels,
                prune=stage.prune,
                restart=stage.restart,
                warmup_epochs=params.warmup_epochs if stage.warmup_epochs is None else stage.warmup_epochs,
                parametrisation=stage.parametrisation or params.parametrisation,
                temperature=params.temperature if stage.temperature is None else stage.temperature,
                levels=stage.levels or params.levels,
                skip_dropout=stage.skip_dropout,
            )
        )
    return [*plans, _tuning(params, plans[-1])] if params.selection == "perturbation" else plans


def _tuning(params: SearchParams, search: StagePlan) -> StagePlan:
    """Return the stage after the `search` in which selection perturbation decides; blank-PT leaves alpha as it is."""
    epochs = params.all_epochs - params.epochs
    warmup = epochs if params.warmup_epochs >= params.epochs else 0
    return replace(
        search, number=1, start=params.epochs, epochs=epochs, restart=False, warmup_epochs=warmup, tuning=True
    )


def stage_at(params: SearchParams, epoch: int) -> StagePlan:
    """Return the stage of an epoch (0 is the first of the search); after the end, the last one."""
    plans = stages_of(params)
    return next((plan for plan in plans if epoch < plan.end), plans[-1])


Pruning = Callable[[Tensor, Tensor | None, StagePlan, SearchSpace], Tensor | None]


def pruned(weights: Tensor, kept: Tensor | None, stage: StagePlan, space: SearchSpace) -> Tensor | None:
    """Return the candidates of a stage, `(kinds, edges, operations)`, bool, from the mean weights before it.

    `kept` are those of the stage before. On each edge the `operations` largest weights stay; with group-best the
    largest without and the largest with convolutions.
    """
    if not stage.operations:
        return kept
    weights = weights.masked_fill(~kept, -torch.inf) if kept is not None else weights
    if stage.prune == "group-best":
        groups = (
            weights.index_fill(-1, torch.tensor(columns, device=weights.device), -torch.inf)
            for columns in groups_of(space)
        )
        return torch.stack([_largest(group, 1) for group in groups]).any(0)
    return _largest(weights, stage.operations)


def _largest(weights: Tensor, count: int) -> Tensor:
    chosen = weights.sort(dim=-1, descending=True, stable=True).indices[..., :count]
    return torch.zeros_like(weights, dtype=torch.bool).scatter_(-1, chosen, True) & (weights > -torch.inf)
