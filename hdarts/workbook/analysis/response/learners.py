"""Hypernetworks that learn a response: the centred and the tangent form, perceptrons, graph, low rank, trajectory."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch import Tensor

from hdarts.hypernetwork import MLP, ByKind, Graph, Hypernetwork, Linear, LowRank
from hdarts.runs.randomness import generator
from hdarts.search.tangent import TangentWeights
from hdarts.search.weights import Exploration, GeneratedWeights, SGDSettings

TANGENT, TRAJECTORY, LOW_RANK = "tangent", "trajectory only", "low rank, centred, σ = 0.3"
PERCEPTRON, PERCEPTRONS = "MLP per kind of cell, σ = 0.3", "MLP per convolution, σ = 0.3"
GRAPH = "graph, σ = 0.3"
PLAIN = SGDSettings(momentum=0.0, decay=0.0, clip=1e9)
FACTORS = (0.1, 0.3, 1.0)  # of a method's largest step size; the one with the smallest final error is kept
NOISE = 0.3  # of all learners but the centred ones and the trajectory


class Structure(NamedTuple):
    """Which part of w belongs to which kind of cell and edge.

    `n_alpha`: alphas of a kind; `sizes`, `places`: for each kind the number of weights of each convolution and its
    edge; `edges`: (from, to) in a cell; `rest`: weights outside the cells, the last ones of w.
    """

    n_alpha: int
    sizes: tuple[tuple[int, ...], ...]
    places: tuple[tuple[int, ...], ...]
    edges: tuple[tuple[int, int], ...]
    rest: int

    @classmethod
    def of(cls, supernet: Any) -> "Structure":
        """Return that of a supernet."""
        space, kinds = supernet.space, range(len(supernet.space.kinds))
        sizes = tuple(tuple(math.prod(shape) for shape in supernet.convolution_shapes(kind)) for kind in kinds)
        places = tuple(tuple(supernet.convolution_edges(kind)) for kind in kinds)
        return cls(space.n_alpha, sizes, places, tuple(space.edges), supernet.n_w - sum(map(sum, sizes)))

    @classmethod
    def plain(cls, n_weights: int, n_alpha: int) -> "Structure":
        """Return that of a problem without cells: one edge with all alphas, and four parts of w."""
        quarter = n_weights // 4
        return cls(n_alpha, ((quarter, quarter, quarter, n_weights - 3 * quarter),), ((0,) * 4,), ((0, 1),), 0)

    @property
    def n_all(self) -> int:
        """Number of alphas of all kinds."""
        return self.n_alpha * len(self.sizes)


@dataclass(frozen=True)
class Learner:
    """A hypernetwork that learns the response: `start(w, structure, seed)`, and its cost per step in gradients.

    `largest(n_alpha)`: its largest step size times the curvature; `factors` of it are tried. `walks`: alpha moves while
    it learns. `by_kind`: a hypernetwork for each kind of cell sees the alphas of that kind; otherwise one sees all.
    """

    start: Callable[[Tensor, Structure, int], GeneratedWeights]
    cost: int
    largest: Callable[[int], float]
    by_kind: bool = False
    walks: bool = False
    factors: tuple[float, ...] = FACTORS


def start_tangent(w: Tensor, at: Structure, seed: int) -> GeneratedWeights:
    """Return the tangent form at w, without a response."""
    phi = torch.cat([torch.zeros(at.n_all * len(w)).to(w), w])
    return TangentWeights(ByKind([Linear(at.n_all, len(w))]), phi, w[:0].clone(), PLAIN, 1.0)


def noise_form(sigma: float) -> Learner:
    """The centred form with antithetic noise, from no response; its W is stable below 2 / (sigma^2 (n + 2) kappa)."""

    def start(w: Tensor, at: Structure, seed: int) -> GeneratedWeights:
        phi = torch.cat([torch.zeros(at.n_all * len(w)).to(w), w])
        exploration = Exploration(sigma, antithetic=True, centred=True)
        return GeneratedWeights(ByKind([Linear(at.n_all, len(w))]), phi, w[:0].clone(), PLAIN, exploration)

    return Learner(start, 2, lambda n: 1 / (sigma**2 * (n + 2)))


def half(n_alpha: int) -> int:
    """Width or rank of a hypernetwork, as in hyperDARTS-2."""
    return max(1, n_alpha // 2)


def _by_kind(at: Structure, make: Callable[[int, tuple[int, ...], tuple[int, ...]], Hypernetwork]) -> ByKind:
    """Return `make(n_alpha, sizes, edges)` for each kind of cell, and for the rest, from all alphas, without edges."""
    rest = make(at.n_all, (at.rest,), ()) if at.rest else None
    return ByKind([make(at.n_alpha, *one) for one in zip(at.sizes, at.places, strict=True)], rest)


def _from_torch(h: ByKind, w: Tensor, seed: int, exploration: Exploration) -> GeneratedWeights:
    return GeneratedWeights(h, h.initial_phi(generator(seed, "phi")).to(w), w[:0].clone(), PLAIN, exploration)


def _noisy(make: Callable[[int, tuple[int, ...], tuple[int, ...], Structure], Hypernetwork]) -> Learner:
    """Hypernetworks with PyTorch's initialisation and noise; step sizes as their steepest direction allows."""

    def start(w: Tensor, at: Structure, seed: int) -> GeneratedWeights:
        return _from_torch(
            _by_kind(at, lambda n, sizes, places: make(n, sizes, places, at)), w, seed, Exploration(NOISE)
        )

    return Learner(start, 1, lambda n: 8 / half(n), by_kind=True)


