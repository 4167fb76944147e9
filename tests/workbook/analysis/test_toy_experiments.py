"""Computations of notebooks 01 and 02, compared with closed forms, definitions and plain loops."""

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
from hdarts.workbook.analysis.toy_experiments import accuracy, joint, local
from hdarts.workbook.analysis.toy_experiments.storage import peak_bytes

MICRO = MicroDARTS(0.1)
ALPHA = torch.tensor([0.3, -0.2, 0.1], dtype=torch.float64)


def close(a: Tensor, b: Tensor, tolerance: float = 1e-9) -> bool:
    return torch.allclose(a, b, rtol=tolerance, atol=tolerance * float(b.abs().max()))


def test_curvatures_are_the_eigenvalues_of_the_inner_hessian():
    found = accuracy.curvatures(Quadratic2D(), torch.zeros(2, dtype=torch.float64))
    assert close(found, torch.linalg.eigvalsh(Quadratic2D().constants[0]))
    assert close(accuracy.curvatures(MICRO, ALPHA)[:1], torch.tensor([0.1], dtype=torch.float64), 0.1)


def test_k_terms_leave_the_predicted_share_of_the_response_on_the_sine():
    errors, seconds = accuracy.by_steps({"sine": Sine(0.3)}, seed=0, most=8)
    found = errors.set_index(["method", "K"])["relative_error"].to_dict()
    for k in (1, 2, 3, 5, 8):
        assert found["Neumann, K terms", k] == pytest.approx(0.5**k, rel=1e-9)
        assert found["predicted", k] == pytest.approx(0.5**k, rel=1e-9)
        assert found["none (first-order DARTS)", k] == 1
        assert found["conjugate gradient", k] < 1e-12
    assert set(seconds["method"]) == set(accuracy.METHODS) and min(seconds["seconds"]) > 0
    assert "seconds" not in errors


def test_counted_gradients_are_those_a_method_computes(monkeypatch):
    """Counted by evaluations of the losses: a gradient is one; a product is one more with two backward passes."""
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
    for name, method in accuracy.METHODS.items():
        calls.clear()
        method.hypergradient(problem, w, a, 0.1, 3)
        if name == "conjugate gradient":
            continue  # one curvature: ends after the first of three iterations
        assert len(calls) + 2 * products.get(name, 0) == method.gradients(3), name


def test_peak_bytes_equal_a_count_by_hand():
    x, there = torch.ones(1000), torch.ones(500).requires_grad_()
    assert peak_bytes(lambda: there.detach().view(5, 100)) == 0, "views of existing tensors"
    assert peak_bytes(lambda: x + 1 + 1 + 1) == 2 * 4000, "the third is created when the first is freed"
    assert peak_bytes(lambda: (x + 1, x + 2, x + 3)) == 3 * 4000, "all are kept"
    assert peak_bytes(lambda: there.exp().exp().exp()) == 3 * 2000, "each is saved for its backward pass"


@pytest.mark.parametrize("name", accuracy.METHODS)
def test_peak_bytes_equal_those_of_the_profiler(name, tmp_path):
    call = accuracy.calls(MICRO, ALPHA, 0.05, [3])[name, 3]
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        call()
    profiled.export_chrome_trace(str(tmp_path / "trace.json"))
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    alive, peak = {}, 0
    for event in sorted((e for e in events if e["name"] == "[memory]"), key=lambda e: e["ts"]):
        alive[event["args"]["Addr"]] = max(0, event["args"]["Bytes"])  # below 0: freed
        peak = max(peak, sum(alive.values()))
    assert peak_bytes(call) == peak > 0


def test_memory_grows_by_one_w_per_step_in_unrolling_only():
    peak = accuracy.memory({"micro": MICRO}, seed=0, most=8).set_index(["method", "K"])["kilobytes"].to_dict()
    assert peak["unrolled, K steps from 0", 8] - peak["unrolled, K steps from 0", 3] == pytest.approx(
        5 * 640 * 8 / 1000
    )
    for name in ("Neumann, K terms", "conjugate gradient"):
        assert peak[name, 8] == peak[name, 3] < peak["unrolled, K steps from 0", 3]
    assert {method for method, _ in peak} == set(accuracy.METHODS)


