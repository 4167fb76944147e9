"""Terms of `alpha` that are added to the outer loss: scalars whose gradient joins the direct part.

The response of the weights does not see them, because they depend on alpha alone. Each is a function
`(alpha, weights, costs) -> scalar` of alpha `(kinds, edges, operations)`, in which a pruned operation is -inf, of the
mean mixture weights, and of the costs of all operations. `weight` times its value is added.
"""

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from hdarts.params import SearchParams
from hdarts.search.relaxation import Relaxation
from hdarts.space import CellPlan, SearchSpace
from hdarts.space.layers import sizes_after_stem
from hdarts.space.operations import blocks
from hdarts.supernet import Supernet

Term = Callable[[Tensor, Tensor, Tensor | None], Tensor]


def beta_decay(alpha: Tensor, weights: Tensor, costs: Tensor | None) -> Tensor:
    r"""Mean over edges of logsumexp_o alpha[e, o], summed over the kinds of cells (Ye et al., beta-DARTS, CVPR 2022).

    $$ \sum_{\mathrm{kinds}} \frac{1}{E} \sum_e \log \sum_o e^{\alpha_{e, o}} $$

    Its gradient is softmax(alpha)[e, o] / E.
    """
    return alpha.logsumexp(-1).mean(-1).sum()


def kl(alpha: Tensor, weights: Tensor, costs: Tensor | None) -> Tensor:
    """Sum over edges of KL(Dirichlet(elu(alpha) + 1) || Dirichlet(1)) (Chen et al., DrNAS, ICLR 2021)."""
    used = alpha > -torch.inf
    c = torch.where(used, F.elu(alpha) + 1, 1.0)  # a pruned operation adds nothing: its terms below are 0
    total = torch.where(used, c, 0.0).sum(-1)
    normaliser = torch.lgamma(total) - torch.lgamma(c).sum(-1) - torch.lgamma(used.sum(-1).to(c))
    return (normaliser + ((c - 1) * (torch.digamma(c) - torch.digamma(total)[..., None])).sum(-1)).sum()


def zero_one(alpha: Tensor, weights: Tensor, costs: Tensor | None) -> Tensor:
    """-mean (sigmoid(alpha) - 1/2)^2, which drives weights to 0 or 1 (Chu et al., FairDARTS, ECCV 2020)."""
    return -(alpha.sigmoid() - 0.5).square().mean()


def expected_cost(alpha: Tensor, weights: Tensor, costs: Tensor | None) -> Tensor:
    """sum over kinds, edges and operations of weights x costs: the expected size of a discrete cell, in millions."""
    assert costs is not None
    return (weights * costs).sum()


TERMS: dict[str, Term] = {
    "beta-decay": beta_decay,
    "kl": kl,
    "zero-one": zero_one,
    "multiply-adds": expected_cost,
    "parameters": expected_cost,
}


def operation_costs(space: SearchSpace, cells: Sequence[CellPlan], size: tuple[int, int], of: str) -> Tensor:
    """Return `(kinds, edges, operations)`, in millions: parameters or multiply-adds of an operation in all cells.

    They are those of the convolutions in a network of these `cells` for images of `size`. Pooling, BatchNorm and
    additions are not counted.
    """
    costs = torch.zeros(space.alpha_shape)
    _, (height, width) = sizes_after_stem(cells, size)
    for cell in cells:
        if cell.reduces:
            height, width = -(-height // 2), -(-width // 2)
        if cell.kind not in space.kinds:
            continue
        for e, (source, _) in enumerate(space.edges):
            stride = cell.stride if source < space.inputs else 1
            # an operation of stride 2 halves the maps in its first convolution, so that all outputs have this size
            for o, operation in enumerate(space.operations):
                convolutions = [one for block in blocks(operation, stride) for one in block.convolutions]
                counts = (math.prod(one.shape(cell.channels, cell.channels)) for one in convolutions)
                count = sum(counts) * (height * width if of == "multiply-adds" else 1)
                costs[space.kinds.index(cell.kind), e, o] += count / 1e6
    return costs


def outer_term(
    params: SearchParams,
    model: Supernet,
    size: Sequence[int],
    relaxation: Relaxation,
    weight: Tensor,
    custom: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> Callable[[Tensor], Tensor] | None:
    """Return the function of alpha that is added to the outer loss, or None; `weight` is changed by epoch, in place.

    `size` is that of the images. With `outer_target` t above 0 the term is max(0, cost / t - 1).
    """
    if custom is not None:
        return lambda alpha: custom(relaxation.masked(alpha), relaxation.mean(alpha))
    if params.outer_term == "none":
        return None
    term, target, costs = TERMS[params.outer_term], params.outer_target, None
    if term is expected_cost:
        costs = operation_costs(model.space, model.cells, (size[0], size[1]), params.outer_term).to(weight.device)

    def value(alpha: Tensor) -> Tensor:
        needed = None if costs is None else costs.to(alpha.dtype)
        operations = relaxation.masked(alpha)[..., : len(model.space.operations)]  # without edge weights
        number = term(operations, relaxation.mean(alpha), needed)
        return weight.to(alpha.dtype) * (F.relu(number / target - 1) if target else number)

    return value
