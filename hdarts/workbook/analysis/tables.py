"""The run folders of a study as tables: epochs of all searches, all evaluations, and one row per arm."""

from math import nan
from statistics import fmean

import numpy as np
import pandas as pd

from hdarts.params import SearchParams, read_yaml, recorded
from hdarts.runs.paths import below_runs
from hdarts.runs.provenance import read_starts
from hdarts.runs.run import read_result, read_table
from hdarts.space import Genotype
from hdarts.workbook.analysis import Row
from hdarts.workbook.analysis.diagnostics import REFERENCES
from hdarts.workbook.analysis.runs import (
    EXAMINE,
    SEARCH,
    SELECT,
    finished_evaluations,
    finished_runs,
    search_labels,
)
from hdarts.workbook.analysis.size import Size, known_size
from hdarts.workbook.analysis.statistics import summary

PARTS = ("direct", "response")
# the measure of an evaluation, and what the thesis reports instead: an epoch chosen on the test set
LAST, BEST = "last_test_accuracy", "best_epoch_test_accuracy"


def search_tables(study: str, name: str, finished: bool = False) -> list[tuple[Row, pd.DataFrame]]:
    """Return run, arm and seed, and the table `name`, of each search that has one; of `finished` searches only."""
    searches = [{"run": run, "arm": row["arm"], "seed": row["seed"]} for run, row in search_labels(study).items()]
    kept = [row for row in searches if not finished or read_result(below_runs(row["run"])) is not None]
    tables = [(labels, read_table(below_runs(labels["run"]), name)) for labels in kept]
    return [(labels, table) for labels, table in tables if len(table)]


def _concatenate(frames: list[pd.DataFrame]) -> pd.DataFrame:
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def epochs(study: str) -> pd.DataFrame:
    """Return the metrics of all searches: run, arm, seed, and the columns of metrics.csv."""
    return _concatenate([table.assign(**labels) for labels, table in search_tables(study, "metrics")])


def methods(study: str) -> dict[str, tuple[SearchParams, str]]:
    """Return parameters and run of the first search of each method, by its arm.

    Hypernetworks with other layers or weights, and DARTS with other steps, count as other methods.
    """
    first: dict[tuple, tuple[str, tuple[SearchParams, str]]] = {}
    for run, labels in search_labels(study).items():
        if (file := below_runs(run) / "params.yaml").is_file():
            p = recorded(SearchParams, read_yaml(file))
            if p.method not in ("random", "shared-weights"):  # alpha takes no step
                variant = (p.hypernetwork, p.hidden, p.rest) if p.method == "hypernetwork" else p.steps
                first.setdefault((p.method, variant), (labels["arm"], (p, run)))
    return dict(first.values())


def true_accuracies(study: str, finished: bool = False) -> pd.DataFrame:
    """Return the true accuracies of every epoch's cell: run, arm, seed, `seconds` of steps so far, and truth.csv's."""
    truth, times = (
        _concatenate([table.assign(**labels) for labels, table in search_tables(study, name, finished)])
        for name in ("truth", "timings")
    )
    if truth.empty or times.empty:
        return truth.assign(seconds=0.0)
    times["seconds"] = times["seconds"].fillna(0).groupby(times["run"]).cumsum()
    merged = truth.merge(times[["run", "epoch", "seconds"]], how="left", on=["run", "epoch"])
    return merged.fillna({"seconds": 0.0})


def norms(steps: pd.DataFrame) -> dict[str, pd.Series]:
    """Return the norms of the direct part and of the response at each step of hypergradients.csv."""
    return {part: (steps.filter(regex=f"^{part}_") ** 2).sum(axis=1) ** 0.5 for part in PARTS}


def hypergradient_norms(study: str) -> pd.DataFrame:
    """Return the logged hypergradient norms of all searches: run, arm, seed, step, direct, response."""
    tables = search_tables(study, "hypergradients")
    return _concatenate([steps[["step"]].assign(**labels, **norms(steps)) for labels, steps in tables])


