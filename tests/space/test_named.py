"""Named spaces, and candidates by edge: what is no candidate is neither computed nor chosen."""

import json
import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from hdarts.errors import ParameterError
from hdarts.network import EvaluationNetwork
from hdarts.runs.randomness import generator
from hdarts.space import (
    DARTS,
    NASBENCH201,
    SPACES,
    Genotype,
    SearchSpace,
    check_space,
    discretise,
    mask_alpha,
    one_hot_alpha,
    one_hot_weights,
)
from hdarts.supernet import Mixture, Supernet

every_space = pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)


def random_alpha(space: SearchSpace, *purpose: str) -> torch.Tensor:
    return torch.randn(space.alpha_shape, generator=generator(0, *purpose), dtype=torch.float64)


def mask_of(space: SearchSpace) -> torch.Tensor:
    return torch.ones(space.alpha_shape, dtype=torch.bool) if space.mask is None else space.mask


def test_the_spaces_are_the_published_ones():
    numbers = {name: sorted(set(mask_of(space).sum(-1).flatten().tolist())) for name, space in SPACES.items()}
    assert numbers == {
        **{"darts": [8], "nasbench201": [5], "darts-no-none": [7], "nasbench201-no-none": [4]},
        **{"s1": [2], "s2": [2], "s3": [3], "s4": [2], "single-cell": [8]},
    }
    normal, reduce = SPACES["s1"].candidates
    assert normal[0] == ("skip_connect", "dil_conv_3x3") and normal[5] == ("max_pool_3x3", "skip_connect")
    assert reduce[0] == ("max_pool_3x3", "avg_pool_3x3") and reduce[13] == ("skip_connect", "dil_conv_5x5")
    for name, space in SPACES.items():
        check_space(space)
        without = mask_of(space)[..., 0].logical_not().all()
        assert bool(without) == (name not in ("darts", "nasbench201", "s3", "single-cell"))


@every_space
@pytest.mark.parametrize("scale", [1.0, 500.0])
def test_only_candidates_are_chosen_also_where_their_weights_vanish(space, scale):
    alpha = scale * random_alpha(space)
    alpha[~mask_of(space)] += 10  # the largest, if they counted
    alpha[0, 0, mask_of(space)[0, 0]] -= 3000  # of softmax too
    cell = discretise(alpha, space)
    for kind, edges, mask in zip(space.kinds, cell.cells.values(), mask_of(space), strict=True):
        for (operation, source), node in zip(edges, space.targets, strict=True):
            assert mask[space.edges.index((source, node)), space.operations.index(operation)], kind
    assert cell == discretise(mask_alpha(alpha, space.mask), space)


@every_space
def test_a_cell_is_one_of_darts_or_of_the_benchmark_where_they_have_its_operations(space):
    cell = discretise(random_alpha(space), space)
    assert cell.space == (
        space if space.name in ("s4", "single-cell") else NASBENCH201 if "cell" in cell.cells else DARTS
    )
    assert Genotype.from_json(cell.to_json()) == Genotype.model_validate(cell.model_dump()) == cell
    assert json.loads(cell.to_json())["space"] == cell.space.name
    found_in = cell.to_json().replace(f'"space": "{cell.space.name}"', f'"space": "{space.name}"')
    assert Genotype.from_json(found_in) == cell
    again = discretise(one_hot_alpha(cell, space), space)
    assert [sorted(edges) for edges in again.cells.values()] == [sorted(edges) for edges in cell.cells.values()]


@every_space
def test_the_supernet_mixes_the_candidates_alone(space):
    net = Supernet(space, 2, 3 if "reduce" in space.kinds else 1, 3, 1)
    w = net.initial_w(generator(0)).double().requires_grad_()
    images, alpha = torch.randn(2, 1, 8, 8, generator=generator(1)).double(), random_alpha(space).requires_grad_()
    logits = net(images, w, alpha)
    of_w, of_alpha = torch.autograd.grad(logits.square().sum(), (w, alpha))
    rows = torch.where(mask_of(space), alpha.detach().exp(), 0)
    torch.testing.assert_close(net.mixture(images, w, rows / rows.sum(-1, keepdim=True)), logits)
    assert not of_alpha[~mask_of(space)].any() and bool(of_alpha[mask_of(space)].any())
    unused = [
        (name, grad) for name, grad in net.unpack(of_w).items() if "-" in name and not mask_of(space)[at(net, name)]
    ]
    assert all(not grad.any() for _, grad in unused) and bool(unused) == (space.name in ("s1",))


