"""The style of all figures: readable in greyscale and at report size, the same file every time."""

import functools
import io
import itertools
import textwrap
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any, ParamSpec

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import imsave
from matplotlib.transforms import Bbox

WIDTH = 6.3  # inches, the text width of an A4 report
PIXELS = 110  # per inch, in a notebook
INK, FAINT = "#222222", "#8a8a8a"

# Okabe and Ito's colours, ordered so that neighbours differ in lightness; marker and line style differ as well
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#5b3a8c", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<")  # one more than colours: names 8 apart differ in both
DASHES = ((5, 1.5), (1, 1.2), (6, 1.5, 1, 1.5), (3, 1, 1, 1, 1, 1), (9, 2))
LINES: tuple[Any, ...] = ("-", *((0, dashes) for dashes in DASHES))

# arms of the studies, and the thesis's names of the same methods: their places in the cycles above
METHODS: dict[Any, int] = {
    **{"darts-first": 0, "darts-second": 1, "hyperdarts-1": 2, "hyperdarts-2": 3, "random": 4, "beta-darts": 5},
    **{"hyperdarts-centred": 6, "DARTS": 1, "hyperDARTS-1": 2, "hyperDARTS-2": 3},
}

RC: dict[Any, Any] = {
    "figure.dpi": 200,
    "font.family": "sans-serif",
    "font.size": 8,
    "axes.titlesize": 9,
    "axes.labelsize": 8,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "legend.fontsize": 7.5,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "lines.linewidth": 1.5,
    "lines.markersize": 4,
    "legend.frameon": False,
    "legend.handlelength": 2.8,
    "svg.fonttype": "none",  # text stays text: it can be searched and edited
    "svg.hashsalt": "hdarts",  # the same figure is the same file, byte for byte
}

P = ParamSpec("P")


def style() -> AbstractContextManager[None]:
    """Return the context in which figures are drawn and saved; it restores all settings afterwards."""
    return mpl.rc_context(RC)


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Make a function draw within `style()` and fix the layout of its figure."""

    @functools.wraps(draw)
    def inside(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with style():
            figure = draw(*args, **kwargs)
            for axes in figure.axes:  # else looked up at each drawing, to choose the number of ticks
                axes.tick_params(labelsize=RC["xtick.labelsize"])
            figure.canvas.draw()  # creates the ticks and their texts in this style
            figure.set_layout_engine("none")  # keeps all places, whatever it is saved as
            figure.stale = False  # until it changes, `render` need not draw it again
            return figure

    return inside


def new_figure(height: float, width: float = WIDTH, layout: Any = "constrained") -> Figure:
    """Return an empty figure of `width` by `height` inches, unknown to pyplot's global state."""
    figure = Figure(figsize=(width, height), layout=layout)
    FigureCanvasAgg(figure)
    # IPython registers a formatter for pyplot's figures only; for other objects it calls this method
    figure._repr_png_ = functools.partial(_in_notebook, figure)  # pyright: ignore[reportAttributeAccessIssue]
    return figure


def show_png(figure: Figure, png: bytes) -> None:
    """Let a notebook show `png`, the rendered figure, instead of rendering it again."""
    figure._repr_png_ = functools.partial(_in_notebook, figure, png)  # pyright: ignore[reportAttributeAccessIssue]


def _in_notebook(figure: Figure, png: bytes = b"") -> tuple[bytes, dict[str, int]]:
    width, height = _bounds(figure).size
    return png or render(figure, "png"), {"width": round(PIXELS * width), "height": round(PIXELS * height)}


def add_note(figure: Figure, note: str) -> None:
    """Write a note below a finished figure; `render` then adds a strip for it at the bottom."""
    for legend in figure.legends:
        if legend.get_bbox_to_anchor() is figure.bbox:  # which would move with the lower edge
            legend.set_bbox_to_anchor((0, 0, 1, 1), figure.transFigure)
    with style():
        figure.text(0.01, 0, textwrap.fill(note, int(20 * figure.get_size_inches()[0])), fontsize=7, va="top")


def _bounds(figure: Figure) -> Bbox:
    """Return the rectangle of a figure and its notes, in inches."""
    low = min([0.0, *(text.get_window_extent().y0 / figure.dpi - 0.04 for text in figure.texts)])
    width, height = figure.get_size_inches()
    return Bbox([[0, low], [width, height]])


def render(figure: Figure, kind: str = "svg") -> bytes:
    """Return the bytes of a figure as `svg` or `png` (200 dpi); the same figure gives the same bytes on any day."""
    buffer = io.BytesIO()
    metadata: dict[str, Any] = {"Date": None} if kind == "svg" else {"Software": None}
    if kind == "png" and not figure.stale and isinstance(figure.canvas, FigureCanvasAgg):
        imsave(buffer, figure.canvas.buffer_rgba(), format="png", dpi=figure.dpi, metadata=metadata)
        return buffer.getvalue()
    bounds = _bounds(figure)
    box = bounds if bounds.y0 < 0 else None
    with style():
        figure.savefig(buffer, format=kind, dpi=RC["figure.dpi"], metadata=metadata, bbox_inches=box, pad_inches=0)
    return buffer.getvalue()


def line_styles(names: Iterable[Any]) -> dict[Any, dict[str, Any]]:
    """Return colour, marker and line style for each name, so that none relies on colour alone.

    The methods in `METHODS` have the same in all figures; others take, in the order given, those that are free.
    """
    cycles = {"color": COLOURS, "marker": MARKERS, "linestyle": LINES}
    unique = list(dict.fromkeys(names))
    fixed = {name: METHODS[name] for name in unique if name in METHODS}
    free = (i for i in itertools.count() if i not in fixed.values())
    places = {name: fixed[name] if name in fixed else next(free) for name in unique}
    return {name: {key: cycle[i % len(cycle)] for key, cycle in cycles.items()} for name, i in places.items()}
