"""Figures: what is drawn is what the table holds, legible, nothing on top of anything else, the same each time."""

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from IPython.core.formatters import DisplayFormatter
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from hdarts import plots
from hdarts.plots.cells import OPERATION_STYLES
from hdarts.plots.style import FAINT, add_note, legend_above, line_styles, new_figure, style
from hdarts.space import DARTS, NASBENCH201, Genotype, SearchSpace
from hdarts.workbook.analysis.selection import select

CELL = [("sep_conv_3x3", 0), ("skip_connect", 1), ("dil_conv_5x5", 2), ("max_pool_3x3", 0)] * 2
EPOCHS = np.arange(1, 13)
METRICS = pd.DataFrame(
    {
        "epoch": EPOCHS,
        "train_loss": 2 / EPOCHS,
        "train_accuracy": 90 - 50 / EPOCHS,
        "validation_loss": 2.2 / EPOCHS,
        "validation_accuracy": 85 - 50 / EPOCHS,
    }
)
HYPERGRADIENTS = pd.DataFrame(
    {
        "step": EPOCHS * 10,
        "direct_normal": 0.02 / EPOCHS,
        "direct_reduce": 0.01 / EPOCHS,
        "response_normal": 0.002 / EPOCHS,
        "response_reduce": 0.0 * EPOCHS,
    }
)
ALPHA = np.random.default_rng(0).dirichlet(np.ones(8), size=(2, 14))
ARMS = ("darts-second", "hyperdarts-1", "hyperdarts-2", "random")
CURVES = pd.DataFrame(
    [
        {
            "arm": arm,
            "seed": seed,
            "epoch": epoch,
            "validation_accuracy": 80 + place - 40 / epoch + seed / 20,
            "skips_normal": epoch // 4,
            "discretised_accuracy": 60 + place - 30 / epoch if epoch % 2 else float("nan"),
            "eigenvalue": 0.1 * epoch + place / 10 - seed / 100,
            "entropy_normal": 2.08 - 0.01 * epoch - seed / 1000,
            "entropy_reduce": 2.08 - 0.005 * epoch,
        }
        for place, arm in enumerate(ARMS)
        for seed in (2, 20)
        for epoch in EPOCHS
    ]
)
STEPS = pd.DataFrame(
    [
        {"arm": arm, "seed": seed, "step": 10 * epoch, "direct": 0.1 / epoch, "response": place * 0.01 / epoch}
        for place, arm in enumerate(("darts-first", "hyperdarts-1"))
        for seed in (2, 20)
        for epoch in EPOCHS
    ]
)
RUNS = pd.DataFrame(
    [
        {
            "arm": arm,
            "evaluation_seed": seed,
            "validation_accuracy": 80.0 + place + seed,
            "test_accuracy": 96.0 + place / 10 + seed / 20,
            "seconds": 600.0 * (place + 1) + seed,
        }
        for place, arm in enumerate(ARMS)
        for seed in (0, 1, 2)
    ]
)
SETTINGS = CURVES.assign(setting=[f"{0.025 * (1 + ARMS.index(arm)):g}, 48" for arm in CURVES["arm"]])
THEIRS = [("DARTS", 0.1), ("SNAS", None)]
COMPARED = pd.DataFrame(
    [("thesis: CIFAR-10", model, 97.2, deviation, 2.0, "GPU days") for model, deviation in THEIRS]
    + [("here: digits", arm, 96.0 + i, None if i else 0.5, 3.0 * i, "min") for i, arm in enumerate(ARMS)],
    columns=["panel", "model", "accuracy", "deviation", "cost", "unit"],
)
GRID = pd.DataFrame(
    [
        {
            "learning_rate": rate,
            "batch_size": size,
            "seed": seed,
            "validation_accuracy": 60 + 90 * rate - size / 9 + seed,
        }
        for rate in (0.025, 0.05, 0.1)
        for size in (16, 32, 64)
        for seed in (0, 1)
    ]
)
LENGTHS = pd.DataFrame({"embedding": [8, 32, 32, 128], "peak_memory_mib": [600.0, 800, 820, 2000]})
RATES = CURVES.assign(learning_rate=[0.1 / (epoch + ARMS.index(arm)) for arm, epoch in CURVES[["arm", "epoch"]].values])
NOTHING = pd.DataFrame()
SEEDS = (2, 20, 200)
SEARCHES = pd.concat(  # as tables of runs are put together: each has its own index
    [
        pd.DataFrame({"run": f"s/search/s{seed}", "epoch": EPOCHS, "validation_accuracy": 80 + seed / 100 - 9 / EPOCHS})
        for seed in SEEDS
    ]
)


