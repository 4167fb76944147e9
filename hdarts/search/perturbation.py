"""Selection by perturbation: what an operation is worth is what the supernet loses without it.

(Wang et al., DARTS-PT, ICLR 2021.) After the search, the supernet is tuned; before some of the tuning epochs one edge
of each kind of cell is decided, and alpha is trained further for the others. A decided edge has one candidate
left in `Relaxation.kept`, a deleted edge only `none`. So checkpoints and alpha.csv have all decisions.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from hdarts.data import Splits
from hdarts.params import SearchParams
from hdarts.params.schedule import cosine
from hdarts.runs.progress import progress
from hdarts.runs.randomness import generator
from hdarts.search.log import PLACE, Log, Row
from hdarts.search.stages import StagePlan
from hdarts.search.state import State
from hdarts.search.validation import accuracy
from hdarts.search.weights import Classification
from hdarts.space import SPACES, NASBench201

NONE = 0  # the operation that an edge of the DARTS space has when it is deleted


def tuning_rate(params: SearchParams, epoch: float, epochs: int) -> float:
    """Return the learning rate of the weights in tuning: a tenth, constant in NAS-Bench-201, elsewhere a cosine."""
    rate = params.learning_rate / 10
    if isinstance(SPACES[params.space], NASBench201):
        return rate
    return cosine(rate, min(rate, params.learning_rate_min), epoch, epochs)


def due(params: SearchParams, stage: StagePlan, epoch: int) -> list[int]:
    """Return the numbers of the decisions before an epoch: number i is `tuning_epochs` i epochs after the start.

    None comes after the last epoch of the stage.
    """
    when = [stage.start + min(number * params.tuning_epochs, stage.epochs - 1) for number in range(params.decisions)]
    return [number for number, at in enumerate(when) if at == epoch]


def decide(
    params: SearchParams, problem: Classification, data: Splits, stage: StagePlan, state: State, log: Log
) -> None:
    """Make the decisions before the next epoch: an operation for each edge, then the edges of each node."""
    began, space = time.perf_counter(), state.space
    state.start_epoch(params, stage)
    for number in due(params, stage, state.epoch):
        step = decide_operation if number < len(space.edges) else decide_edges
        for kind in range(len(space.kinds)):
            source = generator(params.search_seed, "decision", number, kind)
            log.tables["perturbation"] += step(Ablation(params, problem, data, state), kind, source)
            log.write("perturbation")
    state.seconds += time.perf_counter() - began


@dataclass
class Ablation:
    """Accuracies of the supernet at the mean mixture weights, with some of these set to 0 and the others unchanged."""

    params: SearchParams
    problem: Classification
    data: Splits
    state: State

    def accuracies(self, kind: int, removed: Sequence[tuple[int, Any]]) -> list[float]:
        """Return the accuracy (per cent, all of the validation part) without each (edge, operations) of a kind."""
        label = f"{self.params.slug()} epoch {self.state.epoch + 1}, decision"
        return [self._accuracy(kind, *one) for one in progress(removed, len(removed), label)]

    @torch.no_grad()
    def _accuracy(self, kind: int, edge: int, operations: Any) -> float:
        alpha = self.state.alpha
        mixture = self.state.relaxation(alpha)
        weights = mixture.weights.clone()
        weights[kind, edge, operations] = 0.0
        problem = self.problem.at(mixture._replace(weights=weights, sparse=True))
        w = self.state.weights.value(alpha)
        return accuracy(problem, w, alpha, self.data.validation, self.params.batch_size)[1]

    def rows(self, kind: int, edges: list[int], removed: list[str], found: list[float], kept: list[bool]) -> list[Row]:
        """Return rows of perturbation.csv: what was removed, the accuracy without it, whether it is kept."""
        space = self.state.space
        places = [
            dict(zip(PLACE, (self.state.epoch + 1, space.kinds[kind], *space.edges[e]), strict=True)) for e in edges
        ]
        columns = zip(places, removed, found, kept, strict=True)
        return [{**place, "removed": name, "accuracy": value, "kept": keep} for place, name, value, keep in columns]


def decide_operation(ablation: Ablation, kind: int, source: torch.Generator) -> list[Row]:
    """Keep the operation of a random undecided edge whose removal leaves the lowest accuracy, the first of equal ones.

    In the DARTS space `none` cannot be kept, as in the rule of DARTS. Return the rows of the table.
    """
    state, space = ablation.state, ablation.state.space
    assert state.relaxation.kept is not None
    rows = state.relaxation.kept[kind].tolist()
    undecided = [edge for edge, row in enumerate(rows) if sum(row) > 1]
    if not undecided:  # a space whose edges have one candidate
        return []
    edge = undecided[int(torch.randint(len(undecided), (), generator=source))]
    first = NONE if isinstance(space, NASBench201) else NONE + 1
    candidates = [o for o in range(first, len(space.operations)) if rows[edge][o]]
    found = ablation.accuracies(kind, [(edge, o) for o in candidates])
    best = candidates[found.index(min(found))]
    keep_only(state, kind, edge, best)
    names = [space.operations[o] for o in candidates]
    return ablation.rows(kind, [edge] * len(names), names, found, [o == best for o in candidates])


def decide_edges(ablation: Ablation, kind: int, source: torch.Generator) -> list[Row]:
    """Keep two edges of a random node with more: those whose removal leaves the lowest accuracy.

    Each removal is measured with all other edges of the node in place; of equal edges the first is kept, as published.
    Return the rows of the table.
    """
    state, space = ablation.state, ablation.state.space
    assert state.relaxation.kept is not None
    present = [not row[NONE] for row in state.relaxation.kept[kind].tolist()]
    incoming = {
        node: [e for e, (_, to) in enumerate(space.edges) if to == node and present[e]] for _, node in space.edges
    }
    crowded = [edges for edges in incoming.values() if len(edges) > 2]
    if not crowded:
        return []
    edges = crowded[int(torch.randint(len(crowded), (), generator=source))]
    found = ablation.accuracies(kind, [(edge, slice(None)) for edge in edges])
    kept = sorted(edges, key=lambda edge: found[edges.index(edge)])[:2]  # sorted is stable
    for edge in edges:
        if edge not in kept:
            keep_only(state, kind, edge, NONE)
    return ablation.rows(kind, edges, ["edge"] * len(edges), found, [edge in kept for edge in edges])


def keep_only(state: State, kind: int, edge: int, operation: int) -> None:
    """Leave one candidate on an edge: its mixture weight is 1 from now on."""
    kept = state.relaxation.kept
    assert kept is not None
    kept[kind, edge] = False
    kept[kind, edge, operation] = True
    if state.relaxation.parametrisation.normalise:  # alpha is the weight itself
        state.alpha[kind, edge] = kept[kind, edge].to(state.alpha)
