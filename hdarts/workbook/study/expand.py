"""Expand the stages of a study into runs with parameters, labels, names and dependencies."""

import hashlib
import itertools
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from hdarts.errors import ParameterError
from hdarts.params import Parameters, check, identity, notebook_defaults, read_yaml
from hdarts.runs.paths import below_runs, named_run
from hdarts.workbook.study.file import Arm, Each, Stage, Study


@dataclass(frozen=True)
class PlannedRun:
    """A planned run: its name (the folder below `runs/`), its parameters, and the names of the runs it needs."""

    name: str
    stage: str
    notebook: Path
    params: Parameters
    labels: Mapping[str, Any]
    needs: tuple[str, ...]
    resources: Mapping[str, float] = field(default_factory=dict)  # required of a cluster worker
    missing: tuple[str, ...] = ()  # of an analysis: runs that it would show, and that failed

    @property
    def folder(self) -> Path:
        return below_runs(self.name)

    @property
    def shows_what_there_is(self) -> bool:
        """Whether the run is an analysis, which shows finished runs even if others have failed."""
        return "study" in type(self.params).model_fields


def expand(study: Study, root: Path, models: Mapping[str, type[Parameters]]) -> list[PlannedRun]:
    """Return all runs of a study, stage by stage, their parameters checked against the `models` of the notebooks.

    Arms of the primary comparisons come first, and then all arms with all their settings at the first seed before any
    at the second: a study that is stopped has run its arms equally often. Runs of a stage start in this order.
    """
    stages: dict[str, list[PlannedRun]] = {}
    for name, stage in study.stages.items():
        try:
            stages[name] = _expand_stage(study, name, stage, root, models, stages)
        except ParameterError as error:
            raise ParameterError(f"stage {name}: {error}") from None
        names = [run.name for run in stages[name]]
        if len(set(names)) < len(names):
            twice = next(run for run in names if names.count(run) > 1)
            raise ParameterError(f"stage {name}: the run {twice} is listed twice")
    return [run for runs in stages.values() for run in runs]


def _expand_stage(
    study: Study,
    name: str,
    stage: Stage,
    root: Path,
    models: Mapping[str, type[Parameters]],
    before: Mapping[str, Sequence[PlannedRun]],
) -> list[PlannedRun]:
    if stage.notebook not in models:
        raise ParameterError(f"unknown notebook {stage.notebook!r}; known are {', '.join(models)}")
    if stage.arms and stage.each:
        raise ParameterError("has both `arms` and `each`; runs made for other runs have the arms of those")
    model, notebook = models[stage.notebook], root / "notebooks" / f"{stage.notebook}.ipynb"
    defaults = notebook_defaults(notebook)
    after = tuple(run.name for runs in _stages(stage.after, before) for run in runs)
    runs = []
    sources = [source for each in stage.each or [None] for source in _sources(each, before)]
    for (arm_name, arm, varied), source in itertools.product(_variants(stage, study.primary_arms), sources):
        layers = (_preset(root, stage), _preset(root, arm), stage.parameters, arm.parameters, varied, source.parameters)
        given = {key: value for layer in layers for key, value in layer.items()}
        values = {**defaults, **given, **_study_to_read(study.study, stage, model, given)}
        if values.get("run"):
            raise ParameterError("parameter `run` is chosen by the study; leave it out")
        if "preset" in given:
            raise ParameterError(
                "`preset` is not one of the `parameters`; write it beside them, in the stage or the arm"
            )
        try:
            params = check(model, {**values, "run": ""})
        except ParameterError as error:
            raise ParameterError(f"{'arm ' + arm_name + ': ' if arm_name else ''}{error}") from None
        new = {**({"arm": arm_name} if arm_name else {}), **varied}
        labels = {(f"{source.stage}.{key}" if key in new else key): value for key, value in source.labels.items()} | new
        digest, folder = _digest(params, after), f"{study.study}/{name}"
        run_name = f"{folder}/{_slug(labels)}-{digest}" if labels else named_run(folder, _plain(params.slug()), digest)
        params = params.model_copy(update={"run": run_name})
        needs = tuple(dict.fromkeys(source.needs + after))
        runs.append(PlannedRun(run_name, name, notebook, params, labels, needs, stage.resources))
    return runs


