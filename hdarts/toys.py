"""Bilevel problems with exact answers, from one weight to a small architecture search on real images.

Each is a `BilevelProblem` whose inner loss is quadratic in w: `best_response` solves a linear system for w*(alpha), and
`exact_hypergradient` differentiates outer(w*(alpha), alpha) through it, independently of `hdarts.hypergradient`. `n_w`
and `alpha_shape` are the sizes of w and alpha (others raise ValueError); `batch` is always None. Data and constants
are float64 on the CPU and follow the dtype and device of the arguments.
"""

from dataclasses import dataclass
from functools import cache, cached_property
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from hdarts.bilevel import BilevelProblem, Hypergradient
from hdarts.runs.randomness import generator

Part = tuple[Tensor, Tensor]  # inputs (rows, columns) and targets (rows, outputs)


class Toy(BilevelProblem, Protocol):
    """A bilevel problem that knows its best response w*(alpha)."""

    def best_response(self, alpha: Tensor) -> Tensor: ...


def retrained_loss(toy: Toy, alpha: Tensor) -> Tensor:
    """outer(w*(alpha), alpha), a scalar: what a search minimises."""
    return toy.outer(toy.best_response(alpha), alpha, None)


def _by_differentiation(toy: Toy, alpha: Tensor) -> Hypergradient:
    """The exact hypergradient; its response part is the total derivative minus the one at fixed w."""
    alpha = alpha.detach()
    w = toy.best_response(alpha)
    direct = torch.func.grad(lambda a: toy.outer(w, a, None))(alpha)
    return Hypergradient(direct, torch.func.grad(lambda a: retrained_loss(toy, a))(alpha) - direct)


def _vector(name: str, x: Tensor, size: int) -> Tensor:
    """Return `x` as a vector, which must have `size` numbers."""
    if x.numel() != size:
        raise ValueError(f"{name} has shape {tuple(x.shape)}, but this problem needs {size} numbers")
    return x.reshape(-1)


@dataclass(frozen=True)
class Sine:
    r"""(a) A problem with w* = -sin alpha; one weight, one alpha.

    $$ \mathrm{inner} = \frac{1}{2} (w + \sin \alpha)^2, \qquad \mathrm{outer} = \frac{1}{2} (w - t)^2 $$
    """

    t: float
    n_w, alpha_shape = 1, ()

    def inner(self, w: Tensor, alpha: Tensor, batch: None = None) -> Tensor:
        return (_vector("w", w, 1) + _vector("alpha", alpha, 1).sin()).square().sum() / 2

    def outer(self, w: Tensor, alpha: Tensor, batch: None = None) -> Tensor:
        return (_vector("w", w, 1) - self.t).square().sum() / 2

    def best_response(self, alpha: Tensor) -> Tensor:
        return -_vector("alpha", alpha, 1).sin()

    exact_hypergradient = _by_differentiation


@dataclass(frozen=True)
class Quadratic2D:
    r"""(b) A quadratic problem; two weights, two alphas.

    $$ \mathrm{inner} = \frac{1}{2} w^T A w - w^T B \alpha, \qquad
    \mathrm{outer} = \frac{1}{2} \|w - t\|^2 + \frac{1}{2} \|\alpha - s\|^2 $$

    w* = J alpha with J = A^-1 B, and the direct part is alpha - s. The eigenvalues of A are 0.79 and 2.21.
    """

    n_w, alpha_shape = 2, (2,)

    def __post_init__(self) -> None:
        _ = self.constants  # computed now, outside of any torch.func transform of the losses

    @cached_property
    def constants(self) -> Tensor:
        """A, B and the rows t, s, stacked to (3, 2, 2)."""
        return torch.tensor(
            [[[2.0, 0.5], [0.5, 1.0]], [[1.0, -1.0], [0.5, 2.0]], [[1.0, -1.0], [0.5, 0.25]]], dtype=torch.float64
        )

    def inner(self, w: Tensor, alpha: Tensor, batch: None = None) -> Tensor:
        a, b, _ = self.constants.to(w)
        w = _vector("w", w, 2)
        return w @ (a @ w / 2 - b @ _vector("alpha", alpha, 2))

    def outer(self, w: Tensor, alpha: Tensor, batch: None = None) -> Tensor:
        t, s = self.constants[2].to(w)
        return ((_vector("w", w, 2) - t).square().sum() + (_vector("alpha", alpha, 2) - s).square().sum()) / 2

    def best_response(self, alpha: Tensor) -> Tensor:
        a, b, _ = self.constants.to(alpha)
        return torch.linalg.solve(a, b @ _vector("alpha", alpha, 2))

    exact_hypergradient = _by_differentiation


