"""The problem and the state at the start of a stage, or as a checkpoint has them."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hdarts.data import Splits
from hdarts.errors import ParameterError
from hdarts.hypernetwork import ByKind
from hdarts.params import SearchParams
from hdarts.params.parts import SearchParts
from hdarts.runs.processes import SINGLE, Processes
from hdarts.runs.randomness import generator
from hdarts.search.custom import NAMED, Parts
from hdarts.search.fit import require_hypernetwork, require_supernet
from hdarts.search.outer_term import outer_term
from hdarts.search.relaxation import Relaxation
from hdarts.search.setup import make_supernet
from hdarts.search.stages import StagePlan, pruned, stages_of
from hdarts.search.state import State
from hdarts.search.steps import Method
from hdarts.search.weights import Classification
from hdarts.space import SPACES
from hdarts.supernet.widen import Widening

DARTS_PARTS = SearchParts()


@dataclass(frozen=True)
class Given:
    """What a search is given besides parameters and images: a device, and objects of the user's.

    None stands for what the parameters describe; see hdarts.search.search.
    """

    device: torch.device
    supernet: Any = None
    hypernetwork: ByKind | None = None
    hypergradient: Method | None = None
    parts: Parts = NAMED
    processes: Processes = SINGLE


def resumed(
    params: SearchParams, saved: dict[str, Any] | None, data: Splits, device: torch.device
) -> tuple[Classification, State]:
    """Return problem and state of a checkpoint, as its last epoch left them, or those of a new search if it is None."""
    stage = stages_of(params)[saved.get("stage", 0) if saved else 0]
    problem, state = start_stage(params, stage, data, Given(device), saved=saved)
    state.relaxation.start_epoch(params, stage, max(stage.start, state.epoch - 1))
    return problem, state


def _widening(params: SearchParams, data: Splits, stage: StagePlan) -> Callable[[Tensor], Tensor]:
    """Return the map of weights from the stage before to one whose operations may work on more channels."""
    before = stages_of(params)[max(0, stage.number - 1)]
    if stage.tuning or before.partial_channels == stage.partial_channels:
        return Tensor.clone
    draw = generator(params.search_seed, "widening", stage.number)
    return Widening(make_supernet(params, data, before), make_supernet(params, data, stage), draw)


def start_stage(
    params: SearchParams,
    stage: StagePlan,
    data: Splits,
    given: Given,
    before: State | None = None,
    saved: dict[str, Any] | None = None,
) -> tuple[Classification, State]:
    """Return problem and state at the start of a stage, or as they were `saved` in it.

    `before` is the state at the end of the stage before: from its mean weights the operations are pruned.
    """
    custom, processes = given.parts, given.processes
    if given.supernet is not None:
        require_supernet(given.supernet)
    model = given.supernet or make_supernet(params, data, stage)
    kept = getattr(model.space, "mask", None)
    if before is not None:
        kept = (custom.prune or pruned)(before.mean_weights(), before.relaxation.kept, stage, model.space)
    if saved is not None:
        kept = saved.get("kept")
    if stage.tuning:  # decisions change it in place
        kept = torch.ones(model.space.alpha_shape, dtype=torch.bool) if kept is None else kept.clone()
    if params.selection == "perturbation" and model.space.edges != SPACES[params.space].edges:
        raise ParameterError(f"selection: perturbation needs a supernet with the edges of space {params.space}")
    relaxation = Relaxation.of(params, model.space, stage, kept, given.device, custom.parametrisation)
    if given.hypernetwork is not None:
        rows = math.prod(relaxation.alpha_shape[1:])
        require_hypernetwork(params, given.hypernetwork, model, rows, given.device)
    state = State.fresh(params, model, given.hypernetwork, given.device, relaxation, stage, custom)
    state.processes = processes
    if before is not None and not stage.restart:
        state.continue_from(before, _widening(params, data, stage) if given.supernet is None else Tensor.clone)
    if stage.tuning:
        for name, tensor in state.weights.tensors().items():
            tensor.mul_("velocity" not in name)  # the optimiser of the weights starts anew
    state.restore(saved)
    if synchronised := params.sync_batch_norm and processes.world > 1:
        model.compiled = False  # the kernels compute statistics of one process
    parts = [name for name in SearchParts.model_fields if getattr(params, name) != getattr(DARTS_PARTS, name)]
    parts += [name for name in ("parametrisation", "outer_term", "neighbourhood") if getattr(custom, name)]
    if not parts and kept is None:  # DARTS: a user-defined supernet may have softmax built in
        return Classification(model, params.precision, processes=processes, synchronised=synchronised), state
    if not hasattr(model, "mixture"):
        raise ParameterError(
            f"{(parts or ['candidates'])[0]}: needs a supernet with a method `mixture(images, w, weights)`"
        )
    term = outer_term(params, model, data.train.shape[1:], relaxation, state.outer_weight, custom.outer_term)
    return Classification(model, params.precision, relaxation, term, processes, synchronised), state
