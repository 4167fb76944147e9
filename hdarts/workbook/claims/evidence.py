"""The evidence of a study: one row per search, per tested cell and per snapshot, with the names of their runs."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hdarts.runs.paths import below_runs
from hdarts.runs.run import read_table
from hdarts.workbook.analysis import Row, tables
from hdarts.workbook.analysis.runs import EXAMINE, INTERFERENCE, SEARCH, finished_evaluations, finished_runs, scale_note
from hdarts.workbook.analysis.statistics import expected_maximum
from hdarts.workbook.analysis.tables import LAST

# sizes of the thesis (its sections 4.8.1, 4.8.2); a run with fewer is a mini run
SEARCH_SIZES = {"channels": 16, "layers": 8, "epochs": 45}  # 45: the shortest of its experiment 1.3
EVALUATION_SIZES = {"channels": 36, "layers": 20, "epochs": 600}
THESIS_DATA = ("cifar10", "cifar100")


class NotRun(Exception):
    """Runs that a claim needs are missing; the message names them."""


@dataclass(frozen=True)
class Evidence:
    """The rows of a study. Search seeds and evaluation seeds are never mixed.

    `searches`: one row per finished search: run, arm, search_seed, its other labels and parameters, and its measures
    (`_measured`). `cells`: one row per cell and test (data set): `last_test_accuracy` is the mean over the evaluations
    of the cell (`accuracies`), other columns are those of its search. `snapshots`: what notebook 04 measured, one row
    per run, epoch, method and part. `scale`: what `study.yaml` says of it, "" at full scale. `interference`: what
    notebook 10 measured, one row per run and source of weights, with the `seconds` of the run.
    """

    study: str
    searches: list[Row]
    cells: list[Row]
    snapshots: list[Row]
    scale: str = ""
    interference: list[Row] = field(default_factory=list)

    def of_arm(self, arm: str, measures: Iterable[str], **where: str) -> list[Row]:
        """Return the rows of an arm with these measures and these values (as text); raises `NotRun` if none."""
        tested = LAST in measures
        rows = matching(self.cells if tested else self.searches, arm=arm, **where)
        name = f"arm {arm}" + "".join(f", {key} {value}" for key, value in where.items())
        if not rows:
            raise NotRun(f"no {'tested cell' if tested else 'search'} of {name}")
        if len(stages := {row["stage"]: None for row in rows if "stage" in row}) > 1:
            raise NotRun(f"one stage of searches: {name} is in {' and '.join(stages)}")
        return measured(rows, measures, name)

    def by_seed(self, arm: str, measure: str, **where: str) -> dict[int, Row]:
        """Return the rows of an arm by search seed; raises `NotRun` for several settings of one seed."""
        rows = self.of_arm(arm, [measure], **where)
        seeds = {int(row["search_seed"]): row for row in rows}
        if len(seeds) < len(rows):
            raise NotRun(f"one search: arm {arm} has several settings of one search seed")
        return seeds

    def expected_best(self, n: int, data: str) -> tuple[float, int]:
        """Return the expected best test accuracy of n random cells, nan if fewer were tested; and how many were."""
        accuracies = [row[LAST] for row in matching(self.cells, arm="random", data=data)]
        return expected_maximum(accuracies, n) if n <= len(accuracies) else math.nan, len(accuracies)

    def full_scale(self, runs: Iterable[str]) -> bool:
        """Whether all these runs have the thesis's data and sizes, and the study is not recorded as one at a scale."""
        rows = (*self.searches, *self.cells, *self.snapshots)
        full = {run: row["full"] for row in rows for run in row["run"].split()}
        return not self.scale and all(full.get(run, False) for run in runs)


def matching(rows: Iterable[Row], **where: str) -> list[Row]:
    """Return the rows that have these values; a number equals its text."""
    return [row for row in rows if all(_same(row.get(name), value) for name, value in where.items())]


def measured(rows: list[Row], measures: Iterable[str], name: str) -> list[Row]:
    """Return the rows that have all measures; raises `NotRun` where none has."""
    for measure in measures:
        rows = [row for row in rows if (value := row.get(measure)) is not None and not _is_nan(value)]
        if not rows:
            raise NotRun(f"{measure} was not measured in {name}")
    return rows