def selected(seeds: Sequence[int]) -> pd.DataFrame:
    """Return the selection of SEARCHES, told to be of `seeds`: the third has no skip connection, the second is best."""
    skips, none = ([(operation, 0), (operation, 1)] * 4 for operation in ("skip_connect", "sep_conv_3x3"))
    cells = [Genotype(normal=normal, reduce=none) for normal in (skips, skips, none)]
    runs = [f"s/search/s{seed}" for seed in SEEDS]
    return select([(run, cell, 80 + i, seeds[i]) for i, (run, cell) in enumerate(zip(runs, cells, strict=True))]).table


FIGURES: dict[str, Callable[[], Figure]] = {
    "draw_genotype": lambda: plots.draw_genotype(Genotype(normal=CELL, reduce=CELL)),
    "learning_curves": lambda: plots.learning_curves(METRICS),
    "search_panel": lambda: plots.search_panel(METRICS, HYPERGRADIENTS, ALPHA, DARTS),
    "first_epoch": lambda: plots.search_panel(METRICS.head(1), NOTHING, ALPHA, DARTS),
    "validation_curves": lambda: plots.validation_curves(CURVES),
    "skips_over_epochs": lambda: plots.skips_over_epochs(CURVES),
    "entropy_over_epochs": lambda: plots.entropy_over_epochs(CURVES),
    "discretisation_gap": lambda: plots.discretisation_gap(CURVES),
    "eigenvalue_over_epochs": lambda: plots.eigenvalue_over_epochs(CURVES),
    "hypergradient_parts": lambda: plots.hypergradient_parts(STEPS),
    "hypergradient_magnitudes": lambda: plots.hypergradient_magnitudes(STEPS),
    "sweep_curves": lambda: plots.sweep_curves(SETTINGS, "learning rate, batch size"),
    "sweep_map": lambda: plots.sweep_map(GRID, "learning_rate", "batch_size"),
    "sweep_memory": lambda: plots.sweep_memory(LENGTHS, "embedding"),
    "schedules": lambda: plots.schedules(RATES),
    "accuracy_and_cost": lambda: plots.accuracy_and_cost(COMPARED),
    "strip": lambda: plots.strip(RUNS, "arm", "test_accuracy", lines={"report": 97.3, "random average": 96.2}),
    "validation_against_test": lambda: plots.validation_against_test(RUNS),
    "seconds_by_arm": lambda: plots.seconds_by_arm(RUNS),
    "selection_curves": lambda: plots.selection_curves(SEARCHES, selected(SEEDS)),
}


@pytest.fixture(scope="module", params=list(FIGURES))
def drawn(request: pytest.FixtureRequest) -> tuple[str, Figure]:
    return request.param, FIGURES[request.param]()


def texts(figure: Figure) -> list[Text]:
    return [text for text in figure.findobj(Text) if isinstance(text, Text) and text.get_text() and text.get_visible()]


def words(figure: Figure) -> list[str]:
    return [text.get_text() for text in texts(figure)]


def test_no_axes_is_empty_and_each_names_what_it_shows(drawn: tuple[str, Figure]):
    name, figure = drawn
    shown = [axes for axes in figure.axes if axes.axison or name == "draw_genotype"]
    assert shown
    for axes in shown:
        assert axes.has_data() or axes.patches or axes.get_label() == "<colorbar>"
    if name != "draw_genotype":
        assert any(
            word in " ".join(words(figure))
            for word in ("(%)", "nats", "(s)", "(min)", "softmax(α)", "count", "(MiB)", "rate")
        )


