"""The plain line figure, and the gallery that keeps a notebook's figures with their captions."""

import json

import IPython.display
import numpy as np
import pandas as pd
import pytest
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

from hdarts import plots
from hdarts.params import ToyBilevelParams, check
from hdarts.plots.style import FAINT
from hdarts.runs.run import Run

TABLE = pd.DataFrame(
    [
        {"K": k, "error": 1.0 / (k + place) - 0.1, "method": method, "toy": toy}
        for place, method in enumerate(("predicted", "neumann", "unrolled"))
        for toy in ("sine", "ridge")
        for k in (1, 2, 20)
    ]
)


def drawn(axes) -> dict[str, np.ndarray]:
    return {str(line.get_label()): np.asarray(line.get_xydata()) for line in axes.lines}


def test_a_line_for_each_name_and_an_axes_for_each_facet():
    figure = plots.lines(TABLE, "K", "error", "method", facet="toy")
    assert [axes.get_title() for axes in figure.axes if axes.axison] == ["sine", "ridge"]
    for axes in figure.axes[:2]:
        found = drawn(axes)
        assert set(found) == {"predicted", "neumann", "unrolled"}
        own = (TABLE["toy"] == axes.get_title()) & (TABLE["method"] == "unrolled")
        assert np.array_equal(found["unrolled"], np.asarray(TABLE.loc[own, ["K", "error"]]))


def test_several_columns_have_an_axes_each_and_a_facet_a_row():
    figure = plots.lines(TABLE.assign(seconds=TABLE["K"] ** 2), ["K", "seconds"], "error", "method", facet="toy")
    titled = [(axes.get_title(), axes.get_xlabel()) for axes in figure.axes]
    assert titled == [(toy, x) for toy in ("sine", "ridge") for x in ("K", "time (s)")]
    assert list(drawn(figure.axes[3])["neumann"][:, 0]) == [1, 4, 400]


def test_a_column_can_stay_linear_beside_logarithmic_ones():
    table = TABLE.assign(zero=TABLE["K"] - 1)
    figure = plots.lines(table, ["K", "zero"], "K", "method", log="xy", linear=["zero"])
    assert [(axes.get_xscale(), axes.get_yscale()) for axes in figure.axes] == [("log", "log"), ("linear", "log")]
    assert list(drawn(figure.axes[1])["neumann"][:, 0]) == [0, 1, 19] * 2


def test_what_a_logarithm_cannot_show_is_left_out():
    axes = plots.lines(TABLE, "K", "error", "method", facet="toy", log="xy").axes[0]
    assert axes.get_xscale() == axes.get_yscale() == "log"
    assert all((points[:, 1] > 0).all() for points in drawn(axes).values())
    assert float(TABLE["error"].to_numpy().min()) <= 0, "or the line above says nothing"


def test_a_prediction_is_faint_and_leaves_the_looks_of_the_others_alone():
    def line_styles(figure) -> dict:
        return {
            line.get_label(): (line.get_color(), line.get_marker(), line.get_linestyle())
            for line in figure.axes[0].lines
            if line.get_label() != "predicted"
        }

    with_it = plots.lines(TABLE, "K", "error", "method", dashed=["predicted"])
    without = plots.lines(TABLE.loc[TABLE["method"] != "predicted"], "K", "error", "method")
    assert line_styles(with_it) == line_styles(without)
    (faint,) = (line for line in with_it.axes[0].lines if line.get_label() == "predicted")
    assert faint.get_color() == FAINT and faint.get_marker() in ("", "None")


def test_two_predictions_can_be_told_apart():
    lines = plots.lines(TABLE, "K", "error", "method", dashed=["predicted", "neumann"]).axes[0].lines
    faint = [line for line in lines if line.get_color() == FAINT]
    assert len({str(line._unscaled_dash_pattern) for line in faint}) == len(faint) == 2  # pyright: ignore


def test_a_line_may_leave_the_frame_which_its_lines_fill():
    low, high = plots.lines(TABLE, "K", "error", "method").axes[0].get_ylim()
    inside = plots.lines(TABLE, "K", "error", "method", least=0, most=0.5).axes[0]
    assert low < 0 and high > 0.5 and inside.get_ylim() == (0, 0.5)
    assert plots.lines(TABLE, "K", "error", "method", least=-9, most=9).axes[0].get_ylim() == (low, high)


def test_an_empty_table_is_refused():
    with pytest.raises(ValueError, match="the table is empty"):
        plots.lines(TABLE.head(0), "K", "error", "method")


def test_a_caption_is_shown_as_it_is_written(tmp_path, monkeypatch):
    monkeypatch.setenv("HDARTS_RUNS", str(tmp_path))
    shown = []
    monkeypatch.setattr(IPython.display, "display", lambda one, **_: shown.append(one))
    run = Run.open(check(ToyBilevelParams, {"run": "mine", "seed": 0, "most_steps": 10}))
    plots.Gallery(run)(plots.lines(TABLE, "K", "error", "method"), "first", "The valley w*(alpha), kappa_min * 2.")
    written = MarkdownWithMath(renderer=IPythonRenderer(escape=False)).render(shown[1].data)
    assert written.strip() == "<p><em>The valley w*(alpha), kappa_min * 2.</em></p>"


def test_a_gallery_saves_each_figure_and_keeps_the_captions_in_order(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HDARTS_RUNS", str(tmp_path))
    run = Run.open(check(ToyBilevelParams, {"run": "mine", "seed": 0, "most_steps": 10}))
    show = plots.Gallery(run)
    for name in ("second", "first"):
        show(plots.lines(TABLE, "K", "error", "method"), name, f"Caption of {name}.")
    captions = json.loads((run.folder / "captions.json").read_text())
    assert list(captions.items()) == [("second", "Caption of second."), ("first", "Caption of first.")]
    pictures = sorted(path.name for path in (run.folder / "figures").iterdir())
    assert pictures == ["first.png", "first.svg", "second.png", "second.svg"]
    again = Run.open(check(ToyBilevelParams, {"run": "again", "seed": 0, "most_steps": 10}))
    plots.save(again, plots.lines(TABLE, "K", "error", "method"), "first")
    for kind in ("png", "svg"):
        files = [folder / "figures" / f"first.{kind}" for folder in (run.folder, again.folder)]
        assert files[0].read_bytes() == files[1].read_bytes(), "the same figure is the same file"
    assert "<text" in (run.folder / "figures" / "first.svg").read_text(), "text of an SVG stays text"
