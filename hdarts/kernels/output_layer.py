"""A linear layer whose weight gradient stays in factors, and the SGD step that uses them.

The output layer of a hypernetwork has one input vector z per step, so the gradient of its weight matrix is the outer
product g z^T, which is never formed. The step transfers the matrix 4 times and keeps 2 copies in memory (weights and
momentum), where `clip_grad_norm_` and `torch.optim.SGD`, whose step is the same, need 15 and 4.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any, Protocol

import torch
from torch import Tensor

from hdarts.kernels.bindings import Kernel, SizeStruct, int64_fields, load_kernel

ROWS = 4096  # per block of the SGD pass: its weights and momentum stay in the cache

Rate = float | Tensor  # a learning rate; a scalar tensor on a GPU is read there, so that a captured step follows it


def sgd_(
    value: Tensor, velocity: Tensor, gradient: Tensor, scale: Tensor, rate: Rate, momentum: float, decay: float,
    nesterov: bool = False,
) -> None:  # fmt: skip
    """Take one step of `torch.optim.SGD` in place: v <- m v + (s g + d w), w <- w - rate v; s is the clip factor.

    With `nesterov`, w <- w - rate (s g + d w + m v) with the new v.
    """
    old = velocity.clone() if nesterov else None
    velocity.mul_(momentum).addcmul_(gradient, scale).add_(value, alpha=decay)
    descend_(value, velocity if old is None else look_ahead(velocity, old, momentum), rate)


def look_ahead(velocity: Tensor, old: Tensor, momentum: float) -> Tensor:
    """Return Nesterov's direction slope + m v, where v = m old + slope."""
    return torch.sub((1 + momentum) * velocity, old, alpha=momentum)


def descend_(value: Tensor, velocity: Tensor, rate: Rate) -> None:
    """Subtract rate x velocity in place."""
    if isinstance(rate, Tensor) and rate.device.type != "cpu":
        value.addcmul_(velocity, rate, value=-1)
    else:
        value.add_(velocity, alpha=-float(rate))


class Gradient(Protocol):
    """Gradient of a loss in the weights `phi` of a hypernetwork, dense or in factors."""

    def plus(self, other: Any) -> "Gradient":
        """Return the sum with another gradient of the same kind."""
        ...

    def squared_norm(self) -> Tensor:
        """Sum of the squares of all its entries."""
        ...

    def step_(self, phi: Tensor, velocity: Tensor, scale: Tensor, rate: Rate, *sgd: Any) -> None:
        """Take one SGD step on `phi` and its `velocity` in place; `sgd`: momentum, decay, nesterov (see `sgd_`)."""
        ...


@dataclass(frozen=True)
class Dense:
    """A gradient as one flat vector like `phi`."""

    value: Tensor

    def plus(self, other: "Dense") -> "Dense":
        return Dense(self.value + other.value)

    def squared_norm(self) -> Tensor:
        return self.value.square().sum()

    def step_(self, phi: Tensor, velocity: Tensor, scale: Tensor, rate: Rate, *sgd: Any) -> None:
        sgd_(phi, velocity, self.value, scale, rate, *sgd)


class LayerSizes(SizeStruct):
    """Sizes of an output layer, for output_layer.c."""

    _fields_ = int64_fields("rows", "width", "segments", "threads")


