"""A slider that redraws a figure in a live notebook."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from matplotlib.figure import Figure

from hdarts.plots.style import PIXELS, render
from hdarts.runs.progress import interactive


def slide(draw: Callable[[Any], Figure | Sequence[Figure]], label: str, values: Sequence[Any], start: Any) -> None:
    """Show a slider over `values` above the figure or figures `draw(value)`, in a live notebook only (no papermill)."""
    if not interactive():
        return
    from IPython.display import display
    from ipywidgets import HTML, Image, SelectionSlider, VBox

    @cache
    def drawn(value: Any) -> Sequence[Figure]:
        figures = draw(value)
        return [figures] if isinstance(figures, Figure) else figures

    chosen = SelectionSlider(
        options=[(f"{value:g}", value) for value in values],
        value=start,
        description=label,
        continuous_update=False,
        style={"description_width": "initial"},
        layout={"width": "32rem"},
    )
    widths = [round(PIXELS * figure.get_size_inches()[0]) for figure in drawn(start)]
    images = [Image(value=render(one, "png"), width=width) for one, width in zip(drawn(start), widths, strict=True)]

    def redraw(change: dict[str, Any]) -> None:
        for image, figure in zip(images, drawn(change["new"]), strict=True):
            image.value = render(figure, "png")

    chosen.observe(redraw, names="value")
    display(VBox([chosen, *images, HTML("<small>Drag, or press the arrow keys.</small>")]))