def grouped(rows: Iterable[Row], *names: str) -> dict[Any, list[Row]]:
    """Return the rows by their value in a column, or their values in several; "" where a row has none."""
    groups: dict[Any, list[Row]] = {}
    for row in rows:
        key = tuple(row.get(name, "") for name in names)
        groups.setdefault(key if len(names) > 1 else key[0], []).append(row)
    return groups


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _same(cell: Any, text: str) -> bool:
    try:
        return float(cell) == float(text)
    except (TypeError, ValueError):
        return str(cell) == text


def read_evidence(study: str) -> Evidence:
    """Return the evidence from the finished runs of a study."""
    searches = [row | _measured(row) for row in finished_runs(study, SEARCH)]
    full = {row["run"]: row["full"] for row in searches}
    full_of = {row["run"]: full.get(row["params"].get("search", ""), False) for row in finished_runs(study, EXAMINE)}
    rows: list[Row] = tables.snapshot_agreement(study).to_dict("records")  # pyright: ignore[reportAssignmentType]
    snapshots = [row | {"full": full_of[row["run"]]} for row in rows]
    interference: list[Row] = [
        {str(name): value for name, value in one.items()} | {"run": row["run"], "seconds": _seconds(row["run"])}
        for row in finished_runs(study, INTERFERENCE)
        for one in read_table(below_runs(row["run"]), "sources").to_dict("records")
    ]
    return Evidence(study, searches, _cells(study, searches), snapshots, scale_note(study), interference)


def _measured(row: Row) -> Row:
    """Return the recorded measures of a search.

    `true_cifar10`, `true_cifar100` of the last cell in NAS-Bench-201 (per cent), `validation_accuracy` best of the
    epochs (per cent), `skip_free` 1 where the normal cell has no skip connection, `seconds` of its steps, `eigenvalue`
    of the Hessian in alpha and `drop` of accuracy by discretisation (points), both after the last epoch, `direct_share`
    |direct| / (|direct| + |response|), mean over the logged steps, and its least.
    """
    measures: Row = {"full": _is_full(row, SEARCH_SIZES)}
    folder = below_runs(row["run"])
    if "best_validation_accuracy" in row:
        measures["validation_accuracy"] = row["best_validation_accuracy"]
    if "skips_normal" in row:
        measures["skip_free"] = float(row["skips_normal"] == 0)
    if len(truth := read_table(folder, "truth")):
        last = truth.iloc[-1]
        measures |= {"true_cifar10": float(last["cifar10_test"]), "true_cifar100": float(last["cifar100_test"])}
    measures["seconds"] = _seconds(row["run"])
    if len(metrics := read_table(folder, "metrics")):
        last = metrics.iloc[-1].to_dict()
        measures["eigenvalue"] = last.get("eigenvalue", math.nan)
        measures["drop"] = last["validation_accuracy"] - last.get("discretised_accuracy", math.nan)
    if len(steps := read_table(folder, "hypergradients")):
        direct, response = (norm.to_numpy() for norm in tables.norms(steps).values())
        shares = direct / (direct + response)
        measures |= {"direct_share": float(shares.mean()), "least_direct_share": float(shares.min())}
    return measures


def _seconds(run: str) -> float:
    """Return the recorded time of the steps of a run; nan if there is none."""
    times = read_table(below_runs(run), "timings")
    return float(np.nansum(times["seconds"])) if len(times) else math.nan


def _cells(study: str, searches: list[Row]) -> list[Row]:
    """Return one row per cell and test: the mean over all different evaluations of that cell, selected or not."""
    by_run = {row["run"]: row for row in searches}
    rows = []
    for (search, _), tests in grouped(finished_evaluations(study), "search", "test").items():
        source = by_run.get(search, {name: tests[0][name] for name in ("arm", "search_seed")})
        accuracies = [test[LAST] for test in tests]
        row = {
            "data": tests[0].get("data", ""),
            "test": tests[0]["test"],
            "search_data": source.get("data", ""),
            LAST: sum(accuracies) / len(accuracies),
            "accuracies": accuracies,
            "selected": any(test["selected"] for test in tests),
            "full": all(_is_full(test, EVALUATION_SIZES) for test in tests) and source.get("full", False),
            "run": " ".join(test["run"] for test in tests),
        }
        rows.append({**source, **row})
    return rows


def _is_full(row: Row, sizes: dict[str, int]) -> bool:
    if row.get("method") == "random":  # nothing was searched: only its evaluation has a size
        return True
    whole = all(row.get(name, 0) == 0 for name in ("limit", "test_limit"))
    large = row.get("image_size", 0) in (0, 32) and all(row.get(name, 0) >= size for name, size in sizes.items())
    return whole and large and row.get("data") in THESIS_DATA
