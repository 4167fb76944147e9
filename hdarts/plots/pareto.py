"""Accuracy over size: which cells no other cell beats in both."""

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.figure import Figure

from hdarts.plots.axes import legend_above, true_accuracy_axis
from hdarts.plots.style import INK, line_styles, new_figure, styled
from hdarts.plots.tables import label, require, split

COSTS = ("parameters", "multiply_adds")


def on_front(cost: npt.ArrayLike, value: npt.ArrayLike) -> np.ndarray:
    """Return which points are on the Pareto front: no other is at most as costly, at least as good, and not equal.

    >>> on_front([1, 2, 3], [5.0, 4.0, 6.0]).tolist()
    [True, False, True]
    """
    costs, values = np.asarray(cost)[:, None], np.asarray(value)[:, None]
    no_worse = (costs >= costs.T) & (values <= values.T)
    better = (costs > costs.T) | (values < values.T)
    return np.logical_not(np.any(no_worse & better, axis=1))


@styled
def accuracy_over_size(frame: pd.DataFrame, value: str, by: str = "arm") -> Figure:
    """Return column `value` (%) over parameters and multiply-adds, and the Pareto front of each as steps.

    Columns: `value`, `parameters`, `multiply_adds`, and `by`, which gives marks and legend; one row per cell.
    """
    rows = require(frame, [by, value, *COSTS], f"{label(value)} over size")
    figure = new_figure(2.9)
    left, right = figure.subplots(1, 2, sharey=True)
    styles = line_styles(rows[by])
    for axes, cost in ((left, COSTS[0]), (right, COSTS[1])):
        best = rows.loc[on_front(rows[cost], rows[value])].drop_duplicates([cost, value]).sort_values(cost)
        unit, word = (1e6, "millions") if max(rows[cost].tolist()) >= 1e6 else (1e3, "thousands")
        axes.step(
            np.asarray(best[cost]) / unit,
            best[value],
            where="post",
            color=INK,
            linewidth=1,
            zorder=1,
            label="Pareto front",
        )
        for name, part in split(rows, by).items():
            style = {**styles[name], "linestyle": "", "markeredgecolor": "white", "markeredgewidth": 0.5, "ms": 6}
            axes.plot(part[cost] / unit, part[value], label=str(name), **style)
        axes.margins(0.08, 0.1)
        axes.set_xlabel(f"{label(cost)} ({word})")
    left.set_ylabel(label(value))
    if value == "cifar10_test":
        true_accuracy_axis(left)
    legend_above(figure)
    return figure
