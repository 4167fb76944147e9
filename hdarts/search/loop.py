"""One architecture search: step alpha along a hypergradient and the weights along the inner gradient.

    for each pair of batches (thesis algorithms 1 and 2):
        alpha <- Adam(alpha, d L_val / d alpha)       # the method's hypergradient at the current weights
        weights <- SGD(weights, d L_train / d weights)

All randomness is a function of (seed, purpose, epoch, step), and a checkpoint is complete: a search that was killed
anywhere and started again ends bit for bit like an uninterrupted one (CPU, same number of threads). The test set is
never opened here.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from hdarts.data import Batches, Splits
from hdarts.hypernetwork import ByKind
from hdarts.params import SearchParams, identity
from hdarts.params.schedule import cosine
from hdarts.runs import checkpoint
from hdarts.runs.checkpoint import CheckpointClock, last_checkpoint
from hdarts.runs.device import to_device, use_machine
from hdarts.runs.lock import exclusive
from hdarts.runs.memory import explaining_full_memory, naming_a_batch_that_fits, peak_memory
from hdarts.runs.processes import SINGLE, Processes
from hdarts.runs.progress import progress
from hdarts.runs.run import Run, tidy
from hdarts.runs.tensorboard import Write, event_files
from hdarts.search.custom import NAMED, Parts
from hdarts.search.fit import require_fit
from hdarts.search.log import Log
from hdarts.search.perturbation import decide, tuning_rate
from hdarts.search.ranking import random_cell, rank
from hdarts.search.result import finish as finish_run
from hdarts.search.rollback import copies, decayed, remove_old_copies, roll_back
from hdarts.search.setup import batches, epoch_steps, load_splits
from hdarts.search.stages import StagePlan, stage_at, stages_of
from hdarts.search.start import Given, start_stage
from hdarts.search.state import State, save
from hdarts.search.steps import Method, Phases, part_of, phases, training_alpha, try_step
from hdarts.search.stopping import before_the_rise, is_last, recorded_alpha, stage_ends
from hdarts.search.truth import TruthFile
from hdarts.search.validation import accuracy, measure_epoch
from hdarts.search.weights import Batch, Step
from hdarts.space import SPACES, Genotype, SearchSpace

Row = dict[str, Any]


def search(
    params: SearchParams,
    run: Run,
    *,
    data: Splits | None = None,
    supernet: Any = None,
    hypernetwork: ByKind | None = None,
    hypergradient: Method | None = None,
    parts: Parts = NAMED,
    processes: Processes = SINGLE,
    finish: bool = True,
    stop: threading.Event | None = None,
) -> Iterator[Row]:
    """Search and yield one row of metrics per epoch; a run that is done yields its recorded rows.

    User-defined objects replace what the parameters describe: `data` (with a validation part), `supernet` (a pure
    function like hdarts.supernet; its space is searched), `hypernetwork` (for method hypernetwork) and `hypergradient`,
    a function (problem, weights, alpha, inner batch, outer batch, learning rate) -> Hypergradient, where the learning
    rate is a scalar tensor. `parts` has user-defined replaceable parts (hdarts.search.custom).

    With several `processes` (hdarts.runs.processes), each calls this and computes its share of every batch.

    Writes metrics.csv, hypergradients.csv, alpha.csv, timings.csv, checkpoints, genotype.json, provenance.json and, in
    the space of NAS-Bench-201 if its table is installed, truth.csv, which no search reads. At the end
    `finish` writes result.json; a notebook that still draws figures passes False and calls `hdarts.search.finish` last.
    Raises ParameterError before any work, FloatingPointError if a loss, gradient or alpha is not finite, Stopped once
    the state is saved after a signal or, in a thread, after another one has set `stop`, OutOfMemory with a batch size
    that fits.
    """
    if run.done:
        yield from run.table("metrics").to_dict("records")
        if processes.is_main:
            tidy(params, run.folder)  # the process may have been killed right after it wrote the result
        return
    device = use_machine(params)
    with exclusive(run.folder) if processes.is_main else contextlib.nullcontext():
        if params.method == "random":
            draw_cell(params, run, device, supernet.space if supernet else SPACES[params.space])
        else:
            data, supernet, hypernetwork = (to_device(part, device) for part in (data, supernet, hypernetwork))
            given = Given(device, supernet, hypernetwork, hypergradient, parts, processes)
            with explaining_full_memory():
                yield from _search(params, run, data, given, stop)
        if finish and processes.is_main:
            finish_run(params, run)


def _search(
    params: SearchParams, run: Run, data: Splits | None, given: Given, stop: threading.Event | None
) -> Iterator[Row]:
    processes = given.processes
    events = event_files(run.folder, params.tensorboard and processes.is_main)
    clock = CheckpointClock(params, processes.agree if processes.world > 1 else None, stop)
    with events as write, clock.listening():
        with processes.main_first():  # it downloads images and renames a damaged checkpoint
            data = data or load_splits(params, given.device)
            data.require_parts("validation")
            saved = checkpoint.load(run.folder, identity(params))
        yield from Loop(params, run, data, given, clock, saved, write).epochs()


class Loop:
    """The epochs of a search, from its start or from what was `saved`; problem, state and batches are of one stage."""

    def __init__(
        self,
        params: SearchParams,
        run: Run,
        data: Splits,
        given: Given,
        clock: CheckpointClock,
        saved: dict[str, Any] | None,
        write: Write,
    ):
        self.params, self.run, self.data, self.given, self.clock = params, run, data, given, clock
        self.stages = stages_of(params)[saved.get("stage", 0) if saved else 0 :]
        self.start(self.stages[0], saved=saved)
        if given.supernet is not None or given.parts != NAMED:
            require_fit(params, self.problem, self.state, data)
        self.log = Log.resume(run, self.state, write)
        self.truth = TruthFile.of(run, self.state.space, given.processes, given.parts)
        kept = {name: t.numel() for name, t in self.state.weights.tensors().items()}
        trained = sum(n for name, n in kept.items() if "velocity" not in name and name != "adjoint")
        weights = {"supernet_weights": self.problem.supernet.n_w, "trained_weights": trained}
        describe(run, given.device, data.summary(), **weights)

    def start(self, stage: StagePlan, before: State | None = None, saved: dict[str, Any] | None = None) -> None:
        """Begin a stage, after the state `before`, or go on with what was `saved` in it."""
        self.stage, self.levels = stage, batches(self.params, self.data, stage.levels)
        self.problem, self.state = start_stage(self.params, stage, self.data, self.given, before, saved)

    def epochs(self) -> Iterator[Row]:
        """Run the remaining epochs of all stages, yield the row of each, and write the cell that was found."""
        params, run, log = self.params, self.run, self.log
        for stage in self.stages:
            if stage is not self.stage:
                self.start(stage, before=self.state)
            state, phase = self.state, None
            while True:
                if state.step == 0 and roll_back(params, run, state, log, self.clock):
                    phase = None
                if state.step == 0 and stage.start < state.epoch and stage_ends(params, stage, state, log.tables):
                    break
                if stage.tuning and state.step == 0:
                    decide(params, self.problem, self.data, stage, state, log)
                if phase is None:
                    state.weights.settings = decayed(params, state)
                    phase = phases(params, self.problem, state, self.given.hypergradient)
                self.epoch(phase)
                yield self.end_epoch()
        run.write_text("genotype.json", self.choose().to_json())
        run.add_provenance(peak_memory_mib=peak_memory(str(self.given.device)))

    def epoch(self, phase: Phases) -> None:
        """Take the remaining iterations of an epoch: hypergradient, alpha step, weight step; save when that is due."""
        params, stage, state, clock = self.params, self.stage, self.state, self.clock
        frozen = state.epoch < params.frozen_epochs or state.epoch - stage.start < stage.warmup_epochs
        step_weights = phase.weight_step if weight_rate(params, state.epoch) > 0 else phase.loss
        state.start_epoch(params, stage)
        steps = epoch_steps(params, *(len(level.images) for level in self.levels))
        began = time.perf_counter() - state.seconds
        label = f"{params.slug()} epoch {state.epoch + 1}/{params.all_epochs}"
        batches_left = pairs(params, self.levels, stage, state, steps)
        for inner, outer, *more in progress(batches_left, steps - state.step, label):
            rate = weight_rate(params, state.epoch, state.step / steps)
            state.start_step(params, rate)
            at, noise = training_alpha(params, state)
            outer = state.with_draw(params, outer, "inner" if stage.levels == "one" else "outer")
            step_on_batch = partial(take_weight_step, params, state, step_weights, inner, at, noise)
            attempt = partial(try_step, params, state, phase, inner, outer, (at, noise))
            alone = attempt if state.processes.world == 1 else None
            with locating_errors(self.run, state), naming_a_batch_that_fits(params.batch_size, alone):
                logged = state.steps_done(steps) % params.log_every == 0
                together = params.order == "together" or stage.levels == "one"
                step = step_on_batch() if params.order == "weights-first" and not together else None
                if logged or not frozen or params.method == "amortised-adjoint":  # which learns in each step
                    find = phase.hypergradient if logged else phase.unlogged
                    hypergradient = find(state.with_draws(params, inner, more), outer)
                    if logged:
                        self.log.hypergradient(state, hypergradient, rate, steps)
                    if together:  # both gradients are taken before either step
                        step = step_on_batch()
                    if not frozen:
                        phase.alpha_step(part_of(hypergradient, params.part))
                state.count(step or step_on_batch(), len(inner[1]))
            state.seconds = time.perf_counter() - began
            clock.agree()
            if (state.step < steps or clock.requested) and clock.due_in_epoch():
                self.log.write("hypergradients")
                save(self.run, params, state, clock)
        state.check()  # waits for a GPU
        state.seconds = time.perf_counter() - began

    def end_epoch(self) -> Row:
        """Measure the accuracy, write the tables, save if that is due, and return the row of the epoch."""
        params, state, log = self.params, self.state, self.log
        log.start_measuring()
        log.alpha(state, state.epoch + 1)
        last = is_last(params, state, state.epoch + 1, log.tables)
        measured = measure_epoch(params, self.problem, state, self.data, last)
        row = log.end_epoch(state, weight_rate(params, state.epoch), measured)
        last = last or before_the_rise(params, log.tables) is not None
        if not params.candidates:  # candidates are ranked at the end only
            self.truth.write()
        state.start_next_epoch()
        names = copies(params, state.epoch)
        if names or self.clock.due_after(state.epoch, state.epoch if last else 0):
            save(self.run, params, state, self.clock, *names)
            remove_old_copies(params, self.run, state.epoch)
        return row

    def choose(self) -> Genotype:
        """Return the cell of the last epoch's alpha or, if there are candidates, the best of their ranking.

        If the eigenvalue stopped the search, it is the cell from before its rise.

        timings.csv and truth.csv record the ranking as one more epoch after the last.
        """
        params, state, tables = self.params, self.state, self.log.tables
        if (epoch := before_the_rise(params, tables)) is not None:
            return state.selection(state.relaxation.strength(recorded_alpha(state, epoch, tables)), state.space)
        if not params.candidates:
            return state.cell()

        def validate(alpha: Tensor) -> tuple[float, float]:
            alpha = alpha.to(state.alpha)
            return accuracy(self.problem, state.weights.value(alpha), alpha, self.data.validation, params.batch_size)

        self.log.start_measuring()
        ranking = rank(params, state.space, validate)
        self.log.ranking(params.epochs + 1, [row for row, _ in ranking])
        self.truth.write({params.epochs + 1: ranking[0][1]})
        return ranking[0][1]


def pairs(
    params: SearchParams, levels: tuple[Batches, Batches], stage: StagePlan, state: State, steps: int
) -> Iterator[tuple[Batch, ...]]:
    """Return the remaining pairs of inner and outer batches of an epoch of `steps`.

    With one level both batches are the same. With `fresh_batches`, further training batches follow, one for each
    further term of a Neumann series; they are shuffled independently.
    """
    inner, outer = (
        level.repeated(params.search_seed, name, state.epoch, state.step)
        for name, level in zip(("inner", "outer"), levels, strict=True)
    )
    fresh = [
        levels[0].repeated(params.search_seed, f"term {term}", state.epoch, state.step)
        for term in range(1, params.terms if params.fresh_batches else 1)
    ]
    both = ((one, one) for one in inner) if stage.levels == "one" else zip(inner, outer, *fresh, strict=False)
    return islice(both, steps - state.step)


def take_weight_step(
    params: SearchParams, state: State, step: Callable[..., Step], batch: Batch, alpha: Tensor, noise: Tensor
) -> Step:
    """Step the weights on a batch, with the batch's random draw at the current alpha."""
    return step(state.with_draw(params, batch, "inner"), alpha, noise)


