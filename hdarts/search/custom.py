"""User-defined parts of a search, passed as objects in place of those that the parameters name."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from hdarts.search.parametrisation import Parametrisation
from hdarts.search.selection import Selection
from hdarts.search.stages import Pruning


@dataclass(frozen=True)
class Parts:
    """User-defined parts; None: the part that the parameters name. They do not change the name of a run.

    parametrisation: from alpha to mixture weights.
    outer_term: `(alpha, mean mixture weights) -> scalar`, added to the outer loss; pruned operations have alpha -inf.
    alpha_step: `alpha -> optimiser` of that one tensor; its state is part of the checkpoints.
    neighbourhood: `(p, direction, loss) -> q`: the mixture weights at which the weights learn. p are the current ones,
        `direction` is a draw, uniform in [-1, 1] and shaped like p, and `loss` the inner loss of mixture weights.
    prune: `(mean weights, kept, stage, space) -> kept`: the candidates of a stage, from those of the stage before.
    selection: `(weights, space) -> Genotype`: the cell of mixture weights.
    """

    parametrisation: Parametrisation | None = None
    outer_term: Callable[[Tensor, Tensor], Tensor] | None = None
    alpha_step: Callable[[Tensor], torch.optim.Optimizer] | None = None
    neighbourhood: Callable[[Tensor, Tensor, Callable[[Tensor], Tensor]], Tensor] | None = None
    prune: Pruning | None = None
    selection: Selection | None = None


NAMED = Parts()  # all parts are those that the parameters name
