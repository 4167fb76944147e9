"""Pictures of cells: everything in a cell is drawn, and nothing overlaps."""

import random
from itertools import combinations
from typing import Any

import matplotlib as mpl
import numpy as np
from helpers import ROOT
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch, PathPatch
from matplotlib.transforms import Bbox

from hdarts import plots
from hdarts.plots.cells import OPERATION_STYLES
from hdarts.space import DARTS, NASBENCH201, Genotype

CELLS = ROOT / "params" / "genotypes"
DARTS_V2 = Genotype.from_json((CELLS / "darts-v2.json").read_text())


def random_genotype(generator: random.Random) -> Genotype:
    cells = [
        [
            (generator.choice(DARTS.operations[1:]), source)
            for node in range(2, 6)
            for source in generator.sample(range(node), 2)
        ]
        for _ in DARTS.kinds
    ]
    return Genotype(normal=cells[0], reduce=cells[1])


def boxes(axes: Axes) -> list[Bbox]:
    return [patch.get_window_extent() for patch in axes.patches if is_box(patch)]


def is_box(patch: Any) -> bool:
    return isinstance(patch, FancyBboxPatch)


def overlap(a: Bbox, b: Bbox) -> bool:
    return min(a.x1, b.x1) - max(a.x0, b.x0) > 0 and min(a.y1, b.y1) - max(a.y0, b.y0) > 0


def test_a_published_cell_shows_all_nodes_and_operations():
    figure = plots.draw_genotype(DARTS_V2)
    shown = [text.get_text() for axes in figure.axes for text in axes.texts]
    for title in ("normal cell", "reduction cell"):
        assert shown.count(title) == 1
    for node in ("$c_{k-2}$", "$c_{k-1}$", "$c_{k}$", "0", "1", "2", "3"):
        assert shown.count(node) == 2
    every = [operation for operation, _ in (*DARTS_V2.normal, *DARTS_V2.reduce)]
    assert all(shown.count(operation) == every.count(operation) for operation in set(every))


def test_lines_lead_from_source_to_node_in_the_style_of_their_operation():
    axes = plots.draw_genotype(DARTS_V2).axes[0]
    lines = [patch for patch in axes.patches if isinstance(patch, PathPatch)]
    assert len(lines) == 8 + 4, "8 operations, and 4 nodes that are concatenated"
    centre = {text.get_text(): np.array(text.get_position()) for text in axes.texts}
    box = {"$c_{k-2}$": 0, "$c_{k-1}$": 1, "0": 2, "1": 3, "2": 4, "3": 5, "$c_{k}$": 6}
    for index, line in enumerate(lines):
        vertices = np.asarray(line.get_path().vertices)
        ends = [
            min(box, key=lambda name: float(np.abs(centre[name] - end).sum())) for end in (vertices[0], vertices[-1])
        ]
        if index < 8:
            operation, source = DARTS_V2.normal[index]
            assert [box[end] for end in ends] == [source, 2 + index // 2]
            assert mpl.colors.to_hex(line.get_edgecolor()) == OPERATION_STYLES[operation][0].lower()  # pyright: ignore
        else:
            assert [box[end] for end in ends] == [index - 6, 6]


def test_the_first_input_is_above_the_second():
    for seed in range(10):
        for axes in plots.draw_genotype(random_genotype(random.Random(seed))).axes:
            height = {text.get_text(): text.get_position()[1] for text in axes.texts}
            assert height["$c_{k-2}$"] > height["$c_{k-1}$"]


def test_no_boxes_and_labels_overlap_and_no_line_crosses_another_label():
    generator = random.Random(0)
    for _ in range(100):
        figure = plots.draw_genotype(random_genotype(generator))
        all_boxes = [box for axes in figure.axes for box in boxes(axes)]
        assert len(all_boxes) == 2 * (7 + 8)
        shown = [*all_boxes, *(axes.texts[0].get_window_extent() for axes in figure.axes)]
        assert [axes.texts[0].get_text() for axes in figure.axes] == ["normal cell", "reduction cell"]
        assert not any(overlap(a, b) for a, b in combinations(shown, 2))
        low, high = np.array([box.min for box in shown]).min(0), np.array([box.max for box in shown]).max(0)
        assert (low >= 0).all() and (high <= figure.bbox.max).all(), "all lies on the page"
        for axes in figure.axes:
            lines = [patch for patch in axes.patches if isinstance(patch, PathPatch)]
            for index, line in enumerate(lines):
                points = axes.transData.transform(on(line))
                met = sum(bool(within(box, points).any()) for box in all_boxes)
                assert met == (index < 8), "a line passes under its label and nothing else"


def on(line: PathPatch) -> np.ndarray:
    """Return points on a line, about a hundredth of an inch apart, in the units of the axes."""
    steps: Any = np.linspace(0, 1, 40)
    return np.concatenate([curve(steps) for curve, _ in line.get_path().iter_bezier()])  # pyright: ignore


def within(box: Bbox, points: np.ndarray) -> np.ndarray:
    """Return which points lie in a box, more than a pixel from its border."""
    return np.all((points > np.array(box.min) + 1) & (points < np.array(box.max) - 1), axis=-1)


def test_every_text_of_a_label_lies_in_its_box():
    every = [(operation, index % 2) for index, operation in enumerate((*DARTS.operations, "skip_connect")[1:])]
    other = [(NASBENCH201.operations[index % 5], source) for index, (source, _) in enumerate(NASBENCH201.edges)]
    for genotype in (Genotype(normal=every, reduce=every), Genotype(cell=other)):
        axes = plots.draw_genotype(genotype).axes[0]
        for text in axes.texts[1:]:
            extent = text.get_window_extent()
            assert any(box.x0 < extent.x0 and extent.x1 < box.x1 for box in boxes(axes) if overlap(box, extent))
