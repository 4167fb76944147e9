"""Curves of the searches of a study over epochs or steps, arm by arm, every seed drawn."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hdarts.plots.axes import facets, integer_axis, label_facets, legend_above
from hdarts.plots.statistical import mean_line, seed_lines
from hdarts.plots.style import FAINT, INK, line_styles, new_figure, styled
from hdarts.plots.tables import label, require, split

PARTS = ("direct", "response")  # of a hypergradient


@styled
def validation_curves(frame: pd.DataFrame) -> Figure:
    """Return search-validation accuracy (%) over the epochs, one axes per arm: all seeds, and their mean pale behind.

    Columns: `arm`, `seed`, `epoch`, `validation_accuracy`. Runs of the other arms are grey in the background. The axis
    starts at the lowest value of the last three quarters of the epochs: the first rise would hide all differences.
    """
    figure = _over_epochs(frame, {"validation_accuracy": ""}, label("validation_accuracy"))
    _cut_first_rise(figure.axes[0], frame)
    return figure


def _cut_first_rise(axes: Axes, frame: pd.DataFrame) -> None:
    """Start the vertical axis at the lowest accuracy of the last three quarters of the epochs."""
    accuracies = np.asarray(frame["validation_accuracy"])
    late = np.asarray(frame["epoch"]) >= np.nanmax(frame["epoch"]) / 4
    low, high = float(np.nanmin(accuracies[late])), float(np.nanmax(accuracies))
    if low < high:
        axes.set_ylim(low - 0.05 * (high - low), high + 0.05 * (high - low))


@styled
def selection_curves(frame: pd.DataFrame, selection: pd.DataFrame) -> Figure:
    """Return search-validation accuracy (%) of searches over the epochs, and which of them a selection chose.

    `frame`: `run`, `epoch`, `validation_accuracy`; `selection`: the table of `analysis.selection.select`. The chosen
    search has a broad line, those that were kept thin ones, those disregarded grey ones with hollow markers. A ring
    marks a search's best epoch, by which it is ranked. The axis starts as in `validation_curves`.
    """
    rows = require(frame, ["run", "epoch", "validation_accuracy"], "curves of a selection").reset_index()
    figure = new_figure(3.2)
    axes, curves = figure.subplots(), split(rows, "run")
    searches = [search for search in selection.to_dict("records") if search["run"] in curves]
    searches.sort(key=lambda search: not search["chosen"])  # the chosen one has the first colour and the solid line
    one_setting = selection["search_seed"].is_unique
    for search, style in zip(searches, line_styles(search["run"] for search in searches).values(), strict=True):
        curve = curves[search["run"]]
        name = f"seed {search['search_seed']}" if one_setting else search["run"].rpartition("/")[2]
        why = search["why"].partition(":")[0] if search["kept"] else search["why"].removesuffix(" in the normal cell")
        line: dict[str, Any] = {"linewidth": 1.0, "markevery": max(1, len(curve) // 8)}
        if search["chosen"]:
            line |= {"linewidth": 3.0, "zorder": 2.5}
        elif not search["kept"]:
            line |= {"color": FAINT, "markerfacecolor": "white"}
        axes.plot(curve["epoch"], curve["validation_accuracy"], label=f"{name}, {why}", **style | line)
    best = rows.loc[rows.groupby("run")["validation_accuracy"].idxmax()]
    ring: dict[str, Any] = {"marker": "o", "markersize": 9, "markerfacecolor": "none", "color": INK, "zorder": 3}
    axes.plot(best["epoch"], best["validation_accuracy"], linestyle="", label="best epoch", **ring)
    axes.set_xlabel(label("epoch"))
    axes.set_ylabel(label("validation_accuracy"))
    integer_axis(axes)
    _cut_first_rise(axes, rows)
    legend_above(figure)
    return figure


@styled
def skips_over_epochs(frame: pd.DataFrame) -> Figure:
    """Return the number of skip connections in the derived normal cell over the epochs, one axes per arm.

    Columns: `arm`, `seed`, `epoch`, `skips_normal`. Lines are drawn slightly apart, so that equal counts are all seen.
    """
    return _over_epochs(frame, {"skips_normal": ""}, label("skips_normal"), apart=0.1)


@styled
def entropy_over_epochs(frame: pd.DataFrame) -> Figure:
    """Return the entropy of the mixture weights in nats over the epochs, one axes per arm, one line style per kind.

    Columns: `arm`, `seed`, `epoch`, and `entropy_<kind>` for each kind of cell.
    """
    columns = [str(column) for column in frame if str(column).startswith("entropy_")] or ["entropy_normal"]
    kinds = {column: column.removeprefix("entropy_") for column in columns}
    return _over_epochs(frame, kinds, "entropy of the mixture weights (nats)")


@styled
def discretisation_gap(frame: pd.DataFrame) -> Figure:
    """Return supernet accuracy (%) before and after discretisation over the epochs, one axes per arm.

    Columns: `arm`, `seed`, `epoch`, `validation_accuracy`, and `discretised_accuracy`, the accuracy with the one-hot
    mixture of the cell derived from the epoch's alpha. Epochs at which it was not measured are left out.
    """
    columns = {"validation_accuracy": "mixture", "discretised_accuracy": "derived cell"}
    return _over_epochs(frame, columns, label("validation_accuracy"))


@styled
def eigenvalue_over_epochs(frame: pd.DataFrame) -> Figure:
    """Return the dominant eigenvalue of the Hessian of the outer loss in alpha over the epochs, one axes per arm.

    Columns: `arm`, `seed`, `epoch`, `eigenvalue` (nats). Epochs at which it was not measured are left out.
    """
    return _over_epochs(frame, {"eigenvalue": ""}, "dominant eigenvalue (nats)")


@styled
def hypergradient_parts(frame: pd.DataFrame) -> Figure:
    """Return the norms of the direct and the response part over the steps, one axes per arm, on a logarithmic scale.

    Columns: `arm`, `seed`, `step`, `direct`, `response`. Zeros, as in first-order DARTS, are not drawn.
    """
    figure = _over_epochs(frame, {part: part for part in PARTS}, label("norm"), x="step")
    for axes in figure.axes:
        axes.set_yscale("log", nonpositive="mask")
    return figure


@styled
def hypergradient_magnitudes(frame: pd.DataFrame) -> Figure:
    """Return the norms of both parts over the steps, one axes per part, one line per arm: the geometric mean of seeds.

    Columns as for `hypergradient_parts`. Zeros have no place on the logarithmic axis and are left out of the mean.
    """
    rows = require(frame, ["arm", "seed", "step", *PARTS], "hypergradient magnitudes")
    figure, grid = facets([f"{part} part" for part in PARTS], 2.8)
    styles = line_styles(rows["arm"])
    for axes, part in zip(grid, PARTS, strict=True):
        for arm, style in styles.items():
            norms = rows.loc[(rows["arm"] == arm) & (rows[part] > 0), ["step", part]]
            means = norms.assign(**{part: np.log(norms[part])}).groupby("step")[part].mean()
            every = max(1, len(means) // 6)
            axes.plot(means.index, np.exp(means), label=arm, markevery=every, linewidth=1, **style)
        axes.set_yscale("log")
        integer_axis(axes)
    label_facets(figure, grid, label("step"), label("norm"))
    return figure


def _over_epochs(
    frame: pd.DataFrame, columns: Mapping[str, str], text: str, apart: float = 0.0, x: str = "epoch"
) -> Figure:
    """Draw `columns`, with their names in the legend, over column `x`, one axes per arm, on common scales.

    An arm may lack values of a column, as the kinds of cells of another search space.
    """
    for column in columns:
        require(frame, ["arm", "seed", x, column], f"{text} by {x}")
    rows = frame.dropna(subset=["arm", "seed", x]).dropna(subset=list(columns), how="all")
    arms = split(rows, "arm")
    figure, grid = facets(arms, 1.75)
    for axes, (arm, runs) in zip(grid, arms.items(), strict=True):
        if len(columns) == 1 and len(arms) > 1:
            others = rows.loc[rows["arm"] != arm]
            seed_lines(axes, others, x, *columns, by=("arm", "seed"), color="#d4d4d4", linewidth=0.7, zorder=1)
        for (column, kind), style in zip(columns.items(), line_styles(columns).values(), strict=True):
            if np.isnan(np.asarray(runs[column], dtype=float)).all():
                continue
            line = {"color": style["color"], "linestyle": style["linestyle"]}
            line["marker"] = "o" if len(set(runs[x])) == 1 else ""  # a line through one epoch would not be seen
            names = [f"{kind}, {name}".lstrip(", ") for name in ("one seed", "mean of seeds")]
            place = runs.groupby("seed", sort=False).ngroup()
            shifted = runs.assign(**{column: runs[column] + apart * (place - (len(place.unique()) - 1) / 2)})
            seed_lines(axes, shifted, x, column, label=names[0], linewidth=0.9, **line)
            broad: dict[str, Any] = {"linewidth": 4, "alpha": 0.25, "zorder": 1.5, "markersize": 10}
            mean_line(axes, runs, x, column, label=names[1], solid_capstyle="butt", **broad, **line)
        integer_axis(axes)
    label_facets(figure, grid, label(x), text)
    return figure
