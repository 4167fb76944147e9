"""The factored step equals `clip_grad_norm_` and `torch.optim.SGD` on the full gradients of autograd."""

import math

import pytest
import torch
from torch import Tensor

from hdarts.hypernetwork import ACTIVATIONS, MLP, Chunked, Graph, Linear, LowRank
from hdarts.kernels import output_layer
from hdarts.kernels.output_layer import Dense, Factored, SegmentedLinear, clip_factor, sgd_
from hdarts.runs.randomness import generator

N_ALPHA, SIZES, STEPS = 5, (9, 2, 14), 200
RATE, MOMENTUM, DECAY, CLIP = 0.02, 0.9, 3e-3, 1.5
SHAPES = ((4, 1, 3, 3), (4, 4, 1, 1))
HYPERNETWORKS = {
    "linear": Linear(N_ALPHA, sum(SIZES)),
    "linear without bias": Linear(N_ALPHA, sum(SIZES), bias=False),
    "low rank": LowRank(N_ALPHA, sum(SIZES), 2),
    **{f"shared {name}": MLP(N_ALPHA, SIZES, 4, name) for name in ACTIVATIONS},
    **{f"for each convolution, {name}": MLP(N_ALPHA, SIZES, 4, name, shared=False) for name in ACTIVATIONS},
    "chunked": Chunked(N_ALPHA, SHAPES, 3),
    "graph": Graph(N_ALPHA, SIZES, ((0, 1),), (0, 0, 0), 4, 1),
}

every = pytest.mark.parametrize("h", HYPERNETWORKS.values(), ids=HYPERNETWORKS)


@pytest.fixture
def in_pytorch(monkeypatch) -> None:
    """The implementation without a C compiler, in several blocks of rows."""
    monkeypatch.setattr(output_layer, "load_kernel", lambda *_: None)
    monkeypatch.setattr(output_layer, "ROWS", 4)


@pytest.fixture(params=["output_layer.c", "PyTorch"])
def implementation(request) -> None:
    """Both implementations of a layer."""
    if request.param == "PyTorch":
        request.getfixturevalue("in_pytorch")


class Problem:
    """Fit w = [h(phi, a) | rest] to a target that changes at each step; large gradients are clipped."""

    def __init__(self, h, antithetic: bool, nesterov: bool):
        self.h, self.draw, self.antithetic, self.nesterov = h, generator(0, "factored"), antithetic, nesterov
        self.phi = h.initial_phi(self.draw).double()
        self.rest = torch.randn(3, generator=self.draw, dtype=torch.float64)

    def inputs(self) -> list[Tensor]:
        """Return the inputs of a step: one, or an antithetic pair."""
        alpha, noise = (torch.randn(N_ALPHA, generator=self.draw, dtype=torch.float64) for _ in range(2))
        return [alpha + noise, alpha - noise] if self.antithetic else [alpha]

    def target(self) -> tuple[Tensor, Tensor]:
        """Return a target and the weight of its loss; the gradient is clipped for large weights only."""
        target = torch.randn(self.h.n_weights + 3, generator=self.draw, dtype=torch.float64)
        return target, torch.rand((), generator=self.draw, dtype=torch.float64)

    def by_torch(self, phi: Tensor, rest: Tensor) -> list[float]:
        """Take `STEPS` steps in place; return the norms before clipping."""
        free = [phi.requires_grad_(), rest.requires_grad_()]
        optimiser = torch.optim.SGD(free, RATE, MOMENTUM, weight_decay=DECAY, nesterov=self.nesterov)
        norms = []
        for _ in range(STEPS):
            inputs, (target, weight) = self.inputs(), self.target()
            optimiser.zero_grad()
            for a in inputs:
                error = torch.cat([self.h(phi, a), rest]) - target
                (weight * error.square().add(1).log().sum() / len(inputs)).backward()
            norms.append(float(torch.nn.utils.clip_grad_norm_(free, CLIP)))
            optimiser.step()
        for value in free:
            value.requires_grad_(False)
        return norms

    def by_factors(self, phi: Tensor, rest: Tensor, velocities: list[Tensor]) -> list[float]:
        norms = []
        for _ in range(STEPS):
            inputs, (target, weight) = self.inputs(), self.target()
            gradient, of_rest = None, torch.zeros_like(rest)
            for a in inputs:
                error = torch.cat([self.h(phi, a), rest]) - target
                g = weight * 2 * error / (1 + error.square()) / len(inputs)
                one = self.h.gradient(phi, a, g[: len(g) - 3])
                gradient = one if gradient is None else gradient.plus(one)  # type: ignore[attr-defined]
                of_rest += g[len(g) - 3 :]
            assert gradient is not None
            norm, scale = clip_factor([gradient.squared_norm(), of_rest.square().sum()], CLIP)
            gradient.step_(phi, velocities[0], scale, RATE, MOMENTUM, DECAY, self.nesterov)
            sgd_(rest, velocities[1], of_rest, scale, RATE, MOMENTUM, DECAY, self.nesterov)
            norms.append(float(norm))
        return norms


def close(a, b) -> None:
    torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


@every
@pytest.mark.parametrize(("antithetic", "nesterov"), [(False, False), (True, False), (False, True)])
def test_two_hundred_steps_equal_those_of_torch(h, antithetic: bool, nesterov: bool, implementation):
    plain, ours = Problem(h, antithetic, nesterov), Problem(h, antithetic, nesterov)
    expected = plain.by_torch(plain.phi, plain.rest)
    norms = ours.by_factors(ours.phi, ours.rest, [torch.zeros_like(ours.phi), torch.zeros_like(ours.rest)])
    close(torch.tensor(norms), torch.tensor(expected))
    close(ours.phi, plain.phi)
    close(ours.rest, plain.rest)
    assert min(expected) < CLIP < max(expected)  # some steps were clipped, some were not