def test_type_is_legible_at_report_size(drawn: tuple[str, Figure]):
    _, figure = drawn
    assert figure.get_size_inches()[0] <= 6.3
    assert min(float(text.get_fontsize()) for text in texts(figure)) >= 7


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


def test_no_text_is_cut_off(drawn: tuple[str, Figure]):
    _, figure = drawn
    page = figure.bbox.padded(1)
    ticks = {text for axes in figure.axes for text in (*axes.get_xticklabels(), *axes.get_yticklabels())}
    for text in texts(figure):
        if text not in ticks:  # matplotlib keeps labels of ticks beyond the axis that it does not draw
            box = text.get_window_extent()
            assert page.containsx(box.x0) and page.containsx(box.x1), text
            assert page.containsy(box.y0) and page.containsy(box.y1), text


def test_the_same_table_gives_the_same_file_and_text_stays_text(drawn: tuple[str, Figure]):
    name, figure = drawn
    svg = plots.render(figure)
    assert svg == plots.render(FIGURES[name]())
    assert b"<text" in svg and b"<dc:date>" not in svg


def test_a_figure_looks_the_same_wherever_it_is_saved(drawn: tuple[str, Figure], tmp_path: Path):
    _, figure = drawn
    other: dict[Any, Any] = {"font.size": 20, "xtick.labelsize": 30, "grid.color": "red", "axes.labelsize": 4}
    with mpl.rc_context({**other, "svg.fonttype": "none", "svg.hashsalt": "hdarts"}):
        figure.savefig(tmp_path / "elsewhere.svg", dpi=200, metadata={"Date": None})
    assert (tmp_path / "elsewhere.svg").read_bytes() == plots.render(figure)


def test_drawing_leaves_no_global_trace():
    before = dict(mpl.rcParams)
    FIGURES["search_panel"]()
    assert dict(mpl.rcParams) == before
    assert plt.get_fignums() == []


@pytest.mark.parametrize(
    "draw",
    [
        plots.learning_curves,
        plots.validation_curves,
        plots.skips_over_epochs,
        plots.entropy_over_epochs,
        plots.hypergradient_parts,
        plots.hypergradient_magnitudes,
        plots.accuracy_and_cost,
        lambda frame: plots.sweep_curves(frame, "learning rate"),
        lambda frame: plots.strip(frame, "arm", "test_accuracy"),
        plots.validation_against_test,
        plots.seconds_by_arm,
        lambda frame: plots.search_panel(frame, HYPERGRADIENTS, ALPHA, DARTS),
    ],
)
def test_an_empty_table_is_refused(draw: Callable[[pd.DataFrame], Any]):
    with pytest.raises(ValueError, match="the table is empty, there is nothing to draw"):
        draw(NOTHING)


def test_a_missing_column_or_value_is_named():
    with pytest.raises(ValueError, match="lacks the column 'seconds'; it has arm, "):
        plots.seconds_by_arm(RUNS.drop(columns="seconds"))
    with pytest.raises(ValueError, match="no row has values in all of the columns arm, seconds"):
        plots.seconds_by_arm(RUNS.assign(seconds=np.nan))


def test_a_notebook_shows_a_figure_as_a_picture():
    figure = FIGURES["draw_genotype"]()
    shown, size = DisplayFormatter().format(figure)
    assert shown["image/png"] == plots.render(figure, "png")
    assert size["image/png"]["width"] == round(110 * 6.3)


def test_names_differ_in_colour_marker_and_line():
    six = list(line_styles("abcdef").values())
    for key in ("color", "marker", "linestyle"):
        assert len({str(look[key]) for look in six}) == 6
    assert len({str(line) for _, line in OPERATION_STYLES.values()}) == len(DARTS.operations)
    assert len({colour for colour, _ in OPERATION_STYLES.values()}) == len(DARTS.operations)