def weight_rate(params: SearchParams, epoch: int, done: float = 0.0) -> float:
    """Return the learning rate of the weights: a cosine over the epochs in which they learn, then 0.

    It changes by epoch or, with `schedule` step, with the fraction of the epoch that is `done`. Each stage has its own
    cosine. With `schedule_epochs` there is one of that length for all epochs, such as 50 epochs of one of 100.
    A local search (`global_epochs` 0, thesis algorithm 2) steps alpha and weights in all epochs. A global one (thesis
    4.4.3) first trains the hypernetwork on wide draws of alpha, with alpha frozen, then steps alpha alone.
    """
    stage = stage_at(params, epoch)
    if stage.tuning:
        return tuning_rate(params, epoch - stage.start + (done if params.schedule == "step" else 0.0), stage.epochs)
    learning = params.frozen_epochs or params.schedule_epochs or stage.epochs
    start = 0 if params.schedule_epochs else stage.start
    epoch = epoch - start
    now = epoch + (done if params.schedule == "step" else 0.0)
    return cosine(params.learning_rate, params.learning_rate_min, now, learning) if epoch < learning else 0.0


@contextlib.contextmanager
def locating_errors(run: Run, state: State) -> Iterator[None]:
    """Add the step, the norms of the state and the last checkpoint to the message of a FloatingPointError."""
    try:
        yield
    except FloatingPointError as error:
        norms = ", ".join(f"{name} {float(x.norm()):.3g}" for name, x in state.tensors().items())
        raise FloatingPointError(f"{state.position}: {error}; norms: {norms}; {last_checkpoint(run.folder)}") from None


def describe(run: Run, device: torch.device, data: Row, **weights: int) -> None:
    """Add this start to provenance.json: images, machine, and how many `weights` the supernet has and SGD updates."""
    run.write_provenance(data=data, device=str(device), threads=torch.get_num_threads(), **weights)


def draw_cell(params: SearchParams, run: Run, device: torch.device, space: SearchSpace) -> None:
    """Draw a cell instead of searching for one: with standard normal alpha, edges and operations are equally likely."""
    describe(run, device, {"name": params.data})  # no image is read
    genotype = random_cell(space, params.search_seed, "random cell")
    run.write_text("genotype.json", genotype.to_json())
    TruthFile.of(run, space).write({0: genotype})
    run.add_provenance(peak_memory_mib=peak_memory(str(device)))
