"""The classes of an evaluation: which are recognised, which are confused, and how far confidences can be trusted."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from hdarts.plots.style import COLOURS, FAINT, INK, new_figure, styled
from hdarts.plots.tables import require

SHOWN = 12  # classes with their names; of more, those with the lowest accuracy


@styled
def class_results(classes: pd.DataFrame, confusion: pd.DataFrame, calibration: pd.DataFrame) -> Figure:
    """Return accuracy per class, confusion matrix and reliability diagram of the tables of `hdarts.train.classes`.

    Of more than 12 classes, the 12 with the lowest accuracy are shown. A row of the matrix adds up to 100 % with the
    classes that are not shown. Distances from the diagonal of the reliability diagram, weighted by the bars at its
    foot, add up to the expected calibration error.
    """
    rows = require(classes, ["class", "images", "accuracy"], "accuracy per class")
    worst = [*rows.nsmallest(SHOWN, "accuracy")["class"]]
    shown = rows.loc[rows["class"].isin(worst)]
    figure = new_figure(1.5 + 0.13 * max(len(shown), 8))
    bars, matrix, reliability = figure.subplots(1, 3, width_ratios=[1, 1.25, 1.1])
    names = [str(name) for name in shown["class"]]
    _bars(bars, names, shown["accuracy"].to_numpy(float), len(rows))
    _matrix(matrix, names, confusion.astype({"class": str, "predicted": str}), rows)
    _reliability(reliability, calibration)
    return figure


def _short(name: str, length: int) -> str:
    """Return a name of at most `length` characters, left out in the middle: many classes differ in the last ones."""
    return name if len(name) <= length else f"{name[: length // 2]}…{name[length // 2 + 1 - length :]}"


def _bars(axes: Axes, names: list[str], accuracy: np.ndarray, classes: int) -> None:
    axes.barh(range(len(names)), accuracy, color=COLOURS[0], height=0.7)
    axes.set_yticks(range(len(names)), [_short(name, 14) for name in names])
    axes.set(xlim=(0, 100), ylim=(len(names) - 0.5, -0.5), xlabel="test accuracy (%)")
    axes.set_title("each class" if len(names) == classes else f"least accurate of {classes}")
    axes.grid(axis="y", visible=False)


def _matrix(axes: Axes, names: list[str], confusion: pd.DataFrame, rows: pd.DataFrame) -> None:
    images = dict(zip(rows["class"].astype(str), rows["images"], strict=True))
    shares = np.zeros((len(names), len(names)))
    places = {name: place for place, name in enumerate(names)}
    for true, predicted, count in confusion[["class", "predicted", "images"]].itertuples(index=False):
        if true in places and predicted in places:
            shares[places[true], places[predicted]] = 100 * count / images[true]
    axes.imshow(shares, cmap="Greys", vmin=0, vmax=100, aspect="auto", interpolation="none")
    for (i, j), share in np.ndenumerate(shares):
        if share >= 1:
            ink = INK if share < 55 else "white"
            axes.text(j, i, f"{share:.0f}", ha="center", va="center", fontsize=7, color=ink)
    axes.set_xticks(range(len(names)), [_short(name, 9) for name in names], rotation=90)
    axes.set_yticks(range(len(names)), [""] * len(names))
    axes.set(xlabel="predicted")
    axes.set_title("share of each true class (%)")
    axes.grid(visible=False)


def _reliability(axes: Axes, calibration: pd.DataFrame) -> None:
    bins = calibration.dropna(subset=["accuracy"])
    share = 100 * calibration["images"] / calibration["images"].sum()
    width = calibration["to"] - calibration["from"]
    axes.bar(calibration["from"], share, width, align="edge", color="#d9d9d9", label="images")
    axes.plot([0, 100], [0, 100], color=FAINT, linewidth=1, linestyle="--")
    axes.plot(bins["confidence"], bins["accuracy"], marker="o", markersize=3, color=COLOURS[1], label="accuracy")
    axes.set(xlim=(0, 100), ylim=(0, 102), xlabel="confidence (%)")
    axes.yaxis.set_major_formatter(PercentFormatter(decimals=0))
    axes.set_title("calibration")
    axes.legend(loc="upper left", handlelength=1.2)
