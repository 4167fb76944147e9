"""Whether user-defined objects fit the images, the space and each other: checked before the first step.

A wrong shape deep inside a step names no object; these sentences do. Each object is called once, on two black images.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from hdarts.bilevel import Hypergradient
from hdarts.data import Splits
from hdarts.errors import ParameterError
from hdarts.hypernetwork import ByKind
from hdarts.params import SearchParams
from hdarts.runs.custom import called, require
from hdarts.runs.processes import SINGLE
from hdarts.runs.randomness import generator
from hdarts.search.neighbourhood import near
from hdarts.search.stages import pruned, stages_of
from hdarts.search.state import State
from hdarts.search.weights import Classification
from hdarts.space import Genotype


def require_supernet(supernet: Any, data: Splits) -> None:
    """Refuse an object that is no supernet, or one for other images."""
    if missing := [name for name in ("space", "n_w", "initial_w") if not hasattr(supernet, name)]:
        raise ParameterError(f"supernet: {type(supernet).__name__} has no {' and no '.join(missing)}")
    for name, wanted in (("classes", len(data.classes)), ("image_channels", data.train.shape[0])):
        require(f"supernet: its number of {name}", getattr(supernet, name, wanted), wanted)
    source = generator(0, "fit")
    require("supernet: the shape of initial_w", called("supernet", supernet.initial_w, source), (supernet.n_w,))


def require_hypernetwork(params: SearchParams, hypernetwork: Any, supernet: Any, n_alpha: int) -> None:
    """Refuse a hypernetwork of other lengths than the supernet's; `n_alpha`: architecture parameters of a kind."""
    if params.method != "hypernetwork":
        raise ParameterError(f"hypernetwork: is passed, but method: {params.method} has none")
    if not isinstance(hypernetwork, ByKind):
        found = type(hypernetwork).__name__
        raise ParameterError(f"hypernetwork: is a {found} and has to be a ByKind, with one hypernetwork for each cell")
    kinds = supernet.space.kinds
    require("hypernetwork: the number of kinds of cells", len(hypernetwork.hypernetworks), len(kinds))
    weights = list(getattr(supernet, "n_cell_w", [part.n_weights for part in hypernetwork.hypernetworks]))
    names, inputs = [*kinds, "rest"], [n_alpha] * len(kinds) + [n_alpha * len(kinds)]
    weights.append(supernet.n_w - sum(weights))
    for name, one, n_input, n_weights in zip(names, hypernetwork.parts, inputs, weights, strict=False):
        name = f"hypernetwork of {name}:"
        require(f"{name} n_alpha", one.n_alpha, n_input)
        require(f"{name} n_weights", one.n_weights, n_weights)
        phi = called(name, one.initial_phi, generator(0, "fit"))
        require(f"{name} the shape of initial_phi", phi, (one.n_phi,))
        require(f"{name} the shape of its output", called(name, one, phi, phi.new_zeros(n_input)), (n_weights,))


def require_fit(params: SearchParams, problem: Classification, state: State, data: Splits) -> None:
    """Refuse user-defined parts, or a supernet, whose results have other shapes than the loop needs."""
    alpha, parts, device = state.alpha, state.parts, state.alpha.device
    moved = [one for group in getattr(state.optimiser, "param_groups", []) for one in group["params"]]
    if [id(one) for one in moved] != [id(alpha)]:
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
        around = called("parts.neighbourhood", near, params, problem, state, alpha, batch)
        called("parts.neighbourhood", logits, around)
    cell = called("parts.selection", state.cell)
    if not isinstance(cell, Genotype):
        raise ParameterError(f"parts.selection: returns a {type(cell).__name__} and has to return a Genotype")
    kept, allowed = state.relaxation.kept, (torch.bool, state.space.alpha_shape)
    for stage in stages_of(params)[state.stage + 1 :]:
        kept = called("parts.prune", parts.prune or pruned, state.mean_weights(), kept, stage, state.space)
        if kept is not None:
            require("parts.prune: the type and shape of its value", (kept.dtype, tuple(kept.shape)), allowed)


def checked(hypergradient: Callable[..., Any]) -> Callable[..., Hypergradient]:
    """Return a user-defined hypergradient that is refused, before alpha is stepped, where its shapes are wrong."""

    def find(problem: Any, weights: Any, alpha: Tensor, *rest: Any) -> Hypergradient:
        found = hypergradient(problem, weights, alpha, *rest)
        if not isinstance(found, Hypergradient):
            raise ParameterError(f"hypergradient: returns a {type(found).__name__} and has to return a Hypergradient")
        for name in ("direct", "response"):
            require(f"hypergradient: the shape of {name}", getattr(found, name), tuple(alpha.shape))
        return found

    return find
