"""Lines over a quantity: the plain figure of notebooks 01, 02 and 04."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from hdarts.plots.axes import facets, integer_axis, label_facets
from hdarts.plots.statistical import mean_line, seed_lines
from hdarts.plots.style import FAINT, line_styles, styled
from hdarts.plots.tables import label, require, split


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
    across: int = 3,
    share: str = "",
    each: str = "",
) -> Figure:
    """Return column `y` over column `x`, one line per value of column `name`, one axes per value of `facet`.

    Several columns `x` have one axes each, side by side; each value of `facet` then has a row of them. `log`: "x", "y"
    or "xy" for logarithmic axes, on which values of 0 or less are not drawn; columns in `linear` are excepted. Names
    in `dashed` are drawn as thin dashed lines without markers (predictions, references). `least` and `most` clip the
    vertical axis, which is no larger than its lines. `across`: most axes in a row, for one column `x`.
    `share`: "y" for one vertical scale. `each`: a column, such as the seed, whose values have a pale line each; the
    line of a name is then their mean.
    """
    columns = [x] if isinstance(x, str) else list(x)
    what = f"{label(y)} over {', '.join(map(label, columns))}"
    rows = require(frame, [*columns, y, name, *([facet] if facet else [])], what)
    for axis, column in (*(("x", column) for column in columns), ("y", y)):
        if axis in log and column not in linear:
            rows = rows.loc[np.asarray(rows[column], dtype=float) > 0]
    parts = split(rows, facet) if facet else {"": rows}
    panels = [(title, part, column) for title, part in parts.items() for column in columns]
    across = len(columns) if len(columns) > 1 else across
    figure, grid = facets([title for title, *_ in panels], 2.2 if facet else 2.6, across=across, share=share)
    plain = ({"marker": "", "linestyle": (0, (4 / n, 2)), "color": FAINT} for n in range(1, len(dashed) + 1))
    # a method has the same style in all figures, whether or not they have a prediction
    styles = line_styles(value for value in rows[name] if value not in dashed) | dict(zip(dashed, plain, strict=True))
    for axes, (_, part, column) in zip(grid, panels, strict=True):
        for value, line in split(part, name).items():
            style = {"label": str(value), "markersize": 3, **styles[value]}
            if each:
                seed_lines(axes, line, column, y, [each], linewidth=0.6, alpha=0.4, color=style["color"])
                mean_line(axes, line, column, y, markeredgecolor=style["color"], **style)
            else:
                axes.plot(line[column], line[y], **style)
        axes.set_xscale("log" if "x" in log and column not in linear else "linear")
        axes.set_yscale("log" if "y" in log else "linear")
    for axes in grid:
        low, high = axes.get_ylim()
        axes.set_ylim(low if least is None else max(low, least), high if most is None else min(high, most))
    label_facets(figure, grid, "", label(y))
    for axes, (*_, column) in zip(grid, panels, strict=True):
        axes.set_xlabel(label(column))
        if column == "epoch":
            integer_axis(axes)
    return figure
