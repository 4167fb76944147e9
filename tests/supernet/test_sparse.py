"""What is not sampled or was pruned is not computed; result and all other gradients are those of the dense mixture."""

from dataclasses import replace
from unittest import mock

import pytest
import torch
import torch.nn.functional as F
from helpers.agreement import agree, output_grads, second_derivatives
from torch import Tensor

from hdarts.kernels.separable import Separable
from hdarts.runs.randomness import generator
from hdarts.space import DARTS, NASBENCH201
from hdarts.supernet import Mixture, Supernet


class Dense:
    """A custom operation: a 1x1 convolution."""

    def shapes(self, channels, stride):
        return [(channels, channels, 1, 1)]

    def __call__(self, x, weights, stride):
        return F.conv2d(x.sin(), weights[0], stride=stride)


CUSTOM = replace(DARTS, name="other", nodes=2, outputs=2, operations=("none", "skip_connect", "dense", "dil_conv_3x3"))
SPACES = {
    "darts": (DARTS, 3, {}),  # a reduction cell, and one after it
    "nasbench201": (NASBENCH201, 1, {}),
    "custom": (CUSTOM, 3, {"dense": Dense()}),
}
every_space = pytest.mark.parametrize("name", SPACES)


def sampled(shape: torch.Size, kept: int) -> Tensor:
    """Return a mask with `kept` random operations on each edge, and none on each seventh; none at all for 0."""
    order = torch.rand(shape, generator=generator(kept), dtype=torch.float64).argsort(-1)
    mask = order < kept
    mask[:, ::7] = False
    return mask


class Case:
    def __init__(self, name: str, mask: Tensor | int, compiled: bool = True, size: tuple[int, int] = (9, 10)):
        space, layers, custom = SPACES[name]
        self.net, rng = Supernet(space, 3, layers, 4, 2, custom), generator(5)
        self.net.compiled = compiled
        self.w = self.net.initial_w(rng).double().requires_grad_()
        weights = torch.rand(space.alpha_shape, generator=rng, dtype=torch.float64) + 0.1
        self.mask = sampled(weights.shape, mask) if isinstance(mask, int) else mask
        self.weights = (weights * self.mask).requires_grad_()
        self.images = torch.randn(3, 2, *size, generator=rng, dtype=torch.float64)

    def sparse(self) -> Tensor:
        return self.net.mixture(self.images, self.w, Mixture(self.weights, sparse=True))

    def dense(self) -> Tensor:
        """The same without `sparse`; the mask makes the gradients of the zero weights 0."""
        return self.net.mixture(self.images, self.w, self.weights * self.mask)

    def agree(self) -> None:
        free, found = [self.w, self.weights], []
        for out in (self.sparse(), self.dense()):
            found.append([out, *torch.autograd.grad(out, free, output_grads([out]), materialize_grads=True)])
        ours, theirs = found
        agree(ours, theirs, 1e-10)
        assert not ours[2][~self.mask].any()


@pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "pytorch"])
@pytest.mark.parametrize("kept", [0, 1, 2, 3])
@every_space
def test_sparse_equals_dense(name, kept, compiled):
    case = Case(name, kept, compiled)
    case.agree()
    if kept == 1:
        free = [case.w, case.weights]
        agree(second_derivatives([case.sparse()], free), second_derivatives([case.dense()], free), 1e-10)


@every_space
def test_each_operation_alone_on_all_edges_and_several_threads(name):
    before = torch.get_num_threads()
    for o, operation in enumerate(SPACES[name][0].operations):
        mask = torch.zeros(SPACES[name][0].alpha_shape, dtype=torch.bool)
        mask[..., o] = True
        try:
            torch.set_num_threads(1 + o % 4)
            Case(name, mask, size=(5, 8)).agree()
        except AssertionError as error:
            raise AssertionError(f"{operation}: {error}") from error
        finally:
            torch.set_num_threads(before)


@every_space
def test_all_weights_other_than_zero_compute_the_dense_mixture_bit_for_bit(name):
    case = Case(name, torch.ones(SPACES[name][0].alpha_shape, dtype=torch.bool))
    assert torch.equal(case.sparse(), case.dense())


def test_a_wave_without_convolutions_calls_no_kernel_of_them():
    mask = torch.zeros(DARTS.alpha_shape, dtype=torch.bool)
    mask[..., DARTS.operations.index("max_pool_3x3")] = True
    case = Case("darts", mask)
    with mock.patch.object(Separable, "__call__", side_effect=AssertionError):
        case.sparse()
    with mock.patch.object(Dense, "__call__", side_effect=AssertionError):
        mask = torch.ones(CUSTOM.alpha_shape, dtype=torch.bool)
        mask[..., CUSTOM.operations.index("dense")] = False
        Case("custom", mask).sparse()
