"""How rounding errors grow: a search of hyperDARTS-1 agrees with and without the kernel, but is sensitive."""

import itertools
from collections.abc import Callable

import torch
from torch import Tensor

from hdarts import search as s
from hdarts.kernels import output_layer
from hdarts.params import SearchParams
from hdarts.runs.paths import with_defaults
from hdarts.runs.randomness import generator
from hdarts.search.setup import batches, make_weights, method_hypergradient
from hdarts.search.weights import Classification, GeneratedWeights

STEPS, RATE = 6, 0.05
CPU = torch.device("cpu")


def hypergradients(change: Callable[[Tensor], Tensor] = lambda phi: phi) -> Tensor:
    """The first hypergradients of a search on the digits, in float64, from initial weights that `change` perturbs."""
    params = with_defaults(SearchParams, {"run": "rounding", "hypernetwork": "linear"})
    data = s.load_splits(params, CPU)
    problem = Classification(s.make_supernet(params, data))
    weights = make_weights(params, problem.supernet, None, CPU)
    assert isinstance(weights, GeneratedWeights)
    weights.phi, weights.rest = change(weights.phi.double()), weights.rest.double()
    weights.phi_velocity, weights.rest_velocity = (torch.zeros_like(x) for x in (weights.phi, weights.rest))
    alpha = 1e-3 * torch.randn(2, 14, 8, generator=generator(0, "alpha"), dtype=torch.float64)
    optimiser, totals = torch.optim.Adam([alpha], 6e-4), []
    training, validation = batches(params, data)
    pairs = zip(training.epoch(2, "inner", 0), validation.epoch(2, "outer", 0), strict=False)
    for (inner_x, inner_y), (outer_x, outer_y) in itertools.islice(pairs, STEPS):
        inner, outer = (inner_x.double(), inner_y), (outer_x.double(), outer_y)
        totals.append(method_hypergradient(params, problem, weights, alpha, inner, outer, RATE).total)
        alpha.grad = totals[-1].clone()
        optimiser.step()
        weights.step(problem, alpha, inner, RATE, torch.zeros_like(alpha))
    return torch.stack(totals).flatten(1)


def apart(one: Tensor, other: Tensor) -> list[float]:
    """Relative distance, step by step."""
    return ((one - other).norm(dim=1) / other.norm(dim=1)).tolist()


def test_compiled_and_plain_output_layers_give_the_same_hypergradients(monkeypatch):
    compiled = hypergradients()
    monkeypatch.setattr(output_layer, "load_kernel", lambda *_: None)
    assert max(apart(compiled, hypergradients())) < 1e-12


def test_one_part_in_ten_million_is_one_in_ten_after_five_steps():
    """README: the digits of a search are one draw. Maxima and ReLU switch, and the steps are large."""

    def nudged(phi: Tensor) -> Tensor:
        return phi * (1 + 1e-7 * torch.randn(phi.shape, generator=generator(0, "nudge"), dtype=torch.float64))

    distances = apart(hypergradients(nudged), hypergradients())
    assert distances[0] < 1e-5 and distances[-1] > 0.1, distances
