"""How time and memory of a weight step grow with channels, cells, batch and image size."""

from dataclasses import replace

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from benchmarks.measure import alone
from benchmarks.setting import Setting
from benchmarks.steps import SIDES
from hdarts.plots.style import COLOURS, LINES, MARKERS, WIDTH, style

MIDDLE = Setting(channels=16, cells=6, batch=16, size=16)
VALUES = {"channels": (8, 16, 32), "cells": (3, 6, 12), "batch": (4, 16, 64), "size": (8, 16, 32)}
LABELS = {"channels": "channels", "cells": "cells", "batch": "batch", "size": "image size (pixels per side)"}
COSTS = {"seconds": "weight step (s)", "memory": "peak memory (MiB)"}


def growth(threads: int, device: str) -> pd.DataFrame:
    """Return seconds and memory, one row per side, axis and value; everything else is as in `MIDDLE`."""
    measured: dict[tuple[str, Setting], dict[str, float]] = {}
    rows = []
    for axis, values in VALUES.items():
        for value in values:
            for side in SIDES:
                case = (side, replace(MIDDLE, device=device, **{axis: value}))
                if case not in measured:
                    measured[case] = alone(side, "weight step", case[1], threads, rounds=2)
                rows.append({"side": side, "axis": axis, "value": value, **measured[case]})
    return pd.DataFrame(rows)


def slope(rows: pd.DataFrame, cost: str) -> float:
    """Return the least-squares slope of log(cost) over log(value)."""
    return float(np.polyfit(np.log(rows["value"]), np.log(rows[cost]), 1)[0])


def slopes(grown: pd.DataFrame) -> pd.DataFrame:
    """Return the slope of each cost along each axis, one column per side."""
    rows = [
        {"axis": axis, "cost": cost} | {side: slope(part(grown, axis, side), cost) for side in SIDES}
        for axis in VALUES
        for cost in COSTS
    ]
    return pd.DataFrame(rows).set_index(["axis", "cost"])


def part(grown: pd.DataFrame, axis: str, side: str) -> pd.DataFrame:
    """Return the rows of one line in the figure."""
    return grown.loc[(grown["axis"] == axis) & (grown["side"] == side)]


def draw(grown: pd.DataFrame, machine: str) -> Figure:
    """Draw log-log axes, one column per axis, time above memory; the legend gives the slope of each line."""
    with style():
        figure = Figure(figsize=(1.35 * WIDTH, 0.75 * WIDTH), layout="constrained")
        axes = figure.subplots(2, len(VALUES), sharex="col", sharey="row")
        for column, axis in enumerate(VALUES):
            for row, cost in enumerate(COSTS):
                panel = axes[row, column]
                for i, side in enumerate(SIDES):
                    of = part(grown, axis, side)
                    line = {"color": COLOURS[i], "marker": MARKERS[i], "linestyle": LINES[i]}
                    panel.plot(of["value"], of[cost], label=f"{side}, slope {slope(of, cost):.2f}", **line)
                panel.set(xscale="log", yscale="log")
                panel.set_xticks(VALUES[axis], [str(value) for value in VALUES[axis]])
                panel.minorticks_off()
                panel.legend(loc="upper left")
            axes[1, column].set_xlabel(LABELS[axis])
        for row, (cost, label) in enumerate(COSTS.items()):
            axes[row, 0].set_ylabel(label)
            axes[row, 0].set_ylim(top=5 * grown[cost].max())  # room for the legends
        figure.suptitle(
            f"middle: {MIDDLE.channels} channels, {MIDDLE.cells} cells, batch {MIDDLE.batch}, "
            f"{MIDDLE.size}x{MIDDLE.size} pixels, {MIDDLE.device}\n{machine}",
            fontsize=7,
        )
    return figure
