"""What notebooks 01 and 02 compute, against closed forms, the definitions and plain loops."""

import json
import math

import pytest
import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from hdarts import hypergradient as methods
from hdarts.hypernetwork import Linear
from hdarts.supernet.layout import agreement
from hdarts.toys import MicroDARTS, Quadratic2D, RidgeDigits, Sine, retrained_loss
from hdarts.workbook.analysis import toy_experiments as toy
from hdarts.workbook.analysis.toy_experiments.accuracy import calls, simplex
from hdarts.workbook.analysis.toy_experiments.joint import PARTS, noises
from hdarts.workbook.analysis.toy_experiments.local import errors_of, quadratic, response_jacobian
from hdarts.workbook.analysis.toy_experiments.storage import peak_bytes

MICRO = MicroDARTS(0.1)
ALPHA = torch.tensor([0.3, -0.2, 0.1], dtype=torch.float64)


def close(a: Tensor, b: Tensor, tolerance: float = 1e-9) -> bool:
    return torch.allclose(a, b, rtol=tolerance, atol=tolerance * float(b.abs().max()))


# --- notebook 01 -----------------------------------------------------------------------------------------------------


def test_curvatures_are_the_eigenvalues_of_the_inner_hessian():
    found = toy.curvatures(Quadratic2D(), torch.zeros(2, dtype=torch.float64))
    assert close(found, torch.linalg.eigvalsh(Quadratic2D().constants[0]))
    assert close(toy.curvatures(MICRO, ALPHA)[:1], torch.tensor([0.1], dtype=torch.float64), 0.1)


def test_on_the_sine_k_terms_leave_the_predicted_share_and_unrolling_from_the_optimum_is_the_same():
    errors, seconds = toy.by_steps({"sine": Sine(0.3)}, seed=0, most=8)
    found = errors.set_index(["method", "K"])["relative_error"].to_dict()
    for k in (1, 2, 3, 5, 8):
        assert found["Neumann, K terms", k] == pytest.approx(0.5**k, rel=1e-9)
        assert found["predicted", k] == pytest.approx(0.5**k, rel=1e-9)
        assert found["none (first-order DARTS)", k] == 1
        assert found["conjugate gradient", k] < 1e-12
    assert set(seconds["method"]) == set(toy.METHODS) and min(seconds["seconds"]) > 0
    assert "seconds" not in errors


