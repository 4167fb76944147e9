"""Every method against the closed forms of the toys, and the manners they share."""

import math
from typing import Any

import pytest
import torch
from helpers.hypergradient_problems import ILL_CONDITIONED, TOYS, Quadratic, draw, near, setting
from torch import Tensor

from hdarts import hypergradient as hg
from hdarts import toys
from hdarts.bilevel import Reparametrised

every_toy = pytest.mark.parametrize("toy", TOYS, ids=repr)
all_toys = pytest.mark.parametrize("toy", [*TOYS, ILL_CONDITIONED], ids=repr)


def safe_step(toy: Any, w: Tensor, alpha: Tensor) -> float:
    """1 / (largest eigenvalue of the inner Hessian), by power iteration."""
    slope = torch.func.grad(toy.inner)
    vector = draw(toy.n_w, purpose="power")
    for _ in range(200):
        image = slope(w + vector / vector.norm(), alpha, None) - slope(w, alpha, None)  # the toys are quadratic in w
        vector = image
    return 1 / vector.norm().item()


@all_toys
def test_direct_is_the_direct_part(toy):
    alpha, best, _ = setting(toy)
    result = hg.direct(toy, best, alpha, None)
    near(result.direct, toy.exact_hypergradient(alpha).direct)
    assert not result.response.any()


@all_toys
def test_exact_is_the_closed_form(toy):
    alpha, best, _ = setting(toy)
    result, truth = hg.exact(toy, best, alpha, None, None), toy.exact_hypergradient(alpha)
    near(result.direct, truth.direct)
    near(result.response, truth.response)
    assert result.info["residual"] < 1e-9
    assert result.info["curvature"] > 0


@all_toys
def test_conjugate_gradient_reaches_the_closed_form(toy):
    alpha, best, _ = setting(toy)
    result = hg.conjugate_gradient(toy, best, alpha, None, None, iterations=400)
    near(result.total, toy.exact_hypergradient(alpha).total, 1e-6)
    assert result.info["residual"] < 1e-6


@every_toy
def test_series_and_unrolling_reach_the_closed_form(toy):
    alpha, best, off = setting(toy)
    xi, truth = safe_step(toy, best, alpha), toy.exact_hypergradient(alpha)
    series = hg.neumann(toy, best, alpha, None, None, xi, terms=400)
    near(series.response, truth.response, 1e-6)
    assert series.info["residual"] < 1e-6
    near(hg.unrolled(toy, off, alpha, [None] * 400, None, xi).response, truth.response, 1e-6)


def test_a_badly_conditioned_problem_is_beyond_a_series_of_that_length():
    alpha, best, _ = setting(ILL_CONDITIONED)
    truth, xi = ILL_CONDITIONED.exact_hypergradient(alpha).response, safe_step(ILL_CONDITIONED, best, alpha)
    result = hg.neumann(ILL_CONDITIONED, best, alpha, None, None, xi, terms=400)
    assert (result.response - truth).norm() > 0.1 * truth.norm()
    assert 0.99 < result.info["contraction"] < 1


@every_toy
def test_a_hypernetwork_that_knows_the_best_response_is_exact(toy):
    class BestResponse:
        n_phi = 0

        def __call__(self, phi: Tensor, alpha: Tensor) -> Tensor:
            return toy.best_response(alpha)

    alpha, _, _ = setting(toy)
    result, truth = (
        hg.hypernetwork(Reparametrised(toy, BestResponse()), torch.empty(0), alpha, None),
        toy.exact_hypergradient(alpha),
    )
    near(result.direct, truth.direct)
    near(result.response, truth.response)


@all_toys
def test_series_of_k_terms_is_unrolling_by_k_steps_at_the_best_response(toy):
    alpha, best, _ = setting(toy)
    xi = safe_step(toy, best, alpha)
    for terms in (0, 1, 7):
        series = hg.neumann(toy, best, alpha, None, None, xi, terms)
        steps = hg.unrolled(toy, best, alpha, [None] * 9, None, xi, truncate=terms)
        near(series.response, steps.response)
        near(series.direct, steps.direct)
        if terms:
            assert series.info["residual"] == pytest.approx(steps.info["residual"], abs=1e-9)


