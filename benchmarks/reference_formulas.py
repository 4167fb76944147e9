"""Plain reference: what the relatives of DARTS change, as formulas written from their papers.

A `Relative` says what a method changes; benchmarks.reference_relatives searches with it. Nothing of `hdarts.search` is
used.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Dirichlet, kl_divergence

from hdarts.space import Genotype, SearchSpace

ByEpoch = Callable[[int, int], float]  # (t, T): the value in epoch t = 0, 1, ... of T


def never(t: int, epochs: int) -> float:
    return 0.0


def always(t: int, epochs: int) -> float:
    return 1.0


@dataclass
class At:
    """Where a mixture is computed: what its formulas need besides alpha."""

    space: SearchSpace
    temperature: float
    source: torch.Generator | None  # of the random draw of a batch; None: the mean over draws
    kept: Tensor  # candidates, bool, by kind, edge and operation

    def nodes(self) -> list[list[int]]:
        """Return the incoming edges of each node."""
        targets = sorted({node for _, node in self.space.edges})
        return [[e for e, (_, node) in enumerate(self.space.edges) if node == target] for target in targets]


Mixing = Callable[[Tensor, At], tuple[Tensor, Tensor]]  # alpha -> weights of operations p and of edges b


def shares(logits: Tensor, kept: Tensor | bool = True) -> Tensor:
    """Return exp(logits) / sum exp(logits) over the candidates of the last dimension."""
    values = torch.exp(logits - logits.detach().amax(-1, keepdim=True)) * kept
    return values / values.sum(-1, keepdim=True)


def ones(p: Tensor) -> Tensor:
    return torch.ones_like(p[..., 0])


def softmax(a: Tensor, at: At) -> tuple[Tensor, Tensor]:
    p = shares(a, at.kept)
    return p, ones(p)


def gumbel(a: Tensor, at: At) -> tuple[Tensor, Tensor]:
    """SNAS: Z = softmax((alpha + G) / lambda)."""
    if at.source is None:
        return softmax(a, at)
    noise = -torch.log(torch.empty_like(a).exponential_(generator=at.source))
    return shares((a + noise) / at.temperature), ones(a)


def one_of(a: Tensor, at: At) -> tuple[Tensor, Tensor]:
    """GDAS: h = one-hot(k) - sg(probs) + probs, k = argmax, probs = softmax((log softmax(alpha) + G) / tau)."""
    if at.source is None:
        return softmax(a, at)
    noise = -torch.log(torch.empty_like(a).exponential_(generator=at.source))
    probs = ((a.log_softmax(-1) + noise) / at.temperature).softmax(-1)
    return F.one_hot(probs.argmax(-1), a.shape[-1]) - probs.detach() + probs, ones(a)


def node_softmax(a: Tensor, at: At) -> tuple[Tensor, Tensor]:
    """I-DARTS: one softmax over all pairs of incoming edge and operation of a node."""
    p = torch.empty_like(a)
    for edges in at.nodes():
        p[:, edges] = torch.exp(a[:, edges]) / torch.exp(a[:, edges]).sum((1, 2), keepdim=True)
    return p, ones(p)


def edge_softmax(a: Tensor, at: At) -> tuple[Tensor, Tensor]:
    """PC-DARTS: the last column is beta, and b = softmax of beta over the incoming edges of a node."""
    b = torch.empty_like(a[..., 0])
    for edges in at.nodes():
        b[:, edges] = a[:, edges, -1].softmax(1)
    return a[..., :-1].softmax(-1), b


def dirichlet(a: Tensor, at: At) -> tuple[Tensor, Tensor]:
    """DrNAS: theta ~ Dirichlet(elu(alpha) + 1): normalised Gamma variables, which autograd differentiates."""
    theta = torch.where(at.kept, F.elu(a) + 1, 1e-20)  # the draw of a pruned operation is not used
    if at.source is not None:
        theta = torch._standard_gamma(theta, generator=at.source)  # pyright: ignore[reportPrivateImportUsage, reportAttributeAccessIssue]
    theta = theta * at.kept
    return theta / theta.sum(-1, keepdim=True), ones(a)


def sigmoid(a: Tensor, at: At) -> tuple[Tensor, Tensor]:
    """FairDARTS."""
    return 1 / (1 + torch.exp(-a)), ones(a)


def itself(a: Tensor, at: At) -> tuple[Tensor, Tensor]:
    """GAEA: theta on the simplex is the mixture weight."""
    return a, ones(a)


def itself_with_edges(a: Tensor, at: At) -> tuple[Tensor, Tensor]:
    """GAEA in PC-DARTS: the last column is the weight of the edge."""
    return a[..., :-1], a[..., -1]


def groups(a: Tensor, at: At) -> tuple[Tensor, Tensor]:
    """DOTS, operations: {none, pooling, skip} and the convolutions have softmaxes of their own."""
    return torch.cat([a[..., :4].softmax(-1), a[..., 4:].softmax(-1)], -1), ones(a)


def pairs(a: Tensor, at: At) -> tuple[Tensor, Tensor]:
    """DOTS, topology: p = softmax(a / 1e-3 T), and b of an edge is the sum of q over the pairs that hold it.

    q = softmax(beta / T) over all pairs of a node's inputs; beta of the pair (c, s), c < s, is in column c of the last
    four of edge s.
    """
    n, b = len(at.space.operations), torch.zeros_like(a[..., 0])
    for edges in at.nodes():
        held = [(i, j) for j in range(len(edges)) for i in range(j)]
        q = shares(torch.stack([a[:, edges[j], n + i] for i, j in held], -1) / at.temperature)
        for column, pair in enumerate(held):
            for one in pair:
                b[:, edges[one]] = b[:, edges[one]] + q[:, column]
    return shares(a[..., :n] / (1e-3 * at.temperature) - 1e9 * ~at.kept, at.kept), b


def beta_decay(a: Tensor) -> Tensor:
    """Gradient of the mean over edges of logsumexp alpha, for each kind of cell: softmax(alpha) / E."""
    return a.softmax(-1) / a.shape[1]


def zero_one(a: Tensor) -> Tensor:
    """Gradient of -mean (s - 1/2)^2, s = sigmoid(alpha)."""
    s = a.sigmoid()
    return -2 * (s - 0.5) * s * (1 - s) / a.numel()


def kl(a: Tensor) -> Tensor:
    """Gradient of the sum of KL(Dirichlet(elu(alpha) + 1) || Dirichlet(1)) over all edges."""
    a = a.detach().requires_grad_()
    term = kl_divergence(Dirichlet(F.elu(a) + 1), Dirichlet(torch.ones_like(a))).sum()
    return torch.autograd.grad(term, a)[0]


@dataclass(frozen=True)
class Relative:
    """What a relative of DARTS changes; by default nothing. `t` and `T` are epochs of its stage."""

    mixture: Mixing = softmax
    temperature: ByEpoch = always
    auxiliary: ByEpoch | None = None  # weight of the auxiliary skip connection (DARTS-)
    groups: int = 1  # of channels, of which the first goes through the operations (PC-DARTS)
    numbers: bool = False  # operations of weight 0 add their weight as a number (GDAS, published)
    term: Callable[[Tensor], Tensor] | None = None  # gradient in alpha of a term of the outer loss
    term_weight: ByEpoch = always
    attack: int | None = None  # sign steps of the perturbation of mixture weights in the weight step (SDARTS)
    radius: ByEpoch = never
    exponentiated: bool = False  # theta <- theta exp(-eta g), at least 1e-5, normalised (GAEA)
    one_level: bool = False  # one loss on all images
    warmup: int = 0  # epochs in which alpha is frozen
    skip_dropout: float = 0.0  # p0 (P-DARTS)


SNAS = Relative(gumbel, lambda t, T: max(0.03, (1 - t / T) * (1 - 0.03) + 0.03), one_level=True)
SNAS_BILEVEL = Relative(gumbel, lambda t, T: 10 - 9 * t / T)
GDAS = Relative(one_of, lambda t, T: 10 - 9.9 * t / (T - 1))
GDAS_PUBLISHED = replace(GDAS, numbers=True)
PC_DARTS = Relative(edge_softmax, groups=4, warmup=1)
SDARTS_RS = Relative(attack=0, radius=lambda t, T: 0.03 + (0.3 - 0.03) * t / T)
SDARTS_ADV = replace(SDARTS_RS, attack=7)
DARTS_MINUS = Relative(auxiliary=lambda t, T: (T - t) / T)
BETA_DARTS = Relative(term=beta_decay, term_weight=lambda t, T: 25 * t / T)  # 0.5 per epoch of 50
BETA_DARTS_NASBENCH201 = Relative(term=beta_decay, term_weight=lambda t, T: 50 * t / T)
I_DARTS = Relative(node_softmax)
DRNAS = Relative(dirichlet)
GAEA = Relative(itself, exponentiated=True)
GAEA_PC_DARTS = Relative(itself_with_edges, exponentiated=True, groups=4, warmup=1)
FAIRDARTS = Relative(sigmoid, term=zero_one, term_weight=lambda t, T: 10.0)
P_DARTS = Relative(warmup=1)
DOTS = (
    Relative(groups, warmup=1),
    Relative(pairs, warmup=1),
    Relative(pairs, lambda t, T: 10 * (0.02 / 10) ** (t / (T - 1)), one_level=True),
)


def largest(p: Tensor, kept: Tensor, count: int) -> Tensor:
    """Return the candidates that stay: on each edge, one after another, the smallest goes until `count` are left."""
    kept = kept.clone()
    for row, of_edge in zip(p.flatten(0, 1), kept.view(-1, p.shape[-1]), strict=True):
        while of_edge.sum() > count:
            of_edge[min((o for o in range(len(row)) if of_edge[o]), key=lambda o: float(row[o]))] = False
    return kept


def best_of_groups(p: Tensor) -> Tensor:
    """Return the candidates after DOTS's first phases: the best of the first four operations and of the others."""
    kept = torch.zeros_like(p, dtype=torch.bool)
    for row, of_edge in zip(p.flatten(0, 1), kept.view(-1, p.shape[-1]), strict=True):
        of_edge[row[:4].argmax()] = True
        of_edge[4 + row[4:].argmax()] = True
    return kept


