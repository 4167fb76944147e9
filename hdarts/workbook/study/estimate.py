"""Estimate what a study takes on this machine, in hours and memory, from a few steps measured for each kind of run.

Runs that differ only in parameters that do not change the cost, such as seeds and rates, share a cost key and are
measured once. The largest of each method is measured first; if time runs out, the others are scaled from the most
similar one.
"""

import json
import math
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch

from hdarts.data import DatasetInfo, count_batches
from hdarts.errors import ParameterError
from hdarts.params import EvaluateParams, SearchParams
from hdarts.runs.limits import cores
from hdarts.runs.randomness import generator
from hdarts.search import epoch_steps
from hdarts.space import SPACES, Genotype, discretise
from hdarts.train import read_genotype
from hdarts.workbook.study import PlannedRun, runner
from hdarts.workbook.study.flops import flops_of_run, flops_of_steps
from hdarts.workbook.study.images import info_of
from hdarts.workbook.study.probe import Probe, StepCost, free_memory, measure_step

TOTAL, EACH = 60, 10  # seconds for all measurements, and for each
NOTEBOOK = 20  # seconds for the kernel, the imports and the figures of a notebook, on a core of 2026
KERNEL = 250  # MiB of a kernel in addition to its loop: Jupyter and figures
EIGENVALUE = 20  # an eigenvalue takes as long as this many hypergradients

# parameters that do not change the cost of a step, or hardly
FREE = SearchParams.not_identifying - {"device", "threads"} | {
    *("search_seed", "evaluation_seed", "split_seed", "genotype", "data", "data_folder", "limit", "test_limit"),
    *("image_channels", "validation_part", "test_fraction"),
    *("image_size", "validation_fraction", "epochs", "schedule_epochs", "learning_rate", "learning_rate_min"),
    *("momentum", "weight_decay", "clip", "part", "alpha_learning_rate", "alpha_beta1", "alpha_beta2"),
    *("alpha_weight_decay", "alpha_scale", "epsilon", "damping", "candidates", "initialisation", "noise"),
    *("global_epochs", "global_scale", "stop_when_skips", "discretise_epochs", "eigenvalue_epochs", "log_every"),
    *(
        "drop_last",
        "order",
        "nesterov",
        "schedule",
        "auxiliary",
        "drop_path",
        "class_weights",
        "warmup_epochs",
        "temperature",
    ),
    *("outer_term", "outer_weight", "outer_target", "alpha_step", "alpha_epsilon", "alpha_clip", "perturbation"),
    *("stop_when_stable", "stop_when_eigenvalue_grows", "max_skips", "threshold", "tuning_epochs", "selection"),
    *("decay_growth", "most_weight_decay"),
}


@dataclass(frozen=True)
class Estimate:
    """One row per stage of a study, and notes on how it was estimated."""

    table: pd.DataFrame
    notes: list[str]


