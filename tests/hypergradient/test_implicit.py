"""Neumann series and conjugate gradients against dense linear algebra, and what they say when they cannot work."""

import warnings
from typing import Any

import pytest
import torch
from helpers.hypergradient_problems import Curved, Quadratic, curved_batches, draw, eye, near
from hypothesis import given, settings
from hypothesis import strategies as st

from hdarts import hypergradient as hg
from hdarts.hypergradient import derivatives, implicit

random_quadratics = given(n_w=st.integers(1, 5), shape=st.sampled_from([(), (3,), (2, 2)]), seed=st.integers(0, 10**6))
quick = settings(max_examples=25, deadline=None, derandomize=True)


@random_quadratics
@quick
def test_conjugate_gradient_is_a_dense_solve(n_w, shape, seed):
    problem = Quadratic(n_w, shape, seed)
    for damping in (0.0, 0.3):
        matrix = problem.hessian + damping * eye(n_w)
        result = hg.conjugate_gradient(problem, problem.w, problem.alpha, None, None, n_w, damping=damping)
        near(result.response, problem.response(torch.linalg.solve(matrix, problem.v)), 1e-8)
    near(
        hg.exact(problem, problem.w, problem.alpha, None, None).response,
        problem.response(problem.hessian.inverse() @ problem.v),
    )


@random_quadratics
@quick
def test_neumann_is_its_formula(n_w, shape, seed):
    problem, xi = Quadratic(n_w, shape, seed), 0.4
    factor = eye(n_w) - xi * problem.hessian
    for terms in (0, 1, 4):
        q = xi * sum(
            (torch.linalg.matrix_power(factor, j) @ problem.v for j in range(terms)), torch.zeros(n_w).double()
        )
        result = hg.neumann(problem, problem.w, problem.alpha, None, None, xi, terms)
        near(result.response, problem.response(q))
        near(result.direct, (problem.w @ problem.p).expand(shape))
        assert result.info["residual"] == pytest.approx((problem.v - problem.hessian @ q).norm().item(), abs=1e-9)


def test_conjugate_gradient_in_one_dimension_takes_one_iteration():
    problem = Quadratic(1, (2,))
    result = hg.conjugate_gradient(problem, problem.w, problem.alpha, None, None, 10)
    near(result.response, problem.response(problem.v / problem.hessian[0, 0]))
    assert result.info["iterations"] <= 2
    assert result.info["curvature"] == pytest.approx(problem.hessian.item())


def test_conjugate_gradient_returns_the_last_iterate_and_its_residual():
    """After one iteration q is v times (v^T v / v^T H v); a tolerance stops it there or later."""
    problem = Quadratic(5, (3,))
    v, matrix = problem.v, problem.hessian
    q = v * (v @ v) / (v @ matrix @ v)
    result = hg.conjugate_gradient(problem, problem.w, problem.alpha, None, None, 1)
    near(result.response, problem.response(q))
    assert result.info["residual"] == pytest.approx((v - matrix @ q).norm().item())
    assert result.info["iterations"] == 1
    loose = hg.conjugate_gradient(problem, problem.w, problem.alpha, None, None, 50, tolerance=0.2)
    assert 0 < loose.info["residual"] <= 0.2 * v.norm()
    assert 1 < loose.info["iterations"] < 5


def test_curvature_is_the_smallest_met_so_far():
    problem = Quadratic(5, (3,), seed=1)
    met = [
        hg.conjugate_gradient(problem, problem.w, problem.alpha, None, None, count).info["curvature"]
        for count in range(1, 6)
    ]
    assert met == sorted(met, reverse=True)
    assert 0.5 <= met[-1] < met[0] < 2


def test_no_iterations_and_no_gradient_give_no_response():
    problem = Quadratic(4, (3,))
    arguments = problem, problem.w, problem.alpha, None, None
    assert not hg.conjugate_gradient(*arguments, 0).response.any()
    assert not hg.neumann(*arguments, 0.1, 0).response.any()
    assert not hg.unrolled(problem, problem.w, problem.alpha, [], None, 0.1).response.any()
    problem.w, problem.alpha = problem.t, torch.zeros(3).double()  # here v = 0
    arguments = problem, problem.w, problem.alpha, None, None
    assert not hg.conjugate_gradient(*arguments, 5).response.any()
    assert not hg.neumann(*arguments, 0.1, 5).response.any()
    problem.hessian, problem.cross = torch.zeros(4, 4).double(), torch.zeros(4, 3).double()  # and it stays there
    assert not hg.finite_difference(*arguments, 0.1).response.any()


def test_products_on_a_network_are_those_of_dense_second_derivatives():
    problem, (batch, last) = Curved(), curved_batches(2)
    w, alpha = draw(problem.n_w, purpose="w"), draw(2, 2, purpose="alpha")
    ((hessian, cross), _) = torch.autograd.functional.hessian(lambda w, a: problem.inner(w, a, batch), (w, alpha))
    v = torch.func.grad(problem.outer)(w, alpha, last)
    q = 0.1 * (v + (v - 0.1 * hessian @ v))
    near(hg.neumann(problem, w, alpha, batch, last, 0.1, 2).response, -torch.einsum("wij,w->ij", cross, q))
    damping = 0.1 - torch.linalg.eigvalsh(hessian)[0].item()
    q = torch.linalg.solve(hessian + damping * eye(problem.n_w), v)
    result = hg.conjugate_gradient(problem, w, alpha, batch, last, 100, damping=damping)
    near(result.response, -torch.einsum("wij,w->ij", cross, q), 1e-8)


