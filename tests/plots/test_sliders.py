"""Sliders show themselves where someone watches only, and draw what they are moved to."""

from typing import Any

import IPython.display
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from hdarts import plots
from hdarts.plots import sliders
from hdarts.plots.style import new_figure, render

WAY = pd.DataFrame([{"share": s, "K": k, "x": 1 - k * s, "y": 0.5 * k} for s in (0.2, 1.0) for k in range(4)])
LINES = pd.DataFrame(
    [{"sigma": s, "line": n, "alpha": a, "weight": a * s} for s in (0.1, 0.5) for n in ("w*", "chord") for a in (0, 1)]
)


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is displayed."""
    seen: list[Any] = []
    monkeypatch.setattr(IPython.display, "display", seen.append)
    return seen


def with_title(value: float, drawn: list[float]) -> Figure:
    drawn.append(value)
    figure = new_figure(1.0, 1.0)
    figure.suptitle(str(value))
    return figure


def test_nobody_watches_a_notebook_that_papermill_runs(shown: list[Any]) -> None:
    drawn: list[float] = []
    plots.slide(lambda value: with_title(value, drawn), "value", [1, 2], 2)
    assert shown == [] and drawn == []


def test_a_slider_draws_a_value_when_it_gets_there_and_once(shown: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sliders, "interactive", lambda: True)
    drawn: list[float] = []
    plots.slide(lambda value: with_title(value, drawn), "value", [1, 2, 3], 2)
    slider, image, _ = shown[0].children
    assert slider.value == 2 and drawn == [2]
    slider.value = 3
    slider.value = 2
    slider.value = 3
    assert drawn == [2, 3]
    assert image.value == render(with_title(3, []), "png") != render(with_title(2, []), "png")


def test_a_way_begins_without_response_and_has_an_axes_for_each_step_size() -> None:
    figure = plots.neumann_path(WAY, ("x", "y"), (0.0, 1.0))
    assert len(figure.axes) == 2
    drawn = {str(line.get_label()): np.asarray(line.get_xydata()).tolist() for line in figure.axes[1].lines}
    assert drawn["K = 0, no response"] == [[1.0, 0.0]] and drawn["K = 1, one step"] == [[0.0, 0.5]]
    assert drawn["exact"] == [[0.0, 1.0]]


def test_chords_shade_the_alphas_that_noise_shows() -> None:
    figure = plots.chords(LINES, 0.5)
    assert [axes.get_title() for axes in figure.axes] == ["sigma = 0.1", "sigma = 0.5"]
    shaded = figure.axes[0].patches[0].get_window_extent()
    left, right = (figure.axes[0].transData.inverted().transform((x, 0))[0] for x in (shaded.x0, shaded.x1))
    assert (left, right) == pytest.approx((0.3, 0.7))
    assert [str(line.get_label()) for line in figure.axes[0].lines] == ["w*", "chord"]
