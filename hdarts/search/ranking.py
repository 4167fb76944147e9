"""Candidate cells ranked by their validation accuracy with the weights of one search.

The weights are shared (each step trains one random cell: Li and Talwalkar, UAI 2019), or a global hypernetwork
generates them for each cell, w = h(one-hot) (thesis section 5.6.2; Brock et al., SMASH, ICLR 2018).
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from hdarts.params import SearchParams
from hdarts.runs.randomness import generator
from hdarts.space import Genotype, SearchSpace, discretise, one_hot_alpha

Row = dict[str, Any]


def random_cell(space: SearchSpace, seed: int, *purpose: str | int) -> Genotype:
    """Return a cell that depends on seed and purpose only: standard normal alpha, discretised."""
    return discretise(torch.randn(space.alpha_shape, generator=generator(seed, *purpose)), space)


def rank(
    params: SearchParams, space: SearchSpace, validate: Callable[[Tensor], tuple[float, float]]
) -> list[tuple[Row, Genotype]]:
    """Return `candidates` random cells, drawn with replacement, best first, each with its row of ranking.csv.

    `validate(alpha)` returns loss and accuracy (per cent) of the supernet at the alpha whose softmax is one-hot at a
    cell. The order is by highest accuracy, then lowest loss.
    """
    rows = []
    for number in range(params.candidates):
        cell = random_cell(space, params.search_seed, "candidate", number)
        loss, accuracy = validate(one_hot_alpha(cell, space))
        row = {"candidate": number, "validation_accuracy": accuracy, "validation_loss": loss}
        rows.append((row | {"cell": cell.to_json() if cell.normal else cell.to_string()}, cell))
    return sorted(rows, key=lambda pair: (-pair[0]["validation_accuracy"], pair[0]["validation_loss"]))
