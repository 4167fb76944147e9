"""Plan a study: read it, expand it, check it against the folders in `runs/`, and record it there when it starts."""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from hdarts.errors import ParameterError
from hdarts.params import MODELS, Parameters, read_yaml
from hdarts.runs.atomic import write_atomic
from hdarts.runs.paths import below_runs, runs_folder, templates, workbook_of
from hdarts.runs.run import read_result
from hdarts.workbook.study.expand import PlannedRun, expand
from hdarts.workbook.study.file import Comparison, Study, check_study
from hdarts.workbook.study.merge import FULL, merged

if TYPE_CHECKING:  # the process of a single run needs no pandas
    import pandas as pd


@dataclass(frozen=True)
class Plan:
    """A study that was read, expanded and checked. `root` is its workbook."""

    path: Path
    root: Path
    study: Study
    runs: tuple[PlannedRun, ...]
    entries: Mapping[str, Any]  # of the file, its includes and its scale
    scale: str = FULL

    @property
    def folder(self) -> Path:
        return below_runs(self.study.study)


def plan_study(path: str | Path, models: Mapping[str, type[Parameters]] = MODELS, scale: str = FULL) -> Plan:
    """Return the expanded study in the file `path`, or raise `ParameterError` about the first fault; writes nothing."""
    path = Path(path)
    entries = merged(path, scale)
    study = check_study(path, entries)
    root = workbook_of(path)
    try:
        runs = expand(study, templates(root), models)
    except ParameterError as error:
        raise ParameterError(f"{path}: {error}") from None
    plan = Plan(path, root, study, tuple(runs), entries, scale)
    _check_folders(plan)
    return plan


def _check_folders(plan: Plan) -> None:
    """Refuse a study folder that is not from `hdarts run`, and run folders with other parameters."""
    name, folder = plan.study.study, plan.folder
    if name == "interactive":
        raise ParameterError(
            f"{plan.path}: the name 'interactive' is reserved for runs outside studies; choose another"
        )
    if folder.is_dir() and any(not path.name.startswith(".") for path in folder.iterdir()):
        recorded = folder / "study.yaml"
        theirs = read_yaml(recorded).get("study") if recorded.is_file() else None
        if theirs != name:
            reason = f"belongs to study {theirs!r}" if theirs else "was not made by `hdarts run`"
            raise ParameterError(f"{plan.path}: the folder runs/{name} {reason}; rename the study or move that folder")
        _check_primary(plan, read_yaml(recorded).get("primary", []))
    for run in plan.runs:
        file = run.folder / "params.yaml"
        if file.is_file():
            theirs, mine = map(run.params.identifying, (read_yaml(file), run.params.model_dump()))
            for key in sorted(theirs.keys() | mine.keys()):
                if theirs.get(key) != mine.get(key):
                    raise ParameterError(
                        f"run folder {run.name} belongs to another study: its `{key}` is {theirs.get(key)!r}, "
                        f"here {mine.get(key)!r}; move it away"
                    )


def _check_primary(plan: Plan, recorded: list[dict[str, Any]]) -> None:
    """Refuse other primary comparisons than those that were named before the finished runs."""
    then, now = ([str(c) for c in group] for group in (map(Comparison.model_validate, recorded), plan.study.primary))
    if then != now and any(read_result(run.folder) is not None for run in plan.runs):
        raise ParameterError(
            f"{plan.path}: `primary` was {'; '.join(then) or 'nothing'} when its runs began, and is "
            f"{'; '.join(now) or 'nothing'} now. Comparisons that are chosen after there are results prove nothing: "
            "give the study another name"
        )


def record_plan(plan: Plan) -> str:
    """Write `study.yaml` and `runs.csv` into the study's folder; return a sentence about what changed, or ""."""
    import pandas as pd

    folder, changed = plan.folder, changes(plan)
    plain = plan.entries == read_yaml(plan.path)  # keeps its comments
    text = plan.path.read_bytes() if plain else yaml.safe_dump(dict(plan.entries), sort_keys=False)
    write_atomic(folder / "study.yaml", text)
    rows = [{"stage": r.stage, "run": r.name, **r.labels, "needs": " ".join(r.needs)} for r in plan.runs]
    frame = pd.DataFrame(rows, dtype=object)
    frame.insert(len(frame.columns) - 1, "needs", frame.pop("needs"))
    write_atomic(folder / "runs.csv", frame.to_csv(index=False))
    return changed


def changes(plan: Plan) -> str:
    """Return a sentence about what changed since the last start of a study, or ""."""
    earlier = read_runs(plan.study.study)
    if earlier.empty:
        return ""
    entries = _changed_entries(plan.folder / "study.yaml", plan.entries)
    old, new = list(earlier["run"]), [run.name for run in plan.runs]
    gone = [name for name in old if name not in set(new) and (runs_folder() / name).is_dir()]
    added = len(set(new) - set(old))
    if not gone and not added:
        return ""
    removed = f"; no longer part of it, left as they are: {', '.join(gone)}" if gone else ""
    return f"study {plan.study.study} changed since its last start: {entries}{added} new runs{removed}"


def _changed_entries(before: Path, now: Mapping[str, Any]) -> str:
    """Name at most three entries in which two study files differ: `stages.search.epochs: 2, now 4; `."""
    if not before.is_file():
        return ""
    old, new = _flat(read_yaml(before)), _flat(dict(now))
    names = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    changes = [f"{name}: {old.get(name, 'nothing')}, now {new.get(name, 'nothing')}" for name in names[:3]]
    return "; ".join([*changes, *(["and more"] if names[3:] else []), ""])


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    """Return all leaves of nested mappings by their dotted names."""
    if not isinstance(value, dict) or not value:
        return {name: value}
    leaves: dict[str, Any] = {}
    for part, inner in value.items():
        leaves |= _flat(inner, f"{name}.{part}" if name else str(part))
    return leaves


def read_runs(study: str, stage: str = "") -> "pd.DataFrame":
    """Return the runs of a study as of its last start, empty if there are none.

    Columns: stage, run, needs and the labels (arm, seeds, ...); with `stage`, only its runs and their labels.
    """
    import pandas as pd

    path = below_runs(study) / "runs.csv"
    if not path.is_file():
        return pd.DataFrame(columns=["stage", "run", "needs"])
    frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    if stage:
        frame = frame[frame["stage"] == stage]
        frame = frame.loc[:, (frame != "").any() | frame.columns.isin(["stage", "run", "needs"])]
    # read again, so that columns without empty values get a type, such as integer seeds
    return pd.read_csv(io.StringIO(frame.to_csv(index=False)), keep_default_na=False)
