"""From architecture parameters to the discrete cells."""

from typing import TYPE_CHECKING, Any

from hdarts.errors import ParameterError
from hdarts.space.genotype import Genotype
from hdarts.space.spaces import DARTS, NASBENCH201, SPACES, SearchSpace

if TYPE_CHECKING:  # who reads, draws or selects cells need not wait for torch
    from torch import Tensor

CERTAIN = 1000.0  # where one operation has it and the others 0, softmax is one-hot to the last bit


def check_alpha(alpha: "Tensor", space: SearchSpace) -> None:
    """Raise `ParameterError` unless `alpha` has the shape of the space and finite values."""
    if tuple(alpha.shape) != space.alpha_shape:
        raise ParameterError(f"alpha of shape {tuple(alpha.shape)} is not of space {space.name}: {space.alpha_shape}")
    if not bool(alpha.isfinite().all()):
        raise ParameterError("alpha holds values that are not finite")


def discretise(alpha: "Tensor", space: SearchSpace = DARTS) -> Genotype:
    """Return the genotype of `alpha`, of the shape `space.alpha_shape`; of equal operations or edges the first wins.

    DARTS (thesis eq. 14 and figure 19 d): the strength of an edge is its largest softmax weight without `none`; each
    node keeps its two strongest edges, each with that operation. NAS-Bench-201: each edge keeps its largest operation.

    >>> import torch
    >>> alpha = torch.zeros(NASBENCH201.alpha_shape)  # (1, 6, 5)
    >>> alpha[0, :, NASBENCH201.operations.index("skip_connect")] = 1.0
    >>> alpha[0, 5, NASBENCH201.operations.index("nor_conv_3x3")] = 2.0  # edge 5 leads from node 2 to node 3
    >>> discretise(alpha, NASBENCH201).to_string()
    '|skip_connect~0|+|skip_connect~0|skip_connect~1|+|skip_connect~0|skip_connect~1|nor_conv_3x3~2|'
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
    return Genotype(**cells, custom=None if space in SPACES.values() else space)


def one_hot_alpha(genotype: Genotype) -> "Tensor":
    """Return the alpha whose softmax is one-hot at the operations of a genotype; edges that it lacks hold `none`."""
    import torch
    import torch.nn.functional as F

    space = genotype.space
    chosen = torch.zeros(space.alpha_shape[:2], dtype=torch.long)  # operation 0 is none
    for k, cell in enumerate(genotype.cells.values()):
        per_node = [node for _, node in space.edges] if space is NASBENCH201 else _two_a_node(space)
        for (operation, source), node in zip(cell, per_node, strict=True):
            chosen[k, space.edges.index((source, node))] = space.operations.index(operation)
    return CERTAIN * F.one_hot(chosen, len(space.operations)).float()


def _two_a_node(space: SearchSpace) -> list[int]:
    return [space.inputs + i // 2 for i in range(2 * space.nodes)]
