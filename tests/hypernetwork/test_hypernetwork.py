"""Hypernetworks compared with modules of torch, and their hand-written gradients with autograd."""

import math

import pytest
import torch
from torch import Tensor, nn

from hdarts.hypernetwork import ACTIVATIONS, MLP, ByKind, Chunked, Graph, Linear, LowRank
from hdarts.kernels.output_layer import Dense, Factored, Gradient
from hdarts.runs.randomness import generator
from hdarts.space import DARTS
from hdarts.supernet import Supernet

N_ALPHA = 6
SIZES = (3, 8, 5)
N_WEIGHTS = sum(SIZES)
SHAPES = ((4, 1, 3, 3), (4, 4, 1, 1), (8, 1, 3, 3), (4, 8, 1, 1), (8, 8, 1, 1), (4, 1, 5, 5))
EDGES = ((0, 1), (0, 2), (1, 2))
HYPERNETWORKS = {
    "linear": Linear(N_ALPHA, N_WEIGHTS),
    "linear without bias": Linear(N_ALPHA, N_WEIGHTS, bias=False),
    "low rank": LowRank(N_ALPHA, N_WEIGHTS, 2),
    "low rank without bias": LowRank(N_ALPHA, N_WEIGHTS, 2, bias=False),
    **{f"MLP, {name}": MLP(N_ALPHA, SIZES, 4, name) for name in ACTIVATIONS},
    "MLP for each convolution": MLP(N_ALPHA, SIZES, 4, "tanh", shared=False),
    "chunked": Chunked(N_ALPHA, SHAPES, 5),
    "graph": Graph(N_ALPHA, SIZES, EDGES, (0, 2, 2), 4, 2),
}
MODULES = {"identity": nn.Identity, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid, "relu": nn.ReLU}

every = pytest.mark.parametrize("h", HYPERNETWORKS.values(), ids=HYPERNETWORKS)


def normal(*shape: int, purpose: str = "") -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=generator(0, "test", purpose))


def start(h) -> tuple[Tensor, Tensor]:
    return normal(h.n_phi, purpose="phi"), normal(N_ALPHA, purpose="alpha")


