"""Lines over a quantity: the plain figure of notebooks 01, 02 and 04."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from hdarts.plots.style import FAINT, label, legend_above, line_styles, new_figure, require, split, styled


@styled
def lines(
    frame: pd.DataFrame,
    x: str | Sequence[str],
    y: str,
    name: str,
    *,
    facet: str | None = None,
    log: str = "",
    linear: Sequence[str] = (),
    dashed: Sequence[Any] = (),
    least: float | None = None,
    most: float | None = None,
) -> Figure:
    """Return column `y` over column `x`, a line for each value of column `name`, an axes for each value of `facet`.

    Of several columns `x` each has an axes, side by side; a value of `facet` then has a row of them. `log`: "x", "y"
    or "xy" for logarithmic axes, where values of 0 or less are not drawn; columns in `linear` are excepted. Names
    in `dashed` are drawn as thin dashed lines without marks (predictions, references). A line leaves the frame below
    `least` and above `most`; a frame is no larger than its lines.
    """
    columns = [x] if isinstance(x, str) else list(x)
    what = f"{label(y)} over {', '.join(map(label, columns))}"
    rows = require(frame, [*columns, y, name, *([facet] if facet else [])], what)
    for axis, column in (*(("x", column) for column in columns), ("y", y)):
        if axis in log and column not in linear:
            rows = rows.loc[np.asarray(rows[column], dtype=float) > 0]
    parts = split(rows, facet) if facet else {"": rows}
    panels = [(title, part, column) for title, part in parts.items() for column in columns]
    across = len(columns) if len(columns) > 1 else min(3, len(panels))
    down = -(-len(panels) // across)
    figure = new_figure(0.6 + 2.1 * down if facet else 3.0, layout="constrained")
    grid = figure.subplots(down, across, squeeze=False)
    plain = ({"marker": "", "linestyle": (0, (4 / n, 2)), "color": FAINT} for n in range(1, len(dashed) + 1))
    # a method has one look in all figures, whether or not a prediction is drawn beside it
    look = line_styles(value for value in rows[name] if value not in dashed) | dict(zip(dashed, plain, strict=True))
    for axes, (title, part, column) in zip(grid.flat, panels, strict=False):
        for value, own in split(part, name).items():
            axes.plot(np.asarray(own[column]), np.asarray(own[y]), label=str(value), markersize=3, **look[value])
        axes.set_xscale("log" if "x" in log and column not in linear else "linear")
        axes.set_yscale("log" if "y" in log else "linear")
        low, high = axes.get_ylim()
        axes.set_ylim(low if least is None else max(low, least), high if most is None else min(high, most))
        axes.set_title(str(title))
        axes.set_xlabel(label(column))
    for axes in grid[:, 0]:
        axes.set_ylabel(label(y))
    for axes in grid.flat[len(panels) :]:
        axes.set_axis_off()
    legend_above(figure)
    return figure
