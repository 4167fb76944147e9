"""A slider is shown in live notebooks only, and draws the selected value."""

from typing import Any

import IPython.display
import pytest
from matplotlib.figure import Figure

from hdarts import plots
from hdarts.plots import sliders
from hdarts.plots.style import new_figure, render


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The list of displayed objects."""
    seen: list[Any] = []
    monkeypatch.setattr(IPython.display, "display", seen.append)
    return seen


def with_title(value: float, drawn: list[float]) -> Figure:
    drawn.append(value)
    figure = new_figure(1.0, 1.0)
    figure.suptitle(str(value))
    return figure


def test_papermill_gets_no_slider(shown: list[Any]) -> None:
    drawn: list[float] = []
    plots.slide(lambda value: with_title(value, drawn), "value", [1, 2], 2)
    assert shown == [] and drawn == []


def test_a_slider_draws_each_value_once_when_it_is_reached(shown: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_a_slider_draws_several_figures_below_each_other(shown: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sliders, "interactive", lambda: True)
    plots.slide(lambda value: [with_title(value, []), with_title(-value, [])], "value", [1, 2], 1)
    slider, first, second, _ = shown[0].children
    slider.value = 2
    assert first.value == render(with_title(2, []), "png") and second.value == render(with_title(-2, []), "png")
