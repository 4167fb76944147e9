"""One architecture search: step alpha along a hypergradient, step the weights along the inner gradient, every batch.

    for each pair of batches (thesis algorithms 1 and 2):
        alpha <- Adam(alpha, d L_val / d alpha)       # the method's hypergradient at the current weights
        weights <- SGD(weights, d L_train / d weights)

`search` is a generator that yields one row an epoch. All its randomness is a function of (seed, purpose, epoch, step),
and its checkpoint is complete: killed anywhere and started again, it ends bit for bit where an undisturbed run ends
(CPU, same number of threads). The test set is never opened here.
"""

import contextlib
import math
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from hdarts.bilevel import Hypergradient
from hdarts.data import Batches, Splits
from hdarts.hypernetwork import ByKind
from hdarts.kernels.compiler import compiler
from hdarts.params import SearchParams, identity
from hdarts.runs import checkpoint
from hdarts.runs.checkpoint import CheckpointClock, last_checkpoint, tidy
from hdarts.runs.cuda_graph import CudaGraph, host_may_read
from hdarts.runs.device import use_machine
from hdarts.runs.lock import exclusive
from hdarts.runs.memory import naming_a_batch_that_fits, peak_memory
from hdarts.runs.progress import progress
from hdarts.runs.randomness import generator
from hdarts.runs.run import Run
from hdarts.runs.schedule import cosine
from hdarts.runs.tensorboard import Write, event_files
from hdarts.search.log import Log
from hdarts.search.ranking import random_cell, rank
from hdarts.search.setup import batches, load_splits, make_hypergradient, make_supernet
from hdarts.search.state import State, save
from hdarts.search.truth import TruthFile
from hdarts.search.validation import accuracy, measure_epoch
from hdarts.search.weights import Batch, Classification, Step
from hdarts.space import SPACES, Genotype, SearchSpace, discretise, one_hot_alpha, skip_count

Row = dict[str, Any]


def search(
    params: SearchParams,
    run: Run,
    *,
    data: Splits | None = None,
    supernet: Any = None,
    hypernetwork: ByKind | None = None,
    hypergradient: Any = None,
) -> Iterator[Row]:
    """Search as `params` say and yield a row of metrics an epoch; a run that is done yields its rows again.

    Own parts can be passed as objects: `data` (with a validation part), `supernet` (pure, as hdarts.supernet; its space
    is searched, not that of the parameters),
    `hypernetwork` (used when params.method is hypernetwork), and `hypergradient`, a function
    (problem, weights, alpha, inner batch, outer batch, learning rate) -> Hypergradient.

    Writes metrics.csv, hypergradients.csv, alpha.csv, timings.csv, checkpoints, genotype.json, result.json and, where
    the table of NAS-Bench-201 is there and the space is its own, truth.csv, which nothing depends on. Raises
    ParameterError before any work, FloatingPointError when a loss, gradient or alpha is not finite, Stopped after a
    signal asked for an end and the state was saved, OutOfMemory naming a batch that fits.
    """
    if run.done:
        yield from run.table("metrics").to_dict("records")
        tidy(params, run.folder)  # it may have been killed right after its result
        return
    device = use_machine(params)
    if params.method == "random":
        _finish_random(params, run, supernet.space if supernet else SPACES[params.space])
        return
    events = event_files(run.folder, params.tensorboard)
    with exclusive(run.folder), events as write, CheckpointClock(params).listening() as clock:
        yield from _search(params, run, clock, write, device, data, supernet, hypernetwork, hypergradient)


def _search(
    params: SearchParams,
    run: Run,
    clock: CheckpointClock,
    events: Write,
    device: torch.device,
    data: Splits | None,
    supernet: Any,
    hypernetwork: ByKind | None,
    hypergradient: Any,
) -> Iterator[Row]:
    data = data or load_splits(params, device)
    problem = Classification(supernet or make_supernet(params, data), params.precision)
    state = State.fresh(params, problem.supernet, hypernetwork, device)
    state.restore(checkpoint.load(run.folder, identity(params)))
    hypergradient = hypergradient or make_hypergradient(params)
    inner, outer = batches(params, data)
    steps = min(len(inner), len(outer))  # a step takes a pair; the longer part gives what the shorter has
    log, truth = Log.resume(run, state, events), TruthFile.of(run, state.space)
    threads = torch.get_num_threads()
    run.write_provenance(
        data=data.summary(), c_compiler=compiler(), device=str(device), threads=threads, **counts(problem, state)
    )

    while not (state.step == 0 < state.epoch and ends_with(params, state, state.epoch)):
        epoch = state.epoch
        rate, moves = weight_rate(params, epoch), epoch >= params.frozen_epochs
        find, move, learn = phases(problem, state, hypergradient, rate)
        log.start_epoch()
        for inner_batch, outer_batch in pairs(params, inner, outer, state):
            near = around(params, state)
            attempt = partial(try_step, find, learn, inner_batch, outer_batch, near)
            with named(run, state), naming_a_batch_that_fits(params.batch_size, attempt):
                if (logged := state.steps_done(steps) % params.log_every == 0) or moves:
                    found = Hypergradient(*find(*inner_batch, *outer_batch))
                    if logged:
                        log.hypergradient(state, found, rate, steps)
                    if moves:
                        move(part_of(found, params.part))
                state.count(Step(*learn(*inner_batch, *near)), len(inner_batch[1]))
            if (state.step < steps or clock.asked) and clock.due_in_epoch():
                log.write("hypergradients")
                save(run, params, state, clock)

        state.check()
        last = ends_with(params, state, epoch + 1)
        row = log.end_epoch(state, rate, measure_epoch(params, problem, state, data, last))
        if not params.candidates:  # those rank their cells at the end only
            truth.write()
        state.start_next_epoch()
        if clock.due_after(epoch + 1, epoch + 1 if last else params.epochs):
            save(run, params, state, clock, keep=epoch + 1 in params.keep_epochs)
        yield row

    finish(params, run, state, problem, choose(params, state, problem, data, log, truth))


