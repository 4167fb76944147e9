"""When a search ends: after its last epoch or, by one of three rules, earlier.

Each rule reads the cell or the tables of the epochs so far, so that a resumed search ends where it would have ended.
"""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from hdarts.params import SearchParams
from hdarts.search.parametrisation import groups_of
from hdarts.search.stages import StagePlan
from hdarts.search.state import State
from hdarts.space import skip_count

Tables = Mapping[str, Sequence[Mapping[str, Any]]]
WINDOW, AT_LEAST = 5, 3  # eigenvalues in a local average; fewer at the start
LAG = 4  # measurements between the two averages that are compared
EARLIEST = 10  # epoch whose cell may be returned


def stage_ends(params: SearchParams, stage: StagePlan, state: State, tables: Tables) -> bool:
    """Whether the epoch just completed is the last one of its stage, or the search ends there."""
    return state.epoch == stage.end or is_last(params, state, state.epoch, tables)


def is_last(params: SearchParams, state: State, epoch: int, tables: Tables) -> bool:
    """Whether `epoch` (1 is the first), just completed, is the last one of the search.

    `tables` have the alpha of this epoch, and perhaps its eigenvalue, which then counts.
    """
    learning = epoch - max(params.frozen_epochs, params.warmup_epochs)  # epochs in which alpha was stepped
    return (
        epoch == params.all_epochs
        or (learning > 0 and 0 < params.stop_when_skips <= skip_count(state.cell()))
        or (learning >= params.stop_when_stable > 0 and is_stable(state, epoch, params.stop_when_stable, tables))
        or before_the_rise(params, tables) is not None
    )


def is_stable(state: State, epoch: int, epochs: int, tables: Tables) -> bool:
    """Whether the last `epochs` left the order of the convolutions on every edge of the normal cell as it was.

    (Liang et al., DARTS+, 2019, criterion 1*.) Convolutions are the operations that are learned.
    """
    convolutions = groups_of(state.space)[1]
    orders = [
        recorded_alpha(state, one, tables)[0][:, convolutions].sort(dim=-1, stable=True).indices
        for one in range(epoch - epochs, epoch + 1)
    ]
    return all(torch.equal(order, orders[-1]) for order in orders)


def before_the_rise(params: SearchParams, tables: Tables) -> int | None:
    """Return the epoch whose cell is kept because the eigenvalue grew, or None if that does not end the search.

    With `decay_growth` the search goes back to that epoch instead (hdarts.search.rollback).
    """
    return None if params.decay_growth else rise(params, tables)


def rise(params: SearchParams, tables: Tables) -> int | None:
    """Return the epoch before the dominant eigenvalue grew too fast, or None if it did not.

    (Zela et al., RobustDARTS, ICLR 2020, as in their code.) The local average of 5 measurements is compared with that
    of 4 measurements before; where it is `stop_when_eigenvalue_grows` times as large, the cell is that of the middle of
    the earlier window, from epoch 10 on.
    """
    if not params.stop_when_eigenvalue_grows:
        return None
    measured = [row for row in tables["metrics"] if row["epoch"] % params.eigenvalue_epochs == 0]
    values = [row["eigenvalue"] for row in measured]
    averages = [fmean(values[max(0, n - WINDOW) : n]) for n in range(AT_LEAST, len(values) + 1)]
    if len(averages) <= LAG or not averages[-1] / averages[-1 - LAG] > params.stop_when_eigenvalue_grows:
        return None
    epoch = measured[-1 - LAG - WINDOW // 2]["epoch"]
    return epoch if epoch >= EARLIEST else None


def recorded_alpha(state: State, epoch: int, tables: Tables) -> Tensor:
    """Return alpha after an epoch, in float64, from the rows of alpha.csv."""
    rows = [[row[name] for name in state.relaxation.columns] for row in tables["alpha"] if row["epoch"] == epoch]
    return torch.tensor(rows, dtype=torch.float64).view(state.relaxation.alpha_shape)
