"""One architecture search: step alpha along a hypergradient and the weights along the inner gradient.

    for each pair of batches (thesis algorithms 1 and 2):
        alpha <- Adam(alpha, d L_val / d alpha)       # the method's hypergradient at the current weights
        weights <- SGD(weights, d L_train / d weights)

All randomness is a function of (seed, purpose, epoch, step), and a checkpoint is complete: a search that was killed
anywhere and started again ends bit for bit like an uninterrupted one (CPU, same number of threads). The test set is
never opened here.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hdarts.bilevel import Hypergradient
from hdarts.data import Batches, Splits
from hdarts.hypernetwork import ByKind
from hdarts.params import SearchParams, identity
from hdarts.runs import checkpoint
from hdarts.runs.checkpoint import CheckpointClock, last_checkpoint
from hdarts.runs.cuda_graph import CudaGraph, host_may_read
from hdarts.runs.device import moved, use_machine
from hdarts.runs.lock import exclusive
from hdarts.runs.memory import explaining_full_memory, naming_a_batch_that_fits, peak_memory
from hdarts.runs.progress import progress
from hdarts.runs.randomness import generator
from hdarts.runs.run import Run, tidy
from hdarts.runs.schedule import cosine
from hdarts.runs.tensorboard import event_files
from hdarts.search.log import Log
from hdarts.search.ranking import random_cell, rank
from hdarts.search.result import finish as finish_run
from hdarts.search.setup import batches, epoch_steps, load_splits, make_supernet, method_hypergradient
from hdarts.search.state import State, save
from hdarts.search.truth import TruthFile
from hdarts.search.validation import accuracy, measure_epoch
from hdarts.search.weights import Batch, Classification, Step
from hdarts.space import SPACES, Genotype, SearchSpace, discretise, one_hot_alpha, skip_count

Row = dict[str, Any]
Method = Callable[[Any, Any, Tensor, Batch, Batch, Tensor], Hypergradient]


def search(
    params: SearchParams,
    run: Run,
    *,
    data: Splits | None = None,
    supernet: Any = None,
    hypernetwork: ByKind | None = None,
    hypergradient: Method | None = None,
    finish: bool = True,
) -> Iterator[Row]:
    """Search and yield one row of metrics per epoch; a run that is done yields its recorded rows.

    User-defined objects replace what the parameters describe: `data` (with a validation part), `supernet` (a pure
    function like hdarts.supernet; its space is searched), `hypernetwork` (for method hypernetwork) and `hypergradient`,
    a function (problem, weights, alpha, inner batch, outer batch, learning rate, a scalar tensor) -> Hypergradient.

    Writes metrics.csv, hypergradients.csv, alpha.csv, timings.csv, checkpoints, genotype.json, provenance.json and, in
    the space of NAS-Bench-201 if its table is installed, truth.csv, which no search reads. At the end
    `finish` writes result.json; a notebook that still draws figures passes False and calls `hdarts.search.finish` last.
    Raises ParameterError before any work, FloatingPointError if a loss, gradient or alpha is not finite, Stopped after
    a signal once the state is saved, OutOfMemory with a batch size that fits.
    """
    if run.done:
        yield from run.table("metrics").to_dict("records")
        tidy(params, run.folder)  # the process may have been killed right after it wrote the result
        return
    device = use_machine(params)
    with exclusive(run.folder):
        if params.method == "random":
            draw_cell(params, run, device, supernet.space if supernet else SPACES[params.space])
        else:
            with explaining_full_memory():
                yield from _search(params, run, device, data, supernet, hypernetwork, hypergradient)
        if finish:
            finish_run(params, run)


def _search(
    params: SearchParams,
    run: Run,
    device: torch.device,
    data: Splits | None,
    supernet: Any,
    hypernetwork: ByKind | None,
    hypergradient: Method | None,
) -> Iterator[Row]:
    events = event_files(run.folder, params.tensorboard)
    with events as write, CheckpointClock(params).listening() as clock:
        data, supernet, hypernetwork = (moved(part, device) for part in (data, supernet, hypernetwork))
        data = data or load_splits(params, device)
        problem = Classification(supernet or make_supernet(params, data), params.precision)
        levels = batches(params, data)
        state = State.fresh(params, problem.supernet, hypernetwork, device)
        state.restore(checkpoint.load(run.folder, identity(params)))
        log, truth = Log.resume(run, state, write), TruthFile.of(run, state.space)
        updated = sum(t.numel() for name, t in state.weights.tensors().items() if "velocity" not in name)
        describe(run, device, data.summary(), supernet_weights=problem.supernet.n_w, trained_weights=updated)
        method = hypergradient or partial(method_hypergradient, params)
        direct = None if hypergradient or params.part != "direct" else partial(method, part="direct")
        phase = phases(problem, state, method, direct)
        while not (state.step == 0 < state.epoch and is_last(params, state, state.epoch)):
            search_epoch(params, run, levels, state, phase, log, clock)
            yield end_epoch(params, run, problem, data, state, log, truth, clock)
        run.write_text("genotype.json", choose(params, problem, data, state, log, truth).to_json())
        run.add_provenance(peak_memory_mib=peak_memory(str(device)))


def search_epoch(
    params: SearchParams,
    run: Run,
    levels: tuple[Batches, Batches],
    state: State,
    phase: "Phases",
    log: Log,
    clock: CheckpointClock,
) -> None:
    """Take the remaining iterations of an epoch: hypergradient, alpha step, weight step; save when that is due."""
    frozen = state.epoch < params.frozen_epochs
    step_weights = phase.weight_step if weight_rate(params, state.epoch) > 0 else phase.loss
    steps = epoch_steps(params, *(len(level.images) for level in levels))
    began = time.perf_counter() - state.seconds
    for inner_batch, outer_batch in pairs(params, levels, state, steps):
        rate = weight_rate(params, state.epoch, state.step / steps)
        state.rate.fill_(rate)
        at, noise = training_alpha(params, state)
        attempt = partial(try_step, phase, inner_batch, outer_batch, at, noise)
        with locating_errors(run, state), naming_a_batch_that_fits(params.batch_size, attempt):
            logged = state.steps_done(steps) % params.log_every == 0
            step = step_weights(inner_batch, at, noise) if params.order == "weights-first" else None
            if logged or not frozen:
                hypergradient = (phase.hypergradient if logged else phase.unlogged)(inner_batch, outer_batch)
                if logged:
                    log.hypergradient(state, hypergradient, rate, steps)
                if not frozen:
                    phase.alpha_step(part_of(hypergradient, params.part))
            state.count(step or step_weights(inner_batch, at, noise), len(inner_batch[1]))
        state.seconds = time.perf_counter() - began
        if (state.step < steps or clock.requested) and clock.due_in_epoch():
            log.write("hypergradients")
            save(run, params, state, clock)
    state.check()  # waits for a GPU
    state.seconds = time.perf_counter() - began


def end_epoch(
    params: SearchParams,
    run: Run,
    problem: Classification,
    data: Splits,
    state: State,
    log: Log,
    truth: TruthFile,
    clock: CheckpointClock,
) -> Row:
    """Measure the accuracy, write the tables, save if that is due, and return the row of the epoch."""
    log.start_measuring()
    last = is_last(params, state, state.epoch + 1)
    row = log.end_epoch(state, weight_rate(params, state.epoch), measure_epoch(params, problem, state, data, last))
    if not params.candidates:  # candidates are ranked at the end only
        truth.write()
    state.start_next_epoch()
    if clock.due_after(state.epoch, state.epoch if last else params.epochs):
        save(run, params, state, clock, keep=state.epoch in params.keep_epochs)
    return row


def pairs(
    params: SearchParams, levels: tuple[Batches, Batches], state: State, steps: int
) -> Iterator[tuple[Batch, Batch]]:
    """Yield the remaining pairs of inner and outer batches of an epoch of `steps`, with a progress bar."""
    inner, outer = (
        level.repeated(params.search_seed, name, state.epoch, state.step)
        for name, level in zip(("inner", "outer"), levels, strict=True)
    )
    label = f"{params.slug()} epoch {state.epoch + 1}/{params.epochs}"
    yield from progress(islice(zip(inner, outer, strict=False), steps - state.step), steps - state.step, label)


def weight_rate(params: SearchParams, epoch: int, done: float = 0.0) -> float:
    """Return the learning rate of the weights: a cosine over the epochs in which they learn, then 0.

    It changes by epoch or, with `schedule` step, with the fraction of the epoch that is `done`. With `schedule_epochs`
    a search uses the first part of a longer cosine, such as 50 epochs of one of 100.
    A local search (`global_epochs` 0, thesis algorithm 2) steps alpha and weights in all epochs. A global one (thesis
    4.4.3) first trains the hypernetwork on wide draws of alpha, with alpha frozen, then steps alpha alone.
    """
    learning = params.frozen_epochs or params.schedule_epochs or params.epochs
    now = epoch + (done if params.schedule == "step" else 0.0)
    return cosine(params.learning_rate, params.learning_rate_min, now, learning) if epoch < learning else 0.0


class Phases(NamedTuple):
    """The phases of one iteration: three, the last of them `weight_step`, or `loss` while the learning rate is 0."""

    hypergradient: CudaGraph  # (inner batch, outer batch) -> Hypergradient
    unlogged: CudaGraph  # the same, perhaps without a response that does not step alpha
    alpha_step: CudaGraph  # (part of the hypergradient)
    weight_step: CudaGraph  # (inner batch, alpha, noise) -> Step
    loss: CudaGraph  # the same: the Step at the current alpha, without a change of the weights


def phases(problem: Classification, state: State, method: Method, unlogged: Method | None = None) -> Phases:
    """Return the phases of the iterations of a search; the learning rate of the weights is `state.rate`.

    `unlogged` computes what steps alpha where nothing is logged; by default that is `method` too.
    """

    def graph_of(method: Method) -> CudaGraph:
        return CudaGraph(lambda inner, outer: method(problem, state.weights, state.alpha, inner, outer, state.rate))

    def step_weights(batch: Batch, alpha: Tensor, noise: Tensor) -> Step:
        return state.weights.step(problem, alpha, batch, state.rate, noise)

    @torch.no_grad()
    def measure_loss(batch: Batch, alpha: Tensor, noise: Tensor) -> Step:
        loss, correct = problem.outcome(state.weights.value(state.alpha), state.alpha, batch)
        return Step(loss, correct, torch.zeros_like(loss))

    hypergradient = graph_of(method)
    return Phases(
        hypergradient,
        graph_of(unlogged) if unlogged else hypergradient,
        CudaGraph(partial(step_alpha, state)),
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
        return draw.to(state.alpha, non_blocking=True)  # the host goes on

    epsilon = drawn("noise") if params.noise else torch.zeros_like(state.alpha)
    if state.epoch >= params.frozen_epochs:
        return state.alpha, epsilon
    if params.method == "shared-weights":
        cell = one_hot_alpha(random_cell(state.space, params.search_seed, "global", *at))
        return cell.to(state.alpha, non_blocking=True), epsilon
    return params.global_scale * drawn("global"), epsilon


def try_step(phase: Phases, inner: Batch, outer: Batch, alpha: Tensor, noise: Tensor, images: int) -> None:
    """Do the work of an iteration on the first `images` of both batches, to see whether it fits into memory."""
    few_inner, few_outer = ((x[:images], y[:images]) for x, y in (inner, outer))
    phase.hypergradient.function(few_inner, few_outer)
    phase.weight_step.function(few_inner, alpha, noise)


def part_of(hypergradient: Hypergradient, part: str) -> Tensor:
    """Return the part of a hypergradient that steps alpha: total, response (thesis eq. 22) or direct."""
    return {"total": hypergradient.total, "response": hypergradient.response, "direct": hypergradient.direct}[part]


def step_alpha(state: State, gradient: Tensor) -> None:
    """Take one Adam step on alpha and let the weights follow its change."""
    if host_may_read(gradient) and not bool(torch.isfinite(gradient).all()):  # on a GPU: State.check
        raise FloatingPointError("the hypergradient is not finite")
    before = state.alpha.clone()
    state.alpha.grad = gradient
    state.adam.step()
    if host_may_read(gradient) and not bool(torch.isfinite(state.alpha).all()):
        raise FloatingPointError("alpha is not finite after its step")
    state.weights.follow(state.alpha - before)


@contextlib.contextmanager
def locating_errors(run: Run, state: State) -> Iterator[None]:
    """Add the step, the norms of the state and the last checkpoint to the message of a FloatingPointError."""
    try:
        yield
    except FloatingPointError as error:
        norms = ", ".join(f"{name} {float(x.norm()):.3g}" for name, x in state.tensors().items())
        raise FloatingPointError(f"{state.where}: {error}; norms: {norms}; {last_checkpoint(run.folder)}") from None


def is_last(params: SearchParams, state: State, epoch: int) -> bool:
    """Whether `epoch` (1 is the first), just completed, is the last one.

    `stop_when_skips` ends a search once the derived normal cell has so many skip connections (Liang et al., DARTS+).
    """
    skips = skip_count(discretise(state.alpha, state.space))
    stepped = epoch > params.frozen_epochs
    return epoch == params.epochs or (stepped and 0 < params.stop_when_skips <= skips)


def describe(run: Run, device: torch.device, data: Row, **weights: int) -> None:
    """Add this start to provenance.json: images, machine, numbers of weights: the supernet's, those SGD updates."""
    run.write_provenance(data=data, device=str(device), threads=torch.get_num_threads(), **weights)


