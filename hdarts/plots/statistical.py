"""Statistical marks: lines per seed, strips, swarms and scatter plots, drawn by seaborn, and heat maps.

Seaborn takes a second to import, so each function imports it when called. Only its axes-level functions are used, and
none with random jitter: the same table gives the same file, and no pyplot figure is opened.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure

from hdarts.plots.style import COLOURS, INK, line_styles, new_figure
from hdarts.plots.tables import label

Style = Mapping[str, Any]  # colour, marker, line style and other properties of a line


def seed_lines(axes: Axes, rows: pd.DataFrame, x: str, y: str, by: Sequence[str] = ("seed",), **style: Any) -> None:
    """Draw column `y` over column `x`, one line per combination of values of the columns `by`."""
    import seaborn as sns

    rows = rows.assign(line=rows.groupby(list(by), sort=False).ngroup())
    sns.lineplot(rows, x=x, y=y, units="line", estimator=None, sort=False, legend=False, ax=axes, **style)


def mean_line(axes: Axes, rows: pd.DataFrame, x: str, y: str, at: str = "", **style: Any) -> None:
    """Draw the means of columns `x` and `y` over all rows that have the same value of column `at` (default: `x`)."""
    import seaborn as sns

    means = rows.groupby(at or x, as_index=False).agg(dict.fromkeys({x, y} - {at or x}, "mean"))
    sns.lineplot(means, x=x, y=y, estimator=None, legend=False, ax=axes, **style)


def strips(
    axes: Axes, rows: pd.DataFrame, x: str, y: str, order: Sequence[Any], name: str, styles: Mapping[Any, Style]
) -> None:
    """Draw every value of column `x` as a mark in the row of its category `y`.

    Rows of marks from top to bottom in `order`; marks of different values of column `name` lie side by side and differ
    in colour and marker.
    """
    import seaborn as sns

    places: dict[str, Any] = {"order": list(order), "hue": name, "hue_order": list(styles), "dodge": True}
    random_state = np.random.get_state()  # stripplot draws random numbers even without jitter
    for value, style in styles.items():
        drawn = rows.loc[(rows[name] == value) & rows[x].notna()]
        marks: dict[str, Any] = {"marker": style["marker"], "size": 5, "linewidth": 0.5, "edgecolor": "white"}
        if style["marker"] == "|":  # which has no face
            marks |= {"size": 8, "linewidth": 1.2, "edgecolor": style["color"]}
        palette = [style["color"]] * len(styles)
        sns.stripplot(drawn, x=x, y=y, **places, **marks, palette=palette, jitter=False, legend=False, ax=axes)
        axes.plot([], [], linestyle="", color=style["color"], marker=style["marker"], label=str(value))
    np.random.set_state(random_state)
    axes.set_ylabel("")
    axes.grid(True, axis="y")


def swarm(axes: Axes, rows: pd.DataFrame, x: str, y: str) -> list[Any]:
    """Draw column `y` as points, moved apart, above categories `x` with bars at means; return the categories."""
    import seaborn as sns

    categories = list(dict.fromkeys(rows[x]))
    shared: dict[str, Any] = {"x": x, "y": y, "order": categories, "ax": axes}
    sns.swarmplot(rows, **shared, color=COLOURS[0], size=4.5, warn_thresh=1)
    bar = {"marker": "_", "markersize": min(60, 280 / len(categories)), "markeredgewidth": 1.4, "color": INK}
    sns.pointplot(rows, **shared, errorbar=None, linestyle="none", **bar)
    axes.set_xlabel("")
    axes.grid(False, axis="x")
    return categories


def scatter_by_arm(rows: pd.DataFrame, x: str, y: str) -> Figure:
    """Return a scatter plot of column `y` over column `x`, one point per row, with colour and marker by `arm`."""
    import seaborn as sns

    figure = new_figure(3.2, 5.4)
    axes, styles = figure.subplots(), line_styles(rows["arm"])
    colours, markers = ({arm: style[key] for arm, style in styles.items()} for key in ("color", "marker"))
    sns.scatterplot(rows, x=x, y=y, hue="arm", style="arm", palette=colours, markers=markers, s=32, ax=axes)
    sns.move_legend(axes, "upper left", bbox_to_anchor=(1, 1), handlelength=1, title=None)
    axes.set_xlabel(label(x))
    axes.set_ylabel(label(y))
    return figure


def heat_map(axes: Axes, table: pd.DataFrame, numbers: str = "", **settings: Any) -> QuadMesh:
    """Draw a table as a heat map, first row on top, one tick per row and column, and return its coloured cells.

    Each cell shows its value in the format `numbers`, such as ".1f", if given. Seaborn would draw the figure twice.
    """
    mesh = axes.pcolormesh(table, **{"cmap": "cividis", "edgecolors": "white", **settings})
    values = table.to_numpy() if numbers else np.empty((0, 0))
    shades = np.asarray(mesh.norm(values))
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            ink = "white" if shades[row, column] < 0.5 else INK
            axes.text(column + 0.5, row + 0.5, format(value, numbers), ha="center", va="center", color=ink, size=7)
    axes.invert_yaxis()
    axes.set_xticks(np.arange(table.shape[1]) + 0.5, table.columns)
    axes.set_yticks(np.arange(table.shape[0]) + 0.5, table.index)
    axes.tick_params(length=0)
    axes.grid(False)
    axes.spines[:].set_visible(False)
    return mesh