def heat_maps(alpha: np.ndarray, space: SearchSpace) -> list[Any]:
    """Return the axes of softmax(alpha) in the panel of a search: they follow those of loss and accuracy."""
    return plots.search_panel(METRICS, HYPERGRADIENTS, alpha, space).axes[2 : 2 + len(space.kinds)]


def test_the_heat_map_shows_alpha_and_marks_the_strongest_operations():
    for kind, axes in enumerate(heat_maps(ALPHA, DARTS)):
        assert np.array_equal(np.asarray(axes.collections[0].get_array()), ALPHA[kind])
        assert axes.get_title() == DARTS.kinds[kind]
        strongest = ALPHA[kind][:, 1:].argmax(-1) + 1
        assert np.array_equal(np.asarray(axes.lines[0].get_xdata()), strongest), "`none` is never marked"
    assert {*DARTS.operations, "$c_{k-2}$ → 0", "2 → 3"} <= set(words(FIGURES["search_panel"]()))


def test_colours_of_the_heat_map_tell_weights_apart_but_not_the_noise_of_the_start():
    noise = np.full(DARTS.alpha_shape, 0.125)
    noise[0, 0, :2] += (0.0001, -0.0001)
    assert heat_maps(noise, DARTS)[0].collections[0].get_clim() == pytest.approx((0.1225, 0.1275))
    assert heat_maps(ALPHA, DARTS)[0].collections[0].get_clim() == pytest.approx((ALPHA.min(), ALPHA.max()))


def test_the_heat_map_knows_the_other_space_and_refuses_other_shapes():
    alpha = np.full(NASBENCH201.alpha_shape, 0.2)
    (axes,) = heat_maps(alpha, NASBENCH201)
    named = {text.get_text() for text in axes.get_yticklabels()}
    assert {"$c_{k-1}$ → 1", "1 → 2", "2 → $c_{k}$"} <= named, "the names that the drawn cell has"
    assert not np.any(axes.lines[0].get_xdata()), "of equal ones the first, which is none"
    with pytest.raises(ValueError, match=r"shape \(1, 6, 5\) is not of space darts: \(2, 14, 8\)"):
        heat_maps(alpha, DARTS)


@pytest.mark.parametrize("draw", [plots.validation_curves, plots.skips_over_epochs, plots.entropy_over_epochs])
def test_searches_of_one_epoch_are_points(draw: Callable[[pd.DataFrame], Any]):
    figure = draw(CURVES.query("epoch == 1"))
    assert all(line.get_marker() == "o" for line in figure.axes[0].lines if not str(line.get_label()).startswith("_"))
    assert not any(line.get_marker() == "o" for line in draw(CURVES).axes[0].lines)


def test_the_first_epoch_alone_stands_at_a_whole_number():
    axes = plots.learning_curves(METRICS.head(1)).axes[0]
    low, high = axes.get_xlim()
    assert [tick for tick in axes.get_xticks() if low <= tick <= high] == [METRICS["epoch"].iloc[0]]


def test_learning_curves_show_test_or_validation_as_the_table_has_it():
    loss, accuracy = plots.learning_curves(METRICS).axes
    assert (loss.get_ylabel(), accuracy.get_ylabel()) == ("loss (nats)", "accuracy (%)")
    assert np.array_equal(np.asarray(accuracy.lines[1].get_ydata()), METRICS["validation_accuracy"])
    tested = METRICS.rename(columns=lambda name: name.replace("validation", "test"))
    assert {"training", "test"} <= set(words(plots.learning_curves(tested)))


def test_a_part_of_the_hypergradient_that_vanishes_is_named():
    figure = FIGURES["search_panel"]()
    assert figure.axes[-1].get_yscale() == "log"
    assert {"direct, normal", "response, normal", "response, reduce (0)"} <= set(words(figure))


