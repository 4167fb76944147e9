"""The gallery that keeps a notebook's figures with their captions."""

import json

import IPython.display
import pytest
from helpers.figures import LINES
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

from hdarts import plots
from hdarts.params import ToyBilevelParams, check
from hdarts.runs.run import Run


def test_a_caption_is_shown_as_it_is_written(run, monkeypatch):
    shown = []
    monkeypatch.setattr(IPython.display, "display", lambda one, **_: shown.append(one))
    plots.Gallery(run)(plots.lines(LINES, "K", "error", "method"), "first", "The valley w*(alpha), kappa_min * 2.")
    written = MarkdownWithMath(renderer=IPythonRenderer(escape=False)).render(shown[1].data)
    assert written.strip() == "<p><em>The valley w*(alpha), kappa_min * 2.</em></p>"


@pytest.fixture
def run(tmp_path, monkeypatch) -> Run:
    monkeypatch.setenv("HDARTS_RUNS", str(tmp_path))
    return Run.open(check(ToyBilevelParams, {"run": "mine", "seed": 0, "most_steps": 10}))


def test_a_gallery_saves_each_figure_and_keeps_the_captions_in_order(run, capsys):
    show = plots.Gallery(run)
    for name in ("second", "first"):
        show(plots.lines(LINES, "K", "error", "method"), name, f"Caption of {name}.")
    captions = json.loads((run.folder / "captions.json").read_text())
    assert list(captions.items()) == [("second", "Caption of second."), ("first", "Caption of first.")]
    pictures = sorted(path.name for path in (run.folder / "figures").iterdir())
    assert pictures == ["first.png", "first.svg", "second.png", "second.svg"]
    again = Run.open(check(ToyBilevelParams, {"run": "again", "seed": 0, "most_steps": 10}))
    plots.save(again, plots.lines(LINES, "K", "error", "method"), "first")
    for kind in ("png", "svg"):
        files = [folder / "figures" / f"first.{kind}" for folder in (run.folder, again.folder)]
        assert files[0].read_bytes() == files[1].read_bytes(), "the same figure is the same file"
    assert "<text" in (run.folder / "figures" / "first.svg").read_text(), "text of an SVG stays text"
