"""Parametrisations: from `alpha`, a temperature and a random draw to the mixture weights of all operations.

Each is a pure function `(alpha, space, temperature, draw) -> Mixture` with its mean over draws, by which cells are
validated and derived, and the draw that it needs. `alpha` is `(kinds, edges, columns)`; the columns are the operations
of the space, and for `edge-softmax` one more. Pruned operations have alpha = -inf: their weight and gradient are 0.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from hdarts.space import SearchSpace
from hdarts.supernet import Mixture

SMALLEST = 1e-5  # weight of an operation on the simplex
SMALL = 1e-20  # draws of an exponential distribution are at least this, so that their logarithm is finite

Weights = Callable[[Tensor, SearchSpace, Tensor, Tensor | None], Mixture]
Mean = Callable[[Tensor, SearchSpace, Tensor], Tensor]
Draw = Callable[[Tensor, torch.Generator], Tensor]


def exponential(alpha: Tensor, generator: torch.Generator) -> Tensor:
    """Return E ~ Exp(1) shaped like alpha; -log E is standard Gumbel noise."""
    draw = torch.empty(alpha.shape, dtype=alpha.dtype).exponential_(generator=generator)
    return draw.clamp_min_(SMALL).to(alpha.device, non_blocking=True)


def softmax(alpha: Tensor, space: SearchSpace, temperature: Tensor, draw: Tensor | None = None) -> Mixture:
    """p[e, o] = softmax over o of alpha[e, o] (Liu et al., DARTS, ICLR 2019)."""
    return Mixture(alpha.softmax(-1))


def by_node(x: Tensor, space: SearchSpace) -> tuple[Tensor, ...]:
    """Return the rows of `x` `(kinds, edges, columns)` of the incoming edges of each node."""
    return x.split([sum(target == node for _, target in space.edges) for node in sorted(set(space.targets))], 1)


def _per_node(x: Tensor, space: SearchSpace) -> Tensor:
    """Return the softmax of `x` `(kinds, edges, columns)` over all incoming edges and columns of each node."""
    return torch.cat([rows.flatten(1).softmax(-1).view_as(rows) for rows in by_node(x, space)], 1)


def node_softmax(alpha: Tensor, space: SearchSpace, temperature: Tensor, draw: Tensor | None = None) -> Mixture:
    """One softmax over all pairs of incoming edge and operation of a node (Jiang et al., I-DARTS, EMNLP 2019)."""
    return Mixture(_per_node(alpha, space))


def edge_softmax(alpha: Tensor, space: SearchSpace, temperature: Tensor, draw: Tensor | None = None) -> Mixture:
    """b[e] softmax(alpha)[e, o], with b the softmax of the last column over a node's edges (Xu et al., PC-DARTS)."""
    return Mixture(alpha[..., :-1].softmax(-1) * _per_node(alpha[..., -1:], space))


def group_softmax(alpha: Tensor, space: SearchSpace, temperature: Tensor, draw: Tensor | None = None) -> Mixture:
    """One softmax over convolutions and one over the other operations: a row sums to 2 (Gu et al., DOTS, CVPR 2021)."""
    groups = groups_of(space)
    parts = {column: p for columns in groups for column, p in zip(columns, _softmax_of(alpha, columns), strict=True)}
    return Mixture(torch.stack([parts[column] for column in range(len(space.operations))], -1))


def groups_of(space: SearchSpace) -> tuple[list[int], list[int]]:
    """Return the columns of the operations without and with convolutions."""
    columns = range(len(space.operations))
    return tuple([c for c in columns if ("conv" in space.operations[c]) == has] for has in (False, True))  # type: ignore[return-value]


def _softmax_of(alpha: Tensor, columns: list[int]) -> tuple[Tensor, ...]:
    return torch.stack([alpha[..., column] for column in columns], -1).softmax(-1).unbind(-1)


BALANCE = 1e-3  # temperature of the operations of an edge, times that of the pairs


def pair_columns(space: SearchSpace) -> tuple[str, ...]:
    """Return the names of the columns of the pairs: `pair_c` of edge s belongs to the pair of inputs (c, s), c < s."""
    return tuple(f"pair_{c}" for c in range(space.inputs + space.nodes - 2))


