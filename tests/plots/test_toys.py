"""Figures of notebooks 01 and 02: they show the values of their tables."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from helpers.figures import FIELD, OPERATIONS, PATHS, TABLES, words
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from hdarts import plots
from hdarts.plots.simplex import HEIGHT, plane_coordinates


def draw(name: str) -> Figure:
    table, function = TABLES[name]
    return function(table)


def points(line: Any) -> np.ndarray:
    """Return the points of a drawn line, one row each."""
    return np.asarray(line.get_xydata())


def lines(axes: Any) -> dict[str, np.ndarray]:
    return {str(line.get_label()): points(line) for line in axes.lines}


def shaded(axes: Any) -> list[float]:
    """Return the ends of the shaded span of an axes."""
    (span,) = (patch for patch in axes.patches if isinstance(patch, Rectangle))
    return list(span.get_extents().transformed(axes.transData.inverted()).intervalx)


def test_the_corners_of_the_simplex_are_the_operations():
    x, y = plane_coordinates(pd.DataFrame(np.eye(3), columns=list(OPERATIONS)), OPERATIONS)
    assert x == pytest.approx([0, 1, 0.5])
    assert y == pytest.approx([0, 0, HEIGHT])


def test_a_slope_is_that_of_its_tangent():
    drawn = lines(draw("hypergradient_slope").axes[1])
    (x0, y0), (x1, y1) = drawn["hypergradient"]
    assert (y1 - y0) / (x1 - x0) == pytest.approx(1.0)
    assert (y0 + y1) / 2 == pytest.approx(5**2), "the tangent touches the curve"
    assert np.ptp(drawn["flat"][:, 1]) == 0


def test_there_is_a_bar_for_each_part_of_each_operation():
    figure = draw("hypergradient_bars")
    assert [axes.get_title() for axes in figure.axes] == ["a", "b"]
    heights = [[bar.get_height() for bar in bars] for bars in figure.axes[0].containers]
    assert heights == [[1.0] * 3, [-3.0] * 3, [-2.0] * 3]


def test_simplex_maps_have_a_named_triangle_for_each_column():
    assert set(words(draw("simplex_maps"))) >= {"1st", "2nd", *OPERATIONS}


def test_a_path_in_the_simplex_ends_at_its_last_row_and_the_cross_is_the_lowest_value():
    (axes,) = draw("simplex_paths").axes
    ends = [points(line)[-1] for line in axes.lines if len(points(line)) == 1]
    last, lowest = PATHS.tail(1), FIELD.loc[[FIELD["loss"].idxmin()]]
    assert np.asarray(ends) == pytest.approx(
        np.hstack([plane_coordinates(row, OPERATIONS) for row in (last, lowest)]).T
    )


def test_plane_paths_draw_each_path_and_the_minimum():
    (axes,) = draw("plane_paths").axes
    assert lines(axes)["x"].tolist() == [[0, 2], [1, 1]]
    assert points(axes.lines[-1]).tolist() == [[0, 1]]


def test_best_responses_shade_the_alphas_seen_and_draw_local_lines_near_them_only():
    figure = draw("best_responses")
    assert [axes.get_title() for axes in figure.axes] == ["global, MLP", "local, linear"]
    names = [f"{part}, {kind}" for part in ("inner", "outer") for kind in ("retrained", "generated")]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [*names, "alphas seen"]
    assert np.abs(lines(figure.axes[1])["outer, generated"][:, 0] - 1.0).max() <= 1.0
    assert shaded(figure.axes[1]) == pytest.approx([0.6, 1.4])


def test_a_path_starts_without_response_and_has_an_axes_for_each_step_size():
    figure = draw("neumann_path")
    assert len(figure.axes) == 2
    drawn = {name: xy.tolist() for name, xy in lines(figure.axes[1]).items()}
    assert drawn["K = 0, no response"] == [[1.0, 0.0]] and drawn["K = 1, one step"] == [[0.0, 0.5]]
    assert drawn["exact"] == [[0.0, 1.0]]


def test_chords_shade_the_alphas_that_noise_shows():
    figure = draw("chords")
    assert [axes.get_title() for axes in figure.axes] == ["sigma = 0.1", "sigma = 0.5"]
    assert shaded(figure.axes[0]) == pytest.approx([0.3, 0.7])
    assert list(lines(figure.axes[0])) == ["w*", "chord"]


def test_matrices_share_the_scale_of_the_first():
    axes = plots.matrices({"truth": np.eye(3), "start": 10 * np.eye(3)}, ["along"]).axes[:2]
    assert [(one.get_title(), one.images[0].get_clim()) for one in axes] == [("truth", (-1, 1)), ("start", (-1, 1))]


def test_grouped_strips_show_every_run():
    (axes,) = draw("grouped_strips").axes
    drawn: Any = np.concatenate([np.asarray(marks.get_offsets()) for marks in axes.collections])
    assert sorted(drawn[:, 0]) == [0, 1, 2]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["a", "b"]
