"""The replaceable parts of a search against closed forms (float64)."""

import math

import pytest
import torch
from scipy import stats
from torch.distributions import Dirichlet, kl_divergence

from hdarts.params.schedule import Ramp, value_at
from hdarts.runs.randomness import generator
from hdarts.search.alpha_step import Exponentiated
from hdarts.search.neighbourhood import adversarial, on_simplex, uniform
from hdarts.search.outer_term import beta_decay, expected_cost, kl, operation_costs, zero_one
from hdarts.search.parametrisation import PARAMETRISATIONS, by_node, pair_columns, standard_gamma
from hdarts.search.relaxation import Relaxation, dropout
from hdarts.space import DARTS, NASBENCH201, SearchSpace

ONE = torch.ones((), dtype=torch.float64)
BOTH_SPACES = pytest.mark.parametrize("space", [DARTS, NASBENCH201], ids=lambda space: space.name)


def random_alpha(space: SearchSpace, name: str = "softmax", seed: int = 0) -> torch.Tensor:
    relaxation = Relaxation(space, PARAMETRISATIONS[name])
    alpha = torch.randn(relaxation.alpha_shape, generator=generator(seed, "alpha"), dtype=torch.float64)
    return relaxation.normalised(alpha.exp()) if relaxation.parametrisation.normalise else alpha


def mixture(name: str, alpha: torch.Tensor, space: SearchSpace, temperature: float = 1.0, seed: int = 0):
    part = PARAMETRISATIONS[name]
    draw = None if part.draw is None else part.draw(alpha, generator(seed, "draw"))
    return part.weights(alpha, space, temperature * ONE, draw)


@BOTH_SPACES
@pytest.mark.parametrize("name", PARAMETRISATIONS)
def test_every_parametrisation_is_finite_differentiable_and_has_a_mean(name: str, space: SearchSpace):
    relaxation, alpha = Relaxation(space, PARAMETRISATIONS[name]), random_alpha(space, name).requires_grad_()
    mixed = relaxation(alpha, relaxation.draw(alpha, 0, "test"))
    direction = torch.randn(space.alpha_shape, generator=generator(1), dtype=torch.float64)
    (gradient,) = torch.autograd.grad((mixed.weights * direction).sum(), alpha)
    assert mixed.weights.shape == relaxation.mean(alpha).shape == space.alpha_shape
    assert bool(
        mixed.weights.isfinite().all() and gradient.isfinite().all() and relaxation.mean(alpha).isfinite().all()
    )
    assert float(gradient.abs().max()) > 0
    assert torch.equal(relaxation(alpha).weights, relaxation.mean(alpha)), "without a draw, the mean"
    assert bool((mixed.weights >= 0).all())


@BOTH_SPACES
@pytest.mark.parametrize("name", PARAMETRISATIONS)
def test_pruned_operations_have_weight_and_gradient_0_and_the_others_share_the_rest(name: str, space: SearchSpace):
    kept = torch.rand(space.alpha_shape, generator=generator(2)) < 0.6
    kept[..., 0] |= ~kept.any(-1)
    if name == "group-softmax":
        kept[..., [1, -1]] = True
        kept[..., space.operations.index("skip_connect")] = True
        kept[..., next(i for i, one in enumerate(space.operations) if "conv" in one)] = True
    relaxation = Relaxation(space, PARAMETRISATIONS[name], kept)
    alpha = relaxation.start(0.01 * random_alpha(space, name)).requires_grad_()
    weights = relaxation(alpha, relaxation.draw(alpha, 0, "test")).weights
    (gradient,) = torch.autograd.grad((weights * torch.arange(weights.numel()).view_as(weights)).sum(), alpha)
    pruned = ~kept
    for tensor in (weights, relaxation.mean(alpha), gradient[..., : len(space.operations)]):
        assert float(tensor.detach()[pruned].abs().max()) == 0
    if name in ("softmax", "gumbel", "gumbel-hard", "dirichlet", "simplex"):
        torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:2], dtype=torch.float64))


