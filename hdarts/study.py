"""Studies: a YAML file that names notebooks, settings and seeds, expanded into runs before anything starts.

    study: quick
    title: DARTS and hyperDARTS on handwritten digits
    stages:
      search:
        notebook: 03_search
        parameters: {data: digits, channels: 4}          # for every run of the stage
        arms:                                            # named settings
          darts-first: {preset: search/darts-first}      # params/search/darts-first.yaml
          hyperdarts-1: {preset: search/hyperdarts-1, parameters: {noise: 0.1}}
          random: {preset: search/random}
        matrix: {search_seed: [2, 20]}                   # every combination
      select:
        notebook: 05_select
        each: {stage: search, by: arm, except: {arm: random}, as: searches}    # one run an arm, given a list of runs
      evaluate:
        notebook: 06_evaluate
        each:
          - {stage: select, as: genotype}                # one run for each selected run, given its name
          - {stage: search, where: {arm: random}, as: genotype}
        matrix: {evaluation_seed: [0, 1]}
      analysis: {notebook: 07_analysis, parameters: {study: quick}, after: everything}

Later layers win: notebook's parameters cell, preset of the stage, preset of the arm, parameters of the stage,
parameters of the arm, matrix, each. A stage names only stages that stand before it, so there are no circles. A run's labels (its
arm, its matrix values and those of the runs it was made for) are columns of `runs/<study>/runs.csv`.
"""

import hashlib
import io
import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pandas as pd
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, ValidationError

from hdarts.params import MODELS, ParameterError, Parameters, check, identity, notebook_defaults, read_yaml
from hdarts.records import below_runs, checkout, runs_folder, write_atomic

Plain = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_.-]*$", max_length=60)]
PlainPath = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_.-]*(/[a-z0-9][a-z0-9_.-]*)*$")]


