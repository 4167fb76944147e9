"""Candidate cells ranked by the validation accuracy that they reach with the weights of one trained search.

The weights are shared (each step trained one random cell: Li and Talwalkar, UAI 2019) or made for each cell by a global
hypernetwork, w = h(one-hot) (thesis section 5.6.2; Brock et al., SMASH, ICLR 2018).
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
    """Return a cell of the space that depends on seed and purpose only: alpha standard normal, discretised."""
    return discretise(torch.randn(space.alpha_shape, generator=generator(seed, *purpose)), space)


def rank(
    params: SearchParams, space: SearchSpace, validate: Callable[[Tensor], tuple[float, float]]
) -> list[tuple[Row, Genotype]]:
    """Return `candidates` random cells, drawn with replacement, the best first, with a row of ranking.csv each.

    `validate(alpha)` -> loss, accuracy (per cent) of the supernet at the alpha whose softmax is one-hot at a cell. The
    best has the highest accuracy, of equal ones the lowest loss.
    """
    found = []
    for number in range(params.candidates):
        cell = random_cell(space, params.search_seed, "candidate", number)
        loss, accuracy = validate(one_hot_alpha(cell))
        row = {"candidate": number, "validation_accuracy": accuracy, "validation_loss": loss}
        found.append((row | {"cell": cell.to_json() if cell.normal else cell.to_string()}, cell))
    return sorted(found, key=lambda pair: (-pair[0]["validation_accuracy"], pair[0]["validation_loss"]))
