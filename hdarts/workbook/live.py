"""A loop with a button, in a live notebook: it runs beside the notebook, pauses after a step, and resumes."""

import asyncio
import html
import threading
from collections.abc import Callable, Iterable
from typing import Any

from matplotlib.figure import Figure

from hdarts.errors import Stopped
from hdarts.plots.style import PIXELS, render
from hdarts.runs.progress import interactive

Row = dict[str, Any]
PAUSED = "Paused: the state is saved. Inspect it in new cells; the button or the next cell resumes it."
DONE = "All epochs are done: run the next cells."


def pausable(start: Callable[[threading.Event], Iterable[Row]], draw: Callable[[], Figure], epochs: int) -> None:
    """Show a button that starts, pauses and resumes a loop of `epochs` epochs, in a live notebook only.

    `start(stop)` returns an iterator of one row per `epoch`; once `stop` is set, it saves after its current step and
    raises `Stopped`, and the next call resumes it (hdarts.search.search). It is iterated in a thread, so that other
    cells can be run meanwhile. `draw()` is called after each epoch, in the thread of the cells, when no cell runs.
    """
    if interactive():
        from IPython.display import display

        display(Pausable(start, draw, epochs).box)


class Pausable:
    """The button, one line of text, and a figure, in `box`; widgets are changed in the thread of the cells only."""

    def __init__(
        self, start: Callable[[threading.Event], Iterable[Row]], draw: Callable[[], Figure], epochs: int
    ) -> None:
        from ipywidgets import HTML, Button, HBox, Image, VBox

        self.start, self.draw, self.epochs = start, draw, epochs
        self.cells, self.stop, self.running = asyncio.get_running_loop(), threading.Event(), False
        self.button, self.words, self.picture = Button(icon="play", description="Search"), HTML(), Image()
        self.button.on_click(lambda _: self.cells.call_soon_threadsafe(self.press))
        self.picture.layout.display = "none"
        self.box = VBox([HBox([self.button, self.words]), self.picture])

    def press(self) -> None:
        """Start or resume the loop, or request its stop after the current step."""
        if self.running:
            self.stop.set()
            self.say("pauses after this step", "Pause", "pause", disabled=True)
            return
        self.running = True
        self.stop.clear()
        self.say("running", "Pause", "pause")
        threading.Thread(target=self._iterate, daemon=True).start()

    def _iterate(self) -> None:
        """Iterate, in a thread, and say why it ended."""
        words = DONE
        try:
            for row in self.start(self.stop):
                self.cells.call_soon_threadsafe(self.show, row)
        except Stopped:
            words = PAUSED
        except Exception as error:  # shown below the button, as a cell would show it
            words = f"{type(error).__name__}: {error}"
        self.cells.call_soon_threadsafe(self.ended, words)

    def show(self, row: Row) -> None:
        """Show the figure after an epoch."""
        figure = self.draw()
        self.picture.value = render(figure, "png")
        self.picture.width = str(round(PIXELS * figure.get_size_inches()[0]))
        self.picture.layout.display = ""
        if not self.stop.is_set():
            self.say(f"epoch {row['epoch']:.0f} of {self.epochs} is done", "Pause", "pause")

    def ended(self, words: str) -> None:
        """Offer to resume a loop that has not finished."""
        self.running = False
        self.say(words, "Resume" if words != DONE else "Search", "play", disabled=words == DONE)

    def say(self, words: str, label: str, icon: str, disabled: bool = False) -> None:
        self.words.value = f'<span role="status">{html.escape(words)}</span>'
        self.button.description, self.button.icon, self.button.disabled = label, icon, disabled
