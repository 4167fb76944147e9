"""Drawings of the methods: an arrow for each gradient, and the numbers of the actual objects."""

import math
from functools import cache
from itertools import combinations
from typing import Any

import pytest
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from matplotlib.text import Text

from hdarts import plots
from hdarts.hypernetwork import MLP, ByKind, Chunked, Linear, LowRank
from hdarts.plots.diagram import ARROWS, Diagram, count, text_width
from hdarts.plots.methods import RESPONSES
from hdarts.space import DARTS, NASBENCH201, SearchSpace
from hdarts.supernet import Supernet

THESIS = Supernet(DARTS, channels=16, layers=8, classes=10)


def linear(net: Supernet, method_2: bool = False) -> ByKind:
    kinds, edges, operations = net.space.alpha_shape
    rest = Linear(kinds * edges * operations, net.n_w - sum(net.n_cell_w)) if method_2 else None
    return ByKind([Linear(edges * operations, n) for n in net.n_cell_w], rest)


@cache
def drawing(method: str) -> Figure:
    return plots.draw_method(method, THESIS, linear(THESIS) if method == "hypernetwork" else None)


def words(figure: Figure) -> str:
    return "\n".join(text.get_text() for text in figure.axes[0].texts)


def arrows(figure: Figure) -> dict[str, list[tuple[str, str]]]:
    """Return what each kind of arrow joins: (words of its source box, words of its target box)."""
    (axes,) = figure.axes
    text = {text.get_position(): text.get_text() for text in axes.texts}
    found: dict[str, list[tuple[str, str]]] = {kind: [] for kind in ARROWS}
    for arrow in axes.findobj(FancyArrowPatch):
        assert isinstance(arrow, FancyArrowPatch)
        ends = []
        for box in (arrow.patchA, arrow.patchB):
            assert isinstance(box, FancyBboxPatch)
            x, y = box.get_x() + box.get_width() / 2, box.get_y() + box.get_height() / 2
            ends.append(next(t for at, t in text.items() if math.dist(at, (x, y)) < 1e-6))
        (kind,) = [kind for kind, (_, _, name) in ARROWS.items() if arrow.get_gid() == name]
        found[kind].append((ends[0], ends[1]))
    return found


def nothing_overlaps(figure: Figure) -> bool:
    """Whether all is on the page, no boxes or free texts overlap, and each box contains its text."""
    (axes,) = figure.axes
    boxes = [patch.get_window_extent() for patch in axes.patches if isinstance(patch, FancyBboxPatch)]
    texts = [text.get_window_extent() for text in figure.findobj(Text) if isinstance(text, Text) and text.get_text()]
    inside = [
        text
        for text in texts
        if any(box.x0 < text.x0 and text.x1 < box.x1 and box.y0 < text.y0 and text.y1 < box.y1 for box in boxes)
    ]
    assert len(inside) == len(boxes)
    shown = [*boxes, *(text for text in texts if text not in inside)]
    assert all(figure.bbox.x0 <= one.x0 and one.x1 <= figure.bbox.x1 for one in shown)
    assert all(figure.bbox.y0 <= one.y0 and one.y1 <= figure.bbox.y1 for one in shown)
    return not any(a.overlaps(b) for a, b in combinations(shown, 2))


@pytest.mark.parametrize("method", RESPONSES)
def test_a_method_is_drawn_with_nothing_on_top_of_anything_else(method: str):
    assert nothing_overlaps(drawing(method))


@pytest.mark.parametrize("method", RESPONSES)
def test_the_loss_sees_alpha_directly_in_every_method(method: str):
    drawn = arrows(drawing(method))
    net, alpha = "supernet on a\nvalidation batch", "$\\alpha$\n2 × 14 × 8"
    assert drawn["direct"] == [("loss\n$L_{val}$", net), (net, alpha)]
    assert (alpha, net) in drawn["forward"]


def test_response_flows_back_to_alpha_except_in_first_order_darts():
    for method in RESPONSES:
        drawn = arrows(drawing(method))
        forward = {(end, start) for start, end in drawn["forward"]}
        assert set(drawn["response"]) <= forward, "each gradient goes against a forward arrow"
        reached = [end for _, end in drawn["response"]]
        assert ("$\\alpha$\n2 × 14 × 8" in reached) == (method != "darts-first")


def test_unrolling_says_how_many_steps_it_looks_ahead():
    assert "$T$ = 7 look-ahead steps" in words(plots.draw_method("unrolled", THESIS, steps=7))


def test_a_method_without_hypergradient_has_no_drawing():
    with pytest.raises(KeyError, match="random"):
        plots.draw_method("random", THESIS)


@pytest.mark.parametrize("space", [DARTS, NASBENCH201], ids=lambda space: space.name)
@pytest.mark.parametrize("method_2", [False, True])
def test_the_drawing_of_the_hypernetworks_counts_what_they_train(space: SearchSpace, method_2: bool):
    net = Supernet(space, channels=4, layers=3, classes=10)
    h = linear(net, method_2)
    figure = plots.draw_hypernetworks(h, net)
    assert nothing_overlaps(figure)
    rest = 0 if method_2 else net.n_w - sum(net.n_cell_w)
    assert f"{h.n_phi + rest:,} numbers, of them {h.n_phi:,} of hypernetworks" in words(figure)
    assert len(arrows(figure)["forward"]) == 3 * len(space.kinds) + (3 if method_2 else 1)
    for part in h.parts:
        assert f"$\\phi$: {count(part.n_phi)}" in words(figure)


def test_model_2_of_the_thesis_is_drawn_with_its_numbers():
    sizes = [tuple(math.prod(shape) for shape in THESIS.convolution_shapes(kind)) for kind in range(2)]
    shown = words(plots.draw_hypernetworks(ByKind([MLP(112, kind, 56, shared=False) for kind in sizes]), THESIS))
    assert "1,008 × MLP 112–56–n, sigmoid" in shown and "368 × MLP 112–56–n, sigmoid" in shown
    assert "14 × 8 = 112" in shown and "113,183,354 numbers" in shown


@pytest.mark.parametrize(
    "one, text",
    [
        (LowRank(112, 5000, 8), "low rank 112–8–5 k"),
        (MLP(112, (2000, 3000), 56, "tanh"), "MLP 112–56–5 k, tanh"),
        (Chunked(112, ((8, 8, 1, 1), (8, 1, 3, 3)), 32), "chunked, $z$ of 32"),
    ],
)
def test_hypernetwork_is_described_by_its_layers(one: Any, text: str):
    assert text in words(plots.draw_hypernetworks(ByKind([one, one]), THESIS))


def test_numbers_have_three_digits_and_a_unit():
    assert [count(n) for n in (640, 14_195, 1_930_618)] == ["640", "14.2 k", "1.93 M"]


def test_a_box_is_as_wide_as_its_longest_line():
    d = Diagram(1.0)
    box = d.box(3, 0.5, "short\nthe longest line of this box")
    assert box.get_width() == pytest.approx(text_width("the longest line of this box") + 0.1)
    assert d.box(1, 0.5, "$\\alpha$", width=0.9).get_width() == 0.9
