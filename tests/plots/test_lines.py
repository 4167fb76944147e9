"""The plain line figure: lines, facets, logarithmic axes and references."""

import numpy as np
import pandas as pd
from helpers.figures import LINES

from hdarts import plots
from hdarts.plots.style import FAINT


def drawn(axes) -> dict[str, np.ndarray]:
    return {str(line.get_label()): np.asarray(line.get_xydata()) for line in axes.lines}


def test_a_line_for_each_name_and_an_axes_for_each_facet():
    figure = plots.lines(LINES, "K", "error", "method", facet="toy")
    assert [axes.get_title() for axes in figure.axes if axes.axison] == ["sine", "ridge"]
    for axes in figure.axes[:2]:
        found = drawn(axes)
        assert set(found) == {"predicted", "neumann", "unrolled"}
        rows = (LINES["toy"] == axes.get_title()) & (LINES["method"] == "unrolled")
        assert np.array_equal(found["unrolled"], np.asarray(LINES.loc[rows, ["K", "error"]]))


def test_several_columns_have_an_axes_each_and_a_facet_a_row():
    figure = plots.lines(LINES.assign(seconds=LINES["K"] ** 2), ["K", "seconds"], "error", "method", facet="toy")
    titled = [(axes.get_title(), axes.get_xlabel()) for axes in figure.axes]
    assert titled == [(toy, x) for toy in ("sine", "ridge") for x in ("K", "time (s)")]
    assert list(drawn(figure.axes[3])["neumann"][:, 0]) == [1, 4, 400]


def test_each_seed_has_a_pale_line_and_the_name_their_mean():
    table = pd.concat([LINES.assign(seed=seed, error=LINES["error"] + seed) for seed in (0, 2)])
    axes = plots.lines(table, "K", "error", "method", facet="toy", each="seed").axes[0]
    rows: pd.DataFrame = LINES.loc[(LINES["toy"] == axes.get_title()) & (LINES["method"] == "unrolled")]
    mean = next(line for line in axes.lines if line.get_label() == "unrolled")
    np.testing.assert_allclose(np.asarray(mean.get_xydata()), np.c_[rows["K"], rows["error"] + 1])
    pale = [line for line in axes.lines if line.get_color() == mean.get_color() and line is not mean]
    assert sorted(float(np.asarray(line.get_ydata())[0]) for line in pale) == sorted(
        float(rows["error"].iloc[0]) + seed for seed in (0, 2)
    )


def test_panels_share_a_vertical_scale_where_asked():
    shared = plots.lines(LINES, "K", "error", "method", facet="toy", share="y", across=1)
    assert len({axes.get_ylim() for axes in shared.axes}) == 1
    assert len({axes.get_position().x0 for axes in shared.axes if axes.axison}) == 1


def test_a_column_can_stay_linear_next_to_logarithmic_ones():
    table = LINES.assign(zero=LINES["K"] - 1)
    figure = plots.lines(table, ["K", "zero"], "K", "method", log="xy", linear=["zero"])
    assert [(axes.get_xscale(), axes.get_yscale()) for axes in figure.axes] == [("log", "log"), ("linear", "log")]
    assert list(drawn(figure.axes[1])["neumann"][:, 0]) == [0, 1, 19] * 2


def test_what_a_logarithm_cannot_show_is_left_out():
    axes = plots.lines(LINES, "K", "error", "method", facet="toy", log="xy").axes[0]
    assert axes.get_xscale() == axes.get_yscale() == "log"
    assert all((points[:, 1] > 0).all() for points in drawn(axes).values())
    assert float(LINES["error"].to_numpy().min()) <= 0, "or the line above checks nothing"


def test_a_prediction_is_faint_and_changes_no_other_style():
    def line_styles(figure) -> dict:
        return {
            line.get_label(): (line.get_color(), line.get_marker(), line.get_linestyle())
            for line in figure.axes[0].lines
            if line.get_label() != "predicted"
        }

    with_it = plots.lines(LINES, "K", "error", "method", dashed=["predicted"])
    without = plots.lines(LINES.loc[LINES["method"] != "predicted"], "K", "error", "method")
    assert line_styles(with_it) == line_styles(without)
    (faint,) = (line for line in with_it.axes[0].lines if line.get_label() == "predicted")
    assert faint.get_color() == FAINT and faint.get_marker() in ("", "None")


def test_two_predictions_differ_in_style():
    lines = plots.lines(LINES, "K", "error", "method", dashed=["predicted", "neumann"]).axes[0].lines
    faint = [line for line in lines if line.get_color() == FAINT]
    assert len({str(line._unscaled_dash_pattern) for line in faint}) == len(faint) == 2  # pyright: ignore


def test_a_line_may_leave_the_frame_which_its_lines_fill():
    low, high = plots.lines(LINES, "K", "error", "method").axes[0].get_ylim()
    inside = plots.lines(LINES, "K", "error", "method", least=0, most=0.5).axes[0]
    assert low < 0 and high > 0.5 and inside.get_ylim() == (0, 0.5)
    assert plots.lines(LINES, "K", "error", "method", least=-9, most=9).axes[0].get_ylim() == (low, high)
