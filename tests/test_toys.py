"""The toys' closed forms, each against something simpler than itself."""

import dataclasses
import math

import pytest
import torch
from torch import Tensor

from hdarts import toys
from hdarts.runs.randomness import generator

TOYS = [
    toys.Sine(0.3),
    toys.Quadratic2D(),
    toys.RidgeDiabetes(),
    toys.RidgeDigits(),
    toys.MicroDARTS(1.0),
    toys.MicroDARTS(1e-4),
]
every_toy = pytest.mark.parametrize("toy", TOYS, ids=repr)


def some_alpha(toy) -> Tensor:
    return torch.randn(toy.alpha_shape, generator=generator(0, repr(toy)), dtype=torch.float64)


def slopes(function, alpha: Tensor, step: float = 1e-5) -> Tensor:
    """Central differences of a scalar function, one entry of alpha at a time."""
    basis = step * torch.eye(alpha.numel(), dtype=alpha.dtype).view(-1, *alpha.shape)
    return torch.stack([(function(alpha + e) - function(alpha - e)) / (2 * step) for e in basis]).view(alpha.shape)


@every_toy
def test_best_response_minimises_the_inner_loss(toy):
    alpha = some_alpha(toy)
    w = toy.best_response(alpha)
    assert w.shape == (toy.n_w,)
    assert torch.func.grad(toy.inner)(w, alpha).abs().max() < 1e-10
    for seed in range(3):
        step = 0.1 * torch.randn(w.shape, generator=generator(seed, "step"), dtype=w.dtype)
        assert toy.inner(w + step, alpha) > toy.inner(w, alpha)


@every_toy
def test_exact_hypergradient_is_the_slope_of_the_retrained_loss(toy):
    alpha = some_alpha(toy)
    result = toy.exact_hypergradient(alpha)
    w = toy.best_response(alpha)
    assert result.total.shape == toy.alpha_shape
    torch.testing.assert_close(result.total, slopes(lambda a: toys.retrained_loss(toy, a), alpha), rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(result.direct, slopes(lambda a: toy.outer(w, a), alpha), rtol=1e-6, atol=1e-9)


@every_toy
def test_toys_follow_the_dtype_of_their_arguments(toy):
    alpha = some_alpha(toy)
    w = toy.best_response(alpha)
    for loss in (toy.inner, toy.outer):
        assert loss(w.float(), alpha.float()).dtype == torch.float32
        torch.testing.assert_close(loss(w.float(), alpha.float()).double(), loss(w, alpha), rtol=1e-5, atol=1e-6)


@every_toy
def test_an_alpha_or_a_w_of_another_space_is_refused(toy):
    w, alpha = torch.zeros(toy.n_w), torch.zeros(toy.alpha_shape)
    with pytest.raises(ValueError, match=r"alpha has shape \(2, 14, 8\), but this problem needs"):
        toy.inner(w, torch.zeros(2, 14, 8))
    with pytest.raises(ValueError, match=rf"w has shape \(5,\), but this problem needs {toy.n_w} numbers"):
        toy.outer(torch.zeros(5), alpha)


def test_sine_against_pencil_and_paper():
    result = toys.Sine(0.3).exact_hypergradient(torch.tensor(0.7, dtype=torch.float64))
    assert result.total.item() == pytest.approx((math.sin(0.7) + 0.3) * math.cos(0.7), abs=1e-15)
    assert result.direct.item() == 0


def test_quadratic_has_a_direct_part_that_is_not_zero():
    alpha = torch.tensor([2.0, -1.0], dtype=torch.float64)
    assert toys.Quadratic2D().exact_hypergradient(alpha).direct.tolist() == [1.5, -1.25]


def test_diabetes_is_standardised_by_its_first_part():
    (x, y), (other, _) = toys.RidgeDiabetes().data
    for column in (x, y):
        torch.testing.assert_close(column.mean(0), torch.zeros(column.shape[1]).double(), rtol=0, atol=1e-12)
        torch.testing.assert_close(column.std(0), torch.ones(column.shape[1]).double(), rtol=0, atol=1e-12)
    assert 0.001 < other.mean(0).abs().max() < 0.5


def test_one_weight_a_feature_shrinks_that_feature_only():
    toy = toys.RidgeDiabetes()
    alpha = torch.full((10,), -20.0, dtype=torch.float64)
    alpha[3] = 20.0
    w = toy.best_response(alpha)
    assert w[3].abs() < 1e-8
    x, y = toy.data[0]
    without = [j for j in range(10) if j != 3]
    torch.testing.assert_close(w[without], torch.linalg.lstsq(x[:, without], y).solution.flatten(), rtol=0, atol=1e-6)


def test_ridge_digits_trains_on_one_image_of_each_digit_and_on_none_of_the_others():
    (x, y), (other, labels) = toys.RidgeDigits().data
    assert torch.equal(y, torch.eye(10, dtype=y.dtype))
    assert other.shape == (400, 64)
    assert labels.sum(1).eq(1).all()
    assert torch.cdist(x, other).min() > 0


def test_the_three_operations_computed_by_hand():
    outputs, _ = toys.MicroDARTS(1.0).data
    identity, average, largest = (outputs[1, o, 7].view(8, 8) for o in range(3))
    for row, column in ((0, 0), (0, 4), (3, 7), (5, 2)):
        window = identity[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2]
        assert average[row, column].item() == pytest.approx(window.mean().item(), abs=1e-15)
        assert largest[row, column] == window.max()


@every_toy
def test_a_toy_first_used_within_a_transform_stays_usable(toy):
    """Constants are computed with the toy: computed within vmap or grad, they would outlive the transform."""
    fresh = dataclasses.replace(toy)
    w, alphas = torch.ones(toy.n_w, dtype=torch.float64), torch.zeros(2, *toy.alpha_shape, dtype=torch.float64)
    both = torch.func.vmap(torch.func.grad(lambda a: fresh.inner(w, a) + fresh.outer(w, a)))(alphas)
    alone = torch.func.grad(lambda a: toy.inner(w, a) + toy.outer(w, a))(alphas[0])
    assert torch.allclose(both[1], alone, atol=1e-12)
    assert fresh.outer(w, alphas[0]).item() == toy.outer(w, alphas[0]).item()


@pytest.mark.parametrize("l2", [1.0, 1e-4])
def test_softmax_problems_do_not_feel_a_shift(l2):
    """Each part of the hypergradient sums to 0 over the operations, and dw*/dalpha kills the all-ones vector."""
    toy = toys.MicroDARTS(l2)
    alpha = some_alpha(toy)
    result = toy.exact_hypergradient(alpha)
    for part in (result.direct, result.response):
        assert part.abs().max() > 1e-4
        assert part.sum().abs() < 1e-12
    jacobian = torch.autograd.functional.jacobian(toy.best_response, alpha)
    assert jacobian.abs().max() > 1e-3
    assert jacobian.sum(1).abs().max() < 1e-9


def test_l2_sets_the_conditioning_of_micro_darts():
    def condition(l2: float) -> float:
        features, _ = toys.MicroDARTS(l2)._part(torch.zeros(3, dtype=torch.float64), 0)
        return torch.linalg.cond(features.T @ features / 200 + l2 * torch.eye(64)).item()

    assert condition(1.0) < 30
    assert condition(1e-4) > 10_000


def test_an_l2_that_is_not_above_zero_is_refused():
    with pytest.raises(ValueError, match="l2 is 0, but must be a number above 0"):
        toys.MicroDARTS(0)