def cell(p: Tensor, space: SearchSpace, threshold: float = 0.0, most_skips: int = 99) -> Genotype:
    """Return the cell of weights of operations, by the rule of DARTS, or of NAS-Bench-201.

    threshold: weaker edges become `none` (FairDARTS). most_skips: in the normal cell; while there are more, the weakest
    of them is set to 0 (P-DARTS).
    """
    p, skip, cells = p.clone(), space.operations.index("skip_connect"), {}
    for kind, rows in zip(space.kinds, p, strict=True):
        while True:
            chosen = chosen_edges(rows, space)
            skips = [e for e, o in chosen if o == skip]
            if kind == "reduce" or len(skips) <= most_skips:
                break
            rows[min(skips, key=lambda e: float(rows[e, skip])), skip] = 0
        cells[kind] = [
            (space.operations[o] if float(rows[e, o]) >= threshold else "none", space.edges[e][0]) for e, o in chosen
        ]
    return Genotype(**cells)


def chosen_edges(rows: Tensor, space: SearchSpace) -> list[tuple[int, int]]:
    """Return (edge, operation) of a cell, with DARTS the two strongest of each node, without `none`."""
    if space.name == "nasbench201":
        return [(e, int(row.argmax())) for e, row in enumerate(rows)]
    best = [(float(row[1:].max()), 1 + int(row[1:].argmax())) for row in rows]
    chosen = []
    for edges in At(space, 1.0, None, rows).nodes():
        chosen += [(e, best[e][1]) for e in sorted(edges, key=lambda e: -best[e][0])[:2]]
    return chosen


def cell_of_pairs(a: Tensor, kept: Tensor, space: SearchSpace) -> Genotype:
    """Return DOTS's cell: the edges of the best pair of each node, each with its best operation but `none`."""
    n, rows = len(space.operations), torch.zeros(space.alpha_shape)
    for edges in At(space, 1.0, None, kept).nodes():
        for kind in range(len(space.kinds)):
            held = [(i, j) for j in range(len(edges)) for i in range(j)]
            best = max(held, key=lambda pair: float(a[kind, edges[pair[1]], n + pair[0]]))
            for one in best:
                options = [o for o in range(1, n) if kept[kind, edges[one], o]]
                rows[kind, edges[one], max(options, key=lambda o: float(a[kind, edges[one], o]))] = 1.0
    return cell(rows, space)