def test_error_over_the_step_size_equals_its_closed_form():
    table = accuracy.over_step_size([0.5, 1.5, 2.5], [1, 2])
    found = table.set_index(["method", "step_size"])["relative_error"].to_dict()
    for k in (1, 2):
        for xi in (0.5, 1.5, 2.5):
            assert found[f"K = {k}", xi] == pytest.approx(abs(1 - xi) ** k)
    assert found["K = 1", 2.5] > found["none", 2.5]


def test_simplex_grid_respects_its_margin():
    shares = accuracy.simplex(6).softmax(1)
    assert len(shares) == 28
    assert close(shares.sum(1), torch.ones(28, dtype=torch.float64))
    assert shares.min() == pytest.approx(0.01) and shares.max() == pytest.approx(0.98)


def test_table_over_the_simplex_agrees_with_the_methods():
    table = accuracy.over_the_simplex(MICRO, 0.05, side=2)
    for alpha, row in zip(accuracy.simplex(2), table.to_dict("records"), strict=True):
        w, truth = MICRO.best_response(alpha), MICRO.exact_hypergradient(alpha).total
        one = agreement(methods.neumann(MICRO, w, alpha, None, None, 0.05, 1).total, truth)
        none = agreement(methods.direct(MICRO, w, alpha, None).total, truth)
        assert row["one step"] == pytest.approx(one["relative_error"], rel=1e-8)
        assert row["none"] == pytest.approx(none["relative_error"], rel=1e-8)
        assert row["cosine of none"] == pytest.approx(none["cosine"], abs=1e-9)
        assert row["retrained"] == pytest.approx(float(retrained_loss(MICRO, alpha)))


def test_error_over_epsilon_is_zero_for_squares_and_quadratic_for_cross_entropy():
    problems = {"squares": MICRO, "cross entropy": accuracy.CrossEntropy(MICRO)}
    table = (
        accuracy.over_epsilon(problems, 0, [1e-3, 1e-2])
        .set_index(["problem", "what", "epsilon"])["relative_error"]
        .to_dict()
    )
    assert table["squares", "float64", 1e-2] < 1e-10
    coarse, fine = (table["cross entropy", "float64", epsilon] for epsilon in (1e-2, 1e-3))
    assert coarse == pytest.approx(100 * fine, rel=0.01)
    assert table["squares", "float32", 1e-2] > table["squares", "float64", 1e-2]
    assert table["squares", "wrong formula, float64", 1e-2] > 0.99


def test_descent_along_the_exact_hypergradient_reaches_the_optimum():
    problem = Quadratic2D()
    begin = torch.tensor([-1.0, 1.5], dtype=torch.float64)
    path = accuracy.descend(problem, lambda w, a: problem.exact_hypergradient(a), begin, 300, 0.05)
    assert len(path) == 301 and torch.equal(path[0], begin)
    a, b, (t, s) = problem.constants
    j = torch.linalg.solve(a, b)  # w* = J alpha
    assert close(path[-1], torch.linalg.solve(j.T @ j + torch.eye(2).to(j), j.T @ t + s), 1e-3)


def test_neumann_terms_approach_the_exact_hypergradient_or_diverge():
    rows, truth = accuracy.approach([1.0, 2.2], 30, seed=0)
    found = torch.tensor(rows[list(accuracy.COMPONENTS)].values.tolist(), dtype=torch.float64).view(2, 31, 2)
    safe, wild = (found - torch.tensor(truth, dtype=torch.float64)).norm(dim=2).tolist()
    w = Quadratic2D().best_response(alpha := accuracy.start(Quadratic2D(), 0))
    none = methods.direct(Quadratic2D(), w, alpha, None).total - torch.tensor(truth)
    assert safe[0] == wild[0] == pytest.approx(float(none.norm()))
    assert safe[30] < 1e-5 < safe[10] and wild[30] > 10 * wild[0]