def choose(
    params: SearchParams, problem: Classification, data: Splits, state: State, log: Log, truth: TruthFile
) -> Genotype:
    """Return the cell of the last epoch's alpha or, if there are candidates, the best of their ranking.

    timings.csv and truth.csv record the ranking as one more epoch after the last.
    """
    if not params.candidates:
        return discretise(state.alpha, state.space)

    def validate(alpha: Tensor) -> tuple[float, float]:
        alpha = alpha.to(state.alpha)
        return accuracy(problem, state.weights.value(alpha), alpha, data.validation, params.batch_size)

    log.start_measuring()
    ranking = rank(params, state.space, validate)
    log.ranking(params.epochs + 1, [row for row, _ in ranking])
    truth.write({params.epochs + 1: ranking[0][1]})
    return ranking[0][1]


def draw_cell(params: SearchParams, run: Run, device: torch.device, space: SearchSpace) -> None:
    """Draw a cell instead of searching one: with standard normal alpha, edges and operations are equally likely."""
    describe(run, device, {"name": params.data})  # no image is read
    genotype = random_cell(space, params.search_seed, "random cell")
    run.write_text("genotype.json", genotype.to_json())
    TruthFile.of(run, space).write({0: genotype})
    run.add_provenance(peak_memory_mib=peak_memory(str(device)))
