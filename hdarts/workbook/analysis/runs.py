"""The runs of a study: the notebook that each executes, its labels, its parameters and its result."""

import json
from collections.abc import Iterable
from pathlib import Path

from hdarts.params import MODELS, EvaluateParams, SearchParams, read_yaml
from hdarts.params.base import respelled
from hdarts.runs.paths import below_runs, runs_folder
from hdarts.runs.run import read_result
from hdarts.workbook.analysis import Row
from hdarts.workbook.study import read_runs
from hdarts.workbook.study.file import Comparison

SEARCH, EXAMINE, SELECT, EVALUATE, ANALYSE, INTERFERENCE = (
    "03_search",
    "04_hypergradients",
    "05_select",
    "06_evaluate",
    "07_analysis",
    "10_interference",
)
# labels that identify a run; all others are settings of an arm
IDENTITY = ("stage", "notebook", "run", "needs", "arm", "search_seed", "evaluation_seed")


def scale_note(study: str) -> str:
    """Return what `study.yaml` records of the scale at which a study was run (`hdarts run --scale mini`), else ""."""
    return str(_study_file(study).get("scale", ""))


def primary_comparisons(study: str) -> list[Comparison]:
    """Return the comparisons that a study named before its first run."""
    return [Comparison.model_validate(entry) for entry in _study_file(study).get("primary", [])]


def is_about_thesis(study: str) -> bool:
    """Whether the study file says `thesis: true`: its page then carries the claims of the thesis."""
    return bool(_study_file(study).get("thesis", False))


def study_runs(study: str, notebook: str = "") -> list[Row]:
    """Return the runs of a study that execute `notebook` (all for ""): run, stage, notebook, needs and their labels.

    A run is known by its notebook, not by the name of its stage. The runs of a folder that `hdarts run` did not make,
    such as those of papermill, are known by the names of their parameters; the arm of such a search is its method.
    """
    rows = _recorded(study) or _by_hand(study)
    return [row for row in rows if notebook in ("", row["notebook"])]


def finished_runs(study: str, notebook: str) -> list[Row]:
    """Return labels, parameters and results of all finished runs of a study that execute `notebook`.

    Each has run, stage, needs, arm (the stage, where no label names one), search_seed (0 by default), and its other
    labels: their names as `varied`, with their values as the text `setting`; and all parameters as `params`.
    """
    rows = []
    for labels in study_runs(study, notebook):
        if (result := read_result(below_runs(labels["run"]))) is not None:
            params = parameters(labels["run"])
            varied = [name for name in labels if name not in IDENTITY]
            setting = ", ".join(f"{name} {labels[name]}" for name in varied)
            row = {"arm": labels["stage"], "search_seed": 0, **labels, **params, **result}
            named = {name: labels[name] for name in ("run", "stage", "needs")}
            rows.append(row | named | {"varied": varied, "setting": setting, "params": params})
    return rows


def finished_evaluations(study: str) -> list[Row]:
    """Return all different finished evaluations, each with its `search`, which found the cell, and its `test`.

    `selected`: whether the cell was selected. A cell that is evaluated twice with equal parameters, once as a selected
    one, counts once. `test` is the data set, and the parameters in which evaluations on it differ, other than seeds.
    """
    chosen = {row["run"]: row["chosen"] for row in finished_runs(study, SELECT)}
    rows: dict[str, Row] = {}
    for row in finished_runs(study, EVALUATE):
        name = _run_of(str(row["params"].get("genotype", "")))
        how = {k: v for k, v in EvaluateParams.identifying(row["params"]).items() if k != "genotype"}
        row |= {"search": chosen.get(name, name), "selected": name in chosen, "how": how}
        first = rows.setdefault(json.dumps([row["search"], how], sort_keys=True), row)
        first["selected"] |= row["selected"]
    for data in {row.get("data", "") for row in rows.values()}:
        group = [row for row in rows.values() if row.get("data", "") == data]
        varied = _differing(row["how"] for row in group)
        for row in group:
            row["test"] = ", ".join([data, *(f"{name.replace('_', ' ')} {row['how'].get(name)}" for name in varied)])
    return list(rows.values())