@pytest.mark.parametrize("problem", [Sine(0.3), RidgeDigits(), MICRO], ids=lambda p: type(p).__name__)
def test_quadratic_is_the_inner_loss(problem):
    alphas = torch.linspace(-1, 1, 2 * max(1, math.prod(problem.alpha_shape)), dtype=torch.float64).view(2, -1)
    gram, cross = local.quadratic(problem, alphas)
    for alpha, g, c in zip(alphas, gram, cross, strict=True):
        assert close(torch.linalg.solve(g, c).flatten(), problem.best_response(alpha), 1e-8)


@pytest.mark.parametrize("sigma", [0.1, 1.0])
def test_converged_slope_on_the_sine_is_too_flat_by_a_known_factor(sigma):
    at = torch.tensor(0.8, dtype=torch.float64)
    slope, offset = local.converged(Sine(0.3), at, sigma)
    assert float(slope) == pytest.approx(-math.cos(0.8) * math.exp(-(sigma**2) / 2), rel=1e-6)
    assert float(offset) == pytest.approx(-math.sin(0.8) * math.exp(-(sigma**2) / 2), rel=1e-6)


def test_bias_is_of_order_sigma_squared():
    table = local.bias_over_sigma({"micro": MICRO}, {"micro": ALPHA}, [1e-3, 1e-2])
    small, large = table["relative_error"].tolist()
    assert small < 1e-5
    assert large / small == pytest.approx(100, rel=0.01)


def test_longer_training_with_antithetic_pairs_approaches_the_response():
    problem = MicroDARTS(1.0)
    short, long = (
        float(local.learned_over_sigma(problem, ALPHA, [0.2], steps, 0)["jacobian_error"].iloc[0])
        for steps in (20, 200)
    )
    without = torch.cat([torch.zeros(3 * 640).double(), problem.best_response(ALPHA)])
    none = local.errors_of(problem, ALPHA, without, local.response_jacobian(problem, ALPHA))
    assert long < 0.3 < short < none["jacobian_error"] == pytest.approx(1)


def test_without_noise_only_weight_decay_changes_the_jacobian_across_the_line():
    found = local.along_a_line(0, 0.2, 300)
    factor = local.shrinkage(300, 0.03, 3e-4)
    assert 0.9 < factor < 1
    for name in ("walk", "jumps"):
        assert close(found[name][:, 1:], factor * found["start"][:, 1:])
        assert not close(found[name][:, :1], factor * found["start"][:, :1], 0.1)
    error = {name: float((one - found["truth"]).norm() / found["truth"].norm()) for name, one in found.items()}
    assert error["walk + noise"] < 0.5 < error["walk"]
    assert error["walk + noise, centred"] < 0.5


def test_local_lines_of_figure_22_are_right_only_where_they_were_trained():
    grid = torch.tensor([-5.0, 1.0], dtype=torch.float64)
    table = local.figure_22(0, 5, (-2.0, 2.0), ((-5.0, 0.2), (1.0, 0.2)), grid)
    truth = table[table["kind"] == "retrained"].set_index("alpha")["inner"].to_dict()
    lines = table[table["kind"] == "local, linear"].set_index(["mean", "alpha"])["inner"].to_dict()
    for a in (-5.0, 1.0):
        assert lines[a, a] == pytest.approx(truth[a], rel=0.05)
        assert lines[a, -4 - a] > 1.5 * truth[-4 - a]


