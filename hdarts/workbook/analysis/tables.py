"""The run folders of a study as tables: epochs of all searches, all evaluations, and one row per arm."""

from math import nan

import numpy as np
import pandas as pd

from hdarts.params import SearchParams, read_yaml, recorded
from hdarts.params.models import respelled
from hdarts.runs.paths import below_runs
from hdarts.runs.provenance import read_starts
from hdarts.runs.run import read_result, read_table
from hdarts.workbook.analysis import Row
from hdarts.workbook.analysis.diagnostics import REFERENCES
from hdarts.workbook.analysis.statistics import summary
from hdarts.workbook.study import read_runs

PARTS = ("direct", "response")
# labels that identify a run; all others are settings of an arm
IDENTITY = ("stage", "run", "needs", "arm", "search_seed", "evaluation_seed")


def scale_note(study: str) -> str:
    """Return a note for figures of a study that was run at a scale (`hdarts run --scale mini`), else ""."""
    kept = below_runs(study) / "study.yaml"
    return str(read_yaml(kept).get("scale", "")) if kept.is_file() else ""


def finished_runs(study: str, stages: str) -> list[Row]:
    """Return labels, parameters and results of all finished runs in the stages whose names start with `stages`.

    Each has run, needs, arm (the stage, where no label names one), search_seed (0 by default), and its other labels:
    their names as `varied`, with their values as the text `setting`.
    """
    names = [stage for stage in read_runs(study)["stage"].unique() if stage.startswith(stages)]
    rows = []
    for labels in (row for stage in names for row in read_runs(study, stage).to_dict("records")):
        folder = below_runs(labels["run"])
        if (result := read_result(folder)) is not None:
            given = {str(name): value for name, value in labels.items() if value != ""}
            params = read_yaml(folder / "params.yaml") if (folder / "params.yaml").is_file() else {}
            params = respelled(params, SearchParams.renamed_values)
            varied = [name for name in given if name not in IDENTITY]
            setting = ", ".join(f"{name} {given[name]}" for name in varied)
            row = {"arm": labels["stage"], "search_seed": 0, **given, **params, **result}
            rows.append(row | {"run": labels["run"], "needs": labels["needs"], "varied": varied, "setting": setting})
    return rows


def finished_evaluations(study: str) -> list[Row]:
    """Return all finished evaluations with the `search` that found the cell, and whether the cell was `selected`."""
    chosen = {row["run"]: row["chosen"] for row in finished_runs(study, "select")}
    return [
        row | {"search": chosen.get(row["needs"], row["needs"]), "selected": row["needs"] in chosen}
        for row in finished_runs(study, "evaluate")
    ]


def _search_labels(study: str) -> dict[str, Row]:
    """Return the labels of each search by its run; `arm` includes the labels that vary within the arm."""
    searches = [{"arm": "search", "search_seed": 0} | row for row in read_runs(study, "search").to_dict("records")]
    labels: dict[str, Row] = {}
    for row in searches:
        group = [other for other in searches if other["arm"] == row["arm"]]
        varied = [name for name in row if name not in IDENTITY and len({other[name] for other in group}) > 1]
        arm = ", ".join([row["arm"], *(f"{name.replace('_', ' ')} {row[name]}" for name in varied if row[name] != "")])
        labels[row["run"]] = {**row, "arm": arm, "seed": row["search_seed"]}
    return labels


def unfinished_runs(study: str) -> list[str]:
    """Return the names of a study's runs that are not finished, without the analysis itself."""
    runs = read_runs(study)
    return [run for run in runs[runs["stage"] != "analysis"]["run"] if read_result(below_runs(run)) is None]


def search_tables(study: str, name: str) -> list[tuple[Row, pd.DataFrame]]:
    """Return run, arm and seed, and the table `name`, of each search that has one."""
    searches = [{"run": run, "arm": row["arm"], "seed": row["seed"]} for run, row in _search_labels(study).items()]
    tables = [(labels, read_table(below_runs(labels["run"]), name)) for labels in searches]
    return [(labels, table) for labels, table in tables if len(table)]


def _concatenate(frames: list[pd.DataFrame]) -> pd.DataFrame:
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def epochs(study: str) -> pd.DataFrame:
    """Return the metrics of all searches: run, arm, seed, and the columns of metrics.csv."""
    return _concatenate([table.assign(**labels) for labels, table in search_tables(study, "metrics")])


def methods(study: str) -> dict[str, SearchParams]:
    """Return the parameters of the first search of each method, by its arm.

    Hypernetworks with other layers or weights, and DARTS with other steps, count as other methods.
    """
    first: dict[tuple, tuple[str, SearchParams]] = {}
    for run, labels in _search_labels(study).items():
        if (file := below_runs(run) / "params.yaml").is_file():
            p = recorded(SearchParams, read_yaml(file))
            if p.method not in ("random", "shared-weights"):  # alpha takes no step
                variant = (p.hypernetwork, p.hidden, p.rest) if p.method == "hypernetwork" else p.steps
                first.setdefault((p.method, variant), (labels["arm"], p))
    return dict(first.values())


def true_accuracies(study: str) -> pd.DataFrame:
    """Return the true accuracies of every epoch's cell: arm, seed, `seconds` of steps so far, columns of truth.csv."""
    tables = search_tables(study, "timings")
    times = _concatenate([table.assign(**run, seconds=table["seconds"].fillna(0).cumsum()) for run, table in tables])
    truth = _concatenate([table.assign(**labels) for labels, table in search_tables(study, "truth")])
    if truth.empty or times.empty:
        return truth.assign(seconds=0.0)
    merged = truth.merge(times[["arm", "seed", "epoch", "seconds"]], how="left", on=["arm", "seed", "epoch"])
    return merged.fillna({"seconds": 0.0})


