"""Depthwise convolution, the same function as `F.conv2d(groups=C)`, with a backward pass that is fast on the CPU.

PyTorch's backward pass of depthwise convolutions takes most of a supernet's time there, dilated and 5x5 ones above all.
Three bilinear maps are closed under differentiation, so each one's backward pass is made of the other two and the
whole is differentiable any number of times:

    out = convolve(x, w)            d out: d x = convolve(g, flipped w),  d w = correlate(x, g)
    d w = correlate(x, g)           d(d w) = v: d x = convolve(g, flipped v),  d g = convolve(x, v)

Exact rewritings, at stride 1 and "same" padding: the input gradient is a convolution with the flipped kernel;
dilation 2 touches the four phases (even and odd rows and columns) apart, which then are plain convolutions of four
times as many images; a 5x5 weight gradient is four overlapping 3x3 ones. At stride 2, a dilated one is plain on the
even pixels.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def depthwise(x: Tensor, w: Tensor, stride: int = 1, dilation: int = 1) -> Tensor:
    """Return `x` `(N, C, H, W)` convolved with `w` `(C, 1, k, k)`, k = 3 or 5, channel by channel, zero padding."""
    if stride == 2 and dilation == 2:
        x, stride, dilation = x[:, :, ::2, ::2], 1, 1
    if stride == 1 and x.device.type == "cpu":
        return _Convolve.apply(x, w, dilation)  # type: ignore[return-value]
    return _plain(x, w, dilation, stride)


def _plain(x: Tensor, w: Tensor, dilation: int, stride: int = 1) -> Tensor:
    return F.conv2d(x, w, None, stride, dilation * (w.shape[-1] // 2), dilation, w.shape[0])


class _Convolve(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, dilation: int) -> Tensor:
        ctx.save_for_backward(x, w)
        ctx.dilation = dilation
        return _plain(x, w, dilation)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (x, w), (g,) = ctx.saved_tensors, grads
        of_x = _Convolve.apply(g, w.flip(2, 3), ctx.dilation) if ctx.needs_input_grad[0] else None
        of_w = _Correlate.apply(x, g, w.shape[-1], ctx.dilation) if ctx.needs_input_grad[1] else None
        return of_x, of_w, None


class _Correlate(torch.autograd.Function):
    """Weight gradient `(C, 1, k, k)`: the sum over images and pixels of g times the shifted x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, g: Tensor, kernel: int, dilation: int) -> Tensor:
        ctx.save_for_backward(x, g)
        ctx.dilation = dilation
        return _correlate(x, g, kernel, dilation)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (x, g), (v,) = ctx.saved_tensors, grads
        of_x = _Convolve.apply(g, v.flip(2, 3), ctx.dilation) if ctx.needs_input_grad[0] else None
        of_g = _Convolve.apply(x, v, ctx.dilation) if ctx.needs_input_grad[1] else None
        return of_x, of_g, None, None


def _correlate(x: Tensor, g: Tensor, kernel: int, dilation: int) -> Tensor:
    if dilation == 2:
        x, g = _phases(x), _phases(g)
    if kernel == 3:
        return _correlate_3x3(x, g, 1)
    height, width = g.shape[2:]
    padded = F.pad(x, (2, 2, 2, 2))
    out = x.new_zeros(x.shape[1], 1, 5, 5)
    for i in (0, 2):
        for j in (0, 2):
            shifted = padded[:, :, i : i + height + 2, j : j + width + 2]
            out[:, :, i : i + 3, j : j + 3] = _correlate_3x3(shifted, g, 0)
    return out


def _correlate_3x3(x: Tensor, g: Tensor, padding: int) -> Tensor:
    channels = x.shape[1]
    weight = x.new_empty(channels, 1, 3, 3)
    x, g = (t.contiguous(memory_format=torch.channels_last) for t in (x, g))
    return torch.ops.aten.convolution_backward(
        g, x, weight, None, [1, 1], [padding] * 2, [1, 1], False, [0, 0], channels, [False, True, False]
    )[1]


def _phases(x: Tensor) -> Tensor:
    """Return the four phases as images of their own `(4 N, C, ceil(H / 2), ceil(W / 2))`, zeros at odd borders."""
    count, channels, height, width = x.shape
    x = F.pad(x, (0, width % 2, 0, height % 2)).permute(0, 2, 3, 1)
    x = x.reshape(count, (height + 1) // 2, 2, (width + 1) // 2, 2, channels).permute(2, 4, 0, 1, 3, 5)
    return x.reshape(4 * count, (height + 1) // 2, (width + 1) // 2, channels).permute(0, 3, 1, 2)