def test_the_softmax_of_a_node_with_one_incoming_edge_is_that_of_darts():
    alpha = random_alpha(NASBENCH201)
    weights = mixture("node-softmax", alpha, NASBENCH201).weights
    torch.testing.assert_close(weights[:, 0], alpha[:, 0].softmax(-1))
    for rows in by_node(weights, NASBENCH201):
        torch.testing.assert_close(rows.sum(), ONE)


@BOTH_SPACES
def test_edge_weights_multiply_the_operations_and_sum_to_1_at_each_node(space: SearchSpace):
    alpha = random_alpha(space, "edge-softmax")
    weights = mixture("edge-softmax", alpha, space).weights
    for e, (_, node) in enumerate(space.edges):
        incoming = [i for i, (_, target) in enumerate(space.edges) if target == node]
        b = alpha[:, e, -1].exp() / alpha[:, incoming, -1].exp().sum(1)
        torch.testing.assert_close(weights[:, e], b[:, None] * alpha[:, e, :-1].softmax(-1))


@BOTH_SPACES
def test_edge_weights_on_the_simplex_move_like_logits_of_the_edges_of_a_node(space: SearchSpace):
    relaxation = Relaxation(space, PARAMETRISATIONS["edge-simplex"])
    start = relaxation.start(torch.zeros(relaxation.alpha_shape, dtype=torch.float64))
    assert start[..., :-1].unique().tolist() == pytest.approx([1 / len(space.operations)])
    moved, g = random_alpha(space, "edge-simplex"), random_alpha(space, "edge-simplex", seed=1)
    b = moved[..., -1:] * torch.exp(-0.1 * g[..., -1:])
    moved.grad = g
    Exponentiated([moved], 0.1, relaxation.normalised).step()
    for e, (_, node) in enumerate(space.edges):
        incoming = [i for i, (_, target) in enumerate(space.edges) if target == node]
        assert start[:, e, -1].tolist() == pytest.approx([1 / len(incoming)] * len(space.kinds))
        torch.testing.assert_close(moved[:, e, -1], b[:, e, 0] / b[:, incoming, 0].sum(1))
    torch.testing.assert_close(relaxation(moved).weights, moved[..., :-1] * moved[..., -1:])


def test_each_group_of_operations_has_a_softmax():
    alpha = random_alpha(DARTS)
    weights = mixture("group-softmax", alpha, DARTS).weights
    torch.testing.assert_close(weights[..., :4], alpha[..., :4].softmax(-1))
    torch.testing.assert_close(weights[..., 4:], alpha[..., 4:].softmax(-1))


def test_edge_weights_of_pairs_are_sums_over_pairs_and_sum_to_2():
    relaxation = Relaxation(DARTS, PARAMETRISATIONS["edge-pairs"])
    assert relaxation.columns[8:] == pair_columns(DARTS) == ("pair_0", "pair_1", "pair_2", "pair_3")
    alpha, n = random_alpha(DARTS, "edge-pairs"), len(DARTS.operations)
    weights = mixture("edge-pairs", alpha, DARTS, temperature=2.0).weights
    first = 0
    for inputs in (2, 3, 4, 5):
        rows = range(first, first + inputs)
        pairs = [(i, j) for j in range(inputs) for i in range(j)]
        q = torch.stack([alpha[:, rows[j], n + i] / 2 for i, j in pairs], -1).softmax(-1)
        for e in range(inputs):
            edge = sum(q[:, k] for k, pair in enumerate(pairs) if e in pair)
            torch.testing.assert_close(weights[:, rows[e]].sum(-1), edge)
        torch.testing.assert_close(weights[:, rows].sum((1, 2)), 2 * torch.ones(2, dtype=torch.float64))
        first += inputs
    edge = weights[0, 3].sum()
    torch.testing.assert_close(weights[0, 3] / edge, (alpha[0, 3, :n] / 0.002).softmax(-1))