def search_labels(study: str) -> dict[str, Row]:
    """Return the labels of each search by its run; `arm` includes the labels, or the stage, that vary within it."""
    rows = []
    for row in study_runs(study, SEARCH):
        seed = row["search_seed"] if "search_seed" in row else parameters(row["run"]).get("search_seed", 0)
        rows.append({"arm": row["stage"], **row, "search_seed": seed})
    labels: dict[str, Row] = {}
    for row in rows:
        group = [other for other in rows if other["arm"] == row["arm"]]
        names = [name for name in row if name == "stage" or name not in IDENTITY]
        varied = [name for name in names if len({str(other.get(name, "")) for other in group}) > 1]
        arm = ", ".join([row["arm"], *(f"{name.replace('_', ' ')} {row[name]}" for name in varied)])
        labels[row["run"]] = {**row, "arm": arm, "seed": row["search_seed"]}
    return labels


def unfinished_runs(study: str) -> list[str]:
    """Return the names of a study's runs that are not finished, without the analysis itself."""
    runs = [row["run"] for row in study_runs(study) if row["notebook"] != ANALYSE]
    return [run for run in runs if read_result(below_runs(run)) is None]


def parameters(run: str) -> Row:
    """Return the parameters of a run as recorded, in today's spelling; empty before it starts."""
    file = below_runs(run) / "params.yaml"
    return respelled(read_yaml(file), SearchParams.renamed_values) if file.is_file() else {}


def _study_file(study: str) -> Row:
    kept = below_runs(study) / "study.yaml"
    return read_yaml(kept) if kept.is_file() else {}


def _recorded(study: str) -> list[Row]:
    stages = _study_file(study).get("stages", {})
    rows = []
    for stage in read_runs(study)["stage"].unique():  # stage by stage, since a label may have a type in one only
        for row in read_runs(study, stage).to_dict("records"):
            notebook = stages[stage]["notebook"] if stage in stages else _notebook_of(parameters(row["run"]))
            labels = {str(name): value for name, value in row.items() if value != ""}
            rows.append({"needs": "", **labels, "notebook": notebook})
    return rows


def _by_hand(study: str) -> list[Row]:
    root = runs_folder().resolve()
    names = sorted(file.parent.relative_to(root).as_posix() for file in below_runs(study).rglob("params.yaml"))
    params = {run: parameters(run) for run in names}
    notebooks = {run: _notebook_of(p) for run, p in params.items()}
    labels: dict[str, Row] = {}
    for run in sorted(names, key=lambda run: notebooks[run]):  # what a run reads comes first
        p = params[run]
        if notebooks[run] == SEARCH:
            alike = [q for other, q in params.items() if notebooks[other] == SEARCH and q["method"] == p["method"]]
            varied = _differing(map(SearchParams.identifying, alike))
            labels[run] = {
                "arm": p["method"],
                "search_seed": p["search_seed"],
                **{name: p.get(name) for name in varied},
            }
        else:
            reads = (p.get("search", ""), _run_of(str(p.get("genotype", ""))), *p.get("searches", []))
            labels[run] = dict(next((labels[source] for source in reads if source in labels), {}))
            labels[run] |= {name: p[name] for name in ("evaluation_seed",) if name in p}
    named = {
        run: {"run": run, "notebook": name, "stage": MODELS[name].stage} for run, name in notebooks.items() if name
    }
    return [{**row, "needs": "", **labels[run]} for run, row in named.items()]


def _notebook_of(params: Row) -> str:
    """Return the notebook whose parameters are most like these, "" for none; optional ones may be missing."""
    likeness = {}
    for name, model in MODELS.items():
        known = {field for field, of in model.model_fields.items() if of.is_required() or field in params}
        likeness[name] = len(known & params.keys()) / len(known | params.keys())
    best = max(likeness, key=lambda name: likeness[name])
    return best if likeness[best] > 0.5 else ""


def _run_of(cell: str) -> str:
    """Return the name of the run that a cell is read from: of a run, or of the path of its genotype.json."""
    path, root = Path(cell.removesuffix("/genotype.json")), runs_folder().resolve()
    return path.resolve().relative_to(root).as_posix() if path.resolve().is_relative_to(root) else path.as_posix()


def _differing(rows: Iterable[Row]) -> list[str]:
    """Return the names of the values in which rows differ, other than seeds."""
    known = list(rows)
    names = dict.fromkeys(name for row in known for name in row if name not in ("search_seed", "evaluation_seed"))
    return [name for name in names if len({json.dumps(row.get(name)) for row in known}) > 1]