def pairs(params: SearchParams, inner: Batches, outer: Batches, state: State) -> Iterator[tuple[Batch, Batch]]:
    """Yield the pairs of batches that are left of the epoch, and show how far it is."""
    left = zip(
        inner.epoch(params.search_seed, "inner", state.epoch, state.step),
        outer.epoch(params.search_seed, "outer", state.epoch, state.step),
        strict=False,
    )
    count = min(len(inner), len(outer)) - state.step
    yield from progress(left, count, f"{params.slug()} epoch {state.epoch + 1}/{params.epochs}")


def weight_rate(params: SearchParams, epoch: int) -> float:
    """Return the learning rate of the weights, a cosine over the epochs in which they learn, 0 once they rest.

    With `schedule_epochs` a search takes the first part of a longer cosine: 50 epochs of one of 100.
    A local search (`global_epochs` 0, thesis algorithm 2) steps alpha and weights in all epochs. A global one (report
    4.4.3) first trains the hypernetwork on wide draws of alpha, while alpha rests, then steps alpha alone.
    """
    learning = params.frozen_epochs or params.schedule_epochs or params.epochs
    return cosine(params.learning_rate, params.learning_rate_min, epoch, learning) if epoch < learning else 0.0


def phases(problem: Classification, state: State, hypergradient: Any, rate: float) -> tuple[CudaGraph, ...]:
    """Return the three phases of a step in an epoch: find the hypergradient, move alpha, learn the weights.

    find(x, y of the inner batch, x, y of the outer) -> direct, response; move(gradient); learn(x, y, alpha, noise) ->
    `Step`. Where the learning rate is 0 the weights are only looked at.
    """

    def find(inner_x: Tensor, inner_y: Tensor, outer_x: Tensor, outer_y: Tensor) -> tuple[Tensor, Tensor]:
        at = (problem, state.weights, state.alpha)
        found = hypergradient(*at, (inner_x, inner_y), (outer_x, outer_y), rate)
        return found.direct, found.response

    def learn(x: Tensor, y: Tensor, alpha: Tensor, epsilon: Tensor) -> Step:
        if rate > 0:
            return state.weights.step(problem, alpha, (x, y), rate, epsilon)
        with torch.no_grad():
            loss, correct = problem.outcome(state.weights.value(state.alpha), state.alpha, (x, y))
        return Step(loss, correct, torch.zeros_like(loss))

    return CudaGraph(find), CudaGraph(lambda gradient: step_alpha(state, gradient)), CudaGraph(learn)


def around(params: SearchParams, state: State) -> tuple[Tensor, Tensor]:
    """Return where the weights learn, and the step's noise, both like alpha.

    That is the current alpha or, while a global hypernetwork learns, a wide draw: normal, of `global_scale`. Shared
    weights learn at a random cell.
    """
    shape, at = state.alpha.shape, (state.epoch, state.step)
    epsilon = torch.randn(shape, generator=generator(params.search_seed, "noise", *at)).to(state.alpha)
    if state.epoch >= params.frozen_epochs:
        return state.alpha, epsilon
    if params.method == "shared-weights":
        return one_hot_alpha(random_cell(state.space, params.search_seed, "global", *at)).to(state.alpha), epsilon
    draw = torch.randn(shape, generator=generator(params.search_seed, "global", *at))
    return params.global_scale * draw.to(state.alpha), epsilon


def try_step(
    find: CudaGraph, learn: CudaGraph, inner: Batch, outer: Batch, near: tuple[Tensor, Tensor], images: int
) -> None:
    """Do the work of a step on the first `images` of both batches: does it fit into memory?"""
    few = [part[:images] for part in inner]
    find.function(*few, *(part[:images] for part in outer))
    learn.function(*few, *near)


