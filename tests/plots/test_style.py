"""Every figure is legible, labelled, not cut off and reproducible; errors are one sentence."""

import io
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from helpers.figures import CELL, METRICS, NOTHING, RUNS, TABLES, texts, words
from IPython.core.formatters import DisplayFormatter
from matplotlib.figure import Figure
from PIL import Image

from hdarts import plots
from hdarts.plots.axes import legend_above
from hdarts.plots.cells import OPERATION_STYLES
from hdarts.plots.style import add_note, line_styles, new_figure, style
from hdarts.space import DARTS

UNITS = ("(%)", "points", "nats", "(s)", "(min)", "mixture weight", "count", "(MiB)", "rate", "relative error")
PLAIN = ("draw_genotype", "simplex_maps", "simplex_paths", "plane_paths", "lines", "chords", "neumann_path")  # no units
PLAIN = (
    *PLAIN,
    "hypergradient_slope",
    "hypergradient_bars",
    "best_responses",
    "grouped_strips",
    "neighbourhood_points",
    "rank_intervals",
    "tau_over_flops",
)
SLOPES = np.random.default_rng(0).normal(size=DARTS.alpha_shape)
SHARES = pd.DataFrame({"0": [4.5, np.nan], "outside": [np.nan, 0.3]}, ["sep_conv_3x3", "stem"])
FIGURES: dict[str, Callable[[], Figure]] = {
    **{name: lambda table=table, draw=draw: draw(table) for name, (table, draw) in TABLES.items()},
    "first_epoch": lambda: TABLES["search_panel"][1](METRICS.head(1)),
    "draw_genotype": lambda: plots.draw_genotype(CELL),
    "edge_maps": lambda: plots.edge_maps(
        {"one": SLOPES, "other": -SLOPES}, DARTS, DARTS.operations, "nats per unit of alpha", dots=True
    ),
    "weight_change_map": lambda: plots.weight_change_map(SHARES),
}


@pytest.fixture(scope="module", params=list(FIGURES))
def drawn(request: pytest.FixtureRequest) -> tuple[str, Figure]:
    return request.param, FIGURES[request.param]()


def test_every_table_figure_is_tested():
    drawings = {
        "edge_maps",
        "weight_change_map",
        "draw_cell_search",
        "draw_cell_shapes",
        "draw_genotype",
        "draw_hypernetworks",
        "draw_method",
    }
    others = {*drawings, "draw_network", "Gallery", "matrices", "render", "save", "slide", "style"}
    assert set(TABLES) == set(plots.__all__) - others


def test_no_axes_is_empty_and_units_are_named(drawn: tuple[str, Figure]):
    name, figure = drawn
    shown = [axes for axes in figure.axes if axes.axison or name.startswith(("draw", "simplex"))]
    assert shown
    for axes in shown:
        assert axes.has_data() or axes.patches or axes.get_label() == "<colorbar>"
    assert name in PLAIN or any(unit in " ".join(words(figure)) for unit in UNITS)


def test_type_is_legible_at_report_width(drawn: tuple[str, Figure]):
    _, figure = drawn
    assert figure.get_size_inches()[0] <= 6.3
    assert min(float(text.get_fontsize()) for text in texts(figure)) >= 7


def test_no_text_is_cut_off(drawn: tuple[str, Figure]):
    _, figure = drawn
    page = figure.bbox.padded(1)
    ticks = {text for axes in figure.axes for text in (*axes.get_xticklabels(), *axes.get_yticklabels())}
    for text in texts(figure):
        if text not in ticks:  # matplotlib keeps labels of ticks beyond the axis that it does not draw
            box = text.get_window_extent()
            assert page.containsx(box.x0) and page.containsx(box.x1), text
            assert page.containsy(box.y0) and page.containsy(box.y1), text


def test_tick_labels_do_not_overlap(drawn: tuple[str, Figure]):
    for axes in drawn[1].axes:
        low, high = sorted(axes.get_xlim())
        ticks = [tick for tick in axes.xaxis.get_major_ticks() if low <= tick.get_loc() <= high]
        boxes = [tick.label1.get_window_extent() for tick in ticks if tick.label1.get_visible() and axes.axison]
        boxes.sort(key=lambda box: box.x0)
        assert all(left.x1 < right.x0 for left, right in pairwise(boxes))


def test_the_same_table_gives_the_same_file_and_text_stays_text(drawn: tuple[str, Figure]):
    name, figure = drawn
    svg = plots.render(figure)
    assert svg == plots.render(FIGURES[name]())
    assert b"<text" in svg and b"<dc:date>" not in svg


