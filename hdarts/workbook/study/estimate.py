"""What a study will take on this machine, in hours and memory, from a few steps measured for each kind of run.

Runs that differ only in what costs no time, such as seeds and rates, are one setting and measured once; the largest
setting of each method comes first. What the time does not suffice for is taken from the most similar setting.
"""

import json
import math
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import psutil
import torch

from hdarts.data import DatasetInfo, dataset_info
from hdarts.errors import ParameterError
from hdarts.params import EvaluateParams, SearchParams
from hdarts.runs.randomness import generator
from hdarts.space import SPACES, Genotype, discretise
from hdarts.train import read_genotype
from hdarts.workbook.study import PlannedRun, runner
from hdarts.workbook.study.probe import Probe, StepCost, measure_step

Row = dict[str, Any]
ALL, ONE = 60, 10  # seconds for all settings, and for one
NOTEBOOK = 20  # seconds for the kernel, the imports and the figures of a notebook, on a core of 2026
KERNEL = 250  # MiB of a kernel beside the loop: Jupyter and figures
EIGENVALUE = 20  # hypergradients that take as long as an eigenvalue

# what a step costs does not depend on these, or hardly
FREE = SearchParams.not_identifying - {"device", "threads"} | {
    *("search_seed", "evaluation_seed", "split_seed", "genotype", "data", "data_folder", "limit", "test_limit"),
    *("image_size", "validation_fraction", "epochs", "schedule_epochs", "learning_rate", "learning_rate_min"),
    *("momentum", "weight_decay", "clip", "part", "alpha_learning_rate", "alpha_beta1", "alpha_beta2"),
    *("alpha_weight_decay", "alpha_scale", "epsilon", "damping", "candidates", "initialisation", "noise"),
    *("global_epochs", "global_scale", "stop_when_skips", "discretise_epochs", "eigenvalue_epochs", "log_every"),
    *("auxiliary", "drop_path"),
}


@dataclass(frozen=True)
class Estimate:
    """The table of a study's stages, and sentences that say what it rests on."""

    table: pd.DataFrame
    notes: list[str]