def test_the_limits_of_gumbel_samples_are_uniform_and_one_hot():
    alpha = random_alpha(DARTS)
    hot, cold = (mixture("gumbel", alpha, DARTS, temperature).weights for temperature in (1e6, 1e-3))
    torch.testing.assert_close(hot, torch.full_like(hot, 1 / 8), atol=1e-4, rtol=0)
    hard = mixture("gumbel-hard", alpha, DARTS, 1.0).weights
    assert torch.equal(cold.argmax(-1), hard.argmax(-1)), "the sampled operation does not depend on the temperature"
    assert sorted(hard.unique().tolist()) == pytest.approx([0, 1])


def test_operations_are_sampled_with_the_probabilities_of_the_softmax():
    row = torch.tensor([0.5, -1.0, 0.0, 1.0, -0.5], dtype=torch.float64)
    alpha = row.expand(1, 20_000, 5)
    chosen = mixture("gumbel-hard", alpha, NASBENCH201, 5.0).weights.argmax(-1)
    counts = torch.bincount(chosen.flatten(), minlength=5).tolist()
    assert stats.chisquare(counts, (row.softmax(-1) * 20_000).tolist()).pvalue > 1e-3


@pytest.mark.parametrize("name", ["gumbel-hard", "gumbel-hard-published"])
def test_hard_samples_have_the_gradient_of_the_soft_ones_where_they_are_1(name: str):
    alpha = random_alpha(NASBENCH201).requires_grad_()
    upstream = torch.randn(NASBENCH201.alpha_shape, generator=generator(3), dtype=torch.float64)
    mixed, soft = (mixture(one, alpha, NASBENCH201, 2.0) for one in (name, "gumbel"))
    one_hot = mixed.weights.detach().round()
    value, total = (mixed.weights * upstream).sum(), (soft.weights * upstream * one_hot).sum()
    if mixed.offsets is not None:
        assert float(mixed.offsets.detach().abs().max()) == 0
        value = value + mixed.offsets.sum() * 7
        total = total + 7 * (soft.weights * (1 - one_hot)).sum()
    (ours,) = torch.autograd.grad(value, alpha)
    (expected,) = torch.autograd.grad(total, alpha)
    torch.testing.assert_close(ours, expected)
    assert (mixed.offsets is None) == (name == "gumbel-hard")


def test_dirichlet_samples_have_the_mean_and_the_pathwise_gradient_of_torch():
    alpha = random_alpha(NASBENCH201).requires_grad_()
    concentration = torch.nn.functional.elu(alpha) + 1
    means = torch.stack([mixture("dirichlet", alpha.detach(), NASBENCH201, seed=i).weights for i in range(4000)])
    torch.testing.assert_close(means.mean(0), Dirichlet(concentration).mean, atol=0.03, rtol=0)
    # the gradient is a total derivative along a path, which is not unique; its mean is that of the density
    upstream = torch.randn(NASBENCH201.alpha_shape, generator=generator(3), dtype=torch.float64)
    (exact,) = torch.autograd.grad((Dirichlet(concentration).mean * upstream).sum(), alpha)
    gradients = []
    for i in range(4000):
        weights = mixture("dirichlet", alpha, NASBENCH201, seed=i).weights
        gradients.append(torch.autograd.grad((weights * upstream).sum(), alpha)[0])
    spread = torch.stack(gradients).std(0) / 4000**0.5
    assert float(((torch.stack(gradients).mean(0) - exact) / spread).abs().max()) < 5


def test_a_gamma_draw_and_its_derivative_are_those_of_the_quantile():
    alpha = torch.tensor([[[0.3, -0.7, 1.2]]], dtype=torch.float64)
    draw = standard_gamma(alpha, generator(0))
    c = (torch.nn.functional.elu(alpha) + 1).numpy()
    level, h = stats.gamma.cdf(draw.numpy(), c), 1e-5
    slope = (stats.gamma.ppf(level, c + h) - stats.gamma.ppf(level, c - h)) / (2 * h)
    at = torch.from_numpy(c).requires_grad_()
    ours = torch._standard_gamma_grad(at.detach(), draw)  # pyright: ignore
    torch.testing.assert_close(ours, torch.from_numpy(slope), rtol=1e-4, atol=1e-6)


