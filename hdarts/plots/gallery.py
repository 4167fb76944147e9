"""The figures of one notebook: saved into its run folder, shown, and listed with their captions for the report page."""

import json
import re

from matplotlib.figure import Figure

from hdarts.plots.style import add_note, render, show_png
from hdarts.runs.run import Run


def save(run: Run, figure: Figure, name: str) -> None:
    """Save a figure of a run as figures/<name>.png and .svg; the same figure gives the same files."""
    pictures = {kind: render(figure, kind) for kind in ("png", "svg")}
    for kind, content in pictures.items():
        run.write_picture(f"{name}.{kind}", content)
    show_png(figure, pictures["png"])


class Gallery:
    """Saves and shows figures with a `note`; `captions.json` keeps their names and captions in order."""

    def __init__(self, run: Run, note: str = ""):
        self.run, self.note, self.captions = run, note, {}

    def __call__(self, figure: Figure, name: str, caption: str) -> None:
        """Save `figure` as figures/<name>.png and .svg, and show it with its caption."""
        from IPython.display import Markdown, display

        if self.note:
            add_note(figure, self.note)
        self.captions[name] = caption
        save(self.run, figure, name)
        self.run.write_text("captions.json", json.dumps(self.captions, indent=2) + "\n")
        display(figure, metadata={"image/png": {"alt": caption}})
        escaped = re.sub(r"([*_`\\])", r"\\\1", caption)  # the * of w*(alpha) must not end the emphasis
        display(Markdown(f"*{escaped}*"))
