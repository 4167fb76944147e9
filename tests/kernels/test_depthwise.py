"""depthwise is F.conv2d with as many groups as channels, in value and in first and second derivatives."""

import itertools

import pytest
import torch
import torch.nn.functional as F

from hdarts.kernels import depthwise as module
from hdarts.kernels.bindings import load_kernel
from hdarts.kernels.depthwise import depthwise
from hdarts.runs.randomness import generator

CASES = list(itertools.product((3, 5), (1, 2), (1, 2), ((8, 8), (7, 9), (5, 4), (2, 3))))


@pytest.fixture(params=["compiled", "pytorch"])
def implementation(request, monkeypatch):
    """Both implementations; the first needs a C compiler."""
    if request.param == "pytorch":
        monkeypatch.setattr(module, "load_kernel", lambda *_: None)
    elif load_kernel("depthwise", 4, torch.zeros(1)) is None:
        pytest.skip("there is no C compiler (with OpenMP) here: PyTorch's implementation is the only one")


@pytest.mark.parametrize("channels", [3, 6, 21])
@pytest.mark.parametrize(("size", "dilation", "stride", "image"), CASES)
def test_value_and_derivatives(implementation, size, dilation, stride, image, channels):
    draw = generator(0)
    x = torch.randn(3, channels, *image, generator=draw, dtype=torch.float64)
    x = x.contiguous(memory_format=torch.channels_last)
    w = torch.randn(channels, 1, size, size, generator=draw, dtype=torch.float64)
    x, w = x.requires_grad_(), w.requires_grad_()

    def derivatives(out):
        first = torch.autograd.grad(out.pow(3).sum(), (x, w), create_graph=True)
        return [out, *first, *torch.autograd.grad(first[0].square().sum() + first[1].square().sum(), (x, w))]

    plain = F.conv2d(x, w, None, stride, dilation * (size // 2), dilation, channels)
    for ours, expected in zip(derivatives(depthwise(x, w, stride, dilation)), derivatives(plain), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-11, atol=1e-11 * float(expected.detach().abs().max()))


def test_a_gradient_in_one_argument_alone(implementation):
    x, w = torch.randn(2, 4, 6, 6, dtype=torch.float64), torch.randn(4, 1, 5, 5, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: depthwise(x, w, 1, 2), x.requires_grad_())
    assert torch.autograd.gradcheck(lambda w: depthwise(x.detach(), w, 1, 2), w.requires_grad_())


def test_more_threads_than_images(implementation):
    before = torch.get_num_threads()
    x, w = torch.randn(2, 5, 6, 6, dtype=torch.float64), torch.randn(5, 1, 3, 3, dtype=torch.float64)
    try:
        torch.set_num_threads(3)
        out = depthwise(x, w)
    finally:
        torch.set_num_threads(before)
    torch.testing.assert_close(out, F.conv2d(x, w, None, 1, 1, 1, 5), rtol=1e-12, atol=1e-12)
