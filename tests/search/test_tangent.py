"""The tangent form of a centred hypernetwork: its matrix becomes -H^-1 C, without a bias, at each stable step size."""

from typing import Any

import pytest
import torch
from helpers import small_runs
from helpers.hypergradient_problems import ILL_CONDITIONED, TOYS, Quadratic, draw, eye, near, setting
from torch import Tensor
from torch.func import grad, jacrev

from hdarts.hypernetwork import ByKind, Linear, LowRank
from hdarts.runs import checkpoint
from hdarts.runs.run import Run
from hdarts.search import search
from hdarts.search.tangent import TangentWeights
from hdarts.search.weights import SGDSettings
from hdarts.space import DARTS
from hdarts.supernet import Supernet

PLAIN = SGDSettings(momentum=0.0, decay=0.0, clip=1e9)


class Whole:
    """A toy, whose weights are all generated, as the problem of a search."""

    def __init__(self, toy: Any) -> None:
        self.toy = toy

    def outcome(self, w: Tensor, alpha: Tensor, batch: Any) -> tuple[Tensor, Tensor]:
        return self.toy.inner(w, alpha, None), torch.zeros(())


def weights_of(w: Tensor, matrix: Tensor, settings: SGDSettings = PLAIN, factor: float = 1.0) -> TangentWeights:
    """Return centred weights at alpha, w + matrix (a - alpha), with alpha of shape (1, n)."""
    h = ByKind([Linear(matrix.shape[1], len(w))])
    return TangentWeights(h, torch.cat([matrix.flatten(), w]), w[:0].clone(), settings, factor)


def matrix_of(weights: TangentWeights) -> Tensor:
    layer = weights.hypernetwork.hypernetworks[0].output_layer(weights.phi)
    assert layer is not None
    return layer[0]


def dense(toy: Any, w: Tensor, alpha: Tensor) -> tuple[Tensor, Tensor]:
    h, c = jacrev(grad(toy.inner), (0, 1))(w, alpha, None)
    return h.reshape(len(w), -1), c.reshape(len(w), -1)


def train(weights: TangentWeights, toy: Any, alpha: Tensor, steps: int, rate: float) -> Tensor:
    for step in range(steps):
        weights.step(Whole(toy), alpha, (), rate, draw(*alpha.shape, purpose=f"e {step}"))
    return matrix_of(weights)


@pytest.mark.parametrize("toy", [*TOYS, ILL_CONDITIONED], ids=repr)
def test_the_response_is_a_fixed_point_and_each_step_is_its_formula(toy: Any) -> None:
    alpha, best, w = setting(toy)
    row = alpha.reshape(1, -1)
    h, c = dense(toy, best, alpha)
    response = -torch.linalg.solve(h, c)
    near(train(weights_of(best, response), toy, row, 3, 0.1), response)
    settings, matrix = SGDSettings(0.9, 0.01, 0.5, nesterov=True), draw(*c.shape, purpose="W")
    weights, velocity = weights_of(w, matrix.clone(), settings, 0.3), torch.zeros_like(matrix)
    for step in range(2):
        b = weights.value(row)
        h, c = dense(toy, b, alpha)
        scale = min(1.0, 0.5 / (float(grad(toy.inner)(b, alpha, None).norm()) + 1e-6))
        e = (e := draw(*row.shape, purpose=f"e {step}").flatten()) / e.norm()
        slope = 0.3 * torch.outer(scale * (h @ matrix @ e + c @ e) + 0.01 * matrix @ e, e)
        velocity = 0.9 * velocity + slope
        matrix = matrix - 1e-3 * (slope + 0.9 * velocity)
        near(train_one(weights, toy, row, step), matrix)


def train_one(weights: TangentWeights, toy: Any, alpha: Tensor, step: int) -> Tensor:
    weights.step(Whole(toy), alpha, (), 1e-3, draw(*alpha.shape, purpose=f"e {step}"))
    return matrix_of(weights)


@pytest.mark.parametrize(("rate", "momentum", "decay"), [(0.9, 0.0, 0.0), (0.3, 0.0, 0.0), (0.4, 0.5, 0.3)])
def test_the_response_is_learned_without_bias_at_each_stable_step_size(rate, momentum, decay) -> None:
    toy = Quadratic(4, (1, 3))  # its largest eigenvalue is 2
    weights = weights_of(toy.w, torch.zeros(4, 3).double(), SGDSettings(momentum, decay, 1e9), 1 - momentum)
    near(train(weights, toy, toy.alpha, 700, rate), -torch.linalg.solve(toy.hessian + decay * eye(4), toy.cross))


def test_a_step_size_that_diverges_is_named_with_its_limit() -> None:
    toy = Quadratic(4, (1, 3))
    with pytest.raises(FloatingPointError, match=r"= 1\.5 has to be below 2 \(1 - momentum\) / curvature = 1(\.\d+)?$"):
        best = -torch.linalg.solve(toy.hessian, toy.cross @ toy.alpha.flatten())
        train(weights_of(best, torch.zeros(4, 3).double()), toy, toy.alpha, 400, 1.5)


def test_a_low_rank_response_steps_both_factors_and_no_bias() -> None:
    toy = Quadratic(4, (1, 3))
    h = LowRank(3, 4, 2)
    phi, e = draw(h.n_phi, purpose="phi"), draw(1, 3, purpose="e 0")
    v, u, b = phi[:6].view(2, 3), phi[6:14].view(4, 2), phi[14:]
    weights = TangentWeights(ByKind([h]), phi.clone(), b[:0].clone(), PLAIN, 0.3)
    weights.step(Whole(toy), toy.alpha, (), 0.1, e)
    e = (e / e.norm()).flatten()
    r = 0.3 * (toy.hessian @ u @ v @ e + toy.cross @ e)
    g = toy.hessian @ b + toy.cross @ toy.alpha.flatten()
    changes = torch.cat([torch.outer(u.T @ r, e).flatten(), torch.outer(r, v @ e).flatten(), g])
    near(weights.phi, phi - 0.1 * changes)


def test_while_alpha_is_frozen_the_weights_are_those_of_darts(tmp_path, monkeypatch) -> None:
    """And the response has learned something, which moves them once alpha moves."""
    monkeypatch.setenv("HDARTS_RUNS", str(tmp_path))
    tangent = {"method": "hypernetwork", "centred": True, "response_update": "tangent"}
    tangent |= {"initialisation": "zero-response"}
    kept = []
    for changes in ({"method": "darts-first"}, tangent):
        short = {"epochs": 2, "warmup_epochs": 1, "noise": 0.0, "run": changes["method"], **changes}
        run = Run.open(small_runs.params({**small_runs.SEARCH, **short}))
        assert len(list(search(run.params, run))) == 2  # type: ignore[arg-type]
        kept.append(checkpoint.read(run.folder / "checkpoint.epoch-1.pt")["weights"])
    darts, generated = kept
    net = Supernet(DARTS, 2, 3, 10)
    h = ByKind([Linear(DARTS.n_alpha, n) for n in net.n_cell_w])
    layers = [part.output_layer(phi) for part, phi in zip(h.parts, h.split_phi(generated["phi"]), strict=True)]
    biases, matrices = [layer[1] for layer in layers if layer], [layer[0] for layer in layers if layer]
    torch.testing.assert_close(torch.cat([*biases, generated["rest"]]), darts["w"], rtol=1e-4, atol=1e-5)
    assert min(float(matrix.abs().max()) for matrix in matrices) > 1e-5