def test_a_figure_is_the_same_wherever_it_is_saved(drawn: tuple[str, Figure], tmp_path: Path):
    _, figure = drawn
    other: dict[Any, Any] = {"font.size": 20, "xtick.labelsize": 30, "grid.color": "red", "axes.labelsize": 4}
    with mpl.rc_context({**other, "svg.fonttype": "none", "svg.hashsalt": "hdarts"}):
        figure.savefig(tmp_path / "elsewhere.svg", dpi=200, metadata={"Date": None})
    assert (tmp_path / "elsewhere.svg").read_bytes() == plots.render(figure)


@pytest.mark.parametrize("name", FIGURES)
def test_drawing_changes_no_global_state(name: str):
    settings, random = dict(mpl.rcParams), str(np.random.get_state())
    FIGURES[name]()
    assert dict(mpl.rcParams) == settings and plt.get_fignums() == []
    assert str(np.random.get_state()) == random


@pytest.mark.parametrize("name", TABLES)
def test_an_empty_table_is_refused(name: str):
    with pytest.raises(ValueError, match="the table is empty, there is nothing to draw"):
        TABLES[name][1](NOTHING)


@pytest.mark.parametrize("name", TABLES)
def test_a_missing_column_is_named(name: str):
    table, draw = TABLES[name]
    with pytest.raises(ValueError, match=r"the table lacks the column '\w+'; it has other"):
        draw(table.iloc[:, :0].assign(other=1))


def test_rows_without_values_are_refused():
    with pytest.raises(ValueError, match="no row has values in all of the columns arm, seconds"):
        plots.seconds_by_arm(RUNS.assign(seconds=np.nan))


@pytest.mark.parametrize(("name", "rows"), [("short", 1), ("the name of something that takes room", 3)])
def test_a_legend_takes_as_few_rows_as_fit_the_width(name: str, rows: int):
    with style():
        figure = new_figure(2)
        axes = figure.subplots()
        for number in range(5):
            axes.plot([0, 1], label=f"{name} {number}")
        legend_above(figure)
        figure.draw_without_rendering()
    (legend,) = figure.legends
    lines = {round(text.get_window_extent().y0) for text in legend.get_texts()}
    assert len(lines) == rows and legend.get_window_extent().width <= figure.bbox.width


def test_a_notebook_shows_a_figure_as_a_picture():
    figure = FIGURES["draw_genotype"]()
    shown, size = DisplayFormatter().format(figure)
    assert shown["image/png"] == plots.render(figure, "png")
    assert size["image/png"]["width"] == round(110 * 6.3)


def test_names_differ_in_colour_marker_and_line():
    six = list(line_styles("abcdef").values())
    for key in ("color", "marker", "linestyle"):
        assert len({str(line[key]) for line in six}) == 6
    for distinct in zip(*OPERATION_STYLES.values(), strict=True):
        assert len({str(value) for value in distinct}) == len(DARTS.operations)


def test_a_note_is_below_the_figure_and_moves_nothing():
    plain, noted = (FIGURES["validation_curves"]() for _ in range(2))
    add_note(noted, "mini scale: " + 20 * "small and smaller ")
    assert "small and smaller" in " ".join(words(noted)) and plots.render(noted).count(b"small") > 30
    pictures = [Image.open(io.BytesIO(plots.render(figure, "png"))).convert("L") for figure in (plain, noted)]
    assert pictures[0].width == pictures[1].width and pictures[0].height < pictures[1].height
    above = pictures[1].crop((0, 0, *pictures[0].size))
    difference = np.abs(np.asarray(above, dtype=float) - np.asarray(pictures[0], dtype=float))
    assert (difference > 100).mean() < 1e-3, "the drawing has not moved"
    shown, size = DisplayFormatter().format(noted)
    assert shown["image/png"] == plots.render(noted, "png")
    assert size["image/png"]["height"] > round(110 * noted.get_size_inches()[1])


def test_a_method_has_the_same_style_in_every_figure_and_no_other_name_has_it():
    among = line_styles(["mine", "hyperdarts-2", "yours", "darts-first", "random"])
    alone = line_styles(["random", "hyperdarts-2"])
    assert among["random"] == alone["random"] and among["hyperdarts-2"] == alone["hyperdarts-2"]
    assert len({str(style) for style in among.values()}) == 5
    assert list(among) == ["mine", "hyperdarts-2", "yours", "darts-first", "random"]