def test_an_arm_whose_response_vanishes_has_its_direct_part():
    first, other = plots.hypergradient_parts(STEPS).axes
    assert (first.get_title(), other.get_title()) == ("darts-first", "hyperdarts-1")
    assert (first.get_yscale(), first.get_xlabel()) == ("log", "search step")
    assert np.allclose(np.asarray(first.lines[0].get_ydata()), 0.1 / EPOCHS)
    assert plots.hypergradient_parts(STEPS.query("arm == 'darts-first'")).axes, "an arm alone has a figure too"


def test_random_cells_have_a_panel_too():
    assert "no hypergradients logged" in words(plots.search_panel(METRICS, NOTHING, ALPHA, DARTS))


@pytest.mark.parametrize("draw", [plots.validation_curves, plots.skips_over_epochs])
def test_each_arm_has_its_axes_with_every_run(draw: Callable[[pd.DataFrame], Figure]):
    figure = draw(CURVES)
    shown = [axes for axes in figure.axes if axes.axison]
    assert [axes.get_title() for axes in shown] == list(ARMS)
    for axes in shown:
        assert len(axes.lines) == 2 * 3 + 2 + 1, "the runs of other arms, its own, and their mean"


def test_equal_runs_do_not_hide_each_other():
    axes = plots.skips_over_epochs(CURVES).axes[0]
    first, second = (np.asarray(line.get_ydata()) for line in axes.lines[6:8])
    assert np.allclose(second - first, 0.1)


def test_entropy_shows_both_kinds_of_cell():
    assert {"normal, one seed", "reduce, mean of seeds"} <= set(words(plots.entropy_over_epochs(CURVES)))


def test_a_strip_shows_all_values_apart_and_ticks_at_the_means():
    axes = plots.strip(RUNS, "arm", "test_accuracy").axes[0]
    points = [line for line in axes.lines if line.get_linestyle() == "None"]
    seen = np.concatenate([np.asarray(line.get_xydata()) for line in points])
    assert sorted(seen[:, 1]) == sorted(RUNS["test_accuracy"].tolist())
    assert len({round(x, 6) for x in seen[:, 0]}) == len(RUNS), "no point stands behind another"
    ticks = [np.asarray(line.get_ydata())[0] for line in axes.lines if line not in points]
    assert np.allclose(sorted(ticks), np.sort(np.asarray(RUNS.groupby("arm")["test_accuracy"].mean())))


def test_a_selection_shows_each_search_its_best_epoch_and_why_it_was_not_chosen():
    figure = plots.selection_curves(SEARCHES, selected(SEEDS))
    *curves, rings = figure.axes[0].lines
    named = ["seed 20, chosen", "seed 2, kept", "seed 200, disregarded: no skip connection"]
    assert [line.get_label() for line in curves] == named
    assert [line.get_linewidth() for line in curves] == [3, 1, 1] and curves[2].get_color() == FAINT
    for line, run in zip(curves, ("s20", "s2", "s200"), strict=True):
        own = SEARCHES.loc[SEARCHES["run"] == f"s/search/{run}", "validation_accuracy"]
        assert np.array_equal(np.asarray(line.get_ydata()), own)
    assert np.asarray(rings.get_xdata()).tolist() == [EPOCHS[-1]] * 3


def test_searches_of_one_seed_go_by_their_runs():
    assert {"s2, kept", "s20, chosen"} <= set(words(plots.selection_curves(SEARCHES, selected((2, 2, 2)))))


def test_lines_for_reference_have_their_labels():
    assert {"report: 97.3", "random average: 96.2"} <= set(words(FIGURES["strip"]()))


def test_validation_against_test_names_each_arm():
    assert set(ARMS) <= set(words(plots.validation_against_test(RUNS)))


@pytest.mark.parametrize(("scale", "unit"), [(1e-3, "s"), (1, "min"), (100, "h")])
def test_times_have_the_unit_that_suits(scale: float, unit: str):
    axes = plots.seconds_by_arm(RUNS.assign(seconds=RUNS["seconds"] * scale)).axes[0]
    assert axes.get_ylabel() == f"time ({unit})"
    assert axes.get_ylim()[0] == 0