def start_low_rank(w: Tensor, at: Structure, seed: int) -> GeneratedWeights:
    """Return U V (a - alpha) + w with U = 0, as in self-tuning networks (MacKay et al., ICLR 2019)."""
    h = _by_kind(at, lambda n, sizes, _: LowRank(n, sum(sizes), half(n)))
    weights = _from_torch(h, w, seed, Exploration(NOISE, antithetic=True, centred=True))
    weights.start_without_response(w)
    return weights


def _perceptron(n: int, sizes: tuple[int, ...], shared: bool) -> Hypernetwork:
    return MLP(n, sizes, half(n), shared=shared)


def _graph(n: int, sizes: tuple[int, ...], places: tuple[int, ...], at: Structure) -> Hypernetwork:
    return Graph(n, sizes, at.edges, places, half(n)) if places else _perceptron(n, sizes, True)


LEARNERS: dict[str, Learner] = {
    **{f"centred, σ = {sigma:g}": noise_form(sigma) for sigma in (0.1, 0.3, 1.0)},
    TANGENT: Learner(start_tangent, 3, lambda n: 1.0),
    # the largest step size is that of U; V needs a smaller one, the larger the response is
    LOW_RANK: Learner(start_low_rank, 2, lambda n: 3 / (NOISE**2 * (half(n) + 2)), by_kind=True,
                      factors=(1e-5, 1e-4, 1e-3, 0.01, *FACTORS)),
    PERCEPTRON: _noisy(lambda n, sizes, _, at: _perceptron(n, sizes, True)),
    PERCEPTRONS: _noisy(lambda n, sizes, _, at: _perceptron(n, sizes, False)),
    GRAPH: _noisy(_graph),
    TRAJECTORY: Learner(
        lambda w, at, seed: _from_torch(ByKind([Linear(at.n_all, len(w))]), w, seed, Exploration()), 1,
        lambda n: 1.0, walks=True,
    ),
}  # fmt: skip


def hold(weights: GeneratedWeights, alpha: Tensor, w: Tensor) -> None:
    """Set the output biases of the hypernetworks so that they generate `w` at `alpha`."""
    h = weights.hypernetwork
    change = (w - weights.value(alpha)).split([part.n_weights for part in h.parts])
    for part, phi, by in zip(h.parts, h.split_phi(weights.phi), change, strict=True):
        layer = part.output_layer(phi)
        assert layer is not None
        layer[1].add_(by)


def families(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows with `panel`: the problem, and whether the method is a hypernetwork or solves for the adjoint."""
    is_learner = rows["method"].str.removesuffix(", predicted").isin(list(LEARNERS))
    return rows.assign(panel=rows["problem"] + is_learner.map({True: ": hypernetworks", False: ": solvers"}))
