"""From architecture parameters to discrete cells, and back."""

import math
from typing import TYPE_CHECKING, Any

from hdarts.errors import ParameterError
from hdarts.space.genotype import Genotype
from hdarts.space.spaces import DARTS, SearchSpace

if TYPE_CHECKING:  # reading, drawing and selecting cells need not wait for torch
    from torch import Tensor

CERTAIN = 1000.0  # softmax of one such value and zeros is one-hot to the last bit


def check_alpha(alpha: "Tensor", space: SearchSpace) -> None:
    """Raise `ParameterError` unless `alpha` has the shape of the space and finite values; -inf: not a candidate."""
    if tuple(alpha.shape) != space.alpha_shape:
        raise ParameterError(f"alpha of shape {tuple(alpha.shape)} is not of space {space.name}: {space.alpha_shape}")
    if not bool((alpha.isfinite() | alpha.isneginf()).all() and alpha.isfinite().any(-1).all()):
        raise ParameterError("alpha has values that are not finite")


def discretise(alpha: "Tensor", space: SearchSpace = DARTS) -> Genotype:
    """Return the genotype of `alpha`, of the shape `space.alpha_shape`, by `space.strongest` for each kind of cell.

    DARTS keeps two edges per node, each with its largest operation without `none`; NAS-Bench-201 the largest operation
    of each edge.

    >>> import torch
    >>> from hdarts.space import NASBENCH201
    >>> alpha = torch.zeros(NASBENCH201.alpha_shape)  # (1, 6, 5)
    >>> alpha[0, :, NASBENCH201.operations.index("skip_connect")] = 1.0
    >>> alpha[0, 5, NASBENCH201.operations.index("nor_conv_3x3")] = 2.0  # edge 5 leads from node 2 to node 3
    >>> discretise(alpha, NASBENCH201).to_string()
    '|skip_connect~0|+|skip_connect~0|skip_connect~1|+|skip_connect~0|skip_connect~1|nor_conv_3x3~2|'
    """
    check_alpha(alpha, space)
    return strongest(mask_alpha(alpha.detach().cpu().double(), space.mask).softmax(-1), space)


def strongest(weights: "Tensor", space: SearchSpace = DARTS) -> Genotype:
    """Return the genotype of mixture weights `(kinds, edges, operations)`, by `space.strongest` for each kind."""
    weights = weights.detach().cpu().double()
    if space.mask is not None:
        weights = weights.masked_fill(~space.mask, -1.0)
    cells: dict[str, Any] = {kind: space.strongest(rows) for kind, rows in zip(space.kinds, weights, strict=True)}
    return Genotype(**cells, custom=space)


def mask_alpha(alpha: "Tensor", mask: "Tensor | None", value: float = -math.inf) -> "Tensor":
    """Return alpha with `value` where `mask` is False: those operations have weight 0 after softmax.

    The alpha of `one_hot_alpha` keeps `none` on the edges that a cell lacks, also where it is no candidate.
    """
    return alpha if mask is None else alpha.masked_fill(~mask.to(alpha.device) & (alpha < CERTAIN / 2), value)


def one_hot_alpha(genotype: Genotype, space: SearchSpace | None = None) -> "Tensor":
    """Return the alpha whose softmax is one-hot at the operations of a genotype; edges that it lacks have `none`.

    `space`: the one that it was found in, if its name is not in the genotype.
    """
    weights = one_hot_weights(genotype, space)
    weights[..., 0] += 1 - weights.sum(-1)  # operation 0 is none
    return CERTAIN * weights


def one_hot_weights(genotype: Genotype, space: SearchSpace | None = None) -> "Tensor":
    """Return the mixture weights of a genotype: 1 for the operation of each of its edges, 0 for all others."""
    import torch

    space = space or genotype.space
    weights = torch.zeros(space.alpha_shape)
    for k, cell in enumerate(genotype.cells.values()):
        for (operation, source), node in zip(cell, space.targets, strict=True):
            weights[k, space.edges.index((source, node)), space.operations.index(operation)] = 1
    return weights
