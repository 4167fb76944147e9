"""Finite differences and unrolling against plain back-propagation through the steps, and against TorchOpt."""

import pytest
import torch
from helpers.hypergradient_problems import (
    ILL_CONDITIONED,
    TOYS,
    Curved,
    back_propagated,
    curved_batches,
    draw,
    near,
    setting,
)
from torch import Tensor

from hdarts import hypergradient as hg

SGD = [{}, {"momentum": 0.9}, {"weight_decay": 0.1}, {"momentum": 0.5, "weight_decay": 0.1}]
SGD.append({**SGD[-1], "nesterov": True})
every_optimiser = pytest.mark.parametrize("optimiser", SGD, ids=str)
all_toys = pytest.mark.parametrize("toy", [*TOYS, ILL_CONDITIONED], ids=repr)


@all_toys
@every_optimiser
def test_finite_differences_are_exact_for_quadratics(toy, optimiser):
    """For any epsilon. Dividing by 2 and multiplying by eps (a known trap) would scale the response by eps^2."""
    alpha, _, w = setting(toy)
    sgd = {**optimiser, "velocity": draw(toy.n_w, purpose="velocity")}
    direct, response = back_propagated(toy, w, alpha, [None], None, 0.05, keep=1, **sgd)
    assert response.abs().max() > 1e-4
    for epsilon in (0.01, 0.3):
        result = hg.finite_difference(toy, w, alpha, None, None, 0.05, epsilon, **sgd)
        near(result.direct, direct)
        near(result.response, response)


@all_toys
@every_optimiser
@pytest.mark.parametrize(("steps", "keep"), [(1, 1), (4, 4), (5, 2), (3, 0)])
def test_unrolled_is_back_propagation_through_the_steps(toy, optimiser, steps, keep):
    alpha, _, w = setting(toy)
    sgd = {**optimiser, "velocity": draw(toy.n_w, purpose="velocity")}
    result = hg.unrolled(toy, w, alpha, [None] * steps, None, 0.05, truncate=keep, **sgd)
    if keep == 0:
        assert not result.response.any()
    else:
        direct, response = back_propagated(toy, w, alpha, [None] * steps, None, 0.05, keep, **sgd)
        near(result.direct, direct)
        near(result.response, response)


@every_optimiser
def test_unrolling_a_network_is_back_propagation(optimiser):
    problem, (*batches, last) = Curved(), curved_batches(5)
    w, alpha = draw(problem.n_w, purpose="w"), draw(2, 2, purpose="alpha")
    for keep in (1, 4):
        direct, response = back_propagated(problem, w, alpha, batches, last, 0.2, keep, **optimiser)
        result = hg.unrolled(problem, w, alpha, batches, last, 0.2, keep, **optimiser)
        near(result.direct, direct)
        near(result.response, response)
        assert response.norm() > 1e-4
    near(result.response.sum(1), torch.zeros(2).double())


def test_finite_differences_approach_the_exact_step_by_the_square_of_epsilon():
    problem, (batch, last) = Curved(), curved_batches(2)
    w, alpha = draw(problem.n_w, purpose="w"), draw(2, 2, purpose="alpha")
    _, response = back_propagated(problem, w, alpha, [batch], last, 0.2, 1)
    errors = [
        (hg.finite_difference(problem, w, alpha, batch, last, 0.2, epsilon).response - response).norm().item()
        for epsilon in (0.02, 0.01, 0.005)
    ]
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.1)
    assert errors[1] / errors[2] == pytest.approx(4, rel=0.1)


def test_unrolling_keeps_one_graph_at_a_time():
    """The number of tensors saved for backward at any moment does not depend on the number of steps."""

    class Saved:
        alive = peak = 0

        def __init__(self, tensor: Tensor) -> None:
            self.tensor = tensor.detach()  # autograd knows the graph; here it would be a cycle
            Saved.alive += 1
            Saved.peak = max(Saved.peak, Saved.alive)

        def __del__(self) -> None:
            Saved.alive -= 1

    peaks = []
    for steps in (1, 12):
        Saved.alive = Saved.peak = 0
        *batches, last = curved_batches(steps + 1)
        with torch.autograd.graph.saved_tensors_hooks(Saved, lambda saved: saved.tensor):
            hg.unrolled(Curved(), draw(Curved.n_w), draw(2, 2), batches, last, 0.1)
        peaks.append(Saved.peak)
    assert peaks[0] == peaks[1] > 10


@every_optimiser
def test_unrolling_agrees_with_torchopt(optimiser):
    torchopt = pytest.importorskip("torchopt", reason="TorchOpt, the outside oracle, is not installed")
    problem, (*batches, last) = Curved(), curved_batches(4)
    w, alpha = draw(problem.n_w, purpose="w"), draw(2, 2, purpose="alpha")
    a, weights = alpha.clone().requires_grad_(), (w.clone().requires_grad_(),)
    optim = torchopt.sgd(lr=0.2, moment_requires_grad=True, **optimiser)
    state = optim.init(weights)
    for batch in batches:
        slopes = torch.autograd.grad(problem.inner(weights[0], a, batch), weights, create_graph=True)
        updates, state = optim.update(slopes, state, params=weights, inplace=False)
        weights = torchopt.apply_updates(weights, updates, inplace=False)
    (total,) = torch.autograd.grad(problem.outer(weights[0], a, last), a)
    near(hg.unrolled(problem, w, alpha, batches, last, 0.2, **optimiser).total, total)
