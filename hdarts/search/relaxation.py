"""From alpha to the mixture of the supernet: the parametrisation with masks, schedules and the auxiliary skip."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from hdarts.params import SearchParams
from hdarts.params.schedule import ever_positive, value_at
from hdarts.runs.device import widest_float
from hdarts.runs.randomness import generator
from hdarts.search.parametrisation import PARAMETRISATIONS, Parametrisation
from hdarts.search.stages import StagePlan, stage_at
from hdarts.space import SearchSpace, mask_alpha
from hdarts.supernet import Mixture


@dataclass
class Relaxation:
    """How alpha mixes the operations in one stage of a search; its numbers change by epoch, in place.

    `kept` `(kinds, edges, operations)`, bool: the candidates that have not been pruned; None: all.
    """

    space: SearchSpace
    parametrisation: Parametrisation = PARAMETRISATIONS["softmax"]
    kept: Tensor | None = None
    temperature: Tensor = field(default_factory=lambda: torch.ones((), dtype=torch.float64))
    auxiliary: Tensor | None = None  # weight of the auxiliary skip connections
    dropout: float = 0.0  # probability of dropout on skip connections

    @classmethod
    def of(
        cls,
        params: SearchParams,
        space: SearchSpace,
        stage: StagePlan,
        kept: Tensor | None,
        device: torch.device,
        custom: Parametrisation | None = None,
    ) -> "Relaxation":
        """Return the relaxation of a stage; `kept`: the candidates after pruning."""
        temperature, auxiliary = (torch.ones((), dtype=widest_float(device), device=device) for _ in range(2))
        kept = None if kept is None else kept.to(device)
        used = auxiliary if ever_positive(params.auxiliary_skip) else None
        return cls(space, custom or PARAMETRISATIONS[stage.parametrisation], kept, temperature, used)

    @classmethod
    def after(
        cls, params: SearchParams, space: SearchSpace, epoch: int, custom: Parametrisation | None = None
    ) -> "Relaxation":
        """Return the relaxation as it was after an epoch (0: at the start), for alphas that a run has recorded.

        In a recorded alpha the pruned operations are already -inf.
        """
        before = max(0, epoch - 1)
        relaxation = cls.of(params, space, stage := stage_at(params, before), None, torch.device("cpu"), custom)
        relaxation.start_epoch(params, stage, before)
        return relaxation

    def start_epoch(self, params: SearchParams, stage: StagePlan, epoch: int) -> None:
        """Set the numbers of an epoch (0 is the first of the search)."""
        t, total = stage.progress(epoch)
        self.temperature.fill_(value_at(stage.temperature, t, total))
        if self.auxiliary is not None:
            self.auxiliary.fill_(value_at(params.auxiliary_skip, t, total))
        self.dropout = stage.dropout(epoch)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns of alpha: the operations, and what the parametrisation has besides."""
        return (*self.space.operations, *self.parametrisation.more_columns(self.space))

    @property
    def alpha_shape(self) -> tuple[int, int, int]:
        return len(self.space.kinds), len(self.space.edges), len(self.columns)

    @property
    def noisy(self) -> bool:
        """Whether the space has the operation `noise`."""
        return "noise" in self.space.operations

    def start(self, noise: Tensor) -> Tensor:
        """Return alpha at the start: 0, or on the simplex the mean of the candidates, plus `noise`."""
        if self.parametrisation.normalise is None:
            return noise
        kept = self.masked(torch.ones_like(noise))
        return self.normalised((self.normalised(kept) + noise).clamp_min(0) * kept)

    def normalised(self, theta: Tensor) -> Tensor:
        """Return `theta` put on the simplex; only for a parametrisation that has its alpha there."""
        assert self.parametrisation.normalise is not None
        return self.parametrisation.normalise(theta, self.space)

    def masked(self, alpha: Tensor) -> Tensor:
        """Return alpha with -inf for the operations that are pruned (0 on the simplex)."""
        if self.kept is None:
            return alpha
        kept = F.pad(self.kept, (0, alpha.shape[-1] - self.kept.shape[-1]), value=True)
        return mask_alpha(alpha, kept, -torch.inf if self.parametrisation.normalise is None else 0.0)

    def draw(self, alpha: Tensor, seed: int, *purpose: str | int) -> Tensor | None:
        """Return the random draw of one batch, a function of seed and purpose, or None where none is needed."""
        if self.dropout or self.noisy:
            return torch.randint(2**62, (), generator=generator(seed, *purpose))
        drawn = self.parametrisation.draw
        return None if drawn is None else drawn(self.masked(alpha), generator(seed, *purpose))

    def mean(self, alpha: Tensor) -> Tensor:
        """Return the mean mixture weights, by which cells are validated and pruned."""
        mean, at = self.parametrisation.mean, self.masked(alpha)
        if mean is not None:
            return mean(at, self.space, self.temperature)
        return self.parametrisation.weights(at, self.space, self.temperature, None).weights

    def strength(self, alpha: Tensor) -> Tensor:
        """Return the weights by which cells are derived: the mean mixture weights, or those of the parametrisation."""
        strength = self.parametrisation.strength
        return self.mean(alpha) if strength is None else strength(self.masked(alpha), self.space)

    def __call__(self, alpha: Tensor, draw: Tensor | None = None) -> Mixture:
        """Return the mixture for a draw; without one, for the mean."""
        if self.dropout or self.noisy or draw is None:
            mixture = Mixture(self.mean(alpha))
        else:
            mixture = self.parametrisation.weights(self.masked(alpha), self.space, self.temperature, draw)
        drop = dropout(self.dropout, draw) if self.dropout and draw is not None else None
        noise = normal(draw) if self.noisy and draw is not None else None
        auxiliary = None if self.auxiliary is None else self.auxiliary.to(mixture.weights.dtype)
        sparse = mixture.sparse or self.kept is not None
        return mixture._replace(sparse=sparse, auxiliary=auxiliary, drop=drop, noise=noise)


def normal(seed: Tensor) -> Callable[[Tensor], Tensor]:
    """Return a function that draws standard normal values of a map's shape from `seed` and the order of the calls."""
    source = torch.Generator().manual_seed(int(seed) + 1)  # not the values of `dropout`
    return lambda like: torch.empty_like(like, device="cpu").normal_(generator=source).to(like.device)


def dropout(probability: float, seed: Tensor) -> Callable[[Tensor], Tensor]:
    """Return dropout whose masks depend on `seed` and on the order of the calls; the kept values are rescaled."""
    source = torch.Generator().manual_seed(int(seed))

    def drop(x: Tensor) -> Tensor:
        kept = torch.rand(x.shape, generator=source) >= probability
        return x * (kept.to(x) / (1 - probability))

    return drop
