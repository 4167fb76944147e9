"""Figures of notebooks 01 and 02: what is drawn is what the tables hold, and a wrong table is one sentence."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.patches import Polygon, Rectangle

from hdarts import plots
from hdarts.plots.simplex import HEIGHT, flat

NAMES = ("identity", "average pool", "max pool")
CORNERS = pd.DataFrame(np.eye(3), columns=list(NAMES))
SIMPLEX = pd.DataFrame(np.random.default_rng(0).dirichlet(np.ones(3), 40), columns=list(NAMES))
FIELD = SIMPLEX.assign(loss=SIMPLEX["identity"], ratio=SIMPLEX["max pool"] * 4)


def points(line: Any) -> np.ndarray:
    """The points of a drawn line, a row each."""
    return np.asarray(line.get_xydata())


def texts(figure) -> set[str]:
    return {t.get_text() for axes in figure.axes for t in axes.texts} | {axes.get_title() for axes in figure.axes}


def test_the_corners_of_the_simplex_are_the_operations():
    x, y = flat(CORNERS, NAMES)
    assert x == pytest.approx([0, 1, 0.5])
    assert y == pytest.approx([0, 0, HEIGHT])


def test_slopes_has_the_tangents_asked_for():
    alphas = np.linspace(-1, 1, 9)
    rows = [
        {"alpha": a, "w": w, "inner": (w + a) ** 2, "best_response": -a, "outer": a**2} for a in alphas for w in alphas
    ]
    figure = plots.hypergradient_slope(pd.DataFrame(rows), 0.5, -0.5, {"hypergradient": 1.0, "flat": 0.0})
    lines = {line.get_label(): line for line in figure.axes[1].lines}
    (x0, y0), (x1, y1) = points(lines["hypergradient"])
    assert (y1 - y0) / (x1 - x0) == pytest.approx(1.0)
    assert (y0 + y1) / 2 == pytest.approx(0.25)
    assert np.ptp(np.asarray(lines["flat"].get_ydata())) == 0


def test_parts_has_a_bar_for_each_part_of_each_operation():
    rows = [{"problem": p, "operation": o, "direct": 1.0, "response": -3.0, "total": -2.0} for p in "ab" for o in NAMES]
    figure = plots.hypergradient_bars(pd.DataFrame(rows))
    assert [axes.get_title() for axes in figure.axes] == ["a", "b"]
    heights = sorted(bar.get_height() for bar in figure.axes[0].patches if isinstance(bar, Rectangle))
    assert heights == [-3.0] * 3 + [-2.0] * 3 + [1.0] * 3


def test_simplex_maps_has_a_named_triangle_for_each_column():
    figure = plots.simplex_maps(FIELD, NAMES, {"first": ("ratio", 1.0), "second": ("loss", 0.0)})
    assert texts(figure) >= {"first", "second", *NAMES}


def test_simplex_paths_ends_where_the_path_ends_and_marks_the_lowest_value():
    path = pd.DataFrame([[0.2, 0.3, 0.5], [0.1, 0.1, 0.8]], columns=list(NAMES)).assign(part="total", way="a", seed=0)
    figure = plots.simplex_paths(FIELD, "loss", path, NAMES, "part", "way")
    (axes,) = figure.axes
    x, y = flat(path, NAMES)
    ends = [points(line)[-1] for line in axes.lines if len(np.asarray(line.get_xdata())) == 1]
    lowest = flat(FIELD.loc[[FIELD["loss"].idxmin()]], NAMES)
    assert np.asarray(ends) == pytest.approx(np.array([[x[-1], y[-1]], [lowest[0][0], lowest[1][0]]]))


def test_plane_paths_draws_each_path_and_the_minimum():
    field = pd.DataFrame([{"a": a, "b": b, "loss": a**2 + (b - 1) ** 2} for a in range(-2, 3) for b in range(-2, 3)])
    paths = pd.DataFrame({"search": ["x", "x", "y"], "a": [0, 1, 2], "b": [2, 1, 0]})
    figure = plots.plane_paths(field, "loss", paths, ("a", "b"), "search")
    assert {line.get_label() for line in figure.axes[0].lines} >= {"x", "y"}
    assert list(points(figure.axes[0].lines[-1])[0]) == [0, 1]


def test_best_responses_shades_the_alphas_seen_and_draws_local_lines_near_them_only():
    grid = np.linspace(-4, 4, 17)
    kinds = [("global, MLP", 0.0, 2.0), ("local, linear", 1.0, 0.2), ("retrained", 0.0, 2.0)]
    rows = [
        {"kind": k, "mean": m, "spread": s, "alpha": a, "inner": 1.0, "outer": 2.0} for k, m, s in kinds for a in grid
    ]
    figure = plots.best_responses(pd.DataFrame(rows))
    assert [axes.get_title() for axes in figure.axes] == ["global, MLP", "local, linear"]
    words = [text.get_text() for text in figure.legends[0].get_texts()]
    assert words == [
        *(f"{part}, {way}" for part in ("inner", "outer") for way in ("retrained", "generated")),
        "alphas seen",
    ]
    local = figure.axes[1]
    generated = next(line for line in local.lines if line.get_label() == "outer, generated")
    assert np.abs(np.asarray(generated.get_xdata()) - 1.0).max() <= 1.0
    (shade,) = [p for p in local.patches if isinstance(p, Rectangle | Polygon)]
    assert shade.get_extents().transformed(local.transData.inverted()).intervalx == pytest.approx([0.6, 1.4])


def test_matrices_shares_the_scale_of_the_first():
    figure = plots.matrices({"truth": np.eye(3), "start": 10 * np.eye(3)}, ["along"])
    images = [axes.images[0] for axes in figure.axes[:2]]
    assert [image.get_clim() for image in images] == [(-1, 1), (-1, 1)]
    assert [axes.get_title() for axes in figure.axes[:2]] == ["truth", "start"]


def test_dots_shows_every_run():
    rows = [
        {"loss": i, "way": way, "part": part, "problem": "p"}
        for i, (way, part) in enumerate([("a", "x"), ("a", "y"), ("b", "x")])
    ]
    figure = plots.grouped_strips(pd.DataFrame(rows), "loss", "way", "part", "problem", {"p": 0.5})
    (axes,) = figure.axes
    drawn = sorted(
        float(x) for line in axes.lines if line.get_linestyle() == "None" for x in np.asarray(line.get_xdata())
    )
    assert drawn == [0, 1, 2]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b"]


@pytest.mark.parametrize("column", ["direct", "operation"])
def test_a_table_without_a_column_is_one_sentence(column):
    row = {"problem": "p", "operation": "o", "direct": 1.0, "response": 1.0, "total": 1.0}
    with pytest.raises(ValueError, match=f"lacks the column '{column}'"):
        plots.hypergradient_bars(pd.DataFrame([row]).drop(columns=column))