def test_parts_of_joint_runs_equal_those_of_the_methods():
    h, w = Linear(3, 640), MICRO.best_response(ALPHA) + 0.1
    for weights in (joint.GeneratedWeights(MICRO, h), joint.GeneratedWeights(MICRO, h, centred=True)):
        u = weights.start(3)
        found, truth = weights.parts(u, ALPHA), methods.hypernetwork(weights.problem(ALPHA), u, ALPHA, None)
        assert close(found[0], truth.direct) and close(found[1], truth.response)
        defined = methods.direct(weights.problem(ALPHA), u, ALPHA, None).total
        if not weights.centred:  # where alpha enters through the weights, this is the definition
            assert close(found[0] + found[1], defined)
    for weights, truth in (
        (joint.LearnedWeights(MICRO), methods.direct(MICRO, w, ALPHA, None)),
        (joint.LearnedWeights(MICRO, 0.05), methods.unrolled(MICRO, w, ALPHA, [None], None, 0.05)),
        (joint.RetrainedWeights(MICRO), MICRO.exact_hypergradient(ALPHA)),
    ):
        found = weights.parts(w, ALPHA)
        assert close(found[0], truth.direct) and close(found[0] + found[1], truth.total)


def test_centred_hypernetwork_keeps_its_weights_when_alpha_changes():
    weights, change = (
        joint.GeneratedWeights(MICRO, Linear(3, 640), centred=True),
        torch.tensor([0.1, 0.0, -0.2]).double(),
    )
    u = weights.start(0)
    before = weights.problem(ALPHA).weights(u, ALPHA + change)
    after = weights.problem(ALPHA + change).weights(weights.follow_alpha(u, change), ALPHA + change)
    assert close(after, before)


def test_zero_response_starts_from_the_read_out():
    weights = joint.GeneratedWeights(MICRO, Linear(3, 640), zero_response=True)
    u = weights.start(1)
    assert torch.equal(weights.problem(ALPHA).weights(u, ALPHA), joint.LearnedWeights(MICRO).start(1))
    assert weights.parts(u, ALPHA)[1].abs().max() == 0


def test_noise_depends_on_the_step_and_can_be_antithetic():
    pair = joint.noises(0.1, 0, 5, antithetic=True)
    assert torch.equal(pair[0], -pair[1]) and pair[0].abs().max() > 0
    assert torch.equal(pair[:1], joint.noises(0.1, 0, 5, antithetic=False))
    assert not torch.equal(pair, joint.noises(0.1, 0, 6, antithetic=True))


def test_runs_computed_together_equal_those_computed_alone():
    weights = joint.GeneratedWeights(MICRO, Linear(3, 640), centred=True, zero_response=True)
    together = joint.run_jointly(weights, tuple(joint.PARTS), [0, 1], 4, 0.1, antithetic=True)
    alone = joint.run_jointly(weights, ["response"], [1], 4, 0.1, antithetic=True)
    same = together.query("part == 'response' and seed == 1").reset_index(drop=True)
    numbers = [*accuracy.OPERATIONS, "retrained", "relative_error"]
    assert torch.allclose(torch.tensor(same[numbers].to_numpy()), torch.tensor(alone[numbers].to_numpy()), rtol=1e-9)
    assert list(same["step"]) == list(range(5))


def test_joint_run_with_the_exact_hypergradient_improves_monotonically():
    table = joint.compare_joint_runs(MicroDARTS(1.0), 0.1, [0], 20)
    assert len(set(table["method"])) == 7
    exact = table[table["method"] == "exact"]
    losses = exact["retrained"].tolist()
    assert losses == sorted(losses, reverse=True) and max(exact["relative_error"]) < 1e-9


def test_lines_through_the_sine_are_too_flat_with_much_noise_and_not_learned_with_little():
    rows = local.chords([0.02, 0.3, 1.0], 200, seed=0)
    ends = rows.groupby(["sigma", "line"])["weight"].agg(["first", "last"])
    slopes = {key: (last - first) / 3.6 for key, first, last in ends.itertuples(name=None)}
    tangent = -math.cos(0.8)
    for sigma in (0.02, 0.3, 1.0):
        assert slopes[sigma, "tangent"] == pytest.approx(tangent)
        assert slopes[sigma, "converged"] == pytest.approx(tangent * math.exp(-(sigma**2) / 2), rel=1e-6)
    assert abs(slopes[0.02, "200 steps"]) < 0.1 * abs(tangent)
    assert slopes[0.3, "200 steps"] == pytest.approx(slopes[0.3, "converged"], rel=0.05)
