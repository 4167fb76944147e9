"""The table of docs/leaderboard.md: what the searches of NAS-Bench-201 in some run folders found, and their cost."""

import re
from collections.abc import Sequence
from math import isnan, nan
from pathlib import Path
from statistics import fmean

import numpy as np
import pandas as pd

from hdarts.data.nasbench201_table import DATA_SETS
from hdarts.errors import ParameterError
from hdarts.params import SearchParams, read_yaml, recorded
from hdarts.runs.paths import below_runs, runs_folder
from hdarts.runs.provenance import last_images, read_starts
from hdarts.runs.run import read_result, read_table
from hdarts.workbook.analysis import Row
from hdarts.workbook.formatting import markdown_table, replace_marked

MARK = "hdarts leaderboard"  # of the page that has the table
ENOUGH = 3  # seeds of a method that is ranked
TRUE = [f"{name}_test" for name in DATA_SETS]
EPOCHS = ["arm", "search_seed", "epoch", "cell", "skips", *TRUE, "validation_accuracy", "entropy_cell"]
SETS = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "imagenet16_120": "ImageNet16-120"}


def leaderboard(folders: Sequence[str], page: Path | None = None) -> str:
    """Return the Markdown table of all finished searches below `runs/<folder>`; replace that of `page`, if given.

    Methods are ranked by their mean CIFAR-10 test accuracy within searches of the same supernet, images, epochs and
    batch size, from three search seeds on. Raises `ParameterError` if a folder has no finished search that was scored.
    """
    found = [row | {"folder": folder} for folder in folders for row in _searches(folder)]
    if len(folders) > 1:
        found = [row | {"method": f"{row['method']} ({row['folder']})"} for row in found]
    budgets = {budget: [row for row in found if row["budget"] == budget] for budget in (row["budget"] for row in found)}
    text = "\n".join(f"{budget}\n\n{_table(_by_method(rows))}" for budget, rows in budgets.items())
    if page is not None:
        replace_marked(page, MARK, text)
    return text


def every_epoch(folders: Sequence[str]) -> pd.DataFrame:
    """Return what each epoch of the same searches found: the cell, its true accuracies, and those of the supernet."""
    found = []
    for folder in folders:
        for search in _searches(folder):
            run = search["run"]
            table = read_table(run, "truth").merge(read_table(run, "metrics"), on="epoch").sort_values("epoch")
            found.append(table.assign(arm=search["method"], search_seed=search["seed"])[EPOCHS])
    return pd.concat(found).round(3)


def _searches(folder: str) -> list[Row]:
    """Return one row per finished and scored search below a folder, in the order of their names."""
    found = []
    for file in sorted(below_runs(folder).rglob("truth.csv")):
        truth, result = read_table(file.parent, "truth"), read_result(file.parent)
        if len(truth) and result is not None and result["method"] != "random":  # which has no images and no cost
            found.append(_search(file.parent, truth.sort_values("epoch", kind="stable").to_dict("records")[-1]))
    if not found:
        raise ParameterError(
            f"{runs_folder() / folder}: has no finished search with a truth.csv; a search of space nasbench201 writes "
            "one if the table of NAS-Bench-201 is in the data folder"
        )
    return found


def _search(run: Path, last: Row) -> Row:
    params, starts = recorded(SearchParams, read_yaml(run / "params.yaml")), read_starts(run)
    seconds = float(np.nansum(read_table(run, "timings")["seconds"]))
    return {
        "run": run,
        "budget": _budget(params, run),
        "method": re.sub(r"(^|-)search_seed=\d+|-[0-9a-f]{8}$", "", run.name) or params.method,
        "seed": params.search_seed,
        "skips": int(last["skips"]),
        **{name: float(last[f"{name}_test"]) for name in DATA_SETS},
        "flops": next((start["flops"] for start in reversed(starts) if "flops" in start), nan),
        "minutes": seconds / 60 * starts[-1].get("threads", 1) if starts[-1].get("device") == "cpu" else nan,
        "commit": [re.sub(r"(?<=^[0-9a-f]{7})[0-9a-f]+", "", start["git"]) for start in starts if start.get("git")],
        "date": [start["written"][:10] for start in starts],
    }


def _budget(params: SearchParams, run: Path) -> str:
    """Return in a sentence what searches must have in common to be compared."""
    if not (images := last_images(run)):
        raise ParameterError(f"{run}: its provenance.json does not say which images the search read; remove the folder")
    shape = " x ".join(map(str, images["shape"][1:]))
    return (
        f"Space {params.space}, stem {params.stem}, channels {params.channels}, cells per stage {params.layers}, "
        f"{params.epochs} epochs at batch {params.batch_size};\n"
        f"{images['train']:,} and {images['validation']:,} images of {images['name']} "
        f"({shape} pixels, SHA-256 {images['digest'][:8]}):"
    )


def _by_method(searches: Sequence[Row]) -> list[Row]:
    """Return one row per method: those with enough seeds, best first, then the others."""
    rows: list[Row] = []
    for method in dict.fromkeys(row["method"] for row in searches):
        group = sorted((row for row in searches if row["method"] == method), key=lambda row: row["seed"])
        rows.append(
            {
                "ranked": len({row["seed"] for row in group}) >= ENOUGH,
                "accuracy": fmean(row["cifar10"] for row in group),
                "method": method,
                "seeds": " ".join(str(row["seed"]) for row in group),
                **{title: _mean_and_each([row[name] for row in group]) for name, title in SETS.items()},
                "skips": " ".join(str(row["skips"]) for row in group),
                "TFLOP per search": _mean([row["flops"] / 1e12 for row in group], 1),
                "CPU minutes per search": _mean([row["minutes"] for row in group], 0),
                "commit": " ".join(dict.fromkeys(commit for row in group for commit in row["commit"])),
                "date": " ".join(sorted({date for row in group for date in row["date"]})),
            }
        )
    return sorted(rows, key=lambda row: (not row["ranked"], -row["accuracy"]))


def _mean_and_each(values: Sequence[float]) -> str:
    return f"**{fmean(values):.2f}** ({' '.join(f'{value:.2f}' for value in values)})"


def _mean(values: Sequence[float], decimals: int) -> str:
    """Return the mean over the searches that recorded a value, as text."""
    known = [value for value in values if not isnan(value)]
    return f"{fmean(known):.{decimals}f}" if known else "not recorded"


def _table(rows: list[Row]) -> str:
    ranks = [place if row["ranked"] else "not ranked" for place, row in enumerate(rows, 1)]
    shown = [{name: value for name, value in row.items() if name not in ("ranked", "accuracy")} for row in rows]
    return markdown_table([{"rank": rank, **row} for rank, row in zip(ranks, shown, strict=True)])