def test_negative_curvature_is_met_with_a_warning_and_a_value():
    problem = Quadratic(4, (3,), indefinite=True)
    problem.t = (
        problem.w + problem.alpha.sum() * problem.p - torch.linalg.eigh(problem.hessian)[1][:, 0]
    )  # v = that vector
    arguments = problem, problem.w, problem.alpha, None, None
    with pytest.warns(hg.HypergradientWarning, match=r"conjugate gradients met curvature -0\.5 at iteration 1"):
        result = hg.conjugate_gradient(*arguments, 5)
    assert result.info["curvature"] == pytest.approx(-0.5)
    assert result.info["iterations"] == 0
    assert not result.response.any()
    damped = hg.conjugate_gradient(*arguments, 5, damping=1.0)
    near(damped.response, problem.response(problem.v / 0.5))
    with pytest.warns(
        hg.HypergradientWarning, match=r"contraction rate 1\.05 is above 1 .*smallest curvature met -0\.5"
    ):
        series = hg.neumann(*arguments, 0.1, 3)
    near(series.response, problem.response(0.1 * (1 + 1.05 + 1.05**2) * problem.v))
    with pytest.raises(ValueError, match=r"not positive definite: smallest eigenvalue -0\.5, largest 2"):
        hg.exact(*arguments)


def test_a_step_size_that_diverges_is_named():
    problem = Quadratic(3, (2,))
    arguments = problem, problem.w, problem.alpha, None, None
    with pytest.warns(hg.HypergradientWarning, match=r"contraction rate 2 is above 1 \(step_size 1\.5"):
        result = hg.neumann(*arguments, 1.5, 60)
    assert result.info["contraction"] == pytest.approx(1.5 * 2 - 1, rel=1e-6)
    with pytest.raises(FloatingPointError, match=r"the Neumann series with step_size 1\.5 overflowed at term"):
        hg.neumann(*arguments, 1.5, 5000)
    assert hg.unrolled(*arguments[:3], [None] * 60, None, 1.5).info["contraction"] > 1.5
    with pytest.raises(FloatingPointError, match=r"the inner loss at step \d+ of 2000 is"):
        hg.unrolled(*arguments[:3], [None] * 2000, None, 1.5)


@pytest.mark.parametrize("damping", [0.0, 1.0], ids=["a stop at negative curvature", "convergence"])
def test_without_reading_a_number_the_iterations_after_the_stop_change_nothing(damping: float, monkeypatch) -> None:
    """As a CUDA graph computes them, whose number of iterations is fixed."""
    problem = Quadratic(4, (3,))
    if damping == 0:
        problem.hessian[-1, -1] = -3.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = hg.conjugate_gradient(problem, problem.w, problem.alpha, None, None, 20, 0.1, damping)
        series = hg.neumann(problem, problem.w, problem.alpha, None, None, 0.4, 5)
    assert 0 < expected.info["iterations"] < 4
    for module in (derivatives, implicit):
        monkeypatch.setattr(module, "is_capturing", lambda _: True)
    found = hg.conjugate_gradient(problem, problem.w, problem.alpha, None, None, 20, 0.1, damping)
    assert torch.equal(found.response, expected.response) and not found.info
    step = torch.tensor(0.4, dtype=torch.float64)
    assert torch.equal(hg.neumann(problem, problem.w, problem.alpha, None, None, step, 5).response, series.response)


def test_neumann_with_a_batch_for_each_term_is_its_sum_of_products():
    """-xi sum_j C_j^T (I - xi H_{j-1}) ... (I - xi H_0) v, with dense derivatives of each batch."""
    problem, xi, terms = Curved(), 0.2, 3
    w, alpha = draw(Curved.n_w, purpose="w"), draw(*Curved.alpha_shape, purpose="alpha")
    *inner, outer = curved_batches(terms + 1)

    def slope(w: torch.Tensor, alpha: torch.Tensor, batch: Any) -> torch.Tensor:
        return torch.func.grad(problem.inner)(w, alpha, batch)

    term, response = torch.func.grad(problem.outer)(w, alpha, outer), torch.zeros_like(alpha)
    for batch in inner:
        hessian, cross = torch.func.jacrev(slope, (0, 1))(w, alpha, batch)
        response -= xi * torch.einsum("wij,w->ij", cross, term)
        term = term - xi * hessian @ term
    near(hg.neumann(problem, w, alpha, inner, outer, xi, terms).response, response)
    one = hg.neumann(problem, w, alpha, inner[0], outer, xi, terms).response
    near(hg.neumann(problem, w, alpha, inner[:1] * terms, outer, xi, terms).response, one)
    assert (one - response).abs().max() > 1e-3 * response.abs().max()
    with pytest.raises(ValueError, match="inner_batch is too short a list, but must be a list of 3 batches"):
        hg.neumann(problem, w, alpha, inner[:2], outer, xi, terms)
