"""depthwise is F.conv2d with as many groups as channels, in value and in first and second derivatives."""

import itertools

import pytest
import torch
import torch.nn.functional as F

from hdarts.depthwise import depthwise
from hdarts.randomness import generator

CASES = list(itertools.product((3, 5), (1, 2), (1, 2), ((8, 8), (7, 9), (5, 4), (2, 3))))


@pytest.mark.parametrize(("kernel", "dilation", "stride", "size"), CASES)
def test_value_and_derivatives(kernel, dilation, stride, size):
    draw = generator(0)
    x = torch.randn(3, 6, *size, generator=draw, dtype=torch.float64).contiguous(memory_format=torch.channels_last)
    w = torch.randn(6, 1, kernel, kernel, generator=draw, dtype=torch.float64)
    x, w = x.requires_grad_(), w.requires_grad_()

    def derivatives(out):
        first = torch.autograd.grad(out.pow(3).sum(), (x, w), create_graph=True)
        return [out, *first, *torch.autograd.grad(first[0].square().sum() + first[1].square().sum(), (x, w))]

    plain = F.conv2d(x, w, None, stride, dilation * (kernel // 2), dilation, 6)
    for ours, expected in zip(derivatives(depthwise(x, w, stride, dilation)), derivatives(plain), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-11, atol=1e-11 * float(expected.detach().abs().max()))


def test_a_gradient_in_one_argument_alone():
    x, w = torch.randn(2, 4, 6, 6, dtype=torch.float64), torch.randn(4, 1, 5, 5, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: depthwise(x, w, 1, 2), x.requires_grad_())
    assert torch.autograd.gradcheck(lambda w: depthwise(x.detach(), w, 1, 2), w.requires_grad_())
