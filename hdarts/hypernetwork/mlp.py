"""Hypernetworks with one hidden layer, for all convolutions together or for each one."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from hdarts.hypernetwork.linear import WithOutputLayer
from hdarts.kernels.output_layer import SegmentedLinear

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "identity": lambda x: x,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "relu": F.relu,
}


@dataclass(frozen=True)
class MLP(WithOutputLayer):
    r"""A perceptron with one hidden layer (thesis 4.6: hidden = n_alpha / 2, f = sigmoid in hyperDARTS-2).

    $$ w = W_2 \, f(W_1 \alpha + b_1) + b_2 $$

    `sizes`: number of weights of each convolution. `shared`: one hidden layer for all of them (104.4 million weights
    with the thesis's settings); otherwise one perceptron per convolution, which matches the thesis's 113 million.
    """

    n_alpha: int
    sizes: tuple[int, ...]
    hidden: int
    activation: str = "sigmoid"
    shared: bool = True

    def __post_init__(self):
        object.__setattr__(self, "sizes", tuple(int(size) for size in self.sizes))
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"activation {self.activation!r} is not one of {', '.join(ACTIVATIONS)}")

    @property
    def n_weights(self) -> int:
        return sum(self.sizes)

    @property
    def perceptrons(self) -> int:
        return 1 if self.shared else len(self.sizes)

    @property
    def n_trunk(self) -> int:
        """Number of values in W1 and b1 of all perceptrons."""
        return self.perceptrons * self.hidden * (self.n_alpha + 1)

    @cached_property
    def output(self) -> SegmentedLinear:
        """W2 and b2: one segment per perceptron."""
        return SegmentedLinear((self.n_weights,) if self.shared else self.sizes, self.hidden)

    def features(self, trunk: Tensor, alpha: Tensor) -> Tensor:
        """f(W1 alpha + b1) of all perceptrons, `(perceptrons, hidden)`, as one matrix-vector product."""
        rows = self.perceptrons * self.hidden
        hidden = (
            trunk[: rows * self.n_alpha].view(rows, self.n_alpha) @ alpha.reshape(-1) + trunk[rows * self.n_alpha :]
        )
        return ACTIVATIONS[self.activation](hidden).view(self.perceptrons, self.hidden)