def test_beta_decay_has_the_published_value_and_gradient():
    row = torch.tensor([0.001, -0.002, 0.0005, 0, 0.003], dtype=torch.float64)
    alpha = row.expand(1, 6, 5).clone().requires_grad_()
    value = beta_decay(alpha, alpha, None)
    assert value.item() == pytest.approx(1.6099392124, abs=1e-10)
    (gradient,) = torch.autograd.grad(value, alpha)
    p = [0.2000997649, 0.1995003651, 0.1999997400, 0.1998997651, 0.2005003649]
    torch.testing.assert_close(6 * gradient[0, 0], torch.tensor(p, dtype=torch.float64), atol=1e-10, rtol=0)


def test_kl_is_that_of_torch_and_pruned_operations_are_left_out():
    alpha = random_alpha(NASBENCH201)
    concentration = torch.nn.functional.elu(alpha) + 1
    expected = kl_divergence(Dirichlet(concentration), Dirichlet(torch.ones_like(concentration))).sum()
    torch.testing.assert_close(kl(alpha, alpha, None), expected)
    wider = torch.cat([alpha, torch.full_like(alpha[..., :2], -math.inf)], -1).requires_grad_()
    torch.testing.assert_close(kl(wider, alpha, None), expected)
    assert bool(torch.autograd.grad(kl(wider, alpha, None), wider)[0].isfinite().all())


def test_zero_one_is_0_at_the_start_and_a_quarter_where_all_is_decided():
    assert zero_one(torch.zeros(2, 14, 8), torch.zeros(()), None).item() == 0
    assert zero_one(torch.full((2, 14, 8), 40.0), torch.zeros(()), None).item() == pytest.approx(-0.25)


def test_costs_are_the_parameters_and_multiply_adds_of_a_cell_counted_by_hand():
    cells = NASBENCH201.plan(16, 1)
    conv = NASBENCH201.operations.index("nor_conv_3x3")
    one = operation_costs(NASBENCH201, cells, (32, 32), "parameters")
    assert one[0, 0, conv].item() == pytest.approx(9 * (16**2 + 32**2 + 64**2) / 1e6)
    work = operation_costs(NASBENCH201, cells, (32, 32), "multiply-adds")
    assert work[0, 0, conv].item() == pytest.approx(9 * (16**2 * 32**2 + 32**2 * 16**2 + 64**2 * 8**2) / 1e6)
    assert float(one[..., [0, 1, 4]].abs().max()) == 0
    stem = NASBENCH201.plan(16, 1, "imagenet"), (256, 250)  # maps of 32x32 after the stem
    assert torch.equal(operation_costs(NASBENCH201, *stem, "multiply-adds"), work)
    cells = DARTS.plan(4, 3)  # normal, reduce, reduce
    separable = operation_costs(DARTS, cells, (8, 8), "multiply-adds")[..., DARTS.operations.index("sep_conv_3x3")]
    assert separable[0, 0].item() == pytest.approx(2 * (9 * 4 + 4 * 4) * 64 / 1e6)
    expected = (2 * (9 * 8 + 8 * 8) * 16 + 2 * (9 * 16 + 16 * 16) * 4) / 1e6
    assert separable[1].tolist() == pytest.approx([expected] * 14)
    uniform_weights = torch.full(DARTS.alpha_shape, 1 / 8)
    assert expected_cost(uniform_weights, uniform_weights, separable[..., None]).item() == pytest.approx(
        float(separable.sum())
    )


def test_an_exponentiated_step_is_a_step_of_logits_and_stays_on_the_simplex():
    theta, g = random_alpha(DARTS, "simplex"), random_alpha(DARTS, seed=1)
    expected = (theta.log() - 0.1 * g).softmax(-1)
    moved = theta.clone()
    moved.grad = g
    Exponentiated([moved], 0.1, Relaxation(DARTS, PARAMETRISATIONS["simplex"]).normalised).step()
    torch.testing.assert_close(moved, expected)
    moved.grad = torch.where(torch.arange(8) == 0, 1e3, 0.0).to(moved).expand_as(moved)
    Exponentiated([moved], 0.1, Relaxation(DARTS, PARAMETRISATIONS["simplex"]).normalised).step()
    assert float(moved.min()) == pytest.approx(1e-5, rel=0.02)  # before the rows were divided by their sums
    torch.testing.assert_close(moved.sum(-1), torch.ones(2, 14, dtype=torch.float64))