def test_gradients_counted_are_those_a_method_takes(monkeypatch):
    """Counted by calls of the losses: a gradient is one; the graph of a product is one more, and it goes back twice."""
    calls = []

    class Counting(Sine):
        def inner(self, w, alpha, batch=None):
            calls.append("inner")
            return super().inner(w, alpha)

        def outer(self, w, alpha, batch=None):
            calls.append("outer")
            return super().outer(w, alpha)

    problem, a, w = Counting(0.3), torch.tensor(0.5, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    products = {"Neumann, K terms": 3, "unrolled, K steps from 0": 3, "conjugate gradient": 2}
    for name, method in toy.METHODS.items():
        calls.clear()
        method.hypergradient(problem, w, a, 0.1, 3)
        if name == "conjugate gradient":
            continue  # one curvature: ends after the first of three iterations
        assert len(calls) + 2 * products.get(name, 0) == method.gradients(3), name


def test_peak_bytes_of_what_can_be_counted_by_hand():
    x, there = torch.ones(1000), torch.ones(500).requires_grad_()
    assert peak_bytes(lambda: there.detach().view(5, 100)) == 0, "views of what was there before"
    assert peak_bytes(lambda: x + 1 + 1 + 1) == 2 * 4000, "the third is made when the first is gone"
    assert peak_bytes(lambda: (x + 1, x + 2, x + 3)) == 3 * 4000, "all are kept"
    assert peak_bytes(lambda: there.exp().exp().exp()) == 3 * 2000, "each is saved for its own backward pass"


@pytest.mark.parametrize("name", toy.METHODS)
def test_peak_bytes_are_those_that_the_allocator_reports_to_the_profiler(name, tmp_path):
    call = calls(MICRO, ALPHA, 0.05, [3])[name, 3]
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        call()
    profiled.export_chrome_trace(str(tmp_path / "trace.json"))
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    alive, peak = {}, 0
    for event in sorted((e for e in events if e["name"] == "[memory]"), key=lambda e: e["ts"]):
        alive[event["args"]["Addr"]] = max(0, event["args"]["Bytes"])  # below 0: freed
        peak = max(peak, sum(alive.values()))
    assert peak_bytes(call) == peak > 0


def test_memory_grows_by_one_w_a_step_in_unrolling_and_not_in_the_other_methods():
    held = toy.memory({"micro": MICRO}, seed=0, most=8).set_index(["method", "K"])["kilobytes"].to_dict()
    assert held["unrolled, K steps from 0", 8] - held["unrolled, K steps from 0", 3] == pytest.approx(
        5 * 640 * 8 / 1000
    )
    for name in ("Neumann, K terms", "conjugate gradient"):
        assert held[name, 8] == held[name, 3] < held["unrolled, K steps from 0", 3]
    assert {method for method, _ in held} == set(toy.METHODS)


def test_over_the_step_size_the_error_is_its_closed_form_and_beyond_two_it_is_worse_than_none():
    table = toy.over_step_size([0.5, 1.5, 2.5], [1, 2])
    found = table.set_index(["method", "step_size"])["relative_error"].to_dict()
    for k in (1, 2):
        for xi in (0.5, 1.5, 2.5):
            assert found[f"K = {k}", xi] == pytest.approx(abs(1 - xi) ** k)
    assert found["K = 1", 2.5] > found["none", 2.5]


def test_the_simplex_is_covered_within_its_margin():
    shares = simplex(6).softmax(1)
    assert len(shares) == 28
    assert close(shares.sum(1), torch.ones(28, dtype=torch.float64))
    assert shares.min() == pytest.approx(0.01) and shares.max() == pytest.approx(0.98)


def test_over_the_simplex_agrees_with_the_methods_point_by_point():
    table = toy.over_the_simplex(MICRO, 0.05, side=2)
    for alpha, row in zip(simplex(2), table.to_dict("records"), strict=True):
        w, truth = MICRO.best_response(alpha), MICRO.exact_hypergradient(alpha).total
        one = agreement(methods.neumann(MICRO, w, alpha, None, None, 0.05, 1).total, truth)
        none = agreement(methods.direct(MICRO, w, alpha, None).total, truth)
        assert row["one step"] == pytest.approx(one["relative_error"], rel=1e-8)
        assert row["none"] == pytest.approx(none["relative_error"], rel=1e-8)
        assert row["cosine of none"] == pytest.approx(none["cosine"], abs=1e-9)
        assert row["retrained"] == pytest.approx(float(retrained_loss(MICRO, alpha)))


def test_differences_are_exact_for_squares_curved_for_cross_entropy_and_the_wrong_formula_is_wrong():
    problems = {"squares": MICRO, "cross entropy": toy.CrossEntropy(MICRO)}
    table = (
        toy.over_epsilon(problems, 0, [1e-3, 1e-2])
        .set_index(["problem", "what", "epsilon"])["relative_error"]
        .to_dict()
    )
    assert table["squares", "float64", 1e-2] < 1e-10
    coarse, fine = (table["cross entropy", "float64", epsilon] for epsilon in (1e-2, 1e-3))
    assert coarse == pytest.approx(100 * fine, rel=0.01)
    assert table["squares", "float32", 1e-2] > table["squares", "float64", 1e-2]
    assert table["squares", "wrong formula, float64", 1e-2] > 0.99


def test_descent_along_the_exact_hypergradient_ends_at_the_known_optimum():
    problem = Quadratic2D()
    begin = torch.tensor([-1.0, 1.5], dtype=torch.float64)
    path = toy.descend(problem, lambda w, a: problem.exact_hypergradient(a), begin, 300, 0.05)
    assert len(path) == 301 and torch.equal(path[0], begin)
    a, b, (t, s) = problem.constants
    j = torch.linalg.solve(a, b)  # w* = J alpha
    assert close(path[-1], torch.linalg.solve(j.T @ j + torch.eye(2).to(j), j.T @ t + s), 1e-3)


def test_terms_lead_from_no_response_to_the_exact_hypergradient_or_away_from_it():
    rows, truth = toy.approach([1.0, 2.2], 30, seed=0)
    found = torch.tensor(rows[list(toy.COMPONENTS)].values.tolist(), dtype=torch.float64).view(2, 31, 2)
    safe, wild = (found - torch.tensor(truth, dtype=torch.float64)).norm(dim=2).tolist()
    w = Quadratic2D().best_response(alpha := toy.start(Quadratic2D(), 0))
    none = methods.direct(Quadratic2D(), w, alpha, None).total - torch.tensor(truth)
    assert safe[0] == wild[0] == pytest.approx(float(none.norm()))
    assert safe[30] < 1e-5 < safe[10] and wild[30] > 10 * wild[0]


# --- notebook 02: what is learned ------------------------------------------------------------------------------------


@pytest.mark.parametrize("problem", [Sine(0.3), RidgeDigits(), MICRO], ids=lambda p: type(p).__name__)
def test_quadratic_is_the_inner_loss(problem):
    alphas = torch.linspace(-1, 1, 2 * max(1, math.prod(problem.alpha_shape)), dtype=torch.float64).view(2, -1)
    gram, cross = quadratic(problem, alphas)
    for alpha, g, c in zip(alphas, gram, cross, strict=True):
        assert close(torch.linalg.solve(g, c).flatten(), problem.best_response(alpha), 1e-8)


@pytest.mark.parametrize("sigma", [0.1, 1.0])
def test_on_the_sine_the_converged_slope_is_too_flat_by_a_known_factor(sigma):
    at = torch.tensor(0.8, dtype=torch.float64)
    slope, offset = toy.converged(Sine(0.3), at, sigma)
    assert float(slope) == pytest.approx(-math.cos(0.8) * math.exp(-(sigma**2) / 2), rel=1e-6)
    assert float(offset) == pytest.approx(-math.sin(0.8) * math.exp(-(sigma**2) / 2), rel=1e-6)


def test_the_bias_is_of_order_sigma_squared_and_vanishes():
    table = toy.bias_over_sigma({"micro": MICRO}, {"micro": ALPHA}, [1e-3, 1e-2])
    small, large = table["relative_error"].tolist()
    assert small < 1e-5
    assert large / small == pytest.approx(100, rel=0.01)


def test_converged_is_where_the_mean_gradient_vanishes():
    phi = toy.converged(Sine(0.3), torch.tensor(0.8, dtype=torch.float64), 0.3)
    eps = torch.special.ndtri((torch.arange(20001, dtype=torch.float64) + 0.5) / 20001) * 0.3

    def mean_loss(u: Tensor) -> Tensor:
        return torch.func.vmap(lambda e: Sine(0.3).inner(u[:1] * e + u[1:], 0.8 + e))(eps).mean()

    assert torch.func.grad(mean_loss)(phi).abs().max() < 1e-4


def test_training_with_an_antithetic_pair_comes_nearer_to_the_response_the_longer_it_lasts():
    problem = MicroDARTS(1.0)
    short, long = (
        float(toy.learned_over_sigma(problem, ALPHA, [0.2], steps, 0)["jacobian_error"].iloc[0]) for steps in (20, 200)
    )
    without = torch.cat([torch.zeros(3 * 640).double(), problem.best_response(ALPHA)])
    none = errors_of(problem, ALPHA, without, response_jacobian(problem, ALPHA))
    assert long < 0.3 < short < none["jacobian_error"] == pytest.approx(1)


def test_without_noise_what_is_across_the_line_is_the_start_shrunk_by_weight_decay_alone():
    found = toy.along_a_line(0, 0.2, 300)
    factor = toy.shrinkage(300, 0.03, 3e-4)
    assert 0.9 < factor < 1
    for name in ("walk", "jumps"):
        assert close(found[name][:, 1:], factor * found["start"][:, 1:])
        assert not close(found[name][:, :1], factor * found["start"][:, :1], 0.1)
    error = {name: float((one - found["truth"]).norm() / found["truth"].norm()) for name, one in found.items()}
    assert error["walk + noise"] < 0.5 < error["walk"]
    assert error["walk + noise, centred"] < 0.5


def test_figure_22_has_local_lines_right_where_they_were_trained_and_wrong_elsewhere():
    grid = torch.tensor([-5.0, 1.0], dtype=torch.float64)
    table = toy.figure_22(0, 5, (-2.0, 2.0), ((-5.0, 0.2), (1.0, 0.2)), grid)
    truth = table[table["kind"] == "retrained"].set_index("alpha")["inner"].to_dict()
    local = table[table["kind"] == "local, linear"].set_index(["mean", "alpha"])["inner"].to_dict()
    for a in (-5.0, 1.0):
        assert local[a, a] == pytest.approx(truth[a], rel=0.05)
        assert local[a, -4 - a] > 1.5 * truth[-4 - a]


# --- notebook 02: joint runs -----------------------------------------------------------------------------------------


def test_parts_are_those_of_the_methods():
    h, w = Linear(3, 640), MICRO.best_response(ALPHA) + 0.1
    for weights in (toy.GeneratedWeights(MICRO, h), toy.GeneratedWeights(MICRO, h, centred=True)):
        u = weights.start(3)
        found, truth = weights.parts(u, ALPHA), methods.hypernetwork(weights.problem(ALPHA), u, ALPHA, None)
        assert close(found[0], truth.direct) and close(found[1], truth.response)
        defined = methods.direct(weights.problem(ALPHA), u, ALPHA, None).total
        if not weights.centred:  # where alpha enters through the weights, this is the definition
            assert close(found[0] + found[1], defined)
    for weights, truth in (
        (toy.LearnedWeights(MICRO), methods.direct(MICRO, w, ALPHA, None)),
        (toy.LearnedWeights(MICRO, 0.05), methods.unrolled(MICRO, w, ALPHA, [None], None, 0.05)),
        (toy.RetrainedWeights(MICRO), MICRO.exact_hypergradient(ALPHA)),
    ):
        found = weights.parts(w, ALPHA)
        assert close(found[0], truth.direct) and close(found[0] + found[1], truth.total)


def test_a_centred_hypernetwork_moves_its_bias_with_alpha():
    weights, change = toy.GeneratedWeights(MICRO, Linear(3, 640), centred=True), torch.tensor([0.1, 0.0, -0.2]).double()
    u = weights.start(0)
    before = weights.problem(ALPHA).weights(u, ALPHA + change)
    after = weights.problem(ALPHA + change).weights(weights.follow_alpha(u, change), ALPHA + change)
    assert close(after, before)


def test_zero_response_starts_with_the_read_outs_own_start_and_no_response():
    weights = toy.GeneratedWeights(MICRO, Linear(3, 640), zero_response=True)
    u = weights.start(1)
    assert torch.equal(weights.problem(ALPHA).weights(u, ALPHA), toy.LearnedWeights(MICRO).start(1))
    assert weights.parts(u, ALPHA)[1].abs().max() == 0


def test_noise_is_antithetic_where_asked_and_the_same_for_the_same_step():
    pair = noises(0.1, 0, 5, antithetic=True)
    assert torch.equal(pair[0], -pair[1]) and pair[0].abs().max() > 0
    assert torch.equal(pair[:1], noises(0.1, 0, 5, antithetic=False))
    assert not torch.equal(pair, noises(0.1, 0, 6, antithetic=True))


def test_runs_taken_together_are_those_taken_alone():
    weights = toy.GeneratedWeights(MICRO, Linear(3, 640), centred=True, zero_response=True)
    together = toy.run_jointly(weights, tuple(PARTS), [0, 1], 4, 0.1, antithetic=True)
    alone = toy.run_jointly(weights, ["response"], [1], 4, 0.1, antithetic=True)
    same = together.query("part == 'response' and seed == 1").reset_index(drop=True)
    numbers = [*toy.OPERATIONS, "retrained", "relative_error"]
    assert torch.allclose(torch.tensor(same[numbers].to_numpy()), torch.tensor(alone[numbers].to_numpy()), rtol=1e-9)
    assert list(same["step"]) == list(range(5))


def test_all_ways_ends_better_than_it_began_with_the_exact_hypergradient():
    table = toy.compare_joint_runs(MicroDARTS(1.0), 0.1, [0], 20)
    assert len(set(table["method"])) == 7
    exact = table[table["method"] == "exact"]
    losses = exact["retrained"].tolist()
    assert losses == sorted(losses, reverse=True) and max(exact["relative_error"]) < 1e-9


def test_lines_through_the_sine_are_too_flat_with_much_noise_and_unlearned_with_little():
    rows = toy.chords([0.02, 0.3, 1.0], 200, seed=0)
    ends = rows.groupby(["sigma", "line"])["weight"].agg(["first", "last"])
    slopes = {key: (last - first) / 3.6 for key, first, last in ends.itertuples(name=None)}
    tangent = -math.cos(0.8)
    for sigma in (0.02, 0.3, 1.0):
        assert slopes[sigma, "tangent"] == pytest.approx(tangent)
        assert slopes[sigma, "converged"] == pytest.approx(tangent * math.exp(-(sigma**2) / 2), rel=1e-6)
    assert abs(slopes[0.02, "200 steps"]) < 0.1 * abs(tangent)
    assert slopes[0.3, "200 steps"] == pytest.approx(slopes[0.3, "converged"], rel=0.05)