def test_a_note_stands_below_the_figure_and_moves_nothing(tmp_path: Path):
    plain, noted = (FIGURES["validation_curves"]() for _ in range(2))
    add_note(noted, "mini scale: " + 20 * "small and smaller ")
    assert "small and smaller" in " ".join(words(noted)) and plots.render(noted).count(b"small") > 30
    pictures = [Image.open(io.BytesIO(plots.render(figure, "png"))).convert("L") for figure in (plain, noted)]
    assert pictures[0].width == pictures[1].width and pictures[0].height < pictures[1].height
    above = pictures[1].crop((0, 0, *pictures[0].size))
    difference = np.abs(np.asarray(above, dtype=float) - np.asarray(pictures[0], dtype=float))
    assert (difference > 100).mean() < 1e-3, "what was drawn is where it was"
    shown, size = DisplayFormatter().format(noted)
    assert shown["image/png"] == plots.render(noted, "png")
    assert size["image/png"]["height"] > round(110 * noted.get_size_inches()[1])


def test_a_setting_is_a_line_with_the_mean_of_its_seeds():
    axes = plots.sweep_curves(SETTINGS, "learning rate, batch size").axes[0]
    named = [line for line in axes.lines if not str(line.get_label()).startswith("_")]
    assert [line.get_label() for line in named][:2] == ["0.025, 48 (n = 2)", "0.05, 48 (n = 2)"]
    assert np.allclose(np.asarray(named[0].get_ydata()), 80 - 40 / EPOCHS + (2 + 20) / 2 / 20)


def test_magnitudes_are_geometric_means_of_what_is_not_0():
    direct, response = plots.hypergradient_magnitudes(STEPS.assign(direct=STEPS["seed"] * STEPS["direct"])).axes
    assert np.allclose(np.asarray(direct.lines[0].get_ydata()), 40**0.5 * 0.1 / EPOCHS)
    assert [len(np.asarray(line.get_ydata())) for line in response.lines] == [0, len(EPOCHS)]


def test_each_panel_of_a_comparison_has_its_models_and_a_bar_only_where_a_deviation_is_known():
    theirs, ours = plots.accuracy_and_cost(COMPARED).axes
    assert (theirs.get_xlabel(), ours.get_xlabel()) == ("search cost (GPU days)", "search cost (min)")
    assert [name for axes in (theirs, ours) for name in axes.get_legend_handles_labels()[1]] == ["DARTS", "SNAS", *ARMS]
    bars: list[Any] = [*theirs.collections, *ours.collections]
    lengths = [np.ptp(bar.get_segments()[0][:, 1]) for bar in bars]
    assert np.allclose(lengths, [0.2, 0, 1.0, 0, 0, 0])


def test_the_map_of_two_settings_has_means_and_frames_the_best_of_each_row():
    axes = plots.sweep_map(GRID, "learning_rate", "batch_size").axes[0]
    assert [text.get_text() for text in axes.texts][:3] == ["61.0", "63.2", "67.7"]
    framed = {patch.get_extents().x0 for patch in axes.patches}
    assert len(axes.patches) == 6 and len(framed) == 1, "the largest learning rate in each row"


def test_memory_starts_at_0_and_shows_every_run():
    axes = plots.sweep_memory(LENGTHS, "embedding").axes[0]
    assert axes.get_ylim()[0] == 0 and axes.get_ylim()[1] > 1.05 * np.asarray(LENGTHS["peak_memory_mib"]).max()
    assert len(np.asarray(axes.lines[0].get_xdata())) == 4


def test_arms_of_one_schedule_share_a_line():
    twin = RATES[RATES["arm"] == ARMS[0]].assign(arm="twin")
    figure = plots.schedules(pd.concat([RATES, twin]))
    assert len(figure.axes[0].lines) == len(ARMS)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [f"{ARMS[0]} and 1 more", *ARMS[1:]]
