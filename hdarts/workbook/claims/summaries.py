"""Tables of a study for readers: all results with intervals, the best of n cells, verdicts with links, costs."""

import os
from dataclasses import asdict
from html import escape
from math import isnan, nan
from pathlib import Path

import pandas as pd
from pandas.io.formats.style import Styler

from hdarts.runs.paths import below_runs
from hdarts.workbook.analysis import Row, tables
from hdarts.workbook.analysis.statistics import summary
from hdarts.workbook.analysis.tables import LAST
from hdarts.workbook.claims.evidence import Evidence, grouped, matching
from hdarts.workbook.claims.thesis import table


def intervals(evidence: Evidence) -> pd.DataFrame:
    """Return mean, sample standard deviation and Student's 95 % t interval of the mean of everything that was run.

    Columns: arm, setting, what, over (search seeds | evaluation seeds | cells), n, mean, sd, t_low, t_high, minimum,
    maximum; accuracies in per cent, those of tests of the last epoch. A cell's accuracy is over its evaluations, an
    arm's over the means of its cells. Fewer than 3 values have no interval.
    """
    rows = []
    for (arm, setting), searches in grouped(evidence.searches, "arm", "setting").items():
        if scores := [row["validation_accuracy"] for row in searches if "validation_accuracy" in row]:
            rows.append(_row(arm, setting, "search-validation accuracy", "search seeds", scores))
    for (arm, setting, test), cells in grouped(evidence.cells, "arm", "setting", "test").items():
        for cell in cells:
            what = f"test accuracy on {test}, cell of search seed {cell['search_seed']}"
            rows.append(_row(arm, setting, what, "evaluation seeds", cell["accuracies"]))
        if len(cells) > 1:
            means = [cell[LAST] for cell in cells]
            rows.append(_row(arm, setting, f"test accuracy on {test}", "cells", means))
    return pd.DataFrame(rows)


def best_of_n(evidence: Evidence) -> pd.DataFrame:
    """Return the accuracy of each arm's best cell, and the expected one of the best of as many random cells.

    Columns: arm, data, searches (n), best (per cent, last epoch, mean over the evaluations of the selected cell, or of
    the best cell where none was selected), chance (expected best of n random cells, chosen by test accuracy; empty
    where fewer than n were tested).
    """
    rows = []
    for (arm, data), cells in grouped(evidence.cells, "arm", "data").items():
        if arm == "random":
            continue
        n = max(1, len(matching(evidence.searches, arm=arm)))
        best = max(cells, key=lambda row: (row["selected"], row[LAST]))[LAST]
        chance, _ = evidence.expected_best(n, data)
        rows.append({"arm": arm, "data": data, "searches": n, "best": best, "chance": chance})
    return pd.DataFrame(rows)


def text_table(frame: pd.DataFrame) -> Styler:
    """Return a table of sentences for a notebook: aligned to the left, without index, HTML-escaped."""
    styler = frame.style.hide()
    styler.format(escape="html")
    return styler.set_table_styles([{"selector": "td, th", "props": "text-align: left"}])


def with_links(verdicts: pd.DataFrame, folder: Path) -> Styler:
    """Return the verdicts for a notebook in `folder`, HTML-escaped, with a link to each run."""

    def links(runs: str) -> str:
        paths = ((run, os.path.relpath(below_runs(run), folder)) for run in runs.split())
        return " ".join(f'<a href="{escape(path)}">{escape(run.split("/")[-1])}</a>' for run, path in paths)

    styler = text_table(verdicts)
    styler.format({"runs": links}, escape="html")
    return styler


def _row(arm: str, setting: str, what: str, over: str, values: list[float]) -> Row:
    names = {"deviation": "sd", "low": "t_low", "high": "t_high"}
    numbers = {names.get(name, name): value for name, value in asdict(summary(values)).items()}
    return {"arm": arm, "setting": setting, "what": what, "over": over, **numbers}


def accuracy_and_cost(study: str) -> pd.DataFrame:
    """Return figure 35 of the thesis as a table: its rows (table 23) on both data sets, and each tested arm of `study`.

    Columns: `panel`, `model`, `accuracy` and its `deviation` (per cent; nan where not known), and `cost` of all its
    searches together in `unit`, GPU days or, here, minutes of this machine (random cells: 0); `published`, the cost in
    the model's paper. The thesis's accuracies are those of the best epoch, chosen on the test set, ours of the last.
    """
    rows: list[Row] = []
    theirs = table(23).merge(table("published")[["model", "search_days"]], "left", "model", suffixes=("", "_published"))
    for data, panel in (("cifar10", "thesis: CIFAR-10, best epoch"), ("cifar100", "thesis: CIFAR-100, best epoch")):
        numbers = {"cost": theirs["search_days"], "accuracy": theirs[data], "deviation": theirs[f"{data}_sd"]}
        numbers["published"] = theirs["search_days_published"]
        rows += pd.DataFrame({"panel": panel, "model": theirs["model"], **numbers, "unit": "GPU days"}).to_dict(
            "records"
        )
    tested = tables.evaluations(study)
    here = f"here: {tested['test'].iloc[0]}, last epoch" if len(tested) else "here"
    for row in tables.by_arm(study).to_dict("records"):
        cost = float(row.get("search_seconds", nan)) / 60
        plotted: Row = {"panel": here, "model": row["arm"], "cost": 0.0 if isnan(cost) else cost, "unit": "min"}
        rows.append(plotted | {"accuracy": row.get(f"{LAST}_mean", nan), "deviation": row.get(f"{LAST}_sd", nan)})
    return pd.DataFrame(rows).dropna(subset=["accuracy"])