def _listed(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Each(_Strict):
    """One run of this stage for each run (`by: run`), or each group of runs alike in some labels, of another stage."""

    stage: Plain
    by: Annotated[list[str], BeforeValidator(_listed)] = ["run"]
    where: dict[str, Annotated[list[Any], BeforeValidator(_listed)]] = {}
    but: dict[str, Annotated[list[Any], BeforeValidator(_listed)]] = Field(default={}, alias="except")
    parameter: str = Field(alias="as")


class Arm(_Strict):
    """A named setting: a preset (a file below `params/`) and parameters on top."""

    preset: PlainPath | None = None
    parameters: dict[str, Any] = {}


class Stage(Arm):
    """One notebook and all its runs."""

    notebook: Plain
    arms: Annotated[dict[Plain, Arm], Field(min_length=1)] | None = None
    matrix: dict[str, Annotated[list[Any], Field(min_length=1)]] = {}
    each: Annotated[list[Each], BeforeValidator(_listed)] = []
    after: Literal["everything"] | list[Plain] = []


class Study(_Strict):
    """A study file."""

    study: Plain
    title: str = ""
    about: str = ""
    stages: Annotated[dict[Plain, Stage], Field(min_length=1)]


@dataclass(frozen=True)
class PlannedRun:
    """One run to be: its name (the folder below `runs/`), its parameters, and the names of the runs it waits for."""

    name: str
    stage: str
    notebook: Path
    params: Parameters
    labels: Mapping[str, Any]
    needs: tuple[str, ...]

    @property
    def folder(self) -> Path:
        return below_runs(self.name)


@dataclass(frozen=True)
class Plan:
    """A study, read, expanded and found to be in order. `root` is the folder that holds `notebooks/` and `params/`."""

    path: Path
    root: Path
    study: Study
    runs: tuple[PlannedRun, ...]

    @property
    def folder(self) -> Path:
        return below_runs(self.study.study)


def plan(path: str | Path, models: Mapping[str, type[Parameters]] = MODELS) -> Plan:
    """Return the expanded study in the file `path`, or raise `ParameterError` about the first fault; writes nothing."""
    path = Path(path)
    study = read_study(path)
    root = project_root(path)
    try:
        runs = _expand(study, root, models)
    except ParameterError as error:
        raise ParameterError(f"{path}: {error}") from None
    planned = Plan(path, root, study, tuple(runs))
    _check_folders(planned)
    return planned


def read_study(path: Path) -> Study:
    """Return the study in a YAML file, or raise `ParameterError` naming the file, the place and the fault."""
    try:
        return Study.model_validate(read_yaml(path))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"] if "[" not in str(part))
        value = "" if isinstance(first["input"], dict) else f" = {str(first['input'])[:80]!r}"
        allowed = {
            "extra_forbidden": "this name is not known",
            "missing": "this entry is missing",
            "string_pattern_mismatch": "names are lower-case letters, digits, `_`, `.` and `-`",
        }
        told = allowed.get(first["type"], first["msg"][0].lower() + first["msg"][1:])
        raise ParameterError(f"{path}: `{where}`{value}: {told}") from None


def project_root(path: Path) -> Path:
    """Return the nearest folder above a study file that holds `notebooks/`, else the checkout of this package."""
    for folder in path.resolve().parents:
        if (folder / "notebooks").is_dir():
            return folder
    if (root := checkout()) is None:
        raise ParameterError(f"{path}: no folder above it holds `notebooks/`")
    return root


def _expand(study: Study, root: Path, models: Mapping[str, type[Parameters]]) -> list[PlannedRun]:
    stages: dict[str, list[PlannedRun]] = {}
    for name, stage in study.stages.items():
        where = f"stage {name}"
        try:
            stages[name] = _expand_stage(study.study, name, stage, root, models, stages)
        except ParameterError as error:
            raise ParameterError(f"{where}: {error}") from None
        names = [run.name for run in stages[name]]
        if double := sorted({name for name in names if names.count(name) > 1}):
            raise ParameterError(f"{where}: the run {double[0]} is listed twice")
    return [run for runs in stages.values() for run in runs]


def _expand_stage(
    study: str,
    name: str,
    stage: Stage,
    root: Path,
    models: Mapping[str, type[Parameters]],
    before: Mapping[str, Sequence[PlannedRun]],
) -> list[PlannedRun]:
    if stage.notebook not in models:
        raise ParameterError(f"notebook {stage.notebook!r} is not known; known are {', '.join(models)}")
    if stage.arms and stage.each:
        raise ParameterError("has both `arms` and `each`; runs made for other runs carry the arms of those")
    model, notebook = models[stage.notebook], root / "notebooks" / f"{stage.notebook}.ipynb"
    defaults = notebook_defaults(notebook)
    after = tuple(run.name for runs in _stages(stage.after, before) for run in runs)
    runs = []
    sources = [source for each in stage.each or [None] for source in _sources(each, before)]
    for (arm_name, arm), combination, source in itertools.product(
        (stage.arms or {"": Arm()}).items(), itertools.product(*stage.matrix.values()), sources
    ):
        varied = dict(zip(stage.matrix, combination, strict=True))
        layers = (defaults, _preset(root, stage), _preset(root, arm), stage.parameters, arm.parameters, varied)
        values = {key: value for layer in (*layers, source.parameters) for key, value in layer.items()}
        if values.get("run"):
            raise ParameterError("parameter `run` is chosen by the study; leave it out")
        try:
            params = check(model, {**values, "run": ""})
        except ParameterError as error:
            raise ParameterError(f"{'arm ' + arm_name + ': ' if arm_name else ''}{error}") from None
        own = {**({"arm": arm_name} if arm_name else {}), **varied}
        labels = {(f"{source.stage}.{key}" if key in own else key): value for key, value in source.labels.items()} | own
        run_name = f"{study}/{name}/{_slug(labels, params)}-{_digest(params, after)}"
        params = params.model_copy(update={"run": run_name})
        runs.append(PlannedRun(run_name, name, notebook, params, labels, tuple(dict.fromkeys(source.needs + after))))
    return runs


@dataclass(frozen=True)
class _Source:
    """What a run takes over from the runs it is made for."""

    stage: str
    labels: Mapping[str, Any]
    parameters: Mapping[str, Any]
    needs: tuple[str, ...]


def _sources(each: Each | None, before: Mapping[str, Sequence[PlannedRun]]) -> list[_Source]:
    if each is None:
        return [_Source("", {}, {}, ())]
    runs = list(_stages([each.stage], before)[0])
    known = {label for run in runs for label in run.labels}
    by = [] if each.by == ["run"] else each.by
    for label in (*by, *each.where, *each.but):
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
    if not chosen:
        raise ParameterError(f"`each`: no run of stage {each.stage} is left by `where` and `except`")
    if not by:
        return [_Source(each.stage, run.labels, {each.parameter: run.name}, (run.name,)) for run in chosen]
    groups: dict[tuple[Any, ...], list[str]] = {}
    for run in chosen:
        groups.setdefault(tuple(run.labels.get(label) for label in by), []).append(run.name)
    return [
        _Source(each.stage, dict(zip(by, key, strict=True)), {each.parameter: names}, tuple(names))
        for key, names in groups.items()
    ]


def _stages(
    named: Literal["everything"] | Sequence[str], before: Mapping[str, Sequence[PlannedRun]]
) -> list[Sequence[PlannedRun]]:
    if named == "everything":
        return list(before.values())
    for name in named:
        if name not in before:
            raise ParameterError(f"names stage {name!r}, which does not stand before it in the study")
    return [before[name] for name in named]


def _preset(root: Path, arm: Arm) -> dict[str, Any]:
    return read_yaml(root / "params" / f"{arm.preset}.yaml") if arm.preset else {}


def _slug(labels: Mapping[str, Any], params: Parameters) -> str:
    words = [str(value) if label == "arm" else f"{label}={value}" for label, value in labels.items()]
    # the arm first; what a folder name should not hold becomes `_` (the hash keeps runs apart)
    words.sort(key=lambda word: "=" in word)
    return re.sub(r"[^A-Za-z0-9_.=+-]", "_", "-".join(words) or params.slug())[:80]


def _digest(params: Parameters, after: Sequence[str]) -> str:
    """The identity of a run; one that waits for others without naming them is another run when these change."""
    own = identity(params)
    return hashlib.sha256("\n".join((own, *sorted(after))).encode()).hexdigest()[:8] if after else own


def _check_folders(planned: Plan) -> None:
    """Refuse a study folder that something else made, and run folders that belong to other parameters."""
    name, folder = planned.study.study, planned.folder
    if name == "interactive":
        raise ParameterError(f"{planned.path}: study name 'interactive' is kept for runs outside studies; take another")
    if folder.is_dir() and any(folder.iterdir()):
        kept = folder / "study.yaml"
        theirs = read_yaml(kept).get("study") if kept.is_file() else None
        if theirs != name:
            told = f"belongs to study {theirs!r}" if theirs else "was not made by `hdarts run`"
            raise ParameterError(f"{planned.path}: the folder runs/{name} {told}; rename the study or move that folder")
    for run in planned.runs:
        file = run.folder / "params.yaml"
        if file.is_file():
            theirs, mine = read_yaml(file), run.params.model_dump()
            for key in sorted((theirs.keys() | mine.keys()) - run.params.aside):
                if theirs.get(key) != mine.get(key):
                    raise ParameterError(
                        f"run folder {run.name} belongs to another study: its `{key}` is {theirs.get(key)!r}, "
                        f"here {mine.get(key)!r}; move it away"
                    )


def record(planned: Plan) -> str:
    """Write `study.yaml` and `runs.csv` into the study's folder; return what changed since the last start, or ""."""
    folder, earlier = planned.folder, read_runs(planned.study.study)
    write_atomic(folder / "study.yaml", planned.path.read_bytes())
    rows = [{"stage": r.stage, "run": r.name, **r.labels, "needs": " ".join(r.needs)} for r in planned.runs]
    frame = pd.DataFrame(rows)
    frame.insert(len(frame.columns) - 1, "needs", frame.pop("needs"))
    write_atomic(folder / "runs.csv", frame.to_csv(index=False))
    if earlier.empty:
        return ""
    old, new = list(earlier["run"]), [run.name for run in planned.runs]
    gone = [name for name in old if name not in set(new) and (runs_folder() / name).is_dir()]
    added = len(set(new) - set(old))
    if not gone and not added:
        return ""
    told = f"; no longer in it, left as they are: {', '.join(gone)}" if gone else ""
    return f"study {planned.study.study} changed since its last start: {added} new runs{told}"


def read_runs(study: str, stage: str = "") -> pd.DataFrame:
    """Return a study's runs as last started, empty if there are none.

    Columns: stage, run, needs and the labels (arm, seeds, ...); with `stage`, its runs and the labels they have.
    """
    path = below_runs(study) / "runs.csv"
    if not path.is_file():
        return pd.DataFrame(columns=["stage", "run", "needs"])
    frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    if stage:
        frame = frame[frame["stage"] == stage]
        frame = frame.loc[:, (frame != "").any() | frame.columns.isin(["stage", "run", "needs"])]
    # read once more: a column without empty places gets its own type, such as integer seeds
    return pd.read_csv(io.StringIO(frame.to_csv(index=False)), keep_default_na=False)
