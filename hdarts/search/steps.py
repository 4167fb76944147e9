"""The phases of one iteration of a search, and what they need: functions that change the state in place."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hdarts.bilevel import Hypergradient
from hdarts.kernels.output_layer import clip_factor
from hdarts.params import SearchParams
from hdarts.runs.cuda_graph import CudaGraph, host_may_read
from hdarts.runs.randomness import generator
from hdarts.search.fit import checked
from hdarts.search.neighbourhood import neighbouring_problem
from hdarts.search.ranking import random_cell
from hdarts.search.setup import method_hypergradient
from hdarts.search.state import State
from hdarts.search.weights import Batch, Classification, Step
from hdarts.space import one_hot_alpha

Method = Callable[[Any, Any, Tensor, Batch, Batch, Tensor], Hypergradient]


class Phases(NamedTuple):
    """The phases of an iteration: `hypergradient` or `unlogged`, `alpha_step`, and `weight_step` or `loss`.

    `loss` takes the place of `weight_step` while the learning rate of the weights is 0.
    """

    hypergradient: CudaGraph  # (inner batch, outer batch) -> Hypergradient
    unlogged: CudaGraph  # the same; may leave out a response that does not step alpha
    alpha_step: CudaGraph  # (part of the hypergradient)
    weight_step: CudaGraph  # (inner batch, alpha, noise) -> Step
    loss: CudaGraph  # (the same) -> Step, at the current alpha; changes no weights


def phases(params: SearchParams, problem: Classification, state: State, hypergradient: Method | None = None) -> Phases:
    """Return the phases of the iterations of a search; the learning rate of the weights is `state.rate`.

    A user-defined `hypergradient` replaces that of the method.
    """

    def graph_of(method: Method) -> CudaGraph:
        return CudaGraph(lambda inner, outer: method(problem, state.weights, state.alpha, inner, outer, state.rate))

    named = partial(method_hypergradient, params)
    logged = graph_of(checked(hypergradient) if hypergradient else named)
    direct = params.part == "direct" and not hypergradient  # the response then steps nothing

    def step_weights(batch: Batch, alpha: Tensor, noise: Tensor) -> Step:
        around = neighbouring_problem(params, problem, state, alpha, batch)
        return state.weights.step(around, alpha, batch, state.rate, noise)

    @torch.no_grad()
    def measure_loss(batch: Batch, alpha: Tensor, noise: Tensor) -> Step:
        loss, correct = problem.outcome(state.weights.value(state.alpha), state.alpha, batch)
        return Step(loss, correct, torch.zeros_like(loss))

    return Phases(
        logged,
        graph_of(partial(named, part="direct")) if direct else logged,
        CudaGraph(partial(step_alpha, state, params.alpha_clip)),
        CudaGraph(step_weights),
        CudaGraph(measure_loss),
    )


def training_alpha(params: SearchParams, state: State) -> tuple[Tensor, Tensor]:
    """Return the alpha at which the weights take this step, and the step's noise (0 if it is not used).

    It is the current alpha, except while alpha is frozen: a global hypernetwork learns at normal draws of width
    `global_scale`, shared weights at random cells.
    """
    at = (state.epoch, state.step)

    def drawn(purpose: str) -> Tensor:
        draw = torch.randn(state.alpha.shape, generator=generator(params.search_seed, purpose, *at))
        return draw.to(state.alpha, non_blocking=True)  # the host does not wait

    epsilon = drawn("noise") if params.noise or params.response_update == "tangent" else torch.zeros_like(state.alpha)
    if state.epoch >= params.frozen_epochs:
        return state.alpha, epsilon
    if params.method == "shared-weights":
        cell = one_hot_alpha(random_cell(state.space, params.search_seed, "global", *at), state.space)
        return cell.to(state.alpha, non_blocking=True), epsilon
    return params.global_scale * drawn("global"), epsilon


def try_step(
    params: SearchParams,
    state: State,
    phase: Phases,
    inner: Batch,
    outer: Batch,
    at: tuple[Tensor, Tensor],
    images: int,
) -> None:
    """Do the work of an iteration on the first `images` of both batches, to see whether it fits into memory.

    `at`: the alpha and noise of its weight step.
    """
    few_inner, few_outer = (state.with_draw(params, (x[:images], y[:images]), "inner") for x, y, *_ in (inner, outer))
    phase.hypergradient.function(few_inner, few_outer)
    phase.weight_step.function(few_inner, *at)


def part_of(hypergradient: Hypergradient, part: str) -> Tensor:
    """Return the part of a hypergradient that steps alpha: total, response (thesis eq. 22) or direct."""
    return {"total": hypergradient.total, "response": hypergradient.response, "direct": hypergradient.direct}[part]


def step_alpha(state: State, clip: float, gradient: Tensor) -> None:
    """Step alpha along a gradient, clipped to the norm `clip` unless that is 0, and let the weights follow."""
    if host_may_read(gradient) and not bool(torch.isfinite(gradient).all()):  # on a GPU: State.check
        raise FloatingPointError("the hypergradient is not finite")
    before = state.alpha.clone()
    state.alpha.grad = gradient * clip_factor([gradient.square().sum()], clip)[1] if clip else gradient
    state.optimiser.step()
    if host_may_read(gradient) and not bool(torch.isfinite(state.alpha).all()):
        raise FloatingPointError("alpha is not finite after its step")
    state.weights.follow(state.alpha - before)