def estimate(runs: Sequence[PlannedRun], jobs: int) -> Estimate:
    """Measure for at most about `TOTAL` seconds, and estimate the runs that are not done, `jobs` at a time.

    Raises `ParameterError` if the images of a run are missing; writes and downloads nothing.
    """
    threads = max(1, cores() // jobs)
    todo = [run for run in runs if runner.outcome_of(run.folder).state != "done"]
    probes = make_probes(runs, todo, threads)
    by_key = {cost_key(probe): probe for probe in probes.values()}
    sizes = ((cost_key(probes[run.name]), runner.length(run)) for run in todo if run.name in probes)
    known = measure_some(order := measuring_order(sizes), by_key)
    counted = count_some(order, by_key)
    rows = [(run.stage, *_run_cost(probe := probes.get(run.name), known), _flops(probe, counted)) for run in todo]
    costs = pd.DataFrame(rows, columns=["stage", "seconds", "GiB", "FLOP"])
    costs = costs.astype({"seconds": float, "GiB": float, "FLOP": float})
    return Estimate(_table(runs, costs), _notes(costs, by_key, known, threads, jobs))


def _run_cost(probe: Probe | None, known: Mapping[str, StepCost]) -> tuple[float, float]:
    """Return seconds and GiB of a run, NaN if unknown; without a probe, those of its notebook alone."""
    if probe is None:
        return NOTEBOOK, KERNEL / 1024
    key = cost_key(probe)
    if (step := known.get(key) or scaled(key, known)) is None:
        return math.nan, math.nan
    times = repetitions(probe.params, probe.images)
    seconds = sum(times[phase] * each for phase, each in step.seconds.items())
    return NOTEBOOK + seconds, (KERNEL + step.memory + _image_memory(probe.images)) / 1024


def count_some(ordered: Iterable[str], by_key: Mapping[str, Probe]) -> dict[str, dict[tuple[int, str], int]]:
    """Count the operations of the steps of one cost key after another while there is time."""
    end, counted = time.monotonic() + TOTAL, {}
    for key in ordered:
        if time.monotonic() > end:
            break
        counted[key] = flops_of_steps(*by_key[key][:3])
    return counted


def _flops(probe: Probe | None, counted: Mapping[str, Mapping[tuple[int, str], int]]) -> float:
    """Return the operations of a run, NaN if they were not counted; without a probe, 0."""
    if probe is None:
        return 0.0
    steps = counted.get(cost_key(probe))
    return math.nan if steps is None else flops_of_run(probe.params, probe.images, steps=steps)


def make_probes(runs: Sequence[PlannedRun], todo: Iterable[PlannedRun], threads: int) -> dict[str, Probe]:
    """Return a probe for each run that searches or trains, by run name."""
    by_name, infos = {run.name: run for run in runs}, dict[str, DatasetInfo]()
    probes = {}
    for run in todo:
        p = run.params
        if not isinstance(p, SearchParams | EvaluateParams) or getattr(p, "method", "") == "random":
            continue
        try:
            info = info_of(p, infos)
        except ParameterError as error:
            raise ParameterError(f"run {run.name}: {error}") from None
        cell = cell_of(run, by_name) if isinstance(p, EvaluateParams) else None
        probes[run.name] = Probe(p, info, cell, p.threads or threads)
    return probes


def cell_of(run: PlannedRun, by_name: Mapping[str, PlannedRun]) -> Genotype:
    """Return the cell of an evaluation or, if its search is not done, a random cell of its space."""
    assert isinstance(run.params, EvaluateParams)
    try:
        return read_genotype(run.params.genotype)
    except ParameterError:
        space = SPACES[_space(run, by_name) or "darts"]
        return discretise(torch.randn(space.alpha_shape, generator=generator(0, "estimate")), space)


def _space(run: PlannedRun, by_name: Mapping[str, PlannedRun]) -> str:
    if isinstance(run.params, SearchParams):
        return run.params.space
    return next((space for need in run.needs if need in by_name and (space := _space(by_name[need], by_name))), "")


def cost_key(probe: Probe) -> str:
    """Return everything that the cost of a step depends on, as JSON."""
    p = probe.params
    space = p.space if isinstance(p, SearchParams) else probe.cell and probe.cell.space.name
    more = {"stage": p.stage, "space": space, "shape": probe.images.shape, "classes": probe.images.classes}
    return json.dumps({**p.model_dump(exclude=set(FREE)), **more, "threads": probe.threads}, sort_keys=True)


def measuring_order(sizes: Iterable[tuple[str, float]]) -> list[str]:
    """Return the cost keys in measuring order: the largest of each method, then the second of each, ..."""
    totals = Counter[str]()
    for key, size in sizes:
        totals[key] += size  # type: ignore[assignment]
    ranked, seen = [], Counter()
    for key, _ in totals.most_common():
        values = json.loads(key)
        method = values["stage"], values.get("method"), values.get("hypernetwork")
        ranked.append((seen[method], key))
        seen[method] += 1
    return [key for _, key in sorted(ranked, key=lambda pair: pair[0])]


def measure_some(ordered: Iterable[str], by_key: Mapping[str, Probe]) -> dict[str, StepCost]:
    """Measure one cost key after another while there is time; leave out those that failed."""
    end, known = time.monotonic() + TOTAL, {}
    for key in ordered:
        if time.monotonic() + EACH > end:
            break
        if isinstance(cost := measure_step(by_key[key], EACH), StepCost):
            known[key] = cost
    return known


def scaled(key: str, known: Mapping[str, StepCost]) -> StepCost | None:
    """Return the cost of the most similar measured key of the same stage, scaled by the size of a step."""
    wanted = json.loads(key)
    others = {other: values for other in known if (values := json.loads(other))["stage"] == wanted["stage"]}
    if not others:
        return None
    nearest = min(others, key=lambda other: sum(wanted[name] != others[other][name] for name in wanted))
    ratio, cost = _step_size(wanted) / _step_size(others[nearest]), known[nearest]
    return StepCost({name: ratio * each for name, each in cost.seconds.items()}, max(1, ratio) * cost.memory, 0)


def _step_size(values: Mapping[str, Any]) -> float:
    pixels = math.prod(values["shape"][1:]) / (64 if values["stem"] == "imagenet" else 1)
    return values["batch_size"] * values["layers"] * values["channels"] * pixels


def repetitions(p: SearchParams | EvaluateParams, images: DatasetInfo) -> dict[str, float]:
    """Return how often a run repeats each phase."""
    if isinstance(p, EvaluateParams):
        steps = p.epochs * count_batches(images.train, p.batch_size, drop_last=False)
        return {"weight_step": steps, "accuracy": p.epochs * images.test / p.batch_size}
    steps = epoch_steps(p, images.train, images.validation)
    batches = math.ceil(images.validation / p.batch_size)
    tuning, space = p.all_epochs - p.epochs, SPACES[p.space]
    weight_epochs, alpha_epochs = (p.frozen_epochs or p.epochs) + tuning, p.all_epochs - p.frozen_epochs
    validations = p.all_epochs + (p.candidates or p.all_epochs // (p.discretise_epochs or math.inf))
    validations += math.prod(space.alpha_shape) if tuning else 0  # selection perturbation: once without each operation
    alpha_steps = alpha_epochs * steps + p.frozen_epochs * steps / p.log_every
    return {
        "alpha_step": alpha_steps + EIGENVALUE * (p.all_epochs // (p.eigenvalue_epochs or math.inf)),
        "weight_step": weight_epochs * steps,
        "accuracy": validations * batches + (p.all_epochs - weight_epochs) * steps,
    }


def _image_memory(images: DatasetInfo) -> float:
    """Return the MiB of a set's images, one byte per value."""
    return (images.train + images.validation + images.test) * math.prod(images.shape) / 2**20


def _table(runs: Sequence[PlannedRun], costs: pd.DataFrame) -> pd.DataFrame:
    """Return one row per stage; runs of unknown cost, which the notes count, add no hours."""
    columns = {"to do": ("GiB", "size"), "hours": ("seconds", "sum"), "PFLOP": ("FLOP", "sum")}
    columns |= {"GiB of the largest": ("GiB", "max")}
    table = costs.groupby("stage").agg(**columns).reindex(list(dict.fromkeys(run.stage for run in runs))).fillna(0)
    table["hours"] /= 3600
    table["PFLOP"] = (table["PFLOP"] / 1e15).map("{:.3g}".format)  # from tiny to huge
    table = table.astype({"to do": int}).round({"hours": 2, "GiB of the largest": 1})
    return table.rename_axis("stage").reset_index()


def _notes(
    costs: pd.DataFrame, by_key: Mapping[str, Probe], known: Mapping[str, StepCost], threads: int, jobs: int
) -> list[str]:
    estimated, notes = costs.dropna(subset=["seconds"]), []
    if len(estimated):
        hours, longest = (float(seconds) / 3600 for seconds in estimated["seconds"].agg(["sum", "max"]))
        memory, free = estimated.nlargest(jobs, "GiB")["GiB"].sum(), free_memory() / 2**30
        notes.append(
            f"about {hours:.2g} hours of computing; {jobs} at a time: {max(hours / jobs, longest):.2g} hours and up to "
            f"{memory:.1f} GiB, of which {free:.1f} GiB are free now"
        )
    if missing := len(costs) - len(estimated):
        notes.append(f"not included: {missing} runs, whose steps exceed {EACH} s or the free memory")
    if uncounted := len(costs) - len(costs.dropna(subset=["FLOP"])):
        notes.append(f"PFLOP: without {uncounted} runs, whose steps could not be counted in {TOTAL} s")
    if by_key:
        smaller = sum(cost.batch < by_key[key].params.batch_size for key, cost in known.items())
        notes.append(
            f"measured: steps of {len(known)} of {len(by_key)} kinds of runs on noise, one at a time, {threads} "
            f"threads; {smaller} of them on smaller batches and extrapolated linearly; the others are scaled from the "
            "most similar kind by batch size, cells, channels and pixels"
        )
    notes.append(
        f"each run includes {NOTEBOOK} s for its kernel and figures; not included: reading images, checkpoints, and "
        "what notebooks compute besides searching and training"
    )
    return notes
