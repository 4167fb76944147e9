"""Figures of notebook 04: what is drawn is what the tables hold, legible, the same each time."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from hdarts import plots
from hdarts.space import DARTS

METHODS = ("first order", "hypernetwork", "half the reference")
TABLE = pd.DataFrame(
    [
        {
            "epoch": epoch,
            "method": method,
            "part": part,
            "cosine": np.nan if (place, part) == (0, "response") else 0.9 - 0.3 * place + 0.01 * epoch,
            "relative_error": 0.2 + 0.5 * place,
            "gradients": 1 + 6 * place,
        }
        for epoch in (2, 6)
        for place, method in enumerate(METHODS)
        for part in ("total", "direct", "response")
    ]
)
EDGES = pd.DataFrame(
    [
        {"method": method, "kind": kind, "edge": f"{source}-{node}", "relative_error": 0.1 * (place + 1) * node}
        for place, method in enumerate(METHODS)
        for kind in DARTS.kinds
        for source, node in DARTS.edges
    ]
)
REPORTED = pd.DataFrame(
    [
        {"model": model, "batch_size": size, "step": step, "edge": size / 1000 / (1 + step), "drawn": step in (1, 4, 5)}
        for model, size in (("linear", 48), ("two-layer linear", 64))
        for step in range(8)
    ]
)
VARIED = pd.DataFrame(
    [
        {"batch_size": size, "edge": (1 + draw) / size, "mean": (2 + draw) / size}
        for size in (16, 32, 64)
        for draw in range(3)
    ]
)
ARMS = pd.concat([TABLE.assign(arm=arm) for arm in ("darts-second", "hyperdarts-2")])
FIGURES: dict[str, Callable[[], Figure]] = {
    "method_agreement": lambda: plots.method_agreement(TABLE, grey=METHODS[2:]),
    "agreement_by_arm": lambda: plots.agreement_by_arm(ARMS, grey=METHODS[2:]),
    "edge_agreement": lambda: plots.edge_agreement(EDGES, DARTS),
    "batch_magnitudes": lambda: plots.batch_magnitudes(REPORTED, VARIED),
}


@pytest.fixture(params=list(FIGURES))
def drawn(request: pytest.FixtureRequest) -> tuple[str, Figure]:
    return request.param, FIGURES[request.param]()


def texts(figure: Figure) -> list[Text]:
    return [text for text in figure.findobj(Text) if isinstance(text, Text) and text.get_text() and text.get_visible()]


def test_figures_fit_the_page_are_legible_and_the_same_each_time(drawn: tuple[str, Figure]):
    name, figure = drawn
    assert figure.get_size_inches()[0] <= 6.3
    assert min(float(text.get_fontsize()) for text in texts(figure)) >= 7
    page = figure.bbox.padded(1)
    ticks = {text for axes in figure.axes for text in (*axes.get_xticklabels(), *axes.get_yticklabels())}
    for text in texts(figure):
        if text not in ticks:
            box = text.get_window_extent()
            assert page.containsx(box.x0) and page.containsx(box.x1), text
            assert page.containsy(box.y0) and page.containsy(box.y1), text
    assert plots.render(figure) == plots.render(FIGURES[name]())


@pytest.mark.parametrize("name", list(FIGURES))
def test_labels_of_ticks_do_not_overlap(name: str):
    for axes in FIGURES[name]().axes:
        low, high = sorted(axes.get_xlim())
        ticks = [tick for tick in axes.xaxis.get_major_ticks() if low <= tick.get_loc() <= high]
        boxes = [tick.label1.get_window_extent() for tick in ticks if tick.label1.get_visible()]
        boxes.sort(key=lambda box: box.x0)
        assert all(left.x1 < right.x0 for left, right in pairwise(boxes))


def test_every_method_part_and_epoch_has_its_mark():
    figure = plots.method_agreement(TABLE, grey=METHODS[2:])
    assert len(figure.axes) == 2 * 3
    for row, epoch in enumerate((2, 6)):
        cosine, error, cost = figure.axes[3 * row : 3 * row + 3]
        own = TABLE[TABLE["epoch"] == epoch]
        for axes, column in ((cosine, "cosine"), (error, "relative_error")):
            marks = [line for line in axes.lines if line.get_linestyle() == "None"]
            shown = np.concatenate([np.asarray(line.get_xdata(), dtype=float) for line in marks])
            assert np.array_equal(np.sort(shown), np.sort(np.asarray(own[column], dtype=float)), equal_nan=True)
        assert [float(x) for x in np.asarray(cost.lines[0].get_xdata())] == [1, 7, 13]
        assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == list(METHODS)


def test_the_reference_itself_is_not_drawn():
    itself = TABLE.head(1).assign(method="reference", relative_error=0.0, cosine=1.0)
    figure = plots.method_agreement(pd.concat([TABLE, itself]))
    assert "reference" not in [text.get_text() for text in figure.axes[0].get_yticklabels()]


def test_the_heat_map_has_a_row_for_each_method_and_a_column_for_each_edge():
    normal, reduce, _ = plots.edge_agreement(EDGES, DARTS).axes
    for axes, kind in ((normal, "normal"), (reduce, "reduce")):
        assert axes.get_title() == kind
        values = np.asarray(axes.collections[0].get_array())
        assert values.shape == (len(METHODS), len(DARTS.edges))
        names = [text.get_text() for text in axes.get_xticklabels()]
        assert (names[0], names[-1]) == ("$c_{k-2}$ → 0", "2 → 3"), "as in every other figure"
        assert values[1, 0] == pytest.approx(0.1 * 2 * 2), "second method, edge 0-2"


def test_figure_32_marks_the_drawn_steps_and_the_other_side_fixes_the_model():
    left, right = plots.batch_magnitudes(REPORTED, VARIED).axes
    marked = [line for line in left.lines if line.get_linestyle() == "None"]
    assert [np.asarray(line.get_xdata()).tolist() for line in marked] == [[1, 4, 5], [1, 4, 5]]
    assert [line.get_label() for line in marked] == ["linear, batch of 48", "two-layer linear, batch of 64"]
    law = np.asarray(right.lines[-1].get_ydata())
    assert law[0] == pytest.approx(3 / 16) and law[2] == pytest.approx(law[0] / 2), "as 1/sqrt(batch size)"


def test_empty_tables_are_refused():
    nothing = pd.DataFrame()
    for draw in (
        plots.method_agreement,
        lambda frame: plots.edge_agreement(frame, DARTS),
        lambda frame: plots.batch_magnitudes(frame, VARIED),
    ):
        with pytest.raises(ValueError, match="the table is empty, there is nothing to draw"):
            draw(nothing)


def test_every_snapshot_of_every_arm_is_a_mark():
    figure = plots.agreement_by_arm(ARMS, grey=METHODS[2:])
    total, error = figure.axes[0], figure.axes[1]
    for axes, column in ((total, "cosine"), (error, "relative_error")):
        marks = {line.get_label(): line for line in axes.lines if line.get_marker() not in ("None", "")}
        assert set(marks) == {"darts-second", "hyperdarts-2"}
        expected = np.asarray(TABLE.loc[TABLE["part"] == "total", column])
        for line in marks.values():
            assert np.array_equal(np.asarray(line.get_xdata()), expected)