def part_of(found: Hypergradient, part: str) -> Tensor:
    """Return the part of a hypergradient that steps alpha: total, response (thesis eq. 22) or direct."""
    return {"total": found.total, "response": found.response, "direct": found.direct}[part]


def step_alpha(state: State, gradient: Tensor) -> None:
    """Take one Adam step on alpha and tell the weights how far it moved."""
    if host_may_read(gradient) and not bool(torch.isfinite(gradient).all()):  # on a GPU: State.check
        raise FloatingPointError("the hypergradient is not finite")
    before = state.alpha.clone()
    state.alpha.grad = gradient
    state.adam.step()
    if host_may_read(gradient) and not bool(torch.isfinite(state.alpha).all()):
        raise FloatingPointError("alpha is not finite after its step")
    state.weights.moved(state.alpha - before)


@contextlib.contextmanager
def named(run: Run, state: State) -> Iterator[None]:
    """Say where a number stopped being finite, how large alpha and the weights are, and where it goes on from."""
    try:
        yield
    except FloatingPointError as error:
        norms = ", ".join(f"{name} {float(x.norm()):.3g}" for name, x in state.tensors().items())
        raise FloatingPointError(f"{state.where}: {error}; norms: {norms}; {last_checkpoint(run.folder)}") from None


def ends_with(params: SearchParams, state: State, epoch: int) -> bool:
    """Whether `epoch` (1 is the first), just done, is the last one.

    `stop_when_skips` ends a search once the derived normal cell has so many skip connections (Liang et al., DARTS+).
    """
    skips = skip_count(discretise(state.alpha, state.space))
    moved = epoch > params.frozen_epochs
    return epoch == params.epochs or (moved and 0 < params.stop_when_skips <= skips)


def counts(problem: Classification, state: State) -> Row:
    """Return how many weights the supernet has and how many numbers SGD updates in its place."""
    updated = sum(t.numel() for name, t in state.weights.tensors().items() if "velocity" not in name)
    return {"supernet_weights": problem.supernet.n_w, "trained_weights": updated}


def choose(
    params: SearchParams, state: State, problem: Classification, data: Splits, log: Log, truth: TruthFile
) -> Genotype:
    """Return the cell of the last epoch's alpha or, where there are candidates, the best of their ranking.

    The ranking takes its time: in timings.csv and truth.csv it stands as the epoch after the last.
    """
    if not params.candidates:
        return discretise(state.alpha, state.space)

    def score(alpha: Tensor) -> tuple[float, float]:
        alpha = alpha.to(state.alpha)
        return accuracy(problem, state.weights.value(alpha), alpha, data.validation, params.batch_size)

    log.start_epoch()
    ranking = rank(params, state.space, score)
    log.ranking(params.epochs + 1, [row for row, _ in ranking])
    truth.write({params.epochs + 1: ranking[0][1]})
    return ranking[0][1]


def finish(params: SearchParams, run: Run, state: State, problem: Classification, genotype: Genotype) -> None:
    """Write genotype and result. The score is the best validation accuracy of the mixed operations."""
    metrics = run.table("metrics")
    best = metrics.loc[metrics["validation_accuracy"].idxmax()]
    run.write_text("genotype.json", genotype.to_json())
    result = {
        "method": params.method,
        "search_seed": params.search_seed,
        "data": params.data,
        "epochs": params.epochs,
        "epochs_done": state.epoch,
        "best_validation_accuracy": float(best["validation_accuracy"]),
        "best_epoch": int(best["epoch"]),
        "last_validation_accuracy": float(metrics["validation_accuracy"].iloc[-1]),
        "skips_normal": skip_count(genotype),
        "genotype": genotype.model_dump(),
        **counts(problem, state),
    }
    if math.isfinite(left := float(metrics["discretised_accuracy"].iloc[-1])):
        result["discretised_accuracy"] = left
    run.add_provenance(peak_memory_mib=peak_memory(str(state.alpha.device)))
    run.finish(result)
    tidy(params, run.folder)


def _finish_random(params: SearchParams, run: Run, space: SearchSpace) -> None:
    """Draw a cell instead of searching one: alpha standard normal, so every edge and operation is equally likely."""
    genotype = random_cell(space, params.search_seed, "random cell")
    run.write_text("genotype.json", genotype.to_json())
    TruthFile.of(run, space).write({0: genotype})
    run.write_provenance(data=params.data, c_compiler=compiler(), peak_memory_mib=peak_memory("cpu"))
    plain = {"method": params.method, "search_seed": params.search_seed, "data": params.data}
    run.finish({**plain, "skips_normal": skip_count(genotype), "genotype": genotype.model_dump()})