def edge_pairs(alpha: Tensor, space: SearchSpace, temperature: Tensor, draw: Tensor | None = None) -> Mixture:
    """sum of q over the pairs that contain edge e, times softmax(alpha[e] / (0.001 t))[o] (Gu et al., DOTS, CVPR 2021).

    q = softmax(beta / t) over all pairs of a node's incoming edges, so that the weights of its edges sum to 2. The last
    columns of alpha are beta, see `pair_columns`. A node with one incoming edge gives it weight 1.
    """
    n, t = len(space.operations), temperature.to(alpha.dtype)
    weights = []
    for rows in by_node(alpha[..., n:], space):
        pairs = [(c, s) for s in range(rows.shape[1]) for c in range(s)]
        if pairs:
            q = (torch.stack([rows[:, s, c] for c, s in pairs], -1) / t).softmax(-1)
            holds = [[float(s in pair) for pair in pairs] for s in range(rows.shape[1])]
            weights.append(torch.stack([sum_of(q, row) for row in holds], 1))
        else:
            weights.append(rows.new_ones(len(rows), 1))
    return Mixture(torch.cat(weights, 1).unsqueeze(-1) * (alpha[..., :n] / (BALANCE * t)).softmax(-1))


def pairs_strength(alpha: Tensor, space: SearchSpace) -> Tensor:
    """softmax(alpha[e])[o] without `none` on the edges of the best pair of each node; 0 on its other edges (DOTS).

    The best pair is independent of the operations: an edge whose weight is on `none` keeps its best other operation.
    """
    n, found = len(space.operations), []
    none = torch.tensor([name == "none" for name in space.operations], device=alpha.device)
    operations = by_node(
        alpha[..., :n].masked_fill(none, -torch.inf).softmax(-1).nan_to_num(), space
    )  # of `none` alone: 0
    for rows, betas in zip(operations, by_node(alpha[..., n:], space), strict=True):
        pairs = [(c, s) for s in range(rows.shape[1]) for c in range(s)]
        best = torch.stack([betas[:, s, c] for c, s in pairs], -1).argmax(-1).tolist() if pairs else []
        held = [[float(s in pairs[one]) for s in range(rows.shape[1])] for one in best]
        found.append(rows * rows.new_tensor(held).unsqueeze(-1) if held else rows)
    return torch.cat(found, 1)


def sum_of(q: Tensor, holds: list[float]) -> Tensor:
    """Return the sum of the columns of `q` `(kinds, pairs)` where `holds` is 1."""
    return torch.stack([q[:, i] for i, one in enumerate(holds) if one], -1).sum(-1)


def gumbel(alpha: Tensor, space: SearchSpace, temperature: Tensor, draw: Tensor | None = None) -> Mixture:
    """softmax((alpha + G) / temperature), G standard Gumbel: a relaxed one-hot sample (Xie et al., SNAS, ICLR 2019)."""
    assert draw is not None
    return Mixture(((alpha - draw.log()) / temperature.to(alpha.dtype)).softmax(-1))


