"""Nyström, SAMA and the amortised adjoint against dense linear algebra and closed forms, on all toys."""

import warnings
from typing import Any

import pytest
import torch
from helpers.hypergradient_problems import ILL_CONDITIONED, TOYS, Quadratic, draw, eye, near, setting
from torch import Tensor
from torch.func import grad, jacrev

from hdarts import hypergradient as hg

all_toys = pytest.mark.parametrize("toy", [*TOYS, ILL_CONDITIONED], ids=repr)


def dense(toy: Any, w: Tensor, alpha: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return v, H and C as matrices, by nested differentiation."""
    slope = grad(toy.inner)
    h, c = jacrev(slope, (0, 1))(w, alpha, None)
    return grad(toy.outer)(w, alpha, None).flatten(), h.view(toy.n_w, -1), c.reshape(toy.n_w, -1)


@all_toys
def test_nystrom_is_its_formula_and_at_full_rank_the_damped_inverse(toy):
    alpha, _, w = setting(toy)
    v, h, c = dense(toy, w, alpha)
    for rank in {1, min(toy.n_w, 20), toy.n_w if toy.n_w < 100 else 1}:
        result = hg.nystrom(toy, w, alpha, None, None, rank, 0.3, 7)
        columns = hg.sampled_columns(toy.n_w, rank, 7)
        low = h[:, columns] @ torch.linalg.pinv(h[columns][:, columns], hermitian=True) @ h[columns]
        full = h if rank == toy.n_w else low
        q = torch.linalg.solve(full + 0.3 * eye(toy.n_w), v)
        near(result.response, -(c.T @ q).view(alpha.shape))
        near(hg.nystrom(toy, w, alpha, None, None, columns, 0.3).response, result.response, 1e-12)
        assert result.info["residual"] == pytest.approx(float((v - h @ q - 0.3 * q).norm()), abs=1e-9)
        assert result.info["iterations"] == len(set(columns.tolist())) == rank


def test_nystrom_does_without_columns_that_are_zero_and_names_negative_curvature():
    problem = Quadratic(4, (3,))
    problem.hessian[0] = problem.hessian[:, 0] = 0
    point = problem, problem.w, problem.alpha, None, None
    q = torch.linalg.solve(problem.hessian + 0.1 * eye(4), problem.v)
    near(hg.nystrom(*point, 4, 0.1).response, problem.response(q))
    near(hg.nystrom(*point, torch.tensor([0]), 0.1).response, problem.response(problem.v / 0.1))
    problem.hessian[0, 0] = -0.5
    with pytest.warns(hg.HypergradientWarning, match=r"eigenvalue -0\.5, below -damping = -0\.1"):
        hg.nystrom(*point, 4, 0.1)


@all_toys
def test_sama_is_the_one_step_gradient_of_the_inner_optimiser(toy):
    """With SGD one step from w*; with Adam one step of torch.optim.Adam, differentiated by central differences."""
    alpha, best, w = setting(toy)
    one = hg.sama(toy, best, alpha, None, None, 0.05)
    near(one.response, hg.unrolled(toy, best, alpha, [None], None, 0.05).response)
    near(one.response, hg.neumann(toy, best, alpha, None, None, 0.05, 1).response)
    g, first = grad(toy.inner)(w, alpha, None), draw(toy.n_w, purpose="m")
    second, b = draw(toy.n_w, purpose="s").square(), (0.9, 0.99)

    def step(g: Tensor) -> Tensor:
        m, s = b[0] * first + (1 - b[0]) * g, b[1] * second + (1 - b[1]) * g**2
        return 0.1 * m / (s.sqrt() + 1e-8)

    d = hg.adam_diagonal(g, first, second, 0.1, b, 1e-8)
    near(d, grad(lambda g: step(g).sum())(g))
    v, _, c = dense(toy, w, alpha)
    near(hg.sama(toy, w, alpha, None, None, d).response, -(c.T @ (d * v)).view(alpha.shape))


def test_adams_diagonal_is_that_of_torch_after_many_steps():
    """Where bias correction no longer matters; against the derivative through a step of torch.optim.Adam."""
    x = draw(5, purpose="x").requires_grad_() * 1
    optimiser = torch.optim.Adam([x], lr=0.1, betas=(0.5, 0.8), eps=1e-8, differentiable=True)
    for step in range(200):
        x.grad = draw(5, purpose=f"g {step}")
        optimiser.step()
    state = optimiser.state[x]
    first, second = (state[name].detach().clone() for name in ("exp_avg", "exp_avg_sq"))
    x.grad = g = draw(5, purpose="g").requires_grad_()
    optimiser.step()
    (slope,) = torch.autograd.grad(-x.sum(), g)
    near(hg.adam_diagonal(g.detach(), first, second, 0.1, (0.5, 0.8), 1e-8), slope)


@all_toys
def test_the_amortised_adjoint_is_exact_at_its_fixed_point_and_one_step_of_gradient_descent_elsewhere(toy):
    alpha, best, w = setting(toy)
    v, h, c = dense(toy, best, alpha)
    q = torch.linalg.solve(h, v)
    found, moved = hg.amortised_adjoint(toy, best, alpha, None, None, q, 0.05)
    near(moved, q)
    near(found.total, toy.exact_hypergradient(alpha).total)
    assert found.info["residual"] < 1e-9
    v, h, c = dense(toy, w, alpha)
    found, moved = hg.amortised_adjoint(toy, w, alpha, None, None, (q := draw(toy.n_w, purpose="q")), 1e-3, 0.3)
    near(moved, q - 1e-3 * (h @ q + 0.3 * q - v))
    near(found.response, -(c.T @ q).view(alpha.shape))
    assert found.info["curvature"] == pytest.approx(float(q @ h @ q / (q @ q)))


def test_the_amortised_adjoint_converges_at_each_step_size_below_the_limit_that_it_names_above():
    problem = Quadratic(3, (2,))  # its largest eigenvalue is 2
    point, q = (problem, problem.w, problem.alpha, None, None), torch.zeros(3).double()
    for _ in range(400):
        found, q = hg.amortised_adjoint(*point, q, 0.95)
    near(found.response, problem.response(problem.hessian.inverse() @ problem.v))
    q = torch.zeros(3).double()
    with pytest.warns(hg.HypergradientWarning, match=r"its step_size 1\.05 is above 2 / curvature = 1") as caught:
        for _ in range(200):
            q = hg.amortised_adjoint(*point, q, 1.05)[1]
    limit = float(str(caught[-1].message).rpartition("= ")[2])
    assert limit == pytest.approx(1, rel=1e-3)
    warnings.simplefilter("ignore", hg.HypergradientWarning)
    with pytest.raises(FloatingPointError, match="the adjoint after a step of step_size 100 is nan or infinite in 3"):
        for _ in range(400):
            q = hg.amortised_adjoint(*point, q, 100.0)[1]