@dataclass(frozen=True)
class RidgeDiabetes:
    r"""(c) Ridge regression of scikit-learn's diabetes set, one log-L2 weight per feature; 10 weights, 10 alphas.

    $$ \mathrm{inner} = \frac{1}{2 n} \|x w - y\|^2 + \frac{1}{2} \sum_j e^{\alpha_j} w_j^2, \qquad
    \mathrm{outer} = \frac{1}{2 n} \|x w - y\|^2 $$

    over n = 221 patients each, different ones.

    Features and target are standardised by the mean and standard deviation of the first part. The
    best alphas are infinite: a feature is kept without decay or dropped.
    """

    n_w, alpha_shape = 10, (10,)

    def __post_init__(self) -> None:
        _ = self.data  # loaded now, for the same reason

    @cached_property
    def data(self) -> tuple[Part, Part]:
        """x (221, 10) and y (221, 1) of the inner loss, and of the outer loss."""
        from sklearn.datasets import load_diabetes  # takes a second to import

        x, y = load_diabetes(return_X_y=True)
        table = torch.cat([torch.from_numpy(x), torch.from_numpy(y)[:, None]], dim=1)
        parts = table[torch.randperm(len(table), generator=generator(0, "toys", "diabetes"))].view(2, 221, 11)
        one, other = (parts - parts[0].mean(0)) / parts[0].std(0)
        return (one[:, :10], one[:, 10:]), (other[:, :10], other[:, 10:])

    def inner(self, w: Tensor, alpha: Tensor, batch: None = None) -> Tensor:
        w = _vector("w", w, 10)
        return _error(self.data[0], w) + _vector("alpha", alpha, 10).exp() @ w.square() / 2

    def outer(self, w: Tensor, alpha: Tensor, batch: None = None) -> Tensor:
        return _error(self.data[1], _vector("w", w, 10))

    def best_response(self, alpha: Tensor) -> Tensor:
        return _ridge(self.data[0], _vector("alpha", alpha, 10).exp())

    exact_hypergradient = _by_differentiation


@dataclass(frozen=True)
class RidgeDigits:
    r"""(d) Ridge regression on one-hot y: ten images, one of each digit; one log-L2 weight; 640 weights, one alpha.

    $$ \mathrm{inner} = \frac{1}{2 n} \|x W - y\|^2 + \frac{e^\alpha}{2} \|W\|^2, \qquad
    \mathrm{outer} = \frac{1}{2 n} \|x W - y\|^2 $$

    over the n = 10 images, and over n = 400 others.
    """

    n_w, alpha_shape = 640, ()

    def __post_init__(self) -> None:
        _ = self.data

    @cached_property
    def data(self) -> tuple[Part, Part]:
        """x (10, 64) and y (10, 10) of the ten images, x (400, 64) and y (400, 10) of the others."""
        images, labels = _digits()
        first = [int((labels == digit).nonzero()[0]) for digit in range(10)]
        others = [i for i in range(1000) if i not in first][:400]
        x, y = images.flatten(1), F.one_hot(labels, 10)
        return (x[first], y[first]), (x[others], y[others])

    def inner(self, w: Tensor, alpha: Tensor, batch: None = None) -> Tensor:
        w = _vector("w", w, 640)
        return _error(self.data[0], w) + _vector("alpha", alpha, 1).exp().sum() * w.square().sum() / 2

    def outer(self, w: Tensor, alpha: Tensor, batch: None = None) -> Tensor:
        return _error(self.data[1], _vector("w", w, 640))

    def best_response(self, alpha: Tensor) -> Tensor:
        return _ridge(self.data[0], _vector("alpha", alpha, 1).exp())

    exact_hypergradient = _by_differentiation