def _study_to_read(study: str, stage: Stage, model: type[Parameters], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameter `study` of an analysis: the study that it is in, or the one that `reads` names."""
    if "study" not in model.model_fields:
        if stage.reads is not None:
            raise ParameterError(f"`reads`: notebook {stage.notebook} reads no study")
        return {}
    wanted = stage.reads or study
    if (named := given.get("study", wanted)) != wanted:
        raise ParameterError(
            f"parameter `study` = {named!r}: in study {study!r} this analysis shows {wanted!r}; leave it out, or write "
            f"`reads: {named}` in the stage to show the runs of {named!r}"
        )
    return {"study": wanted}


def _variants(stage: Stage, first: Collection[str]) -> list[tuple[str, Arm, dict[str, Any]]]:
    """Return every arm with every combination of its matrix, which overrides that of the stage, in order of running."""
    variants = []
    for name, arm in (stage.arms or {"": Arm()}).items():
        matrix = {**stage.matrix, **arm.matrix}
        for place, combination in enumerate(itertools.product(*matrix.values())):
            varied = dict(zip(matrix, combination, strict=True))
            seeds = [matrix[label].index(value) for label, value in varied.items() if label.endswith("seed")]
            variants.append((name not in first, seeds, place, (name, arm, _together(varied))))
    return [variant for *_, variant in sorted(variants, key=lambda entry: entry[:3])]


def _together(varied: Mapping[str, Any]) -> dict[str, Any]:
    """Return one label per parameter; an entry "a, b: [[1, 2], [3, 4]]" of a matrix varies two of them together."""
    labels: dict[str, Any] = {}
    for name, value in varied.items():
        names = [part.strip() for part in name.split(",")]
        values = value if len(names) > 1 else [value]
        if not isinstance(values, list) or len(values) != len(names):
            raise ParameterError(f"`matrix`: {name} needs lists of {len(names)} values, not {value!r}")
        labels |= dict(zip(names, values, strict=True))
    return labels


@dataclass(frozen=True)
class _Source:
    """What a run inherits from the runs it is made for."""

    stage: str
    labels: Mapping[str, Any]
    parameters: Mapping[str, Any]
    needs: tuple[str, ...]


def _sources(each: Each | None, before: Mapping[str, Sequence[PlannedRun]]) -> list[_Source]:
    if each is None:
        return [_Source("", {}, {}, ())]
    runs = list(_stages([each.stage], before)[0])
    known = {label for run in runs for label in run.labels}
    by_run = each.by == ["run"]
    for label in (*([] if by_run else each.by), *each.where, *each.but):
        if label not in known:
            raise ParameterError(
                f"`each`: stage {each.stage} has no label {label!r}; it has {', '.join(sorted(known))}"
            )
    chosen = [
        run
        for run in runs
        if all(run.labels.get(label) in values for label, values in each.where.items())
        and not any(run.labels.get(label) in values for label, values in each.but.items())
    ]
    if not chosen and not each.optional:
        raise ParameterError(f"`each`: `where` and `except` leave no run of stage {each.stage}")
    if by_run:
        return [
            _Source(each.stage, run.labels, {**each.parameters, each.parameter: run.name}, (run.name,))
            for run in chosen
        ]
    groups: dict[tuple[Any, ...], list[str]] = {}
    for run in chosen:
        groups.setdefault(tuple(run.labels.get(label) for label in each.by), []).append(run.name)
    return [
        _Source(
            each.stage, dict(zip(each.by, key, strict=True)), {**each.parameters, each.parameter: names}, tuple(names)
        )
        for key, names in groups.items()
    ]


def _stages(
    named: Literal["everything"] | Sequence[str], before: Mapping[str, Sequence[PlannedRun]]
) -> list[Sequence[PlannedRun]]:
    if named == "everything":
        return list(before.values())
    for name in named:
        if name not in before:
            raise ParameterError(f"names stage {name!r}, which does not come before it in the study")
    return [before[name] for name in named]


def _preset(root: Path, arm: Arm) -> dict[str, Any]:
    return read_yaml(root / "params" / f"{arm.preset}.yaml") if arm.preset else {}


def _slug(labels: Mapping[str, Any]) -> str:
    words = [str(value) if label == "arm" else f"{label}={value}" for label, value in labels.items()]
    # the arm first; characters unfit for a folder name become `_` (the hash keeps runs apart)
    words.sort(key=lambda word: "=" in word)
    return _plain("-".join(words))


def _plain(words: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.=+-]", "_", words)[:80]


def _digest(params: Parameters, after: Sequence[str]) -> str:
    """Return the hash of a run: of its parameters, and of the runs it needs that no parameter names."""
    digest = identity(params)
    return hashlib.sha256("\n".join((digest, *sorted(after))).encode()).hexdigest()[:8] if after else digest
