"""Tables of notebook 09: predictions that have no free number, costs, and learners that leave the search alone."""

import itertools
import math
import re
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from helpers.hypergradient_problems import Quadratic, eye, near
from torch.func import grad, jacrev

from hdarts import hypergradient as hg
from hdarts.runs.randomness import generator
from hdarts.space import DARTS, NASBENCH201, SearchSpace
from hdarts.supernet import Supernet
from hdarts.workbook.analysis import relatives, response
from hdarts.workbook.analysis.response import frozen, moving
from hdarts.workbook.analysis.response.frozen import Some, Tilted, read_snapshot
from hdarts.workbook.analysis.response.learners import GRAPH, LEARNERS, TANGENT, Structure, hold
from hdarts.workbook.analysis.response.methods import AMORTISED, NEUMANN, Held, learned
from hdarts.workbook.analysis.response.toy import KnownSpectrum, tangent_curve, tangent_steps

TINY: dict[str, Any] = {"data": "generated", "limit": 80, "batch_size": 20, "channels": 2, "space": "nasbench201"}
TINY |= {"method": "darts-first", "epochs": 1, "crop_padding": 0}


def held(toy: KnownSpectrum) -> Held:
    w = toy.best_response(toy.alpha)
    truth = (toy.jacobian(toy.alpha).T @ toy.slope(toy.alpha)).view_as(toy.alpha)
    return Held(toy, w, toy.alpha, truth, lambda step: None, None, 1.0, toy, 0.0, 0)


def test_the_toy_has_the_response_that_its_losses_have():
    toy = KnownSpectrum(3)
    w, q = toy.best_response(toy.alpha), toy.constants[3]
    assert grad(toy.inner)(w, toy.alpha).norm() < 1e-12
    h, c = jacrev(grad(toy.inner), (0, 1))(w, toy.alpha)
    near(torch.linalg.eigvalsh(h), toy.constants[0])
    near(q @ toy.jacobian(toy.alpha), -torch.linalg.solve(h, c.view(toy.n_w, 3)))
    near(hg.exact(toy, w, toy.alpha, None, None).response, held(toy).truth)


def test_the_tangent_form_of_the_toy_is_that_of_a_search():
    toy, source = KnownSpectrum(4), generator(7, "directions", 4)
    problem = held(toy)
    weights = LEARNERS[TANGENT].start(problem.w, Structure.plain(len(problem.w), 4), 0)
    for _ in range(6):
        e = torch.randn(4, 1, generator=source, dtype=torch.float64)
        weights.step(problem, toy.alpha, None, 0.5, e.view(1, 4))  # type: ignore[arg-type]
        hold(weights, toy.alpha, problem.w)
    layer = weights.hypernetwork.hypernetworks[0].output_layer(weights.phi)
    assert layer is not None
    near(toy.constants[3].T @ layer[0], toy.jacobian(toy.alpha) + tangent_steps(toy, (0.25, 0.5), 6, 7)[-1, 1])


@pytest.mark.parametrize("n_alpha", [1, 5])
def test_predicted_errors_are_the_mean_of_those_measured(n_alpha: int) -> None:
    toy = KnownSpectrum(n_alpha)
    truth = toy.jacobian(toy.alpha).square().sum()
    measured = [tangent_steps(toy, (1.5,), 8, seed)[-1, 0].square().sum() / truth for seed in range(150)]
    assert math.sqrt(sum(map(float, measured)) / 150) == pytest.approx(tangent_curve(toy, 1.5, [8])[0], rel=0.04)


def test_steps_grow_with_the_number_of_alphas_and_the_stable_normal_step_shrinks():
    _, best = response.over_n_alpha([3, 12, 48], 400, 0)
    steps = best["steps"].tolist()
    assert steps == sorted(steps) and 8 < steps[2] / steps[0] < 32
    assert max(best["adjoint"]) < 8
    (diverged, _) = response.over_n_alpha([3], 5, 0)
    assert set(diverged["steps"]) == {1, 2, 3, 4, 5}