@dataclass(frozen=True)
class MicroDARTS:
    r"""(e) One mixed operation and a linear read-out; 640 weights, three alphas.

    $$ x = \sum_o \mathrm{softmax}(\alpha)_o \; o(\mathrm{image}), \qquad
    \mathrm{inner} = \frac{1}{2 n} \|x W - y\|^2 + \frac{l_2}{2} \|W\|^2, \qquad
    \mathrm{outer} = \frac{1}{2 n} \|x W - y\|^2 $$

    over n = 200 digits each, different ones; o is the identity, average pooling or max pooling, both 3x3.

    y is one-hot. The only toy in which alpha is an architecture; it enters both losses directly. The eigenvalues of the
    inner Hessian range from about l2 to about 20: l2 = 1 is well conditioned, 1e-4 badly.
    """

    l2: float
    n_w, alpha_shape = 640, (3,)

    def __post_init__(self) -> None:
        if not self.l2 > 0:
            raise ValueError(f"l2 is {self.l2}, but must be a number above 0")
        _ = self.data

    @cached_property
    def data(self) -> tuple[Tensor, Tensor]:
        """Outputs of the operations (2, 3, 200, 64) and one-hot targets (2, 200, 10); part 0 for inner, 1 for outer."""
        images, labels = _digits()
        x = images[:400, None]
        average = F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)
        outputs = torch.stack([x, average, F.max_pool2d(x, 3, stride=1, padding=1)])
        return outputs.view(3, 2, 200, 64).transpose(0, 1), F.one_hot(labels[:400], 10).to(x).view(2, 200, 10)

    def inner(self, w: Tensor, alpha: Tensor, batch: None = None) -> Tensor:
        w = _vector("w", w, 640)
        return _error(self._part(alpha, 0), w) + self.l2 * w.square().sum() / 2

    def outer(self, w: Tensor, alpha: Tensor, batch: None = None) -> Tensor:
        return _error(self._part(alpha, 1), _vector("w", w, 640))

    def best_response(self, alpha: Tensor) -> Tensor:
        return _ridge(self._part(alpha, 0), torch.tensor([self.l2], dtype=torch.float64).to(alpha))

    exact_hypergradient = _by_differentiation

    def _part(self, alpha: Tensor, part: int) -> Part:
        """Mixed features (200, 64) and targets (200, 10)."""
        outputs, y = (tensor[part].to(alpha) for tensor in self.data)
        return torch.einsum("o,onp->np", _vector("alpha", alpha, 3).softmax(0), outputs), y


def _error(part: Part, w: Tensor) -> Tensor:
    """Mean over rows of |x W - y|^2 / 2, where w is W (columns of x, columns of y) as a vector."""
    x, y = (tensor.to(w) for tensor in part)
    return (x @ w.view(x.shape[1], y.shape[1]) - y).square().sum() / (2 * len(x))


def _ridge(part: Part, l2: Tensor) -> Tensor:
    """argmin over W of mean |x W - y|^2 / 2 + sum_j l2_j |W_j|^2 / 2, as a vector; l2: one per row of W, or one."""
    x, y = (tensor.to(l2) for tensor in part)
    gram = x.T @ x / len(x) + torch.diag(l2.expand(x.shape[1]))
    return torch.linalg.solve(gram, x.T @ y / len(x)).flatten()


@cache
def _digits() -> tuple[Tensor, Tensor]:
    """scikit-learn's handwritten digits in a fixed random order: images (1797, 8, 8) from 0 to 1, labels (1797,)."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    order = torch.randperm(len(labels), generator=generator(0, "toys", "digits"))
    return torch.from_numpy(images).view(-1, 8, 8)[order] / 16, torch.from_numpy(labels)[order]
