"""From mixture weights to the cell of a search: DARTS's rule, with a cap on skip connections or a threshold."""

from collections.abc import Callable
from functools import partial

from torch import Tensor

from hdarts.params import SearchParams
from hdarts.space import Genotype, SearchSpace, skip_count, strongest

Selection = Callable[[Tensor, SearchSpace], Genotype]


def selection_of(params: SearchParams) -> Selection:
    """Return the rule (mixture weights, space) -> cell; what `perturbation` has decided is one-hot in the weights."""
    rule: Selection = partial(above, threshold=params.threshold) if params.selection == "threshold" else strongest
    return rule if params.max_skips is None else partial(capped, rule=rule, most=params.max_skips)


def chosen(genotype: Genotype, space: SearchSpace) -> list[list[tuple[int, int]]]:
    """Return for each kind of cell the (edge, operation) of each edge in its list, as indices of mixture weights."""
    return [
        [
            (space.edges.index((source, node)), space.operations.index(operation))
            for (operation, source), node in zip(cell, space.targets, strict=True)
        ]
        for cell in genotype.cells.values()
    ]


def above(weights: Tensor, space: SearchSpace, threshold: float) -> Genotype:
    """Return the strongest cell without the edges whose weight is below `threshold`: these become `none`.

    (Chu et al., FairDARTS, ECCV 2020.) A node keeps two, one or no edge.
    """
    cell, cells = strongest(weights, space), {}
    for k, (kind, edges) in enumerate(zip(space.kinds, chosen(cell, space), strict=True)):
        kept = [float(weights[k, edge, operation]) >= threshold for edge, operation in edges]
        named = zip(cell.cells[kind], kept, strict=True)
        cells[kind] = [(operation if keep else "none", source) for (operation, source), keep in named]
    return Genotype(**cells, custom=space)


def capped(weights: Tensor, space: SearchSpace, rule: Selection, most: int) -> Genotype:
    """Return the cell by `rule` with at most `most` skip connections in cells of the first kind, the normal ones.

    While there are more, the smallest weight of a kept skip connection is set to 0 and the rule is applied again (Chen
    et al., P-DARTS, ICCV 2019); an edge without other operations keeps its skip connection.
    """
    weights, skip = weights.clone(), space.operations.index("skip_connect")
    while skip_count(cell := rule(weights, space)) > most:
        kept = [edge for edge, operation in chosen(cell, space)[0] if operation == skip and weights[0, edge, skip] > 0]
        if not kept:
            break
        weights[0, min(kept, key=lambda edge: float(weights[0, edge, skip])), skip] = 0.0
    return cell