def test_methods_on_the_toy_have_their_costs_and_their_known_errors():
    rows = response.over_cost([2], 200, 0)
    last = rows.groupby("method").last()
    cost = rows["gradients"] / rows["steps"]
    assert set(cost[rows["method"] == TANGENT]) == {3} and set(cost[rows["method"] == AMORTISED]) == {4}
    series = rows.loc[rows["method"] == NEUMANN, ["gradients", "relative_error"]].to_numpy()
    expected = rows.loc[rows["method"] == f"{NEUMANN}, predicted", ["gradients", "relative_error"]].to_numpy()
    np.testing.assert_allclose(series, expected, rtol=1e-6, atol=1e-9)
    assert last.loc["conjugate gradient", "relative_error"] < 1e-9
    assert last.loc["centred, σ = 1", "relative_error"] == pytest.approx(1 - math.exp(-0.5), abs=0.1)
    assert last.loc[TANGENT, "relative_error"] < 0.1
    assert last.loc["trajectory only", "relative_error"] > 0.3


def test_a_tilted_problem_has_its_minimum_at_the_weights_and_the_same_mixed_derivatives():
    toy, damping = Quadratic(4, (2,)), 0.3
    tilt = grad(toy.inner)(toy.w, toy.alpha, None)
    problem = Tilted(toy, toy.w, tilt, damping)
    assert grad(problem.inner)(toy.w, toy.alpha, None).norm() < 1e-12
    q = torch.linalg.solve(toy.hessian + damping * eye(4), toy.v)
    near(hg.exact(problem, toy.w, toy.alpha, [None, None], None).response, toy.response(q))


def test_a_frozen_supernet_has_an_exact_response_that_solvers_approach(tmp_path, monkeypatch):
    monkeypatch.setenv("HDARTS_RUNS", str(tmp_path))
    monkeypatch.setattr(frozen, "POOL", 2)
    run = relatives.short("mine", TINY | {"keep_epochs": [1]})
    problem, numbers = response.frozen_supernet(run, 0, 8)
    assert numbers["residual"] < 1e-3 and numbers["damping"] > 0 and numbers["n_alpha"] == 30
    table = response.on_a_frozen_supernet(problem, 8)
    assert set(table["method"]) >= {*LEARNERS, NEUMANN, AMORTISED, "Nyström", "conjugate gradient"}
    assert np.isfinite(table["relative_error"].to_numpy()).all()
    assert torch.equal(problem.w, read_snapshot(run, 0, 8).w)


def test_a_frozen_supernet_of_the_darts_space_has_a_response_to_both_kinds_of_cell(tmp_path, monkeypatch):
    monkeypatch.setenv("HDARTS_RUNS", str(tmp_path))
    monkeypatch.setattr(frozen, "POOL", 1)
    run = relatives.short("mine", TINY | response.SUPERNETS["darts"] | {"keep_epochs": [1], "stop_when_skips": 0})
    problem, numbers = response.frozen_supernet(run, 0, 8)
    at, truth = problem.structure, problem.truth
    assert at is not None and at.n_all == numbers["n_alpha"] == 224 and numbers["weights"] == len(problem.w)
    assert numbers["residual"] <= 1e-5 and truth.shape == problem.alpha.shape == (2, 14, 8)
    assert truth.flatten(1).norm(dim=1).min() > 0.01 * truth.norm()
    assert truth.sum(2).abs().max() < 1e-4 * truth.abs().max()  # alpha acts through a softmax
    rows = pd.DataFrame(learned(problem, 1, LEARNERS))
    assert set(rows["method"]) == set(LEARNERS) and np.isfinite(rows["relative_error"].to_numpy()).all()


def test_what_learns_beside_a_search_does_not_change_it(tmp_path, monkeypatch):
    monkeypatch.setenv("HDARTS_RUNS", str(tmp_path))
    monkeypatch.setattr(moving, "CURVATURES", (100.0,))
    alone = relatives.short("alone", TINY)
    rows, run = response.beside_a_search("beside", TINY, 1, 2, 1.0)
    for name in ("alpha.csv", "metrics.csv", "hypergradients.csv"):
        assert (alone.folder / name).read_bytes() == (run.folder / name).read_bytes()
    assert set(rows["step"]) == {1, 2} and np.isfinite(rows["relative_error"].to_numpy()).all()
    assert GRAPH in set(rows["method"])
    means: Any = response.mean_agreement(rows)
    for _, of_slope in means.groupby("slope"):
        assert of_slope["method"].is_unique and of_slope["cosine"].is_monotonic_decreasing
    assert len(set(means["slope"])) == 2
    half = rows[(rows["method"] == "half the unrolling") & (rows["slope"] == "one batch")]["cosine"].tolist()
    found: Any = means[(means["method"] == "half the unrolling") & (means["slope"] == "one batch")]["cosine_error"]
    assert found.item() == pytest.approx(abs(half[0] - half[1]) / 2)
    kept: Any = rows[(rows["method"] == AMORTISED) & (rows["step"] == 2)]
    assert kept["cosine"].nunique() == 2  # before the first step the adjoint is 0, and has no direction