def close(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


def fill(module: nn.Module, phi: Tensor) -> None:
    """Give a torch module its parameters in the order of `phi`; all of `phi` has to be used."""
    used = 0
    for parameter in module.parameters():
        parameter.data = phi[used : used + parameter.numel()].view(parameter.shape)
        used += parameter.numel()
    assert used == phi.numel()


@pytest.mark.parametrize("bias", [True, False])
def test_linear_is_one_linear_layer(bias: bool):
    h = Linear(N_ALPHA, N_WEIGHTS, bias)
    phi, alpha = start(h)
    module = nn.Linear(N_ALPHA, N_WEIGHTS, bias)
    fill(module, phi)
    close(h(phi, alpha), module(alpha))


@pytest.mark.parametrize("bias", [True, False])
def test_low_rank_is_two_linear_layers_the_first_without_bias(bias: bool):
    h = LowRank(N_ALPHA, N_WEIGHTS, 2, bias)
    phi, alpha = start(h)
    module = nn.Sequential(nn.Linear(N_ALPHA, 2, bias=False), nn.Linear(2, N_WEIGHTS, bias))
    fill(module, phi)
    close(h(phi, alpha), module(alpha))


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_mlp_is_two_linear_layers_with_an_activation_between(activation: str):
    h = MLP(N_ALPHA, SIZES, 4, activation)
    phi, alpha = start(h)
    module = nn.Sequential(nn.Linear(N_ALPHA, 4), MODULES[activation](), nn.Linear(4, N_WEIGHTS))
    fill(module, phi)
    close(h(phi, alpha), module(alpha))


def test_mlp_for_each_convolution_is_one_perceptron_per_convolution():
    h = MLP(N_ALPHA, SIZES, 4, "sigmoid", shared=False)
    phi, alpha = start(h)
    # phi = [all W1 | all b1 | all W2 | all b2]
    lengths = [3 * 4 * N_ALPHA, 3 * 4, 4 * N_WEIGHTS, N_WEIGHTS]
    w1, b1, w2, b2 = phi.split(lengths)
    parts = zip(
        w1.split(4 * N_ALPHA), b1.split(4), w2.split([4 * size for size in SIZES]), b2.split(list(SIZES)), strict=True
    )
    outputs = []
    for size, part in zip(SIZES, parts, strict=True):
        module = nn.Sequential(nn.Linear(N_ALPHA, 4), nn.Sigmoid(), nn.Linear(4, size))
        fill(module, torch.cat(part))
        outputs.append(module(alpha))
    close(h(phi, alpha), torch.cat(outputs))


def test_perceptrons_do_not_share_weights():
    h = MLP(N_ALPHA, SIZES, 4, "sigmoid", shared=False)
    phi, alpha = start(h)
    other = phi.clone()
    other[: 4 * N_ALPHA] += 1  # W1 of the first
    changed = (h(phi, alpha) != h(other, alpha)).tolist()
    assert changed == [True] * SIZES[0] + [False] * (SIZES[1] + SIZES[2])


def by_the_loop(h: Chunked, phi: Tensor, alpha: Tensor) -> Tensor:
    """Basic kernels one by one, as in the thesis: a linear layer of [alpha | z] for each kind of kernel."""
    kinds: list[tuple] = []
    for shape in h.shapes:
        if (kind := (shape[2], shape[1] == 1)) not in kinds:
            kinds.append(kind)
    layers, vectors, used = {}, {}, 0
    for kind in kinds:
        sizes = [math.prod(shape) for shape in h.shapes if (shape[2], shape[1] == 1) == kind]
        layers[kind] = nn.Linear(h.n_alpha + h.embedding, min(sizes))
        n = sum(p.numel() for p in layers[kind].parameters())
        fill(layers[kind], phi[used : used + n])
        m = sum(sizes) // min(sizes) * h.embedding
        vectors[kind] = iter(phi[used + n : used + n + m].split(h.embedding))
        used += n + m
    assert used == phi.numel()
    weights = []
    for shape in h.shapes:
        kind = (shape[2], shape[1] == 1)
        for _ in range(math.prod(shape) // layers[kind].out_features):
            weights.append(layers[kind](torch.cat([alpha, next(vectors[kind])])))
    assert all(next(rest, None) is None for rest in vectors.values())
    return torch.cat(weights)


@pytest.mark.parametrize("sequential", [False, True])
def test_chunks_computed_together_or_in_turn_equal_those_computed_one_by_one(sequential: bool):
    h = Chunked(N_ALPHA, SHAPES, 5, sequential)
    phi, alpha = start(h)
    close(h(phi, alpha), by_the_loop(h, phi, alpha))


def test_each_chunk_has_a_separate_embedding_vector():
    h = Chunked(N_ALPHA, SHAPES, 5)
    phi, alpha = start(h)
    touched = []
    n = 36 * (N_ALPHA + 5 + 1)  # after the layer of 3x3 kernels: its three embedding vectors
    for chunk in range(3):
        other = phi.clone()
        other[n + 5 * chunk : n + 5 * (chunk + 1)] += 1
        touched.append(set((h(phi, alpha) != h(other, alpha)).nonzero().flatten().tolist()))
    first = {"first 3x3": 0, "second 3x3": 36 + 16}
    assert touched == [
        set(range(first["first 3x3"], first["first 3x3"] + 36)),
        set(range(first["second 3x3"], first["second 3x3"] + 36)),
        set(range(first["second 3x3"] + 36, first["second 3x3"] + 72)),
    ]


def test_the_example_of_chunks_in_the_thesis_needs_fourteen_embedding_vectors():
    # thesis table 14: first convolution of a 3x3 separable convolution in the six normal cells (1 + 1 + 2 + 2 + 4 + 4)
    h = Chunked(112, tuple((channels, 1, 3, 3) for channels in (16, 16, 32, 32, 64, 64)), 32)
    assert h.n_phi == (112 + 32 + 1) * 144 + 14 * 32


@every
def test_alpha_may_have_any_shape_and_lengths_are_as_declared(h):
    phi, alpha = start(h)
    assert h(phi, alpha).shape == (h.n_weights,)
    assert torch.equal(h(phi, alpha.view(2, 3)), h(phi, alpha))
    with pytest.raises(RuntimeError):
        h(phi, normal(N_ALPHA + 1))


def test_an_unknown_activation_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="'gelu' is not one of identity, tanh, sigmoid, relu"):
        MLP(N_ALPHA, SIZES, 4, "gelu")


def dense(gradient: Gradient) -> Tensor:
    """A gradient as one flat vector: [trunk | sum_k g_k z_k^T, segment by segment | sum_k g_k]."""
    if isinstance(gradient, Dense):
        return gradient.value
    assert isinstance(gradient, Factored)
    matrix, first = [], 0
    for segment, size in enumerate(gradient.layer.sizes):
        rows = gradient.g[:, first : first + size]
        matrix.append(torch.einsum("kr,kw->rw", rows, gradient.z[:, segment]).flatten())
        first += size
    offset = [gradient.g.sum(0)] if gradient.layer.bias else []
    return torch.cat([gradient.trunk, *matrix, *offset])


def by_autograd(h, phi: Tensor, alpha: Tensor, g: Tensor) -> tuple[Tensor, ...]:
    phi, alpha = phi.clone().requires_grad_(), alpha.clone().requires_grad_()
    return torch.autograd.grad(h(phi, alpha), (alpha, phi), g)


@every
@pytest.mark.parametrize("shape", [(N_ALPHA,), (2, 3)])
def test_response_and_gradient_are_those_of_autograd(h, shape):
    phi, alpha = start(h)
    alpha, g = alpha.view(shape), normal(h.n_weights, purpose="g")
    of_alpha, of_phi = h.response(phi, alpha, g), h.gradient(phi, alpha, g)
    expected_alpha, expected_phi = by_autograd(h, phi, alpha, g)
    assert of_alpha.shape == shape
    close(of_alpha, expected_alpha)
    close(dense(of_phi), expected_phi)
    assert math.isclose(float(of_phi.squared_norm()), float(expected_phi.square().sum()), rel_tol=1e-10)


def test_response_and_gradient_are_the_same_with_autograd_off():
    h = HYPERNETWORKS["MLP, tanh"]
    phi, alpha, g = *start(h), normal(h.n_weights, purpose="g")
    with torch.no_grad():
        inside = h.response(phi, alpha, g), h.gradient(phi, alpha, g)
    outside = h.response(phi, alpha, g), h.gradient(phi, alpha, g)
    assert torch.equal(inside[0], outside[0])
    assert torch.equal(dense(inside[1]), dense(outside[1]))
    assert not inside[0].requires_grad


@pytest.mark.parametrize("name", [name for name in HYPERNETWORKS if "relu" not in name])
def test_second_derivatives_are_right(name: str):
    h = HYPERNETWORKS[name]
    inputs = [tensor.requires_grad_() for tensor in start(h)]
    assert torch.autograd.gradgradcheck(lambda phi, alpha: h(phi, alpha).square().sum(), inputs, fast_mode=True)


def by_kind(rest=None) -> ByKind:
    return ByKind([Linear(N_ALPHA, 7), MLP(N_ALPHA, SIZES, 4, "tanh")], rest)


def test_each_kind_of_cell_has_a_hypernetwork_given_the_alpha_of_that_kind():
    h = by_kind()
    phi, alpha = normal(h.n_phi), normal(2, 3, 2)
    n = h.hypernetworks[0].n_phi
    close(h(phi, alpha), torch.cat([h.hypernetworks[0](phi[:n], alpha[0]), h.hypernetworks[1](phi[n:], alpha[1])]))
    assert (h.n_weights, h.n_phi) == (7 + N_WEIGHTS, n + h.hypernetworks[1].n_phi)
    assert [part.numel() for part in h.split_phi(phi)] == [n, h.hypernetworks[1].n_phi]


def test_a_third_hypernetwork_generates_the_rest_from_all_of_alpha():
    rest = Linear(2 * N_ALPHA, 9)
    without, h = by_kind(), by_kind(rest)
    phi, alpha = normal(h.n_phi), normal(2, 3, 2)
    n = without.n_phi
    close(h(phi, alpha), torch.cat([without(phi[:n], alpha), rest(phi[n:], alpha.flatten())]))
    assert (h.n_weights, h.n_phi) == (7 + N_WEIGHTS + 9, n + rest.n_phi)
    assert [tuple(a.shape) for a in h.inputs(alpha)] == [(6,), (6,), (12,)]


def test_gradients_of_all_kinds_together_are_those_of_autograd():
    h = by_kind(Linear(2 * N_ALPHA, 9))
    phi, alpha, g = normal(h.n_phi), normal(2, 3, 2, purpose="alpha"), normal(h.n_weights, purpose="g")
    of_alpha, of_phi = h.response(phi, alpha, g), h.gradient(phi, alpha, g)
    expected_alpha, expected_phi = by_autograd(h, phi, alpha, g)
    close(of_alpha, expected_alpha)
    close(dense(of_phi), expected_phi)


def test_an_alpha_of_another_number_of_kinds_is_refused():
    h = by_kind()
    with pytest.raises(ValueError, match="zip"):
        h(normal(h.n_phi), normal(3, 3, 2))


def spread(values: Tensor, fan_in: int) -> None:
    """Uniform within +-1/sqrt(fan-in), as torch.nn.Linear is initialised; the bounds are kept and nearly reached."""
    bound = 1 / math.sqrt(fan_in)
    assert float(values.abs().max()) <= bound
    assert float(values.max()) > 0.98 * bound
    assert float(values.min()) < -0.98 * bound
    assert abs(float(values.mean())) < 4 * bound / math.sqrt(3 * values.numel())
    assert abs(float(values.var()) / (bound**2 / 3) - 1) < 0.1


def test_all_layers_are_initialised_like_those_of_torch():
    linear = Linear(12, 500)
    spread(linear.initial_phi(generator(0, "linear")), 12)
    low_rank = LowRank(100, 500, 9)
    phi = low_rank.initial_phi(generator(0, "low rank"))
    spread(phi[:900], 100)
    spread(phi[900:], 9)
    for shared in (True, False):
        mlp = MLP(100, (200, 300), 25, shared=shared)
        trunk, output = mlp.initial_phi(generator(0, "mlp")).split([mlp.n_trunk, mlp.output.n_parameters])
        spread(trunk, 100)
        spread(output, 25)


def test_embedding_vectors_are_initially_normal_and_their_layer_like_one_of_torch():
    h = Chunked(40, ((16, 1, 3, 3), (1600, 1, 3, 3)), 24)
    phi = h.initial_phi(generator(0, "chunked"))
    n = 144 * (40 + 24 + 1)
    spread(phi[:n], 64)
    vectors = phi[n:]
    assert vectors.numel() == 101 * 24
    assert abs(float(vectors.mean())) < 4 / math.sqrt(vectors.numel())
    assert abs(float(vectors.std()) - 1) < 0.06


@every
def test_initial_weights_depend_on_the_generator_only(h):
    first, again, other = (h.initial_phi(generator(seed, "phi")) for seed in (0, 0, 1))
    assert first.shape == (h.n_phi,)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_kinds_have_different_initial_weights():
    h = ByKind([Linear(N_ALPHA, 7), Linear(N_ALPHA, 7)])
    one, other = h.split_phi(h.initial_phi(generator(0, "phi")))
    assert not torch.equal(one, other)


def test_numbers_of_weights_are_those_of_the_thesis():
    supernet = Supernet(DARTS, channels=16, layers=8, classes=10)
    sizes = [tuple(math.prod(shape) for shape in supernet.convolution_shapes(kind)) for kind in (0, 1)]
    assert [sum(of_kind) for of_kind in sizes] == supernet.n_cell_w
    assert sum(map(len, sizes)) == 1376
    assert sum(supernet.n_cell_w) == 1_831_168
    assert supernet.n_w - sum(supernet.n_cell_w) == 99_450
    linear = ByKind([Linear(112, n) for n in supernet.n_cell_w])
    separate, shared = (ByKind([MLP(112, of_kind, 56, shared=s) for of_kind in sizes]) for s in (False, True))
    assert linear.n_phi == 206_921_984  # 207 million of hyperDARTS-1, with 99,450 outside the cells
    assert separate.n_phi == 113_083_904  # 113 million of hyperDARTS-2
    assert shared.n_phi == 104_389_232
    graph = ByKind(
        [
            Graph(112, of_kind, DARTS.edges, tuple(supernet.convolution_edges(kind)), 56)
            for kind, of_kind in enumerate(sizes)
        ]
    )
    assert graph.n_phi == 104_396_512  # 9,968 values per kind before the output layer
    assert {h.n_weights for h in (linear, separate, shared, graph)} == {1_831_168}


def test_embedding_vectors_need_less_than_two_million_weights():
    supernet = Supernet(DARTS, channels=16, layers=8, classes=10)
    h = ByKind([Chunked(112, tuple(supernet.convolution_shapes(kind)), 32) for kind in (0, 1)])
    assert h.n_weights == sum(supernet.n_cell_w)
    assert h.n_phi < 2_000_000