@dataclass(frozen=True)
class SegmentedLinear:
    """w = W z + b, where the rows of W come in segments with an input vector each.

    `sizes`: rows of each segment; `width`: length of an input vector. The parameters are one flat vector [W | b].
    One segment is an ordinary linear layer; one segment per convolution is all perceptrons of the thesis together.
    """

    sizes: tuple[int, ...]
    width: int
    bias: bool = True

    @property
    def rows(self) -> int:
        return sum(self.sizes)

    @property
    def n_parameters(self) -> int:
        return self.rows * (self.width + int(self.bias))

    def matrix(self, parameters: Tensor) -> Tensor:
        """W `(rows, width)`, a view."""
        return parameters[: self.rows * self.width].view(self.rows, self.width)

    def offset(self, parameters: Tensor) -> Tensor | None:
        """b `(rows,)`, a view, or None without bias."""
        return parameters[self.rows * self.width :] if self.bias else None

    def __call__(self, parameters: Tensor, z: Tensor) -> Tensor:
        """Return the outputs `(rows,)` for the input vectors `z` `(segments, width)`."""
        blocks = self.matrix(parameters).split(list(self.sizes))
        out = torch.cat([torch.mv(block, row) for block, row in zip(blocks, z, strict=True)])
        offset = self.offset(parameters)
        return out if offset is None else out + offset

    def write(self, parameters: Tensor, z: Tensor, out: Tensor) -> None:
        """Write the outputs into `out` `(rows,)`, without derivatives."""
        kernel = self.kernel(parameters)
        if kernel is None:
            out.copy_(self(parameters, z))
        else:
            kernel.call("outputs", *self._sizes, self.matrix(parameters), self.offset(parameters), z.contiguous(), out)

    def vjp(self, parameters: Tensor, g: Tensor) -> Tensor:
        """Return the gradient in `z` `(segments, width)` for the gradient `g` `(rows,)` in the outputs: W^T g."""
        kernel = self.kernel(parameters)
        if kernel is None:
            parts = zip(self.matrix(parameters).split(list(self.sizes)), g.split(list(self.sizes)), strict=True)
            return torch.stack([torch.mv(block.T, part) for block, part in parts])
        layer, ends = self._sizes
        sums = parameters.new_zeros(layer.threads, len(self.sizes), self.width)
        kernel.call("vjp", layer, ends, self.matrix(parameters), g.contiguous(), sums)
        return sums.sum(0)

    def step_(
        self, parameters: Tensor, velocity: Tensor, g: Tensor, z: Tensor, scale: Tensor, rate: Rate, momentum: float,
        decay: float, nesterov: bool = False,
    ) -> None:  # fmt: skip
        """Take an SGD step in place along sum_k g_k z_k^T: `g` `(k, rows)`, `z` `(k, segments, width)` (see `sgd_`)."""
        w, v = self.matrix(parameters), self.matrix(velocity)
        b, speed = self.offset(parameters), self.offset(velocity)
        kernel = self.kernel(parameters)
        if kernel is not None:
            plain = parameters.new_tensor([momentum, decay, float(rate), float(nesterov)])
            settings = torch.cat([scale.reshape(1).to(parameters), plain])
            kernel.call("step", *self._sizes, w, v, b, speed, len(g), g.contiguous(), z.contiguous(), settings)
            return
        g = g * scale
        for segment, start, end in self.row_blocks():
            speeds = v[start:end]
            old = speeds.clone() if nesterov else None
            torch.addmm(speeds, g[:, start:end].T, z[:, segment], beta=momentum, out=speeds)
            speeds.add_(w[start:end], alpha=decay)
            descend_(w[start:end], speeds if old is None else look_ahead(speeds, old, momentum), rate)
        if b is not None and speed is not None:
            sgd_(b, speed, g.sum(0), g.new_ones(()), rate, momentum, decay, nesterov)

    def kernel(self, parameters: Tensor) -> Kernel | None:
        """Return the kernel for these parameters, or None; it needs rows of at least 4 values."""
        lanes = next((lanes for lanes in (16, 8, 4) if lanes <= self.width), None)
        return None if lanes is None else load_kernel("output_layer", lanes, parameters)

    @property
    def _sizes(self) -> tuple[LayerSizes, Tensor]:
        """First arguments of each function of output_layer.c: sizes, and the end of each segment."""
        return LayerSizes.of(self.rows, self.width, len(self.sizes)), self._ends

    @cached_property
    def _ends(self) -> Tensor:
        return torch.tensor(self.sizes).cumsum(0)

    def row_blocks(self) -> Iterator[tuple[int, int, int]]:
        """Yield (segment, first row, end) of blocks of at most `ROWS` rows."""
        first = 0
        for segment, size in enumerate(self.sizes):
            for start in range(first, first + size, ROWS):
                yield segment, start, min(start + ROWS, first + size)
            first += size


@dataclass(frozen=True)
class Factored:
    """Gradient of [trunk | W | b]: dense in the trunk, sum_k g_k z_k^T in W and sum_k g_k in b.

    `g` `(k, rows)`, `z` `(k, segments, width)`; k = 1, or 2 for an antithetic pair.
    """

    layer: SegmentedLinear
    trunk: Tensor
    g: Tensor
    z: Tensor

    def plus(self, other: "Factored") -> "Factored":
        return Factored(
            self.layer, self.trunk + other.trunk, torch.cat([self.g, other.g]), torch.cat([self.z, other.z])
        )

    def squared_norm(self) -> Tensor:
        """||trunk||^2 + sum_{k, l} sum_rows g_k g_l (z_k . z_l + 1): the trace of G^T G Z^T Z, bias included."""
        products = torch.einsum("ksw,lsw->kls", self.z, self.z) + float(self.layer.bias)
        total = self.trunk.square().sum()
        if len(self.layer.sizes) == 1:
            total = total + (products[..., 0] * (self.g @ self.g.T)).sum()
        else:
            parts = zip(products.unbind(-1), self.layer.sizes, strict=True)
            of_row = torch.cat([one.unsqueeze(-1).expand(-1, -1, size) for one, size in parts], -1)  # (k, l, rows)
            for k, l_ in product(range(len(self.g)), repeat=2):
                total = total + (self.g[k] * self.g[l_] * of_row[k, l_]).sum()
        return total

    @torch.no_grad()
    def step_(self, phi: Tensor, velocity: Tensor, scale: Tensor, rate: Rate, *sgd: Any) -> None:
        """Take one SGD step on [trunk | W | b] in place, block by block (see `sgd_`)."""
        n = self.trunk.numel()
        sgd_(phi[:n], velocity[:n], self.trunk, scale, rate, *sgd)
        self.layer.step_(phi[n:], velocity[n:], self.g, self.z, scale, rate, *sgd)


def clip_factor(squared_norms: Sequence[Tensor], most: float) -> tuple[Tensor, Tensor]:
    """Return the joint gradient norm and the factor of `clip_grad_norm_`: min(1, most / (norm + 1e-6)).

    Both stay on their device, without synchronisation.
    """
    norm = torch.stack(list(squared_norms)).sum().sqrt()
    return norm, (most / (norm + 1e-6)).clamp(max=1.0)