def test_the_slope_of_several_outer_batches_is_their_mean() -> None:
    toy = Quadratic(4, (2,))

    class Scaled:
        inner = staticmethod(toy.inner)

        def outer(self, w: Any, alpha: Any, batch: float) -> Any:
            return batch * toy.outer(w, alpha, None)

    several = hg.neumann(moving.Averaged(Scaled()), toy.w, toy.alpha, None, [1.0, 2.0, 6.0], 0.1, 2)
    near(several.total, 3 * hg.neumann(toy, toy.w, toy.alpha, None, None, 0.1, 2).total)


@pytest.mark.parametrize("space", [NASBENCH201, DARTS], ids=["nasbench201", "darts"])
def test_the_structure_of_a_supernet_has_each_convolution_at_its_edge(space: SearchSpace) -> None:
    net = Supernet(space, 2, 3, 10)
    at = Structure.of(net)
    assert at.n_all == space.n_alpha * len(space.kinds) and sum(map(sum, at.sizes)) + at.rest == net.n_w
    assert list(itertools.chain(*at.sizes)) == net.layout.sizes[: sum(map(len, at.sizes))]
    names = list(net.unpack(torch.zeros(net.n_w)))
    places = [re.match(r"cells\.\d+\.(\d)-(\d)\.", name) for name in names]
    edges = [(int(place[1]), int(place[2])) for place in places if place]
    assert [at.edges[place] for place in itertools.chain(*at.places)] == edges


@pytest.mark.parametrize("name", LEARNERS)
def test_a_held_hypernetwork_generates_the_weights_for_both_kinds_of_cell(name: str) -> None:
    net, one = Supernet(DARTS, 2, 3, 10), LEARNERS[name]
    w, alpha = net.initial_w(generator(0, "w")), 0.1 * torch.randn(DARTS.alpha_shape, generator=generator(0, "alpha"))
    alpha = alpha if one.by_kind else alpha.view(1, -1)
    weights = one.start(w, Structure.of(net), 0)
    hold(weights, alpha, w)
    assert (weights.value(alpha) - w).abs().max() < 1e-5
    starts_at_none = name == TANGENT or "centred" in name
    assert (weights.response(alpha, w).norm() == 0) == starts_at_none


def test_some_of_the_alphas_have_that_part_of_the_response_and_the_others_stay() -> None:
    toy, chosen = KnownSpectrum(5), torch.tensor([4, 1])
    problem = held(toy)
    part = Some(toy, toy.alpha, chosen)
    found = hg.exact(part, problem.w, toy.alpha[:, chosen], None, None)
    near(found.response, problem.truth[:, chosen])
    near(part.outer(problem.w, toy.alpha[:, chosen], None), toy.outer(problem.w, toy.alpha))
    table = pd.DataFrame(learned(problem, 30, [TANGENT], n_alpha=5))
    rows = response.over_some_alphas(problem, [2, 5, 9], table)
    assert set(rows["alphas"]) == {"2 alphas", "5 alphas"} and set(rows["measure"]) == {"cosine", "relative error"}
    last = rows[(rows["measure"] == "relative error") & (rows["steps"] == 10)].set_index("alphas")
    assert last.loc["2 alphas", "cosine_or_relative_error"] < last.loc["5 alphas", "cosine_or_relative_error"] < 1


@pytest.mark.parametrize("damping", [0.0, 0.2])
def test_solvers_end_at_the_inverse_and_begin_at_nothing(damping: float):
    def of(steps: int) -> pd.DataFrame:
        return response.in_place_of_inverse(steps, damping).pivot(index="curvature", columns="solver", values="factor")

    none, one, many = of(0), of(1), of(400)
    exact = 1 / (many.index.to_numpy() + damping)
    assert many["exact, damped"].to_numpy() == pytest.approx(exact, rel=1e-12)
    for solver in ("Neumann series", "conjugate gradient"):
        assert none[solver].to_numpy() == pytest.approx(np.zeros(len(exact)))
        assert one[solver].to_numpy() == pytest.approx(one[solver].to_numpy()[0], rel=1e-9), "a multiple of v"
        assert many[solver].to_numpy() == pytest.approx(exact, rel=1e-6)
