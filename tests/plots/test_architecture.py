"""Drawings of networks and cells: the shapes are those of the networks, and all edges are there."""

from typing import Any

import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch

from hdarts import plots
from hdarts.network import EvaluationNetwork
from hdarts.plots.architecture import cell_groups
from hdarts.space import DARTS, NASBENCH201, SearchSpace, discretise, plan
from hdarts.supernet import Supernet


def alpha_of(space: SearchSpace) -> torch.Tensor:
    return torch.randn(space.alpha_shape, generator=torch.Generator().manual_seed(0))


def words(figure: Figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts]


@pytest.mark.parametrize("side, stem", [(8, "cifar"), (9, "cifar"), (67, "imagenet")])
@pytest.mark.parametrize("space, layers", [(DARTS, 3), (DARTS, 5), (NASBENCH201, 1)])
def test_the_shapes_are_those_that_the_evaluation_network_makes(space: SearchSpace, layers: int, side: int, stem: str):
    network = EvaluationNetwork(discretise(alpha_of(space), space), 4, layers, 10, auxiliary=False, stem=stem)
    made: list[tuple[int, ...]] = []
    for cell in network.cells:
        cell.register_forward_hook(lambda module, given, out: made.append(tuple(out.shape[1:])))
    network.eval()(torch.zeros(1, 3, side, side))
    groups = cell_groups(plan(4, layers, space, stem), space, (3, side, side))
    assert [group.maps for group in groups for _ in group.cells] == made


def test_the_supernet_has_the_same_shapes(monkeypatch):
    net = Supernet(DARTS, channels=4, layers=4, classes=10)
    cells: Any = net._cells
    made: list[tuple[int, ...]] = []
    cell = cells._cell

    def recorded(*given):
        out = cell(*given)
        made.append(tuple(out.shape[1:]))
        return out

    monkeypatch.setattr(cells, "_cell", recorded)
    net(torch.randn(2, 3, 8, 8), net.initial_w(torch.Generator().manual_seed(0)), torch.zeros(DARTS.alpha_shape))
    assert [group.maps for group in cell_groups(net.cells, DARTS, (3, 8, 8)) for _ in group.cells] == made


def test_search_network_of_the_thesis_is_drawn_with_its_shapes():
    shown = words(plots.draw_network(plan(16, 8), DARTS, (3, 32, 32), 10))
    assert list(dict.fromkeys(text for text in shown if "×32×32" in text[2:] or "×16" in text or "×8" in text)) == [
        "48×32×32",
        "64×32×32",
        "128×16×16",
        "256×8×8",
    ]
    assert shown.count("2 ×\nnormal") == 3 and shown.count("1 ×\nreduction") == 2 and "10\nclasses" in shown


def test_the_network_for_imagenet_is_drawn_with_both_outputs_of_its_stem():
    cells = plan(48, 14, stem="imagenet")
    shown = words(plots.draw_network(cells, DARTS, (3, 224, 224), 1000))
    assert [text for text in shown if "×224" in text or "×28" in text] == ["3×224×224", "48×28×28", "192×28×28"]
    inside = "\n".join(words(plots.draw_cell_shapes(cells, DARTS, (3, 224, 224))))
    assert "48×56×56" in inside and "factorised reduction: 48×28×28" in inside


def test_cell_shows_the_shapes_inside_it():
    shown = "\n".join(words(plots.draw_cell_shapes(plan(16, 8), DARTS, (3, 32, 32))))
    assert "normal: 4 nodes of 16×32×32" in shown and "reduction: 4 nodes of 32×16×16" in shown
    assert "sums of 2, 3, 4, 5 edges" in shown and "128×16×16" in shown
    assert "factorised reduction" not in shown
    assert "last node" in "\n".join(words(plots.draw_cell_shapes(plan(4, 1, NASBENCH201), NASBENCH201, (3, 8, 8))))


@pytest.mark.parametrize("space, kept", [(DARTS, 8), (NASBENCH201, 6)], ids=["darts", "nasbench201"])
def test_a_search_starts_with_all_operations_and_ends_with_those_kept(space: SearchSpace, kept: int):
    alpha = alpha_of(space)
    genotype = discretise(alpha, space)
    figure = plots.draw_cell_search(alpha.softmax(-1), space, genotype)
    lines = [[patch for patch in axes.patches if isinstance(patch, PathPatch)] for axes in figure.axes]
    assert [len(drawn) for drawn in lines] == [space.n_alpha, space.n_alpha, kept]
    cell = next(iter(genotype.cells.values()))
    assert sorted(str(patch.get_gid()) for patch in lines[2]) == sorted(operation for operation, _ in cell)
    widths = torch.tensor([patch.get_linewidth() for patch in lines[1]])
    assert widths.argmax() == alpha[0].softmax(-1).flatten().argmax(), "the strongest operation is the broadest line"
