"""Depthwise convolution, the same function as `F.conv2d(groups=C)`, with a backward pass that is fast on the CPU.

PyTorch's backward pass, above all of dilated and 5x5 convolutions, would take most of a supernet's time there. The
backward pass of each of three bilinear maps consists of the others, so that they can be differentiated any number of
times:

    out = convolve(x, w)          d out = g:   d x = transpose(g, w),    d w = correlate(x, g)
    d x = transpose(g, w)         d(d x) = u:  d g = convolve(u, w),     d w = correlate(u, g)
    d w = correlate(x, g)         d(d w) = v:  d x = transpose(g, v),    d g = convolve(x, v)

With a C compiler they are computed by depthwise.c, otherwise by PyTorch, rewritten exactly at stride 1: the input
gradient is a convolution with the flipped kernel; dilation 2 treats the four phases (even and odd rows and columns)
separately, as plain convolutions of four times as many images; a 5x5 weight gradient is four overlapping 3x3 ones.
"""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from hdarts.kernels.bindings import Kernel, WindowSizes, channels_last, load_kernel


class Form(NamedTuple):
    """Kernel size, stride and dilation of a convolution with "same" zero padding."""

    size: int
    stride: int
    dilation: int

    @property
    def padding(self) -> int:
        return self.dilation * (self.size // 2)


def depthwise(x: Tensor, w: Tensor, stride: int = 1, dilation: int = 1) -> Tensor:
    """Return `x` `(N, C, H, W)` convolved with `w` `(C, 1, k, k)`, k = 3 or 5, channel by channel, zero padding."""
    if stride == 2 and dilation == 2:  # only the even pixels are read
        x, stride, dilation = x[:, :, ::2, ::2], 1, 1
    form = Form(w.shape[-1], stride, dilation)
    plain = x.device.type != "cpu" or torch.is_autocast_enabled("cpu") or torch.compiler.is_exporting()
    if plain or (stride == 2 and _kernel(x, form) is None):
        return F.conv2d(x, w, None, stride, form.padding, dilation, len(w))
    return _Convolve.apply(x, w, form)  # type: ignore[return-value]


class _Convolve(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, form: Form) -> Tensor:
        ctx.save_for_backward(x, w)
        ctx.form = form
        return _convolve(x, w, form)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (x, w), (g,), form = ctx.saved_tensors, grads, ctx.form
        of_x = _Transpose.apply(g, w, form, x.shape) if ctx.needs_input_grad[0] else None
        of_w = _Correlate.apply(x, g, form) if ctx.needs_input_grad[1] else None
        return of_x, of_w, None


class _Transpose(torch.autograd.Function):
    """transpose `(g, w)`: the gradient in the input, of the given shape."""

    @staticmethod
    def forward(ctx: Any, g: Tensor, w: Tensor, form: Form, shape: torch.Size) -> Tensor:
        ctx.save_for_backward(g, w)
        ctx.form = form
        return _transpose(g, w, form, shape)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (g, w), (u,), form = ctx.saved_tensors, grads, ctx.form
        of_g = _Convolve.apply(u, w, form) if ctx.needs_input_grad[0] else None
        of_w = _Correlate.apply(u, g, form) if ctx.needs_input_grad[1] else None
        return of_g, of_w, None, None


class _Correlate(torch.autograd.Function):
    """correlate `(x, g)`: the gradient in the weights, the sum over images and pixels of g times the shifted x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, g: Tensor, form: Form) -> Tensor:
        ctx.save_for_backward(x, g)
        ctx.form = form
        return _correlate(x, g, form)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (x, g), (v,), form = ctx.saved_tensors, grads, ctx.form
        of_x = _Transpose.apply(g, v, form, x.shape) if ctx.needs_input_grad[0] else None
        of_g = _Convolve.apply(x, v, form) if ctx.needs_input_grad[1] else None
        return of_x, of_g, None


def _convolve(x: Tensor, w: Tensor, form: Form) -> Tensor:
    if (kernel := _kernel(x, form)) is None:
        return F.conv2d(x, w, None, form.stride, form.padding, form.dilation, w.shape[0])
    sizes = _sizes(x.shape, form)
    out = x.new_empty(len(x), *sizes.size_out(), x.shape[1])
    kernel.call("convolve", sizes, channels_last(x), w.contiguous(), out)
    return out.permute(0, 3, 1, 2)


def _transpose(g: Tensor, w: Tensor, form: Form, shape: torch.Size) -> Tensor:
    if (kernel := _kernel(g, form)) is not None:
        out = g.new_empty(shape[0], shape[2], shape[3], shape[1])
        kernel.call("transpose", _sizes(shape, form), channels_last(g), w.contiguous(), out)
        return out.permute(0, 3, 1, 2)
    return F.conv2d(g, w.flip(2, 3), None, 1, form.padding, form.dilation, w.shape[0])


def _correlate(x: Tensor, g: Tensor, form: Form) -> Tensor:
    w = x.new_empty(x.shape[1], 1, form.size, form.size)
    if (kernel := _kernel(x, form)) is not None:
        kernel.call("correlation", _sizes(x.shape, form), channels_last(x), channels_last(g), w)
        return w
    if form.dilation == 2:
        x, g = _phases(x), _phases(g)
    if form.size == 3:
        return _correlate_3x3(x, g, 1)
    height, width = g.shape[2:]
    padded, out = F.pad(x, (2, 2, 2, 2)), torch.zeros_like(w)
    for i in (0, 2):
        for j in (0, 2):
            shifted = padded[:, :, i : i + height + 2, j : j + width + 2]
            out[:, :, i : i + 3, j : j + 3] = _correlate_3x3(shifted, g, 0)
    return out


def _correlate_3x3(x: Tensor, g: Tensor, padding: int) -> Tensor:
    w = x.new_empty(x.shape[1], 1, 3, 3)
    x, g = (t.contiguous(memory_format=torch.channels_last) for t in (x, g))
    return torch.ops.aten.convolution_backward(
        g, x, w, None, [1, 1], [padding] * 2, [1, 1], False, [0, 0], len(w), [False, True, False]
    )[1]


def _phases(x: Tensor) -> Tensor:
    """Return the four phases as separate images `(4 N, C, ceil(H / 2), ceil(W / 2))`, zeros at odd borders."""
    count, channels, height, width = x.shape
    x = F.pad(x, (0, width % 2, 0, height % 2)).permute(0, 2, 3, 1)
    x = x.reshape(count, (height + 1) // 2, 2, (width + 1) // 2, 2, channels).permute(2, 4, 0, 1, 3, 5)
    return x.reshape(4 * count, (height + 1) // 2, (width + 1) // 2, channels).permute(0, 3, 1, 2)


def _kernel(x: Tensor, form: Form) -> Kernel | None:
    return load_kernel("depthwise", x.shape[1], x) if form.size in (3, 5) else None


def _sizes(x: torch.Size, form: Form) -> WindowSizes:
    images, channels, height, width = x
    return WindowSizes.of(images, height, width, channels, 1, 1, *form)
