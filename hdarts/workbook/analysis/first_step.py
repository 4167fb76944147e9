"""The first step of a search, taken by hand with the functions of the search."""

from collections.abc import Mapping

import pandas as pd
import torch
from torch import Tensor

from hdarts.data import Splits
from hdarts.params import SearchParams
from hdarts.search import batches, weight_rate
from hdarts.search.loop import pairs, take_weight_step
from hdarts.search.stages import stages_of
from hdarts.search.start import Given, start_stage
from hdarts.search.state import State
from hdarts.search.steps import Phases, phases, training_alpha
from hdarts.search.weights import Batch
from hdarts.supernet import Supernet


def first_step(
    params: SearchParams, data: Splits, supernet: Supernet, device: torch.device
) -> tuple[State, Phases, Batch | list[Batch], Batch]:
    """Return the state before the first step, the phases of a step, and its first training and validation batch.

    A search of these parameters begins with the same state and batches, unless its first epochs do not step alpha.
    """
    stage = stages_of(params)[0]
    problem, state = start_stage(params, stage, data, Given(device, supernet))
    state.start_epoch(params, stage)
    state.start_step(params, weight_rate(params, 0))
    inner, outer, *more = next(pairs(params, batches(params, data, stage.levels), stage, state, 1))
    drawn = state.with_draw(params, outer, "inner" if stage.levels == "one" else "outer")
    return state, phases(params, problem, state), state.with_draws(params, inner, more), drawn


def step_weights(params: SearchParams, state: State, phase: Phases, batch: Batch | list[Batch]) -> None:
    """Step the weights on the first training batch."""
    images, labels, *_ = batch[0] if isinstance(batch, list) else batch
    take_weight_step(params, state, phase.weight_step, (images, labels), *training_alpha(params, state))


def relative_changes(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> pd.DataFrame:
    """Return how much the weights of each part of each cell changed, in per cent of their norm: a table parts x cells.

    `before` and `after`: named weights (`Supernet.unpack`).
    """
    rows = []
    for name, old in before.items():
        where, *words = name.split(".")
        cell = words[0] if where == "cells" else "outside"
        part = where if where != "cells" else words[2] if "-" in words[1] else words[1].rstrip("01")
        part = f"residual {part}" if part in ("a", "b", "shortcut") else part
        change, norm = (float(x.double().square().sum()) for x in (after[name] - old, old))
        rows.append({"part": part, "cell": cell, "change": change, "norm": norm})
    table = pd.DataFrame(rows).pivot_table(["change", "norm"], "part", "cell", aggfunc="sum", sort=False)
    changes, norms = pd.DataFrame(table["change"]), pd.DataFrame(table["norm"])
    shares = 100 * (changes / norms.where(norms > 0)) ** 0.5
    return shares.reindex(columns=sorted(shares, key=lambda cell: f"{cell:>9}"))
