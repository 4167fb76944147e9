"""Boxes and arrows for the drawings of methods and architectures. Lengths are in inches, text sizes in points."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from matplotlib.textpath import TextPath

from hdarts.plots.style import COLOURS, INK, WIDTH, new_figure

SIZE = 7.0  # points
LINE, PADDING = 0.135, 0.05  # height of a line of text, and margin around the text of a box

# kind of box: fill; the kinds differ by their text, and in lightness
BOXES = {"data": "#ffffff", "alpha": "#f6ecc6", "weights": "#dbe8f4", "made": "#b9d3ea", "net": "#dcebd3"}
# kind of arrow: (colour, line style, words in the legend)
ARROWS: dict[str, tuple[str, Any, str]] = {
    "forward": (INK, "-", "forward"),
    "direct": (COLOURS[0], (0, (5, 1.5)), "direct gradient"),
    "response": (COLOURS[1], (0, (1.5, 1)), "response gradient"),
}


def text_width(text: str) -> float:
    """Return the width of the longest line of `text` in inches; $...$ is mathematics."""
    paths = [TextPath((0, 0), line or " ", SIZE) for line in _lines(text)]
    return max(float(np.ptp(np.asarray(path.vertices)[:, 0])) for path in paths) / 72


def _lines(text: str) -> list[str]:
    return text.split("\n")


def count(n: int) -> str:
    """Return a number of weights with three digits and a unit: 640, 14.2 k, 1.93 M."""
    for unit, size in (("M", 1e6), ("k", 1e3)):
        if n >= size:
            return f"{n / size:.3g} {unit}"
    return str(n)


class Diagram:
    """A page of `WIDTH` by `height` inches with boxes, and arrows from box to box."""

    def __init__(self, height: float):
        self.figure: Figure = new_figure(height, layout="none")
        self.axes = self.figure.add_axes((0, 0, 1, 1), xlim=(0, WIDTH), ylim=(0, height))
        self.axes.set_axis_off()

    def box(self, x: float, y: float, text: str, kind: str = "data", width: float = 0.0) -> FancyBboxPatch:
        """Draw a box around `text`, centred at (x, y), at least `width` wide, and return it."""
        width = max(width, text_width(text) + 2 * PADDING)
        height = LINE * len(_lines(text)) + 2 * PADDING
        shape = "round,pad=0,rounding_size=0.05"
        box = FancyBboxPatch((x - width / 2, y - height / 2), width, height, shape, fc=BOXES[kind], ec=INK, lw=0.8)
        box.set_zorder(3)
        self.axes.add_artist(box)
        self.text(x, y, text)
        return box

    def arrow(
        self, start: FancyBboxPatch, end: FancyBboxPatch, kind: str = "forward", bend: float = 0.0, shift: float = 0.0
    ) -> None:
        """Draw an arrow from box to box, cut off at their borders.

        `bend`: how far its middle lies left of the straight line, as a share of its length; `shift`: how far left the
        whole arrow lies, in inches.
        """
        ends = np.array([_centre(start), _centre(end)])
        along = (ends[1] - ends[0]) / np.hypot(*(ends[1] - ends[0]))
        ends += shift * np.array([-along[1], along[0]])
        colour, line, name = ARROWS[kind]
        style: dict[str, Any] = {
            "color": colour,
            "linestyle": line,
            "linewidth": 1.2 if kind == "forward" else 1.5,
        }
        self.axes.add_artist(
            FancyArrowPatch(
                *(tuple(end) for end in ends), arrowstyle="-|>,head_length=3.5,head_width=1.6",
                connectionstyle=f"arc3,rad={-bend}", patchA=start, patchB=end, shrinkA=1, shrinkB=1, gid=name, **style,
            )
        )  # fmt: skip

    def text(self, x: float, y: float, text: str, **style: Any) -> None:
        """Write `text` around (x, y)."""
        style = {"ha": "center", "va": "center", "size": SIZE, "zorder": 4, "linespacing": 1.25} | style
        self.axes.text(x, y, text, **style)

    def legend(self, kinds: Iterable[str], **place: Any) -> None:
        """Add a legend of the kinds of arrows."""
        handles = [Line2D([], [], color=ARROWS[k][0], linestyle=ARROWS[k][1], label=ARROWS[k][2]) for k in kinds]
        self.figure.legend(handles=handles, **{"loc": "lower center", "ncols": len(handles), "fontsize": SIZE} | place)


def _centre(box: FancyBboxPatch) -> tuple[float, float]:
    return box.get_x() + box.get_width() / 2, box.get_y() + box.get_height() / 2
