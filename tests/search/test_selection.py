"""From mixture weights to cells: caps on skip connections, thresholds, decisions by perturbation."""

import pytest
import torch

from hdarts.params import SearchParams
from hdarts.runs.paths import with_defaults
from hdarts.runs.randomness import generator
from hdarts.search.selection import selection_of
from hdarts.space import DARTS, NASBENCH201, Genotype, one_hot_weights, skip_count, strongest

SKIP = DARTS.operations.index("skip_connect")


def rule(**changes):
    return selection_of(with_defaults(SearchParams, {"threads": 1, **changes}))


def random_weights(space, number: int) -> torch.Tensor:
    return torch.randn(space.alpha_shape, generator=generator(number, "weights"), dtype=torch.float64).softmax(-1)


@pytest.mark.parametrize("space", [DARTS, NASBENCH201], ids=lambda space: space.name)
def test_a_cap_takes_the_weakest_skip_connections_out_one_by_one(space):
    skip = space.operations.index("skip_connect")
    for number in range(20):
        weights = random_weights(space, number)
        weights[:, ::2, skip] += 0.5  # many skip connections, of different strengths
        assert rule(max_skips=len(space.edges))(weights, space) == strongest(weights, space)
        plain = weights.clone()
        for most in range(skip_count(strongest(weights, space)), -1, -1):
            while skip_count(cell := strongest(plain, space)) > most:
                listed = zip(cell.cells[space.kinds[0]], space.targets, strict=True)
                kept = [(source, node) for (name, source), node in listed if name == "skip_connect"]
                weakest = min((float(plain[0, space.edges.index(edge), skip]), edge) for edge in kept)[1]
                plain[0, space.edges.index(weakest), skip] = 0
            found = rule(max_skips=most)(weights, space)
            assert found == strongest(plain, space) and skip_count(found) <= most
            assert list(found.cells.values())[1:] == list(strongest(weights, space).cells.values())[1:]
        assert weights[0, 0, skip] > 0.4, "the weights given are left as they are"


def test_a_cap_leaves_a_skip_connection_that_has_no_rival():
    weights = torch.zeros(DARTS.alpha_shape)
    weights[..., SKIP] = 1.0
    assert skip_count(rule(max_skips=2)(weights, DARTS)) == 2
    space = NASBENCH201
    weights = torch.zeros(space.alpha_shape)
    weights[..., space.operations.index("skip_connect")] = 1.0
    assert skip_count(rule(max_skips=0)(weights, space)) == 0


def test_a_threshold_leaves_out_the_weaker_edges_of_a_node():
    weights = torch.full(DARTS.alpha_shape, 0.1)
    weights[0, 0, SKIP] = 0.9  # node 2: one edge
    weights[0, 2:5, SKIP + 1] = torch.tensor([0.86, 0.95, 0.9])  # node 3: the strongest two of three
    cell = rule(selection="threshold", threshold=0.85)(weights, DARTS)
    assert cell.normal[:4] == [("skip_connect", 0), ("none", 1), ("sep_conv_3x3", 1), ("sep_conv_3x3", 2)]
    assert {name for name, _ in cell.normal[4:]} == {"none"} == {name for name, _ in cell.reduce}
    assert Genotype.from_json(cell.to_json()) == cell
    ones = one_hot_weights(cell)
    assert ones[0, 0, SKIP] == ones[0, 1, 0] == 1 and ones.sum() == 16
    assert rule(selection="threshold", threshold=0.05)(weights, DARTS) == strongest(weights, DARTS)
    some = torch.tensor([[[0.4, 0.5, 0.0, 0.0, 0.0], [0.3] * 5] * 3])
    edges = rule(selection="threshold", threshold=0.5)(some, NASBENCH201)
    assert [name for name, _ in edges.cell] == ["skip_connect", "none"] * 3


def test_a_cap_holds_for_a_threshold_too():
    weights = random_weights(DARTS, 0)
    weights[0, :, SKIP] = 0.9
    cell = rule(selection="threshold", threshold=0.85, max_skips=1)(weights, DARTS)
    assert sorted(name for name, _ in cell.normal) == ["none"] * 7 + ["skip_connect"]
