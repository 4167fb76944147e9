"""A slider that redraws a figure in a live notebook."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from matplotlib.figure import Figure

from hdarts.plots.style import PIXELS, render
from hdarts.runs.progress import interactive


def slide(draw: Callable[[Any], Figure], label: str, values: Sequence[Any], start: Any) -> None:
    """Show a slider over `values` above the figure `draw(value)`, in a live notebook only (not by papermill)."""
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
    image = Image(value=render(figure, "png"), width=round(PIXELS * figure.get_size_inches()[0]))

    def redraw(change: dict[str, Any]) -> None:
        image.value = render(drawn(change["new"]), "png")

    chosen.observe(redraw, names="value")
    display(VBox([chosen, image, HTML("<small>Drag, or press the arrow keys.</small>")]))
