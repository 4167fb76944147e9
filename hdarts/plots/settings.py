"""Searches that differ in a setting: their curves, a line a value (report figure 27)."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from hdarts.plots.style import integer_axis, label, looks, new_figure, require, split, styled


@styled
def setting_curves(frame: pd.DataFrame, names: str, y: str = "validation_accuracy") -> Figure:
    """Return column `y` over the epochs, a line a setting: the mean of its seeds, which stand behind, thin.

    Columns: `setting`, `seed`, `epoch` and `y`; `names` says what the settings are values of.
    """
    rows = require(frame, ["setting", "seed", "epoch", y], f"{label(y)} by {names}")
    figure = new_figure(2.6)
    axes = figure.subplots()
    settings = split(rows, "setting")
    for (setting, own), look in zip(settings.items(), looks(settings).values(), strict=True):
        runs, means = split(own, "seed"), {epoch: np.asarray(at[y]).mean() for epoch, at in split(own, "epoch").items()}
        for run in runs.values() if len(runs) > 1 else ():
            axes.plot(run["epoch"], run[y], color=look["color"], linestyle=look["linestyle"], linewidth=0.6, alpha=0.5)
        told = f"{setting} (n = {len(runs)})"
        axes.plot(list(means), list(means.values()), markevery=max(1, len(means) // 8), label=told, **look)
    axes.set_xlabel(label("epoch"))
    axes.set_ylabel(label(y))
    integer_axis(axes)
    axes.legend(title=names, loc="upper left", bbox_to_anchor=(1, 1), alignment="left")
    return figure
