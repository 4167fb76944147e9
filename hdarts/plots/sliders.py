"""Figures that a slider draws anew where someone watches, and the slider."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Circle

from hdarts.plots.style import COLOURS, FAINT, INK, PIXELS, looks, new_figure, picture, require, split, styled
from hdarts.runs.progress import interactive


def slide(draw: Callable[[Any], Figure], label: str, values: Sequence[Any], start: Any) -> None:
    """In a live notebook show a slider over `values`, at `start`, above the figure `draw(value)`.

    Executed by papermill it shows nothing: there the static figure beside it says what can be said in one picture.
    """
    if not interactive():
        return
    from IPython.display import display
    from ipywidgets import HTML, Image, SelectionSlider, VBox

    drawn = cache(draw)
    chosen = SelectionSlider(
        options=[(f"{value:g}", value) for value in values],
        value=start,
        description=label,
        continuous_update=False,
        style={"description_width": "initial"},
        layout={"width": "32rem"},
    )
    figure = drawn(start)
    image = Image(value=picture(figure, "png"), width=round(PIXELS * figure.get_size_inches()[0]))

    def redraw(change: dict[str, Any]) -> None:
        image.value = picture(drawn(change["new"]), "png")

    chosen.observe(redraw, names="value")
    display(VBox([chosen, image, HTML("<small>Drag, or press the arrow keys.</small>")]))


@styled
def approach(frame: pd.DataFrame, names: tuple[str, str], truth: tuple[float, float]) -> Figure:
    """Return the way of a hypergradient of two components from no response to K terms, an axes for each `share`.

    Columns: `share` (the step size times the largest curvature), `K` and the components `names`. The cross is `truth`,
    dashed circles are at once and twice the distance of no response from it.
    """
    across, up = names
    rows = require(frame, ["share", "K", across, up], "way of a hypergradient")
    parts = split(rows, "share")
    figure = new_figure(2.9, max(2.9, 2.1 * len(parts)))
    grid = figure.subplots(1, len(parts), sharex=True, sharey=True, squeeze=False)[0]
    first = rows[rows["K"] == 0].iloc[0]
    reach = float(((first[across] - truth[0]) ** 2 + (first[up] - truth[1]) ** 2) ** 0.5)
    for axes, (share, own) in zip(grid, parts.items(), strict=True):
        own = own.sort_values("K")
        for radius in (reach, 2 * reach):
            axes.add_patch(Circle(truth, radius, fill=False, ec=FAINT, ls=(0, (4, 2)), lw=0.8))
        axes.plot(own[across], own[up], "o-", color=COLOURS[0], markersize=3, linewidth=1, label="K = 2, 3, ...")
        for k, colour, marker, text in ((0, INK, "o", "K = 0, no response"), (1, COLOURS[1], "s", "K = 1, one step")):
            one = own[own["K"] == k]
            axes.plot(one[across], one[up], marker, color=colour, markersize=6, linestyle="", label=text)
        axes.plot(*truth, "x", color=INK, markersize=8, markeredgewidth=1.8, linestyle="", label="exact")
        axes.set(title=rf"$\xi = {share:g}\,/\,\kappa_{{max}}$", xlabel=across)
        axes.set(xlim=(truth[0] - 2.1 * reach, truth[0] + 2.1 * reach))
        axes.set(ylim=(truth[1] - 2.1 * reach, truth[1] + 2.1 * reach))
        axes.set_aspect("equal")
    grid[0].set_ylabel(up)
    handles, words = grid[0].get_legend_handles_labels()
    figure.legend(handles, words, loc="outside upper center", ncols=4 if len(parts) > 1 else 2)
    return figure


@styled
def chords(frame: pd.DataFrame, at: float) -> Figure:
    """Return lines through a best response near alpha = `at`, an axes for each `sigma`; shaded: `at` +- 2 sigma.

    Columns: `sigma`, `line`, `alpha`, `weight`. The first line is the best response itself.
    """
    rows = require(frame, ["sigma", "line", "alpha", "weight"], "lines through a best response")
    parts, look = split(rows, "sigma"), looks(rows["line"])
    figure = new_figure(2.9, max(3.2, 2.1 * len(parts)))
    grid = figure.subplots(1, len(parts), sharex=True, sharey=True, squeeze=False)[0]
    for axes, (sigma, own) in zip(grid, parts.items(), strict=True):
        axes.axvspan(at - 2 * sigma, at + 2 * sigma, color="#eeeeee", label="alphas seen")
        for name, one in split(own, "line").items():
            line = {"color": look[name]["color"], "linestyle": look[name]["linestyle"]}
            axes.plot(one["alpha"], one["weight"], label=str(name), **line)
        axes.set(title=f"sigma = {sigma:g}", xlabel="alpha", xlim=(rows["alpha"].min(), rows["alpha"].max()))
    grid[0].set_ylabel("weight")
    handles, words = grid[0].get_legend_handles_labels()
    figure.legend(handles, words, loc="outside upper center", ncols=3 if len(parts) > 1 else 2)
    return figure