def norms(steps: pd.DataFrame) -> dict[str, pd.Series]:
    """Return the norms of the direct part and of the response at each step of hypergradients.csv."""
    return {part: (steps.filter(regex=f"^{part}_") ** 2).sum(axis=1) ** 0.5 for part in PARTS}


def hypergradient_norms(study: str) -> pd.DataFrame:
    """Return the logged hypergradient norms of all searches: run, arm, seed, step, direct, response."""
    tables = search_tables(study, "hypergradients")
    return _concatenate([steps[["step"]].assign(**labels, **norms(steps)) for labels, steps in tables])


def snapshot_agreement(study: str) -> pd.DataFrame:
    """Return the agreement of every method with the reference, by run, arm, seed, epoch, method and part."""
    tables = [
        read_table(below_runs(row["run"]), "hypergradient_methods").assign(
            arm=row["arm"], seed=row["search_seed"], run=row["run"]
        )
        for row in finished_runs(study, "hypergradients")
    ]
    rows = _concatenate(tables)
    return rows.loc[rows["method"] != REFERENCES[0]] if len(rows) else rows


def mean_agreement(study: str) -> pd.DataFrame:
    """Return means over the snapshots of an arm: cosine and relative error of each method's total and response."""
    rows = snapshot_agreement(study)
    if rows.empty:
        return rows
    rows = rows.loc[rows["part"] != "direct", ["arm", "part", "method", "cosine", "relative_error"]]
    return rows.groupby(["arm", "part", "method"], as_index=False, sort=False).mean()


def search_seconds(study: str) -> pd.DataFrame:
    """Return the time that the steps of each search took, from its timings.csv: run, arm, seed, seconds.

    Searches of 0.1.0 include the time of their measurements.
    """
    tables = search_tables(study, "timings")
    return pd.DataFrame([{**labels, "seconds": float(np.nansum(table["seconds"]))} for labels, table in tables])


def peak_memory(study: str) -> pd.DataFrame:
    """Return the peak memory of each search (MiB), from its provenance.json: run, peak_memory_mib."""
    rows = []
    for row in finished_runs(study, "search"):
        peaks = [start.get("peak_memory_mib", nan) for start in read_starts(below_runs(row["run"]))]
        rows.append({"run": row["run"], "peak_memory_mib": max((peak for peak in peaks if peak == peak), default=nan)})
    return pd.DataFrame(rows, columns=["run", "peak_memory_mib"])


def evaluations(study: str) -> pd.DataFrame:
    """Return all finished evaluations: arm, both seeds, data, test accuracies and validation accuracy of the search.

    Arm, search seed and validation accuracy are those of the search that found the cell; a random cell has no
    validation accuracy.
    """
    labels, searches = _search_labels(study), {row["run"]: row for row in finished_runs(study, "search")}
    rows = []
    for row in finished_evaluations(study):
        source = searches.get(row["search"], row)
        rows.append(
            {
                "arm": labels.get(row["search"], row)["arm"],
                "search_seed": int(source["search_seed"]),
                "evaluation_seed": row["evaluation_seed"],
                "data": row.get("data", ""),
                "test_accuracy": row["best_test_accuracy"],
                "last_test_accuracy": row["last_test_accuracy"],
                "validation_accuracy": source.get("best_validation_accuracy", nan),
                "parameters": row["parameters"],
                "selected": row["selected"],
            }
        )
    return pd.DataFrame(rows)


def selected_genotypes(study: str) -> dict[str, Row]:
    """Return the selected cells of each arm."""
    labels = _search_labels(study)
    return {labels.get(row["chosen"], row)["arm"]: row["genotype"] for row in finished_runs(study, "select")}


def by_arm(study: str) -> pd.DataFrame:
    """Return one row per arm: searches, their validation accuracies, test accuracy over the evaluations, and time.

    The mean of the test accuracies is over evaluations of *one* selected cell, with the sample standard deviation over
    evaluation seeds; for random cells it is over all cells and seeds. Search seeds and evaluation seeds are not mixed.
    An arm of several settings has one row per setting. Tests on further data have columns that end in its name.
    """
    labels, tested, times = _search_labels(study), evaluations(study), search_seconds(study)
    searches = [row | {"arm": labels[row["run"]]["arm"]} for row in finished_runs(study, "search")]
    rows = []
    for arm in dict.fromkeys(row["arm"] for row in searches):
        group = [row for row in searches if row["arm"] == arm]
        row: Row = {"arm": arm, "searches": len(group)}
        if scores := [search["best_validation_accuracy"] for search in group if "best_validation_accuracy" in search]:
            row |= {"validation_accuracy_mean": summary(scores).mean, "validation_accuracy_best": max(scores)}
        row["skips_normal"] = " ".join(str(search["skips_normal"]) for search in group)
        for index, data in enumerate(tested["data"].unique() if len(tested) else ()):
            tests = tested[(tested["arm"] == arm) & (tested["data"] == data)]
            if len(tests):
                accuracy, end = summary(tests["test_accuracy"]), f"_{data}" if index else ""
                row |= {f"cells_tested{end}": len(set(tests["search_seed"])), f"evaluations{end}": accuracy.n}
                row |= {f"test_accuracy_mean{end}": accuracy.mean, f"test_accuracy_sd{end}": accuracy.deviation}
        if spent := [time["seconds"] for time in times.to_dict("records") if time["arm"] == arm]:
            row["search_seconds"] = sum(spent)
        rows.append(row)
    return pd.DataFrame(rows)