def dense(gradient: Factored) -> Tensor:
    """Return the full gradient [trunk | W | b]."""
    rows = torch.repeat_interleave(gradient.z, torch.tensor(gradient.layer.sizes), dim=1)  # (k, rows, width)
    parts = [gradient.trunk, (gradient.g.unsqueeze(-1) * rows).sum(0).flatten()]
    return torch.cat([*parts, gradient.g.sum(0)] if gradient.layer.bias else parts)


@pytest.mark.parametrize("sizes", [(7,), (4, 1, 6)], ids=str)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("terms", [1, 2])
@pytest.mark.parametrize("width", [3, 5])
def test_norm_and_step_equal_those_of_the_full_gradient(sizes, bias: bool, terms: int, width: int, implementation):
    draw = generator(1, "factored")
    layer = SegmentedLinear(sizes, width, bias)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=draw, dtype=torch.float64)

    factors = [Factored(layer, normal(2), normal(1, layer.rows), normal(1, len(sizes), width)) for _ in range(terms)]
    total = factors[0] if terms == 1 else factors[0].plus(factors[1])
    full = sum((dense(gradient) for gradient in factors), torch.zeros(()))
    close(dense(total), full)
    assert math.isclose(float(total.squared_norm()), float(full.square().sum()), rel_tol=1e-12)
    ends = []
    for gradient in (total, Dense(full)):
        phi, velocity = torch.ones_like(full), torch.full_like(full, 0.5)
        gradient.step_(phi, velocity, torch.tensor(0.7).double(), RATE, MOMENTUM, DECAY)
        ends.append(torch.cat([phi, velocity]))
    close(*ends)


def test_clipping_equals_that_of_torch_on_both_sides_of_the_limit():
    for size in (0.1, 1.0, 40.0):
        parameter = torch.zeros(4, dtype=torch.float64, requires_grad=True)
        parameter.grad = torch.full((4,), size, dtype=torch.float64)
        norm = torch.nn.utils.clip_grad_norm_([parameter], CLIP)
        squares = torch.tensor([3 * size**2, size**2], dtype=torch.float64)
        ours, factor = clip_factor(list(squares), CLIP)
        close(ours, norm)
        close(size * factor.expand(4), parameter.grad)


@pytest.fixture
def compiler() -> None:
    """Skip the test where output_layer.c cannot be compiled."""
    if SegmentedLinear((1,), 4).kernel(torch.zeros(1)) is None:
        pytest.skip("there is no C compiler (with OpenMP) here: PyTorch's implementation is the only one")


def layer_and_tensors(sizes: tuple[int, ...], width: int, bias: bool, dtype: torch.dtype) -> tuple:
    """A layer, its parameters and velocity, two input vectors per segment and two gradients in the outputs."""
    layer, draw = SegmentedLinear(sizes, width, bias), generator(2, "factored")
    shapes = [(layer.n_parameters,), (layer.n_parameters,), (2, len(sizes), width), (2, layer.rows)]
    return layer, *(torch.randn(shape, generator=draw, dtype=dtype) for shape in shapes)


@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize("width", [4, 5, 8, 15, 16, 17, 30, 32, 56, 112])  # with and without a partial vector
@pytest.mark.parametrize("sizes", [(1,), (37,), (5, 1, 0, 11)], ids=str)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_the_compiled_layer_equals_that_of_pytorch(width: int, sizes, bias: bool, threads: int, monkeypatch):
    layer, parameters, velocity, z, g = layer_and_tensors(sizes, width, bias, torch.float64)

    scale, out = torch.tensor(0.7, dtype=torch.float64), torch.empty(layer.rows, dtype=torch.float64)

    def all_three() -> list[Tensor]:
        updated, speed = parameters.clone(), velocity.clone()
        for nesterov in (False, True):
            layer.step_(updated, speed, g, z, scale, RATE, MOMENTUM, DECAY, nesterov)
        layer.write(parameters, z[0], out)
        return [out.clone(), layer.vjp(parameters, g[0]), updated, speed]

    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    compiled = all_three()
    assert all(map(torch.equal, compiled, all_three()))  # the same bits again
    monkeypatch.setattr(output_layer, "load_kernel", lambda *_: None)
    for ours, torchs in zip(compiled, all_three(), strict=True):
        torch.testing.assert_close(ours, torchs, rtol=1e-12, atol=1e-12)


@pytest.mark.usefixtures("compiler")
def test_single_precision_works_and_values_that_are_not_finite_propagate():
    layer, parameters, velocity, z, g = layer_and_tensors((9, 8), 30, True, torch.float32)
    layer.write(parameters, z[0], out := torch.empty(layer.rows))
    torch.testing.assert_close(out, layer(parameters, z[0]))
    parameters[30 * 4 + 7], g[0, 16] = math.nan, math.inf
    layer.write(parameters, z[0], out)
    assert out.isnan().nonzero().tolist() == [[4]]
    assert layer.vjp(parameters, g[1]).isnan().nonzero().tolist() == [[0, 7]]
    layer.step_(parameters, velocity, g, z, torch.tensor(1.0), RATE, MOMENTUM, DECAY)
    assert parameters[30 * 4 + 7].isnan() and not layer.matrix(parameters)[16].isfinite().any()
    assert layer.matrix(parameters)[[0, 5, 15]].isfinite().all()
