"""The hypergradient in two parts, and a hypernetwork as a change of variables."""

import pytest
import torch
from torch import Tensor

from hdarts import hypergradient
from hdarts.bilevel import Hypergradient, Reparametrised
from hdarts.runs.randomness import generator


class Cubic:
    """A problem of three weights and a (2, 2) alpha without any symmetry, so that a mix-up shows."""

    def inner(self, w: Tensor, alpha: Tensor, batch: float) -> Tensor:
        return (w**3 * alpha.flatten()[:3].exp()).sum() + batch * alpha.prod()

    def outer(self, w: Tensor, alpha: Tensor, batch: float) -> Tensor:
        return (w * batch - alpha.sum()).square().sum() + alpha.sin().sum() * w[0]


class TwoOfThree:
    """h(phi, alpha) = tanh(phi alpha) for phi of shape (2, 4): makes two weights."""

    n_phi = 8

    def __call__(self, phi: Tensor, alpha: Tensor) -> Tensor:
        return (phi.view(2, 4) @ alpha.flatten()).tanh()


PROBLEM = Reparametrised(Cubic(), TwoOfThree(), n_rest=1)


def draw(*shape: int, purpose: str) -> Tensor:
    return torch.randn(shape, generator=generator(0, purpose), dtype=torch.float64)


@pytest.fixture
def point() -> tuple[Tensor, Tensor, Tensor]:
    return draw(9, purpose="u"), draw(2, 2, purpose="alpha"), draw(2, 2, purpose="noise")


def test_total_is_the_sum_of_the_parts():
    assert Hypergradient(torch.tensor([1.0, 2.0]), torch.tensor([3.0, -1.0])).total.tolist() == [4.0, 1.0]


def test_weights_are_generated_ones_then_the_rest(point):
    u, alpha, _ = point
    w = PROBLEM.weights(u, alpha)
    assert torch.equal(w[:2], (u[:8].view(2, 4) @ alpha.flatten()).tanh())
    assert torch.equal(w[2:], u[8:])


def test_noise_enters_the_weights_and_the_loss_alike(point):
    u, alpha, noise = point
    a = alpha + noise
    assert torch.equal(PROBLEM.inner(u, alpha, 2.0, noise), Cubic().inner(PROBLEM.weights(u, a), a, 2.0))
    assert torch.equal(PROBLEM.inner(u, alpha, 2.0, noise), PROBLEM.inner(u, a, 2.0))
    assert not torch.equal(PROBLEM.inner(u, alpha, 2.0, noise), PROBLEM.inner(u, alpha, 2.0))


def test_outer_is_that_of_the_generated_weights(point):
    u, alpha, _ = point
    assert torch.equal(PROBLEM.outer(u, alpha, 0.5), Cubic().outer(PROBLEM.weights(u, alpha), alpha, 0.5))


def test_direct_gradient_is_back_propagation_through_the_composed_network(point):
    u, alpha, _ = point
    a = alpha.clone().requires_grad_()
    w = torch.cat([(u[:8].view(2, 4) @ a.flatten()).tanh(), u[8:]])
    Cubic().outer(w, a, 0.5).backward()
    assert a.grad is not None
    torch.testing.assert_close(hypergradient.direct(PROBLEM, u, alpha, 0.5).total, a.grad, rtol=0, atol=1e-12)
    torch.testing.assert_close(hypergradient.hypernetwork(PROBLEM, u, alpha, 0.5).total, a.grad, rtol=0, atol=1e-12)


def test_parts_of_a_hypernetwork_are_fixed_weights_and_the_jacobian(point):
    u, alpha, _ = point
    w = PROBLEM.weights(u, alpha)
    result = hypergradient.hypernetwork(PROBLEM, u, alpha, 0.5)
    jacobian = torch.autograd.functional.jacobian(lambda a: PROBLEM.weights(u, a), alpha)
    v = torch.autograd.functional.jacobian(lambda x: Cubic().outer(x, alpha, 0.5), w)
    torch.testing.assert_close(result.direct, hypergradient.direct(Cubic(), w, alpha, 0.5).direct, rtol=0, atol=1e-12)
    torch.testing.assert_close(result.response, torch.einsum("wij,w->ij", jacobian, v), rtol=0, atol=1e-12)


def test_a_reparametrised_problem_is_a_problem_like_any_other(point):
    """One exact inner step on u = [phi | rest], against plain autograd."""
    u, alpha, _ = point
    start, a = u.clone().requires_grad_(), alpha.clone().requires_grad_()
    (slope,) = torch.autograd.grad(PROBLEM.inner(start, a, 2.0), start, create_graph=True)
    (total,) = torch.autograd.grad(PROBLEM.outer(start - 0.01 * slope, a, 0.5), a)
    result = hypergradient.unrolled(PROBLEM, u, alpha, [2.0], 0.5, 0.01)
    torch.testing.assert_close(result.total, total, rtol=0, atol=1e-10)


def test_sizes_that_do_not_fit_are_named(point):
    u, alpha, _ = point
    with pytest.raises(ValueError, match=r"u has shape \(8,\), but \[phi \| rest\] is \(8 \+ 1,\)"):
        PROBLEM.weights(u[:8], alpha)
    with pytest.raises(ValueError, match=r"noise has shape \(2,\), but alpha has shape \(2, 2\)"):
        PROBLEM.inner(u, alpha, 2.0, torch.zeros(2))
