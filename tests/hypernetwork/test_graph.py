"""The graph hypernetwork against its equations, and what its structure promises."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from helpers.small_runs import SEARCH, params
from torch import Tensor

from hdarts.hypernetwork import Graph
from hdarts.runs.randomness import generator
from hdarts.search import make_hypernetwork
from hdarts.space import DARTS
from hdarts.supernet import Supernet

EDGES, COLUMNS, HIDDEN = DARTS.edges, 3, 4


def graph(rounds: int) -> Graph:
    return Graph(COLUMNS * len(EDGES), (2,) * len(EDGES), EDGES, tuple(range(len(EDGES))), HIDDEN, rounds)


def start(h: Graph) -> tuple[Tensor, Tensor]:
    draw = generator(0, "test")
    phi = torch.randn(h.n_phi, generator=draw, dtype=torch.float64)
    return phi[: h.n_trunk], torch.randn(len(EDGES), COLUMNS, generator=draw, dtype=torch.float64)


def dot(a: list[float], b: list[float]) -> float:
    return math.fsum(one * other for one, other in zip(a, b, strict=True))


@pytest.mark.parametrize("rounds", [0, 1, 3])
def test_features_are_those_of_the_equations(rounds: int):
    h = graph(rounds)
    trunk, alpha = start(h)
    values = iter(trunk.tolist())
    reads = [[next(values) for _ in range(COLUMNS + 1)] for _ in range(HIDDEN)]
    passes = [[next(values) for _ in range(3 * HIDDEN + 1)] for _ in range(HIDDEN)]
    assert next(values, None) is None
    old = [[math.tanh(dot(row, [*x, 1.0])) for row in reads] for x in alpha.tolist()]
    for _ in range(rounds):
        new = []
        for e, (i, j) in enumerate(EDGES):
            near = ([o for o, (_, k) in enumerate(EDGES) if k == i], [o for o, (k, _) in enumerate(EDGES) if k == j])
            means = [sum(old[o][c] for o in some) / max(1, len(some)) for some in near for c in range(HIDDEN)]
            heard = [*old[e], *means, 1.0]
            moved = [math.tanh(dot(row, heard)) for row in passes]
            new.append([a + b for a, b in zip(old[e], moved, strict=True)])
        old = new
    torch.testing.assert_close(h.of_edges(trunk, alpha), torch.tensor(old, dtype=torch.float64), rtol=1e-12, atol=1e-12)


def test_edges_that_are_alike_in_all_that_the_graph_sees_have_equal_features():
    """Both inputs of a cell of DARTS have edges to the same nodes."""
    h = graph(3)
    trunk, alpha = start(h)
    pairs = [(EDGES.index((0, node)), EDGES.index((1, node))) for node in range(2, 6)]
    for one, other in pairs:
        alpha[other] = alpha[one]
    features = h.of_edges(trunk, alpha)
    for one, other in pairs:
        torch.testing.assert_close(features[one], features[other])
    alpha[pairs[0][1]] += 0.1
    one, other = h.of_edges(trunk, alpha)[list(pairs[0])]
    assert not torch.allclose(one, other)


@pytest.mark.parametrize("rounds", [0, 1, 2, 3])
def test_alpha_of_an_edge_reaches_edges_that_are_at_most_as_many_steps_away(rounds: int):
    h = graph(rounds)
    trunk, alpha = start(h)
    jacobian = torch.func.jacrev(h.of_edges, 1)(trunk, alpha)
    reached = (jacobian.abs().sum((1, 3)) > 0).tolist()
    for e in range(len(EDGES)):
        near = {e}
        for _ in range(rounds):
            near |= {o for o, (i, j) in enumerate(EDGES) for n in near if j == EDGES[n][0] or i == EDGES[n][1]}
        assert {o for o, row in enumerate(reached) if row[e]} == near


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_alpha": 15}, "n_alpha is 15, but must be a multiple of 14, the number of edges"),
        ({"places": (0, 1)}, "places has to be an edge from 0 to 13 for each of 1 convolutions"),
        ({"places": (14,)}, "places has to be an edge from 0 to 13"),
    ],
)
def test_what_is_no_graph_of_edges_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        Graph(**{"n_alpha": 28, "sizes": (3,), "edges": EDGES, "places": (13,), "hidden": 2} | changes)


def test_custom_operations_are_generated_at_their_edges():
    class Gain:
        def shapes(self, channels: int, stride: int) -> list[tuple[int, ...]]:
            return [(channels, 1, 1, 1)]

        def __call__(self, x: Tensor, weights: Sequence[Tensor], stride: int) -> Tensor:
            return (x * weights[0].flatten()[:, None, None])[:, :, ::stride, ::stride]

    space = replace(DARTS, name="with a gain", operations=("none", "sep_conv_3x3", "gain"))
    net = Supernet(space, 2, 3, 10, custom={"gain": Gain()})
    chosen: Any = params(SEARCH | {"hypernetwork": "graph", "hidden_size": 2})
    h = make_hypernetwork(chosen, net)
    made = h(h.initial_phi(generator(3)), torch.zeros(space.alpha_shape))
    assert made.shape == (sum(net.n_cell_w),) and set(net.convolution_edges(0)) == set(range(14))
    w = torch.cat([made, net.initial_w(generator(4))[len(made) :]])
    assert net(torch.ones(2, 3, 8, 8), w, torch.zeros(space.alpha_shape)).isfinite().all()


def test_each_convolution_has_the_features_of_its_edge():
    net = Supernet(DARTS, 2, 3, 10)
    for kind in (0, 1):
        sizes = tuple(math.prod(shape) for shape in net.convolution_shapes(kind))
        h = Graph(DARTS.n_alpha, sizes, DARTS.edges, tuple(net.convolution_edges(kind)), HIDDEN)
        trunk = torch.randn(h.n_trunk, generator=generator(1))
        alpha = torch.randn(len(DARTS.edges), len(DARTS.operations), generator=generator(2))
        names = net.layout.names[: len(sizes)] if kind == 0 else net.layout.names[-1:]
        features = h.features(trunk, alpha)
        assert features.shape == (len(sizes), HIDDEN)
        for name, row in zip(names if kind == 0 else (), features, strict=kind == 0):
            source, node = map(int, name.split(".")[2].split("-"))
            torch.testing.assert_close(row, h.of_edges(trunk, alpha)[DARTS.edges.index((source, node))])
