"""From architecture parameters to the discrete cells."""

from typing import Any

import torch
from torch import Tensor

from hdarts.params import ParameterError
from hdarts.space.genotype import Genotype
from hdarts.space.spaces import DARTS, NASBENCH201, SearchSpace


def check_alpha(alpha: Tensor, space: SearchSpace) -> None:
    """Raise `ParameterError` unless `alpha` has the shape of the space and finite values."""
    if tuple(alpha.shape) != space.alpha_shape:
        raise ParameterError(f"alpha of shape {tuple(alpha.shape)} is not of space {space.name}: {space.alpha_shape}")
    if not bool(torch.isfinite(alpha).all()):
        raise ParameterError("alpha holds values that are not finite")


def discretise(alpha: Tensor, space: SearchSpace = DARTS) -> Genotype:
    """Return the genotype of `alpha`, of the shape `space.alpha_shape`; of equal operations or edges the first wins.

    DARTS (report eq. 14 and figure 19 d): the strength of an edge is its largest softmax weight without `none`; each
    node keeps its two strongest edges, each with that operation. NAS-Bench-201: each edge keeps its largest operation.
    """
    check_alpha(alpha, space)
    weights = alpha.detach().cpu().double().softmax(-1)
    if space is NASBENCH201:
        named = zip(weights[0].argmax(-1).tolist(), space.edges, strict=True)
        return Genotype(cell=[(space.operations[operation], source) for operation, (source, _) in named])
    cells: dict[str, Any] = {}
    for kind, rows in zip(space.kinds, weights, strict=True):
        strength, operation = rows[:, 1:].max(-1)  # operation 0 is none
        cells[kind] = []
        for node in range(space.inputs, space.inputs + space.nodes):
            incoming = [edge for edge, (_, target) in enumerate(space.edges) if target == node]
            kept = sorted(incoming, key=lambda edge: -float(strength[edge]))[:2]  # sorted is stable
            cells[kind] += [(space.operations[1 + int(operation[edge])], space.edges[edge][0]) for edge in kept]
    return Genotype(**cells)