@pytest.mark.parametrize("l2", [1.0, 1e-4])
def test_each_part_sums_to_zero_over_the_operations(l2):
    toy = toys.MicroDARTS(l2)
    alpha, _, w = setting(toy)
    for result in (
        hg.direct(toy, w, alpha, None),
        hg.finite_difference(toy, w, alpha, None, None, 0.05),
        hg.unrolled(toy, w, alpha, [None] * 3, None, 0.05),
        hg.neumann(toy, w, alpha, None, None, 0.05, 3),
        hg.conjugate_gradient(toy, w, alpha, None, None, 3),
        hg.nystrom(toy, w, alpha, None, None, 3, 0.1),
        hg.sama(toy, w, alpha, None, None, draw(toy.n_w, purpose="diagonal").abs()),
        hg.amortised_adjoint(toy, w, alpha, None, None, draw(toy.n_w, purpose="q"), 0.05)[0],
        hg.exact(toy, w, alpha, None, None),
    ):
        assert result.direct.abs().max() > 1e-4
        near(result.direct.sum(), torch.zeros(()).double())
        near(result.response.sum(), torch.zeros(()).double())


def run_all(problem: Any, w: Tensor, alpha: Tensor) -> list:
    sgd = {"momentum": 0.5, "velocity": torch.ones_like(w), "weight_decay": 0.1}
    return [
        hg.direct(problem, w, alpha, None),
        hg.finite_difference(problem, w, alpha, None, None, 0.1, **sgd),
        hg.unrolled(problem, w, alpha, [None] * 2, None, 0.1, **sgd),
        hg.neumann(problem, w, alpha, None, None, 0.1, 2),
        hg.conjugate_gradient(problem, w, alpha, None, None, 2),
        hg.nystrom(problem, w, alpha, None, None, 1, 0.1),
        hg.sama(problem, w, alpha, None, None, 0.1),
        hg.amortised_adjoint(problem, w, alpha, None, None, torch.ones_like(w), 0.01)[0],
        hg.exact(problem, w, alpha, None, None),
    ]


@every_toy
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_arguments_are_unchanged_and_results_are_detached(toy, dtype):
    alpha, _, w = (x.to(dtype) for x in setting(toy))
    before = alpha.clone(), w.clone()
    for_constants = run_all(toy, w, alpha)
    assert not w.requires_grad
    assert not alpha.requires_grad
    for result in for_constants + run_all(toy, w.requires_grad_(), alpha.requires_grad_()):
        for part in (result.direct, result.response, result.total):
            assert part.shape == alpha.shape
            assert part.dtype == dtype
            assert not part.requires_grad
        assert result.info["seconds"] >= 0
        assert all(isinstance(value, float | int) for value in result.info.values())
    assert torch.equal(alpha, before[0])
    assert torch.equal(w, before[1])
    assert w.grad is alpha.grad is None


@every_toy
def test_single_precision_agrees_with_double(toy):
    alpha, _, w = setting(toy)
    for single, double in zip(run_all(toy, w.float(), alpha.float()), run_all(toy, w, alpha), strict=True):
        torch.testing.assert_close(single.total.double(), double.total, rtol=1e-3, atol=1e-5)


def test_what_a_loss_does_not_use_has_gradient_zero():
    class Deaf(Quadratic):
        def inner(self, w: Tensor, alpha: Tensor, batch: Any) -> Tensor:
            return w @ self.hessian @ w / 2

        def outer(self, w: Tensor, alpha: Tensor, batch: Any) -> Tensor:
            return (w - self.t).square().sum()

    class Constant(Deaf):
        def outer(self, w: Tensor, alpha: Tensor, batch: Any) -> Tensor:
            return torch.ones(())

    for problem in (Deaf(3, (2, 2)), Constant(3, (2, 2))):
        for result in run_all(problem, problem.w, problem.alpha):
            assert torch.equal(result.total, torch.zeros(2, 2).double())