def test_clipped_rows_are_on_the_simplex_and_rows_without_weight_become_one_hot():
    q = torch.tensor([[0.7, 0.5, -0.2], [-0.3, -0.1, -0.2]], dtype=torch.float64)
    expected = torch.tensor([[7 / 12, 5 / 12, 0], [0, 1, 0]], dtype=torch.float64)
    torch.testing.assert_close(on_simplex(q), expected)


def test_a_perturbation_of_size_0_is_none_and_others_are_valid_weights():
    p = random_alpha(DARTS).softmax(-1)
    draw = 2 * torch.rand(p.shape, generator=generator(4), dtype=torch.float64) - 1
    torch.testing.assert_close(uniform(p, 0 * ONE, draw), p)
    q = uniform(p, 0.3 * ONE, draw)
    assert float(q.min()) >= 0
    assert float((q - p).abs().max()) > 0.1
    torch.testing.assert_close(q.sum(-1), torch.ones(2, 14, dtype=torch.float64))


def test_an_attack_raises_the_loss_more_than_noise_and_gives_p_back_where_it_fails():
    p = random_alpha(DARTS).softmax(-1)
    draw = 2 * torch.rand(p.shape, generator=generator(4), dtype=torch.float64) - 1
    target = random_alpha(DARTS, seed=5)
    gained = adversarial(p, 0.1 * ONE, draw, lambda q: (q * target).sum(), 7)
    noisy = uniform(p, 0.1 * ONE, draw)
    assert float((gained * target).sum()) > max(float((one * target).sum()) for one in (p, noisy))
    assert torch.equal(adversarial(p, 0.1 * ONE, draw, lambda q: -(q - p).square().sum(), 7), p)


@pytest.mark.parametrize(
    ("ramp", "epochs", "expected"),
    [
        # SNAS, GDAS, SDARTS, DARTS-, beta-DARTS, DOTS: the values of the published code
        (Ramp(first=1.0, last=0.03), 150, {0: 1.0, 1: 0.9935333333333334, 75: 0.515, 149: 0.03646666666666667}),
        (Ramp(first=10.0, last=0.1, shape="to-last"), 250, {0: 10.0, 1: 9.960240963855422, 249: 0.1}),
        (Ramp(first=0.03, last=0.3), 50, {0: 0.03, 1: 0.0354, 10: 0.084, 25: 0.165, 49: 0.2946}),
        (Ramp(first=1.0, last=0.0), 50, {0: 1.0, 1: 0.98, 49: 0.02}),
        (Ramp(first=0.0, last=50.0), 100, {0: 0.0, 1: 0.5, 99: 49.5}),
        (Ramp(first=10.0, last=0.02, shape="exponential"), 20, {0: 10.0, 5: 10 * 0.002 ** (5 / 19), 19: 0.02}),
        (Ramp(first=1.0, last=0.0, shape="cosine"), 50, {0: 1.0, 25: 0.5}),
        (Ramp(first=1.0, last=0.0, shape="quarter-cosine"), 50, {25: math.cos(math.pi / 4)}),
    ],
)  # fmt: skip
def test_schedules_have_the_published_values(ramp: Ramp, epochs: int, expected: dict[int, float]):
    for epoch, value in expected.items():
        assert value_at(ramp, epoch, epochs) == pytest.approx(value, abs=1e-12)


def test_dropout_rescales_and_depends_on_its_seed_and_call_only():
    x, seed = torch.ones(4, 3, 16, 16), torch.tensor(7)
    first, again = dropout(0.4, seed), dropout(0.4, seed)
    values = first(x)
    assert sorted(values.unique().tolist()) == pytest.approx([0, 1 / 0.6])
    assert torch.equal(values, again(x))
    assert not torch.equal(values, again(x)), "another edge has another mask"
    assert float(values.mean()) == pytest.approx(1, abs=0.1)
