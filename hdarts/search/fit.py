"""Whether user-defined objects fit the images, the space and each other: checked before the first step.

An error deep inside a step would not say which object has the wrong shape. Each object is called once, on two black
images.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from hdarts.bilevel import Hypergradient
from hdarts.data import Splits
from hdarts.errors import ParameterError
from hdarts.params import SearchParams
from hdarts.runs.custom import called, require
from hdarts.runs.processes import SINGLE
from hdarts.runs.randomness import generator
from hdarts.search.neighbourhood import neighbouring_problem
from hdarts.search.stages import pruned, stages_of
from hdarts.search.state import State
from hdarts.search.weights import Classification


def require_supernet(supernet: Any) -> None:
    """Refuse an object that is no supernet."""
    w = called("supernet", lambda: supernet.initial_w(generator(0, "fit")))
    require("supernet: the shape of initial_w", w, (called("supernet", lambda: supernet.n_w),))


def require_hypernetwork(
    params: SearchParams, hypernetwork: Any, supernet: Any, n_alpha: int, device: torch.device
) -> None:
    """Refuse a hypernetwork of other lengths than the supernet's; `n_alpha`: architecture parameters of a kind."""
    if params.method != "hypernetwork":
        raise ParameterError(f"hypernetwork: is passed, but method: {params.method} has none")
    require("hypernetwork: its type", type(hypernetwork).__name__, "ByKind")
    parts, kinds = hypernetwork.parts, len(supernet.space.kinds)
    require("hypernetwork: the number of kinds of cells", len(hypernetwork.hypernetworks), kinds)
    weights = list(getattr(supernet, "n_cell_w", [part.n_weights for part in hypernetwork.hypernetworks]))
    weights, inputs = [*weights, supernet.n_w - sum(weights)][: len(parts)], [n_alpha] * kinds + [n_alpha * kinds]
    require("hypernetwork: n_alpha of its parts", [part.n_alpha for part in parts], inputs[: len(parts)])
    require("hypernetwork: n_weights of its parts", [part.n_weights for part in parts], weights)
    for one in parts:
        phi = called("hypernetwork", one.initial_phi, generator(0, "fit"))
        require("hypernetwork: the shape of initial_phi", phi, (one.n_phi,))
        made = called("hypernetwork", one, phi.to(device), torch.zeros(one.n_alpha, device=device))
        require("hypernetwork: the shape of its value", made, (one.n_weights,))


def require_fit(params: SearchParams, problem: Classification, state: State, data: Splits) -> None:
    """Refuse user-defined parts, or a supernet, whose results have other shapes than the loop needs."""
    alpha, parts, device = state.alpha, state.parts, state.alpha.device
    stepped = [one for group in getattr(state.optimiser, "param_groups", []) for one in group["params"]]
    if [id(one) for one in stepped] != [id(alpha)]:
        raise ParameterError("parts.alpha_step: has to return an optimiser of the one tensor that it receives")
    labels = torch.zeros(2, dtype=torch.int64, device=device)
    batch = state.with_draw(params, (torch.zeros(2, *data.train.shape, device=device), labels), "inner")
    problem, shape = replace(problem, processes=SINGLE), (2, len(data.classes))

    def logits(at: Classification) -> Tensor:
        return at.logits(batch[0], state.weights.value(alpha), alpha, *batch[2:])

    with torch.no_grad():
        require("supernet: the shape of its output for 2 images", called("supernet", logits, problem), shape)
        if problem.outer_term is not None:
            require(
                "parts.outer_term: the shape of its value", called("parts.outer_term", problem.outer_term, alpha), ()
            )
        around = called("parts.neighbourhood", neighbouring_problem, params, problem, state, alpha, batch)
        called("parts.neighbourhood", logits, around)
    cell = called("parts.selection", state.cell)
    require("parts.selection: the type of its value", type(cell).__name__, "Genotype")
    kept, allowed = state.relaxation.kept, (torch.bool, state.space.alpha_shape)
    for stage in stages_of(params)[state.stage + 1 :]:
        kept = called("parts.prune", parts.prune or pruned, state.mean_weights(), kept, stage, state.space)
        if kept is not None:
            require("parts.prune: the type and shape of its value", (kept.dtype, tuple(kept.shape)), allowed)


def checked(hypergradient: Callable[..., Any]) -> Callable[..., Hypergradient]:
    """Return a user-defined hypergradient that is refused, before alpha is stepped, where its shapes are wrong."""

    def find(problem: Any, weights: Any, alpha: Tensor, *rest: Any) -> Hypergradient:
        found = hypergradient(problem, weights, alpha, *rest)
        require("hypergradient: the type of its value", type(found).__name__, "Hypergradient")
        for name in ("direct", "response"):
            require(f"hypergradient: the shape of {name}", getattr(found, name), tuple(alpha.shape))
        return found

    return find