def estimate(runs: Sequence[PlannedRun], jobs: int) -> Estimate:
    """Measure for at most about `ALL` seconds, and return what the runs that are not done will take, `jobs` at a time.

    Raises `ParameterError` where the images of a run are not there; writes and downloads nothing.
    """
    threads = max(1, runner.cores() // jobs)
    todo = [run for run in runs if runner.outcome_of(run.folder).state != "done"]
    probes = make_probes(runs, todo, threads)
    settings = {setting(probe): probe for probe in probes.values()}
    known = measure_some(order((setting(probes[r.name]), runner.length(r)) for r in todo if r.name in probes), settings)
    costs: list[Row] = []
    for run in todo:
        probe = probes.get(run.name)
        cost = StepCost({}, 0, 0) if probe is None else known.get(setting(probe)) or similar(setting(probe), known)
        seconds, memory = math.nan, math.nan
        if cost is not None:
            times = repetitions(probe.params, probe.images) if probe else {}
            seconds = NOTEBOOK + sum(times[part] * each for part, each in cost.seconds.items())
            memory = KERNEL + cost.memory + (0 if probe is None else _images(probe.images))
        costs.append({"stage": run.stage, "seconds": seconds, "GiB": memory / 1024})
    return Estimate(_table(runs, costs), _notes(costs, settings, known, threads, jobs))


def make_probes(runs: Sequence[PlannedRun], todo: Iterable[PlannedRun], threads: int) -> dict[str, Probe]:
    """Return what is to be measured for each run that searches or trains, by the names of the runs."""
    named, infos = {run.name: run for run in runs}, dict[tuple, DatasetInfo]()
    probes = {}
    for run in todo:
        p = run.params
        if not isinstance(p, SearchParams | EvaluateParams) or getattr(p, "method", "") == "random":
            continue
        asked = (p.data, p.data_folder, p.limit, getattr(p, "validation_fraction", 0.0), p.image_size)
        if asked not in infos:
            try:
                infos[asked] = dataset_info(*asked)
            except ParameterError as error:
                raise ParameterError(f"run {run.name}: {error}") from None
        probes[run.name] = Probe(p, infos[asked], _cell(run, named), p.threads or threads)
    return probes


def _cell(run: PlannedRun, named: Mapping[str, PlannedRun]) -> Genotype:
    """The cell of an evaluation or, before it is found, a random one of its space."""
    if isinstance(run.params, EvaluateParams):
        try:
            return read_genotype(run.params.genotype)
        except ParameterError:
            pass
    space = SPACES[_space(run, named) or "darts"]
    return discretise(torch.randn(space.alpha_shape, generator=generator(0, "estimate")), space)


def _space(run: PlannedRun, named: Mapping[str, PlannedRun]) -> str:
    if isinstance(run.params, SearchParams):
        return run.params.space
    return next((found for need in run.needs if (found := _space(named[need], named))), "")


def setting(probe: Probe) -> str:
    """Return all that the cost of a step depends on, as JSON."""
    values = probe.params.model_dump(exclude=set(FREE))
    more = {"stage": probe.params.stage, "shape": probe.images.shape, "classes": probe.images.classes}
    return json.dumps({**values, **more, "space": probe.cell.space.name, "threads": probe.threads}, sort_keys=True)


def order(weighed: Iterable[tuple[str, float]]) -> list[str]:
    """Return the settings in the order in which they are measured: the largest of each method, then the second ..."""
    weights: Counter[str] = Counter()
    for one, weight in weighed:
        weights[one] += weight  # type: ignore[assignment]
    ranked, seen = [], Counter()
    for one, _ in weights.most_common():
        what = json.loads(one)
        method = what["stage"], what.get("method"), what.get("hypernetwork")
        ranked.append((seen[method], one))
        seen[method] += 1
    return [one for _, one in sorted(ranked, key=lambda pair: pair[0])]


def measure_some(ordered: Iterable[str], settings: Mapping[str, Probe]) -> dict[str, StepCost]:
    """Measure one setting after the other while there is time; those that told nothing are left out."""
    end, known = time.monotonic() + ALL, {}
    for one in ordered:
        if time.monotonic() + ONE > end:
            break
        if isinstance(found := measure_step(settings[one], ONE), StepCost):
            known[one] = found
    return known


def similar(wanted: str, known: Mapping[str, StepCost]) -> StepCost | None:
    """Return the cost of the measured setting that has most in common, in proportion to the size of a step."""
    mine = json.loads(wanted)
    others = {one: json.loads(one) for one in known}
    others = {one: other for one, other in others.items() if other["stage"] == mine["stage"]}
    if not others:
        return None
    nearest = min(others, key=lambda one: sum(mine[name] != others[one][name] for name in mine))
    ratio, cost = _size(mine) / _size(others[nearest]), known[nearest]
    return StepCost({part: ratio * each for part, each in cost.seconds.items()}, max(1, ratio) * cost.memory, 0)


def _size(one: Mapping) -> float:
    return one["batch_size"] * one["layers"] * one["channels"] * math.prod(one["shape"][1:])


def repetitions(p: SearchParams | EvaluateParams, images: DatasetInfo) -> dict[str, float]:
    """Return how often a run takes each part of a step.

    The test part is not opened to count it: without `test_limit` it is taken as a fifth of the training part.
    """
    if isinstance(p, EvaluateParams):
        test = p.test_limit or images.train / 5
        return {"learn": p.epochs * math.ceil(images.train / p.batch_size), "look": p.epochs * test / p.batch_size}
    steps, passed = min(images.train, images.validation) // p.batch_size, math.ceil(images.validation / p.batch_size)
    learning, moving = p.frozen_epochs or p.epochs, p.epochs - p.frozen_epochs
    looks = p.epochs + p.candidates + (0 if p.candidates else p.epochs // (p.discretise_epochs or math.inf))
    finds = moving * steps + p.frozen_epochs * steps / p.log_every
    return {
        "find": finds + EIGENVALUE * (p.epochs // (p.eigenvalue_epochs or math.inf)),
        "learn": learning * steps,
        "look": looks * passed + (p.epochs - learning) * steps,
    }


def _images(images: DatasetInfo) -> float:
    """MiB of a set in memory, as bytes."""
    return (images.train + images.validation) * math.prod(images.shape) / 2**20


def _table(runs: Sequence[PlannedRun], costs: Sequence[Row]) -> pd.DataFrame:
    rows = []
    for stage in dict.fromkeys(run.stage for run in runs):
        own = [row for row in costs if row["stage"] == stage]
        there = [row for row in own if not math.isnan(row["seconds"])]  # the notes count the others
        hours, most = sum(row["seconds"] for row in there) / 3600, max((row["GiB"] for row in there), default=0.0)
        rows.append({"stage": stage, "to do": len(own), "hours": round(hours, 2), "GiB of the largest": round(most, 1)})
    return pd.DataFrame(rows)


def _notes(
    costs: Sequence[Row], settings: Mapping[str, Probe], known: Mapping[str, StepCost], threads: int, jobs: int
) -> list[str]:
    there = [row for row in costs if not math.isnan(row["seconds"])]
    notes = []
    if there:
        hours, longest = (of(row["seconds"] for row in there) / 3600 for of in (sum, max))
        held = sum(sorted((row["GiB"] for row in there), reverse=True)[:jobs])
        free = psutil.virtual_memory().available / 2**30
        notes.append(
            f"about {hours:.2g} hours of computing; {jobs} at a time {max(hours / jobs, longest):.2g} hours and up to "
            f"{held:.1f} GiB, of which {free:.1f} are free now"
        )
    if missing := len(costs) - len(there):
        notes.append(f"not in it are {missing} runs: none of their steps ended within {ONE} s and the memory there is")
    if settings:
        fewer = sum(one.batch < settings[name].params.batch_size for name, one in known.items())
        notes.append(
            f"measured: steps of {len(known)} of {len(settings)} settings on noise, one at a time, {threads} threads; "
            f"{fewer} of them on smaller batches, from which a straight line leads to theirs; the others are taken as "
            "the most similar one, in proportion to batch, cells, channels and pixels"
        )
    notes.append(
        f"each run has {NOTEBOOK} s for kernel and figures; left out are reading of images, checkpoints, and what "
        "notebooks compute that neither search nor train"
    )
    return notes
