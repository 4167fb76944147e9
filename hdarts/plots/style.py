"""One look for all figures: told apart in greyscale too, legible at report size, the same file every time."""

import functools
import io
import math
import textwrap
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any, ParamSpec

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, LogLocator, MaxNLocator, NullLocator
from matplotlib.transforms import Bbox

from hdarts.space import SearchSpace

WIDTH = 6.3  # inches, the text width of an A4 report
PIXELS = 110  # an inch is so many pixels of a notebook
INK, FAINT = "#222222", "#8a8a8a"

# Okabe and Ito's colours, ordered so that neighbours differ in lightness; marker and line style differ as well
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#5b3a8c", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
LINES: tuple[Any, ...] = (
    "-",
    (0, (5, 1.5)),
    (0, (1, 1.2)),
    (0, (6, 1.5, 1, 1.5)),
    (0, (3, 1, 1, 1, 1, 1)),
    (0, (9, 2)),
)

RC: dict[Any, Any] = {
    "figure.dpi": 120,
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

LABELS = {
    "epoch": "epoch",
    "step": "search step",
    "validation_accuracy": "search-validation accuracy (%)",
    "embedding": "length of the embedding vectors z",
    "peak_memory_mib": "most memory held (MiB)",
    "test_accuracy": "test accuracy (%)",
    "cifar10_test": "true CIFAR-10 test accuracy (%)",
    "seconds": "time (s)",
    "norm": "hypergradient norm (nats)",
    "kilobytes": "memory (kB)",
    "gradients": "gradients (count)",
    "skips_normal": "skip connections (count)",
    "cosine": "cosine to the reference",
    "relative_error": "relative error",
}

P = ParamSpec("P")


def style() -> AbstractContextManager[None]:
    """Return the context in which the figures are drawn and saved; what was set before is back afterwards."""
    return mpl.rc_context(RC)


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Let a function draw within `style()`."""

    @functools.wraps(draw)
    def inside(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with style():
            figure = draw(*args, **kwargs)
            for axes in figure.axes:  # how many ticks there are depends on this size, looked up at each drawing
                axes.tick_params(labelsize=RC["xtick.labelsize"])
            figure.draw_without_rendering()  # makes ticks and their texts now, so that they have this style too,
            figure.set_layout_engine("none")  # and places everything once, whatever it is saved as
            return figure

    return inside


def new_figure(height: float, width: float = WIDTH, layout: Any = "constrained") -> Figure:
    """Return an empty figure of `width` by `height` inches that no global state knows (no pyplot)."""
    figure = Figure(figsize=(width, height), layout=layout)
    FigureCanvasAgg(figure)
    # notebooks know how to show only pyplot's figures; this is IPython's own way for all other objects
    figure._repr_png_ = functools.partial(_in_notebook, figure)  # pyright: ignore[reportAttributeAccessIssue]
    return figure


def show_png(figure: Figure, png: bytes) -> None:
    """Let a notebook show a figure as a picture of it that is there already, instead of drawing it once more."""
    figure._repr_png_ = functools.partial(_in_notebook, figure, png)  # pyright: ignore[reportAttributeAccessIssue]


def _in_notebook(figure: Figure, png: bytes = b"") -> tuple[bytes, dict[str, int]]:
    width, height = _bounds(figure).size
    return png or render(figure, "png"), {"width": round(PIXELS * width), "height": round(PIXELS * height)}


def add_note(figure: Figure, note: str) -> None:
    """Write a note below a figure that is drawn; `picture` then has a strip more, in which it stands."""
    for legend in figure.legends:
        if legend.get_bbox_to_anchor() is figure.bbox:  # that moves with the picture's edge; this stays where it is
            legend.set_bbox_to_anchor((0, 0, 1, 1), figure.transFigure)
    with style():
        figure.text(0.01, 0, textwrap.fill(note, int(20 * figure.get_size_inches()[0])), fontsize=7, va="top")


def _bounds(figure: Figure) -> Bbox:
    """Return the rectangle of a figure and of what is written below it, in inches."""
    low = min([0.0, *(text.get_window_extent().y0 / figure.dpi - 0.04 for text in figure.texts)])
    width, height = figure.get_size_inches()
    return Bbox([[0, low], [width, height]])


def render(figure: Figure, kind: str = "svg") -> bytes:
    """Return the bytes of a figure as `svg` or `png` (200 dpi); the same figure gives the same bytes on any day."""
    buffer = io.BytesIO()
    metadata = {"Date": None} if kind == "svg" else {"Software": None}
    bounds = _bounds(figure)
    with style():
        figure.savefig(
            buffer, format=kind, dpi=200, metadata=metadata, bbox_inches=bounds if bounds.y0 < 0 else None, pad_inches=0
        )
    return buffer.getvalue()


def label(column: str) -> str:
    """Return the axis label of a column, with its unit."""
    return LABELS.get(column, column.replace("_", " "))


def line_styles(names: Iterable[Any]) -> dict[Any, dict[str, Any]]:
    """Return colour, marker and line style for each name, in the order given, so that none relies on colour alone."""
    return {
        name: {
            "color": COLOURS[i % len(COLOURS)],
            "marker": MARKERS[i % len(MARKERS)],
            "linestyle": LINES[i % len(LINES)],
        }
        for i, name in enumerate(dict.fromkeys(names))
    }


def legend_above(figure: Figure) -> None:
    """Put a legend of what the axes have labelled, each label once, above them in as few rows as the width allows."""
    named: dict[str, Any] = {}
    for axes in figure.axes:
        for handle, name in zip(*axes.get_legend_handles_labels(), strict=True):
            named.setdefault(name, handle)
    for rows in range(1, len(named) + 1):
        columns = math.ceil(len(named) / rows)
        place = {"loc": "outside upper center", "ncols": columns, "columnspacing": 1.2}
        legend = figure.legend(list(named.values()), list(named), **place)
        if columns == 1 or legend.get_window_extent().width <= figure.bbox.width:
            return
        legend.remove()


def facets(
    titles: Iterable[Any], height: float, width: float = WIDTH, across: int = 3, share: str = "xy"
) -> tuple[Figure, list[Axes]]:
    """Return a figure with one axes per title, in rows of at most `across`, each `height` inches high, and its axes.

    Four axes are two by two. `share`: which of the scales, x and y, are common.
    """
    names = list(titles)
    across = 2 if len(names) == 4 and across == 3 else min(across, len(names))
    down = -(-len(names) // across)
    figure = new_figure(0.4 + height * down, width)
    grid = figure.subplots(down, across, sharex="x" in share, sharey="y" in share, squeeze=False)
    for axes, name in zip(grid.flat, names, strict=False):
        axes.set_title(str(name))
    for axes in grid.flat[len(names) :]:
        axes.set_axis_off()
    return figure, list(grid.flat[: len(names)])


def label_facets(figure: Figure, grid: Sequence[Axes], x: str, y: str) -> None:
    """Write `x` below the lowest axes of each column and `y` left of each row, and put a legend above all."""
    rows, across = figure.axes[0].get_subplotspec().get_gridspec().get_geometry()  # pyright: ignore
    for place, axes in enumerate(grid):
        lowest = place + across >= len(grid)
        axes.set_xlabel(x if lowest else "")
        axes.set_ylabel(y if place % across == 0 and rows == 1 else "")
        if lowest:
            axes.tick_params(labelbottom=True)
    if rows > 1:
        figure.supylabel(y, fontsize="medium")
    legend_above(figure)


def require(frame: pd.DataFrame, columns: Iterable[str], what: str) -> pd.DataFrame:
    """Return the rows of `frame` that have all of `columns`, for the figure `what`.

    Raises ValueError with one sentence when a column is missing or no row is left.
    """
    wanted = list(columns)
    if frame.empty:
        raise ValueError(f"{what}: the table is empty, there is nothing to draw")
    if missing := [column for column in wanted if column not in frame]:
        raise ValueError(f"{what}: the table lacks the column {missing[0]!r}; it has {', '.join(map(str, frame))}")
    rows = frame.dropna(subset=wanted)
    if rows.empty:
        raise ValueError(f"{what}: no row has values in all of the columns {', '.join(wanted)}")
    return rows


def split(frame: pd.DataFrame, column: str) -> dict[Any, pd.DataFrame]:
    """Return the rows of each value of `column`, values in the order in which they appear."""
    return dict(iter(frame.groupby(column, sort=False)))


def contrast(weights: np.ndarray) -> tuple[float, float]:
    """Return the ends of a scale on which softmax weights, operations last, can be told apart: smallest and largest.

    At least 2 % to both sides of equal weights, so that the noise that a search starts with stays in the middle.
    """
    even = 1 / weights.shape[-1]
    return min(float(weights.min()), 0.98 * even), max(float(weights.max()), 1.02 * even)


def node_name(node: int, inputs: int, output: int | None = None) -> str:
    """Return what a node of a cell is called in every figure, for the number of the cell's inputs and its output node.

    DARTS: c_{k-2} and c_{k-1} come in, its own nodes are 0 to 3. NAS-Bench-201: c_{k-1} comes in as node 0, so its own
    go by 1 and 2, and node 3 is c_k.
    """
    if node < inputs:
        return ("$c_{k-2}$", "$c_{k-1}$")[-inputs:][node]
    return "$c_{k}$" if node == output else str(node - (inputs if inputs == 2 else 0))


def edge_names(space: SearchSpace) -> list[str]:
    """Return what the edges of a space are called in every figure, in their order: source → node."""
    output = space.inputs + space.nodes - 1 if space.outputs == 1 else None
    return [" → ".join(node_name(node, space.inputs, output) for node in edge) for edge in space.edges]


def true_accuracy_axis(axes: Axes) -> None:
    """Let the vertical axis, a true accuracy in per cent, be even in the logarithm of the error.

    Good cells lie within a few points of each other, and a broken one at 10 % would press them into a line.
    """
    low, high = axes.get_ylim()
    axes.set_yscale(
        "function", functions=(lambda y: -np.log(np.maximum(100.5 - y, 1e-3)), lambda z: 100.5 - np.exp(-z))
    )
    axes.set_ylim(max(0, low), min(high, 96))
    ticks = [tick for tick in (10, 50, 80, 90, 94) if axes.get_ylim()[0] <= tick]
    axes.set_yticks(ticks, [str(tick) for tick in ticks])


def integer_axis(axes: Axes) -> None:
    """Let the horizontal axis, which counts, have ticks at whole numbers only."""
    low, high = axes.get_xlim()
    if high - low < 1:
        axes.set_xlim(low - 0.5, high + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10], integer=True, min_n_ticks=1))


def plain_log_ticks(axis: Axis) -> None:
    """Let a logarithmic axis have ticks at 1, 2 and 5 of each decade, written as plain numbers."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FormatStrFormatter("%g"))
    axis.set_minor_locator(NullLocator())