def at(net: Supernet, name: str) -> tuple[int, int, int]:
    """Return kind, edge and operation of a weight."""
    _, k, edge, operation, _ = name.split(".")
    source, node = map(int, edge.split("-"))
    space = net.space
    kind = space.kinds.index(net.cells[int(k)].kind)
    return kind, space.edges.index((source, node)), space.operations.index(operation)


@pytest.mark.parametrize("name", ["darts-no-none", "s1", "nasbench201-no-none"])
def test_a_discrete_cell_has_none_on_the_edges_that_it_lacks(name):
    space = SPACES[name]
    net = Supernet(space, 2, 3, 3, 1)
    w, images = net.initial_w(generator(0)), torch.randn(2, 1, 8, 8, generator=generator(1))
    cell = discretise(random_alpha(space), space)
    expected = net.mixture(images, w, Mixture(one_hot_weights(cell, space), sparse=True))
    assert torch.equal(net(images, w, one_hot_alpha(cell, space)), expected)


def test_noise_has_its_weight_and_the_mean_0():
    space = SPACES["s4"]
    net = Supernet(space, 2, 3, 3, 1)
    w, images = net.initial_w(generator(0)), torch.randn(2, 1, 8, 8, generator=generator(1))
    weights = mask_alpha(random_alpha(space).float(), space.mask).softmax(-1).requires_grad_()
    shapes = []

    def ones(like: torch.Tensor) -> torch.Tensor:
        shapes.append(tuple(like.shape))
        return torch.ones_like(like)

    constant = net.mixture(images, w, Mixture(weights, noise=ones))
    assert len(shapes) == 3 * 14 and set(shapes) == {(2, 2, 8, 8), (2, 4, 4, 4), (2, 8, 2, 2)} - {(2, 2, 8, 8)} | {
        (2, 2, 8, 8)
    }
    offsets = weights[..., space.operations.index("noise")]  # ones times a weight is an offset
    silent = net.mixture(images, w, Mixture(weights, offsets=offsets))
    torch.testing.assert_close(constant, silent)
    assert not torch.allclose(net.mixture(images, w, weights), constant)
    network = EvaluationNetwork(discretise(random_alpha(space), space), 2, 3, 3, auxiliary=False, image_channels=1)
    assert not torch.equal(network.train()(images)[0], network(images)[0])
    assert torch.equal(network.eval()(images)[0], network(images)[0])


@pytest.mark.parametrize(
    ("candidates", "message"),
    [
        ((("skip_connect",),), "candidates have to be names for each of 2 kinds and 14 edges"),
        (((("sep_conv_7x7",),) * 14,) * 2, "candidate 'sep_conv_7x7' of edge 0-2 (normal) is not one of its"),
        (((("none",),) * 14,) * 2, "edge 0-2 (normal) has no candidate besides `none`"),
    ],
)
def test_impossible_candidates_are_refused(candidates, message):
    with pytest.raises(ParameterError) as error:
        check_space(replace(DARTS, name="other", candidates=candidates))
    assert message in str(error.value)


def test_a_custom_space_with_candidates_is_in_its_cells_in_full():
    edges = 2 + 3
    space = replace(
        DARTS, name="two", nodes=2, outputs=2, operations=("none", "skip_connect", "sep_conv_3x3"),
        candidates=((("skip_connect",),) * edges, (("sep_conv_3x3",),) * edges),
    )  # fmt: skip
    cell = discretise(torch.zeros(space.alpha_shape), space)
    assert {operation for operation, _ in cell.normal} == {"skip_connect"}
    again = Genotype.from_json(cell.to_json())
    assert again == cell and again.space == space and again.space.mask is not None
    plain = discretise(torch.zeros(space.alpha_shape), replace(space, candidates=()))
    assert "candidates" not in json.loads(plain.to_json())["space"]


def test_alphas_of_pruned_operations_may_be_minus_infinite():
    alpha = torch.zeros(DARTS.alpha_shape)
    alpha[..., 1:4] = -math.inf
    assert {operation for operation, _ in discretise(alpha).normal} == {"sep_conv_3x3"}
    with pytest.raises(ParameterError, match="not finite"):
        discretise(F.pad(alpha[..., :0], (0, 8), value=-math.inf))