def snapshot_agreement(study: str) -> pd.DataFrame:
    """Return the agreement of every method with the reference: run, search, arm, seed, epoch, method, part, ..."""
    tables = [
        read_table(below_runs(row["run"]), "hypergradient_methods").assign(
            arm=row["arm"], seed=row["search_seed"], run=row["run"], search=row["params"].get("search", "")
        )
        for row in finished_runs(study, EXAMINE)
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
    """Return the time that the steps of each finished search took, from its timings.csv: run, arm, seed, seconds.

    Searches of 0.1.0 include the time of their measurements.
    """
    tables = search_tables(study, "timings", finished=True)
    return pd.DataFrame([{**labels, "seconds": float(np.nansum(table["seconds"]))} for labels, table in tables])


def peak_memory(study: str) -> pd.DataFrame:
    """Return the peak memory of each search (MiB), from its provenance.json: run, peak_memory_mib."""
    rows = []
    for row in finished_runs(study, SEARCH):
        peaks = [start.get("peak_memory_mib", nan) for start in read_starts(below_runs(row["run"]))]
        rows.append({"run": row["run"], "peak_memory_mib": max((peak for peak in peaks if peak == peak), default=nan)})
    return pd.DataFrame(rows, columns=["run", "peak_memory_mib"])


def run_flops(study: str) -> dict[str, float]:
    """Return the floating-point operations of each search that recorded them in its provenance.json, by run."""
    starts = {row["run"]: read_starts(below_runs(row["run"])) for row in finished_runs(study, SEARCH)}
    return {run: each[-1]["flops"] for run, each in starts.items() if each and "flops" in each[-1]}


def evaluations(study: str) -> pd.DataFrame:
    """Return all different finished evaluations, their test accuracies, and the validation accuracy of the search.

    Columns: arm, search, search_seed, evaluation_seed, data, test, last_test_accuracy, best_epoch_test_accuracy (that
    epoch is chosen on the test set), validation_accuracy, parameters, selected. Arm, search seed and validation
    accuracy are those of the search that found the cell; a random cell has no validation accuracy.
    """
    labels, searches = search_labels(study), {row["run"]: row for row in finished_runs(study, SEARCH)}
    rows = []
    for row in finished_evaluations(study):
        source = searches.get(row["search"], row)
        rows.append(
            {
                "arm": labels.get(row["search"], row)["arm"],
                "search": row["search"],
                "search_seed": int(source["search_seed"]),
                "evaluation_seed": row.get("evaluation_seed", 0),
                "data": row.get("data", ""),
                "test": row["test"],
                LAST: row[LAST],
                BEST: row["best_test_accuracy"],
                "validation_accuracy": source.get("best_validation_accuracy", nan),
                "parameters": row["parameters"],
                "selected": row["selected"],
            }
        )
    return pd.DataFrame(rows)


def tested_cells(study: str) -> pd.DataFrame:
    """Return the accuracies of each tested cell, means over its evaluations, by arm, search and test."""
    tested = evaluations(study)
    if tested.empty:
        return tested
    rows = tested.loc[:, ["arm", "search", "test", "validation_accuracy", LAST, BEST]]
    return rows.groupby(["arm", "search", "test"], as_index=False, sort=False).mean()


def sizes_of_tested(study: str) -> pd.DataFrame:
    """Return one row per cell and test set: arm, search, test, accuracy of the last epoch (%, mean), and its size.

    The size is that of the network that was tested. Cells with custom operations are left out.
    """
    rows = []
    for row in finished_evaluations(study):
        cell, values = Genotype.model_validate(row["genotype"]), row["params"]
        if size := known_size(row["run"], cell, values["channels"], values["layers"]):
            named = {"arm": row["arm"], "search": row["search"], "test": row["test"], LAST: row[LAST]}
            rows.append({**named, **size._asdict()})
    table = pd.DataFrame(rows, columns=["arm", "search", "test", LAST, *Size._fields])
    return pd.DataFrame(table.groupby(["arm", "search", "test", *Size._fields], as_index=False, sort=False).mean())


def class_accuracies(study: str) -> pd.DataFrame:
    """Return one row per test and class: its test images, and a column per arm with its accuracy (per cent).

    Accuracies are those of the last epoch, means over the cells of an arm and their evaluations.
    """
    rows = _concatenate(
        [
            read_table(below_runs(row["run"]), "classes").assign(test=row["test"], arm=row["arm"])
            for row in finished_evaluations(study)
        ]
    )
    if rows.empty or "class" not in rows:  # runs of an earlier release have no such table
        return pd.DataFrame()
    rows = rows[rows["images"] > 0]
    table = rows.pivot_table(index=["test", "class", "images"], columns="arm", values="accuracy", sort=False)
    return table[list(dict.fromkeys(rows["arm"]))].reset_index().rename_axis(columns=None)


def selected_genotypes(study: str) -> dict[str, Row]:
    """Return the selected cells of each arm."""
    labels = search_labels(study)
    return {labels.get(row["chosen"], row)["arm"]: row["genotype"] for row in finished_runs(study, SELECT)}


def by_arm(study: str) -> pd.DataFrame:
    """Return one row per arm: searches, their validation accuracies, test accuracies of its cells, and time.

    An arm that evaluates given cells has no searches. Each cell counts once, with the mean over its evaluations: the
    means are over the cells of an arm, and so is the sample standard deviation, or over the evaluations of its only
    cell (`sd_over`). An arm of several settings has one row per setting. Further tests, such as on other data, have
    columns that end in their names.
    """
    labels, tested, times = search_labels(study), evaluations(study), search_seconds(study)
    flops = run_flops(study)
    searches = [row | {"arm": labels[row["run"]]["arm"]} for row in finished_runs(study, SEARCH)]
    rows = []
    for arm in dict.fromkeys([*(row["arm"] for row in searches), *(tested["arm"] if len(tested) else ())]):
        group = [row for row in searches if row["arm"] == arm]
        row: Row = {"arm": arm, "searches": len(group)}
        if scores := [search["best_validation_accuracy"] for search in group if "best_validation_accuracy" in search]:
            row |= {"validation_accuracy_mean": summary(scores).mean, "validation_accuracy_best": max(scores)}
        row["skips_normal"] = " ".join(str(search["skips_normal"]) for search in group)
        for index, test in enumerate(tested["test"].unique() if len(tested) else ()):
            end = f"_{test}" if index else ""
            row |= {name + end: value for name, value in _tested(tested, arm, test).items()}
        if spent := [time["seconds"] for time in times.to_dict("records") if time["arm"] == arm]:
            row["search_seconds"] = sum(spent)
        if counted := [flops[search["run"]] for search in group if search["run"] in flops]:
            row["search_flops"] = sum(counted)
        rows.append(row)
    return pd.DataFrame(rows)


def _tested(evaluations: pd.DataFrame, arm: str, test: str) -> Row:
    rows = evaluations.to_dict("records")
    tests = [row for row in rows if (row["arm"], row["test"]) == (arm, test)]
    cells = list(dict.fromkeys(row["search"] for row in tests))
    if not cells:
        return {}
    last, best = ([fmean(r[of] for r in tests if r["search"] == cell) for cell in cells] for of in (LAST, BEST))
    spread = last if len(cells) > 1 else [row[LAST] for row in tests]
    counts = {"cells_tested": len(cells), "evaluations": len(tests)}
    accuracies = {f"{LAST}_mean": fmean(last), f"{LAST}_sd": summary(spread).deviation}
    return counts | accuracies | {"sd_over": "cells" if len(cells) > 1 else "evaluations", f"{BEST}_mean": fmean(best)}