def _hard(alpha: Tensor, space: SearchSpace, temperature: Tensor, draw: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return the straight-through sample h and its one-hot value: h = one-hot, dh = d softmax((alpha + G) / t)."""
    soft = gumbel(alpha, space, temperature, draw).weights
    one_hot = torch.zeros_like(soft).scatter_(-1, soft.detach().argmax(-1, keepdim=True), 1.0)
    return one_hot - soft.detach() + soft, one_hot


def gumbel_hard(alpha: Tensor, space: SearchSpace, temperature: Tensor, draw: Tensor | None = None) -> Mixture:
    """One sampled operation per edge, straight-through; the others have weight and upstream gradient 0.

    The clean form of GDAS (Dong and Yang, CVPR 2019): alpha learns through the weight of the sampled operation.
    """
    h, one_hot = _hard(alpha, space, temperature, draw)
    return Mixture(h * one_hot, sparse=True)


def gumbel_hard_published(
    alpha: Tensor, space: SearchSpace, temperature: Tensor, draw: Tensor | None = None
) -> Mixture:
    """`gumbel_hard`, with the weights of the other operations, whose value is 0, added to the maps as numbers.

    So does the published code of GDAS: the gradient of these weights is the sum of the upstream gradient, not its
    product with the operation's output.
    """
    h, one_hot = _hard(alpha, space, temperature, draw)
    return Mixture(h * one_hot, sparse=True, offsets=(h * (1 - one_hot)).sum(-1))


def standard_gamma(alpha: Tensor, generator: torch.Generator) -> Tensor:
    """Return draws of Gamma(elu(alpha) + 1, 1), which `dirichlet` normalises; pruned operations have 0."""
    concentration = (F.elu(alpha.detach()) + 1).cpu()
    drawn = torch._standard_gamma(concentration.clamp_min(SMALL), generator=generator)  # pyright: ignore
    return torch.where(concentration > 0, drawn, 0).to(alpha.device)


def dirichlet(alpha: Tensor, space: SearchSpace, temperature: Tensor, draw: Tensor | None = None) -> Mixture:
    """A sample of Dirichlet(elu(alpha) + 1), differentiable in alpha (Chen et al., DrNAS, ICLR 2021).

    A Dirichlet variable is a vector of Gamma variables, normalised. `draw` has the values g of these; their derivative
    in the concentration c is that of the quantile function at g (Figurnov et al., NeurIPS 2018). The value is that of
    the draw, so `alpha` must be the one that it was drawn for.
    """
    assert draw is not None
    concentration = F.elu(alpha) + 1
    at = concentration.detach()
    slope = torch._standard_gamma_grad(at.clamp_min(SMALL), draw.clamp_min(SMALL))  # pyright: ignore
    sample = draw + (concentration - at) * torch.where(at > 0, slope, 0)
    return Mixture(sample / sample.sum(-1, keepdim=True))


def dirichlet_mean(alpha: Tensor, space: SearchSpace, temperature: Tensor) -> Tensor:
    """(elu(alpha) + 1) / its sum over the operations: the mean of `dirichlet` over its draws."""
    concentration = F.elu(alpha) + 1
    return concentration / concentration.sum(-1, keepdim=True)


def sigmoid(alpha: Tensor, space: SearchSpace, temperature: Tensor, draw: Tensor | None = None) -> Mixture:
    """sigmoid(alpha): the operations of an edge do not compete (Chu et al., FairDARTS, ECCV 2020)."""
    return Mixture(alpha.sigmoid())


def simplex(alpha: Tensor, space: SearchSpace, temperature: Tensor, draw: Tensor | None = None) -> Mixture:
    """alpha itself, rows on the simplex, kept there by the exponentiated step (Li et al., GAEA, ICLR 2021)."""
    return Mixture(alpha)


def normalised(theta: Tensor, space: SearchSpace) -> Tensor:
    """Return rows whose weights above 0 are at least 1e-5 and then divided by their sum, as in the code of GAEA."""
    raised = torch.where(theta > 0, theta.clamp_min(SMALLEST), 0.0)
    return raised / raised.sum(-1, keepdim=True)


def edge_simplex(alpha: Tensor, space: SearchSpace, temperature: Tensor, draw: Tensor | None = None) -> Mixture:
    """b[e] theta[e, o]: rows theta on the simplex, and in the last column b, that of a node's edges (GAEA PC-DARTS)."""
    return Mixture(alpha[..., :-1] * alpha[..., -1:])


def normalised_edges(theta: Tensor, space: SearchSpace) -> Tensor:
    """Return `normalised` operations, and edges whose sum is 1 for each node, without a smallest weight."""
    edges = [rows / rows.sum(1, keepdim=True) for rows in by_node(theta[..., -1:], space)]
    return torch.cat([normalised(theta[..., :-1], space), torch.cat(edges, 1)], -1)


def _softmax_mean(alpha: Tensor, space: SearchSpace, temperature: Tensor) -> Tensor:
    """The probability of each operation to be the hard sample, for Gumbel noise at any temperature."""
    return alpha.softmax(-1)


@dataclass(frozen=True)
class Parametrisation:
    """A parametrisation with what the search loop needs to know about it.

    `normalise`: puts weights on the simplex, if that is where alpha is. It then starts as the mean of the candidates,
    and that of a pruned operation is 0, not -inf.
    """

    weights: Weights
    mean: Mean | None = None  # None: the weights, which need no draw
    draw: Draw | None = None
    more_columns: Callable[[SearchSpace], tuple[str, ...]] = lambda space: ()  # names, besides the operations
    normalise: Callable[[Tensor, SearchSpace], Tensor] | None = None
    strength: Callable[[Tensor, SearchSpace], Tensor] | None = None  # of operations in a cell; None: the mean


PARAMETRISATIONS: dict[str, Parametrisation] = {
    "softmax": Parametrisation(softmax),
    "node-softmax": Parametrisation(node_softmax),
    "edge-softmax": Parametrisation(edge_softmax, more_columns=lambda space: ("edge",)),
    "group-softmax": Parametrisation(group_softmax),
    "edge-pairs": Parametrisation(edge_pairs, more_columns=pair_columns, strength=pairs_strength),
    "gumbel": Parametrisation(gumbel, _softmax_mean, exponential),
    "gumbel-hard": Parametrisation(gumbel_hard, _softmax_mean, exponential),
    "gumbel-hard-published": Parametrisation(gumbel_hard_published, _softmax_mean, exponential),
    "dirichlet": Parametrisation(dirichlet, dirichlet_mean, standard_gamma),
    "sigmoid": Parametrisation(sigmoid),
    "simplex": Parametrisation(simplex, normalise=normalised),
    "edge-simplex": Parametrisation(edge_simplex, more_columns=lambda space: ("edge",), normalise=normalised_edges),
}