P = Quadratic(3, (2,))
POINT = P, P.w, P.alpha


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: hg.unrolled(*POINT, [None] * 2, None, 0.1, 3), "truncate is 3, but must be from 0 to 2"),
        (lambda: hg.unrolled(*POINT, [None] * 2, None, 0.1, -1), "truncate is -1"),
        (lambda: hg.unrolled(*POINT, [None], None, 0.0), "step_size is 0.0, but must be a number above 0"),
        (
            lambda: hg.unrolled(*POINT, [None], None, 0.1, momentum=1.0),
            "momentum is 1.0, but must be from 0 on and below 1",
        ),
        (lambda: hg.finite_difference(*POINT, None, None, -1.0), "step_size is -1.0"),
        (lambda: hg.finite_difference(*POINT, None, None, 0.1, 0.0), "epsilon is 0.0"),
        (lambda: hg.finite_difference(*POINT, None, None, 0.1, weight_decay=-1.0), "weight_decay is -1.0"),
        (
            lambda: hg.finite_difference(*POINT, None, None, 0.1, velocity=P.w[:2]),
            r"velocity is \(2,\), but must be \(3,\)",
        ),
        (lambda: hg.neumann(*POINT, None, None, math.nan, 3), "step_size is nan"),
        (lambda: hg.neumann(*POINT, None, None, 0.1, -3), "terms is -3"),
        (lambda: hg.conjugate_gradient(*POINT, None, None, -1), "iterations is -1"),
        (lambda: hg.conjugate_gradient(*POINT, None, None, 1, -0.1), "tolerance is -0.1"),
        (lambda: hg.conjugate_gradient(*POINT, None, None, 1, 0.0, -0.1), "damping is -0.1"),
        (lambda: hg.nystrom(*POINT, None, None, 4, 0.1), "rank is 4, but must be from 1 to 3, the number of weights"),
        (lambda: hg.nystrom(*POINT, None, None, 2, 0.0), "damping is 0.0, but must be above 0, because .* is singular"),
        (lambda: hg.sama(*POINT, None, None, -0.1), "step_size is -0.1, but must be a number above 0"),
        (lambda: hg.sama(*POINT, None, None, P.w[:2]), r"diagonal is \(2,\), but must be \(3,\)"),
        (lambda: hg.amortised_adjoint(*POINT, None, None, P.w[:2], 0.1), r"q is \(2,\), but must be \(3,\)"),
        (lambda: hg.amortised_adjoint(*POINT, None, None, P.w, 0.0), "step_size is 0.0"),
        (lambda: hg.amortised_adjoint(*POINT, None, None, P.w, 0.1, -1.0), "damping is -1.0"),
        (
            lambda: hg.exact(P, torch.zeros(20_000), P.alpha, None, None),
            "number of weights is 20000, but must be at most",
        ),
    ],
)
def test_impossible_arguments_are_named_with_their_value(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_losses_and_gradients_that_are_not_finite_are_named():
    class Broken(Quadratic):
        def inner(self, w: Tensor, alpha: Tensor, batch: Any) -> Tensor:
            return super().inner(w, alpha, batch) + (w.sum() * math.nan if batch == "nan" else 0)

        def outer(self, w: Tensor, alpha: Tensor, batch: Any) -> Tensor:
            return (w - w.detach()).abs().sum().sqrt() if batch == "edge" else w.exp().sum() + torch.tensor(batch)

    problem = Broken(3, (2,))
    point = problem, problem.w, problem.alpha
    with pytest.raises(
        FloatingPointError, match=r"the outer loss is inf, where \|\|w\|\| = [0-9.]+ and \|\|alpha\|\| ="
    ):
        hg.direct(*point, math.inf)
    with pytest.raises(
        FloatingPointError, match="the gradient of the outer loss in w is nan or infinite in 3 of 3 entries"
    ):
        hg.neumann(*point, 0.0, "edge", 0.1, 1)
    with pytest.raises(FloatingPointError, match="the inner loss at step 2 of 3 is nan"):
        hg.unrolled(*point, [None, "nan", None], 0.0, 0.1)
    with pytest.raises(FloatingPointError, match="the inner loss is nan"):
        hg.conjugate_gradient(*point, "nan", 0.0, 1)


def test_a_loss_that_is_no_scalar_and_an_alpha_of_another_space_are_named():
    class Vector(Quadratic):
        def outer(self, w: Tensor, alpha: Tensor, batch: Any) -> Tensor:
            return w

    with pytest.raises(ValueError, match=r"the outer loss is a tensor of shape \(3,\), but must be a scalar"):
        hg.direct(Vector(3, (2,)), P.w, P.alpha, None)
    with pytest.raises(RuntimeError) as error:
        hg.exact(P, P.w, torch.zeros(2, 14, 8).double(), None, None)
    assert error.value.__notes__ == ["in the inner loss, with w of shape (3,) and alpha of shape (2, 14, 8)"]
