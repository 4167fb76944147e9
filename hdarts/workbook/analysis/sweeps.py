"""Sweeps of a study: searches that differ only in the parameters that their labels name."""

import json
from itertools import takewhile

import pandas as pd

from hdarts.params import SearchParams, read_yaml
from hdarts.runs.paths import below_runs
from hdarts.workbook.analysis import Row, runs


def find_sweeps(study: str) -> dict[str, pd.DataFrame]:
    """Return the finished searches by sweep: their parameters are equal except for their labels and the search seed.

    Columns: run, seed, the labels that vary, and `setting`, their values ("0.05, 48"). A sweep has at least two
    settings; its name is the common start of the names of its arms.
    """
    groups: dict[str, list[Row]] = {}
    for row in runs.finished_runs(study, runs.SEARCH):
        if row["varied"]:
            left_out = {"run", "search_seed", *row["varied"]}
            params = SearchParams.identifying(read_yaml(below_runs(row["run"]) / "params.yaml"))
            alike = {name: value for name, value in params.items() if name not in left_out}
            groups.setdefault(json.dumps([row["varied"], alike], sort_keys=True), []).append(row)
    sweeps: dict[str, pd.DataFrame] = {}
    for rows in groups.values():
        varied = [name for name in rows[0]["varied"] if len({row[name] for row in rows}) > 1]
        if varied:
            frame = pd.DataFrame(
                {"run": row["run"], "seed": row["search_seed"], **{name: row[name] for name in varied}} for row in rows
            ).assign(setting=[", ".join(str(row[name]) for name in varied) for row in rows])
            name = _name([row["arm"] for row in rows])
            sweeps[name if name not in sweeps else f"{name}-{len(sweeps) + 1}"] = frame
    return sweeps


def outside_sweeps(table: pd.DataFrame, sweeps: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Return the rows of a table of searches whose runs are in none of the sweeps."""
    names = [run for sweep in sweeps.values() for run in sweep["run"]]
    return table.loc[~table["run"].isin(names)] if names else table


def numeric_labels(sweep: pd.DataFrame) -> list[str]:
    """Return the labels of a sweep whose values are numbers; of labels that vary together, the first."""
    kept: list[str] = []
    for name in (str(name) for name in sweep.select_dtypes("number") if name not in ("run", "seed", "setting")):
        pairs = {other: len(sweep[[other, name]].drop_duplicates()) for other in kept}
        if not any(sweep[other].nunique() == pairs[other] == sweep[name].nunique() for other in kept):
            kept.append(name)
    return kept


def label_names(sweep: pd.DataFrame) -> str:
    """Return the names of the labels of a sweep: "learning rate, batch size"."""
    return ", ".join(str(name).replace("_", " ") for name in sweep if name not in ("run", "seed", "setting"))


def _name(arms: list[str]) -> str:
    """Return the words that all names start with: rate-1 and rate-2.5 are arms of the sweep rate."""
    places = zip(*(arm.split("-") for arm in arms), strict=False)
    return "-".join(place[0] for place in takewhile(lambda place: len(set(place)) == 1, places)) or arms[0]
